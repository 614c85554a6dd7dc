//! The content ciphers: AES-CBC (RFC 3565), AES-GCM (RFC 5084) and, for decryption only, Triple DES
//! (RFC 3370 §5.1).
//!
//! Decryption returns the whole plaintext or nothing, and never the reason of a failure.

use aes::cipher::block_padding::Pkcs7;
use aes::cipher::consts::{U12, U13, U14, U15, U16};
use aes::cipher::{BlockModeDecrypt, BlockModeEncrypt, KeyIvInit};
use aes::{Aes128, Aes192, Aes256};
use aes_gcm::AesGcm;
use aes_gcm::aead::{Aead, KeyInit, Payload};
use const_oid::db::rfc5911;
use der::asn1::OctetString;
use der::{Decode, Encode, Sequence};
use spki::AlgorithmIdentifierOwned;
use zeroize::Zeroizing;

use super::SmimeError;
use crate::pki::PkiError;
use crate::pki::oid::described;

const WHAT: &str = "the parameters of a content cipher";

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
    pub(super) fn new(cipher: super::Cipher) -> Result<Self, SmimeError> {
        Ok(match cipher {
            super::Cipher::Aes256Cbc => Self::Cbc { key_length: 32, initialization: random()? },
            super::Cipher::Aes256Gcm => Self::Gcm { key_length: 32, nonce: random()?, tag_length: 16 },
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
                let cipher = AesGcm::<Aes256, U12, U16>::new_from_slice(key).ok()?;
                let mut ciphertext = cipher.encrypt(nonce.into(), content).ok()?;
                let tag = ciphertext.split_off(ciphertext.len().checked_sub(usize::from(*tag_length))?);
                Some((ciphertext, tag))
            }
        }
    }

    /// Returns the plaintext, if key, ciphertext, tag and authenticated attributes match.
    pub(super) fn decrypt(
        &self,
        key: &[u8],
        ciphertext: &[u8],
        tag: &[u8],
        attributes: &[u8],
    ) -> Option<Zeroizing<Vec<u8>>> {
        match self {
            Self::Cbc { key_length, initialization } => match key_length {
                16 => open_cbc(cbc::Decryptor::<Aes128>::new_from_slices(key, initialization).ok()?, ciphertext),
                24 => open_cbc(cbc::Decryptor::<Aes192>::new_from_slices(key, initialization).ok()?, ciphertext),
                _ => open_cbc(cbc::Decryptor::<Aes256>::new_from_slices(key, initialization).ok()?, ciphertext),
            },
            Self::TripleDes { initialization } => {
                open_cbc(cbc::Decryptor::<des::TdesEde3>::new_from_slices(key, initialization).ok()?, ciphertext)
            }
            Self::Gcm { key_length, nonce, tag_length } => {
                let sealed = Zeroizing::new([ciphertext, tag].concat());
                let payload = Payload { msg: &sealed, aad: attributes };
                match key_length {
                    _ if tag.len() != usize::from(*tag_length) => None,
                    16 => open_gcm::<Aes128>(key, nonce, *tag_length, payload),
                    24 => open_gcm::<Aes192>(key, nonce, *tag_length, payload),
                    _ => open_gcm::<Aes256>(key, nonce, *tag_length, payload),
                }
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

fn open_cbc<D: BlockModeDecrypt>(decryptor: D, ciphertext: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let mut buffer = Zeroizing::new(ciphertext.to_vec());
    let length = decryptor.decrypt_padded::<Pkcs7>(&mut buffer).ok()?.len();
    buffer.truncate(length);
    Some(buffer)
}

fn open_gcm<C>(key: &[u8], nonce: &[u8; 12], tag_length: u8, sealed: Payload<'_, '_>) -> Option<Zeroizing<Vec<u8>>>
where
    AesGcm<C, U12, U12>: Aead + KeyInit + aes_gcm::AeadCore<NonceSize = U12>,
    AesGcm<C, U12, U13>: Aead + KeyInit + aes_gcm::AeadCore<NonceSize = U12>,
    AesGcm<C, U12, U14>: Aead + KeyInit + aes_gcm::AeadCore<NonceSize = U12>,
    AesGcm<C, U12, U15>: Aead + KeyInit + aes_gcm::AeadCore<NonceSize = U12>,
    AesGcm<C, U12, U16>: Aead + KeyInit + aes_gcm::AeadCore<NonceSize = U12>,
    C: aes::cipher::BlockCipherEncrypt<BlockSize = U16>,
{
    let opened = match tag_length {
        12 => AesGcm::<C, U12, U12>::new_from_slice(key).ok()?.decrypt(nonce.into(), sealed),
        13 => AesGcm::<C, U12, U13>::new_from_slice(key).ok()?.decrypt(nonce.into(), sealed),
        14 => AesGcm::<C, U12, U14>::new_from_slice(key).ok()?.decrypt(nonce.into(), sealed),
        15 => AesGcm::<C, U12, U15>::new_from_slice(key).ok()?.decrypt(nonce.into(), sealed),
        _ => AesGcm::<C, U12, U16>::new_from_slice(key).ok()?.decrypt(nonce.into(), sealed),
    };
    opened.ok().map(Zeroizing::new)
}

fn random<const N: usize>() -> Result<[u8; N], SmimeError> {
    let mut octets = [0; N];
    getrandom::fill(&mut octets).map_err(PkiError::Random)?;
    Ok(octets)
}
