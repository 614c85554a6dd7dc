//! Decryption in two steps: first the recipients, then one operation of one private key.

use std::fmt;
use std::io::{Read, Seek, Write};

use zeroize::Zeroizing;

use super::envelope::{Envelope, content_key};
use super::source::MessageSource;
use super::{DecryptError, Message, MessageFile, SmimeError};
use crate::pki::PkiError;
use crate::pki::cms::recipient::RecipientInfo;
use crate::pki::cms::{KeyOperation, KeyResult, Recipient};
use crate::pki::tlv::{Elements, SET, element};

/// A parsed message that has not been decrypted, in an input of any length.
pub struct EncryptedFile<R> {
    file: MessageFile<R>,
    envelope: Envelope,
}

impl<R> fmt::Debug for EncryptedFile<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EncryptedFile({:?})", self.envelope)
    }
}

/// The result of writing a decrypted content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecryptedFile {
    /// The length of the plaintext, in octets.
    pub length: u64,
    /// As [`DecryptedMessage::authenticated`].
    pub authenticated: bool,
}

impl<R: Read + Seek> EncryptedFile<R> {
    /// Parses an EnvelopedData or `AuthEnvelopedData` without using a key. An unsupported cipher is
    /// refused here, before a person types a PIN.
    pub fn parse(mut file: MessageFile<R>) -> Result<Self, SmimeError> {
        let kind = file.about().kind;
        let (source, structure) = file.structure();
        let envelope = Envelope::read(kind, source, structure)?;
        Ok(Self { file, envelope })
    }

    /// As [`MessageFile::about`].
    pub fn about(&self) -> &Message {
        self.file.about()
    }

    /// The recipients, in the message's order.
    pub fn recipients(&self) -> &[Recipient] {
        self.envelope.recipients()
    }

    /// Decrypts the message as the recipient at this index, like [`EncryptedMessage::open`]. The
    /// ciphertext is read twice. Nothing is written before all of it is verified.
    ///
    /// If writing fails, or if the input changes between the passes
    /// ([`SmimeError::ChangedWhileDecrypting`]), the output is incomplete or not the content, and
    /// the caller must discard it.
    pub fn open<E>(
        &mut self,
        recipient: usize,
        operate: impl FnOnce(KeyOperation<'_>) -> Result<KeyResult, E>,
        mut output: impl Write,
    ) -> Result<DecryptedFile, DecryptError<E>> {
        let (source, structure) = self.file.structure();
        let length = self.envelope.open(source, structure, recipient, operate, &mut output)?;
        Ok(DecryptedFile { length, authenticated: self.envelope.is_authenticated() })
    }
}

/// A parsed message in memory that has not been decrypted.
#[derive(Clone)]
pub struct EncryptedMessage {
    envelope: Envelope,
    cms: Vec<u8>,
}

impl fmt::Debug for EncryptedMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EncryptedMessage({:?})", self.envelope)
    }
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
        let (mut source, structure) = MessageSource::in_memory(&message.cms);
        let envelope = Envelope::read(message.kind, &mut source, &structure)?;
        Ok(Self { envelope, cms: message.cms.clone() })
    }

    /// The recipients, in the message's order.
    pub fn recipients(&self) -> &[Recipient] {
        self.envelope.recipients()
    }

    /// Decrypts the message as the recipient at this index. It calls `operate` exactly once, unless
    /// the index does not exist or the recipient's kind is unsupported. Every failure of key,
    /// content key or content is [`SmimeError::Undecryptable`].
    pub fn open<E>(
        &self,
        recipient: usize,
        operate: impl FnOnce(KeyOperation<'_>) -> Result<KeyResult, E>,
    ) -> Result<DecryptedMessage, DecryptError<E>> {
        let (mut source, structure) = MessageSource::in_memory(&self.cms);
        // The plaintext is not longer: a buffer that grows would leave copies in freed memory.
        let capacity = usize::try_from(self.envelope.length()).map_err(|_| SmimeError::Undecryptable)?;
        let mut content = Zeroizing::new(Vec::with_capacity(capacity));
        self.envelope.open(&mut source, &structure, recipient, operate, &mut *content)?;
        Ok(DecryptedMessage { content, authenticated: self.envelope.is_authenticated() })
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
        content_key(info, self.length, operate)
    }
}

#[cfg(test)]
mod tests;
