//! The next step when a PIN is wrong, locked, or cannot be tried.

use crate::token::PinState;

/// The recovery letter comes first because most people do not know their token's SO PIN: `enroll`
/// makes it at random unless told to keep one.
pub(super) const AFTER_LOCKED_PIN: &str = "get a recovery letter from an administrator (`tokenkeep admin recover`) and \
                                           enroll with it into another token, or, if you have the token's SO PIN, \
                                           set a new PIN with it (`tokenkeep pin unblock`)";

/// For modules that keep reporting the state from their initialization.
pub(super) const AFTER_UNKNOWN_STATE: &str = "try again; if it fails again, see `tokenkeep doctor` and stop a running \
                                              agent (`tokenkeep agent stop`): its next start reloads the module";

/// The next step for the state that the token reports after the wrong PIN.
pub(super) fn after_wrong_pin(pin_state: PinState) -> &'static str {
    match pin_state {
        PinState::FinalTry => "the next wrong one locks it",
        PinState::Locked => AFTER_LOCKED_PIN,
        PinState::Ok | PinState::CountLow | PinState::NotSet => "nothing was changed",
    }
}
