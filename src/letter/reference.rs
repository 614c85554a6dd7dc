//! The reference: what a temporary key is looked up by, and what it may be used for.

use std::fmt;
use std::str::FromStr;

use super::base32::{self, Unreadable};

/// What a temporary key is for. The purpose is the first letter of the reference, and the authority refuses the other
/// message without using anything up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purpose {
    /// New keys: an `ir` message.
    Enroll,
    /// A new signing key and the whole history of encryption keys: a `krr` message.
    Recover,
}

impl Purpose {
    /// The first letter of its references: `E` or `R`.
    pub fn prefix(self) -> char {
        match self {
            Self::Enroll => 'E',
            Self::Recover => 'R',
        }
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Enroll => "enroll",
            Self::Recover => "recover",
        })
    }
}

impl FromStr for Purpose {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "enroll" => Ok(Self::Enroll),
            "recover" => Ok(Self::Recover),
            _ => Err(ReferenceError::Purpose),
        }
    }
}

/// All characters of a reference: the purpose, eight that are random (40 bits), one that checks.
const CHARACTERS: usize = 10;

/// A reference: `E` or `R`, eight random characters of Crockford base32, one check character. It is no secret; it is
/// the senderKID of CMP's MAC protection, as these ten ASCII characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    purpose: Purpose,
    text: String,
}

impl Reference {
    /// The reference of these 40 random bits. That no other letter has it is for the store to see to.
    pub fn new(purpose: Purpose, random: [u8; 5]) -> Self {
        let mut word = vec![purpose_value(purpose)];
        word.extend(base32::five_bit_groups(&random, CHARACTERS - 2).iter());
        word.push(base32::one_check(&word));
        Self { purpose, text: word.into_iter().map(base32::character).collect() }
    }

    /// Reads a reference as a person types it: lower case is taken, O is 0, I and L are 1, spaces and hyphens do not
    /// count.
    ///
    /// # Errors
    /// [`ReferenceError`], naming what is wrong.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        let word = base32::read(text, CHARACTERS).map_err(|unreadable| match unreadable {
            Unreadable::Character(place) => ReferenceError::Character { place },
            Unreadable::Length(found) => ReferenceError::Length { found },
        })?;
        let purpose = [Purpose::Enroll, Purpose::Recover]
            .into_iter()
            .find(|purpose| word.first() == Some(&purpose_value(*purpose)))
            .ok_or(ReferenceError::Purpose)?;
        if !base32::one_check_holds(&word) {
            return Err(ReferenceError::Mistyped);
        }
        Ok(Self { purpose, text: word.iter().map(|value| base32::character(*value)).collect() })
    }

    /// What its temporary key is for.
    pub fn purpose(&self) -> Purpose {
        self.purpose
    }

    /// The ten characters; their bytes are CMP's senderKID.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// The letter E or R as its five bits.
fn purpose_value(purpose: Purpose) -> u8 {
    match purpose {
        Purpose::Enroll => 14,
        Purpose::Recover => 24,
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

/// Why a text is no reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// Too few or too many characters.
    #[error("it has {found} characters and should have 10")]
    Length {
        /// How many were found (the count stops at 64).
        found: usize,
    },
    /// A character that no reference contains.
    #[error("character {place} is not one a reference can contain; compare it with the letter")]
    Character {
        /// Counted from one, hyphens and spaces left out.
        place: usize,
    },
    /// It begins with neither E nor R.
    #[error("it begins neither with E (enroll) nor with R (recover)")]
    Purpose,
    /// The check character does not fit.
    #[error("it is mistyped: its check character does not fit; compare it with the letter")]
    Mistyped,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn begins_with_its_purpose() {
        let enroll = Reference::new(Purpose::Enroll, [1, 2, 3, 4, 5]);
        let recover = Reference::new(Purpose::Recover, [1, 2, 3, 4, 5]);
        assert!(enroll.as_str().starts_with(Purpose::Enroll.prefix()));
        assert!(recover.as_str().starts_with(Purpose::Recover.prefix()));
        assert_eq!(enroll.as_str().len(), 10);
    }

    #[test]
    fn a_purpose_changed_by_one_letter_is_caught() {
        let text = Reference::new(Purpose::Enroll, [9; 5]).to_string();
        assert_eq!(Reference::parse(&format!("R{}", &text[1..])), Err(ReferenceError::Mistyped));
        assert_eq!(Reference::parse(&format!("A{}", &text[1..])), Err(ReferenceError::Purpose));
    }

    #[test]
    fn wrong_lengths_and_characters_are_told_apart() {
        assert_eq!(Reference::parse(""), Err(ReferenceError::Length { found: 0 }));
        assert_eq!(Reference::parse("E12345678"), Err(ReferenceError::Length { found: 9 }));
        assert_eq!(Reference::parse("E12?"), Err(ReferenceError::Character { place: 4 }));
    }

    #[test]
    fn purposes_have_names() {
        for purpose in [Purpose::Enroll, Purpose::Recover] {
            assert_eq!(purpose.to_string().parse(), Ok(purpose));
        }
        assert_eq!("Enroll".parse::<Purpose>(), Err(ReferenceError::Purpose));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn comes_back_however_it_is_typed(random: [u8; 5], recover: bool) {
            let purpose = if recover { Purpose::Recover } else { Purpose::Enroll };
            let reference = Reference::new(purpose, random);
            prop_assert_eq!(reference.purpose(), purpose);
            prop_assert_eq!(Reference::parse(reference.as_str()), Ok(reference.clone()));
            let typed = format!(" {}-{} ", &reference.as_str()[..4], &reference.as_str()[4..]).to_lowercase();
            prop_assert_eq!(Reference::parse(&typed), Ok(reference));
        }

        #[test]
        fn never_panics(text in ".{0,80}") {
            let _ = Reference::parse(&text);
        }
    }
}
