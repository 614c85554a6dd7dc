//! The user's side of a delivery: makes the transport key, and unwraps the delivered private key
//! into the token.

use cryptoki::error::Result as CkResult;
use cryptoki::mechanism::Mechanism;
use cryptoki::object::ObjectHandle;
use cryptoki::session::Session;

use super::always_authenticate::{log_pin_enforcement, with_always_authenticate};
use super::key_attributes::describe_private_key;
use super::key_handles::ObjectClassKey;
use super::key_lookup::KeyLookup;
use super::key_wrap::{can_unwrap, require_key_wrap, undeliverable};
use super::keys::KeyPairs;
use super::mechanisms::oaep;
use super::raw::WrapMechanism;
use super::templates;
use super::token::Pkcs11Token;
use crate::token::delivery::Installation;
use crate::token::{Delivery, KeyAlgorithm, KeyDescription, KeyId, OaepHash, RsaSize, SubjectPublicKey, TokenError};

/// The algorithm of every transport key: strong enough for the minutes of its life, and fast to
/// generate.
const TRANSPORT: KeyAlgorithm = KeyAlgorithm::Rsa(RsaSize::Bits2048);

/// The user's side of a delivery.
pub(in crate::token) struct KeyInstaller<'a> {
    token: &'a Pkcs11Token,
}

impl<'a> KeyInstaller<'a> {
    pub(in crate::token) fn on(token: &'a Pkcs11Token) -> Self {
        Self { token }
    }

    /// Generates a transport key pair. Returns the public key and the RSA-OAEP hash that this token
    /// supports.
    pub(in crate::token) fn generate_transport_key_pair(
        &self,
        label: &str,
        id: &KeyId,
    ) -> Result<(SubjectPublicKey, OaepHash), TokenError> {
        let operation = "make a transport key";
        self.token.check_free_space(operation)?;
        let oaep = self.require_oaep(operation)?;
        require_key_wrap(self.token, operation)?;
        let public = templates::transport_public_key(label, id, TRANSPORT)?;
        let private = templates::transport_key(label, id);
        let unwrapped = templates::unwrapped_by_transport_key();
        let made = self.token.exclusively(operation, |session| {
            let mechanism = Mechanism::RsaPkcsKeyPairGen;
            let (_, private) =
                self.token.raw().generate_unwrapping_key_pair(session, &mechanism, &public, &private, &unwrapped)?;
            Ok((private, describe_private_key(session, private)?))
        });
        let key = KeyPairs::on(self.token).complete_or_remove(operation, id, made)?;
        Ok((key.public_key().clone(), oaep))
    }

    /// The transport key pair with this `CKA_ID`, made earlier.
    pub(in crate::token) fn find_transport_key_pair(
        &self,
        id: &KeyId,
    ) -> Result<Option<(SubjectPublicKey, OaepHash)>, TokenError> {
        let operation = "find the transport key";
        let Some(key) = self.private_key_of_any_use(operation, id)? else { return Ok(None) };
        Ok(Some((key.public_key, self.require_oaep(operation)?)))
    }

    /// Unwraps a delivered key into the token and stores its public key; all or nothing.
    pub(in crate::token) fn install(
        &self,
        transport: &KeyId,
        delivery: &Delivery,
        key: &Installation<'_>,
    ) -> Result<KeyDescription, TokenError> {
        let operation = "install the delivered key";
        self.token.require_login(operation)?;
        self.token.check_free_space(operation)?;
        let public_key = SubjectPublicKey::from_der(key.public_spki_der)?;
        if public_key.algorithm() != key.algorithm {
            return Err(self.misfit(operation, "its certificate is for a key of another algorithm"));
        }
        let public = templates::delivered_public_key(key.label, key.id, key.algorithm, &public_key)?;
        let transport =
            KeyLookup::on(self.token).use_key(operation, ObjectClassKey::Private, transport, |_, handle| Ok(handle))?;
        let made = self.token.exclusively(operation, |session| {
            let private = self.unwrap_delivery(session, transport, delivery, key)?;
            session.create_object(&public)?;
            Ok((private, describe_private_key(session, private)?))
        });
        let made = made.map_err(|error| undeliverable(self.token, operation, error));
        let installed = KeyPairs::on(self.token).complete_or_remove(operation, key.id, made)?;
        if *installed.public_key() != public_key {
            KeyPairs::on(self.token).destroy(&installed)?;
            return Err(self.misfit(operation, "it is not the key of its certificate"));
        }
        log_pin_enforcement(self.token.info(), &installed, Some(key.level));
        Ok(installed)
    }

    fn unwrap_delivery(
        &self,
        session: &Session,
        transport: ObjectHandle,
        delivery: &Delivery,
        key: &Installation<'_>,
    ) -> CkResult<ObjectHandle> {
        let aes = self.token.raw().unwrap_key(
            session,
            &WrapMechanism::Other(oaep(delivery.oaep)),
            transport,
            &delivery.encrypted_key,
            &templates::delivered_aes_key(),
        )?;
        let template = templates::delivered_key(key.label, key.id, key.algorithm, key.level);
        let mechanism = WrapMechanism::KeyWrap(can_unwrap(self.token, delivery.key_wrap));
        let private = with_always_authenticate(session, key.id, &template, |template| {
            self.token.raw().unwrap_key(session, &mechanism, aes, &delivery.wrapped, template)
        });
        let destroyed = session.destroy_object(aes);
        let private = private?;
        destroyed?;
        Ok(private)
    }

    fn require_oaep(&self, operation: &'static str) -> Result<OaepHash, TokenError> {
        self.token.capabilities()?.oaep_for_unwrapping().ok_or_else(|| TokenError::Unsupported {
            operation,
            token: self.token.info().name(),
            what: "RSA-OAEP".to_owned(),
        })
    }

    fn misfit(&self, operation: &'static str, reason: &str) -> TokenError {
        TokenError::BadDelivery { operation, token: self.token.info().name(), reason: reason.to_owned() }
    }

    fn private_key_of_any_use(
        &self,
        operation: &'static str,
        id: &KeyId,
    ) -> Result<Option<KeyDescription>, TokenError> {
        self.token.require_login(operation)?;
        let template = [
            cryptoki::object::Attribute::Class(cryptoki::object::ObjectClass::PRIVATE_KEY),
            cryptoki::object::Attribute::Token(true),
            cryptoki::object::Attribute::Id(id.as_bytes().to_vec()),
        ];
        self.token.exclusively(operation, |session| match session.find_objects(&template)?.first() {
            Some(handle) => describe_private_key(session, *handle),
            None => Ok(None),
        })
    }
}
