//! Encryption to other people's certificates: EnvelopedData (RFC 5652 §6) and `AuthEnvelopedData`
//! (RFC 5083).

use const_oid::db::rfc5911;
use zeroize::Zeroizing;

use super::SmimeError;
use super::content_cipher::{Cipher, ContentCipher};
use crate::pki::cms::content_info;
use crate::pki::cms::recipient::encrypt_to;
use crate::pki::oid::ContentType;
use crate::pki::tlv::{INTEGER, OBJECT_IDENTIFIER, OCTET_STRING, SEQUENCE, context, element};
use crate::pki::{Certificate, PkiError};
use crate::token::KeyTransport;

/// The maximum number of recipients of a message.
const MAX_RECIPIENTS: usize = 1000;

/// Encrypts `content` to 1 to 1000 recipients with their encryption certificates, and returns a DER
/// `ContentInfo` for [`super::Message::write`]. RSA keys use RSAES-PKCS1-v1_5; elliptic-curve keys
/// use ECDH with AES-256 key wrap.
///
/// The caller must check in advance whether the certificates are trusted
/// ([`crate::pki::path::verify`] with [`crate::pki::CertificatePurpose::Encryption`]). This
/// function refuses certificates whose key or key usage does not allow encryption.
pub fn encrypt(content: &[u8], recipients: &[Certificate], cipher: Cipher) -> Result<Vec<u8>, SmimeError> {
    if recipients.is_empty() {
        return Err(SmimeError::NoRecipient);
    }
    if recipients.len() > MAX_RECIPIENTS {
        return Err(SmimeError::TooManyRecipients { most: MAX_RECIPIENTS });
    }
    for certificate in recipients {
        check_recipient(certificate)?;
    }
    encrypt_with(content, recipients, &ContentCipher::new(cipher)?, &KeyTransport::Pkcs1v15)
}

/// Encrypts with any scheme for the RSA keys among the recipients, which tests of decryption need.
pub(super) fn encrypt_with(
    content: &[u8],
    recipients: &[Certificate],
    cipher: &ContentCipher,
    transport: &KeyTransport,
) -> Result<Vec<u8>, SmimeError> {
    let mut content_key = Zeroizing::new([0; 32]);
    getrandom::fill(content_key.as_mut()).map_err(PkiError::Random)?;
    let (recipient_infos, all_oldest) = encrypt_to(recipients, transport, content_key.as_ref())?;
    let sealed = cipher.encrypt(content_key.as_ref(), content);
    let (ciphertext, tag) = sealed.ok_or_else(|| PkiError::unsupported("AES", "the content is too long"))?;

    let encrypted_content_info = element(
        SEQUENCE,
        &[
            &element(OBJECT_IDENTIFIER, &[ContentType::DATA.as_contents()]),
            &cipher.algorithm()?,
            &element(context(0), &[&ciphertext]),
        ],
    );
    if cipher.is_authenticated() {
        let parts = [
            &element(INTEGER, &[&[0]])[..],
            &recipient_infos,
            &encrypted_content_info,
            &element(OCTET_STRING, &[&tag]),
        ];
        Ok(content_info(rfc5911::ID_CT_AUTH_ENVELOPED_DATA, &element(SEQUENCE, &parts)))
    } else {
        let version = if all_oldest { 0 } else { 2 };
        let parts = [&element(INTEGER, &[&[version]])[..], &recipient_infos, &encrypted_content_info];
        Ok(content_info(rfc5911::ID_ENVELOPED_DATA, &element(SEQUENCE, &parts)))
    }
}

fn check_recipient(certificate: &Certificate) -> Result<(), SmimeError> {
    let refuse = |reason: String| SmimeError::Recipient { name: certificate.display_name(), reason };
    certificate.public_key().map_err(|error| refuse(error.to_string()))?;
    if certificate.can_encrypt() { Ok(()) } else { Err(refuse("the certificate is not for encryption".into())) }
}
