//! Refuses another person's letter, and a reply with another person's certificates, unless that is what is wanted.

use crate::letter::Letter;
use crate::pki::Certificate;

use super::super::index::{Card, Keys};
use super::super::{Holder, KeysetError};
use super::EnrollOptions;
use super::desk::Desk;
use super::reply::GoodReply;

/// Refuses a letter whose words name another person than the keyset's certificates do. `described` names the keyset.
pub(super) fn check_letter(
    letter: &Letter,
    options: &EnrollOptions,
    holder: Option<&Holder>,
    described: &str,
) -> Result<(), KeysetError> {
    let meant = Holder::of_letter(letter);
    match holder.filter(|holder| !holder.is_same_person(&meant)) {
        Some(holder) if !options.replace_person => Err(KeysetError::Refused(format!(
            "cannot re-enroll the keyset {described}: it is {holder}'s, and the letter is for {meant}; choose another name, \
             `--keyset NAME --new-token`, or say with `--replace-person` that the keyset is to become {meant}'s"
        ))),
        _ => Ok(()),
    }
}

/// The person of the keyset as it is on the unlocked token, where the private index says which certificates are its own.
/// `None` when there is no keyset yet.
pub(super) fn holder_on_token(desk: &Desk, card: &Card) -> Result<Option<Holder>, KeysetError> {
    let Some(Keys { signing, encryption, .. }) = &card.keys else { return Ok(None) };
    let stored = desk.token().certificates()?;
    let ids = [signing].into_iter().chain(encryption.first()).map(super::super::index::Hex::key_id);
    let mut certificates = ids.filter_map(|id| {
        let stored = stored.iter().find(|stored| stored.id == id)?;
        Certificate::from_der(&stored.der).ok()
    });
    Ok(certificates.next().map(|certificate| Holder::of_certificate(&certificate)))
}

/// Compares the person whom the authority certified with the letter's words and with the keyset's person. The words may
/// have been changed on their way; what is certified is what everybody will see. The error completes "the reply was refused".
pub(super) fn check_reply(
    reply: &GoodReply,
    letter: &Letter,
    options: &EnrollOptions,
    keysets: Option<&Holder>,
) -> Result<(), String> {
    if options.replace_person {
        return Ok(());
    }
    let meant = Holder::of_letter(letter);
    // Older encryption keys may be from before an address changed.
    let new = reply.encryption.iter().filter(|delivered| delivered.answers.is_some());
    for certificate in new.map(|delivered| &delivered.certificate).chain([&reply.signing]) {
        let certified = Holder::of_certificate(certificate);
        if !certified.is_same_person(&meant) {
            return Err(format!("it certifies {certified}, and the letter is for {meant}"));
        }
        if let Some(holder) = keysets.filter(|holder| !holder.is_same_person(&certified)) {
            return Err(format!(
                "it certifies {certified}, and the keyset is {holder}'s; `--replace-person` says that this is meant"
            ));
        }
    }
    Ok(())
}
