//! What an annex's tokens say of their PINs: read afresh when somebody lists, kept until it is known to be out of date.
//!
//! A module may go on telling what it read at its start, while other programs spend the tries of a
//! PIN. So what it tells by the way takes nothing back that was read afresh, unless what it tells
//! by the way has changed.

use std::collections::HashMap;

use crate::token::{PinState, TokenInfo};

/// By serial number.
#[derive(Debug, Default)]
pub(super) struct PinsSeen(HashMap<String, PinSeen>);

#[derive(Debug, Default)]
struct PinSeen {
    // What was told by the way last.
    by_the_way: Option<PinState>,
    afresh: Option<PinState>,
}

impl PinsSeen {
    /// Takes what was told by the way, and corrects it.
    pub fn correct(&mut self, tokens: &mut [TokenInfo]) {
        self.0.retain(|serial, _| tokens.iter().any(|token| token.serial == *serial));
        for token in tokens {
            let seen = self.0.entry(token.serial.clone()).or_default();
            if seen.by_the_way.is_some_and(|before| before != token.pin_state) {
                seen.afresh = None;
            }
            seen.by_the_way = Some(token.pin_state);
            token.pin_state = seen.afresh.unwrap_or(token.pin_state);
        }
    }

    /// Takes what these tokens said when they were read afresh, and brings those that are known up to date.
    pub fn take(&mut self, afresh: &[TokenInfo], tokens: &mut [TokenInfo]) {
        for token in tokens {
            if let Some(read) = afresh.iter().find(|read| read.serial == token.serial && read.label == token.label) {
                token.pin_state = read.pin_state;
                self.0.entry(token.serial.clone()).or_default().afresh = Some(read.pin_state);
            }
        }
    }

    /// A right PIN came: what was read before is out of date. Says whether anything was.
    pub fn forget(&mut self, token: &TokenInfo) -> bool {
        self.0.get_mut(&token.serial).is_some_and(|seen| seen.afresh.take().is_some())
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
    fn what_was_read_afresh_stands_until_the_module_tells_another_thing() {
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
        // It has tried a PIN by itself: what it tells is newer.
        let mut told = saying(PinState::Locked);
        pins.correct(&mut told);
        assert_eq!(told, saying(PinState::Locked));
        let mut told = saying(PinState::Ok);
        pins.correct(&mut told);
        assert_eq!(told, saying(PinState::Ok));
        // A right PIN has set its count back; the module says what it has said all the time.
        pins.take(&saying(PinState::FinalTry), &mut told);
        assert!(pins.forget(&told[0]) && !pins.forget(&told[0]));
        let mut told = saying(PinState::Ok);
        pins.correct(&mut told);
        assert_eq!(told, saying(PinState::Ok));
        // Where it could not be read, what was read before stays.
        pins.take(&saying(PinState::FinalTry), &mut told);
        pins.take(&[], &mut told);
        pins.correct(&mut told);
        assert_eq!(told, saying(PinState::FinalTry));
        // One that went, and came again, is asked anew.
        pins.take(&saying(PinState::Locked), &mut told);
        pins.correct(&mut []);
        let mut told = saying(PinState::Ok);
        pins.correct(&mut told);
        assert_eq!(told, saying(PinState::Ok));
    }
}
