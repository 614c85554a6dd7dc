//! An open token, as its user uses it: the operations that every kind of token has.

use std::ops::Deref;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::authorization::{KeyAuthorization, LoginMode};
use super::check::StoredObject;
use super::delivery::Installation;
use super::pin_queue::PinQueue;
use super::pkcs11::{
    KeyInstaller, KeyOperations, KeyPairs, LogIn, Objects, Pkcs11Token, Presence, StoredObjects, TokenMarks,
};
use super::{
    Capabilities, DataObject, Delivery, KeyAlgorithm, KeyDescription, KeyId, KeyTransport, OaepHash, Pin, PinRule,
    PinState, PublicKeyObject, SecurityLevel, Signature, SignatureHash, StoredCertificate, SubjectPublicKey,
    TokenError, TokenInfo,
};

/// An open token of a user. This process owns it as long as a clone of it (or a key on it) lives.
///
/// It cannot do what only an authority does: archive keys, wrap them for other tokens, and compute
/// MACs ([`super::AuthorityToken`]).
#[derive(Clone, Debug)]
pub enum Token {
    /// a token behind a PKCS#11 module
    Pkcs11(Arc<Pkcs11Token>),
}

/// A private key on a user's token. Every use needs a [`super::PinSession`]. It derefs to its
/// description.
#[derive(Clone, Debug)]
pub struct TokenKey {
    token: Token,
    description: KeyDescription,
}

impl TokenKey {
    /// The token that holds it.
    pub fn token(&self) -> &Token {
        &self.token
    }
}

impl Deref for TokenKey {
    type Target = KeyDescription;

    fn deref(&self) -> &KeyDescription {
        &self.description
    }
}

impl Token {
    /// The description of the token at its opening.
    pub fn info(&self) -> &TokenInfo {
        let Self::Pkcs11(token) = self;
        token.info()
    }

    /// Checks that the token is still present and still the one that was opened. It spends no PIN
    /// try. [`TokenError::Absent`] means that it is gone permanently; any other error leaves it
    /// open.
    pub fn check(&self) -> Result<(), TokenError> {
        let Self::Pkcs11(token) = self;
        Presence::of(token).check()
    }

    /// Whether the token is still present, as far as [`Token::check`] can tell.
    pub fn is_present(&self) -> bool {
        let Self::Pkcs11(token) = self;
        Presence::of(token).is_present()
    }

    /// What the token can do. The first call probes it; needs no login.
    pub fn capabilities(&self) -> Result<&Capabilities, TokenError> {
        let Self::Pkcs11(token) = self;
        token.capabilities()
    }

    /// The PIN lengths that this token accepts.
    pub fn pin_rule(&self) -> PinRule {
        let Self::Pkcs11(token) = self;
        token.pin_rule()
    }

    /// Reads the current state of the user PIN. It spends no try.
    ///
    /// # Errors
    /// [`TokenError::PinStateUnknown`] if the state cannot be read.
    pub fn refresh_pin_state(&self) -> Result<PinState, TokenError> {
        let Self::Pkcs11(token) = self;
        token.refresh_pin_state()
    }

    /// Reads the current state of the SO PIN. It spends no try.
    ///
    /// # Errors
    /// Those of [`Token::refresh_pin_state`].
    pub fn refresh_so_pin_state(&self) -> Result<PinState, TokenError> {
        let Self::Pkcs11(token) = self;
        token.refresh_so_pin_state()
    }

    /// Number of wrong PINs in a row, given by any process of this user, since the last correct one
    /// or the last start of an agent.
    pub fn wrong_pins_in_a_row(&self) -> u32 {
        let Self::Pkcs11(token) = self;
        LogIn::to(token).wrong_pins_in_a_row()
    }

    /// Whether this process has logged in the user.
    pub fn is_logged_in(&self) -> bool {
        let Self::Pkcs11(token) = self;
        token.login().is_logged_in()
    }

    /// Whether a session is active, so that [`Token::under_active_session`] succeeds.
    pub fn has_active_session(&self) -> bool {
        self.active_session().is_some()
    }

    /// Logs out and ends an active session. It is not an error if the token is not logged in.
    pub fn log_out(&self) -> Result<(), TokenError> {
        let Self::Pkcs11(token) = self;
        LogIn::to(token).log_out();
        Ok(())
    }

    /// Verifies the PIN and leaves the token as it was. It spends one try, as every login, and an
    /// active session continues.
    pub fn verify_pin(&self, pin: &Pin) -> Result<(), TokenError> {
        let Self::Pkcs11(token) = self;
        LogIn::to(token).verify_pin(pin)
    }

    /// Changes the user PIN. It spends one try of the old PIN.
    pub fn change_pin(&self, old: &Pin, new: &Pin) -> Result<(), TokenError> {
        let Self::Pkcs11(token) = self;
        LogIn::to(token).change_pin(old, new)
    }

    /// Changes the SO PIN. It spends one try of the old SO PIN. Logs the user out.
    pub fn set_so_pin(&self, old: &Pin, new: &Pin) -> Result<(), TokenError> {
        let Self::Pkcs11(token) = self;
        LogIn::to(token).set_so_pin(old, new)
    }

    /// Sets a new user PIN with the SO PIN, regardless of the old one. It spends one try of the SO
    /// PIN, and none if that is locked. Ends every login on this token.
    ///
    /// # Errors
    /// [`TokenError::SoPinIncorrect`], [`TokenError::SoPinLocked`], [`TokenError::LastTry`],
    /// [`TokenError::TooManyUnattended`]; [`TokenError::PinLength`] before any try.
    pub fn unblock_pin(&self, so_pin: &Pin, pin: &Pin) -> Result<(), TokenError> {
        let Self::Pkcs11(token) = self;
        LogIn::to(token).init_pin_as_so(so_pin, pin)
    }

    /// Verifies the SO PIN. It spends one try, and none if the SO PIN is locked. Ends every login
    /// on this token.
    ///
    /// # Errors
    /// Those of [`Token::unblock_pin`].
    pub fn verify_so_pin(&self, so_pin: &Pin) -> Result<(), TokenError> {
        let Self::Pkcs11(token) = self;
        LogIn::to(token).verify_so_pin(so_pin)
    }

    /// All private keys of supported algorithms, except transport keys of enrollments. The token
    /// must be logged in.
    pub fn keys(&self) -> Result<Vec<TokenKey>, TokenError> {
        let Self::Pkcs11(token) = self;
        Ok(KeyPairs::on(token).keys()?.into_iter().map(|key| self.key(key)).collect())
    }

    /// The private key with this identifier. The token must be logged in.
    pub fn find_key(&self, id: &KeyId) -> Result<Option<TokenKey>, TokenError> {
        let Self::Pkcs11(token) = self;
        Ok(KeyPairs::on(token).find_key(id)?.map(|key| self.key(key)))
    }

    /// All public keys of supported algorithms; needs no login.
    pub fn public_keys(&self) -> Result<Vec<PublicKeyObject>, TokenError> {
        let Self::Pkcs11(token) = self;
        KeyPairs::on(token).public_keys()
    }

    /// Destroys a private key and the public key with the same identifier. Certificates stay.
    pub fn destroy(&self, key: &TokenKey) -> Result<(), TokenError> {
        let Self::Pkcs11(token) = self;
        KeyPairs::on(token).destroy(key)
    }

    /// The data objects of this application: the private ones (after login) or the public ones. If
    /// a kill left two editions with the same label, only the newer one.
    pub fn data_objects(&self, application: &str, private: bool) -> Result<Vec<DataObject>, TokenError> {
        let Self::Pkcs11(token) = self;
        Objects::on(token).data_objects(application, private)
    }

    /// Writes a data object in place of all others with the same application, label and privacy.
    /// After a kill both may exist, and the newer one counts.
    pub fn put_data(&self, application: &str, label: &str, value: &[u8], private: bool) -> Result<(), TokenError> {
        let Self::Pkcs11(token) = self;
        Objects::on(token).put_data(application, label, value, private)
    }

    /// Destroys the data objects with this application, label and privacy. Returns whether there
    /// was one.
    pub fn delete_data(&self, application: &str, label: &str, private: bool) -> Result<bool, TokenError> {
        let Self::Pkcs11(token) = self;
        Objects::on(token).delete_data(application, label, private)
    }

    /// Whether the token carries an authority's mark ([`super::AUTHORITY_MARK`]). It then holds no
    /// keysets.
    pub fn is_authority_token(&self) -> Result<bool, TokenError> {
        let Self::Pkcs11(token) = self;
        Objects::on(token).is_authority_token()
    }

    /// Whether the token holds no visible object (private ones are visible only after login).
    pub fn is_empty(&self) -> Result<bool, TokenError> {
        let Self::Pkcs11(token) = self;
        Objects::on(token).is_empty()
    }

    /// All X.509 certificates; needs no login.
    pub fn certificates(&self) -> Result<Vec<StoredCertificate>, TokenError> {
        let Self::Pkcs11(token) = self;
        Objects::on(token).certificates()
    }

    /// Writes a certificate, unless the same one exists with the same identifier.
    pub fn put_certificate(&self, id: &KeyId, label: &str, der: &[u8]) -> Result<(), TokenError> {
        let Self::Pkcs11(token) = self;
        Objects::on(token).put_certificate(id, label, der)
    }

    /// Destroys this certificate. It is not an error if it is gone.
    pub fn delete_certificate(&self, certificate: &StoredCertificate) -> Result<(), TokenError> {
        let Self::Pkcs11(token) = self;
        Objects::on(token).delete_certificate(certificate)
    }

    /// Whether the token is being made for this purpose ([`super::TokenSource::create_token_for`])
    /// and holds no other visible object.
    pub fn is_provisioned_for(&self, purpose: &str) -> Result<bool, TokenError> {
        let Self::Pkcs11(token) = self;
        TokenMarks::on(token).is_provisioned_for(purpose)
    }

    /// Removes the mark of [`super::TokenSource::create_token_for`]. The token must be unlocked.
    pub fn finish_provisioning(&self, purpose: &str) -> Result<(), TokenError> {
        let Self::Pkcs11(token) = self;
        TokenMarks::on(token).finish(purpose)
    }
}

/// The operations of the types that hold a PIN or a session.
impl Token {
    fn key(&self, description: KeyDescription) -> TokenKey {
        TokenKey { token: self.clone(), description }
    }

    pub(super) fn pkcs11(&self) -> &Arc<Pkcs11Token> {
        let Self::Pkcs11(token) = self;
        token
    }

    pub(super) fn pin_queue(&self) -> &PinQueue {
        let Self::Pkcs11(token) = self;
        token.pin_queue()
    }

    pub(super) fn active_session(&self) -> Option<u64> {
        let Self::Pkcs11(token) = self;
        token.login().active_session()
    }

    /// Whether a session is active; `None` while another thread has the token to itself, perhaps
    /// for a login.
    pub(super) fn has_active_session_unless_busy(&self) -> Option<bool> {
        let Self::Pkcs11(token) = self;
        token.has_active_session_unless_busy()
    }

    pub(super) fn is_unresponsive(&self) -> bool {
        let Self::Pkcs11(token) = self;
        token.module().unresponsive_for().is_some()
    }

    pub(super) fn log_in_for(&self, purpose: LoginMode, pin: &Pin) -> Result<u64, TokenError> {
        let Self::Pkcs11(token) = self;
        LogIn::to(token).log_in_for(purpose, pin)
    }

    pub(super) fn end_operation(&self) {
        let Self::Pkcs11(token) = self;
        LogIn::to(token).end_operation();
    }

    pub(super) fn sign(
        &self,
        key: &TokenKey,
        hash: SignatureHash,
        message: &[u8],
        authorization: KeyAuthorization<'_>,
    ) -> Result<Signature, TokenError> {
        let Self::Pkcs11(token) = self;
        KeyOperations::of(token).sign(key, hash, message, authorization)
    }

    pub(super) fn decrypt(
        &self,
        key: &TokenKey,
        transport: &KeyTransport,
        ciphertext: &[u8],
        authorization: KeyAuthorization<'_>,
    ) -> Result<Zeroizing<Vec<u8>>, TokenError> {
        let Self::Pkcs11(token) = self;
        KeyOperations::of(token).decrypt(key, transport, ciphertext, authorization)
    }

    pub(super) fn agree(
        &self,
        key: &TokenKey,
        peer_spki_der: &[u8],
        authorization: KeyAuthorization<'_>,
    ) -> Result<Zeroizing<Vec<u8>>, TokenError> {
        let Self::Pkcs11(token) = self;
        KeyOperations::of(token).agree(key, peer_spki_der, authorization)
    }

    pub(super) fn generate_signing_key(
        &self,
        label: &str,
        id: &KeyId,
        algorithm: KeyAlgorithm,
        level: SecurityLevel,
    ) -> Result<TokenKey, TokenError> {
        let Self::Pkcs11(token) = self;
        KeyPairs::on(token).generate_signing_key(label, id, algorithm, Some(level)).map(|key| self.key(key))
    }

    pub(super) fn destroy_key_pair(&self, operation: &'static str, id: &KeyId) -> Result<(), TokenError> {
        let Self::Pkcs11(token) = self;
        KeyPairs::on(token).destroy_key_pair(operation, id)
    }

    pub(super) fn generate_transport_key_pair(
        &self,
        label: &str,
        id: &KeyId,
    ) -> Result<(SubjectPublicKey, OaepHash), TokenError> {
        let Self::Pkcs11(token) = self;
        KeyInstaller::on(token).generate_transport_key_pair(label, id)
    }

    pub(super) fn find_transport_key_pair(
        &self,
        id: &KeyId,
    ) -> Result<Option<(SubjectPublicKey, OaepHash)>, TokenError> {
        let Self::Pkcs11(token) = self;
        KeyInstaller::on(token).find_transport_key_pair(id)
    }

    pub(super) fn install(
        &self,
        transport: &KeyId,
        delivery: &Delivery,
        key: &Installation<'_>,
    ) -> Result<TokenKey, TokenError> {
        let Self::Pkcs11(token) = self;
        KeyInstaller::on(token).install(transport, delivery, key).map(|key| self.key(key))
    }

    pub(super) fn verify_stored(
        &self,
        operation: &'static str,
        objects: Vec<StoredObject>,
        pin: Option<&Pin>,
    ) -> Result<Option<String>, TokenError> {
        let Self::Pkcs11(token) = self;
        StoredObjects::on(token).verify(operation, objects, pin)
    }
}

#[cfg(test)]
impl Token {
    /// Logs in and stays logged in, as only an authority does.
    pub(crate) fn log_in(&self, pin: &Pin) -> Result<(), TokenError> {
        self.log_in_for(LoginMode::Persistent, pin).map(|_| ())
    }
}
