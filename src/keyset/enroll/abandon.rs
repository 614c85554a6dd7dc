//! Rolls back a failed enrollment: notifies the authority and restores the token's previous state.

use jiff::Timestamp;

use crate::carrier::Carrier;
use crate::cmp::{MacProtection, PkiFailureInfo, PkiMessage, PkiStatusInfo, reject};
use crate::crash_point;
use crate::letter::Letter;
use crate::token::Module;

use super::super::index::{self, Base64, Stage};
use super::super::{KeysetError, Notice, Person};
use super::desk::Desk;
use super::so_pin;

/// Where to send the rejection of a reply, and the reply that it concerns.
pub(super) struct Rejection<'a> {
    pub carrier: &'a dyn Carrier,
    pub letter: &'a Letter,
    pub reply: Option<&'a PkiMessage>,
    pub now: Timestamp,
}

/// Removes everything that the pending enrollment created. A keyset that was enrolled before
/// remains as it was; otherwise nothing of it remains on the token.
///
/// The authority is notified once the list of objects to remove is stored, on a best-effort basis:
/// if it is unreachable, it releases the letter by itself after its waiting time.
pub(super) fn clean(desk: &mut Desk, rejection: Option<&Rejection<'_>>) -> Result<(), KeysetError> {
    let Some(pending) = desk.index.pending.clone() else { return Ok(()) };
    let request = match &pending.stage {
        Stage::Making | Stage::Confirmed { .. } => None,
        Stage::Requested { request } | Stage::Installing { request, .. } | Stage::Installed { request, .. } => {
            Some(request.clone())
        }
        Stage::Abandoned { request, .. } => request.clone(),
    };
    let made = pending.made();
    desk.reach(Stage::Abandoned { request: request.clone(), made: made.clone() })?;
    crash_point::reached("keyset.abandoned");
    if let (Some(request), Some(rejection)) = (request, rejection) {
        tell(&request, rejection);
        crash_point::reached("keyset.rejection_sent");
    }
    desk.destroy(&made)?;
    crash_point::reached("keyset.removed");
    if desk.index.keyset.keys.is_some() {
        desk.end()
    } else {
        desk.index.pending = None;
        index::remove(desk.token(), &desk.index.keyset.name.clone())
    }
}

/// Sends an `error` in the transaction, upon which the authority releases the letter. Its response
/// changes nothing.
fn tell(request: &Base64, rejection: &Rejection<'_>) {
    let why = PkiStatusInfo::rejection(PkiFailureInfo::INCORRECT_DATA, "the reply is unusable");
    let message = PkiMessage::from_der(&request.0)
        .and_then(|request| reject(&request, rejection.reply, why, rejection.now))
        .and_then(|draft| draft.protect_with_mac(rejection.letter.temporary_key.cmp_secret(), &MacProtection::pbm()?));
    match message {
        Ok(message) => match rejection.carrier.cmp(&message) {
            Ok(_) => tracing::debug!("sent the rejection of the reply to the authority"),
            Err(error) => tracing::info!(%error, "cannot send the rejection of the reply to the authority"),
        },
        Err(error) => tracing::warn!(%error, "cannot encode the rejection of the reply"),
    }
}

/// Empties a token that was created for the keyset. The next enrollment uses it first.
pub(super) fn discard(
    desk: Desk,
    module: &Module,
    letter: &Letter,
    person: &mut dyn Person,
) -> Result<(), KeysetError> {
    let info = desk.token().info().clone();
    drop(desk);
    // Marked as unattended, because no user typed it.
    if let Err(error) = module.discard_token(&info, &so_pin::of_letter(letter)?.unattended()) {
        person.notice(Notice::TokenLeft { token: info.name().to_string(), reason: error.to_string() });
    }
    Ok(())
}
