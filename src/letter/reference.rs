//! The reference: the public name of a temporary key, which also encodes its purpose.

use std::fmt;
use std::str::FromStr;

use super::base32::{self, Base32Error};

/// The purpose of a temporary key, encoded in the reference's first letter. The authority refuses a
/// message of the other kind without using the letter up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LetterPurpose {
    /// New keys, by an `ir` message.
    Enroll,
    /// A new signing key and the whole history of encryption keys, by a `krr` message.
    Recover,
}

impl LetterPurpose {
    /// The first letter of a reference with this purpose: `E` or `R`.
    pub fn prefix(self) -> char {
        match self {
            Self::Enroll => 'E',
            Self::Recover => 'R',
        }
    }
}

impl fmt::Display for LetterPurpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Enroll => "enroll",
            Self::Recover => "recover",
        })
    }
}

impl FromStr for LetterPurpose {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "enroll" => Ok(Self::Enroll),
            "recover" => Ok(Self::Recover),
            _ => Err(ReferenceError::Purpose),
        }
    }
}

/// The length of a reference: one character for the purpose, eight random ones (40 bits) and one
/// check character.
const CHARACTERS: usize = 10;

/// A reference: `E` or `R`, eight random characters of Crockford base32, and one check character.
/// It is not secret. CMP's MAC protection carries its ten ASCII characters as senderKID.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    purpose: LetterPurpose,
    text: String,
}

impl Reference {
    /// Makes the reference of these 40 random bits. The store ensures that it is unique.
    pub fn new(purpose: LetterPurpose, random: [u8; 5]) -> Self {
        let mut word = vec![purpose_value(purpose)];
        word.extend(base32::five_bit_groups(&random, CHARACTERS - 2).iter());
        word.push(base32::check_character(&word));
        Self { purpose, text: word.into_iter().map(base32::character).collect() }
    }

    /// Parses a reference as a person types it: lower case is accepted, O is read as 0, I and L as
    /// 1; spaces and hyphens are skipped.
    ///
    /// # Errors
    /// [`ReferenceError`], which names the problem.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        let word = base32::read(text, CHARACTERS).map_err(|unreadable| match unreadable {
            Base32Error::Character(place) => ReferenceError::Character { place },
            Base32Error::Length(found) => ReferenceError::Length { found },
        })?;
        let purpose = [LetterPurpose::Enroll, LetterPurpose::Recover]
            .into_iter()
            .find(|purpose| word.first() == Some(&purpose_value(*purpose)))
            .ok_or(ReferenceError::Purpose)?;
        if !base32::is_check_character_valid(&word) {
            return Err(ReferenceError::Mistyped);
        }
        Ok(Self { purpose, text: word.iter().map(|value| base32::character(*value)).collect() })
    }

    /// The purpose of the reference's temporary key.
    pub fn purpose(&self) -> LetterPurpose {
        self.purpose
    }

    /// The ten characters; as bytes they are CMP's senderKID.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// The five-bit value of the letter E or R.
fn purpose_value(purpose: LetterPurpose) -> u8 {
    match purpose {
        LetterPurpose::Enroll => 14,
        LetterPurpose::Recover => 24,
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

/// The reason why a text is not a reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// The length is wrong.
    #[error("it has {found} characters instead of 10")]
    Length {
        /// The number of characters found; counting stops at 64.
        found: usize,
    },
    /// A character is not in the alphabet.
    #[error("character {place} is not valid in a reference; compare it with the letter")]
    Character {
        /// The position, counted from one without hyphens and spaces.
        place: usize,
    },
    /// The first character is neither E nor R.
    #[error("it does not begin with E (enroll) or R (recover)")]
    Purpose,
    /// The check character is wrong.
    #[error("it is mistyped: its check character is wrong; compare it with the letter")]
    Mistyped,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_reference_begins_with_its_purpose() {
        let enroll = Reference::new(LetterPurpose::Enroll, [1, 2, 3, 4, 5]);
        let recover = Reference::new(LetterPurpose::Recover, [1, 2, 3, 4, 5]);
        assert!(enroll.as_str().starts_with(LetterPurpose::Enroll.prefix()));
        assert!(recover.as_str().starts_with(LetterPurpose::Recover.prefix()));
        assert_eq!(enroll.as_str().len(), 10);
    }

    #[test]
    fn a_purpose_changed_by_one_letter_is_caught() {
        let text = Reference::new(LetterPurpose::Enroll, [9; 5]).to_string();
        assert_eq!(Reference::parse(&format!("R{}", &text[1..])), Err(ReferenceError::Mistyped));
        assert_eq!(Reference::parse(&format!("A{}", &text[1..])), Err(ReferenceError::Purpose));
    }

    #[test]
    fn wrong_lengths_and_wrong_characters_are_distinct_errors() {
        assert_eq!(Reference::parse(""), Err(ReferenceError::Length { found: 0 }));
        assert_eq!(Reference::parse("E12345678"), Err(ReferenceError::Length { found: 9 }));
        assert_eq!(Reference::parse("E12?"), Err(ReferenceError::Character { place: 4 }));
    }

    #[test]
    fn purposes_have_names() {
        for purpose in [LetterPurpose::Enroll, LetterPurpose::Recover] {
            assert_eq!(purpose.to_string().parse(), Ok(purpose));
        }
        assert_eq!("Enroll".parse::<LetterPurpose>(), Err(ReferenceError::Purpose));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn comes_back_however_it_is_typed(random: [u8; 5], recover: bool) {
            let purpose = if recover { LetterPurpose::Recover } else { LetterPurpose::Enroll };
            let reference = Reference::new(purpose, random);
            prop_assert_eq!(reference.purpose(), purpose);
            prop_assert_eq!(Reference::parse(reference.as_str()), Ok(reference.clone()));
            let typed = format!(" {}-{} ", &reference.as_str()[..4], &reference.as_str()[4..]).to_lowercase();
            prop_assert_eq!(Reference::parse(&typed), Ok(reference));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,80}") {
            let _ = Reference::parse(&text);
        }
    }
}
