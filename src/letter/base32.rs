//! Crockford base32 with check characters that catch what people do to characters when they copy them.
//!
//! A text of `n` characters is a word over GF(32) (the field of the polynomial x⁵ + x² + 1). Two check characters make
//! it a code of distance three: any one or two wrong characters, and so any two characters exchanged, adjacent or not,
//! are noticed. One check character catches any one wrong character and any two adjacent ones exchanged. The tests
//! prove both by trying all of them: the code is linear, so trying the errors is trying every word.

use zeroize::Zeroizing;

/// Crockford's alphabet: no I, L, O, U.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// Longest run of characters [`read`] takes before it gives up, so that a pasted novel is not kept in memory.
const LONGEST: usize = 64;

/// Why a text is no word of this alphabet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// The character at this place (counted from one, separators left out) is not in the alphabet.
    Character(usize),
    /// It has this many characters (the count stops a little above the longest word there is).
    Length(usize),
}

/// The character of a five-bit value.
pub(super) fn character(value: u8) -> char {
    ALPHABET.get(usize::from(value & 31)).map_or('0', |c| char::from(*c))
}

/// The five-bit values of a text of exactly `length` characters: lower case is taken, O is 0, I and L are 1; spaces
/// and any kind of hyphen or dash (mail programs change them) do not count.
pub(super) fn read(text: &str, length: usize) -> Result<Zeroizing<Vec<u8>>, Unreadable> {
    let mut values = Zeroizing::new(Vec::with_capacity(LONGEST));
    for c in text.chars().filter(|c| !is_separator(*c)) {
        if values.len() >= LONGEST {
            break;
        }
        let c = match c.to_ascii_uppercase() {
            'O' => '0',
            'I' | 'L' => '1',
            other => other,
        };
        let value = ALPHABET.iter().position(|a| char::from(*a) == c).and_then(|at| u8::try_from(at).ok());
        let place = values.len() + 1;
        values.push(value.ok_or(Unreadable::Character(place))?);
    }
    if values.len() == length { Ok(values) } else { Err(Unreadable::Length(values.len())) }
}

fn is_separator(c: char) -> bool {
    c.is_whitespace() || matches!(c, '-' | '\u{ad}' | '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{200b}' | '\u{feff}')
}

/// The first `count` five-bit groups of `bytes`, most significant bit first; missing bits are zero.
pub(super) fn five_bit_groups(bytes: &[u8], count: usize) -> Zeroizing<Vec<u8>> {
    let bit = |at: usize| bytes.get(at / 8).map_or(0, |byte| (byte >> (7 - at % 8)) & 1);
    Zeroizing::new((0..count).map(|group| (0..5).fold(0, |value, i| (value << 1) | bit(group * 5 + i))).collect())
}

/// The one check character of a word.
pub(super) fn one_check(word: &[u8]) -> u8 {
    weighted_sum(word, 1)
}

/// The two check characters of a word.
pub(super) fn two_checks(word: &[u8]) -> [u8; 2] {
    // c + d = plain and αc + d = weighted, so (α + 1)c = plain + weighted.
    let plain = plain_sum(word);
    let weighted = weighted_sum(word, 2);
    let c = times(plain ^ weighted, inverse(ALPHA ^ 1));
    [c, plain ^ c]
}

/// Whether a word that ends in one check character is as it was made.
pub(super) fn one_check_holds(word: &[u8]) -> bool {
    weighted_sum(word, 0) == 0
}

/// Whether a word that ends in two check characters is as it was made.
pub(super) fn two_checks_hold(word: &[u8]) -> bool {
    (plain_sum(word) | weighted_sum(word, 0)) == 0
}

/// The generator of GF(32)'s multiplicative group: the element x. Its 31 powers differ, so words may be 31 long.
const ALPHA: u8 = 2;

fn plain_sum(word: &[u8]) -> u8 {
    word.iter().fold(0, |sum, value| sum ^ value)
}

/// Σ value·α^(distance from the end), as if `more` zeros followed.
fn weighted_sum(word: &[u8], more: usize) -> u8 {
    let sum = word.iter().fold(0, |sum, value| times(sum, ALPHA) ^ value);
    (0..more).fold(sum, |sum, _| times(sum, ALPHA))
}

/// Product in GF(32), without a branch on its operands: the word is a secret.
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

/// a⁻¹ = a³⁰, since a³¹ = 1 for every a but zero.
fn inverse(a: u8) -> u8 {
    (0..30).fold(1, |power, _| times(power, a))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_field_is_a_field() {
        let powers: Vec<u8> =
            (0..31).scan(1, |power, _| Some(std::mem::replace(power, times(*power, ALPHA)))).collect();
        assert_eq!(powers.last().map(|last| times(*last, ALPHA)), Some(1), "α has order 31");
        for (i, a) in powers.iter().enumerate() {
            assert!(!powers[..i].contains(a), "power {i} comes twice");
            assert_eq!(times(*a, inverse(*a)), 1);
        }
    }

    /// The code is linear: an error goes unnoticed in one word exactly if it does in the word of zeros.
    #[test]
    fn two_checks_catch_every_one_and_two_errors() {
        let mut word = [0u8; 28];
        assert!(two_checks_hold(&word));
        for i in 0..28 {
            for e in 1..32 {
                word[i] = e;
                assert!(!two_checks_hold(&word), "one error at {i}");
                for j in i + 1..28 {
                    for f in 1..32 {
                        word[j] = f;
                        assert!(!two_checks_hold(&word), "errors at {i} and {j}");
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
                assert!(!one_check_holds(&word), "one error at {i}");
                if i + 1 < 10 {
                    // Exchanging values a and b adds the same error, a + b, to both places.
                    word[i + 1] = e;
                    assert!(!one_check_holds(&word), "exchange at {i}");
                    word[i + 1] = 0;
                }
            }
            word[i] = 0;
        }
    }

    #[test]
    fn checks_hold_for_what_they_were_made_for() {
        for seed in 0u8..=255 {
            let word = five_bit_groups(&[seed, seed.wrapping_mul(77), !seed, 0x5a, seed ^ 0x33], 8);
            let mut once = word.to_vec();
            once.push(one_check(&word));
            assert!(one_check_holds(&once));
            let mut twice = word.to_vec();
            twice.extend(two_checks(&word));
            assert!(two_checks_hold(&twice));
        }
    }

    #[test]
    fn groups_are_taken_from_the_top() {
        assert_eq!(*five_bit_groups(&[0b1111_1000, 0b0100_0001], 3), [0b11111, 0b00001, 0b00000]);
        assert_eq!(*five_bit_groups(&[0xff], 2), [31, 0b11100], "missing bits are zero");
    }
}
