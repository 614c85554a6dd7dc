//! Removes RSA-OAEP padding (RFC 8017 §7.1.2, step 3) in software, for tokens that support fewer
//! hashes than received mail uses. The private-key operation stays on the token.
//!
//! Every bad padding gets the same answer after the same work: Manger's attack needs a difference
//! between them.

use sha1::Sha1;
use sha2::{Digest, Sha256, Sha384, Sha512};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};
use zeroize::Zeroizing;

use super::OaepHash;

/// The parameters of a padding.
#[derive(Clone, Copy, Debug)]
pub(super) struct OaepPadding<'a> {
    /// the hash of the label
    pub(super) hash: OaepHash,
    /// the hash of MGF1
    pub(super) mask_hash: OaepHash,
    pub(super) label: &'a [u8],
}

impl OaepPadding<'_> {
    /// Removes the padding from a block of `modulus_bytes`; `None` if the padding is invalid.
    pub(super) fn remove(self, block: &[u8], modulus_bytes: usize) -> Option<Zeroizing<Vec<u8>>> {
        let unmask = match self.mask_hash {
            OaepHash::Sha1 => unmask::<Sha1>,
            OaepHash::Sha256 => unmask::<Sha256>,
            OaepHash::Sha384 => unmask::<Sha384>,
            OaepHash::Sha512 => unmask::<Sha512>,
        };
        match self.hash {
            OaepHash::Sha1 => remove::<Sha1>(unmask, self.label, block, modulus_bytes),
            OaepHash::Sha256 => remove::<Sha256>(unmask, self.label, block, modulus_bytes),
            OaepHash::Sha384 => remove::<Sha384>(unmask, self.label, block, modulus_bytes),
            OaepHash::Sha512 => remove::<Sha512>(unmask, self.label, block, modulus_bytes),
        }
    }
}

fn remove<D: Digest>(
    unmask: fn(&[u8], &[u8]) -> Zeroizing<Vec<u8>>,
    label: &[u8],
    block: &[u8],
    modulus_bytes: usize,
) -> Option<Zeroizing<Vec<u8>>> {
    // These lengths are public. Some modules omit leading zeros.
    let missing = modulus_bytes.checked_sub(block.len())?;
    let mut whole = Zeroizing::new(vec![0; missing]);
    whole.extend_from_slice(block);
    let digest_length = <D as Digest>::output_size();
    let (first, rest) = whole.split_first()?;
    let (masked_seed, masked_data) = rest.split_at_checked(digest_length)?;
    if masked_data.len() <= digest_length {
        return None;
    }
    let seed = unmask(masked_seed, masked_data);
    let data = unmask(masked_data, &seed);
    let (label_hash, padded) = data.split_at_checked(digest_length)?;

    let mut good = first.ct_eq(&0) & label_hash.ct_eq(&D::digest(label));
    // Zeros, a one, the message: find its start in constant time.
    let mut looking = Choice::from(1);
    let mut begin = 0_u32;
    for (position, byte) in (1_u32..).zip(padded) {
        let is_one = looking & byte.ct_eq(&1);
        begin.conditional_assign(&position, is_one);
        good &= !looking | byte.ct_eq(&0) | is_one;
        looking &= !is_one;
    }
    good &= !looking;
    let message = padded.get(usize::try_from(begin).ok()?..)?;
    bool::from(good).then(|| Zeroizing::new(message.to_vec()))
}

/// XOR with MGF1 (RFC 8017 B.2.1) of `seed`.
fn unmask<D: Digest>(masked: &[u8], seed: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut clear = Zeroizing::new(masked.to_vec());
    for (counter, chunk) in (0_u32..).zip(clear.chunks_mut(<D as Digest>::output_size())) {
        let mask = D::new().chain_update(seed).chain_update(counter.to_be_bytes()).finalize();
        for (byte, mask) in chunk.iter_mut().zip(mask) {
            *byte ^= mask;
        }
    }
    clear
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remove_oaep(hash: OaepHash, block: &[u8], modulus_bytes: usize) -> Option<Zeroizing<Vec<u8>>> {
        OaepPadding { hash, mask_hash: hash, label: &[] }.remove(block, modulus_bytes)
    }

    fn pad(message: &[u8], modulus_bytes: usize) -> Vec<u8> {
        pad_with(unmask::<Sha256>, b"", message, modulus_bytes)
    }

    /// RFC 8017 §7.1.1, steps 2a to 2i.
    fn pad_with(
        unmask: fn(&[u8], &[u8]) -> Zeroizing<Vec<u8>>,
        label: &[u8],
        message: &[u8],
        modulus_bytes: usize,
    ) -> Vec<u8> {
        let mut data = Sha256::digest(label).to_vec();
        data.resize(modulus_bytes - message.len() - 2 - 32, 0);
        data.push(1);
        data.extend_from_slice(message);
        let seed = [0x5a; 32];
        let masked_data = unmask(&data, &seed);
        let masked_seed = unmask(&seed, &masked_data);
        [&[0][..], &masked_seed, &masked_data].concat()
    }

    #[test]
    fn padding_round_trips() {
        for message in [&b""[..], b"\x01", b"\x00\x01secret", &[7; 190]] {
            let block = pad(message, 256);
            assert_eq!(block.len(), 256);
            assert_eq!(*remove_oaep(OaepHash::Sha256, &block, 256).unwrap(), message);
            // Some modules omit the leading zero.
            assert_eq!(*remove_oaep(OaepHash::Sha256, &block[1..], 256).unwrap(), message);
        }
    }

    #[test]
    fn padding_with_other_parameters_is_refused() {
        let block = pad_with(unmask::<Sha1>, b"label", b"secret", 256);
        let padding = OaepPadding { hash: OaepHash::Sha256, mask_hash: OaepHash::Sha1, label: b"label" };
        assert_eq!(*padding.remove(&block, 256).unwrap(), b"secret");
        for other in [
            OaepPadding { label: b"", ..padding },
            OaepPadding { label: b"Label", ..padding },
            OaepPadding { mask_hash: OaepHash::Sha256, ..padding },
            OaepPadding { hash: OaepHash::Sha1, ..padding },
        ] {
            assert!(other.remove(&block, 256).is_none(), "{other:?}");
        }
    }

    #[test]
    fn every_changed_byte_of_the_padding_is_refused() {
        let block = pad(b"", 256);
        for position in 0..block.len() {
            let mut changed = block.clone();
            changed[position] ^= 0x40;
            assert!(remove_oaep(OaepHash::Sha256, &changed, 256).is_none(), "byte {position}");
        }
    }

    #[test]
    fn odd_lengths_and_other_hashes_are_refused() {
        let block = pad(b"secret", 256);
        assert!(remove_oaep(OaepHash::Sha384, &block, 256).is_none());
        assert!(remove_oaep(OaepHash::Sha256, &block, 255).is_none());
        assert!(remove_oaep(OaepHash::Sha256, &block[..60], 60).is_none());
        assert!(remove_oaep(OaepHash::Sha256, &[], 0).is_none());
        assert!(remove_oaep(OaepHash::Sha256, &[0; 256], 256).is_none());
    }
}
