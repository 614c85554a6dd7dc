//! The limit of consecutive wrong PINs.
//!
//! It limits guessing independently of the token, because some tokens (such as SoftHSM) accept any
//! number of wrong PINs.

use std::time::Duration;

use super::KeysetError;
use crate::token::Token;

/// Number of consecutive wrong PINs from which the next prompt is delayed.
const DELAY_AFTER: u32 = 3;
/// Number of consecutive wrong PINs from which no further one is accepted.
const REFUSED_AFTER: u32 = 10;
/// The longest delay before a prompt.
const MAX_DELAY: Duration = Duration::from_secs(30);
/// The delay after [`DELAY_AFTER`] wrong PINs; it doubles with each further one.
#[cfg(not(test))]
const FIRST_DELAY: Duration = Duration::from_secs(1);
#[cfg(test)]
const FIRST_DELAY: Duration = Duration::from_millis(1);

/// Delays the next prompt for this token's PIN, or refuses it. Costs no try.
pub(super) fn enforce(token: &Token, operation: &'static str) -> Result<(), KeysetError> {
    let wrong = token.wrong_pins_in_a_row();
    if wrong >= REFUSED_AFTER {
        return Err(KeysetError::TooManyWrongPins { operation, token: token.info().name(), wrong });
    }
    if let Some(more) = wrong.checked_sub(DELAY_AFTER) {
        std::thread::sleep(FIRST_DELAY.saturating_mul(1 << more.min(8)).min(MAX_DELAY));
    }
    Ok(())
}
