//! The SO PIN of a token that is made for a keyset.
//!
//! Until the keyset stands it is derived from the temporary key, so that the same letter, and nothing else, finishes or
//! empties the token after a kill. Then it becomes random and is forgotten: who finds the letter later can do nothing.

use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::letter::Letter;
use crate::token::{Pin, TokenError};

use super::super::KeysetError;

/// 32 characters: as many as the smallest tokens take, and 128 bits.
const BYTES: usize = 16;

/// HKDF-SHA-256 (RFC 5869) of the temporary key, for this reference alone; 32 hexadecimal characters.
pub(super) fn of_letter(letter: &Letter) -> Result<Pin, KeysetError> {
    let info = [b"tokenkeep SO PIN ".as_slice(), letter.reference.as_str().as_bytes()].concat();
    let mut bytes = Zeroizing::new([0; BYTES]);
    Hkdf::<Sha256>::new(None, letter.temporary_key.cmp_secret())
        .expand(&info, bytes.as_mut_slice())
        .map_err(|error| failed(&error.to_string()))?;
    pin(&bytes)
}

/// 128 random bits, which nobody will know.
pub(super) fn random() -> Result<Pin, KeysetError> {
    let mut bytes = Zeroizing::new([0; BYTES]);
    getrandom::fill(bytes.as_mut_slice()).map_err(|error| TokenError::NoRandom(error.to_string()))?;
    pin(&bytes)
}

fn pin(bytes: &[u8; BYTES]) -> Result<Pin, KeysetError> {
    Pin::new(hex::encode(bytes)).map_err(|error| failed(&error.to_string()))
}

fn failed(reason: &str) -> KeysetError {
    KeysetError::Message { operation: "derive the new token's SO PIN", reason: reason.to_owned() }
}
