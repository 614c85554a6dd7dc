//! Finds, makes and destroys the key pairs of a token.

use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, ObjectClass, ObjectHandle};

use super::always_authenticate::{log_pin_enforcement, with_always_authenticate};
use super::key_attributes::{KeyAttributes, describe_private_key, destroy_both_halves};
use super::key_handles::ObjectClassKey;
use super::templates;
use super::token::Pkcs11Token;
use crate::token::{KeyAlgorithm, KeyDescription, KeyId, PublicKeyObject, SecurityLevel, TokenError};

/// The key pairs of a token: found, made and destroyed.
pub(in crate::token) struct KeyPairs<'a> {
    token: &'a Pkcs11Token,
}

impl<'a> KeyPairs<'a> {
    pub(in crate::token) fn on(token: &'a Pkcs11Token) -> Self {
        Self { token }
    }

    /// All private keys of supported algorithms, except transport keys of enrollments. The token
    /// must be logged in.
    pub(in crate::token) fn keys(&self) -> Result<Vec<KeyDescription>, TokenError> {
        self.find_keys("list the keys", &[])
    }

    /// The private key with this `CKA_ID`. The token must be logged in.
    pub(in crate::token) fn find_key(&self, id: &KeyId) -> Result<Option<KeyDescription>, TokenError> {
        let found = self.find_keys("find the key", &[Attribute::Id(id.as_bytes().to_vec())])?;
        Ok(found.into_iter().next())
    }

    fn find_keys(&self, operation: &'static str, also: &[Attribute]) -> Result<Vec<KeyDescription>, TokenError> {
        self.token.require_login(operation)?;
        let mut template = vec![Attribute::Class(ObjectClass::PRIVATE_KEY), Attribute::Token(true)];
        template.extend_from_slice(also);
        let found = self.token.exclusively(operation, |session| {
            let mut found = Vec::new();
            for handle in session.find_objects(&template)? {
                if let Some(key) = describe_private_key(session, handle)? {
                    found.push((handle, key));
                }
            }
            Ok(found)
        })?;
        let mut keys = Vec::new();
        for (handle, key) in found {
            self.token.handles().remember(ObjectClassKey::Private, &key.id, handle);
            if key.signs || key.reads {
                keys.push(key);
            }
        }
        Ok(keys)
    }

    /// All public keys of supported algorithms; needs no login.
    pub(in crate::token) fn public_keys(&self) -> Result<Vec<PublicKeyObject>, TokenError> {
        self.token.exclusively("list the public keys", |session| {
            let mut keys = Vec::new();
            for handle in session.find_objects(&[Attribute::Class(ObjectClass::PUBLIC_KEY), Attribute::Token(true)])? {
                let described = KeyAttributes::read(session, handle)?;
                if let Some(public_key) = described.public_key() {
                    let algorithm = public_key.algorithm();
                    keys.push(PublicKeyObject { id: described.id, label: described.label, public_key, algorithm });
                }
            }
            Ok(keys)
        })
    }

    /// Destroys a private key and the public key with the same `CKA_ID`. Certificates stay.
    pub(in crate::token) fn destroy(&self, key: &KeyDescription) -> Result<(), TokenError> {
        self.destroy_key_pair("destroy the key", &key.id)
    }

    /// Destroys both halves of a key pair. A missing half is not an error.
    pub(in crate::token) fn destroy_key_pair(&self, operation: &'static str, id: &KeyId) -> Result<(), TokenError> {
        self.token.require_login(operation)?;
        self.token.handles().forget(ObjectClassKey::Private, id);
        self.token.exclusively(operation, |session| {
            // Copies of a destroyed key would still sign.
            self.token.drop_copies();
            destroy_both_halves(session, id)
        })
    }

    /// Generates a signing key pair of this level, which can only sign. Without a level it is the
    /// authority's, which can neither leave the token nor be copied or changed.
    pub(in crate::token) fn generate_signing_key(
        &self,
        label: &str,
        id: &KeyId,
        algorithm: KeyAlgorithm,
        level: Option<SecurityLevel>,
    ) -> Result<KeyDescription, TokenError> {
        let operation = "make a signing key";
        self.token.check_free_space(operation)?;
        let public = templates::signing_public_key(label, id, algorithm)?;
        let private = templates::signing_key(label, id, level);
        let mechanism =
            if algorithm.is_elliptic_curve() { Mechanism::EccKeyPairGen } else { Mechanism::RsaPkcsKeyPairGen };
        let made = self.token.exclusively(operation, |session| {
            let (_, private) = with_always_authenticate(session, id, &private, |private| {
                session.generate_key_pair(&mechanism, &public, private)
            })?;
            Ok((private, describe_private_key(session, private)?))
        });
        let key = self.complete_or_remove(operation, id, made)?;
        log_pin_enforcement(self.token.info(), &key, level);
        Ok(key)
    }

    /// Records a newly made key. If it is not as expected, removes everything of it from the token.
    pub(super) fn complete_or_remove(
        &self,
        operation: &'static str,
        id: &KeyId,
        made: Result<(ObjectHandle, Option<KeyDescription>), TokenError>,
    ) -> Result<KeyDescription, TokenError> {
        let error = match made {
            Ok((handle, Some(key))) => {
                self.token.handles().remember(ObjectClassKey::Private, id, handle);
                return Ok(key);
            }
            Ok((_, None)) => TokenError::Unsupported {
                operation,
                token: self.token.info().name(),
                what: "reading the public key of a key pair that it generated".to_owned(),
            },
            Err(error) => error,
        };
        if let Err(left) = self.destroy_key_pair(operation, id) {
            let token = self.token.info().name();
            tracing::warn!(%token, error = %left, "cannot clean up after a failed operation");
        }
        Err(error)
    }
}
