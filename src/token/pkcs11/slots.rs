//! What a module's slots tell without opening a token: flags, PIN states, and free slots.

use std::path::Path;

use super::module::Module;
use super::slot_info::{pin_length_range, pin_states_of, token_flags};
use crate::token::{PinRule, PinStates, SlotCount, TokenError, TokenFlags, TokenId, TokenInfo};

impl Module {
    /// The current flags of a token. The token is not opened, so its owner is not disturbed.
    pub fn flags(&self, token: &TokenInfo) -> Result<TokenFlags, TokenError> {
        Ok(token_flags(&self.slot_of("look at the token", token)?.1))
    }

    /// The PIN lengths for a new token, as the free slot reports them; `None` if it does not.
    pub fn rule_for_new_pins(&self) -> Option<PinRule> {
        let slots = self.slots().ok()?;
        let (_, info) = slots.iter().find(|(_, info)| !info.token_initialized())?;
        let allowed = pin_length_range(info);
        Some(PinRule { min: *allowed.start(), max: *allowed.end() })
    }

    /// Counts the slots by their content.
    pub fn count_slots(&self) -> Result<SlotCount, TokenError> {
        let with_token = self.slots()?;
        let _running = self.running();
        let slots = self.all_slots().map_err(|error| unusable(self.path(), &error))?;
        Ok(SlotCount {
            slots: slots.len(),
            with_token: with_token.len(),
            free: with_token.iter().filter(|(_, info)| !info.token_initialized()).count(),
        })
    }

    /// The PIN states of all tokens as this process reads them.
    pub(in crate::token) fn pin_states(&self) -> Result<Vec<(TokenId, PinStates)>, TokenError> {
        let slots = self.slots()?;
        let tokens = slots.iter().filter(|(_, info)| info.token_initialized());
        Ok(tokens.map(|(slot, info)| (self.token_info(*slot, info).id(), pin_states_of(info))).collect())
    }
}

fn unusable(path: &Path, error: &cryptoki::error::Error) -> TokenError {
    TokenError::Source {
        path: path.to_owned(),
        reason: error.to_string(),
        remedy: "check that its configuration still exists".to_owned(),
    }
}
