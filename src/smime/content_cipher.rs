//! The content ciphers: AES-CBC (RFC 3565), AES-GCM (RFC 5084) and, for decryption only, Triple DES
//! (RFC 3370 §5.1). Encryption is in memory, decryption in pieces.

mod decryptor;

use aes::Aes256;
use aes::cipher::block_padding::Pkcs7;
use aes::cipher::{BlockModeEncrypt, KeyIvInit};
use aes_gcm::Aes256Gcm;
use aes_gcm::aead::{Aead, KeyInit};
use const_oid::db::rfc5911;
use der::asn1::OctetString;
use der::{Decode, Encode, Sequence};
use spki::AlgorithmIdentifierOwned;

pub(super) use decryptor::{Authentication, DecryptionPass};

use super::SmimeError;
use crate::pki::PkiError;
use crate::pki::oid::described;

const WHAT: &str = "the parameters of a content cipher";

/// The cipher of the content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Cipher {
    /// AES-256-CBC in EnvelopedData, which every program supports.
    #[default]
    Aes256Cbc,
    /// AES-256-GCM in `AuthEnvelopedData`: authenticated, but not supported by every program yet.
    Aes256Gcm,
}

/// A content cipher with its parameters. Lengths are in octets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ContentCipher {
    Cbc { key_length: usize, initialization: [u8; 16] },
    TripleDes { initialization: [u8; 8] },
    Gcm { key_length: usize, nonce: [u8; 12], tag_length: u8 },
}

/// `GCMParameters` (RFC 5084 §3.2).
#[derive(Sequence)]
struct GcmParameters {
    nonce: OctetString,
    #[asn1(default = "default_tag_length")]
    tag_length: u8,
}

fn default_tag_length() -> u8 {
    12
}

impl ContentCipher {
    pub(super) fn from_algorithm(algorithm: &AlgorithmIdentifierOwned) -> Result<Self, SmimeError> {
        let (key_length, is_gcm) = match algorithm.oid {
            rfc5911::ID_AES_128_CBC => (16, false),
            rfc5911::ID_AES_192_CBC => (24, false),
            rfc5911::ID_AES_256_CBC => (32, false),
            rfc5911::ID_AES_128_GCM => (16, true),
            rfc5911::ID_AES_192_GCM => (24, true),
            rfc5911::ID_AES_256_GCM => (32, true),
            rfc5911::DES_EDE_3_CBC => return triple_des(algorithm),
            oid => {
                return Err(PkiError::unsupported(
                    format!("the content cipher {}", described(oid)),
                    "only AES in CBC or GCM, and Triple DES, are supported",
                )
                .into());
            }
        };
        let wrong = || PkiError::malformed(WHAT, "its length is wrong for AES");
        let parameters = algorithm.parameters.as_ref().ok_or_else(wrong)?;
        if is_gcm {
            let parameters: GcmParameters = parameters.decode_as().map_err(PkiError::decode(WHAT))?;
            let nonce = parameters.nonce.as_bytes().try_into().map_err(|_| wrong())?;
            let tag_length = parameters.tag_length;
            if !(12..=16).contains(&tag_length) {
                return Err(wrong().into());
            }
            Ok(Self::Gcm { key_length, nonce, tag_length })
        } else {
            let initialization: OctetString = parameters.decode_as().map_err(PkiError::decode(WHAT))?;
            Ok(Self::Cbc { key_length, initialization: initialization.as_bytes().try_into().map_err(|_| wrong())? })
        }
    }

    /// AES-256 with fresh random parameters.
    pub(super) fn new(cipher: Cipher) -> Result<Self, SmimeError> {
        Ok(match cipher {
            Cipher::Aes256Cbc => Self::Cbc { key_length: 32, initialization: random()? },
            Cipher::Aes256Gcm => Self::Gcm { key_length: 32, nonce: random()?, tag_length: 16 },
        })
    }

    /// The DER `AlgorithmIdentifier` of a cipher made by [`ContentCipher::new`].
    pub(super) fn algorithm(&self) -> Result<Vec<u8>, SmimeError> {
        let octets = |octets: &[u8]| OctetString::new(octets);
        let algorithm = match self {
            Self::TripleDes { .. } => return Err(only_read()),
            Self::Cbc { initialization, .. } => octets(initialization).and_then(|octets| {
                let parameters = Some(der::Any::encode_from(&octets)?);
                Ok(AlgorithmIdentifierOwned { oid: rfc5911::ID_AES_256_CBC, parameters })
            }),
            Self::Gcm { nonce, tag_length, .. } => octets(nonce).and_then(|nonce| {
                let parameters = GcmParameters { nonce, tag_length: *tag_length }.to_der()?;
                let parameters = Some(der::Any::from_der(&parameters)?);
                Ok(AlgorithmIdentifierOwned { oid: rfc5911::ID_AES_256_GCM, parameters })
            }),
        };
        let encoded = algorithm.and_then(|algorithm| algorithm.to_der());
        Ok(encoded.map_err(PkiError::encode("a content cipher"))?)
    }

    /// The length of the content key, in octets.
    pub(super) fn key_length(&self) -> usize {
        match self {
            Self::Cbc { key_length, .. } | Self::Gcm { key_length, .. } => *key_length,
            Self::TripleDes { .. } => 24,
        }
    }

    /// The maximum length of the ciphertext, in octets: for GCM that of NIST SP 800-38D §5.2.1.1.
    pub(super) fn most_octets(&self) -> u64 {
        if self.is_authenticated() { (1 << 36) - 32 } else { u64::MAX }
    }

    /// Whether the cipher itself detects changes of the content.
    pub(super) fn is_authenticated(&self) -> bool {
        matches!(self, Self::Gcm { .. })
    }

    /// Returns the ciphertext and, for GCM, the tag. The key must have the cipher's length.
    pub(super) fn encrypt(&self, key: &[u8], content: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
        match self {
            Self::TripleDes { .. } => None,
            Self::Cbc { initialization, .. } => {
                let encryptor = cbc::Encryptor::<Aes256>::new_from_slices(key, initialization).ok()?;
                Some((encryptor.encrypt_padded_vec::<Pkcs7>(content), Vec::new()))
            }
            Self::Gcm { nonce, tag_length, .. } => {
                let cipher = Aes256Gcm::new_from_slice(key).ok()?;
                let mut ciphertext = cipher.encrypt(nonce.into(), content).ok()?;
                let tag = ciphertext.split_off(ciphertext.len().checked_sub(usize::from(*tag_length))?);
                Some((ciphertext, tag))
            }
        }
    }
}

fn triple_des(algorithm: &AlgorithmIdentifierOwned) -> Result<ContentCipher, SmimeError> {
    let wrong = || PkiError::malformed(WHAT, "its length is wrong for Triple DES");
    let parameters = algorithm.parameters.as_ref().ok_or_else(wrong)?;
    let initialization: OctetString = parameters.decode_as().map_err(PkiError::decode(WHAT))?;
    Ok(ContentCipher::TripleDes { initialization: initialization.as_bytes().try_into().map_err(|_| wrong())? })
}

fn only_read() -> SmimeError {
    PkiError::unsupported("Triple DES", "it is supported for decryption only").into()
}

fn random<const N: usize>() -> Result<[u8; N], SmimeError> {
    let mut octets = [0; N];
    getrandom::fill(&mut octets).map_err(PkiError::Random)?;
    Ok(octets)
}
