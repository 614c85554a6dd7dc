//! The PIN states of a module worker's tokens: read fresh for a listing, and kept until known to be
//! out of date.
//!
//! A module may keep reporting what it read at its start while other programs use up PIN tries. So
//! a state reported with an inventory does not override a fresh one, unless the reported state
//! changes.

use std::collections::HashMap;

use crate::token::{PinState, TokenInfo};

/// By serial number.
#[derive(Debug, Default)]
pub(super) struct KnownPinStates(HashMap<String, KnownPinState>);

#[derive(Debug, Default)]
struct KnownPinState {
    // The state reported with the last inventory.
    reported: Option<PinState>,
    fresh: Option<PinState>,
}

impl KnownPinStates {
    /// Records the states reported with an inventory and replaces them by fresher ones.
    pub fn correct(&mut self, tokens: &mut [TokenInfo]) {
        self.0.retain(|serial, _| tokens.iter().any(|token| token.serial == *serial));
        for token in tokens {
            let known = self.0.entry(token.serial.clone()).or_default();
            if known.reported.is_some_and(|before| before != token.pin_state) {
                known.fresh = None;
            }
            known.reported = Some(token.pin_state);
            token.pin_state = known.fresh.unwrap_or(token.pin_state);
        }
    }

    /// Records states that were read fresh and updates the known tokens.
    pub fn take(&mut self, fresh: &[TokenInfo], tokens: &mut [TokenInfo]) {
        for token in tokens {
            if let Some(read) = fresh.iter().find(|read| read.serial == token.serial && read.label == token.label) {
                token.pin_state = read.pin_state;
                self.0.entry(token.serial.clone()).or_default().fresh = Some(read.pin_state);
            }
        }
    }

    /// Discards the fresh state after a correct PIN. Returns true if there was one.
    pub fn forget(&mut self, token: &TokenInfo) -> bool {
        self.0.get_mut(&token.serial).is_some_and(|known| known.fresh.take().is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::test_support::a_card;

    fn with_state(pin_state: PinState) -> Vec<TokenInfo> {
        vec![TokenInfo { pin_state, ..a_card() }]
    }

    #[test]
    fn a_fresh_pin_state_holds_until_the_module_reports_another() {
        let mut pins = KnownPinStates::default();
        let mut reported = with_state(PinState::Ok);
        pins.correct(&mut reported);
        assert_eq!(reported, with_state(PinState::Ok));
        pins.take(&with_state(PinState::FinalTry), &mut reported);
        assert_eq!(reported, with_state(PinState::FinalTry));
        for _ in 0..2 {
            let mut reported = with_state(PinState::Ok);
            pins.correct(&mut reported);
            assert_eq!(reported, with_state(PinState::FinalTry), "what the module kept took it back");
        }
        // The module tried a PIN itself: its report is newer.
        let mut reported = with_state(PinState::Locked);
        pins.correct(&mut reported);
        assert_eq!(reported, with_state(PinState::Locked));
        let mut reported = with_state(PinState::Ok);
        pins.correct(&mut reported);
        assert_eq!(reported, with_state(PinState::Ok));
        // A correct PIN reset the counter; the module's report is unchanged.
        pins.take(&with_state(PinState::FinalTry), &mut reported);
        assert!(pins.forget(&reported[0]) && !pins.forget(&reported[0]));
        let mut reported = with_state(PinState::Ok);
        pins.correct(&mut reported);
        assert_eq!(reported, with_state(PinState::Ok));
        // Without a fresh reading the earlier one stays.
        pins.take(&with_state(PinState::FinalTry), &mut reported);
        pins.take(&[], &mut reported);
        pins.correct(&mut reported);
        assert_eq!(reported, with_state(PinState::FinalTry));
        // A token that was removed and inserted again has no fresh state.
        pins.take(&with_state(PinState::Locked), &mut reported);
        pins.correct(&mut []);
        let mut reported = with_state(PinState::Ok);
        pins.correct(&mut reported);
        assert_eq!(reported, with_state(PinState::Ok));
    }
}
