//! Sets a new PIN with the SO PIN, if the PIN is locked or forgotten.

use serde::{Deserialize, Serialize};

use crate::keyset::unlock::with_last_try;
use crate::keyset::{
    Inventory, KeysetError, Operation, OperationContext, Outcome, Prompt, PromptReply, Purpose, TokenSelector, Tokens,
    UserPrompter,
};
use crate::token::{PinState, TokenError, TokenInfo, WhichPin};

/// Sets a new PIN with the SO PIN; the result is the token.
#[derive(Debug, Serialize, Deserialize)]
pub struct UnblockPin {
    /// `None`: the only token
    pub token: Option<TokenSelector>,
}

impl Operation for UnblockPin {
    const NAME: &'static str = OPERATION;
    const CHANGES_LISTINGS: bool = true;
    type Target = TokenInfo;
    type Output = TokenInfo;

    fn select(&self, inventory: &Inventory<'_>) -> Result<TokenInfo, KeysetError> {
        inventory.token_or_only(self.token.as_ref())
    }

    fn run(self, token: TokenInfo, cx: &mut OperationContext<'_>) -> Result<Outcome<TokenInfo>, KeysetError> {
        unblock_pin(cx.tokens, &token, cx.person)?;
        Ok(Outcome::Done(token))
    }
}

const OPERATION: &str = "set a new PIN";

/// Sets a new PIN on a token, also an authority's; its content stays. Costs one try of the SO PIN.
pub fn unblock_pin(tokens: &Tokens, info: &TokenInfo, person: &mut dyn UserPrompter) -> Result<(), KeysetError> {
    let name = info.name();
    let no_pin = |reason| KeysetError::NoPin { operation: OPERATION, token: Some(name.clone()), reason };
    let token = tokens.source_of(info)?.open(info)?;
    let state = token.refresh_so_pin_state()?;
    match state {
        PinState::Locked => return Err(TokenError::SoPinLocked { operation: OPERATION, token: name }.into()),
        PinState::FinalTry => {
            let which = WhichPin::SecurityOfficer;
            let (purpose, token) = (Purpose::UnblockPin, info.clone());
            let prompt = Prompt::LastTry { purpose, token, keyset: None, which };
            person.ask(&prompt).and_then(PromptReply::into_yes).map_err(no_pin)?;
        }
        PinState::Ok | PinState::CountLow | PinState::NotSet => {}
    }
    // Verify the SO PIN first, so that nobody invents a new PIN and types it twice before learning
    // of a wrong SO PIN. Giving the correct SO PIN again costs no further try.
    let prompt = Prompt::SoPin { token: info.clone() };
    let so_pin = person.ask(&prompt).and_then(PromptReply::into_pin).map_err(no_pin)?;
    let so_pin = with_last_try(so_pin, state);
    token.verify_so_pin(&so_pin)?;
    let no_new_pin = |reason| KeysetError::NoNewPin { operation: OPERATION, token: name.clone(), reason };
    let (label, serial) = (info.label.clone(), Some(info.serial.clone()));
    let prompt = Prompt::NewPin { label, serial, rule: Some(token.pin_rule()) };
    let new = person.ask(&prompt).and_then(PromptReply::into_pin).map_err(no_new_pin)?;
    Ok(token.unblock_pin(&so_pin, &new)?)
}
