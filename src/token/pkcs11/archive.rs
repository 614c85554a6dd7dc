//! Keys of the authority: permanent secret keys, and encryption key pairs that are archived and
//! delivered.

use std::sync::{Arc, Mutex, PoisonError};

use cryptoki::error::Result as CkResult;
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;

use super::key_attributes::read_public_key;
use super::key_handles::ObjectClassKey;
use super::key_lookup::KeyLookup;
use super::key_wrap::{can_unwrap, require_key_wrap, undeliverable};
use super::mechanisms::oaep;
use super::raw::WrapMechanism;
use super::return_values;
use super::templates;
use super::token::Pkcs11Token;
use crate::token::authorization::KeyAuthorization;
use crate::token::{Delivery, KeyAlgorithm, KeyId, OaepHash, SubjectPublicKey, TokenError, WrappedKey};

/// A secret key on the authority's token, for MACs or for the archive. It never leaves the token.
#[derive(Clone, Debug)]
pub struct SecretKey {
    id: KeyId,
    label: String,
}

impl SecretKey {
    /// Its `CKA_ID`.
    pub fn id(&self) -> &KeyId {
        &self.id
    }

    pub fn label(&self) -> &str {
        &self.label
    }
}

/// A user's encryption key pair while it is on the authority's token. It is a session object: never
/// on disk, destroyed when this is dropped or the token is logged out.
#[derive(Debug)]
pub struct DeliverableKey {
    algorithm: KeyAlgorithm,
    public_key: Option<SubjectPublicKey>,
    handle: ObjectHandle,
    // The session that owns the object; closing it destroys the object.
    session: Mutex<Session>,
    // Keeps ownership of the token while the key exists.
    _token: Arc<Pkcs11Token>,
}

impl DeliverableKey {
    /// The algorithm of the key.
    pub fn algorithm(&self) -> KeyAlgorithm {
        self.algorithm
    }

    /// DER of the public key's `SubjectPublicKeyInfo`. `None` for an elliptic-curve key from the
    /// archive: its certificate has the public key.
    pub fn public_key_der(&self) -> Option<&[u8]> {
        self.public_key.as_ref().map(SubjectPublicKey::as_der)
    }
}

#[cfg(test)]
impl DeliverableKey {
    pub(super) fn handle(&self) -> ObjectHandle {
        self.handle
    }
}

/// The authority's side: secret keys, and the keys that it archives and delivers.
pub(in crate::token) struct ArchiveOperations<'a> {
    token: &'a Arc<Pkcs11Token>,
}

impl<'a> ArchiveOperations<'a> {
    pub(in crate::token) fn on(token: &'a Arc<Pkcs11Token>) -> Self {
        Self { token }
    }

    /// Generates a 32-byte key for HMAC-SHA-256, usable for nothing else.
    pub(in crate::token) fn generate_mac_key(&self, label: &str, id: &KeyId) -> Result<SecretKey, TokenError> {
        let template = templates::mac_key(label, id);
        self.generate_secret_key("make a MAC key", label, id, &Mechanism::GenericSecretKeyGen, &template)
    }

    /// Generates the AES-256 key of the archive, usable only to wrap and unwrap.
    pub(in crate::token) fn generate_archive_key(&self, label: &str, id: &KeyId) -> Result<SecretKey, TokenError> {
        let template = templates::archive_key(label, id);
        self.generate_secret_key("make an archive key", label, id, &Mechanism::AesKeyGen, &template)
    }

    fn generate_secret_key(
        &self,
        operation: &'static str,
        label: &str,
        id: &KeyId,
        mechanism: &Mechanism<'_>,
        template: &[Attribute],
    ) -> Result<SecretKey, TokenError> {
        let made = self.token.exclusively(operation, |session| session.generate_key(mechanism, template));
        let handle = match made {
            Ok(handle) => handle,
            Err(error) => {
                // SoftHSM can leave an incomplete object behind.
                let half = [Attribute::Class(ObjectClass::SECRET_KEY), Attribute::Id(id.as_bytes().to_vec())];
                let _ = self.token.exclusively(operation, |session| {
                    session.find_objects(&half)?.into_iter().try_for_each(|left| session.destroy_object(left))
                });
                return Err(error);
            }
        };
        self.token.handles().remember(ObjectClassKey::Secret, id, handle);
        Ok(SecretKey { id: id.clone(), label: label.to_owned() })
    }

    pub(in crate::token) fn secret_keys(&self) -> Result<Vec<SecretKey>, TokenError> {
        let operation = "list the secret keys";
        self.token.require_login(operation)?;
        let template = [Attribute::Class(ObjectClass::SECRET_KEY), Attribute::Token(true)];
        let found = self.token.exclusively(operation, |session| {
            let mut found = Vec::new();
            for handle in session.find_objects(&template)? {
                let mut key = SecretKey { id: KeyId::default(), label: String::new() };
                for attribute in session.get_attributes(handle, &[AttributeType::Id, AttributeType::Label])? {
                    match attribute {
                        Attribute::Id(id) => key.id = KeyId::from(id),
                        Attribute::Label(label) => key.label = String::from_utf8_lossy(&label).into_owned(),
                        _ => {}
                    }
                }
                found.push((handle, key));
            }
            Ok(found)
        })?;
        for (handle, key) in &found {
            self.token.handles().remember(ObjectClassKey::Secret, &key.id, *handle);
        }
        Ok(found.into_iter().map(|(_, key)| key).collect())
    }

    /// HMAC-SHA-256 of `message`, computed on the token.
    pub(in crate::token) fn mac(&self, key: &SecretKey, message: &[u8]) -> Result<[u8; 32], TokenError> {
        let operation = "compute a MAC";
        let mac =
            KeyLookup::on(self.token).use_key(operation, ObjectClassKey::Secret, &key.id, |session, handle| {
                session.sign_init(&Mechanism::Sha256Hmac, handle)?;
                self.token.raw().sign(session, message)
            })?;
        mac.try_into().map_err(|mac: Vec<u8>| TokenError::Fault {
            operation,
            token: self.token.info().name(),
            code: format!("a MAC of {} bytes", mac.len()),
        })
    }

    /// Generates an encryption key pair that can be archived and delivered.
    pub(in crate::token) fn generate_deliverable_key(
        &self,
        algorithm: KeyAlgorithm,
    ) -> Result<DeliverableKey, TokenError> {
        let operation = "make an encryption key";
        let (private, public) = templates::deliverable_key_pair(algorithm)?;
        let mechanism =
            if algorithm.is_elliptic_curve() { Mechanism::EccKeyPairGen } else { Mechanism::RsaPkcsKeyPairGen };
        let (key, public_key) = self.in_own_session(operation, |session| {
            let (public, private) = session.generate_key_pair(&mechanism, &public, &private)?;
            Ok((private, read_public_key(session, public)?))
        })?;
        if public_key.is_none() {
            let what = "reading the public key of a key pair that it generated".to_owned();
            return Err(TokenError::Unsupported { operation, token: self.token.info().name(), what });
        }
        Ok(DeliverableKey { algorithm, public_key, handle: key.0, session: key.1, _token: Arc::clone(self.token) })
    }

    /// Wraps a key for the archive with the best mechanism of the token.
    pub(in crate::token) fn wrap_for_archive(
        &self,
        archive: &SecretKey,
        key: &DeliverableKey,
    ) -> Result<WrappedKey, TokenError> {
        let operation = "wrap a key for the archive";
        let mechanism = require_key_wrap(self.token, operation)?;
        let blob =
            KeyLookup::on(self.token).use_key(operation, ObjectClassKey::Secret, &archive.id, |session, handle| {
                self.token.raw().wrap_key(session, &WrapMechanism::KeyWrap(mechanism), handle, key.handle)
            })?;
        Ok(WrappedKey { key_wrap: mechanism, blob })
    }

    /// Unwraps a key from the archive for delivery. [`TokenError::BadDelivery`] if the blob was
    /// changed.
    pub(in crate::token) fn unwrap_from_archive(
        &self,
        archive: &SecretKey,
        wrapped: &WrappedKey,
        algorithm: KeyAlgorithm,
    ) -> Result<DeliverableKey, TokenError> {
        let operation = "take a key out of the archive";
        let template = templates::archived_key(algorithm);
        let mechanism = WrapMechanism::KeyWrap(can_unwrap(self.token, wrapped.key_wrap));
        let unwrap = || {
            KeyLookup::on(self.token).look_up_and_use(
                KeyAuthorization::LoggedIn,
                operation,
                ObjectClassKey::Secret,
                &archive.id,
                |archive| {
                    self.make_in_own_session(|session| {
                        let key =
                            self.token.raw().unwrap_key(session, &mechanism, archive, &wrapped.blob, &template)?;
                        Ok((key, read_public_key(session, key)?))
                    })
                },
            )
        };
        let unwrapped = match unwrap()? {
            // One session of the pool was closed; the next one may be open.
            Err(error) if return_values::is_session_gone(&error) => {
                self.token.note(&error);
                unwrap()?
            }
            unwrapped => unwrapped,
        };
        let (key, public_key) = unwrapped
            .map_err(|error| self.token.explain(operation, &error))
            .map_err(|error| undeliverable(self.token, operation, error))?;
        Ok(DeliverableKey { algorithm, public_key, handle: key.0, session: key.1, _token: Arc::clone(self.token) })
    }

    /// Wraps a key for a user's token: with a fresh AES-256 key, which is encrypted to the user's
    /// transport key (DER `SubjectPublicKeyInfo`, RSA). RSA-OAEP uses the wanted hash if this token
    /// supports it (`SoftHSM` does not), else SHA-1, which every token supports. [`Delivery::oaep`]
    /// names the hash.
    pub(in crate::token) fn wrap_for_token(
        &self,
        key: &DeliverableKey,
        transport_spki_der: &[u8],
        wanted: OaepHash,
    ) -> Result<Delivery, TokenError> {
        let operation = "wrap a key for another token";
        let transport = SubjectPublicKey::from_der(transport_spki_der)?;
        if transport.algorithm().is_elliptic_curve() {
            let reason = "the transport key is not an RSA key".to_owned();
            return Err(TokenError::BadData { operation, token: self.token.info().name(), reason });
        }
        let transport = templates::foreign_transport_key(&transport)?;
        let mechanism = require_key_wrap(self.token, operation)?;
        let oaep_hash = if self.token.capabilities()?.oaep_for_unwrapping() == Some(OaepHash::Sha1) {
            OaepHash::Sha1
        } else {
            wanted
        };
        let fresh = templates::delivery_aes_key();
        self.token.concurrently(operation, |session| {
            let aes = session.generate_key(&Mechanism::AesKeyGen, &fresh)?;
            let transport = session.create_object(&transport)?;
            let encrypted_key =
                self.token.raw().wrap_key(session, &WrapMechanism::Other(oaep(oaep_hash)), transport, aes)?;
            let wrapped = self.token.raw().wrap_key(session, &WrapMechanism::KeyWrap(mechanism), aes, key.handle)?;
            session.destroy_object(aes)?;
            session.destroy_object(transport)?;
            Ok(Delivery { oaep: oaep_hash, encrypted_key, key_wrap: mechanism, wrapped })
        })
    }

    /// Makes a session object in a new session, which keeps the object alive.
    fn in_own_session<T>(
        &self,
        operation: &'static str,
        action: impl FnOnce(&Session) -> CkResult<(ObjectHandle, T)>,
    ) -> Result<((ObjectHandle, Mutex<Session>), T), TokenError> {
        let _shared = self.token.shared();
        self.make_in_own_session(action).map_err(|error| self.token.explain(operation, &error))
    }

    /// Like `in_own_session`; the caller holds the token's lock.
    fn make_in_own_session<T>(
        &self,
        action: impl FnOnce(&Session) -> CkResult<(ObjectHandle, T)>,
    ) -> CkResult<((ObjectHandle, Mutex<Session>), T)> {
        let session = self.token.sessions().open_another()?;
        let (handle, value) = action(&session)?;
        Ok(((handle, Mutex::new(session)), value))
    }
}

impl Drop for DeliverableKey {
    fn drop(&mut self) {
        // Closing the session is enough, but some modules notice that late.
        let session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = session.destroy_object(self.handle);
    }
}
