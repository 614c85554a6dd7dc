//! Signing content for other people.

use jiff::Timestamp;
use signature::Signer;
use spki::{DynSignatureAlgorithmIdentifier, SignatureBitStringEncoding};

use super::SmimeError;
use crate::pki::Certificate;
use crate::pki::cms::{ContentToSign, PreparedSignature, SigningCertificate};
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
    if signing.content_type.is_reserved() {
        return Err(SmimeError::ReservedContentType(signing.content_type.to_string()));
    }
    let certificate = SigningCertificate::new(signing.certificate, signing.chain)?;
    let mut to_sign = data_to_sign(content, &certificate, signing.placement, signing.signing_time);
    to_sign.content_type = signing.content_type.clone();
    Ok(crate::pki::cms::sign(&to_sign, signer)?)
}

/// The same for data and a signature that is made elsewhere: what is to be signed, and then the message.
pub fn prepare<'a>(
    content: &'a [u8],
    signer: &'a SigningCertificate,
    placement: Placement,
    signing_time: Timestamp,
) -> Result<PreparedSignature<'a>, SmimeError> {
    Ok(PreparedSignature::new(data_to_sign(content, signer, placement, signing_time))?)
}

fn data_to_sign<'a>(
    content: &'a [u8],
    signer: &'a SigningCertificate,
    placement: Placement,
    signing_time: Timestamp,
) -> ContentToSign<'a> {
    let detached = placement == Placement::Detached;
    ContentToSign { content_type: ContentType::DATA, content, detached, signer, signing_time, capabilities: true }
}
