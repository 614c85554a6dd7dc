//! From a chosen token to a log-in: everything that can be refused without a PIN, then the PIN, then its one try; and
//! from there to the index that is believed.

use crate::token::{
    KeysetName, Pin, PinState, SecurityLevel, StoredCertificate, Token, TokenError, TokenInfo, TokenKey, Unlock,
};

use super::index::{self, Hex, PrivateIndex, PublicIndex};
use super::kept::MyTurn;
use super::{FoundKeyset, KeysetError, NoPin, Notice, Person, PinRequest, Tokens};

/// A log-in for an act that asks for the PIN at every level: one try, and none unless the PIN was typed for this.
pub(super) fn unlock(
    tokens: &Tokens,
    keyset: &FoundKeyset,
    operation: &'static str,
    person: &mut dyn Person,
) -> Result<Unlock, KeysetError> {
    person.concerns(keyset);
    let token = tokens.open(&keyset.token)?;
    while_tries_allow(person, |person| {
        let turn = tokens.turn(&token);
        let pin = ask(&turn, operation, person)?;
        turn.unlock(pin).map_err(|error| error.of_act(operation).into())
    })
}

/// Asks once more after a wrong PIN, where the person wants to be asked: each PIN that is typed is one try, with all that
/// is refused and warned of before any. Whoever then gives none is told of the wrong one.
fn while_tries_allow(
    person: &mut dyn Person,
    mut attempt: impl FnMut(&mut dyn Person) -> Result<Unlock, KeysetError>,
) -> Result<Unlock, KeysetError> {
    let is_wrong = |error: &KeysetError| matches!(error, KeysetError::Token(TokenError::PinIncorrect { .. }));
    let mut result = attempt(person);
    loop {
        match &result {
            Err(wrong) if is_wrong(wrong) && person.is_asked_again() => {}
            _ => return result,
        }
        match attempt(person) {
            Err(KeysetError::NoPin { .. }) => return result,
            next => result = next,
        }
    }
}

/// A log-in for one use of a keyset's keys, by its level. Where log-ins are kept: at Low the one that stands, at Medium
/// the same after a confirmation, and if none stands the PIN, which is then the confirmation of this use too. At High,
/// and everywhere else, the PIN for this one use.
pub(super) fn unlock_for_use(
    tokens: &Tokens,
    keyset: &FoundKeyset,
    operation: &'static str,
    person: &mut dyn Person,
) -> Result<Unlock, KeysetError> {
    if !tokens.keeps_log_ins() || keyset.level == SecurityLevel::High {
        return unlock(tokens, keyset, operation, person);
    }
    person.concerns(keyset);
    let token = tokens.open(&keyset.token)?;
    if keyset.level == SecurityLevel::Low
        && let Some(unlock) = token.under_standing_log_in()
    {
        return Ok(unlock);
    }
    // Confirmations wait for their turn too: one question at a time, in the order in which they came.
    let turn = tokens.turn(&token);
    if token.stands() {
        let no_yes = |reason| KeysetError::NoPin { operation, token: Some(keyset.token.name()), reason };
        if keyset.level == SecurityLevel::Medium {
            person.confirm(operation, keyset).map_err(no_yes)?;
        }
        if let Some(unlock) = token.under_standing_log_in() {
            return Ok(unlock);
        }
    }
    stand(tokens, turn, operation, person)
}

/// A log-in that stands, by a PIN that is asked for now. Those who have waited behind somebody who gave a wrong one, or
/// none, share that end: one prompt, one try.
pub(super) fn stand(
    tokens: &Tokens,
    turn: MyTurn,
    operation: &'static str,
    person: &mut dyn Person,
) -> Result<Unlock, KeysetError> {
    let token = turn.token().clone();
    let mut first = Some(turn);
    while_tries_allow(person, |person| {
        let turn = first.take().unwrap_or_else(|| tokens.turn(&token));
        stand_by_one_pin(turn, operation, person)
    })
}

fn stand_by_one_pin(turn: MyTurn, operation: &'static str, person: &mut dyn Person) -> Result<Unlock, KeysetError> {
    if let Some(error) = turn.failed_meanwhile() {
        return Err(error.of_act(operation).into());
    }
    if turn.declined_meanwhile() {
        let token = Some(turn.token().info().name());
        return Err(KeysetError::NoPin { operation, token, reason: NoPin::Cancelled });
    }
    match ask(&turn, operation, person) {
        Ok(pin) => turn.log_in_standing(pin).map_err(|error| error.of_act(operation).into()),
        Err(error) => {
            if matches!(&error, KeysetError::NoPin { reason, .. } if reason.is_a_no()) {
                turn.decline();
            }
            Err(error)
        }
    }
}

/// Asks for the PIN that the token has, after everything that can be refused without it.
fn ask(turn: &MyTurn, operation: &'static str, person: &mut dyn Person) -> Result<Pin, KeysetError> {
    let pin_state = refuse_without_try(turn, operation, person)?;
    let info = TokenInfo { pin_state, ..turn.token().info().clone() };
    person.pin(PinRequest::Existing { operation, token: &info }).map_err(|reason| KeysetError::NoPin {
        operation,
        token: Some(info.name()),
        reason,
    })
}

/// What needs no PIN to be known: that none is set, that it is locked, that too many wrong ones came, and that the next
/// wrong one locks it. Gives what the token says about its PIN.
pub(super) fn refuse_without_try(
    turn: &MyTurn,
    operation: &'static str,
    person: &mut dyn Person,
) -> Result<PinState, KeysetError> {
    let token = turn.token();
    let name = token.info().name();
    turn.bound_guesses(operation)?;
    match token.refresh_pin_state()? {
        state @ (PinState::Ok | PinState::CountLow) => Ok(state),
        state @ PinState::FinalTry => {
            let info = TokenInfo { pin_state: state, ..token.info().clone() };
            let no_pin = |reason: NoPin| KeysetError::NoPin { operation, token: Some(name), reason };
            person.risks_last_try(&info).map_err(no_pin)?;
            turn.take_the_last_try();
            Ok(state)
        }
        PinState::Locked => Err(TokenError::PinLocked { operation, token: name }.into()),
        PinState::NotSet => Err(TokenError::PinNotSet { operation, token: name }.into()),
    }
}

/// The private index of a keyset that is used under `unlock`, when the level at which it was unlocked is not too low for
/// it: whoever changed the public index must not get the uses of a key at level High for one PIN.
pub(super) fn believed_for_use(
    tokens: &Tokens,
    unlock: &Unlock,
    keyset: &FoundKeyset,
    person: &mut dyn Person,
) -> Result<PrivateIndex, KeysetError> {
    let index = believed(unlock.token(), &keyset.name, person);
    let misled = index.as_ref().map_or(true, |index| index.keyset.level > keyset.level);
    if misled && tokens.keeps_log_ins() {
        // No log-in stands that a public index brought about which does not hold.
        tokens.forget_keysets(&keyset.token);
        unlock.token().log_out()?;
    }
    let index = index?;
    if !says_the_same(&index, keyset) {
        tokens.forget_keysets(&keyset.token);
    }
    if misled && tokens.keeps_log_ins() {
        return Err(KeysetError::Refused(format!(
            "cannot use the keyset {}: its public index gave the level {}, and it is at {}; the public one was written \
             anew, nothing was done, and the log-in is over; do it again",
            keyset.described(),
            keyset.level,
            index.keyset.level
        )));
    }
    Ok(index)
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

fn says_the_same(index: &PrivateIndex, keyset: &FoundKeyset) -> bool {
    let keys = index.keyset.keys.as_ref();
    let encryption = keys.map(|keys| keys.encryption.iter().map(Hex::key_id).collect::<Vec<_>>());
    index.keyset.level == keyset.level
        && keys.map(|keys| keys.signing.key_id()) == keyset.signing
        && encryption.unwrap_or_default() == keyset.encryption
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
