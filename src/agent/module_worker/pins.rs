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
pub(super) struct PinsSeen(HashMap<String, PinSeen>);

#[derive(Debug, Default)]
struct PinSeen {
    // The state reported with the last inventory.
    by_the_way: Option<PinState>,
    afresh: Option<PinState>,
}

impl PinsSeen {
    /// Records the states reported with an inventory and replaces them by fresher ones.
    pub fn correct(&mut self, tokens: &mut [TokenInfo]) {
        self.0.retain(|serial, _| tokens.iter().any(|token| token.serial == *serial));
        for token in tokens {
            let inventory = self.0.entry(token.serial.clone()).or_default();
            if inventory.by_the_way.is_some_and(|before| before != token.pin_state) {
                inventory.afresh = None;
            }
            inventory.by_the_way = Some(token.pin_state);
            token.pin_state = inventory.afresh.unwrap_or(token.pin_state);
        }
    }

    /// Records states that were read fresh and updates the known tokens.
    pub fn take(&mut self, afresh: &[TokenInfo], tokens: &mut [TokenInfo]) {
        for token in tokens {
            if let Some(read) = afresh.iter().find(|read| read.serial == token.serial && read.label == token.label) {
                token.pin_state = read.pin_state;
                self.0.entry(token.serial.clone()).or_default().afresh = Some(read.pin_state);
            }
        }
    }

    /// Discards the fresh state after a correct PIN. Returns true if there was one.
    pub fn forget(&mut self, token: &TokenInfo) -> bool {
        self.0.get_mut(&token.serial).is_some_and(|inventory| inventory.afresh.take().is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::test_support::a_card;

    fn saying(pin_state: PinState) -> Vec<TokenInfo> {
        vec![TokenInfo { pin_state, ..a_card() }]
    }

    #[test]
    fn a_fresh_pin_state_holds_until_the_module_reports_another() {
        let mut pins = PinsSeen::default();
        let mut told = saying(PinState::Ok);
        pins.correct(&mut told);
        assert_eq!(told, saying(PinState::Ok));
        pins.take(&saying(PinState::FinalTry), &mut told);
        assert_eq!(told, saying(PinState::FinalTry));
        for _ in 0..2 {
            let mut told = saying(PinState::Ok);
            pins.correct(&mut told);
            assert_eq!(told, saying(PinState::FinalTry), "what the module kept took it back");
        }
        // The module tried a PIN itself: its report is newer.
        let mut told = saying(PinState::Locked);
        pins.correct(&mut told);
        assert_eq!(told, saying(PinState::Locked));
        let mut told = saying(PinState::Ok);
        pins.correct(&mut told);
        assert_eq!(told, saying(PinState::Ok));
        // A correct PIN reset the counter; the module's report is unchanged.
        pins.take(&saying(PinState::FinalTry), &mut told);
        assert!(pins.forget(&told[0]) && !pins.forget(&told[0]));
        let mut told = saying(PinState::Ok);
        pins.correct(&mut told);
        assert_eq!(told, saying(PinState::Ok));
        // Without a fresh reading the earlier one stays.
        pins.take(&saying(PinState::FinalTry), &mut told);
        pins.take(&[], &mut told);
        pins.correct(&mut told);
        assert_eq!(told, saying(PinState::FinalTry));
        // A token that was removed and inserted again has no fresh state.
        pins.take(&saying(PinState::Locked), &mut told);
        pins.correct(&mut []);
        let mut told = saying(PinState::Ok);
        pins.correct(&mut told);
        assert_eq!(told, saying(PinState::Ok));
    }
}
