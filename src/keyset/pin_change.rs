//! Changes the PIN of the token that holds a keyset. The old PIN is verified before the new one is
//! requested; one try.

use crate::token::TokenInfo;

use super::choose::list_or;
use super::unlock::check_before_pin;
use super::{FoundKeyset, KeysetError, NoPin, Notice, PinRequest, Tokens, UserPrompter};

/// Asks for the old PIN and a new one, and changes it. The new PIN also applies to other keysets on
/// the token; a notice says so.
pub fn pin_change(tokens: &Tokens, keyset: &FoundKeyset, person: &mut dyn UserPrompter) -> Result<(), KeysetError> {
    let operation = "change the PIN";
    let no_pin = |reason: NoPin| KeysetError::NoPin { operation, token: Some(keyset.token.name()), reason };
    let (others, _) = tokens.keysets_on(&keyset.token)?;
    let others: Vec<FoundKeyset> = others.into_iter().filter(|other| other.name != keyset.name).collect();
    let token = tokens.open(&keyset.token)?;
    person.set_keyset(keyset);
    let lease = tokens.acquire_lease(&token);
    let pin_state = check_before_pin(&lease, operation, person)?;
    if !others.is_empty() {
        person.notice(Notice::SharedPin { others: list_or(&others, |other| other.name.to_string(), "") });
    }
    let info = TokenInfo { pin_state, ..keyset.token.clone() };
    let old = person.pin(PinRequest::Existing { operation, token: &info }).map_err(no_pin)?;
    // Verify the old PIN first, so that nobody invents a new one and types it twice before learning
    // of a wrong old one. Giving the correct PIN again to change it costs no further try.
    let old = lease.verify(old).map_err(|error| error.with_operation(operation))?;
    let no_new_pin = |reason: NoPin| KeysetError::NoNewPin { operation, token: keyset.token.name(), reason };
    let new =
        person.pin(PinRequest::New { label: &keyset.token.label, rule: Some(token.pin_rule()) }).map_err(no_new_pin)?;
    // Do not verify the new PIN in another process: if it failed, that would cost a try. If a full
    // disk lost the change, the old PIN still works and nothing is lost.
    Ok(lease.change_pin(old, &new)?)
}
