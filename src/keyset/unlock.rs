//! From a chosen token to a log-in: everything that can be refused without a PIN, then the PIN, then its one try; and
//! from there to the index that is believed.

use crate::token::{KeysetName, PinState, StoredCertificate, Token, TokenError, TokenInfo, TokenKey, Unlock};

use super::index::{self, Hex, PrivateIndex, PublicIndex};
use super::{FoundKeyset, KeysetError, NoPin, Notice, Person, PinRequest, Tokens};

/// Opens the token, asks for the PIN it has, and logs in with it: one try, and none unless the PIN was typed for this.
pub(super) fn unlock(
    tokens: &Tokens,
    info: &TokenInfo,
    operation: &'static str,
    request: PinRequest<'_>,
    person: &mut dyn Person,
) -> Result<Unlock, KeysetError> {
    let token = tokens.open(info)?;
    refuse_without_try(&token, operation, person)?;
    let pin =
        person.pin(request).map_err(|reason| KeysetError::NoPin { operation, token: Some(info.name()), reason })?;
    token.unlock(pin).map_err(|error| error.of_act(operation).into())
}

/// What needs no PIN to be known: that none is set, that it is locked, and that the next wrong one locks it.
pub(super) fn refuse_without_try(
    token: &Token,
    operation: &'static str,
    person: &mut dyn Person,
) -> Result<(), KeysetError> {
    let name = token.info().name();
    match token.refresh_pin_state()? {
        PinState::Ok | PinState::CountLow => Ok(()),
        PinState::FinalTry => person.risks_last_try(token.info()).map_err(|reason: NoPin| KeysetError::NoPin {
            operation,
            token: Some(name),
            reason,
        }),
        PinState::Locked => Err(TokenError::PinLocked { operation, token: name }.into()),
        PinState::NotSet => Err(TokenError::PinNotSet { operation, token: name }.into()),
    }
}

/// The private index of a keyset that was chosen by its public one. Says so when the two differ, and writes the public
/// one anew: it is the private one's shadow.
pub(super) fn believed(token: &Token, name: &KeysetName, person: &mut dyn Person) -> Result<PrivateIndex, KeysetError> {
    let Some(private) = index::private_index(token, name)? else {
        return Err(damaged(
            token,
            name,
            "there is a public index and no private one, so it was not made by somebody with the PIN, or its first \
             enrollment was cut off at once; `tokenkeep keyset delete` removes it, `enroll` makes it anew",
        ));
    };
    if tell_mismatch(token, &private, person)?
        // A token that takes nothing more is still good for what it has.
        && let Err(error) = PublicIndex::of(&private).write(token)
    {
        tracing::info!(%error, "could not write the public index anew");
    }
    Ok(private)
}

/// Says so when a keyset's public index is not what its private one says. Was it so?
pub(super) fn tell_mismatch(
    token: &Token,
    private: &PrivateIndex,
    person: &mut dyn Person,
) -> Result<bool, KeysetError> {
    let name = &private.keyset.name;
    let (publics, _) = index::public_indexes(token)?;
    let what = match publics.iter().find(|public| public.keyset.name == *name) {
        Some(public) => public.differs_from(private),
        None => Some("all of it"),
    };
    if let Some(what) = what {
        person.notice(Notice::IndexMismatch {
            keyset: name.clone(),
            token: token.info().name().to_string(),
            what: what.to_owned(),
        });
    }
    Ok(what.is_some())
}

/// The key under this identifier, together with its certificate, which must be for this very key.
pub(super) fn key_and_certificate(
    token: &Token,
    name: &KeysetName,
    id: &Hex,
) -> Result<(TokenKey, StoredCertificate), KeysetError> {
    let id = id.key_id();
    let key = token.find_key(&id)?.ok_or_else(|| damaged(token, name, "one of its keys is gone from the token"))?;
    let certificate = token.certificates()?.into_iter().find(|certificate| {
        certificate.id == id
            && crate::pki::Certificate::from_der(&certificate.der)
                .and_then(|certificate| certificate.public_key_der())
                .is_ok_and(|public_key| public_key == key.public_key_der())
    });
    let certificate = certificate.ok_or_else(|| {
        damaged(token, name, "the certificate of one of its keys is gone from the token, or was exchanged")
    })?;
    Ok((key, certificate))
}

pub(super) fn damaged(token: &Token, name: &KeysetName, reason: &str) -> KeysetError {
    KeysetError::Damaged { keyset: name.to_string(), token: token.info().name().to_string(), reason: reason.to_owned() }
}

/// Only a keyset that stands can sign and decrypt.
pub(super) fn must_be_usable(keyset: &FoundKeyset) -> Result<(), KeysetError> {
    if keyset.is_usable() {
        return Ok(());
    }
    let reference = keyset.pending_reference().unwrap_or_default();
    Err(KeysetError::Refused(format!(
        "cannot use the keyset {}: its enrollment is not finished; type the `enroll` command with the letter {reference} again",
        keyset.described()
    )))
}
