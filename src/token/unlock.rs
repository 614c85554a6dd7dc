//! One PIN, one operation: the operations that a user's typed PIN permits.

use std::sync::{Mutex, PoisonError};

use zeroize::Zeroizing;

use super::pkcs11::{LogIn, Place};
use super::{Ceremony, KeyTransport, Pin, PublicKey, Signature, SignatureHash, Token, TokenError, TokenKey};

/// The authorization for *one* operation, which consumes it. Dropping it logs out, unless a session
/// is active ([`super::Turn::log_in_standing`]); during a session it holds no PIN. At level High,
/// if the token enforces it, the same PIN is given a second time during the operation
/// (context-specific login); the first failure ends everything.
///
/// A second operation without a second PIN does not compile:
///
/// ```compile_fail,E0382
/// # use tokenkeep::token::{TokenKey, Unlock};
/// fn twice(unlock: Unlock, key: &TokenKey) {
///     let _ = unlock.sign(key, b"one");
///     let _ = unlock.sign(key, b"two");
/// }
/// ```
#[derive(Debug)]
pub struct Unlock {
    token: Token,
    by: By,
}

/// What a token is unlocked with.
#[derive(Debug)]
enum By {
    /// A PIN that was typed for this operation, at the head of the token's queue.
    Pin { pin: Pin, _place: Place },
    /// The active session with this number.
    Standing(u64),
}

impl Unlock {
    /// For a login that has just succeeded.
    pub(super) fn by_pin(place: Place, pin: Pin) -> Self {
        Self { token: place.token().clone(), by: By::Pin { pin, _place: place } }
    }

    /// For an active session.
    pub(super) fn standing(token: Token, number: u64) -> Self {
        Self { token, by: By::Standing(number) }
    }

    /// What authorizes the operation to use keys.
    pub(super) fn entitled(&self) -> LogIn<'_> {
        match &self.by {
            By::Pin { pin, .. } => LogIn::ByPin(pin),
            By::Standing(number) => LogIn::Standing(*number),
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
        self.token.sign_with_key(key, hash, message, self.entitled())
    }

    /// A signer with the `signature` crate's traits. It signs once; a second signature is an error.
    pub fn sign_with(self, key: &TokenKey) -> OneSignature {
        OneSignature { key: key.clone(), unlock: Mutex::new(Some(self)), error: Mutex::new(None) }
    }

    /// Decrypts a content-encryption key that was encrypted to an RSA key, and logs out.
    pub fn decrypt(
        self,
        key: &TokenKey,
        transport: &KeyTransport,
        ciphertext: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, TokenError> {
        self.token.decrypt_with_key(key, transport, ciphertext, self.entitled())
    }

    /// Does ECDH with a peer's public key (DER `SubjectPublicKeyInfo` on the key's curve), and logs
    /// out. Returns the shared secret Z: the x coordinate, as long as the curve's field (32 or 48
    /// bytes), before any KDF.
    pub fn agree(self, key: &TokenKey, peer_spki_der: &[u8]) -> Result<Zeroizing<Vec<u8>>, TokenError> {
        self.token.agree_with_key(key, peer_spki_der, self.entitled())
    }

    /// Starts an enrollment, which consists of several operations.
    pub fn ceremony(self) -> Ceremony {
        Ceremony::new(self)
    }
}

impl Drop for Unlock {
    fn drop(&mut self) {
        if let By::Pin { .. } = self.by {
            self.token.lock_again();
        }
    }
}

/// A signer that works once.
#[derive(Debug)]
pub struct OneSignature {
    key: TokenKey,
    unlock: Mutex<Option<Unlock>>,
    error: Mutex<Option<TokenError>>,
}

impl OneSignature {
    /// The error of a failed signature, which the `signature` crate's traits do not carry.
    pub fn take_error(&self) -> Option<TokenError> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn sign_once(&self, message: &[u8]) -> Result<Signature, TokenError> {
        let unlock = self.unlock.lock().unwrap_or_else(PoisonError::into_inner).take();
        match unlock {
            Some(unlock) => unlock.sign(&self.key, message),
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
    type VerifyingKey = PublicKey;

    fn verifying_key(&self) -> PublicKey {
        self.key.public_key().clone()
    }
}

impl spki::DynSignatureAlgorithmIdentifier for OneSignature {
    fn signature_algorithm_identifier(&self) -> spki::Result<spki::AlgorithmIdentifierOwned> {
        Ok(self.key.algorithm().signature_algorithm())
    }
}
