//! A signature in the form of X.509 and CMS, and its hash algorithms.

use std::fmt;

use der::asn1::BitString;
use sha2::{Digest, Sha256, Sha384, Sha512};

use super::KeyAlgorithm;

/// The hash of a signed message. RSA keys support all; an elliptic-curve key supports only the hash
/// of its curve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SignatureHash {
    /// SHA-256: RSA (`rsa-sha2-256`, sha256WithRSAEncryption) and P-256
    Sha256,
    /// SHA-384: RSA and P-384
    Sha384,
    /// SHA-512: RSA (`rsa-sha2-512`, sha512WithRSAEncryption)
    Sha512,
}

impl SignatureHash {
    /// The default hash for such a key.
    pub fn usual_for(algorithm: KeyAlgorithm) -> Self {
        match algorithm {
            KeyAlgorithm::Rsa(_) | KeyAlgorithm::P256 => Self::Sha256,
            KeyAlgorithm::P384 => Self::Sha384,
        }
    }

    /// Whether such a key can sign with this hash.
    pub fn fits(self, algorithm: KeyAlgorithm) -> bool {
        matches!(algorithm, KeyAlgorithm::Rsa(_)) || self == Self::usual_for(algorithm)
    }
}

impl SignatureHash {
    /// The `DigestInfo` prefix before the digest (RFC 8017 §9.2, note 1).
    fn digest_info(self) -> &'static [u8; 19] {
        match self {
            Self::Sha256 => b"\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20",
            Self::Sha384 => b"\x30\x41\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x02\x05\x00\x04\x30",
            Self::Sha512 => b"\x30\x51\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x03\x05\x00\x04\x40",
        }
    }
}

/// The input of the token's mechanism: the digest for ECDSA, a `DigestInfo` for RSA. At most 83
/// bytes, on the stack because it is made for every signature.
pub(super) struct SignatureInput {
    bytes: [u8; 83],
    length: usize,
}

impl SignatureInput {
    pub(super) fn of(algorithm: KeyAlgorithm, hash: SignatureHash, message: &[u8]) -> Self {
        let mut input = Self { bytes: [0; 83], length: 0 };
        if !algorithm.is_elliptic_curve() {
            input.push(hash.digest_info());
        }
        match hash {
            SignatureHash::Sha256 => input.push(&Sha256::digest(message)),
            SignatureHash::Sha384 => input.push(&Sha384::digest(message)),
            SignatureHash::Sha512 => input.push(&Sha512::digest(message)),
        }
        input
    }

    fn push(&mut self, part: &[u8]) {
        for (place, byte) in self.bytes.iter_mut().skip(self.length).zip(part) {
            *place = *byte;
        }
        self.length += part.len();
    }

    /// The bytes for the mechanism.
    pub(super) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

impl fmt::Display for SignatureHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Sha256 => "SHA-256",
            Self::Sha384 => "SHA-384",
            Self::Sha512 => "SHA-512",
        })
    }
}

/// A DER `Ecdsa-Sig-Value` (RFC 3279 §2.2.3), or the bytes of an RSASSA-PKCS1-v1_5 signature (RFC
/// 8017 §8.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature(Vec<u8>);

impl Signature {
    /// Wraps signature bytes of that form.
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The bytes of the signature.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl TryFrom<&[u8]> for Signature {
    type Error = signature::Error;

    fn try_from(bytes: &[u8]) -> Result<Self, signature::Error> {
        Ok(Self(bytes.to_vec()))
    }
}

impl From<Signature> for Vec<u8> {
    fn from(signature: Signature) -> Self {
        signature.0
    }
}

impl signature::SignatureEncoding for Signature {
    type Repr = Vec<u8>;
}

impl spki::SignatureBitStringEncoding for Signature {
    fn to_bitstring(&self) -> der::Result<BitString> {
        BitString::from_bytes(&self.0)
    }
}
