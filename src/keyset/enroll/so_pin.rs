//! The SO PIN of a token created for a keyset.
//!
//! Until the keyset is enrolled, the SO PIN is derived from the temporary key: after a crash, only
//! the same letter can finish or empty the token. Then it is replaced by random bits that are not
//! stored, so that a letter found later is useless.

use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::letter::Letter;
use crate::token::{Pin, TokenError};

use super::super::KeysetError;

/// 16 bytes (128 bits) make 32 hexadecimal characters, as many as the tokens with the lowest limit
/// accept.
const BYTES: usize = 16;

/// Derives the SO PIN from the temporary key with HKDF-SHA-256 (RFC 5869), bound to this reference;
/// 32 hexadecimal characters. No person types it: wrong tries count as unattended.
pub(super) fn of_letter(letter: &Letter) -> Result<Pin, KeysetError> {
    let info = [b"tokenkeep SO PIN ".as_slice(), letter.reference.as_str().as_bytes()].concat();
    let mut bytes = Zeroizing::new([0; BYTES]);
    Hkdf::<Sha256>::new(None, letter.temporary_key.cmp_secret())
        .expand(&info, bytes.as_mut_slice())
        .map_err(|error| failed(&error.to_string()))?;
    Ok(pin(&bytes)?.unattended())
}

/// 128 random bits, not stored anywhere.
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
