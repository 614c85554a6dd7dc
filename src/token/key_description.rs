//! A private key as its token describes it.

use super::{KeyAlgorithm, KeyId, SubjectPublicKey};

/// What a token tells about one of its private keys. It is identified by its `CKA_ID`.
#[derive(Clone, Debug)]
pub struct KeyDescription {
    pub(super) id: KeyId,
    pub(super) label: String,
    pub(super) public_key: SubjectPublicKey,
    pub(super) pin_enforcement: PinEnforcement,
    pub(super) signs: bool,
    pub(super) reads: bool,
}

/// The enforcement of the PIN for each use of a key, according to its attributes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PinEnforcement {
    // CKA_ALWAYS_AUTHENTICATE: the token, between the init call and the operation.
    pub(super) token: bool,
    // CKA_COPYABLE is false: it is a key of level High (or the authority's, which has no level). If
    // the token does not enforce the PIN, a login for the one operation is the only protection.
    pub(super) program: bool,
}

impl KeyDescription {
    /// Its `CKA_ID`.
    pub fn id(&self) -> &KeyId {
        &self.id
    }

    pub fn label(&self) -> &str {
        &self.label
    }

    pub fn algorithm(&self) -> KeyAlgorithm {
        self.public_key.algorithm()
    }

    pub fn public_key(&self) -> &SubjectPublicKey {
        &self.public_key
    }

    /// DER of the `SubjectPublicKeyInfo`.
    pub fn public_key_der(&self) -> &[u8] {
        self.public_key.as_der()
    }

    /// Whether the token enforces the PIN for every use (`CKA_ALWAYS_AUTHENTICATE`).
    pub fn requires_pin_each_use(&self) -> bool {
        self.pin_enforcement.token
    }

    /// Whether the key must not be used during an active session, even if the token does not
    /// enforce that. True for every key of level High.
    pub fn requires_pin_per_use(&self) -> bool {
        self.pin_enforcement.token || self.pin_enforcement.program
    }

    /// Whether it may sign.
    pub fn can_sign(&self) -> bool {
        self.signs
    }

    /// Whether it may decrypt (RSA) or derive (elliptic curves), and so read mail.
    pub fn can_decrypt(&self) -> bool {
        self.reads
    }
}

/// A public key object on a token, readable without login.
#[derive(Clone, Debug)]
pub struct PublicKeyObject {
    /// its `CKA_ID`
    pub id: KeyId,
    pub label: String,
    pub public_key: SubjectPublicKey,
    pub algorithm: KeyAlgorithm,
}
