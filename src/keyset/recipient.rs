//! Matches a message's recipients with the keys of the keysets that are present, the whole history.

use zeroize::Zeroizing;

use crate::pki::{Certificate, PkiError};
use crate::smime::{
    DecryptError, DecryptedMessage, EncryptedMessage, KeyOperation, KeyResult, Recipient, RecipientKind, SmimeError,
};
use crate::token::{KeyId, Token, TokenError, TokenKey};

use super::choose::{describe_found, in_use, list_or};
use super::holder::newest_of_one_person;
use super::index::{Hex, PrivateIndex};
use super::unlock::{damaged, key_and_certificate};
use super::{FoundKeyset, KeysetChoice, KeysetError, Tokens};

/// Returns the selected key on the unlocked token, if the private index names it.
pub(super) fn key_of(
    token: &Token,
    index: &PrivateIndex,
    recipient_match: &RecipientMatch,
) -> Result<TokenKey, KeysetError> {
    let id = Hex::from(&recipient_match.key);
    if !index.keyset.keys.as_ref().is_some_and(|keys| keys.encryption.contains(&id)) {
        return Err(damaged(
            token,
            &recipient_match.keyset.name,
            "its private index does not contain the key that the public index names",
        ));
    }
    key_and_certificate(token, &recipient_match.keyset.name, &id).map(|(key, _)| key)
}

/// Decrypts the message; `key` performs the private-key operation.
pub(super) fn open_with(
    recipient_match: &RecipientMatch,
    message: &EncryptedMessage,
    key: impl FnOnce(KeyOperation<'_>) -> Result<Zeroizing<Vec<u8>>, TokenError>,
) -> Result<DecryptedMessage, KeysetError> {
    message.open(recipient_match.recipient, |operation| key_result(key(operation))).map_err(not_opened)
}

/// Hides the token's verdict on the ciphertext (see [`super::decryption`]).
pub(super) fn key_result(secret: Result<Zeroizing<Vec<u8>>, TokenError>) -> Result<KeyResult, TokenError> {
    match secret {
        Ok(secret) => Ok(KeyResult::Secret(secret)),
        Err(TokenError::BadData { .. }) => Ok(KeyResult::Failed),
        Err(error) => Err(error),
    }
}

pub(super) fn not_opened(error: DecryptError<TokenError>) -> KeysetError {
    match error {
        DecryptError::Key(error) => KeysetError::Token(error),
        DecryptError::Message(error) => unreadable(&error),
    }
}

/// A keyset, one of its keys, and the position of the message recipient that the key matches.
pub(super) struct RecipientMatch {
    pub(super) keyset: FoundKeyset,
    key: KeyId,
    pub(super) recipient: usize,
}

pub(super) fn find_recipient(
    tokens: &Tokens,
    choice: &KeysetChoice,
    recipients: &[Recipient],
) -> Result<RecipientMatch, KeysetError> {
    let (keysets, unreadable_tokens) = tokens.look(choice)?;
    let found = describe_found(&keysets, &unreadable_tokens);
    let named = |keyset: &FoundKeyset| choice.name.as_ref().is_none_or(|name| keyset.name == *name);
    let keysets: Vec<FoundKeyset> = keysets.into_iter().filter(named).collect();
    let described = list_or(&keysets, FoundKeyset::described, "");
    if let (Some(name), true) = (&choice.name, keysets.is_empty()) {
        let absent = || KeysetError::NoSuchKeyset { name: name.to_string(), found: found.clone() };
        return Err(in_use(name, &unreadable_tokens).unwrap_or_else(absent));
    }
    let unsupported: Vec<(FoundKeyset, String)> = keysets
        .iter()
        .filter_map(|keyset| Some((keyset.clone(), unsupported_recipient(keyset, recipients)?)))
        .collect();
    let mut recipient_matches: Vec<RecipientMatch> =
        keysets.into_iter().filter_map(|keyset| match_recipient(keyset, recipients)).collect();
    let (hidden, shown): (Vec<RecipientMatch>, Vec<RecipientMatch>) =
        recipient_matches.into_iter().partition(|recipient_match| choice.hides(&recipient_match.keyset));
    if let (true, Some(recipient_match)) = (shown.is_empty(), hidden.first()) {
        return Err(KeysetError::NotARecipient(format!(
            "only {}, which is hidden here, has a key among the message's recipients; add `--keyset {}`",
            recipient_match.keyset.described(),
            recipient_match.keyset.name
        )));
    }
    recipient_matches = shown;
    if recipient_matches.len() > 1
        && recipient_matches.iter().any(|recipient_match| Some(&recipient_match.keyset.name) == choice.default.as_ref())
    {
        recipient_matches.retain(|recipient_match| Some(&recipient_match.keyset.name) == choice.default.as_ref());
    } else if let Some(newest) =
        newest_of_one_person(recipient_matches.iter().map(|recipient_match| &recipient_match.keyset))
    {
        recipient_matches = recipient_matches.into_iter().skip(newest).take(1).collect();
    }
    match <[RecipientMatch; 1]>::try_from(recipient_matches) {
        Ok([recipient_match]) => Ok(recipient_match),
        Err(several) if !several.is_empty() => Err(KeysetError::Ambiguous {
            what: "keyset",
            candidates: list_or(&several, |recipient_match| recipient_match.keyset.described(), ""),
            remedy: "each of them can read this message; add `--keyset NAME`, or `--token SERIAL`".to_owned(),
        }),
        Err(_) if !unsupported.is_empty() => Err(KeysetError::NotARecipient(format!(
            "you are a recipient, with a key of {}, but by {}, which is not supported; ask the sender to use another \
             method",
            list_or(&unsupported, |(keyset, _)| keyset.described(), ""),
            list_or(&unsupported, |(_, reason)| reason.clone(), ""),
        ))),
        Err(_) => {
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
pub(super) fn match_recipient(keyset: FoundKeyset, recipients: &[Recipient]) -> Option<RecipientMatch> {
    let (key, recipient) = keyset.encryption.iter().find_map(|id| {
        let certificate = Certificate::from_der(&keyset.certificate_of(id)?.der).ok()?;
        let recipient = recipients.iter().position(|recipient| {
            !matches!(recipient.kind, RecipientKind::Unsupported(_)) && recipient.is(&certificate)
        })?;
        Some((id.clone(), recipient))
    })?;
    Some(RecipientMatch { keyset, key, recipient })
}

/// The unsupported recipient type of the message that names this keyset, if there is one.
fn unsupported_recipient(keyset: &FoundKeyset, recipients: &[Recipient]) -> Option<String> {
    keyset.encryption.iter().find_map(|id| {
        let certificate = Certificate::from_der(&keyset.certificate_of(id)?.der).ok()?;
        recipients.iter().find_map(|recipient| match &recipient.kind {
            RecipientKind::Unsupported(reason) if recipient.is(&certificate) => Some(reason.clone()),
            _ => None,
        })
    })
}

pub(super) fn unreadable(error: &SmimeError) -> KeysetError {
    // A file that cannot be read or written says nothing about the message.
    if matches!(
        error,
        SmimeError::Pki(PkiError::Input { .. } | PkiError::Output { .. } | PkiError::ContentChanged)
            | SmimeError::ChangedWhileDecrypting
    ) {
        return KeysetError::Message { operation: "decrypt", reason: error.to_string() };
    }
    let reason = match error {
        SmimeError::WrongKind { found, .. } => format!("it is {found}"),
        SmimeError::Undecryptable => "it is damaged, or it was not encrypted to this key".to_owned(),
        other => other.to_string(),
    };
    KeysetError::NotVerified { operation: "decrypt the message", reason }
}
