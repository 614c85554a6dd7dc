//! Crockford base32 with check characters that detect copying errors.
//!
//! A text of `n` characters is a word over GF(32), the field of the polynomial x⁵ + x² + 1. Two
//! check characters give the code distance three: it detects any one or two wrong characters, and
//! therefore any exchange of two characters, adjacent or not. One check character detects any one
//! wrong character and any exchange of two adjacent ones. The tests try every error pattern;
//! because the code is linear, this covers every word.

use zeroize::Zeroizing;

/// Crockford's alphabet: no I, L, O, U.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// The most characters that [`read`] decodes. It bounds the memory that an oversized input takes.
const MAX_CHARACTERS: usize = 64;

/// The reason why [`read`] refuses a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Base32Error {
    /// The character at this position is not in the alphabet (counted from one, separators
    /// skipped).
    Character(usize),
    /// The text has this many characters. Counting stops at [`MAX_CHARACTERS`].
    Length(usize),
}

/// The character for a five-bit value; higher bits are ignored.
pub(super) fn character(value: u8) -> char {
    ALPHABET.get(usize::from(value & 31)).map_or('0', |c| char::from(*c))
}

/// Decodes a text of exactly `length` characters into five-bit values. Lower case is accepted, O is
/// read as 0, I and L as 1. Spaces and all kinds of hyphen and dash are skipped, because mail
/// programs change them.
pub(super) fn read(text: &str, length: usize) -> Result<Zeroizing<Vec<u8>>, Base32Error> {
    let mut values = Zeroizing::new(Vec::with_capacity(MAX_CHARACTERS));
    for c in text.chars().filter(|c| !is_separator(*c)) {
        if values.len() >= MAX_CHARACTERS {
            break;
        }
        let c = match c.to_ascii_uppercase() {
            'O' => '0',
            'I' | 'L' => '1',
            other => other,
        };
        let value = ALPHABET.iter().position(|a| char::from(*a) == c).and_then(|at| u8::try_from(at).ok());
        let place = values.len() + 1;
        values.push(value.ok_or(Base32Error::Character(place))?);
    }
    if values.len() == length { Ok(values) } else { Err(Base32Error::Length(values.len())) }
}

fn is_separator(c: char) -> bool {
    c.is_whitespace() || matches!(c, '-' | '\u{ad}' | '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{200b}' | '\u{feff}')
}

/// The first `count` five-bit groups of `bytes`, most significant bit first; missing bits are zero.
pub(super) fn five_bit_groups(bytes: &[u8], count: usize) -> Zeroizing<Vec<u8>> {
    let bit = |at: usize| bytes.get(at / 8).map_or(0, |byte| (byte >> (7 - at % 8)) & 1);
    Zeroizing::new((0..count).map(|group| (0..5).fold(0, |value, i| (value << 1) | bit(group * 5 + i))).collect())
}

/// Computes the check character of a word.
pub(super) fn check_character(word: &[u8]) -> u8 {
    weighted_sum(word, 1)
}

/// Computes the two check characters of a word.
pub(super) fn check_characters(word: &[u8]) -> [u8; 2] {
    // c + d = plain and αc + d = weighted, so (α + 1)c = plain + weighted.
    let plain = plain_sum(word);
    let weighted = weighted_sum(word, 2);
    let c = times(plain ^ weighted, inverse(ALPHA ^ 1));
    [c, plain ^ c]
}

/// Whether a word that ends in one check character is valid.
pub(super) fn is_check_character_valid(word: &[u8]) -> bool {
    weighted_sum(word, 0) == 0
}

/// Whether a word that ends in two check characters is valid.
pub(super) fn are_check_characters_valid(word: &[u8]) -> bool {
    (plain_sum(word) | weighted_sum(word, 0)) == 0
}

/// The element x, which generates GF(32)'s multiplicative group. Its 31 powers differ, so a word
/// may have up to 31 characters.
const ALPHA: u8 = 2;

fn plain_sum(word: &[u8]) -> u8 {
    word.iter().fold(0, |sum, value| sum ^ value)
}

/// Σ value·α^(distance from the end), as if `more` zeros followed the word.
fn weighted_sum(word: &[u8], more: usize) -> u8 {
    let sum = word.iter().fold(0, |sum, value| times(sum, ALPHA) ^ value);
    (0..more).fold(sum, |sum, _| times(sum, ALPHA))
}

/// Multiplies in GF(32). It does not branch on its operands, because the word is secret.
fn times(a: u8, b: u8) -> u8 {
    let mut product = 0;
    let mut shifted = a & 31;
    for bit in 0..5 {
        product ^= shifted & 0u8.wrapping_sub((b >> bit) & 1);
        let carry = (shifted >> 4) & 1;
        shifted = ((shifted << 1) & 31) ^ (0b00101 & 0u8.wrapping_sub(carry));
    }
    product
}

/// a⁻¹ = a³⁰, because a³¹ = 1 for every nonzero a.
fn inverse(a: u8) -> u8 {
    (0..30).fold(1, |power, _| times(power, a))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_element_has_an_inverse() {
        let powers: Vec<u8> =
            (0..31).scan(1, |power, _| Some(std::mem::replace(power, times(*power, ALPHA)))).collect();
        assert_eq!(powers.last().map(|last| times(*last, ALPHA)), Some(1), "α has order 31");
        for (i, a) in powers.iter().enumerate() {
            assert!(!powers[..i].contains(a), "power {i} is repeated");
            assert_eq!(times(*a, inverse(*a)), 1);
        }
    }

    /// The code is linear: an error is undetected in one word exactly if it is undetected in the
    /// zero word.
    #[test]
    fn two_checks_catch_every_one_and_two_errors() {
        let mut word = [0u8; 28];
        assert!(are_check_characters_valid(&word));
        for i in 0..28 {
            for e in 1..32 {
                word[i] = e;
                assert!(!are_check_characters_valid(&word), "one error at {i}");
                for j in i + 1..28 {
                    for f in 1..32 {
                        word[j] = f;
                        assert!(!are_check_characters_valid(&word), "errors at {i} and {j}");
                    }
                    word[j] = 0;
                }
            }
            word[i] = 0;
        }
    }

    #[test]
    fn one_check_catches_every_error_and_every_adjacent_exchange() {
        let mut word = [0u8; 10];
        for i in 0..10 {
            for e in 1..32 {
                word[i] = e;
                assert!(!is_check_character_valid(&word), "one error at {i}");
                if i + 1 < 10 {
                    // Exchanging values a and b adds the same error, a + b, at both positions.
                    word[i + 1] = e;
                    assert!(!is_check_character_valid(&word), "exchange at {i}");
                    word[i + 1] = 0;
                }
            }
            word[i] = 0;
        }
    }

    #[test]
    fn computed_check_characters_are_valid() {
        for seed in 0u8..=255 {
            let word = five_bit_groups(&[seed, seed.wrapping_mul(77), !seed, 0x5a, seed ^ 0x33], 8);
            let mut once = word.to_vec();
            once.push(check_character(&word));
            assert!(is_check_character_valid(&once));
            let mut twice = word.to_vec();
            twice.extend(check_characters(&word));
            assert!(are_check_characters_valid(&twice));
        }
    }

    #[test]
    fn groups_are_taken_from_the_top() {
        assert_eq!(*five_bit_groups(&[0b1111_1000, 0b0100_0001], 3), [0b11111, 0b00001, 0b00000]);
        assert_eq!(*five_bit_groups(&[0xff], 2), [31, 0b11100], "missing bits are zero");
    }
}
