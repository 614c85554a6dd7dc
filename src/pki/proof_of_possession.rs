//! Proof that whoever asks for a certificate holds the private key (RFC 4211 §4.1).

use spki::AlgorithmIdentifierOwned;

use super::PkiError;

/// Checks a `POPOSigningKey` signature: over the received DER of the `CertRequest` (or `POPOSigningKeyInput`), by the key of
/// the certificate template's `SubjectPublicKeyInfo`, with an algorithm that fits such a key ([`super::signature::verify`]).
pub fn verify(
    public_key_der: &[u8],
    algorithm: &AlgorithmIdentifierOwned,
    signed_der: &[u8],
    signature: &[u8],
) -> Result<(), PkiError> {
    // No other kind of key gets a certificate here, whatever signatures of other people are checked with.
    super::public_key::PublicKey::from_spki_der(public_key_der)?;
    super::signature::verify("the proof of possession", public_key_der, algorithm, signed_der, signature)
}
