//! Finishes a successful enrollment: the authority confirms, and obsolete objects are removed.

use std::collections::BTreeSet;

use crate::cmp::{CheckedReply, PkiBody, PkiMessage, check_reply};
use crate::crash_point;
use crate::letter::Letter;
use crate::token::{Pin, TokenError};
use crate::transport::{Transport, TransportError};

use super::super::index::{EnrollmentStage, KeysetKeyIds};
use super::super::{AuthorityAddress, KeysetError, Notice, UserPrompter, removal};
use super::session::EnrollmentSession;
use super::{ExchangeError, NotEnrolledReason, so_pin};

/// Sends the stored confirmation and records that the authority has accepted it.
///
/// From here on, only an authenticated refusal rolls back. If the response is lost or not
/// verifiable, the authority may have confirmed: everything stays, and the next run sends the same
/// bytes.
pub(super) fn confirm(
    session: &mut EnrollmentSession,
    transport: &dyn Transport,
    letter: &Letter,
) -> Result<(), ExchangeError> {
    let EnrollmentStage::Installed { keys, confirmation, .. } = session.pending()?.stage.clone() else { return Ok(()) };
    let unsure = |error: KeysetError| ExchangeError::from(NotEnrolledReason::Interrupted(error));
    let answer = transport.cmp(&confirmation.0).map_err(|error: TransportError| unsure(error.into()))?;
    crash_point::reached("keyset.confirmation_answered");
    let sent = PkiMessage::from_der(&confirmation.0).map_err(|error| message(error.to_string()))?;
    match check_reply(&sent, &answer, letter.temporary_key.cmp_secret()) {
        Ok(CheckedReply::Authenticated(reply)) => match reply.body() {
            PkiBody::PkiConf(_) => {
                session.record_stage(EnrollmentStage::Confirmed { keys })?;
                crash_point::reached("keyset.confirmed");
                Ok(())
            }
            PkiBody::Error(error) => {
                Err(ExchangeError::Rejected(format!("the authority did not confirm: {}", error.status)))
            }
            other => Err(unsure(message(format!("unexpected response: {}", other.name())))),
        },
        Ok(CheckedReply::UnauthenticatedError(error)) => {
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
pub(super) fn finish(
    mut session: EnrollmentSession,
    letter: &Letter,
    pins: Option<NewTokenPins>,
    person: &mut dyn UserPrompter,
) -> Result<(), KeysetError> {
    let pending = session.pending()?.clone();
    let EnrollmentStage::Confirmed { keys } = pending.stage else {
        return Err(message("the enrollment is not confirmed".to_owned()));
    };
    session.token_enrollment.destroy_transport_key(&pending.transport.key_id())?;
    crash_point::reached("keyset.transport_key_destroyed");
    if let Some(old) = session.index.keyset.keys.as_ref().filter(|old| old.signing != keys.signing) {
        removal::remove(&session.token_enrollment, &BTreeSet::from([old.signing.clone()]))?;
        crash_point::reached("keyset.old_signing_key_destroyed");
    }
    if let Some(pins) = pins.filter(|_| pending.new_token) {
        session = randomize_so_pin(session, letter, pins, person)?;
        crash_point::reached("keyset.so_pin_changed");
    }
    session.token_enrollment.finish_provisioning(letter.reference.as_str())?;
    activate(&mut session, letter, keys)
}

fn activate(session: &mut EnrollmentSession, letter: &Letter, keys: KeysetKeyIds) -> Result<(), KeysetError> {
    session.index.keyset.keys = Some(keys);
    session.index.keyset.authority = AuthorityAddress::of(letter);
    session.index.enrolled_with = Some(letter.reference.as_str().to_owned());
    session.end()
}

/// Replaces the SO PIN derived from the letter. A wrong SO PIN means that an earlier, interrupted
/// run has already changed it; so does, as a rule, one that may not be tried any more.
fn randomize_so_pin(
    session: EnrollmentSession,
    letter: &Letter,
    pins: NewTokenPins,
    person: &mut dyn UserPrompter,
) -> Result<EnrollmentSession, KeysetError> {
    let EnrollmentSession { token_enrollment, index } = session;
    let token = token_enrollment.clone();
    drop(token_enrollment);
    let new = match pins.so_pin {
        Some(so_pin) => so_pin,
        None => so_pin::random()?,
    };
    // Other operations may already wait for this token's PIN; they wait until the enrollment has
    // ended.
    let lease = token.acquire_pin_lease();
    match token.set_so_pin(&so_pin::of_letter(letter)?, &new) {
        Ok(()) | Err(TokenError::SoPinIncorrect { .. }) => {}
        Err(
            error
            @ (TokenError::SoPinLocked { .. } | TokenError::LastTry { .. } | TokenError::TooManyUnattended { .. }),
        ) => person.notice(Notice::SoPinKept { token: token.info().name().to_string(), reason: error.to_string() }),
        Err(error) => return Err(error.into()),
    }
    Ok(EnrollmentSession { token_enrollment: lease.unlock(pins.pin)?.begin_enrollment(), index })
}

fn message(reason: String) -> KeysetError {
    KeysetError::Message { operation: "confirm the enrollment", reason }
}
