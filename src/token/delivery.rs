//! The forms in which a private key travels between tokens. It is wrapped, and never in clear in a
//! host's memory.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{KeyAlgorithm, KeyId, SecurityLevel};

/// The AES key wrap of private keys. Both detect any change of the wrapped bytes. Both
/// give the same bytes for private keys (RFC 5649), except for the padding that SoftHSM adds before
/// it wraps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyWrap {
    /// `CKM_AES_KEY_WRAP_KWP` (0x210B), preferred
    Kwp,
    /// `CKM_AES_KEY_WRAP_PAD` (0x210A), the only one that `SoftHSM` supports
    Pad,
}

/// The hash of RSA-OAEP; the mask generation function uses the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OaepHash {
    /// SHA-1 with MGF1-SHA-1, the only one that `SoftHSM` supports
    Sha1,
    /// SHA-256 with MGF1-SHA-256
    Sha256,
    /// SHA-384 with MGF1-SHA-384 (only to decrypt received mail)
    Sha384,
    /// SHA-512 with MGF1-SHA-512 (only to decrypt received mail)
    Sha512,
}

impl fmt::Display for OaepHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Sha1 => "SHA-1",
            Self::Sha256 => "SHA-256",
            Self::Sha384 => "SHA-384",
            Self::Sha512 => "SHA-512",
        })
    }
}

/// The algorithm that encrypted a content-encryption key to an RSA key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum KeyTransport {
    /// RSAES-PKCS1-v1_5 (RFC 8017 §7.2)
    Pkcs1v15,
    /// RSAES-OAEP (RFC 8017 §7.1) with an empty label
    Oaep(OaepHash),
    /// RSAES-OAEP with a label, or with a different hash for the mask: only to decrypt received
    /// mail
    OaepWith {
        /// the hash of the label
        hash: OaepHash,
        /// the hash of MGF1
        mask_hash: OaepHash,
        /// the label, which may be empty
        label: Vec<u8>,
    },
}

/// A private key wrapped by the authority's archive key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrappedKey {
    /// what wrapped the key, needed to unwrap it
    pub key_wrap: KeyWrap,
    /// the wrapped `PrivateKeyInfo`
    pub blob: Vec<u8>,
}

/// A private key on its way to a user's token: wrapped with a fresh AES-256 key, which is encrypted
/// to the token's transport key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// the hash with which `encrypted_key` was made
    pub oaep: OaepHash,
    /// the AES-256 key under RSA-OAEP, as long as the transport key's modulus
    pub encrypted_key: Vec<u8>,
    /// what made `wrapped`
    pub key_wrap: KeyWrap,
    /// the wrapped `PrivateKeyInfo`
    pub wrapped: Vec<u8>,
}

/// The properties of the installed key.
pub(super) struct Installation<'a> {
    pub(super) label: &'a str,
    pub(super) id: &'a KeyId,
    pub(super) algorithm: KeyAlgorithm,
    pub(super) public_spki_der: &'a [u8],
    pub(super) level: SecurityLevel,
}
