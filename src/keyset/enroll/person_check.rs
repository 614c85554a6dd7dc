//! Refuses another person's letter, and a reply with another person's certificates, unless that is what is wanted.

use crate::letter::Letter;
use crate::pki::Certificate;

use super::super::index::{Card, Keys};
use super::super::{FoundKeyset, Holder, KeysetError};
use super::EnrollOptions;
use super::desk::Desk;
use super::reply::GoodReply;

/// Whose a keyset is.
#[derive(Debug)]
pub(super) enum Whose {
    /// There are no keys: nobody loses anything.
    Nobodys,
    /// This person's, by its certificates.
    Of(Holder),
    /// There are keys, and none of their certificates can be read: it may be anybody's.
    Unknown,
}

impl Whose {
    fn of_keys(holder: Option<Holder>) -> Self {
        holder.map_or(Self::Unknown, Self::Of)
    }

    /// By what is seen without the PIN. Where that says nothing, somebody may have changed it: the private index decides.
    pub fn of_found(keyset: &FoundKeyset) -> Self {
        keyset.holder().map_or(Self::Nobodys, Self::Of)
    }
}

/// Refuses a letter whose words name another person than the keyset's certificates do, and any letter where those do not
/// say whose the keyset is. `described` names the keyset.
pub(super) fn check_letter(
    letter: &Letter,
    options: &EnrollOptions,
    whose: &Whose,
    described: &str,
) -> Result<(), KeysetError> {
    let meant = Holder::of_letter(letter);
    let why = match whose {
        _ if options.replace_person => return Ok(()),
        Whose::Nobodys => return Ok(()),
        Whose::Of(holder) if holder.is_same_person(&meant) => return Ok(()),
        Whose::Of(holder) => format!("it is {holder}'s, and the letter is for {meant}"),
        Whose::Unknown => "none of its certificates can be read, so nobody can tell whose it is".to_owned(),
    };
    Err(KeysetError::Refused(format!(
        "cannot re-enroll the keyset {described}: {why}; choose another name, `--keyset NAME --new-token`, or say with \
         `--replace-person` that the keyset is to become {meant}'s"
    )))
}

/// Whose the keyset is on the unlocked token, where the private index says which certificates are its own.
pub(super) fn whose_on_token(desk: &Desk, card: &Card) -> Result<Whose, KeysetError> {
    let Some(Keys { signing, encryption, .. }) = &card.keys else { return Ok(Whose::Nobodys) };
    let stored = desk.token().certificates()?;
    let ids = [signing].into_iter().chain(encryption.first()).map(super::super::index::Hex::key_id);
    let mut certificates = ids.filter_map(|id| {
        let stored = stored.iter().find(|stored| stored.id == id)?;
        Certificate::from_der(&stored.der).ok()
    });
    Ok(Whose::of_keys(certificates.next().map(|certificate| Holder::of_certificate(&certificate))))
}

/// Compares the person whom the authority certified with the letter's words and with the keyset's person. The words may
/// have been changed on their way; what is certified is what everybody will see. The error completes "the reply was refused".
pub(super) fn check_reply(
    reply: &GoodReply,
    letter: &Letter,
    options: &EnrollOptions,
    keysets: &Whose,
) -> Result<(), String> {
    if options.replace_person {
        return Ok(());
    }
    let holder = match keysets {
        Whose::Nobodys => None,
        Whose::Of(holder) => Some(holder),
        Whose::Unknown => {
            return Err("none of the keyset's certificates can be read, so nobody can tell whose it is; \
                        `--replace-person` says that this is meant"
                .to_owned());
        }
    };
    let meant = Holder::of_letter(letter);
    // Older encryption keys may be from before an address changed.
    let new = reply.encryption.iter().filter(|delivered| delivered.answers.is_some());
    for certificate in new.map(|delivered| &delivered.certificate).chain([&reply.signing]) {
        let certified = Holder::of_certificate(certificate);
        if !certified.is_same_person(&meant) {
            return Err(format!("it certifies {certified}, and the letter is for {meant}"));
        }
        if let Some(holder) = holder.filter(|holder| !holder.is_same_person(&certified)) {
            return Err(format!(
                "it certifies {certified}, and the keyset is {holder}'s; `--replace-person` says that this is meant"
            ));
        }
    }
    Ok(())
}
