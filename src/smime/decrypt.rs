//! Decryption in two steps: first the recipients, then one operation of one private key.

use std::fmt;
use std::sync::OnceLock;

use der::Decode;
use hkdf::Hkdf;
use sha2::Sha256;
use spki::AlgorithmIdentifierOwned;
use zeroize::Zeroizing;

use super::content_cipher::ContentCipher;
use super::{Message, MessageKind, SmimeError};
use crate::pki::PkiError;
use crate::pki::cms::recipient::RecipientInfo;
use crate::pki::cms::tlv::{
    Element, Elements, INTEGER, OBJECT_IDENTIFIER, OCTET_STRING, SEQUENCE, SET, context, context_constructed, element,
};
use crate::pki::cms::{KeyOperation, KeyResult, Recipient, open_content_info};

const WHAT: &str = "an encrypted message";

/// A parsed message that has not been decrypted.
#[derive(Clone)]
pub struct EncryptedMessage {
    recipients: Vec<Recipient>,
    recipient_infos: Vec<RecipientInfo>,
    cipher: ContentCipher,
    ciphertext: Vec<u8>,
    /// For GCM: the tag, and the authenticated attributes in the form that is authenticated (RFC
    /// 5083 §2.2).
    tag: Vec<u8>,
    attributes: Vec<u8>,
}

impl fmt::Debug for EncryptedMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EncryptedMessage({} octets to {:?})", self.ciphertext.len(), self.recipients)
    }
}

/// The reason why a message was not decrypted.
#[derive(Debug, thiserror::Error)]
pub enum DecryptError<E> {
    /// The private key could not be used. The error is the closure's own.
    #[error(transparent)]
    Key(E),
    /// The message is invalid or cannot be decrypted.
    #[error(transparent)]
    Message(#[from] SmimeError),
}

#[derive(Clone, PartialEq, Eq)]
pub struct DecryptedMessage {
    /// The whole plaintext.
    pub content: Zeroizing<Vec<u8>>,
    /// Whether the encryption authenticates the content (AES-GCM). If not, only a signature inside
    /// can, and until it is verified the content is *not integrity-protected* and must be shown as
    /// such.
    pub authenticated: bool,
}

impl fmt::Debug for DecryptedMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DecryptedMessage([redacted])")
    }
}

impl EncryptedMessage {
    /// Parses an EnvelopedData or `AuthEnvelopedData` without using a key. An unsupported cipher is
    /// refused here, before a person types a PIN.
    pub fn parse(message: &Message) -> Result<Self, SmimeError> {
        if message.kind == MessageKind::Signed {
            return Err(SmimeError::WrongKind { operation: "decrypt", found: "signed, not encrypted" });
        }
        let (_, enveloped) = open_content_info(&message.cms, WHAT)?;
        let mut outer = Elements::of(&enveloped, WHAT);
        let mut parts = outer.required(SEQUENCE)?.inside(WHAT);
        outer.end()?;
        parts.required(INTEGER)?;
        parts.optional(context_constructed(0))?; // originatorInfo: unused certificates
        let recipient_infos = RecipientInfo::read_all(parts.required(SET)?)?;
        let (cipher, ciphertext) = encrypted_content(parts.required(SEQUENCE)?)?;
        if cipher.is_authenticated() != (message.kind == MessageKind::AuthEnveloped) {
            return Err(PkiError::malformed(WHAT, "its cipher does not match its kind of message").into());
        }
        let (mut tag, mut attributes) = (Vec::new(), Vec::new());
        if message.kind == MessageKind::AuthEnveloped {
            if let Some(element) = parts.optional(context_constructed(1))? {
                attributes = element.whole.to_vec();
                if let Some(tag) = attributes.first_mut() {
                    *tag = SET;
                }
            }
            tag = parts.required(OCTET_STRING)?.value.to_vec();
            parts.optional(context_constructed(2))?;
        } else {
            parts.optional(context_constructed(1))?;
        }
        parts.end()?;
        let recipients = recipient_infos.iter().map(|info| info.recipient.clone()).collect();
        Ok(Self { recipients, recipient_infos, cipher, ciphertext, tag, attributes })
    }

    /// The recipients, in the message's order.
    pub fn recipients(&self) -> &[Recipient] {
        &self.recipients
    }

    /// Decrypts the message as the recipient at this index. It calls `operate` exactly once, unless
    /// the index does not exist or the recipient's kind is unsupported. Every failure of key,
    /// content key or content is [`SmimeError::Undecryptable`].
    pub fn open<E>(
        &self,
        recipient: usize,
        operate: impl FnOnce(KeyOperation<'_>) -> Result<KeyResult, E>,
    ) -> Result<DecryptedMessage, DecryptError<E>> {
        let info = self.recipient_infos.get(recipient).ok_or(SmimeError::Undecryptable)?;
        // The substitute is made before anything can fail, so that a failure does not take extra
        // time.
        let substitute = substitute(info, self.cipher.key_length())?;
        let key = info.content_key(self.cipher.key_length(), operate).map_err(DecryptError::Key)?;
        let key = key.unwrap_or(substitute);
        let content = self.cipher.decrypt(&key, &self.ciphertext, &self.tag, &self.attributes);
        let content = content.ok_or(SmimeError::Undecryptable)?;
        Ok(DecryptedMessage { content, authenticated: self.cipher.is_authenticated() })
    }
}

/// An encrypted content key without the content, for mail programs that parse messages themselves.
#[derive(Clone)]
pub struct EncryptedContentKey {
    recipients: Vec<Recipient>,
    recipient_infos: Vec<RecipientInfo>,
    length: usize,
}

impl fmt::Debug for EncryptedContentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EncryptedContentKey({} octets to {:?})", self.length, self.recipients)
    }
}

impl EncryptedContentKey {
    /// Parses the DER of one `RecipientInfo`; a key agreement may have several recipients. `length`
    /// is that of the content key in octets: 16, 24 or 32.
    pub fn parse(recipient_info: &[u8], length: usize) -> Result<Self, SmimeError> {
        const WHAT: &str = "a RecipientInfo";
        if ![16, 24, 32].contains(&length) {
            return Err(PkiError::malformed(WHAT, "its content key must have 16, 24 or 32 octets").into());
        }
        let mut elements = Elements::of(recipient_info, WHAT);
        let one = elements.any()?;
        elements.end()?;
        let set = element(SET, &[one.whole]);
        let recipient_infos = RecipientInfo::read_all(Elements::of(&set, WHAT).any()?)?;
        // Among several recipients, an unreadable one is skipped. Here it is the only one.
        if let [only] = recipient_infos.as_slice()
            && let Some(reason) = only.unreadable_reason()
        {
            return Err(PkiError::malformed(WHAT, reason.to_owned()).into());
        }
        let recipients = recipient_infos.iter().map(|info| info.recipient.clone()).collect();
        Ok(Self { recipients, recipient_infos, length })
    }

    pub fn recipients(&self) -> &[Recipient] {
        &self.recipients
    }

    /// Decrypts the content key as the recipient at this index. It calls `operate` exactly once. If
    /// decryption fails or the length differs, the result is a random key, which only the content
    /// can tell from a real one.
    pub fn open<E>(
        &self,
        recipient: usize,
        operate: impl FnOnce(KeyOperation<'_>) -> Result<KeyResult, E>,
    ) -> Result<Zeroizing<Vec<u8>>, DecryptError<E>> {
        let info = self.recipient_infos.get(recipient).ok_or(SmimeError::Undecryptable)?;
        let substitute = substitute(info, self.length)?;
        let key = info.content_key(self.length, operate).map_err(DecryptError::Key)?;
        Ok(key.unwrap_or(substitute))
    }
}

/// The substitute for a content key that cannot be decrypted. No one can predict it. It is the same
/// each time, because two different keys for one message would reveal that neither is real.
fn substitute(info: &RecipientInfo, length: usize) -> Result<Zeroizing<Vec<u8>>, SmimeError> {
    static SECRET: OnceLock<[u8; 32]> = OnceLock::new();
    let mut fresh = [0; 32];
    getrandom::fill(&mut fresh).map_err(PkiError::Random)?;
    let secret = SECRET.get_or_init(|| fresh);
    let mut key = Zeroizing::new(vec![0; length]);
    Hkdf::<Sha256>::new(Some(secret), info.encrypted_key())
        .expand(&length.to_be_bytes(), &mut key)
        .map_err(|_| SmimeError::Undecryptable)?;
    Ok(key)
}

/// Parses `EncryptedContentInfo` (RFC 5652 §6.1). The content may be split into segments. The BER
/// parser does not see them because of the implicit tag, so they are joined here.
fn encrypted_content(element: Element<'_>) -> Result<(ContentCipher, Vec<u8>), SmimeError> {
    let mut parts = element.inside(WHAT);
    parts.required(OBJECT_IDENTIFIER)?;
    let algorithm =
        AlgorithmIdentifierOwned::from_der(parts.required(SEQUENCE)?.whole).map_err(PkiError::decode(WHAT))?;
    let cipher = ContentCipher::from_algorithm(&algorithm)?;
    let ciphertext = if let Some(pieces) = parts.optional(context_constructed(0))? {
        let mut inside = pieces.inside(WHAT);
        let mut together = Vec::with_capacity(pieces.value.len());
        while !inside.is_empty() {
            together.extend_from_slice(inside.required(OCTET_STRING)?.value);
        }
        together
    } else if let Some(whole) = parts.optional(context(0))? {
        whole.value.to_vec()
    } else {
        return Err(PkiError::malformed(WHAT, "its content is missing").into());
    };
    parts.end()?;
    Ok((cipher, ciphertext))
}

#[cfg(test)]
mod tests;
