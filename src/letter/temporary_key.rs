//! The temporary key: the one-time secret of a letter, and its text form.

use std::fmt;
use std::str::FromStr;

use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

use super::base32::{self, Base32Error};

/// The number of characters that carry the secret: 26 × 5 = 130 bits.
const SECRET_CHARACTERS: usize = 26;
/// The number of all characters: those of the secret and two check characters.
const CHARACTERS: usize = 28;

/// A temporary key: 26 characters of Crockford base32 (130 bits of an HMAC) and two check
/// characters.
///
/// A letter shows it in seven groups of four. The secret of CMP's MAC protection is the 28
/// characters in upper case without hyphens ([`cmp_secret`](Self::cmp_secret)). It is wiped when
/// dropped, and `Debug` hides it.
#[derive(Clone)]
pub struct TemporaryKey([u8; CHARACTERS]);

impl TemporaryKey {
    /// Makes the temporary key from an HMAC-SHA-256 that the authority's token computed: its first
    /// 130 bits, most significant first.
    pub fn from_mac(mac: &[u8; 32]) -> Self {
        let word = base32::five_bit_groups(mac, SECRET_CHARACTERS);
        let checks = base32::check_characters(&word);
        let mut characters = [b'0'; CHARACTERS];
        for (place, value) in characters.iter_mut().zip(word.iter().chain(&checks)) {
            *place = base32::character(*value) as u8;
        }
        Self(characters)
    }

    /// Parses a temporary key as a person types it: lower case is accepted, O is read as 0, I and L
    /// as 1; spaces and hyphens are skipped.
    ///
    /// # Errors
    /// [`TemporaryKeyError`], if the length is not 28, a character is not in the alphabet, or the
    /// check characters are wrong. They detect any one or two wrong characters and any exchange of
    /// two. No error repeats the input.
    pub fn parse(text: &str) -> Result<Self, TemporaryKeyError> {
        let word = base32::read(text, CHARACTERS).map_err(|unreadable| match unreadable {
            Base32Error::Character(place) => TemporaryKeyError::Character { place },
            Base32Error::Length(found) => TemporaryKeyError::Length { found },
        })?;
        if !base32::are_check_characters_valid(&word) {
            return Err(TemporaryKeyError::Mistyped);
        }
        let mut characters = [b'0'; CHARACTERS];
        for (place, value) in characters.iter_mut().zip(word.iter()) {
            *place = base32::character(*value) as u8;
        }
        Ok(Self(characters))
    }

    /// The shared secret of CMP's MAC protection: the 28 characters, ASCII upper case, no hyphens.
    pub fn cmp_secret(&self) -> &[u8] {
        &self.0
    }

    /// The spellings in which people give the secret to other CMP clients, which use it as typed:
    /// [`cmp_secret`](Self::cmp_secret) first, then grouped as in the letter, then both in lower
    /// case.
    pub fn spellings(&self) -> [Zeroizing<String>; 4] {
        let upper = Zeroizing::new(self.0.iter().copied().map(char::from).collect::<String>());
        let grouped = self.grouped();
        let lower = Zeroizing::new(upper.to_ascii_lowercase());
        let lower_grouped = Zeroizing::new(grouped.to_ascii_lowercase());
        [upper, grouped, lower, lower_grouped]
    }

    /// The letter's form: seven groups of four, separated by hyphens.
    pub fn grouped(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(CHARACTERS + 6));
        for (at, character) in self.0.iter().enumerate() {
            if at > 0 && at % 4 == 0 {
                text.push('-');
            }
            text.push(char::from(*character));
        }
        text
    }
}

impl Drop for TemporaryKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for TemporaryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TemporaryKey([redacted])")
    }
}

impl PartialEq for TemporaryKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for TemporaryKey {}

impl FromStr for TemporaryKey {
    type Err = TemporaryKeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

/// The reason why a text is not a temporary key; reported before anything is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TemporaryKeyError {
    /// The length is wrong.
    #[error("it has {found} characters instead of 28 (seven groups of four)")]
    Length {
        /// The number of characters found; counting stops at 64.
        found: usize,
    },
    /// A character is not in the alphabet.
    #[error("character {place} is not valid in a temporary key; compare it with the letter")]
    Character {
        /// The position, counted from one without hyphens and spaces.
        place: usize,
    },
    /// The check characters are wrong.
    #[error("it is mistyped: its check characters are wrong; compare it with the letter")]
    Mistyped,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn example() -> TemporaryKey {
        TemporaryKey::from_mac(&std::array::from_fn(|i| u8::try_from(i * 37 % 251).unwrap()))
    }

    #[test]
    fn a_key_has_seven_groups_and_a_secret_without_hyphens() {
        let key = example();
        let text = key.grouped();
        assert_eq!(text.split('-').map(str::len).collect::<Vec<_>>(), [4; 7]);
        assert_eq!(text.replace('-', "").as_bytes(), key.cmp_secret());
        assert_eq!(key.cmp_secret().len(), 28);
    }

    #[test]
    fn each_spelling_of_a_key_is_read_and_distinct() {
        let key = example();
        let spellings = key.spellings();
        assert_eq!(spellings[0].as_bytes(), key.cmp_secret());
        assert_eq!(*spellings[1], *key.grouped());
        assert!(spellings.iter().all(|text| TemporaryKey::parse(text).as_ref() == Ok(&key)));
        let different: std::collections::HashSet<&str> = spellings.iter().map(|text| text.as_str()).collect();
        assert_eq!(different.len(), 4);
    }

    #[test]
    fn a_key_is_read_as_people_type_it() {
        let key = example();
        let text = key.grouped();
        for typed in [
            text.to_lowercase(),
            text.replace('-', ""),
            text.replace('-', " "),
            format!("  {}\t", text.replace('-', "\u{2011}")),
            text.replace('0', "o").replace('1', "l"),
            text.replace('0', "O").replace('1', "I"),
        ] {
            assert_eq!(TemporaryKey::parse(&typed).as_ref(), Ok(&key), "{typed:?}");
        }
    }

    #[test]
    fn every_single_wrong_character_is_caught() {
        let key = example();
        let right = key.cmp_secret().to_vec();
        for at in 0..right.len() {
            for other in b"0123456789ABCDEFGHJKMNPQRSTVWXYZ" {
                let mut typed = right.clone();
                typed[at] = *other;
                let typed = String::from_utf8(typed).unwrap();
                assert_eq!(TemporaryKey::parse(&typed).is_ok(), right[at] == *other, "place {at}");
            }
        }
    }

    #[test]
    fn wrong_lengths_and_wrong_characters_are_distinct_errors() {
        let text = example().grouped();
        assert_eq!(TemporaryKey::parse(""), Err(TemporaryKeyError::Length { found: 0 }));
        assert_eq!(TemporaryKey::parse(&text[..33]), Err(TemporaryKeyError::Length { found: 27 }));
        assert_eq!(TemporaryKey::parse(&format!("{}2", *text)), Err(TemporaryKeyError::Length { found: 29 }));
        assert_eq!(TemporaryKey::parse(&"2".repeat(100_000)), Err(TemporaryKeyError::Length { found: 64 }));
        assert_eq!(TemporaryKey::parse("ABCU"), Err(TemporaryKeyError::Character { place: 4 }));
        assert_eq!(TemporaryKey::parse("AB-é"), Err(TemporaryKeyError::Character { place: 3 }));
    }

    #[test]
    fn debug_shows_nothing() {
        assert_eq!(format!("{:?}", example()), "TemporaryKey([redacted])");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn comes_back_and_exchanges_are_caught(mac: [u8; 32], at in 0usize..27) {
            let key = TemporaryKey::from_mac(&mac);
            prop_assert_eq!(TemporaryKey::parse(&key.grouped()), Ok(key.clone()));
            let mut typed = key.cmp_secret().to_vec();
            typed.swap(at, at + 1);
            let changed = typed != key.cmp_secret();
            prop_assert_eq!(TemporaryKey::parse(std::str::from_utf8(&typed).unwrap()).is_err(), changed);
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,80}") {
            let _ = TemporaryKey::parse(&text);
        }
    }
}
