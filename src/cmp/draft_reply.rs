//! The authority's side: drafts a message that replies to another.

use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::name::Name;

use super::header::{fresh_nonce, generalized_time};
use super::{CmpError, Draft, PkiBody, PkiHeader, PkiMessage, Pvno};

/// Drafts the reply to `request`, with the header that RFC 9810 §5.1.1 requires: the request's pvno
/// (2 if that is not supported), transactionID and senderKID, recipNonce = the request's
/// senderNonce, and a fresh senderNonce. `sender` is the authority's name. The caller adds
/// generalInfo (implicitConfirm, confirmWaitTime) to the draft's header.
pub fn draft_reply(
    request: &PkiMessage,
    sender: &Name,
    body: PkiBody,
    now: jiff::Timestamp,
) -> Result<Draft, CmpError> {
    let asked = request.header();
    let header = PkiHeader {
        pvno: if asked.pvno.is_supported() { asked.pvno } else { Pvno::CMP2000 },
        sender: GeneralName::DirectoryName(sender.clone()),
        recipient: asked.sender.clone(),
        message_time: Some(generalized_time(now)?),
        protection_alg: None,
        sender_kid: asked.sender_kid.clone(),
        recip_kid: None,
        transaction_id: asked.transaction_id.clone(),
        sender_nonce: Some(fresh_nonce()?),
        recip_nonce: asked.sender_nonce.clone(),
        free_text: None,
        general_info: None,
    };
    Ok(Draft::new(header, body))
}
