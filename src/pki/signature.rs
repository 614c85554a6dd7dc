//! Checking signatures, in software, with public keys only.

use spki::AlgorithmIdentifierOwned;

use super::PkiError;

/// Checks a signature over `message` by the key of a DER SubjectPublicKeyInfo.
///
/// Takes RSA PKCS #1 v1.5 and RSASSA-PSS with SHA-256, 384, 512, and ECDSA (DER `Ecdsa-Sig-Value`) with these on P-256
/// and P-384. SHA-1 and MD5 are refused. `what` completes "the signature of …".
pub fn verify(
    what: &'static str,
    public_key_der: &[u8],
    algorithm: &AlgorithmIdentifierOwned,
    message: &[u8],
    signature: &[u8],
) -> Result<(), PkiError> {
    let _ = (what, public_key_der, algorithm, message, signature);
    todo!()
}
