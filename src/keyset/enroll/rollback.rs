//! Rolls back a failed enrollment: notifies the authority and restores the token's previous state.

use jiff::Timestamp;

use crate::cmp::{MacProtection, PkiFailureInfo, PkiMessage, PkiStatusInfo, reject};
use crate::crash_point;
use crate::letter::Letter;
use crate::token::TokenSource;
use crate::transport::Transport;

use super::super::index::{self, Base64, EnrollmentStage};
use super::super::{KeysetError, Notice, UserPrompter};
use super::session::EnrollmentSession;
use super::so_pin;

/// The receiver of the rejection of a reply, and the reply that it concerns.
pub(super) struct RejectionNotice<'a> {
    pub transport: &'a dyn Transport,
    pub letter: &'a Letter,
    pub reply: Option<&'a PkiMessage>,
    pub now: Timestamp,
}

/// Removes everything that the pending enrollment created. A keyset that was enrolled before
/// remains as it was; otherwise nothing of it remains on the token.
///
/// The authority is notified once the list of objects to remove is stored, on a best-effort basis:
/// if it is unreachable, it releases the letter by itself after its waiting time.
pub(super) fn rollback(
    session: &mut EnrollmentSession,
    rejection: Option<&RejectionNotice<'_>>,
) -> Result<(), KeysetError> {
    let Some(pending) = session.index.pending.clone() else { return Ok(()) };
    let request = match &pending.stage {
        EnrollmentStage::Making | EnrollmentStage::Confirmed { .. } => None,
        EnrollmentStage::Requested { request }
        | EnrollmentStage::Installing { request, .. }
        | EnrollmentStage::Installed { request, .. } => Some(request.clone()),
        EnrollmentStage::Abandoned { request, .. } => request.clone(),
    };
    let made = pending.made();
    session.record_stage(EnrollmentStage::Abandoned { request: request.clone(), made: made.clone() })?;
    crash_point::reached("keyset.abandoned");
    if let (Some(request), Some(rejection)) = (request, rejection) {
        notify_authority(&request, rejection);
        crash_point::reached("keyset.rejection_sent");
    }
    session.destroy(&made)?;
    crash_point::reached("keyset.removed");
    if session.index.keyset.keys.is_some() {
        session.end()
    } else {
        session.index.pending = None;
        index::remove(session.token(), &session.index.keyset.name.clone())
    }
}

/// Sends an `error` in the transaction, upon which the authority releases the letter. Its response
/// changes nothing.
fn notify_authority(request: &Base64, rejection: &RejectionNotice<'_>) {
    let why = PkiStatusInfo::rejection(PkiFailureInfo::INCORRECT_DATA, "the reply is unusable");
    let message = PkiMessage::from_der(&request.0)
        .and_then(|request| reject(&request, rejection.reply, why, rejection.now))
        .and_then(|draft| draft.protect_with_mac(rejection.letter.temporary_key.cmp_secret(), &MacProtection::pbm()?));
    match message {
        Ok(message) => match rejection.transport.cmp(&message) {
            Ok(_) => tracing::debug!("sent the rejection of the reply to the authority"),
            Err(error) => tracing::info!(%error, "cannot send the rejection of the reply to the authority"),
        },
        Err(error) => tracing::warn!(%error, "cannot encode the rejection of the reply"),
    }
}

/// Empties a token that was created for the keyset. The next enrollment uses it first.
pub(super) fn rollback_token(
    session: EnrollmentSession,
    source: &TokenSource,
    letter: &Letter,
    person: &mut dyn UserPrompter,
) -> Result<(), KeysetError> {
    let info = session.token().info().clone();
    drop(session);
    // Marked as unattended, because no user typed it.
    if let Err(error) = source.discard_token(&info, &so_pin::of_letter(letter)?) {
        person.notice(Notice::TokenLeft { token: info.name().to_string(), reason: error.to_string() });
    }
    Ok(())
}
