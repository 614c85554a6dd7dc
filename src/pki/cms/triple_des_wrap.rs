//! Unwraps a content key that is wrapped with Triple DES (RFC 3217 §3.2). It never wraps one.

use des::TdesEde3;
use des::cipher::block_padding::NoPadding;
use des::cipher::{BlockModeDecrypt, KeyIvInit};
use sha1::{Digest, Sha1};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// The initialization vector of the outer encryption.
const OUTER: [u8; 8] = [0x4a, 0xdd, 0xa2, 0x2c, 0x79, 0xe8, 0x21, 0x05];

/// The content key of 24 octets; `None` if the checksum is wrong.
pub(super) fn unwrap(wrapping_key: &[u8], wrapped: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    if wrapped.len() != 40 {
        return None;
    }
    let mut inner = decrypt(wrapping_key, &OUTER, wrapped)?;
    inner.reverse();
    let (initialization, ciphertext) = inner.split_at_checked(8)?;
    let mut key = decrypt(wrapping_key, initialization, ciphertext)?;
    let (content_key, checksum) = key.split_at_checked(24)?;
    let right = Sha1::digest(content_key).get(..8)?.ct_eq(checksum);
    key.truncate(24);
    bool::from(right).then_some(key)
}

fn decrypt(key: &[u8], initialization: &[u8], ciphertext: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let decryptor = cbc::Decryptor::<TdesEde3>::new_from_slices(key, initialization).ok()?;
    let mut buffer = Zeroizing::new(ciphertext.to_vec());
    decryptor.decrypt_padded::<NoPadding>(&mut buffer).ok()?;
    Some(buffer)
}
