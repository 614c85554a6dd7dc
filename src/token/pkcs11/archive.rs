//! The authority's side: secret keys that stay, and encryption key pairs that are archived and delivered.

use crate::token::{Delivery, KeyAlgorithm, KeyId, OaepHash, PublicKey, Token, TokenError, Wrapped};

/// A secret key on the authority's token: for MACs, or for wrapping into the archive. It never leaves.
#[derive(Clone, Debug)]
pub struct SecretKey {
    token: Token,
    id: KeyId,
    label: String,
}

impl SecretKey {
    /// Its `CKA_ID`.
    pub fn id(&self) -> &KeyId {
        &self.id
    }

    /// Its label.
    pub fn label(&self) -> &str {
        &self.label
    }
}

/// A user's encryption key pair while it passes over the authority's token: a session object, never on disk, gone when
/// this is dropped.
#[derive(Debug)]
pub struct DeliverableKey {
    token: Token,
    algorithm: KeyAlgorithm,
    public_key: Option<PublicKey>,
}

impl DeliverableKey {
    /// Its kind.
    pub fn algorithm(&self) -> KeyAlgorithm {
        self.algorithm
    }

    /// DER of the public half's `SubjectPublicKeyInfo`; `None` for a key out of the archive, whose certificate has it.
    pub fn public_key_der(&self) -> Option<&[u8]> {
        self.public_key.as_ref().map(PublicKey::as_der)
    }
}

impl Token {
    /// Makes a 32-byte key for HMAC-SHA-256, good for nothing else.
    pub fn generate_mac_key(&self, label: &str, id: &KeyId) -> Result<SecretKey, TokenError> {
        todo!()
    }

    /// Makes the AES-256 key of the archive: wraps and unwraps, nothing else.
    pub fn generate_archive_key(&self, label: &str, id: &KeyId) -> Result<SecretKey, TokenError> {
        todo!()
    }

    /// The secret key of this label; `None` when there is none.
    pub fn find_secret_key(&self, label: &str) -> Result<Option<SecretKey>, TokenError> {
        todo!()
    }

    /// All secret keys.
    pub fn secret_keys(&self) -> Result<Vec<SecretKey>, TokenError> {
        todo!()
    }

    /// HMAC-SHA-256 of `message`, computed on the token.
    pub fn mac(&self, key: &SecretKey, message: &[u8]) -> Result<[u8; 32], TokenError> {
        todo!()
    }

    /// Makes an encryption key pair that can be archived and delivered.
    pub fn generate_deliverable_key(&self, algorithm: KeyAlgorithm) -> Result<DeliverableKey, TokenError> {
        todo!()
    }

    /// Wraps a key for the archive, by the best mechanism the token has.
    pub fn wrap_for_archive(&self, archive: &SecretKey, key: &DeliverableKey) -> Result<Wrapped, TokenError> {
        todo!()
    }

    /// Takes a key out of the archive, to deliver it. [`TokenError::BadDelivery`] when the blob was changed.
    pub fn unwrap_from_archive(
        &self,
        archive: &SecretKey,
        wrapped: &Wrapped,
        algorithm: KeyAlgorithm,
    ) -> Result<DeliverableKey, TokenError> {
        todo!()
    }

    /// Wraps a key for a user's token: under a fresh AES-256 key, and that under the user's transport key (DER
    /// `SubjectPublicKeyInfo`, RSA).
    pub fn wrap_for_token(
        &self,
        key: &DeliverableKey,
        transport_spki_der: &[u8],
        oaep: OaepHash,
    ) -> Result<Delivery, TokenError> {
        todo!()
    }
}
