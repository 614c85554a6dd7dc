//! Decryption of a content of any length, in pieces and in two passes. The first pass verifies the
//! ciphertext, and only then the second writes the plaintext.
//!
//! The modes are built on the block ciphers here: `aes-gcm` decrypts only in memory, and the
//! generic code of `cbc` and `ctr` is fifty times slower without optimization.

use aes::cipher::block_padding::{Padding, Pkcs7};
use aes::cipher::consts::U16;
use aes::cipher::{Array, BlockCipherDecrypt, BlockCipherEncrypt, KeyInit};
use aes::{Aes128, Aes192, Aes256};
use des::TdesEde3;
use ghash::GHash;
use ghash::universal_hash::UniversalHash;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::ContentCipher;

/// One of the two passes over the ciphertext.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::smime) enum DecryptionPass {
    /// The pieces need not be decrypted.
    Verify,
    Write,
}

/// The state of a decryption. It takes all pieces of the ciphertext in their order. Their lengths
/// are multiples of 16 octets, except for the last.
pub(in crate::smime) trait ContentDecryptor {
    /// Decrypts a piece in place, in the pass that writes. Whether it is plaintext, is not known
    /// before [`Self::finish`].
    fn decrypt(&mut self, piece: &mut [u8]) -> Option<()>;

    /// Verifies the tag or the padding after the last piece, and returns how many octets of that
    /// piece are plaintext.
    fn finish(&mut self, last_piece: &[u8]) -> Option<usize>;
}

/// The data beside the ciphertext that AES-GCM authenticates with, empty for other ciphers.
#[derive(Clone, Default)]
pub(in crate::smime) struct Authentication {
    pub(in crate::smime) tag: Vec<u8>,
    /// The authenticated attributes in the form that is authenticated (RFC 5083 §2.2).
    pub(in crate::smime) attributes: Vec<u8>,
}

impl ContentCipher {
    /// Starts a pass. The key must have the cipher's length, and the tag the announced one.
    pub(in crate::smime) fn decryptor(
        &self,
        key: &[u8],
        authentication: &Authentication,
        pass: DecryptionPass,
    ) -> Option<Box<dyn ContentDecryptor>> {
        match self {
            Self::Cbc { key_length, initialization } => match key_length {
                16 => cbc::<Aes128>(key, initialization, pass),
                24 => cbc::<Aes192>(key, initialization, pass),
                _ => cbc::<Aes256>(key, initialization, pass),
            },
            Self::TripleDes { initialization } => cbc::<TdesEde3>(key, initialization, pass),
            Self::Gcm { tag_length, .. } if authentication.tag.len() != usize::from(*tag_length) => None,
            Self::Gcm { key_length, nonce, .. } => match key_length {
                16 => gcm::<Aes128>(key, nonce, authentication, pass),
                24 => gcm::<Aes192>(key, nonce, authentication, pass),
                _ => gcm::<Aes256>(key, nonce, authentication, pass),
            },
        }
    }
}

/// CBC (NIST SP 800-38A) with the padding of RFC 5652 §6.3.
struct CbcDecryptor<C> {
    cipher: C,
    pass: DecryptionPass,
    /// The ciphertext block before the next one; at first the initialization vector.
    previous: Vec<u8>,
}

fn cbc<C>(key: &[u8], initialization: &[u8], pass: DecryptionPass) -> Option<Box<dyn ContentDecryptor>>
where
    C: BlockCipherDecrypt + KeyInit + 'static,
{
    let cipher = C::new_from_slice(key).ok()?;
    Some(Box::new(CbcDecryptor { cipher, pass, previous: initialization.to_vec() }))
}

impl<C: BlockCipherDecrypt> ContentDecryptor for CbcDecryptor<C> {
    fn decrypt(&mut self, piece: &mut [u8]) -> Option<()> {
        let block = self.previous.len();
        if !piece.len().is_multiple_of(block) {
            return None;
        }
        // The padding is in the last block, and the first pass needs nothing else.
        let skipped = match self.pass {
            DecryptionPass::Verify => piece.len().saturating_sub(block),
            DecryptionPass::Write => 0,
        };
        let (skipped, rest) = piece.split_at_mut_checked(skipped)?;
        let before = if skipped.is_empty() { &self.previous } else { last_octets(skipped, block)? };
        let ciphertext = [before, &*rest].concat();
        self.previous = last_octets(&ciphertext, block)?.to_vec();
        self.cipher.decrypt_blocks(Array::slice_as_chunks_mut(rest).0);
        add(rest, &ciphertext);
        Some(())
    }

    fn finish(&mut self, last_piece: &[u8]) -> Option<usize> {
        let last = last_octets(last_piece, self.previous.len())?;
        let plaintext = Pkcs7::raw_unpad(last).ok()?;
        Some(last_piece.len() - last.len() + plaintext.len())
    }
}

fn last_octets(octets: &[u8], count: usize) -> Option<&[u8]> {
    octets.get(octets.len().checked_sub(count)?..)
}

/// Adds octets to others (XOR), 16 at a time.
fn add(octets: &mut [u8], other: &[u8]) {
    let ((chunks, rest), (other, other_rest)) = (octets.as_chunks_mut(), other.as_chunks());
    // After the last whole chunk of `octets`, `other` may go on.
    let after = other.get(chunks.len()).map_or(other_rest, |chunk: &[u8; 16]| chunk.as_slice());
    for (chunk, other) in chunks.iter_mut().zip(other) {
        *chunk = (u128::from_ne_bytes(*chunk) ^ u128::from_ne_bytes(*other)).to_ne_bytes();
    }
    for (octet, other) in rest.iter_mut().zip(after) {
        *octet ^= other;
    }
}

/// GCM (NIST SP 800-38D) with a nonce of 96 bits.
struct GcmDecryptor<C> {
    hash: GHash,
    /// `None` in the pass that verifies.
    counter: Option<CounterMode<C>>,
    /// The encrypted first counter block, which encrypts the hash.
    mask: Zeroizing<[u8; 16]>,
    attributes_length: u64,
    length: u64,
    tag: Vec<u8>,
}

fn gcm<C>(
    key: &[u8],
    nonce: &[u8; 12],
    Authentication { tag, attributes }: &Authentication,
    pass: DecryptionPass,
) -> Option<Box<dyn ContentDecryptor>>
where
    C: BlockCipherEncrypt<BlockSize = U16> + KeyInit + 'static,
{
    let cipher = C::new_from_slice(key).ok()?;
    let mut hash_key = Zeroizing::new([0; 16]);
    cipher.encrypt_block(Array::cast_from_core_mut(&mut hash_key));
    let mut hash = GHash::new(Array::cast_from_core(&hash_key));
    hash.update_padded(attributes);
    let mut counter = CounterMode { cipher, nonce: *nonce, next: 1 };
    let mut mask = Zeroizing::new([0; 16]);
    counter.decrypt(mask.as_mut())?;
    Some(Box::new(GcmDecryptor {
        hash,
        counter: (pass == DecryptionPass::Write).then_some(counter),
        mask,
        attributes_length: attributes.len() as u64,
        length: 0,
        tag: tag.clone(),
    }))
}

/// The counter mode of GCM: the last four octets of a block count.
struct CounterMode<C> {
    cipher: C,
    nonce: [u8; 12],
    next: u64,
}

impl<C: BlockCipherEncrypt<BlockSize = U16>> CounterMode<C> {
    fn decrypt(&mut self, piece: &mut [u8]) -> Option<()> {
        let mut stream = Zeroizing::new(vec![0; piece.len().next_multiple_of(16)]);
        for block in stream.as_chunks_mut::<16>().0 {
            // A counter that began again would repeat the stream.
            let counter = u32::try_from(self.next).ok()?;
            self.next += 1;
            let (nonce, count) = block.split_first_chunk_mut()?;
            *nonce = self.nonce;
            count.copy_from_slice(&counter.to_be_bytes());
        }
        self.cipher.encrypt_blocks(Array::slice_as_chunks_mut(&mut stream).0);
        add(piece, &stream);
        Some(())
    }
}

impl<C: BlockCipherEncrypt<BlockSize = U16>> ContentDecryptor for GcmDecryptor<C> {
    fn decrypt(&mut self, piece: &mut [u8]) -> Option<()> {
        self.hash.update_padded(piece);
        self.length += piece.len() as u64;
        match &mut self.counter {
            Some(counter) => counter.decrypt(piece),
            None => Some(()),
        }
    }

    fn finish(&mut self, last_piece: &[u8]) -> Option<usize> {
        let lengths = [self.attributes_length, self.length].map(|octets| (octets * 8).to_be_bytes());
        self.hash.update_padded(lengths.as_flattened());
        let hash = self.hash.clone().finalize();
        let tag: Vec<u8> = hash.iter().zip(self.mask.iter()).map(|(hash, mask)| hash ^ mask).collect();
        let is_right = tag.get(..self.tag.len())?.ct_eq(&self.tag);
        bool::from(is_right).then_some(last_piece.len())
    }
}

#[cfg(test)]
mod tests {
    use aes::cipher::{BlockModeEncrypt, KeyIvInit};

    use super::*;

    const PASSES: [DecryptionPass; 2] = [DecryptionPass::Verify, DecryptionPass::Write];

    /// Decrypts in pieces: the plaintext, or only its length.
    fn decrypted(cipher: &ContentCipher, ciphertext: &[u8], piece: usize, pass: DecryptionPass) -> Option<Vec<u8>> {
        let mut decryptor = cipher.decryptor(&[7; 24], &Authentication::default(), pass)?;
        let mut plaintext = ciphertext.to_vec();
        let mut last = 0;
        for piece in plaintext.chunks_mut(piece) {
            decryptor.decrypt(piece)?;
            last = piece.len();
        }
        let begin = plaintext.len() - last;
        let length = decryptor.finish(&plaintext[begin..])?;
        plaintext.truncate(begin + length);
        Some(plaintext)
    }

    #[test]
    fn cbc_is_decrypted_in_any_pieces() {
        let content: Vec<u8> = (0..100).collect();
        for length in 0..content.len() {
            let content = &content[..length];
            let aes = cbc::Encryptor::<Aes192>::new_from_slices(&[7; 24], &[9; 16]).unwrap();
            let des = cbc::Encryptor::<TdesEde3>::new_from_slices(&[7; 24], &[9; 8]).unwrap();
            let aes_cipher = ContentCipher::Cbc { key_length: 24, initialization: [9; 16] };
            let des_cipher = ContentCipher::TripleDes { initialization: [9; 8] };
            for (cipher, ciphertext) in [
                (aes_cipher, aes.encrypt_padded_vec::<Pkcs7>(content)),
                (des_cipher, des.encrypt_padded_vec::<Pkcs7>(content)),
            ] {
                for piece in [16, 32, 48, 1024] {
                    assert_eq!(decrypted(&cipher, &ciphertext, piece, DecryptionPass::Write).unwrap(), content);
                    let verified = decrypted(&cipher, &ciphertext, piece, DecryptionPass::Verify).unwrap();
                    assert_eq!(verified.len(), length);
                }
            }
        }
    }

    #[test]
    fn incomplete_blocks_are_refused_in_each_pass() {
        for cipher in [
            ContentCipher::Cbc { key_length: 24, initialization: [9; 16] },
            ContentCipher::TripleDes { initialization: [9; 8] },
        ] {
            for length in (0..100).filter(|length| *length == 0 || length % 8 != 0) {
                for pass in PASSES {
                    // Among many ciphertexts, some end like a padding.
                    for octet in 0..=255 {
                        assert_eq!(decrypted(&cipher, &vec![octet; length], 64, pass), None, "{length} {pass:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn the_counter_does_not_begin_again() {
        let cipher = Aes128::new(&[7; 16].into());
        let mut counter = CounterMode { cipher, nonce: [9; 12], next: u64::from(u32::MAX) };
        assert_eq!(counter.decrypt(&mut [0; 16]), Some(()));
        assert_eq!(counter.decrypt(&mut [0; 1]), None);
    }
}
