//! Refuses a letter or certificates for another person than the keyset's, unless the user permits
//! it.

use crate::letter::Letter;
use crate::pki::Certificate;

use super::super::index::{KeysetKeyIds, KeysetRecord};
use super::super::{FoundKeyset, KeysetError, KeysetHolder};
use super::EnrollOptions;
use super::reply::VerifiedReply;
use super::session::EnrollmentSession;

/// The holder of the keyset to be replaced.
#[derive(Debug)]
pub(super) enum CurrentHolder {
    /// The keyset has no keys, so replacing it takes nothing from anyone.
    NoKeys,
    /// The person whom its certificates name.
    Of(KeysetHolder),
    /// The keyset has keys, but none of their certificates is readable: it may belong to anyone.
    Unknown,
}

impl CurrentHolder {
    fn of_keys(holder: Option<KeysetHolder>) -> Self {
        holder.map_or(Self::Unknown, Self::Of)
    }

    /// According to the data readable without a PIN. Missing certificates count as no keys here,
    /// because anyone may have changed this data: the private index is checked later.
    pub fn of_found(keyset: &FoundKeyset) -> Self {
        keyset.holder().map_or(Self::NoKeys, Self::Of)
    }
}

/// Refuses a letter for another person than the keyset's certificates name, and any letter if these
/// are unreadable. `described` names the keyset in errors.
pub(super) fn check_letter(
    letter: &Letter,
    options: &EnrollOptions,
    current_holder: &CurrentHolder,
    described: &str,
) -> Result<(), KeysetError> {
    let addressee = KeysetHolder::of_letter(letter);
    let why = match current_holder {
        _ if options.replace_person => return Ok(()),
        CurrentHolder::NoKeys => return Ok(()),
        CurrentHolder::Of(holder) if holder.is_same_person(&addressee) => return Ok(()),
        CurrentHolder::Of(holder) => format!("it belongs to {holder}, and the letter is for {addressee}"),
        CurrentHolder::Unknown => "none of its certificates can be read, so its holder is unknown".to_owned(),
    };
    Err(KeysetError::Refused(format!(
        "cannot re-enroll the keyset {described}: {why}; choose another name, `--keyset NAME --new-token`, or add \
         `--replace-person` to give the keyset to {addressee}"
    )))
}

/// Determines the holder on the unlocked token, from the certificates that the private index names.
pub(super) fn current_holder_on_token(
    session: &EnrollmentSession,
    record: &KeysetRecord,
) -> Result<CurrentHolder, KeysetError> {
    let Some(KeysetKeyIds { signing, encryption, .. }) = &record.keys else { return Ok(CurrentHolder::NoKeys) };
    let stored = session.token().certificates()?;
    let ids = [signing].into_iter().chain(encryption.first()).map(super::super::index::Hex::key_id);
    let mut certificates = ids.filter_map(|id| {
        let stored = stored.iter().find(|stored| stored.id == id)?;
        Certificate::from_der(&stored.der).ok()
    });
    Ok(CurrentHolder::of_keys(certificates.next().map(|certificate| KeysetHolder::of_certificate(&certificate))))
}

/// Compares the certified person with the letter's and with the keyset's. The letter's text may
/// have been modified in transit; the certificates are what others will see. The error completes
/// "the reply was refused".
pub(super) fn check_reply(
    reply: &VerifiedReply,
    letter: &Letter,
    options: &EnrollOptions,
    current_holder: &CurrentHolder,
) -> Result<(), String> {
    if options.replace_person {
        return Ok(());
    }
    let holder = match current_holder {
        CurrentHolder::NoKeys => None,
        CurrentHolder::Of(holder) => Some(holder),
        CurrentHolder::Unknown => {
            return Err("none of the keyset's certificates can be read, so its holder is unknown; \
                        add `--replace-person` if this is intended"
                .to_owned());
        }
    };
    let addressee = KeysetHolder::of_letter(letter);
    // Certificates of older encryption keys may carry a previous address.
    let new = reply.encryption.iter().filter(|delivered| delivered.answers.is_some());
    for certificate in new.map(|delivered| &delivered.certificate).chain([&reply.signing]) {
        let certified = KeysetHolder::of_certificate(certificate);
        if !certified.is_same_person(&addressee) {
            return Err(format!("it certifies {certified}, and the letter is for {addressee}"));
        }
        if let Some(holder) = holder.filter(|holder| !holder.is_same_person(&certified)) {
            return Err(format!(
                "it certifies {certified}, and the keyset belongs to {holder}; add `--replace-person` if intended"
            ));
        }
    }
    Ok(())
}
