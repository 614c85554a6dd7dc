//! Proof of possession: the requester of a certificate holds the private key (RFC 4211 §4.1).

use spki::AlgorithmIdentifierOwned;

use super::PkiError;

/// Verifies a `POPOSigningKey` signature: over the received DER of the `CertRequest` (or
/// `POPOSigningKeyInput`), with the key in the certificate template's `SubjectPublicKeyInfo` and an
/// algorithm for such a key ([`super::signature::verify`]).
pub fn verify(
    public_key_der: &[u8],
    algorithm: &AlgorithmIdentifierOwned,
    signed_der: &[u8],
    signature: &[u8],
) -> Result<(), PkiError> {
    // Only these kinds of keys get a certificate, although other people's signatures may use more.
    super::public_key::PublicKey::from_spki_der(public_key_der)?;
    super::signature::verify("the proof of possession", public_key_der, algorithm, signed_der, signature)
}
