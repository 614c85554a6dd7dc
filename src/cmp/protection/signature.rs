//! Protection by a signature: the authority's, with its CMP response key; later also users', with their signing keys.

use signature::{SignatureEncoding, Signer};
use spki::DynSignatureAlgorithmIdentifier;

use crate::cmp::{CertificateDer, CmpError, Draft, PkiMessage, ProtectionError};

/// The bytes of a message signed by `signer`, whose certificate goes first into extraCerts, before the draft's others.
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

/// Verifies a signature over the bytes received. `verify` is told the algorithm, the signed bytes and the signature, and
/// says whether the key that is due (the caller knows whose) made it.
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
