//! Changes the PIN of the token a keyset is on: the old one is verified before a new one is asked for; one try.

use crate::token::TokenInfo;

use super::choose::list_or;
use super::unlock::refuse_without_try;
use super::{FoundKeyset, KeysetError, NoPin, Notice, Person, PinRequest, Tokens};

/// Asks for the old PIN and for a new one and changes it. Other keysets on the token get the new PIN too, and a notice
/// says so.
pub fn pin_change(tokens: &Tokens, keyset: &FoundKeyset, person: &mut dyn Person) -> Result<(), KeysetError> {
    let operation = "change the PIN";
    let no_pin = |reason: NoPin| KeysetError::NoPin { operation, token: Some(keyset.token.name()), reason };
    let (others, _) = tokens.keysets_on(&keyset.token)?;
    let others: Vec<FoundKeyset> = others.into_iter().filter(|other| other.name != keyset.name).collect();
    let token = tokens.open(&keyset.token)?;
    person.concerns(keyset);
    let turn = tokens.turn(&token);
    let pin_state = refuse_without_try(&turn, operation, person)?;
    if !others.is_empty() {
        person.notice(Notice::SharedPin { others: list_or(&others, |other| other.name.to_string(), "") });
    }
    let info = TokenInfo { pin_state, ..keyset.token.clone() };
    let old = person.pin(PinRequest::Existing { operation, token: &info }).map_err(no_pin)?;
    // Nobody thinks of a new PIN, and types it twice, to hear then that the old one is wrong. It is right when it is given
    // again to be changed: that is no other try.
    let old = turn.verify(old).map_err(|error| error.of_act(operation))?;
    let no_new_pin = |reason: NoPin| KeysetError::NoNewPin { operation, token: keyset.token.name(), reason };
    let new =
        person.pin(PinRequest::New { label: &keyset.token.label, rule: Some(token.pin_rule()) }).map_err(no_new_pin)?;
    // Whether another process finds the new PIN set is not asked: one that did not would spend a try to say so. Where a full
    // disk has swallowed it the old PIN is the PIN still, and nothing is lost.
    Ok(turn.change_pin(old, &new)?)
}
