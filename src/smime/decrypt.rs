//! Decrypting in two steps: to whom is it encrypted, and then one operation of one private key.

use std::fmt;

use der::Decode;
use spki::AlgorithmIdentifierOwned;
use zeroize::Zeroizing;

use super::content_cipher::ContentCipher;
use super::{Kind, Message, SmimeError};
use crate::pki::PkiError;
use crate::pki::cms::recipient::RecipientInfo;
use crate::pki::cms::tlv::{
    Element, Elements, INTEGER, OBJECT_IDENTIFIER, OCTET_STRING, SEQUENCE, SET, context, context_constructed,
};
use crate::pki::cms::{KeyOperation, KeyResult, Recipient, open_content_info};

const WHAT: &str = "an encrypted message";

/// An encrypted message, read but not opened.
#[derive(Clone)]
pub struct EncryptedMessage {
    recipients: Vec<Recipient>,
    recipient_infos: Vec<RecipientInfo>,
    cipher: ContentCipher,
    ciphertext: Vec<u8>,
    /// For GCM: its tag, and the authenticated attributes in the form they are authenticated in (RFC 5083 §2.2).
    tag: Vec<u8>,
    attributes: Vec<u8>,
}

impl fmt::Debug for EncryptedMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EncryptedMessage({} octets to {:?})", self.ciphertext.len(), self.recipients)
    }
}

/// Why a message was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError<E> {
    /// The private key could not be used; the closure's own error.
    #[error(transparent)]
    Key(E),
    /// The message.
    #[error(transparent)]
    Message(#[from] SmimeError),
}

/// A decrypted message.
#[derive(Clone, PartialEq, Eq)]
pub struct Opened {
    /// The whole plaintext.
    pub content: Zeroizing<Vec<u8>>,
    /// Whether the encryption itself vouches that nobody changed the content (AES-GCM). If not, only a signature
    /// inside can, and until then the content is *not integrity-protected* and must be shown as such.
    pub authenticated: bool,
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Opened([redacted])")
    }
}

impl EncryptedMessage {
    /// Reads an enveloped or authenticated-enveloped message; asks nothing of any key. A cipher that is not supported
    /// is refused here, before anybody types a PIN.
    pub fn parse(message: &Message) -> Result<Self, SmimeError> {
        if message.kind == Kind::Signed {
            return Err(SmimeError::WrongKind { act: "decrypt", found: "signed, not encrypted" });
        }
        let (_, enveloped) = open_content_info(&message.cms, WHAT)?;
        let mut outer = Elements::of(&enveloped, WHAT);
        let mut parts = outer.required(SEQUENCE)?.inside(WHAT);
        outer.end()?;
        parts.required(INTEGER)?;
        parts.optional(context_constructed(0))?; // originatorInfo: certificates nobody asked for
        let recipient_infos = RecipientInfo::read_all(parts.required(SET)?)?;
        let (cipher, ciphertext) = encrypted_content(parts.required(SEQUENCE)?)?;
        if cipher.is_authenticated() != (message.kind == Kind::AuthEnveloped) {
            return Err(PkiError::malformed(WHAT, "its cipher is not one for its kind of message").into());
        }
        let (mut tag, mut attributes) = (Vec::new(), Vec::new());
        if message.kind == Kind::AuthEnveloped {
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

    /// To whom it is encrypted, in the message's order.
    pub fn recipients(&self) -> &[Recipient] {
        &self.recipients
    }

    /// Opens it as the recipient of that place: `operate` is called exactly once, unless the place does not exist or
    /// its kind is unsupported. Whatever is wrong with key, content key or content gives [`SmimeError::Undecryptable`].
    pub fn open<E>(
        &self,
        recipient: usize,
        operate: impl FnOnce(KeyOperation<'_>) -> Result<KeyResult, E>,
    ) -> Result<Opened, OpenError<E>> {
        // Made before anything can go wrong, so that going wrong costs no time of its own.
        let mut random = Zeroizing::new(vec![0; self.cipher.key_length()]);
        getrandom::fill(&mut random).map_err(|error| SmimeError::from(PkiError::Random(error)))?;
        let info = self.recipient_infos.get(recipient).ok_or(SmimeError::Undecryptable)?;
        let key = info.content_key(self.cipher.key_length(), operate).map_err(OpenError::Key)?;
        let key = key.unwrap_or(random);
        let content = self.cipher.decrypt(&key, &self.ciphertext, &self.tag, &self.attributes);
        let content = content.ok_or(SmimeError::Undecryptable)?;
        Ok(Opened { content, authenticated: self.cipher.is_authenticated() })
    }
}

/// `EncryptedContentInfo` (RFC 5652 §6.1). Its content may come in pieces: an implicit tag hides that from the reading of
/// BER, so it is put together here.
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
        return Err(PkiError::malformed(WHAT, "its content is not in it").into());
    };
    parts.end()?;
    Ok((cipher, ciphertext))
}

#[cfg(test)]
mod tests;
