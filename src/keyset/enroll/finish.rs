//! Finishes a successful enrollment: the authority confirms, and obsolete objects are removed.

use std::collections::BTreeSet;

use crate::carrier::{Carrier, CarrierError};
use crate::cmp::{PkiBody, PkiMessage, Reply, check_reply};
use crate::crash_point;
use crate::letter::Letter;
use crate::token::{Pin, TokenError};

use super::super::index::{Keys, Stage};
use super::super::{AuthorityAddress, KeysetError, delete};
use super::desk::Desk;
use super::{NotEnrolledReason, Trouble, so_pin};

/// Sends the stored confirmation and records that the authority has accepted it.
///
/// From here on, only an authenticated refusal rolls back. If the response is lost or not
/// verifiable, the authority may have confirmed: everything stays, and the next run sends the same
/// bytes.
pub(super) fn confirm(desk: &mut Desk, carrier: &dyn Carrier, letter: &Letter) -> Result<(), Trouble> {
    let Stage::Installed { keys, confirmation, .. } = desk.pending()?.stage.clone() else { return Ok(()) };
    let unsure = |error: KeysetError| Trouble::from(NotEnrolledReason::Interrupted(error));
    let answer = carrier.cmp(&confirmation.0).map_err(|error: CarrierError| unsure(error.into()))?;
    crash_point::reached("keyset.confirmation_answered");
    let sent = PkiMessage::from_der(&confirmation.0).map_err(|error| message(error.to_string()))?;
    match check_reply(&sent, &answer, letter.temporary_key.cmp_secret()) {
        Ok(Reply::Proven(reply)) => match reply.body() {
            PkiBody::PkiConf(_) => {
                desk.reach(Stage::Confirmed { keys })?;
                crash_point::reached("keyset.confirmed");
                Ok(())
            }
            PkiBody::Error(error) => Err(Trouble::Rejected(format!("the authority did not confirm: {}", error.status))),
            other => Err(unsure(message(format!("unexpected response: {}", other.name())))),
        },
        Ok(Reply::UnprovenError(error)) => {
            Err(unsure(message(format!("the response is an unauthenticated error ({})", error.status))))
        }
        Err(refusal) => Err(unsure(message(refusal.to_string()))),
    }
}

/// The PINs for the last steps on a new token: its user PIN, because the SO PIN can be changed only
/// while the user is logged out, and the SO PIN that the owner chose.
pub(super) struct NewTokenPins {
    pub pin: Pin,
    pub so_pin: Option<Pin>,
}

/// Removes the transport key, the old signing key and the provisional SO PIN, and marks the keyset
/// as enrolled. Every step can be repeated.
pub(super) fn finish(mut desk: Desk, letter: &Letter, pins: Option<NewTokenPins>) -> Result<(), KeysetError> {
    let pending = desk.pending()?.clone();
    let Stage::Confirmed { keys } = pending.stage else {
        return Err(message("the enrollment is not confirmed".to_owned()));
    };
    desk.ceremony.destroy_transport_key(&pending.transport.key_id())?;
    crash_point::reached("keyset.transport_key_destroyed");
    if let Some(old) = desk.index.keyset.keys.as_ref().filter(|old| old.signing != keys.signing) {
        delete::remove(&desk.ceremony, &BTreeSet::from([old.signing.clone()]))?;
        crash_point::reached("keyset.old_signing_key_destroyed");
    }
    if let Some(pins) = pins.filter(|_| pending.new_token) {
        desk = randomize_so_pin(desk, letter, pins)?;
        crash_point::reached("keyset.so_pin_changed");
    }
    desk.ceremony.is_made(letter.reference.as_str())?;
    stand(&mut desk, letter, keys)
}

fn stand(desk: &mut Desk, letter: &Letter, keys: Keys) -> Result<(), KeysetError> {
    desk.index.keyset.keys = Some(keys);
    desk.index.keyset.authority = AuthorityAddress::of(letter);
    desk.index.enrolled_with = Some(letter.reference.as_str().to_owned());
    desk.end()
}

/// Replaces the SO PIN derived from the letter. A wrong SO PIN means that an earlier, interrupted
/// run has already changed it.
fn randomize_so_pin(desk: Desk, letter: &Letter, pins: NewTokenPins) -> Result<Desk, KeysetError> {
    let Desk { ceremony, index } = desk;
    let token = ceremony.clone();
    drop(ceremony);
    let new = match pins.so_pin {
        Some(so_pin) => so_pin,
        None => so_pin::random()?,
    };
    // Other operations may already wait for this token's PIN; they wait until the enrollment has
    // ended.
    let turn = token.wait_for_turn();
    match token.set_so_pin(&so_pin::of_letter(letter)?, &new) {
        Ok(()) | Err(TokenError::SoPinIncorrect { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(Desk { ceremony: turn.unlock(pins.pin)?.ceremony(), index })
}

fn message(reason: String) -> KeysetError {
    KeysetError::Message { operation: "confirm the enrollment", reason }
}
