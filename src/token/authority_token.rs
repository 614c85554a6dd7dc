//! An authority's token: its keys sign, archive and wrap while it stays logged in.

use std::ops::Deref;
use std::sync::Arc;

use signature::Error as SignatureError;

use super::authorization::{KeyAuthorization, LoginMode};
use super::check::StoredObject;
use super::pkcs11::{ArchiveOperations, KeyOperations, KeyPairs, LogIn, Objects, Pkcs11Token, StoredObjects};
use super::{
    DataObject, DeliverableKey, Delivery, KeyAlgorithm, KeyDescription, KeyId, OaepHash, Pin, SecretKey, Signature,
    SignatureHash, SubjectPublicKey, TokenError, TokenInfo, WrappedKey,
};

/// The open token of an authority, which this process owns as long as a clone of it (or a key on
/// it) lives. It cannot enroll, and no user's operation takes it. It is a token behind a PKCS#11
/// module, because no other kind wraps keys.
#[derive(Clone, Debug)]
pub struct AuthorityToken {
    token: Arc<Pkcs11Token>,
}

/// A signing key of an authority. It signs while its token is logged in, and derefs to its
/// description.
#[derive(Clone, Debug)]
pub struct AuthorityKey {
    token: Arc<Pkcs11Token>,
    description: KeyDescription,
}

impl Deref for AuthorityKey {
    type Target = KeyDescription;

    fn deref(&self) -> &KeyDescription {
        &self.description
    }
}

impl AuthorityKey {
    /// Signs with the usual hash of the key's algorithm. Its token must be logged in.
    pub fn sign(&self, message: &[u8]) -> Result<Signature, TokenError> {
        self.sign_hashed(SignatureHash::usual_for(self.algorithm()), message)
    }

    /// Signs with the given hash. [`TokenError::Unsupported`] if the curve of the key requires
    /// another.
    pub fn sign_hashed(&self, hash: SignatureHash, message: &[u8]) -> Result<Signature, TokenError> {
        KeyOperations::of(&self.token).sign(self, hash, message, KeyAuthorization::LoggedIn)
    }
}

impl signature::Signer<Signature> for AuthorityKey {
    fn try_sign(&self, message: &[u8]) -> Result<Signature, SignatureError> {
        self.sign(message).map_err(SignatureError::from_source)
    }
}

impl signature::Keypair for AuthorityKey {
    type VerifyingKey = SubjectPublicKey;

    fn verifying_key(&self) -> SubjectPublicKey {
        self.public_key().clone()
    }
}

impl spki::DynSignatureAlgorithmIdentifier for AuthorityKey {
    fn signature_algorithm_identifier(&self) -> spki::Result<spki::AlgorithmIdentifierOwned> {
        Ok(self.algorithm().signature_algorithm())
    }
}

impl AuthorityToken {
    pub(super) fn new(token: Arc<Pkcs11Token>) -> Self {
        Self { token }
    }

    fn key(&self, description: KeyDescription) -> AuthorityKey {
        AuthorityKey { token: Arc::clone(&self.token), description }
    }

    /// The description of the token at its opening.
    pub fn info(&self) -> &TokenInfo {
        self.token.info()
    }

    /// Logs in and stays logged in. It really verifies the PIN, and spends at most one try.
    pub fn log_in(&self, pin: &Pin) -> Result<(), TokenError> {
        LogIn::to(&self.token).log_in_for(LoginMode::Persistent, pin).map(|_| ())
    }

    /// Changes the SO PIN. It spends one try of the old SO PIN. Logs the user out.
    pub fn set_so_pin(&self, old: &Pin, new: &Pin) -> Result<(), TokenError> {
        LogIn::to(&self.token).set_so_pin(old, new)
    }

    /// The data objects of this application: the private ones (after login) or the public ones.
    pub fn data_objects(&self, application: &str, private: bool) -> Result<Vec<DataObject>, TokenError> {
        Objects::on(&self.token).data_objects(application, private)
    }

    /// Writes a data object in place of all others with the same application, label and privacy.
    pub fn put_data(&self, application: &str, label: &str, value: &[u8], private: bool) -> Result<(), TokenError> {
        Objects::on(&self.token).put_data(application, label, value, private)
    }

    /// Destroys the data objects with this application, label and privacy. Returns whether there
    /// was one.
    pub fn delete_data(&self, application: &str, label: &str, private: bool) -> Result<bool, TokenError> {
        Objects::on(&self.token).delete_data(application, label, private)
    }

    /// Writes a certificate, unless the same one exists with the same identifier.
    pub fn put_certificate(&self, id: &KeyId, label: &str, der: &[u8]) -> Result<(), TokenError> {
        Objects::on(&self.token).put_certificate(id, label, der)
    }

    /// All signing keys of supported algorithms.
    pub fn keys(&self) -> Result<Vec<AuthorityKey>, TokenError> {
        Ok(KeyPairs::on(&self.token).keys()?.into_iter().map(|key| self.key(key)).collect())
    }

    /// Generates a signing key pair, which can only sign and can neither leave the token nor be
    /// copied or changed.
    pub fn generate_signing_key(
        &self,
        label: &str,
        id: &KeyId,
        algorithm: KeyAlgorithm,
    ) -> Result<AuthorityKey, TokenError> {
        KeyPairs::on(&self.token).generate_signing_key(label, id, algorithm, None).map(|key| self.key(key))
    }

    /// Generates a 32-byte key for HMAC-SHA-256, usable for nothing else.
    pub fn generate_mac_key(&self, label: &str, id: &KeyId) -> Result<SecretKey, TokenError> {
        ArchiveOperations::on(&self.token).generate_mac_key(label, id)
    }

    /// Generates the AES-256 key of the archive, usable only to wrap and unwrap.
    pub fn generate_archive_key(&self, label: &str, id: &KeyId) -> Result<SecretKey, TokenError> {
        ArchiveOperations::on(&self.token).generate_archive_key(label, id)
    }

    /// All secret keys.
    pub fn secret_keys(&self) -> Result<Vec<SecretKey>, TokenError> {
        ArchiveOperations::on(&self.token).secret_keys()
    }

    /// HMAC-SHA-256 of `message`, computed on the token.
    pub fn mac(&self, key: &SecretKey, message: &[u8]) -> Result<[u8; 32], TokenError> {
        ArchiveOperations::on(&self.token).mac(key, message)
    }

    /// Generates an encryption key pair that can be archived and delivered.
    pub fn generate_deliverable_key(&self, algorithm: KeyAlgorithm) -> Result<DeliverableKey, TokenError> {
        ArchiveOperations::on(&self.token).generate_deliverable_key(algorithm)
    }

    /// Wraps a key for the archive, with the best method of the token.
    pub fn wrap_for_archive(&self, archive: &SecretKey, key: &DeliverableKey) -> Result<WrappedKey, TokenError> {
        ArchiveOperations::on(&self.token).wrap_for_archive(archive, key)
    }

    /// Unwraps a key from the archive for delivery. [`TokenError::BadDelivery`] if the blob was
    /// changed.
    pub fn unwrap_from_archive(
        &self,
        archive: &SecretKey,
        wrapped: &WrappedKey,
        algorithm: KeyAlgorithm,
    ) -> Result<DeliverableKey, TokenError> {
        ArchiveOperations::on(&self.token).unwrap_from_archive(archive, wrapped, algorithm)
    }

    /// Wraps a key for a user's token: with a fresh AES-256 key, which is encrypted to the user's
    /// transport key (DER `SubjectPublicKeyInfo`, RSA). RSA-OAEP uses the wanted hash if this token
    /// supports it, else SHA-1, which every token supports. [`Delivery::oaep`] names the hash.
    pub fn wrap_for_token(
        &self,
        key: &DeliverableKey,
        transport_spki_der: &[u8],
        wanted: OaepHash,
    ) -> Result<Delivery, TokenError> {
        ArchiveOperations::on(&self.token).wrap_for_token(key, transport_spki_der, wanted)
    }

    /// Checks in a new process that all `objects` are on the token. `pin` is the PIN that this
    /// process is logged in with. If the process could not check, the result is the reason.
    ///
    /// # Errors
    /// [`TokenError::NotStored`], with the missing objects.
    pub fn verify_stored(
        &self,
        operation: &'static str,
        objects: Vec<StoredObject>,
        pin: Option<&Pin>,
    ) -> Result<Option<String>, TokenError> {
        StoredObjects::on(&self.token).verify(operation, objects, pin)
    }
}

#[cfg(test)]
impl AuthorityToken {
    pub(super) fn pkcs11(&self) -> &Arc<Pkcs11Token> {
        &self.token
    }

    pub(super) fn destroy(&self, key: &AuthorityKey) -> Result<(), TokenError> {
        KeyPairs::on(&self.token).destroy(key)
    }

    pub(super) fn find_secret_key(&self, label: &str) -> Result<Option<SecretKey>, TokenError> {
        Ok(self.secret_keys()?.into_iter().find(|key| key.label() == label))
    }
}
