//! Changes the PIN of a keyset's token.

use serde::{Deserialize, Serialize};

use crate::keyset::choose::list_or;
use crate::keyset::unlock::{check_before_pin, with_last_try};
use crate::keyset::{
    FoundKeyset, Inventory, KeysetChoice, KeysetError, NoPin, Notice, Operation, OperationContext, Outcome, Prompt,
    PromptReply, PromptedKeyset, Purpose, Tokens, UserPrompter,
};
use crate::token::TokenInfo;

/// Changes the PIN of a keyset's token.
#[derive(Debug, Serialize, Deserialize)]
pub struct ChangePin {
    pub keyset: KeysetChoice,
}

impl Operation for ChangePin {
    const NAME: &'static str = "change the PIN";
    const CHANGES_LISTINGS: bool = true;
    type Target = FoundKeyset;
    type Output = ();

    fn select(&self, inventory: &Inventory<'_>) -> Result<FoundKeyset, KeysetError> {
        inventory.keyset(&self.keyset)
    }

    fn run(self, keyset: FoundKeyset, cx: &mut OperationContext<'_>) -> Result<Outcome<()>, KeysetError> {
        change_pin(cx.tokens, &keyset, cx.person).map(Outcome::Done)
    }
}

/// Asks for the old PIN and a new one, and changes it. The old PIN is verified, with one try,
/// before the new one is requested. The new PIN also applies to other keysets on the token; a
/// notice says so.
pub fn change_pin(tokens: &Tokens, keyset: &FoundKeyset, person: &mut dyn UserPrompter) -> Result<(), KeysetError> {
    let operation = ChangePin::NAME;
    let no_pin = |reason: NoPin| KeysetError::NoPin { operation, token: Some(keyset.token.name()), reason };
    let (others, _) = tokens.keysets_on(&keyset.token)?;
    let others: Vec<FoundKeyset> = others.into_iter().filter(|other| other.name != keyset.name).collect();
    let token = tokens.open(&keyset.token)?;
    person.token_chosen(&keyset.token);
    let lease = token.acquire_pin_lease();
    let pin_state = check_before_pin(tokens, &lease, &Purpose::ChangePin, Some(keyset), person)?;
    if !others.is_empty() {
        person.notice(Notice::SharedPin { others: list_or(&others, |other| other.name.to_string(), "") });
    }
    let info = TokenInfo { pin_state, ..keyset.token.clone() };
    let prompt = Prompt::Pin {
        purpose: Purpose::ChangePin,
        token: info.clone(),
        keyset: Some(PromptedKeyset::of(keyset)),
        was_wrong: false,
    };
    let old = person.ask(&prompt).and_then(PromptReply::into_pin).map_err(no_pin)?;
    // Verify the old PIN first, so that nobody invents a new one and types it twice before learning
    // of a wrong old one. Giving the correct PIN again to change it costs no further try.
    let old = with_last_try(old, pin_state);
    token.verify_pin(&old).map_err(|error| error.with_operation(operation))?;
    let no_new_pin = |reason: NoPin| KeysetError::NoNewPin { operation, token: keyset.token.name(), reason };
    let prompt = Prompt::NewPin { label: info.label, serial: Some(info.serial), rule: Some(token.pin_rule()) };
    let new = person.ask(&prompt).and_then(PromptReply::into_pin).map_err(no_new_pin)?;
    // Do not verify the new PIN in another process: if it failed, that would cost a try. If a full
    // disk lost the change, the old PIN still works and nothing is lost.
    Ok(token.change_pin(&old, &new)?)
}
