//! Signs content for other people.

use jiff::Timestamp;
use signature::Signer;
use spki::{DynSignatureAlgorithmIdentifier, SignatureBitStringEncoding};

use super::SmimeError;
use crate::pki::Certificate;
use crate::pki::cms::{ContentDigest, ContentSignature, DigestToSign, PreparedSignature, SigningCertificate};
use crate::pki::oid::ContentType;

/// The place of the content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// Inside the signed message.
    Attached,
    /// Outside; the message is only the signature.
    Detached,
}

/// The signer and the options of a signature.
#[derive(Clone, Debug)]
pub struct SigningOptions<'a> {
    /// The signer's certificate. It must match the signer's key.
    pub certificate: &'a Certificate,
    /// Further certificates to include, the issuer's first.
    pub chain: &'a [Certificate],
    /// The place of the content.
    pub placement: Placement,
    /// The signing time that the signature states: always the present time.
    pub signing_time: Timestamp,
    /// [`ContentType::DATA`] for all mail. Reserved types are refused.
    pub content_type: ContentType,
}

/// Signs `content` byte for byte, and returns a DER `ContentInfo` for [`super::Message::write`].
/// The signer is used once.
pub fn sign<S, G>(content: &[u8], signing: &SigningOptions<'_>, signer: &S) -> Result<Vec<u8>, SmimeError>
where
    S: Signer<G> + DynSignatureAlgorithmIdentifier,
    G: SignatureBitStringEncoding,
{
    refuse_reserved(&signing.content_type)?;
    let hash = SigningCertificate::new(signing.certificate, &[])?.hash();
    let signature = sign_digest(&ContentDigest::of(content, hash), signing, signer)?;
    match signing.placement {
        Placement::Attached => Ok(signature.attached(content)?),
        Placement::Detached => Ok(signature.detached()),
    }
}

/// Signs a content of any length by its digest, which has the hash of the certificate
/// ([`SigningCertificate::hash`]). The signer is used once. The caller then writes the message with
/// or without the content; `signing.placement` is not used.
pub fn sign_digest<S, G>(
    digest: &ContentDigest,
    signing: &SigningOptions<'_>,
    signer: &S,
) -> Result<ContentSignature, SmimeError>
where
    S: Signer<G> + DynSignatureAlgorithmIdentifier,
    G: SignatureBitStringEncoding,
{
    refuse_reserved(&signing.content_type)?;
    let certificate = SigningCertificate::new(signing.certificate, signing.chain)?;
    let mut to_sign = digest_to_sign(digest, &certificate, signing.signing_time);
    to_sign.content_type = signing.content_type.clone();
    Ok(crate::pki::cms::sign_digest(&to_sign, signer)?)
}

/// Refuses the types that speak for an administrator or an authority, whoever signs.
fn refuse_reserved(content_type: &ContentType) -> Result<(), SmimeError> {
    if content_type.is_reserved() {
        return Err(SmimeError::ReservedContentType(content_type.to_string()));
    }
    Ok(())
}

/// Prepares a signature over data that the caller makes elsewhere: first the bytes to sign, then
/// the message.
pub fn prepare<'a>(
    digest: &'a ContentDigest,
    signer: &'a SigningCertificate,
    signing_time: Timestamp,
) -> Result<PreparedSignature<'a>, SmimeError> {
    Ok(PreparedSignature::new(digest_to_sign(digest, signer, signing_time))?)
}

fn digest_to_sign<'a>(
    digest: &'a ContentDigest,
    signer: &'a SigningCertificate,
    signing_time: Timestamp,
) -> DigestToSign<'a> {
    DigestToSign { content_type: ContentType::DATA, digest, signer, signing_time, capabilities: true }
}
