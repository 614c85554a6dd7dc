//! The PIN of a token, and what the token reports about the remaining tries.

use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use crate::characters::is_invisible;

/// A PIN as it was typed, for one operation. It is wiped when dropped, never displayed, and not
/// `Clone`: a second operation needs a second PIN. It is not swapped out if the process may lock
/// memory (`RLIMIT_MEMLOCK`).
pub struct Pin {
    // Unlocked after the wipe (`Drop for Pin`) and before the memory is freed.
    _locked: Option<region::LockGuard>,
    // Two pages, so that the PIN has one to itself. Memory locks are per page and are not counted:
    // unlocking one PIN would unlock another one on the same page.
    memory: Box<[u8]>,
    range: std::ops::Range<usize>,
    // Whether a person typed it for this operation.
    attended: bool,
    // Whether that person was warned that a wrong PIN would be the last one.
    last_try_allowed: bool,
}

impl Pin {
    /// Maximum length in bytes of UTF-8.
    pub const MAX_BYTES: usize = 255;

    /// Takes the typed text. The length limits of a token are checked later, without a try.
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
        if let Some(unseen) = find_invisible(&text) {
            return Err(unseen);
        }
        Ok(Self::locked(&text))
    }

    fn locked(text: &str) -> Self {
        let page = region::page::size();
        let mut memory = vec![0; 2 * page].into_boxed_slice();
        let start = memory.as_ptr().align_offset(page);
        let locked = region::lock(memory.as_ptr().wrapping_add(start), page);
        if let Err(error) = &locked {
            tracing::debug!(%error, "cannot lock the memory of a PIN");
        }
        let range = start..start + text.len();
        if let Some(range) = memory.get_mut(range.clone()) {
            range.copy_from_slice(text.as_bytes());
        }
        Self { _locked: locked.ok(), memory, range, attended: true, last_try_allowed: false }
    }

    /// Marks a PIN that came from a file, a descriptor or a credential. Three wrong ones in a row
    /// block further unattended tries, and an unattended PIN never takes the last try.
    #[must_use]
    pub fn unattended(mut self) -> Self {
        self.attended = false;
        self
    }

    /// For a PIN from another process, which tells whether a person typed it.
    #[must_use]
    pub fn attended_if(self, attended: bool) -> Self {
        if attended { self } else { self.unattended() }
    }

    /// Whether a person typed it.
    pub fn is_attended(&self) -> bool {
        self.attended
    }

    /// Marks that a person was warned that one try is left, and takes it with this PIN.
    #[must_use]
    pub fn allow_last_try(mut self) -> Self {
        self.last_try_allowed = true;
        self
    }

    pub(super) fn is_last_try_allowed(&self) -> bool {
        self.last_try_allowed && self.attended
    }

    /// The text of the PIN.
    pub fn as_str(&self) -> &str {
        // It was made from a `str`, so the empty default never occurs.
        self.memory.get(self.range.clone()).and_then(|bytes| str::from_utf8(bytes).ok()).unwrap_or_default()
    }
}

/// The first character that nobody sees or types on purpose. It comes from the file or page that
/// the PIN was copied from, and would waste a try.
fn find_invisible(text: &str) -> Option<PinError> {
    let before = [None].into_iter().chain(text.chars().map(Some));
    let is_invisible_in_pin = |character, before| is_invisible_in_pin(character) || is_idle_selector(character, before);
    let (at, character) = text
        .char_indices()
        .zip(before)
        .find_map(|((at, character), before)| is_invisible_in_pin(character, before).then_some((at, character)))?;
    let what = match character {
        '\u{feff}' => "a byte order mark",
        '\u{a0}' | '\u{202f}' => "a no-break space",
        character if character.is_whitespace() => "an unusual space",
        _ => "an invisible character",
    };
    let position = match at {
        0 => "at its beginning",
        at if text.get(at..).is_some_and(|rest| rest.chars().all(|character| is_invisible_in_pin(character, None))) => {
            "at its end"
        }
        _ => "inside it",
    };
    Some(PinError::InvisibleCharacter { what, position, code: u32::from(character) })
}

/// White space other than the ordinary space, and invisible characters.
fn is_invisible_in_pin(character: char) -> bool {
    character.is_whitespace() && character != ' ' || is_invisible(character)
}

/// A variation selector that was not typed with the preceding character. Keyboards add one after a
/// symbol to select the colored form, but not after a letter or a digit.
fn is_idle_selector(character: char, before: Option<char>) -> bool {
    matches!(character, '\u{fe00}'..='\u{fe0f}')
        && before.is_none_or(|before| before.is_ascii() || before.is_alphanumeric() || is_invisible_in_pin(before))
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

/// The PIN lengths that a token accepts, in bytes of UTF-8. Each ASCII letter or digit is one byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PinRule {
    /// minimum length
    pub min: usize,
    /// maximum length
    pub max: usize,
}

impl PinRule {
    /// Checks the length of a PIN without a try.
    pub fn check(self, pin: &Pin) -> Result<(), PinError> {
        if (self.min..=self.max).contains(&pin.as_str().len()) { Ok(()) } else { Err(PinError::Length(self)) }
    }
}

impl fmt::Display for PinRule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} to {} characters", self.min, self.max)
    }
}

/// The reason why a text is not a valid PIN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PinError {
    /// The PIN is empty.
    #[error("the PIN is empty")]
    Empty,
    /// The PIN is longer than any token accepts.
    #[error("the PIN is longer than 255 bytes")]
    TooLong,
    /// The PIN contains a line break or another control character.
    #[error("the PIN contains a control character")]
    ControlCharacter,
    /// The PIN is shorter or longer than the token accepts.
    #[error("this token takes PINs of {0} (a non-ASCII character counts as two or more)")]
    Length(PinRule),
    /// The PIN contains an invisible character, as copied from a file or a web page.
    #[error("the PIN contains {what} (U+{code:04X}) {position}, which nobody sees or types; remove it")]
    InvisibleCharacter {
        /// the kind of character
        what: &'static str,
        /// at the beginning, at the end or inside
        position: &'static str,
        /// the code point
        code: u32,
    },
}

/// One of the two PINs of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WhichPin {
    /// the user's PIN
    User,
    /// the security officer's PIN
    SecurityOfficer,
}

impl fmt::Display for WhichPin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::User => "PIN",
            Self::SecurityOfficer => "SO PIN",
        })
    }
}

/// The states of a token's two PINs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PinStates {
    /// state of the user PIN
    pub pin: PinState,
    /// state of the SO PIN
    pub so_pin: PinState,
}

impl PinStates {
    /// The state of one of them.
    pub fn of(self, which: WhichPin) -> PinState {
        match which {
            WhichPin::User => self.pin,
            WhichPin::SecurityOfficer => self.so_pin,
        }
    }
}

/// The state of a PIN as the token reports it (`CKF_USER_PIN_*`, `CKF_SO_PIN_*`). PKCS#11 gives no
/// number of tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PinState {
    /// No warning. Some tokens warn only after several wrong tries (Kryoptic after seven of ten).
    Ok,
    /// At least one wrong try since the last correct PIN.
    CountLow,
    /// One more wrong try locks the PIN.
    FinalTry,
    /// Locked: only the security officer (or the PUK) can set a new PIN.
    Locked,
    /// The token has no user PIN yet.
    NotSet,
}

impl fmt::Display for PinState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Ok => "the token does not say how many tries are left",
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
    #[allow(clippy::used_underscore_binding, reason = "the guard is only dropped, except here")]
    fn a_pin_has_a_page_to_itself_which_is_locked() {
        let locked = || {
            let status = std::fs::read_to_string("/proc/self/status").unwrap();
            let line = status.lines().find_map(|line| line.strip_prefix("VmLck:")).unwrap();
            line.trim().trim_end_matches(" kB").parse::<usize>().unwrap()
        };
        let page = region::page::size();
        let pins: Vec<Pin> = (0..4).map(|_| Pin::new("x".repeat(Pin::MAX_BYTES)).unwrap()).collect();
        for pin in &pins {
            assert_eq!(pin.memory.as_ptr().wrapping_add(pin.range.start).align_offset(page), 0);
            assert_eq!(pin.as_str().len(), Pin::MAX_BYTES);
        }
        // Other tests of this process hold PINs too, and the limit of locked memory may be zero.
        if pins.iter().all(|pin| pin._locked.is_some()) {
            assert!(locked() >= 4 * page / 1024, "{} kB are locked", locked());
        }
    }

    #[test]
    fn text_that_cannot_be_a_typed_pin_is_refused() {
        assert_eq!(Pin::new(String::new()).unwrap_err(), PinError::Empty);
        assert_eq!(Pin::new("x".repeat(256)).unwrap_err(), PinError::TooLong);
        assert_eq!(Pin::new("1234\n".into()).unwrap_err(), PinError::ControlCharacter);
    }

    #[test]
    fn an_invisible_character_is_located_without_showing_the_pin() {
        let unseen = [
            ('\u{feff}', "a byte order mark (U+FEFF)"),
            ('\u{a0}', "a no-break space (U+00A0)"),
            ('\u{202f}', "a no-break space (U+202F)"),
            ('\u{3000}', "an unusual space (U+3000)"),
            ('\u{2028}', "an unusual space (U+2028)"),
            ('\u{200b}', "an invisible character (U+200B)"),
            ('\u{200c}', "an invisible character (U+200C)"),
            ('\u{200d}', "an invisible character (U+200D)"),
            ('\u{2060}', "an invisible character (U+2060)"),
            ('\u{200f}', "an invisible character (U+200F)"),
            ('\u{ad}', "an invisible character (U+00AD)"),
            ('\u{fe0f}', "an invisible character (U+FE0F)"),
            ('\u{fe00}', "an invisible character (U+FE00)"),
        ];
        for (character, what) in unseen {
            for (text, position) in [
                (format!("{character}4711"), "at its beginning"),
                (format!("4711{character}"), "at its end"),
                (format!("4711{character}{character}"), "at its end"),
                (format!("47{character}11"), "inside it"),
                (format!("47{character}11{character}"), "inside it"),
            ] {
                let said = Pin::new(text).unwrap_err().to_string();
                assert!(said.contains(what) && said.contains(position), "{said}");
                assert!(!said.contains("47"), "{said}");
            }
        }
        for text in ["geheim 1", " 4711 ", "é\u{301}ü", "山田", "🧪❤\u{fe0f}", "1234\u{fffd}"] {
            assert_eq!(Pin::new(text.to_owned()).unwrap().as_str(), text);
        }
    }
}
