//! Replies: the authority drafts a message that replies to another, and the client checks whether a
//! reply answers the message that was sent.

use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::name::Name;

use super::general::generalized_time;
use super::header::fresh_nonce;
use super::status::PkiStatusInfo;
use super::{CmpError, Draft, ErrorMsgContent, PkiBody, PkiHeader, PkiMessage, ProtectionError, Pvno, verify_mac};

/// A reply that passed [`check_reply`].
#[derive(Clone, Debug)]
pub enum CheckedReply {
    /// The authority's authenticated reply to the request. All of it may be trusted, an `error`
    /// included.
    Authenticated(PkiMessage),
    /// An `error` without protection, which anyone may have sent: it must not cause anything to be
    /// undone or given up permanently. The authority sends one if it cannot verify the secret.
    UnauthenticatedError(ErrorMsgContent),
}

impl CheckedReply {
    /// The message, if it is authenticated and not a refusal; otherwise the status of the refusal.
    pub fn granted(self) -> Result<PkiMessage, PkiStatusInfo> {
        match self {
            Self::UnauthenticatedError(error) => Err(error.status),
            Self::Authenticated(message) => match message.body() {
                PkiBody::Error(error) => Err(error.status.clone()),
                _ => Ok(message),
            },
        }
    }
}

/// The reason why a reply does not answer the request.
#[derive(Debug, thiserror::Error)]
pub enum ReplyRefusal {
    /// The reply is not a CMP message.
    #[error("the reply is unreadable: {0}")]
    Unreadable(#[source] CmpError),
    /// The reply is not authenticated.
    #[error("the reply is not authenticated: {0}")]
    Unauthenticated(ProtectionError),
    /// The reply belongs to another transaction.
    #[error("the reply belongs to another transaction")]
    WrongTransaction,
    /// The reply answers another message of the transaction, or is a replay.
    #[error("the reply does not answer the message that was sent (recipNonce)")]
    WrongMessage,
    /// The reply's version differs from the request's.
    #[error("the reply has pvno {0}, which differs from the request's")]
    WrongVersion(u32),
}

/// Checks a reply to `request`, which is the client's own message, parsed from the bytes that were
/// sent. It verifies the MAC under `secret` over the received bytes, then pvno, transactionID and
/// recipNonce. Only an `error` may come without protection.
pub fn check_reply(request: &PkiMessage, reply: &[u8], secret: &[u8]) -> Result<CheckedReply, ReplyRefusal> {
    let reply = PkiMessage::from_der(reply).map_err(ReplyRefusal::Unreadable)?;
    let proven = match (verify_mac(&reply, secret), reply.body()) {
        (Ok(_), _) => true,
        (Err(ProtectionError::Missing), PkiBody::Error(_)) => false,
        (Err(error), _) => return Err(ReplyRefusal::Unauthenticated(error)),
    };
    let (sent, received) = (request.header(), reply.header());
    if sent.transaction_id != received.transaction_id {
        return Err(ReplyRefusal::WrongTransaction);
    }
    if received.recip_nonce != sent.sender_nonce {
        return Err(ReplyRefusal::WrongMessage);
    }
    match (proven, reply.body()) {
        (false, PkiBody::Error(error)) => Ok(CheckedReply::UnauthenticatedError(error.clone())),
        _ if received.pvno != sent.pvno => Err(ReplyRefusal::WrongVersion(received.pvno.number())),
        _ => Ok(CheckedReply::Authenticated(reply)),
    }
}

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
    let request_header = request.header();
    let header = PkiHeader {
        pvno: if request_header.pvno.is_supported() { request_header.pvno } else { Pvno::CMP2000 },
        sender: GeneralName::DirectoryName(sender.clone()),
        recipient: request_header.sender.clone(),
        message_time: Some(generalized_time(now)?),
        protection_alg: None,
        sender_kid: request_header.sender_kid.clone(),
        recip_kid: None,
        transaction_id: request_header.transaction_id.clone(),
        sender_nonce: Some(fresh_nonce()?),
        recip_nonce: request_header.sender_nonce.clone(),
        free_text: None,
        general_info: None,
    };
    Ok(Draft::new(header, body))
}
