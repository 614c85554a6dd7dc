//! How a private key travels from token to token: wrapped, and never in clear in any host's memory.

use serde::{Deserialize, Serialize};

/// The AES key wrap under which a private key is wrapped. Both detect any change of the wrapped bytes, and for private
/// keys both give the same bytes (RFC 5649), except for the padding that SoftHSM adds before it wraps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyWrapMechanism {
    /// `CKM_AES_KEY_WRAP_KWP` (0x210B), the one that is preferred
    Kwp,
    /// `CKM_AES_KEY_WRAP_PAD` (0x210A), the only one `SoftHSM` has
    Pad,
}

/// The hash of RSA-OAEP; the mask generation function uses the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OaepHash {
    /// SHA-1 with MGF1-SHA-1, the only one `SoftHSM` has
    Sha1,
    /// SHA-256 with MGF1-SHA-256
    Sha256,
    /// SHA-384 with MGF1-SHA-384 (only for reading what others encrypted)
    Sha384,
    /// SHA-512 with MGF1-SHA-512 (only for reading what others encrypted)
    Sha512,
}

/// How a content-encryption key was encrypted to an RSA key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum KeyTransport {
    /// RSAES-PKCS1-v1_5 (RFC 8017 §7.2)
    Pkcs1v15,
    /// RSAES-OAEP (RFC 8017 §7.1) with an empty label
    Oaep(OaepHash),
    /// RSAES-OAEP with a label, or with another hash for its mask: only for reading what others encrypted
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
pub struct Wrapped {
    /// the mechanism that wrapped it, and must unwrap it
    pub mechanism: KeyWrapMechanism,
    /// the wrapped `PrivateKeyInfo`
    pub blob: Vec<u8>,
}

/// A private key on its way to a user's token: wrapped by a fresh AES-256 key, and that key encrypted to the token's
/// transport key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// the hash with which `encrypted_key` was made
    pub oaep: OaepHash,
    /// the AES-256 key under RSA-OAEP, as long as the transport key's modulus
    pub encrypted_key: Vec<u8>,
    /// the mechanism that made `wrapped`
    pub mechanism: KeyWrapMechanism,
    /// the wrapped `PrivateKeyInfo`
    pub wrapped: Vec<u8>,
}
