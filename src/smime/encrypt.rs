//! Encrypting content to other people's certificates.

use super::SmimeError;
use crate::pki::Certificate;

/// The content cipher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Cipher {
    /// AES-256-CBC in EnvelopedData: what everyone reads.
    #[default]
    Aes256Cbc,
    /// AES-256-GCM in AuthEnvelopedData: authenticated, but not every program reads it yet.
    Aes256Gcm,
}

/// Encrypts `content` to all recipients (1 to 1000) by their encryption certificates; answers a DER ContentInfo for
/// [`super::Message::write`]. RSA keys by RSAES-PKCS1-v1_5, elliptic curve keys by ECDH with AES-256 key wrap.
///
/// Whether the certificates are to be believed is the caller's to check beforehand ([`crate::pki::path::verify`] with
/// [`crate::pki::Purpose::Encryption`]); what is refused here is a certificate whose key or key usage cannot do it.
pub fn encrypt(content: &[u8], recipients: &[Certificate], cipher: Cipher) -> Result<Vec<u8>, SmimeError> {
    let _ = (content, recipients, cipher);
    todo!()
}
