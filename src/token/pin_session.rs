//! One PIN, one operation: the operations that a user's typed PIN permits.

use std::sync::{Mutex, PoisonError};

use zeroize::Zeroizing;

use super::authorization::KeyAuthorization;
use super::{KeyTransport, Pin, Signature, SignatureHash, SubjectPublicKey, Token, TokenError, TokenKey};

/// The authorization for *one* operation, which consumes it. Dropping it logs out, unless a session
/// is active ([`super::PinLease::open_session`]); during a session it holds no PIN. At level High,
/// if the token enforces it, the same PIN is given a second time during the operation
/// (context-specific login); the first failure ends everything.
///
/// A second operation without a second PIN does not compile:
///
/// ```compile_fail,E0382
/// # use tokenkeep::token::{PinSession, TokenKey};
/// fn twice(pin_session: PinSession, key: &TokenKey) {
///     let _ = pin_session.sign(key, b"one");
///     let _ = pin_session.sign(key, b"two");
/// }
/// ```
#[derive(Debug)]
pub struct PinSession {
    token: Token,
    by: UnlockedBy,
}

/// The head position in the queue for a token's PIN. Dropping it releases the position.
#[derive(Debug)]
pub(super) struct QueueSlot {
    token: Token,
}

impl QueueSlot {
    /// For a position that was just obtained.
    pub(super) fn held_on(token: Token) -> Self {
        Self { token }
    }

    pub(super) fn token(&self) -> &Token {
        &self.token
    }
}

impl Drop for QueueSlot {
    fn drop(&mut self) {
        self.token.pin_queue().leave();
    }
}

/// A login to a token, for one operation or a session.
#[derive(Debug)]
enum UnlockedBy {
    /// A PIN that was typed for this operation, at the head of the token's queue.
    Pin { pin: Pin, _slot: QueueSlot },
    /// The active session with this number.
    ActiveSession(u64),
}

impl PinSession {
    /// For a login that has just succeeded.
    pub(super) fn by_pin(slot: QueueSlot, pin: Pin) -> Self {
        Self { token: slot.token().clone(), by: UnlockedBy::Pin { pin, _slot: slot } }
    }

    pub(super) fn active_session(token: Token, number: u64) -> Self {
        Self { token, by: UnlockedBy::ActiveSession(number) }
    }

    /// The authorization of key uses in this operation.
    pub(super) fn authorization(&self) -> KeyAuthorization<'_> {
        match &self.by {
            UnlockedBy::Pin { pin, .. } => KeyAuthorization::WithPin(pin),
            UnlockedBy::ActiveSession(number) => KeyAuthorization::ActiveSession(*number),
        }
    }

    /// The unlocked token. Its objects are readable while this lives.
    pub fn token(&self) -> &Token {
        &self.token
    }

    /// Signs `message` (with the hash of [`super::KeyAlgorithm::signature_algorithm`]) and logs
    /// out.
    pub fn sign(self, key: &TokenKey, message: &[u8]) -> Result<Signature, TokenError> {
        self.sign_hashed(key, SignatureHash::usual_for(key.algorithm()), message)
    }

    /// Signs with the given hash. RSA keys support all; an elliptic-curve key only that of its
    /// curve ([`TokenError::Unsupported`]).
    pub fn sign_hashed(self, key: &TokenKey, hash: SignatureHash, message: &[u8]) -> Result<Signature, TokenError> {
        self.token.sign(key, hash, message, self.authorization())
    }

    /// A signer with the `signature` crate's traits. It signs once; a second signature is an error.
    pub fn sign_with(self, key: &TokenKey) -> OneSignature {
        OneSignature { key: key.clone(), pin_session: Mutex::new(Some(self)), error: Mutex::new(None) }
    }

    /// Decrypts a content-encryption key that was encrypted to an RSA key, and logs out.
    pub fn decrypt(
        self,
        key: &TokenKey,
        transport: &KeyTransport,
        ciphertext: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, TokenError> {
        self.token.decrypt(key, transport, ciphertext, self.authorization())
    }

    /// Does ECDH with a peer's public key (DER `SubjectPublicKeyInfo` on the key's curve), and logs
    /// out. Returns the shared secret Z: the x coordinate, as long as the curve's field (32 or 48
    /// bytes), before any KDF.
    pub fn agree(self, key: &TokenKey, peer_spki_der: &[u8]) -> Result<Zeroizing<Vec<u8>>, TokenError> {
        self.token.agree(key, peer_spki_der, self.authorization())
    }
}

impl Drop for PinSession {
    fn drop(&mut self) {
        if let UnlockedBy::Pin { .. } = self.by {
            self.token.end_operation();
        }
    }
}

/// A signer that works once.
#[derive(Debug)]
pub struct OneSignature {
    key: TokenKey,
    pin_session: Mutex<Option<PinSession>>,
    error: Mutex<Option<TokenError>>,
}

impl OneSignature {
    /// The error of a failed signature, which the `signature` crate's traits do not carry.
    pub fn take_error(&self) -> Option<TokenError> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn sign_once(&self, message: &[u8]) -> Result<Signature, TokenError> {
        let pin_session = self.pin_session.lock().unwrap_or_else(PoisonError::into_inner).take();
        match pin_session {
            Some(pin_session) => pin_session.sign(&self.key, message),
            None => Err(TokenError::Spent { token: self.key.token().info().name() }),
        }
    }
}

impl signature::Signer<Signature> for OneSignature {
    fn try_sign(&self, message: &[u8]) -> Result<Signature, signature::Error> {
        self.sign_once(message).map_err(|error| {
            *self.error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.clone());
            signature::Error::from_source(error)
        })
    }
}

impl signature::Keypair for OneSignature {
    type VerifyingKey = SubjectPublicKey;

    fn verifying_key(&self) -> SubjectPublicKey {
        self.key.public_key().clone()
    }
}

impl spki::DynSignatureAlgorithmIdentifier for OneSignature {
    fn signature_algorithm_identifier(&self) -> spki::Result<spki::AlgorithmIdentifierOwned> {
        Ok(self.key.algorithm().signature_algorithm())
    }
}
