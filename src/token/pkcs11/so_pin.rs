//! Security officer operations: the state of the SO PIN, and a new user PIN in place of a locked
//! one.

use std::path::Path;

use cryptoki::slot::TokenInfo as CkTokenInfo;
use serde::{Deserialize, Serialize};

use super::token_info::pin_length_range;
use crate::token::{Module, Pin, PinRule, PinState, PinStates, Token, TokenError, TokenId, TokenInfo};

/// Further information of a token besides [`TokenInfo`], for diagnosis. Needs no login.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(clippy::struct_excessive_bools, reason = "independent PKCS#11 flags")]
pub struct TokenFlags {
    /// state of the SO PIN
    pub so_pin_state: PinState,
    /// a PIN must be changed before the token can be used (`CKF_*_PIN_TO_BE_CHANGED`)
    pub pin_to_be_changed: bool,
    /// the PIN is typed at the reader (`CKF_PROTECTED_AUTHENTICATION_PATH`)
    pub pin_at_the_reader: bool,
    /// private objects need a login, as they should (`CKF_LOGIN_REQUIRED`)
    pub login_required: bool,
    /// the token failed its self-test (`CKF_ERROR_STATE`)
    pub broken: bool,
}

/// Slot counts of a module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlotCount {
    pub slots: usize,
    /// slots with a token
    pub with_token: usize,
    /// slots whose token is not initialized: a new token can be made there
    pub free: usize,
}

impl Module {
    /// The current flags of a token. The token is not opened, so its owner is not disturbed.
    pub fn flags(&self, token: &TokenInfo) -> Result<TokenFlags, TokenError> {
        Ok(TokenFlags::of(&self.slot_of("look at the token", token)?.1))
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

impl Token {
    /// The PIN lengths that this token accepts.
    pub fn pin_rule(&self) -> PinRule {
        let allowed = self.pin_length_range();
        PinRule { min: *allowed.start(), max: *allowed.end() }
    }

    /// Sets a new user PIN with the SO PIN, regardless of the old one. It spends one try of the SO
    /// PIN, and none if that is locked. Ends every login on this token.
    ///
    /// # Errors
    /// [`TokenError::SoPinIncorrect`], [`TokenError::SoPinLocked`], [`TokenError::LastTry`],
    /// [`TokenError::TooManyUnattended`]; [`TokenError::PinLength`] before any try.
    pub fn unblock_pin(&self, so_pin: &Pin, pin: &Pin) -> Result<(), TokenError> {
        self.init_pin_as_so(so_pin, pin)
    }

    /// Verifies the SO PIN. It spends one try, and none if the SO PIN is locked. Ends every login
    /// on this token.
    ///
    /// # Errors
    /// Those of [`Token::unblock_pin`].
    pub fn verify_so_pin(&self, so_pin: &Pin) -> Result<(), TokenError> {
        self.verify_as_so(so_pin)
    }
}

impl TokenFlags {
    fn of(info: &CkTokenInfo) -> Self {
        Self {
            so_pin_state: pin_states_of(info).so_pin,
            pin_to_be_changed: info.user_pin_to_be_changed() || info.so_pin_to_be_changed(),
            pin_at_the_reader: info.protected_authentication_path(),
            login_required: info.login_required(),
            broken: info.error_state(),
        }
    }
}

/// The state of both PINs.
pub(super) fn pin_states_of(info: &CkTokenInfo) -> PinStates {
    let so_pin = state_of(info.so_pin_locked(), info.so_pin_final_try(), info.so_pin_count_low());
    let pin = if info.user_pin_initialized() {
        state_of(info.user_pin_locked(), info.user_pin_final_try(), info.user_pin_count_low())
    } else {
        PinState::NotSet
    };
    PinStates { pin, so_pin }
}

fn state_of(locked: bool, final_try: bool, count_low: bool) -> PinState {
    match (locked, final_try, count_low) {
        (true, _, _) => PinState::Locked,
        (_, true, _) => PinState::FinalTry,
        (_, _, true) => PinState::CountLow,
        _ => PinState::Ok,
    }
}

fn unusable(path: &Path, error: &cryptoki::error::Error) -> TokenError {
    TokenError::Module {
        path: path.to_owned(),
        reason: error.to_string(),
        remedy: "check that its configuration still exists".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::test_support::{PIN, SO_PIN, modules, open_token, pin};

    const NEW_PIN: &str = "a new pin of mine";

    #[test]
    fn the_so_pin_sets_a_new_pin_and_a_wrong_one_costs_one_try() {
        for module in modules() {
            let token = open_token(&module);
            let state = || module.flags(token.info()).unwrap().so_pin_state;
            assert_eq!(state(), PinState::Ok);
            let error = token.unblock_pin(&pin("no so pin at all"), &pin(NEW_PIN)).unwrap_err();
            assert!(matches!(error, TokenError::SoPinIncorrect { .. }), "{error}");
            assert!(error.to_string().contains("SO PIN of "), "{error}");
            token.log_in(&pin(PIN)).unwrap();
            token.unblock_pin(&pin(SO_PIN), &pin(NEW_PIN)).unwrap();
            assert_eq!(state(), PinState::Ok);
            assert!(token.log_in(&pin(PIN)).is_err(), "the old PIN is still good");
            token.log_in(&pin(NEW_PIN)).unwrap();
        }
    }

    #[test]
    fn an_so_pin_is_verified_without_setting_a_new_pin() {
        for module in modules() {
            let token = open_token(&module);
            let error = token.verify_so_pin(&pin("no so pin at all")).unwrap_err();
            assert!(matches!(error, TokenError::SoPinIncorrect { .. }), "{error}");
            token.verify_so_pin(&pin(SO_PIN)).unwrap();
            token.log_in(&pin(PIN)).unwrap();
        }
    }

    #[test]
    fn a_pin_of_a_wrong_length_costs_no_try() {
        for module in modules() {
            let token = open_token(&module);
            let error = token.unblock_pin(&pin("no so pin at all"), &pin("1")).unwrap_err();
            assert!(matches!(error, TokenError::PinLength { .. }), "{error}");
            assert_eq!(module.flags(token.info()).unwrap().so_pin_state, PinState::Ok);
        }
    }

    #[test]
    fn slots_and_tokens_are_counted() {
        for module in modules() {
            let _token = open_token(&module);
            let count = module.count_slots().unwrap();
            assert!(count.with_token >= 1 && count.slots >= count.with_token, "{count:?}");
        }
    }
}
