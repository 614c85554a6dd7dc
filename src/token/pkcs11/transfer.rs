//! The user's side of a delivery: makes the transport key, and unwraps the delivered private key
//! into the token.

use cryptoki::error::Result as CkResult;
use cryptoki::mechanism::Mechanism;
use cryptoki::object::ObjectHandle;
use cryptoki::session::Session;

use super::always_authenticate::with_always_authenticate;
use super::keys::{KeyDescription, describe_private_key};
use super::mechanisms::oaep;
use super::raw::WrapMechanism;
use super::templates;
use super::token::ObjectClassKey;
use crate::token::{
    Delivery, KeyAlgorithm, KeyId, KeyWrapMechanism, OaepHash, RsaSize, SecurityLevel, SubjectPublicKey, Token,
    TokenError, TokenKey,
};

/// The algorithm of every transport key: strong enough for the minutes of its life, and fast to
/// generate.
const TRANSPORT: KeyAlgorithm = KeyAlgorithm::Rsa(RsaSize::Bits2048);

/// The properties of the installed key.
pub(in crate::token) struct Installation<'a> {
    pub(in crate::token) label: &'a str,
    pub(in crate::token) id: &'a KeyId,
    pub(in crate::token) algorithm: KeyAlgorithm,
    pub(in crate::token) public_spki_der: &'a [u8],
    pub(in crate::token) level: SecurityLevel,
}

impl Token {
    /// Generates a transport key pair. Returns the public key and the RSA-OAEP hash that this token
    /// supports.
    pub(in crate::token) fn generate_transport_key_pair(
        &self,
        label: &str,
        id: &KeyId,
    ) -> Result<(SubjectPublicKey, OaepHash), TokenError> {
        let operation = "make a transport key";
        self.check_free_space(operation)?;
        let oaep = self.require_oaep(operation)?;
        self.require_key_wrap(operation)?;
        let public = templates::transport_public_key(label, id, TRANSPORT)?;
        let private = templates::transport_key(label, id);
        let unwrapped = templates::unwrapped_by_transport_key();
        let made = self.exclusively(operation, |session| {
            let mechanism = Mechanism::RsaPkcsKeyPairGen;
            let (_, private) =
                self.raw().generate_unwrapping_key_pair(session, &mechanism, &public, &private, &unwrapped)?;
            Ok((private, describe_private_key(session, private)?))
        });
        let key = self.complete_or_remove(operation, id, made)?;
        Ok((key.public_key().clone(), oaep))
    }

    /// The transport key pair with this `CKA_ID`, made earlier.
    pub(in crate::token) fn find_transport_key_pair(
        &self,
        id: &KeyId,
    ) -> Result<Option<(SubjectPublicKey, OaepHash)>, TokenError> {
        let operation = "find the transport key";
        let Some(key) = self.private_key_of_any_use(operation, id)? else { return Ok(None) };
        Ok(Some((key.into_public_key(), self.require_oaep(operation)?)))
    }

    /// Unwraps a delivered key into the token and stores its public key; all or nothing.
    pub(in crate::token) fn install(
        &self,
        transport: &KeyId,
        delivery: &Delivery,
        key: &Installation<'_>,
    ) -> Result<TokenKey, TokenError> {
        let operation = "install the delivered key";
        self.require_login(operation)?;
        self.check_free_space(operation)?;
        let public_key = SubjectPublicKey::from_der(key.public_spki_der)?;
        if public_key.algorithm() != key.algorithm {
            return Err(self.misfit(operation, "its certificate is for a key of another algorithm"));
        }
        let public = templates::delivered_public_key(key.label, key.id, key.algorithm, &public_key)?;
        let transport = self.with_key(operation, ObjectClassKey::Private, transport, |_, handle| Ok(handle))?;
        let made = self.exclusively(operation, |session| {
            let private = self.unwrap_delivery(session, transport, delivery, key)?;
            session.create_object(&public)?;
            Ok((private, describe_private_key(session, private)?))
        });
        let made = made.map_err(|error| self.undeliverable(operation, error));
        let installed = self.complete_or_remove(operation, key.id, made)?;
        if *installed.public_key() != public_key {
            self.destroy(&installed)?;
            return Err(self.misfit(operation, "it is not the key of its certificate"));
        }
        installed.log_pin_enforcement(Some(key.level));
        Ok(installed)
    }

    fn unwrap_delivery(
        &self,
        session: &Session,
        transport: ObjectHandle,
        delivery: &Delivery,
        key: &Installation<'_>,
    ) -> CkResult<ObjectHandle> {
        let aes = self.raw().unwrap_key(
            session,
            &WrapMechanism::Other(oaep(delivery.oaep)),
            transport,
            &delivery.encrypted_key,
            &templates::delivered_aes_key(),
        )?;
        let template = templates::delivered_key(key.label, key.id, key.algorithm, key.level);
        let mechanism = WrapMechanism::KeyWrap(self.can_unwrap(delivery.mechanism));
        let private = with_always_authenticate(session, key.id, &template, |template| {
            self.raw().unwrap_key(session, &mechanism, aes, &delivery.wrapped, template)
        });
        let destroyed = session.destroy_object(aes);
        let private = private?;
        destroyed?;
        Ok(private)
    }

    /// The AES key wrap of this token, or an error if it can neither deliver nor receive keys.
    pub(super) fn require_key_wrap(&self, operation: &'static str) -> Result<KeyWrapMechanism, TokenError> {
        self.aes_key_wrap_mechanism()?.ok_or_else(|| TokenError::Unsupported {
            operation,
            token: self.info().name(),
            what: "AES key wrap with padding (RFC 5649)".to_owned(),
        })
    }

    /// The mechanism to unwrap a blob that `wrapped_by` made. Each of the two opens the other's
    /// blobs, and most tokens have only one.
    pub(super) fn can_unwrap(&self, wrapped_by: KeyWrapMechanism) -> KeyWrapMechanism {
        self.aes_key_wrap_mechanism().ok().flatten().unwrap_or(wrapped_by)
    }

    fn require_oaep(&self, operation: &'static str) -> Result<OaepHash, TokenError> {
        self.oaep_hash()?.ok_or_else(|| TokenError::Unsupported {
            operation,
            token: self.info().name(),
            what: "RSA-OAEP".to_owned(),
        })
    }

    fn misfit(&self, operation: &'static str, reason: &str) -> TokenError {
        TokenError::BadDelivery { operation, token: self.info().name(), reason: reason.to_owned() }
    }

    /// Modules return many different errors for a blob that does not open; all become the same
    /// error.
    pub(super) fn undeliverable(&self, operation: &'static str, error: TokenError) -> TokenError {
        match error {
            TokenError::BadData { reason, .. } | TokenError::Fault { code: reason, .. } => {
                TokenError::BadDelivery { operation, token: self.info().name(), reason }
            }
            other => other,
        }
    }

    fn private_key_of_any_use(
        &self,
        operation: &'static str,
        id: &KeyId,
    ) -> Result<Option<KeyDescription>, TokenError> {
        self.require_login(operation)?;
        let template = [
            cryptoki::object::Attribute::Class(cryptoki::object::ObjectClass::PRIVATE_KEY),
            cryptoki::object::Attribute::Token(true),
            cryptoki::object::Attribute::Id(id.as_bytes().to_vec()),
        ];
        self.exclusively(operation, |session| match session.find_objects(&template)?.first() {
            Some(handle) => describe_private_key(session, *handle),
            None => Ok(None),
        })
    }
}
