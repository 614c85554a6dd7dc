//! Decryption with a keyset's keys, of a message or of one recipient's content key. The recipients
//! select keyset and key, among all keys of the history.

use std::fmt;
use std::io::{Cursor, Read, Seek, Write};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::smime::{EncryptedContentKey, EncryptedFile, KeyOperation, MessageFile};
use crate::token::{KeysetName, PinSession, TokenError, TokenKey};

use super::recipient::{RecipientMatch, find_recipient, key_of, key_result, not_opened, unreadable};
use super::unlock::{read_private_index_for_use, unlock_for_use};
use super::{KeysetChoice, KeysetError, Purpose, Tokens, UserPrompter};

/// How a message was decrypted.
#[derive(Debug, Serialize, Deserialize)]
pub struct DecryptedBy {
    /// the name of the keyset whose key opened it
    pub keyset: KeysetName,
    /// Was the content encrypted with integrity protection (AES-GCM)? With AES-CBC, only a
    /// signature inside proves integrity.
    pub integrity_protected: bool,
}

/// A decrypted message. `Debug` omits the content.
pub struct Decrypted {
    /// the plaintext
    pub content: Zeroizing<Vec<u8>>,
    pub by: DecryptedBy,
}

impl fmt::Debug for Decrypted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Decrypted").field("by", &self.by).finish_non_exhaustive()
    }
}

/// Decrypts a CMS message of any length (DER, PEM or S/MIME) with `EnvelopedData` or
/// `AuthEnvelopedData`, with one PIN. `choice` narrows the keysets; the message's recipients select
/// keyset and key among the rest. Nothing is written before the whole message is verified; after an
/// error, what was written is not the content.
///
/// Token errors are returned unchanged, except those about the ciphertext: the error must not
/// reveal why a message does not decrypt.
pub fn decrypt(
    tokens: &Tokens,
    choice: &KeysetChoice,
    message: impl Read + Seek,
    output: impl Write,
    person: &mut dyn UserPrompter,
) -> Result<DecryptedBy, KeysetError> {
    let file = MessageFile::open(message).and_then(EncryptedFile::parse);
    let mut file = file.map_err(|error| unreadable(&error))?;
    let recipient_match = find_recipient(tokens, choice, file.recipients())?;
    let purpose = Purpose::Decrypt { recipients: file.recipients().len() };
    let (pin_session, key) = unlock_key(tokens, &recipient_match, &purpose, person)?;
    let operation = |operation: KeyOperation<'_>| key_result(operate(pin_session, &key, &operation));
    let opened = file.open(recipient_match.recipient, operation, output).map_err(not_opened)?;
    Ok(DecryptedBy { keyset: recipient_match.keyset.name, integrity_protected: opened.authenticated })
}

/// Decrypts a message in memory, like [`decrypt()`].
pub fn decrypt_in_memory(
    tokens: &Tokens,
    choice: &KeysetChoice,
    message: &[u8],
    person: &mut dyn UserPrompter,
) -> Result<Decrypted, KeysetError> {
    // A content is no longer than its message: the buffer does not grow, and leaves no copies.
    let mut content = Zeroizing::new(Vec::with_capacity(message.len()));
    let by = decrypt(tokens, choice, Cursor::new(message), &mut *content, person)?;
    Ok(Decrypted { content, by })
}

/// Decrypts the content key of one recipient, `length` bytes long, with one PIN. `recipient_info`
/// is a DER-encoded CMS `RecipientInfo` (RFC 5652 §6.2); `choice` narrows the keysets as in
/// [`decrypt()`]. Also returns the keyset's name.
///
/// If the content key does not decrypt, a random one is returned, so that the caller learns nothing
/// about the failure.
pub fn open_recipient(
    tokens: &Tokens,
    choice: &KeysetChoice,
    recipient_info: &[u8],
    length: usize,
    person: &mut dyn UserPrompter,
) -> Result<(Zeroizing<Vec<u8>>, KeysetName), KeysetError> {
    let encrypted = EncryptedContentKey::parse(recipient_info, length).map_err(|error| unreadable(&error))?;
    let recipient_match = find_recipient(tokens, choice, encrypted.recipients())?;
    let purpose = Purpose::Decrypt { recipients: 1 };
    let (pin_session, key) = unlock_key(tokens, &recipient_match, &purpose, person)?;
    let opened =
        encrypted.open(recipient_match.recipient, |operation| key_result(operate(pin_session, &key, &operation)));
    Ok((opened.map_err(not_opened)?, recipient_match.keyset.name))
}

/// Logs in with one PIN and returns the selected key.
fn unlock_key(
    tokens: &Tokens,
    recipient_match: &RecipientMatch,
    purpose: &Purpose,
    person: &mut dyn UserPrompter,
) -> Result<(PinSession, TokenKey), KeysetError> {
    let pin_session = unlock_for_use(tokens, &recipient_match.keyset, purpose, person)?;
    let index = read_private_index_for_use(tokens, &pin_session, &recipient_match.keyset, person)?;
    let key = key_of(pin_session.token(), &index, recipient_match)?;
    Ok((pin_session, key))
}

/// Uses the key once.
fn operate(
    pin_session: PinSession,
    key: &TokenKey,
    operation: &KeyOperation<'_>,
) -> Result<Zeroizing<Vec<u8>>, TokenError> {
    match operation {
        KeyOperation::Decrypt { transport, ciphertext } => pin_session.decrypt(key, transport, ciphertext),
        KeyOperation::Agree { peer_public_key } => pin_session.agree(key, peer_public_key),
    }
}
