//! `PKIProtection` (RFC 9810 §5.1.3): authenticates the sender over the message's bytes as
//! received.

mod hmac;
mod mac;
mod pbm;
mod pbmac1;
#[cfg(test)]
mod tests;

#[cfg(test)]
pub(crate) use mac::ROUNDS;
pub use mac::{MacProtection, cost_of_verifying, protect_with_mac, verify_mac, verify_mac_by_any};

use signature::{SignatureEncoding, Signer};
use spki::DynSignatureAlgorithmIdentifier;

use super::{CertificateDer, CmpError, Draft, PkiMessage, ProtectionError};

impl Draft {
    /// Encodes the message, protected by a MAC under `secret` with a fresh salt. See
    /// [`protect_with_mac`].
    pub fn protect_with_mac(self, secret: &[u8], how: &MacProtection) -> Result<Vec<u8>, CmpError> {
        protect_with_mac(self, secret, how)
    }
}

/// Encodes a message signed by `signer`. Its certificate becomes the first of extraCerts, before
/// those of the draft.
pub fn protect_with_signature<K, S>(draft: Draft, signer: &K, certificate: CertificateDer) -> Result<Vec<u8>, CmpError>
where
    K: Signer<S> + DynSignatureAlgorithmIdentifier,
    S: SignatureEncoding,
{
    let algorithm = signer.signature_algorithm_identifier().map_err(|error| CmpError::Signing(error.to_string()))?;
    let mut draft = draft;
    draft.header.protection_alg = Some(algorithm);
    draft.extra_certs.insert(0, certificate);
    draft.seal(|part| {
        let signature = signer.try_sign(part).map_err(|error| CmpError::Signing(error.to_string()))?;
        Ok(Some(signature.to_vec()))
    })
}

/// Verifies a signature over the received bytes. `verify` gets the algorithm, the signed bytes and
/// the signature, and returns whether the expected key made it. The caller knows whose key that is.
pub fn verify_signature(
    message: &PkiMessage,
    verify: impl FnOnce(&spki::AlgorithmIdentifierOwned, &[u8], &[u8]) -> bool,
) -> Result<(), ProtectionError> {
    let (Some(algorithm), Some(received)) = (&message.header().protection_alg, message.protection()) else {
        return Err(ProtectionError::Missing);
    };
    let part = message.protected_part().map_err(|_| ProtectionError::Malformed)?;
    if verify(algorithm, &part, received) { Ok(()) } else { Err(ProtectionError::Mismatch) }
}
