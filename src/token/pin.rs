//! The PIN of a token, and what the token says about the tries that are left.

use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

/// A PIN as it was typed, for one act. Wiped when dropped, never shown, not `Clone`: a second act needs a second PIN. It
/// is not swapped out where the process may lock memory (`RLIMIT_MEMLOCK`).
pub struct Pin {
    // Unlocked after the wiping (`Drop for Pin`), before the memory is given back.
    _locked: Option<region::LockGuard>,
    // Two pages, of which the PIN has one to itself: locks are by page and do not count, so that the end of one PIN's lock
    // would end another's on the same page.
    memory: Box<[u8]>,
    place: std::ops::Range<usize>,
}

impl Pin {
    /// The longest PIN that is taken, in bytes of UTF-8.
    pub const MAX_BYTES: usize = 255;

    /// Takes what was typed. Whether it is long enough for a token is that token's to say, without a try.
    pub fn new(text: String) -> Result<Self, PinError> {
        let text = Zeroizing::new(text);
        if text.is_empty() {
            return Err(PinError::Empty);
        }
        if text.len() > Self::MAX_BYTES {
            return Err(PinError::TooLong);
        }
        if text.chars().any(char::is_control) {
            return Err(PinError::ControlCharacter);
        }
        Ok(Self::locked(&text))
    }

    fn locked(text: &str) -> Self {
        let page = region::page::size();
        let mut memory = vec![0; 2 * page].into_boxed_slice();
        let start = memory.as_ptr().align_offset(page);
        let locked = region::lock(memory.as_ptr().wrapping_add(start), page);
        if let Err(error) = &locked {
            tracing::debug!(%error, "a PIN's memory is not locked");
        }
        let place = start..start + text.len();
        if let Some(place) = memory.get_mut(place.clone()) {
            place.copy_from_slice(text.as_bytes());
        }
        Self { _locked: locked.ok(), memory, place }
    }

    /// The PIN's text.
    pub fn as_str(&self) -> &str {
        // It was a `str` when it came, so that the empty one, which no PIN is, stands here for nothing that happens.
        self.memory.get(self.place.clone()).and_then(|bytes| str::from_utf8(bytes).ok()).unwrap_or_default()
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.memory.zeroize();
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[redacted]")
    }
}

/// Why a text is no PIN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PinError {
    /// Nothing was typed.
    #[error("the PIN is empty")]
    Empty,
    /// Longer than any token takes.
    #[error("the PIN is longer than 255 bytes")]
    TooLong,
    /// A line break or another control character got into it.
    #[error("the PIN has a control character in it")]
    ControlCharacter,
}

/// What a token says about its user PIN (`CKF_USER_PIN_*`). PKCS#11 tells no numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PinState {
    /// No wrong try is remembered.
    Ok,
    /// At least one wrong try since the last right one.
    CountLow,
    /// One more wrong try locks the PIN.
    FinalTry,
    /// Locked: only the security officer (or the PUK) can set a new one.
    Locked,
    /// The token has no user PIN yet.
    NotSet,
}

impl fmt::Display for PinState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Ok => "all tries are left",
            Self::CountLow => "at least one wrong try is counted",
            Self::FinalTry => "one try is left",
            Self::Locked => "the PIN is locked",
            Self::NotSet => "no PIN is set",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_is_never_shown() {
        let pin = Pin::new("geheim-4711".into()).unwrap();
        assert_eq!(format!("{pin:?}"), "[redacted]");
        assert_eq!(pin.as_str(), "geheim-4711");
    }

    #[test]
    #[allow(clippy::used_underscore_binding, reason = "nothing but its end matters, except here")]
    fn a_pin_has_a_page_to_itself_which_is_locked() {
        let locked = || {
            let status = std::fs::read_to_string("/proc/self/status").unwrap();
            let line = status.lines().find_map(|line| line.strip_prefix("VmLck:")).unwrap();
            line.trim().trim_end_matches(" kB").parse::<usize>().unwrap()
        };
        let page = region::page::size();
        let pins: Vec<Pin> = (0..4).map(|_| Pin::new("x".repeat(Pin::MAX_BYTES)).unwrap()).collect();
        for pin in &pins {
            assert_eq!(pin.memory.as_ptr().wrapping_add(pin.place.start).align_offset(page), 0);
            assert_eq!(pin.as_str().len(), Pin::MAX_BYTES);
        }
        // Other tests in this process have PINs too, and a limit of no memory at all is a limit.
        if pins.iter().all(|pin| pin._locked.is_some()) {
            assert!(locked() >= 4 * page / 1024, "{} kB are locked", locked());
        }
    }

    #[test]
    fn what_nobody_types_as_a_pin_is_refused() {
        assert_eq!(Pin::new(String::new()).unwrap_err(), PinError::Empty);
        assert_eq!(Pin::new("x".repeat(256)).unwrap_err(), PinError::TooLong);
        assert_eq!(Pin::new("1234\n".into()).unwrap_err(), PinError::ControlCharacter);
    }
}
