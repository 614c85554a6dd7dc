//! An enrollment on the user's token: the operations that one PIN entry covers.

use std::ops::Deref;
use std::sync::{Mutex, PoisonError};

use zeroize::Zeroizing;

use super::check::StoredObject;
use super::delivery::Installation;
use super::{
    Delivery, KeyAlgorithm, KeyId, KeyTransport, OaepHash, PinSession, SecurityLevel, Signature, SignatureHash,
    SubjectPublicKey, Token, TokenError, TokenKey,
};

/// A token unlocked for one enrollment. It derefs to its [`Token`]. Dropping it logs out.
#[derive(Debug)]
pub struct TokenEnrollment {
    pin_session: PinSession,
}

/// The key pair that a user's token makes for one enrollment, and to which the authority's token
/// wraps keys: RSA-2048, usable only to unwrap an AES key. It is a token object, so that a killed
/// enrollment can be resumed.
#[derive(Clone, Debug)]
pub struct TransportKeyPair {
    id: KeyId,
    public_key: SubjectPublicKey,
    oaep: OaepHash,
}

impl TransportKeyPair {
    /// Its `CKA_ID`.
    pub fn id(&self) -> &KeyId {
        &self.id
    }

    /// DER of its `SubjectPublicKeyInfo`.
    pub fn public_key_der(&self) -> &[u8] {
        self.public_key.as_der()
    }

    /// The hash of RSA-OAEP: SHA-256 if the token supports it, else SHA-1.
    pub fn oaep(&self) -> OaepHash {
        self.oaep
    }
}

impl Deref for TokenEnrollment {
    type Target = Token;

    fn deref(&self) -> &Token {
        self.pin_session.token()
    }
}

impl PinSession {
    /// Starts an enrollment, which consists of several operations.
    pub fn begin_enrollment(self) -> TokenEnrollment {
        TokenEnrollment { pin_session: self }
    }
}

impl TokenEnrollment {
    /// Generates a key pair that can only sign. Its security level is permanent.
    pub fn generate_signing_key(
        &self,
        label: &str,
        id: &KeyId,
        algorithm: KeyAlgorithm,
        level: SecurityLevel,
    ) -> Result<TokenKey, TokenError> {
        self.pin_session.token().generate_signing_key(label, id, algorithm, level)
    }

    /// Generates the transport key pair of this enrollment.
    pub fn generate_transport_key(&self, label: &str, id: &KeyId) -> Result<TransportKeyPair, TokenError> {
        let (public_key, oaep) = self.generate_transport_key_pair(label, id)?;
        Ok(TransportKeyPair { id: id.clone(), public_key, oaep })
    }

    /// The transport key of an enrollment that began earlier; `None` if there is none.
    pub fn find_transport_key(&self, id: &KeyId) -> Result<Option<TransportKeyPair>, TokenError> {
        let found = self.find_transport_key_pair(id)?;
        Ok(found.map(|(public_key, oaep)| TransportKeyPair { id: id.clone(), public_key, oaep }))
    }

    /// Destroys both halves of the transport key. A missing half is not an error.
    pub fn destroy_transport_key(&self, id: &KeyId) -> Result<(), TokenError> {
        self.destroy_key_pair("destroy the transport key", id)
    }

    /// Unwraps a delivered private key into the token and stores its public key with it. The
    /// private key can only decrypt (RSA) or derive (elliptic curve). A failure leaves nothing on
    /// the token.
    // A delivered key has exactly these properties; a struct for a single call would only hide
    // them.
    #[allow(clippy::too_many_arguments)]
    pub fn install_private_key(
        &self,
        transport: &TransportKeyPair,
        delivery: &Delivery,
        label: &str,
        id: &KeyId,
        algorithm: KeyAlgorithm,
        public_spki_der: &[u8],
        level: SecurityLevel,
    ) -> Result<TokenKey, TokenError> {
        let key = Installation { label, id, algorithm, public_spki_der, level };
        self.install(&transport.id, delivery, &key)
    }

    /// Signs like [`PinSession::sign`], and keeps the enrollment open.
    pub fn sign(&self, key: &TokenKey, message: &[u8]) -> Result<Signature, TokenError> {
        self.pin_session.token().sign(
            key,
            SignatureHash::usual_for(key.algorithm()),
            message,
            self.pin_session.authorization(),
        )
    }

    /// Decrypts like [`PinSession::decrypt`], and keeps the enrollment open.
    pub fn decrypt(
        &self,
        key: &TokenKey,
        transport: &KeyTransport,
        ciphertext: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, TokenError> {
        self.pin_session.token().decrypt(key, transport, ciphertext, self.pin_session.authorization())
    }

    /// Agrees on a secret like [`PinSession::agree`], and keeps the enrollment open.
    pub fn agree(&self, key: &TokenKey, peer_spki_der: &[u8]) -> Result<Zeroizing<Vec<u8>>, TokenError> {
        self.pin_session.token().agree(key, peer_spki_der, self.pin_session.authorization())
    }

    /// Checks in a new process, which loads the module again, that all `objects` are on the token.
    /// The process logs in with the PIN of this enrollment and spends no try. If the process could
    /// not check, the result is the reason.
    ///
    /// # Errors
    /// [`TokenError::NotStored`], with the missing objects.
    pub fn verify_stored(
        &self,
        operation: &'static str,
        objects: Vec<StoredObject>,
    ) -> Result<Option<String>, TokenError> {
        self.pin_session.token().verify_stored(operation, objects, self.pin_session.authorization().pin())
    }

    /// A signer with the `signature` crate's traits. It borrows the enrollment.
    pub fn signer<'a>(&'a self, key: &'a TokenKey) -> EnrollmentSigner<'a> {
        EnrollmentSigner { enrollment: self, key, error: Mutex::new(None) }
    }
}

/// Signs during an enrollment.
#[derive(Debug)]
pub struct EnrollmentSigner<'a> {
    enrollment: &'a TokenEnrollment,
    key: &'a TokenKey,
    error: Mutex<Option<TokenError>>,
}

impl EnrollmentSigner<'_> {
    /// The error of the last failed signature, which the `signature` crate's traits do not carry.
    pub fn take_error(&self) -> Option<TokenError> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl signature::Signer<Signature> for EnrollmentSigner<'_> {
    fn try_sign(&self, message: &[u8]) -> Result<Signature, signature::Error> {
        self.enrollment.sign(self.key, message).map_err(|error| {
            *self.error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.clone());
            signature::Error::from_source(error)
        })
    }
}

impl signature::Keypair for EnrollmentSigner<'_> {
    type VerifyingKey = SubjectPublicKey;

    fn verifying_key(&self) -> SubjectPublicKey {
        self.key.public_key().clone()
    }
}

impl spki::DynSignatureAlgorithmIdentifier for EnrollmentSigner<'_> {
    fn signature_algorithm_identifier(&self) -> spki::Result<spki::AlgorithmIdentifierOwned> {
        Ok(self.key.algorithm().signature_algorithm())
    }
}
