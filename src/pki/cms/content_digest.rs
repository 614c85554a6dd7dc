//! The digest and the length of a content of any length, which a signature is made over.

use std::fmt;
use std::io::{Read, Write};

use sha2::digest::DynDigest;
use sha2::{Digest, Sha256};

use super::stream::{fill, piece_buffer};
use crate::pki::PkiError;
use crate::pki::signature::Hash;

const WHAT: &str = "the content";

/// The digest of a content that was read once, and its length.
#[derive(Clone, PartialEq, Eq)]
pub struct ContentDigest {
    length: u64,
    hash: Hash,
    digest: Vec<u8>,
    sha256: [u8; 32],
}

impl fmt::Debug for ContentDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ContentDigest({} octets, SHA-256 {})", self.length, hex::encode(self.sha256))
    }
}

impl ContentDigest {
    /// Reads a content to its end. `hash` is that of the signature
    /// ([`super::SigningCertificate::hash`]).
    pub fn read(mut content: impl Read, hash: Hash) -> Result<Self, PkiError> {
        let mut hasher = ContentHasher::new(hash);
        let mut buffer = piece_buffer();
        loop {
            let piece = fill(&mut content, &mut buffer).map_err(PkiError::input(WHAT))?;
            if piece.is_empty() {
                return Ok(hasher.finish());
            }
            hasher.update(piece);
        }
    }

    /// The digest of a content in memory.
    pub fn of(content: &[u8], hash: Hash) -> Self {
        let mut hasher = ContentHasher::new(hash);
        hasher.update(content);
        hasher.finish()
    }

    /// The length of the content, in octets.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The SHA-256 digest, which identifies the content for a person. It is available whatever the
    /// signature's hash is.
    pub fn sha256(&self) -> [u8; 32] {
        self.sha256
    }

    /// The signature's hash.
    pub(super) fn hash(&self) -> Hash {
        self.hash
    }

    /// The digest with the signature's hash.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.digest
    }

    /// Copies the content, which is read again. It is an error if it is not the same as before. The
    /// output then has at most as many octets as the content had.
    pub(super) fn copy(&self, mut content: impl Read, output: &mut impl Write) -> Result<(), PkiError> {
        let mut hasher = self.hash.hasher();
        let mut buffer = piece_buffer();
        let mut rest = self.length;
        loop {
            let piece = fill(&mut content, &mut buffer).map_err(PkiError::input(WHAT))?;
            if piece.is_empty() {
                break;
            }
            rest = rest.checked_sub(piece.len() as u64).ok_or(PkiError::ContentChanged)?;
            hasher.update(piece);
            output.write_all(piece).map_err(PkiError::output(super::signed_data::WHAT))?;
        }
        if rest == 0 && *hasher.finalize() == *self.digest { Ok(()) } else { Err(PkiError::ContentChanged) }
    }
}

/// Computes a [`ContentDigest`].
struct ContentHasher {
    length: u64,
    hash: Hash,
    sha256: Sha256,
    /// `None` for SHA-256.
    other: Option<Box<dyn DynDigest>>,
}

impl ContentHasher {
    fn new(hash: Hash) -> Self {
        let other = (hash != Hash::Sha256).then(|| hash.hasher());
        Self { length: 0, hash, sha256: Sha256::new(), other }
    }

    fn update(&mut self, piece: &[u8]) {
        self.length += piece.len() as u64;
        Digest::update(&mut self.sha256, piece);
        if let Some(other) = &mut self.other {
            other.update(piece);
        }
    }

    fn finish(self) -> ContentDigest {
        let sha256 = <[u8; 32]>::from(self.sha256.finalize());
        let digest = self.other.map_or_else(|| sha256.to_vec(), |other| other.finalize().into_vec());
        ContentDigest { length: self.length, hash: self.hash, digest, sha256 }
    }
}
