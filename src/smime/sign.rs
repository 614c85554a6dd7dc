//! Signing content for other people.

use jiff::Timestamp;
use signature::Signer;
use spki::{DynSignatureAlgorithmIdentifier, SignatureBitStringEncoding};

use super::SmimeError;
use crate::pki::Certificate;
use crate::pki::cms::{ContentToSign, PreparedSignature};
use crate::pki::oid::ContentType;

/// Where the content goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// Into the signed message.
    Attached,
    /// It stays outside; the message is the signature alone.
    Detached,
}

/// Whose signature, and how.
#[derive(Clone, Debug)]
pub struct Signing<'a> {
    /// The signer's certificate; its key is the signer's.
    pub certificate: &'a Certificate,
    /// Further certificates to send along, the issuer's first.
    pub chain: &'a [Certificate],
    /// Where the content goes.
    pub placement: Placement,
    /// What the signature says about its time; the true present, always.
    pub signing_time: Timestamp,
    /// [`ContentType::DATA`] for all mail; reserved types are refused.
    pub content_type: ContentType,
}

/// Signs `content` byte for byte; answers a DER `ContentInfo` for [`super::Message::write`]. One use of the signer.
pub fn sign<S, G>(content: &[u8], signing: &Signing<'_>, signer: &S) -> Result<Vec<u8>, SmimeError>
where
    S: Signer<G> + DynSignatureAlgorithmIdentifier,
    G: SignatureBitStringEncoding,
{
    Ok(crate::pki::cms::sign(&to_sign(content, signing)?, signer)?)
}

/// The same, for a signature that is made elsewhere: what is to be signed, and then the message.
pub fn prepare<'a>(content: &'a [u8], signing: &Signing<'a>) -> Result<PreparedSignature<'a>, SmimeError> {
    Ok(PreparedSignature::new(to_sign(content, signing)?)?)
}

fn to_sign<'a>(content: &'a [u8], signing: &Signing<'a>) -> Result<ContentToSign<'a>, SmimeError> {
    if signing.content_type.is_reserved() {
        return Err(SmimeError::ReservedContentType(signing.content_type.to_string()));
    }
    Ok(ContentToSign {
        content_type: signing.content_type.clone(),
        content,
        detached: signing.placement == Placement::Detached,
        certificate: signing.certificate,
        chain: signing.chain,
        signing_time: signing.signing_time,
        capabilities: true,
    })
}
