//! The next step after a PIN was wrong, is locked, or cannot be tried.

use crate::token::PinState;

/// Nobody knows the SO PIN of most tokens: `enroll` makes it at random, unless somebody wants to keep one.
pub(super) const AFTER_LOCKED_PIN: &str = "get a recovery letter from an administrator (`tokenkeep admin recover`) and enroll with it \
                                into another token, or, if you keep the token's SO PIN, set a new PIN by it (`tokenkeep \
                                pin unblock`)";

/// Where the module goes on saying what it said at its start.
pub(super) const AFTER_UNKNOWN_STATE: &str = "try again, and if it stays so, see `tokenkeep doctor`, and let an agent that runs begin \
                                   again (`tokenkeep agent stop`), which loads the module as it is now";

/// By what the token says now.
pub(super) fn after_wrong_pin(pin_state: PinState) -> &'static str {
    match pin_state {
        PinState::FinalTry => "the next wrong one locks it",
        PinState::Locked => AFTER_LOCKED_PIN,
        PinState::Ok | PinState::CountLow | PinState::NotSet => "nothing was changed",
    }
}
