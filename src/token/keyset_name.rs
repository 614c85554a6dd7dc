//! The name of a keyset, which is also the label of the token made for it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::characters;

/// A keyset name: 1 to 32 bytes of UTF-8, without control characters and without space at either
/// end.
///
/// A new keyset's token gets the name as its label, and a token label has 32 bytes (PKCS#11
/// `CK_TOKEN_INFO`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeysetName(String);

impl KeysetName {
    /// Maximum length in bytes of UTF-8.
    pub const MAX_BYTES: usize = 32;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Refuses a name with an invisible character for a new keyset. Keysets of earlier versions may
    /// have such a name.
    pub fn check_new(&self) -> Result<(), KeysetNameError> {
        if self.0.chars().any(characters::is_invisible) { Err(KeysetNameError::ControlCharacter) } else { Ok(()) }
    }
}

impl FromStr for KeysetName {
    type Err = KeysetNameError;

    fn from_str(text: &str) -> Result<Self, KeysetNameError> {
        if text.is_empty() {
            return Err(KeysetNameError::Empty);
        }
        if text.len() > Self::MAX_BYTES {
            return Err(KeysetNameError::TooLong { bytes: text.len() });
        }
        if text.chars().any(is_never_taken) {
            return Err(KeysetNameError::ControlCharacter);
        }
        if text.trim() != text {
            return Err(KeysetNameError::SpaceAtAnEnd);
        }
        Ok(Self(text.to_owned()))
    }
}

/// Whether a character is refused in every name: control characters, and characters that change the
/// writing direction or have no width, because two names must not look alike. Do not extend this
/// set: names on existing tokens must stay readable. New names also pass [`KeysetName::check_new`].
fn is_never_taken(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

impl TryFrom<String> for KeysetName {
    type Error = KeysetNameError;

    fn try_from(text: String) -> Result<Self, KeysetNameError> {
        text.parse()
    }
}

impl From<KeysetName> for String {
    fn from(name: KeysetName) -> Self {
        name.0
    }
}

impl fmt::Display for KeysetName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// The reason why a text is not a keyset name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeysetNameError {
    /// The name is empty.
    #[error("a keyset name must have at least one character")]
    Empty,
    /// The name is longer than a token label.
    #[error("a keyset name has at most 32 bytes of UTF-8; this one has {bytes}")]
    TooLong {
        /// its length in bytes
        bytes: usize,
    },
    /// The name has a control or invisible character.
    #[error("a keyset name must not have control or invisible characters")]
    ControlCharacter,
    /// The name begins or ends with space, which a token label would lose.
    #[error("a keyset name must not begin or end with space")]
    SpaceAtAnEnd,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> KeysetNameError {
        text.parse::<KeysetName>().unwrap_err()
    }

    #[test]
    fn ordinary_names_are_accepted() {
        for name in ["default", "x", "Büro", "my keys", "second-2026", "🔑", "a/b", &"x".repeat(32)] {
            assert_eq!(name.parse::<KeysetName>().unwrap().as_str(), name);
        }
    }

    #[test]
    fn empty_long_odd_and_padded_names_are_refused() {
        assert_eq!(refused(""), KeysetNameError::Empty);
        assert_eq!(refused(&"x".repeat(33)), KeysetNameError::TooLong { bytes: 33 });
        assert_eq!(refused(&"ü".repeat(17)), KeysetNameError::TooLong { bytes: 34 });
        for odd in ["a\nb", "a\0", "\u{1b}[31mred", "a\u{202e}b", "a\u{200b}b", "\u{feff}a", "\u{85}"] {
            assert_eq!(refused(odd), KeysetNameError::ControlCharacter, "{odd:?}");
        }
        for padded in [" a", "a ", " ", "\u{a0}a"] {
            assert_eq!(refused(padded), KeysetNameError::SpaceAtAnEnd, "{padded:?}");
        }
    }

    #[test]
    fn a_new_name_is_all_visible_and_an_old_one_is_still_read() {
        for old in ["a\u{ad}b", "a\u{3164}b", "\u{2800}", "a\u{e0041}"] {
            let name: KeysetName = old.parse().unwrap();
            assert_eq!(name.check_new(), Err(KeysetNameError::ControlCharacter), "{old:?}");
        }
        for new in ["default", "Büro", "my keys", "🔑"] {
            assert_eq!(new.parse::<KeysetName>().unwrap().check_new(), Ok(()));
        }
    }

    #[test]
    fn a_name_in_a_file_is_checked_too() {
        assert!(serde_json::from_str::<KeysetName>("\"a\\nb\"").is_err());
        assert_eq!(serde_json::from_str::<KeysetName>("\"ab\"").unwrap().to_string(), "ab");
    }
}
