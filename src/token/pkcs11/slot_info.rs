//! Reads `CK_TOKEN_INFO`: PIN lengths, PIN states and flags.

use cryptoki::slot::TokenInfo as CkTokenInfo;

use crate::token::{Pin, PinState, PinStates, TokenFlags};

/// The PIN lengths in bytes that a token accepts. A maximum of 0, or above
/// [`Pin::MAX_BYTES`], becomes `Pin::MAX_BYTES`.
pub(super) fn pin_length_range(info: &CkTokenInfo) -> std::ops::RangeInclusive<usize> {
    let longest = Pin::MAX_BYTES;
    let max = match info.max_pin_length() {
        0 => longest,
        max => max.min(longest),
    };
    info.min_pin_length()..=max
}

/// The flags of a token.
pub(super) fn token_flags(info: &CkTokenInfo) -> TokenFlags {
    TokenFlags {
        so_pin_state: pin_states_of(info).so_pin,
        pin_to_be_changed: info.user_pin_to_be_changed() || info.so_pin_to_be_changed(),
        pin_at_the_reader: info.protected_authentication_path(),
        login_required: info.login_required(),
        broken: info.error_state(),
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
