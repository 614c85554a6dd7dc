//! Decrypts a message. The message's recipients select keyset and key, among all keys of the
//! history.

use std::fmt;

use zeroize::Zeroizing;

use crate::pki::Certificate;
use crate::smime::{
    EncryptedKey, EncryptedMessage, KeyOperation, KeyResult, Message, OpenError, Opened, Recipient, RecipientKind,
    SmimeError,
};
use crate::token::{KeyId, KeysetName, Token, TokenError, TokenKey, Unlock};

use super::choose::{in_use, list_or, seen};
use super::holder::newest_of_one_person;
use super::index::{Hex, PrivateIndex};
use super::unlock::{believed_for_use, damaged, key_and_certificate, unlock_for_use};
use super::{FoundKeyset, KeysetChoice, KeysetError, Person, Tokens};

/// A decrypted message. `Debug` omits the content.
pub struct Decrypted {
    /// the plaintext
    pub content: Zeroizing<Vec<u8>>,
    /// the name of the keyset whose key opened it
    pub keyset: String,
    /// Was the content encrypted with integrity protection (AES-GCM)? With AES-CBC, only a
    /// signature inside proves integrity.
    pub integrity_protected: bool,
}

impl fmt::Debug for Decrypted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Decrypted").field("keyset", &self.keyset).finish_non_exhaustive()
    }
}

/// Decrypts a CMS message (DER, PEM or S/MIME) with `EnvelopedData` or `AuthEnvelopedData`, with
/// one PIN. `choice` narrows the keysets; the message's recipients select keyset and key among the
/// rest.
///
/// Token errors are returned unchanged, except those about the ciphertext: the error must not
/// reveal why a message does not decrypt.
pub fn decrypt(
    tokens: &Tokens,
    choice: &KeysetChoice,
    message: &[u8],
    person: &mut dyn Person,
) -> Result<Decrypted, KeysetError> {
    let message = encrypted(message)?;
    let way = find_way(tokens, choice, message.recipients())?;
    let (unlock, key) = unlock_key(tokens, &way, person)?;
    let opened = open_with(&way, &message, |operation| operate(unlock, &key, &operation))?;
    Ok(Decrypted {
        content: opened.content,
        keyset: way.keyset.name.to_string(),
        integrity_protected: opened.authenticated,
    })
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
    person: &mut dyn Person,
) -> Result<(Zeroizing<Vec<u8>>, KeysetName), KeysetError> {
    let encrypted = EncryptedKey::parse(recipient_info, length).map_err(|error| unreadable(&error))?;
    let way = find_way(tokens, choice, encrypted.recipients())?;
    let (unlock, key) = unlock_key(tokens, &way, person)?;
    let opened = encrypted.open(way.recipient, |operation| judged(operate(unlock, &key, &operation)));
    Ok((opened.map_err(not_opened)?, way.keyset.name))
}

/// Finds the keyset that [`decrypt()`] would use for this message.
///
/// # Errors
/// Those of [`decrypt()`] up to the PIN prompt.
pub fn reader_of(tokens: &Tokens, choice: &KeysetChoice, message: &[u8]) -> Result<FoundKeyset, KeysetError> {
    find_way(tokens, choice, encrypted(message)?.recipients()).map(|way| way.keyset)
}

fn encrypted(message: &[u8]) -> Result<EncryptedMessage, KeysetError> {
    let read = Message::read(message).and_then(|message| EncryptedMessage::parse(&message));
    read.map_err(|error| unreadable(&error))
}

/// Finds the keyset that [`open_recipient()`] would use for this content key.
///
/// # Errors
/// Those of [`open_recipient()`] up to the PIN prompt.
pub fn reader_of_recipient(
    tokens: &Tokens,
    choice: &KeysetChoice,
    recipient_info: &[u8],
    length: usize,
) -> Result<FoundKeyset, KeysetError> {
    let encrypted = EncryptedKey::parse(recipient_info, length).map_err(|error| unreadable(&error))?;
    find_way(tokens, choice, encrypted.recipients()).map(|way| way.keyset)
}

/// Logs in with one PIN and returns the selected key.
fn unlock_key(tokens: &Tokens, way: &Way, person: &mut dyn Person) -> Result<(Unlock, TokenKey), KeysetError> {
    let unlock = unlock_for_use(tokens, &way.keyset, "decrypt", person)?;
    let index = believed_for_use(tokens, &unlock, &way.keyset, person)?;
    let key = key_of(unlock.token(), &index, way)?;
    Ok((unlock, key))
}

/// Uses the key once.
fn operate(unlock: Unlock, key: &TokenKey, operation: &KeyOperation<'_>) -> Result<Zeroizing<Vec<u8>>, TokenError> {
    match operation {
        KeyOperation::Decrypt { transport, ciphertext } => unlock.decrypt(key, transport, ciphertext),
        KeyOperation::Agree { peer_public_key } => unlock.agree(key, peer_public_key),
    }
}

/// Returns the selected key on the unlocked token, if the private index names it.
pub(super) fn key_of(token: &Token, index: &PrivateIndex, way: &Way) -> Result<TokenKey, KeysetError> {
    let id = Hex::from(&way.key);
    if !index.keyset.keys.as_ref().is_some_and(|keys| keys.encryption.contains(&id)) {
        return Err(damaged(
            token,
            &way.keyset.name,
            "its private index does not contain the key that the public index names",
        ));
    }
    key_and_certificate(token, &way.keyset.name, &id).map(|(key, _)| key)
}

/// Decrypts the message; `key` performs the private-key operation.
pub(super) fn open_with(
    way: &Way,
    message: &EncryptedMessage,
    key: impl FnOnce(KeyOperation<'_>) -> Result<Zeroizing<Vec<u8>>, TokenError>,
) -> Result<Opened, KeysetError> {
    message.open(way.recipient, |operation| judged(key(operation))).map_err(not_opened)
}

/// Hides the token's verdict on the ciphertext (see [`decrypt()`]).
fn judged(secret: Result<Zeroizing<Vec<u8>>, TokenError>) -> Result<KeyResult, TokenError> {
    match secret {
        Ok(secret) => Ok(KeyResult::Secret(secret)),
        Err(TokenError::BadData { .. }) => Ok(KeyResult::Failed),
        Err(error) => Err(error),
    }
}

fn not_opened(error: OpenError<TokenError>) -> KeysetError {
    match error {
        OpenError::Key(error) => KeysetError::Token(error),
        OpenError::Message(error) => unreadable(&error),
    }
}

/// A keyset, one of its keys, and the position of the message recipient that the key matches.
pub(super) struct Way {
    keyset: FoundKeyset,
    key: KeyId,
    recipient: usize,
}

fn find_way(tokens: &Tokens, choice: &KeysetChoice, recipients: &[Recipient]) -> Result<Way, KeysetError> {
    let (keysets, trouble) = tokens.look(choice)?;
    let found = seen(&keysets, &trouble);
    let named = |keyset: &FoundKeyset| choice.name.as_ref().is_none_or(|name| keyset.name == *name);
    let keysets: Vec<FoundKeyset> = keysets.into_iter().filter(named).collect();
    let described = list_or(&keysets, FoundKeyset::described, "");
    if let (Some(name), true) = (&choice.name, keysets.is_empty()) {
        let absent = || KeysetError::NoSuchKeyset { name: name.to_string(), found: found.clone() };
        return Err(in_use(name, &trouble).unwrap_or_else(absent));
    }
    let unsupported: Vec<(FoundKeyset, String)> =
        keysets.iter().filter_map(|keyset| Some((keyset.clone(), unsupported_way(keyset, recipients)?))).collect();
    let mut ways: Vec<Way> = keysets.into_iter().filter_map(|keyset| way_of(keyset, recipients)).collect();
    let (hidden, shown): (Vec<Way>, Vec<Way>) = ways.into_iter().partition(|way| choice.hides(&way.keyset));
    if let (true, Some(way)) = (shown.is_empty(), hidden.first()) {
        return Err(KeysetError::NotARecipient(format!(
            "only {}, which is hidden here, has a key among the message's recipients; add `--keyset {}`",
            way.keyset.described(),
            way.keyset.name
        )));
    }
    ways = shown;
    if ways.len() > 1 && ways.iter().any(|way| Some(&way.keyset.name) == choice.default.as_ref()) {
        ways.retain(|way| Some(&way.keyset.name) == choice.default.as_ref());
    } else if let Some(newest) = newest_of_one_person(ways.iter().map(|way| &way.keyset)) {
        ways = ways.into_iter().skip(newest).take(1).collect();
    }
    match (ways.pop(), ways.is_empty()) {
        (Some(way), true) => Ok(way),
        (Some(way), false) => {
            ways.push(way);
            Err(KeysetError::Ambiguous {
                what: "keyset",
                candidates: list_or(&ways, |way| way.keyset.described(), ""),
                remedy: "each of them can read this message; add `--keyset NAME`, or `--token SERIAL`".to_owned(),
            })
        }
        (None, _) if !unsupported.is_empty() => Err(KeysetError::NotARecipient(format!(
            "you are a recipient, with a key of {}, but by {}, which is not supported; ask the sender to use another \
             method",
            list_or(&unsupported, |(keyset, _)| keyset.described(), ""),
            list_or(&unsupported, |(_, reason)| reason.clone(), ""),
        ))),
        (None, _) => {
            let (count, narrowed) = (recipients.len(), choice.name.is_some() || choice.token.is_some());
            Err(KeysetError::NotARecipient(if narrowed && !described.is_empty() {
                format!(
                    "no key of {described} matches any of the message's {count} recipients; omit `keyset` and `token` \
                     to search all keysets"
                )
            } else {
                format!("no keyset has a key that matches any of the message's {count} recipients; {found}")
            }))
        }
    }
}

/// Matches the message's recipients with the keyset's keys, newest key first.
pub(super) fn way_of(keyset: FoundKeyset, recipients: &[Recipient]) -> Option<Way> {
    let (key, recipient) = keyset.encryption.iter().find_map(|id| {
        let certificate = Certificate::from_der(&keyset.certificate_of(id)?.der).ok()?;
        let recipient = recipients.iter().position(|recipient| {
            !matches!(recipient.kind, RecipientKind::Unsupported(_)) && recipient.is(&certificate)
        })?;
        Some((id.clone(), recipient))
    })?;
    Some(Way { keyset, key, recipient })
}

/// The unsupported recipient type of the message that names this keyset, if there is one.
fn unsupported_way(keyset: &FoundKeyset, recipients: &[Recipient]) -> Option<String> {
    keyset.encryption.iter().find_map(|id| {
        let certificate = Certificate::from_der(&keyset.certificate_of(id)?.der).ok()?;
        recipients.iter().find_map(|recipient| match &recipient.kind {
            RecipientKind::Unsupported(reason) if recipient.is(&certificate) => Some(reason.clone()),
            _ => None,
        })
    })
}

fn unreadable(error: &SmimeError) -> KeysetError {
    let reason = match error {
        SmimeError::WrongKind { found, .. } => format!("it is {found}"),
        SmimeError::Undecryptable => "it is damaged, or it was not encrypted to this key".to_owned(),
        other => other.to_string(),
    };
    KeysetError::NotVerified { operation: "decrypt the message", reason }
}
