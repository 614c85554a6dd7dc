//! Private keys on a token, and their public keys.

use cryptoki::error::Result as CkResult;
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;
use signature::Error as SignatureError;

use super::always_authenticate::with_always_authenticate;
use super::log_in::KeyAuthorization;
use super::templates;
use super::token::ObjectClassKey;
use crate::token::{KeyAlgorithm, KeyId, SecurityLevel, Signature, SignatureHash, SubjectPublicKey, Token, TokenError};

/// A private key on a token, identified by its `CKA_ID`. A stale handle is looked up again.
#[derive(Clone, Debug)]
pub struct TokenKey {
    token: Token,
    id: KeyId,
    label: String,
    public_key: SubjectPublicKey,
    pin_enforcement: PinEnforcement,
    signs: bool,
    reads: bool,
}

/// The enforcement of the PIN for each use of a key, according to its attributes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct PinEnforcement {
    // CKA_ALWAYS_AUTHENTICATE: the token, between the init call and the operation.
    token: bool,
    // CKA_COPYABLE is false: it is a key of level High (or the authority's, which has no level). If
    // the token does not enforce the PIN, a login for the one operation is the only protection.
    we: bool,
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

impl TokenKey {
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
        self.pin_enforcement.token || self.pin_enforcement.we
    }

    /// Whether it may sign.
    pub fn can_sign(&self) -> bool {
        self.signs
    }

    /// Whether it may decrypt (RSA) or derive (elliptic curves), and so read mail.
    pub fn can_decrypt(&self) -> bool {
        self.reads
    }

    /// The token that holds it.
    pub fn token(&self) -> &Token {
        &self.token
    }

    /// Signs with a key that requires no PIN for each use (the authority's keys). Its token must be
    /// logged in.
    pub fn sign(&self, message: &[u8]) -> Result<Signature, TokenError> {
        self.sign_hashed(SignatureHash::usual_for(self.algorithm()), message)
    }

    /// Signs with the given hash. [`TokenError::Unsupported`] if the curve of the key requires
    /// another.
    pub fn sign_hashed(&self, hash: SignatureHash, message: &[u8]) -> Result<Signature, TokenError> {
        self.token.sign_with_key(self, hash, message, KeyAuthorization::LoggedIn)
    }
}

impl signature::Signer<Signature> for TokenKey {
    fn try_sign(&self, message: &[u8]) -> Result<Signature, SignatureError> {
        self.sign(message).map_err(SignatureError::from_source)
    }
}

impl signature::Keypair for TokenKey {
    type VerifyingKey = SubjectPublicKey;

    fn verifying_key(&self) -> SubjectPublicKey {
        self.public_key.clone()
    }
}

impl spki::DynSignatureAlgorithmIdentifier for TokenKey {
    fn signature_algorithm_identifier(&self) -> spki::Result<spki::AlgorithmIdentifierOwned> {
        Ok(self.algorithm().signature_algorithm())
    }
}

impl Token {
    /// All private keys of supported algorithms, except transport keys of enrollments. The token
    /// must be logged in.
    pub fn keys(&self) -> Result<Vec<TokenKey>, TokenError> {
        self.find_keys("list the keys", &[])
    }

    /// The private key with this `CKA_ID`. The token must be logged in.
    pub fn find_key(&self, id: &KeyId) -> Result<Option<TokenKey>, TokenError> {
        let found = self.find_keys("find the key", &[Attribute::Id(id.as_bytes().to_vec())])?;
        Ok(found.into_iter().next())
    }

    fn find_keys(&self, operation: &'static str, also: &[Attribute]) -> Result<Vec<TokenKey>, TokenError> {
        self.require_login(operation)?;
        let mut template = vec![Attribute::Class(ObjectClass::PRIVATE_KEY), Attribute::Token(true)];
        template.extend_from_slice(also);
        let found = self.exclusively(operation, |session| {
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
            self.remember(ObjectClassKey::Private, &key.id, handle);
            if key.signs || key.reads {
                keys.push(key.of(self));
            }
        }
        Ok(keys)
    }

    /// All public keys of supported algorithms; needs no login.
    pub fn public_keys(&self) -> Result<Vec<PublicKeyObject>, TokenError> {
        self.exclusively("list the public keys", |session| {
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
    pub fn destroy(&self, key: &TokenKey) -> Result<(), TokenError> {
        self.destroy_key_pair("destroy the key", &key.id)
    }

    /// Destroys both halves of a key pair. A missing half is not an error.
    pub(in crate::token) fn destroy_key_pair(&self, operation: &'static str, id: &KeyId) -> Result<(), TokenError> {
        self.require_login(operation)?;
        self.forget(ObjectClassKey::Private, id);
        self.exclusively(operation, |session| {
            // Copies of a destroyed key would still sign.
            self.drop_copies();
            destroy_both_halves(session, id)
        })
    }

    /// Generates the authority's signing key pair, which can only sign and can neither leave the
    /// token nor be copied or changed.
    pub fn generate_signing_key(
        &self,
        label: &str,
        id: &KeyId,
        algorithm: KeyAlgorithm,
    ) -> Result<TokenKey, TokenError> {
        self.generate_signing_key_of(label, id, algorithm, None)
    }

    /// Generates a signing key pair of this level; `None` is the authority's.
    pub(in crate::token) fn generate_signing_key_of(
        &self,
        label: &str,
        id: &KeyId,
        algorithm: KeyAlgorithm,
        level: Option<SecurityLevel>,
    ) -> Result<TokenKey, TokenError> {
        let operation = "make a signing key";
        self.check_free_space(operation)?;
        let public = templates::signing_public_key(label, id, algorithm)?;
        let private = templates::signing_key(label, id, level);
        let mechanism =
            if algorithm.is_elliptic_curve() { Mechanism::EccKeyPairGen } else { Mechanism::RsaPkcsKeyPairGen };
        let made = self.exclusively(operation, |session| {
            let (_, private) = with_always_authenticate(session, id, &private, |private| {
                session.generate_key_pair(&mechanism, &public, private)
            })?;
            Ok((private, describe_private_key(session, private)?))
        });
        let key = self.complete_or_remove(operation, id, made)?;
        key.log_pin_enforcement(level);
        Ok(key)
    }

    /// Records a newly made key. If it is not as expected, removes everything of it from the token.
    pub(super) fn complete_or_remove(
        &self,
        operation: &'static str,
        id: &KeyId,
        made: Result<(ObjectHandle, Option<KeyDescription>), TokenError>,
    ) -> Result<TokenKey, TokenError> {
        let error = match made {
            Ok((handle, Some(key))) => {
                self.remember(ObjectClassKey::Private, id, handle);
                return Ok(key.of(self));
            }
            Ok((_, None)) => TokenError::Unsupported {
                operation,
                token: self.info().name(),
                what: "reading the public key of a key pair that it generated".to_owned(),
            },
            Err(error) => error,
        };
        if let Err(left) = self.destroy_key_pair(operation, id) {
            tracing::warn!(token = %self.info().name(), error = %left, "cannot clean up after a failed operation");
        }
        Err(error)
    }

    pub(super) fn require_login(&self, operation: &'static str) -> Result<(), TokenError> {
        if self.is_logged_in() { Ok(()) } else { Err(self.not_logged_in_error(operation)) }
    }

    /// The error for a missing login. For a removed token it is `Absent`: a PIN could not help.
    pub(super) fn not_logged_in_error(&self, operation: &'static str) -> TokenError {
        let token = self.info().name();
        if self.presence().is_gone() {
            TokenError::Absent { operation, token }
        } else {
            TokenError::NotLoggedIn { operation, token }
        }
    }
}

/// Destroys what exists of a key pair. The caller holds the token exclusively.
pub(super) fn destroy_both_halves(session: &Session, id: &KeyId) -> CkResult<()> {
    for class in [ObjectClass::PRIVATE_KEY, ObjectClass::PUBLIC_KEY] {
        let template = [Attribute::Class(class), Attribute::Token(true), Attribute::Id(id.as_bytes().to_vec())];
        for handle in session.find_objects(&template)? {
            session.destroy_object(handle)?;
        }
    }
    Ok(())
}

/// A private key as read from a token, without the token.
pub(super) struct KeyDescription {
    id: KeyId,
    label: String,
    public_key: SubjectPublicKey,
    pin_enforcement: PinEnforcement,
    signs: bool,
    reads: bool,
}

impl KeyDescription {
    fn of(self, token: &Token) -> TokenKey {
        let Self { id, label, public_key, pin_enforcement, signs, reads } = self;
        TokenKey { token: token.clone(), id, label, public_key, pin_enforcement, signs, reads }
    }

    pub(super) fn into_public_key(self) -> SubjectPublicKey {
        self.public_key
    }
}

/// Reads a private key; `None` if its algorithm is not supported. An RSA private key contains its
/// public key. An elliptic-curve one does not: it is in the public key object with the same
/// `CKA_ID`.
pub(super) fn describe_private_key(session: &Session, handle: ObjectHandle) -> CkResult<Option<KeyDescription>> {
    let described = KeyAttributes::read(session, handle)?;
    let mut public_key = described.public_key();
    if public_key.is_none() {
        let template = [Attribute::Class(ObjectClass::PUBLIC_KEY), Attribute::Id(described.id.as_bytes().to_vec())];
        for handle in session.find_objects(&template)? {
            public_key = public_key.or(KeyAttributes::read(session, handle)?.public_key());
        }
    }
    Ok(public_key.map(|public_key| KeyDescription {
        id: described.id,
        label: described.label,
        public_key,
        pin_enforcement: described.pin_enforcement,
        signs: described.signs,
        reads: described.reads,
    }))
}

/// Reads a public key object; `None` if its algorithm is not supported.
pub(super) fn read_public_key(session: &Session, handle: ObjectHandle) -> CkResult<Option<SubjectPublicKey>> {
    Ok(KeyAttributes::read(session, handle)?.public_key())
}

/// The attributes of a key object that are read.
#[derive(Default)]
struct KeyAttributes {
    id: KeyId,
    label: String,
    key_type: Option<KeyType>,
    modulus: Vec<u8>,
    exponent: Vec<u8>,
    parameters: Vec<u8>,
    point: Vec<u8>,
    pin_enforcement: PinEnforcement,
    signs: bool,
    reads: bool,
}

impl KeyAttributes {
    fn read(session: &Session, handle: ObjectHandle) -> CkResult<Self> {
        let mut key = Self::default();
        let common = [AttributeType::KeyType, AttributeType::Id, AttributeType::Label, AttributeType::Class];
        key.take(session.get_attributes(handle, &common)?);
        let kind: &[AttributeType] = match key.key_type {
            Some(KeyType::RSA) => &[AttributeType::Modulus, AttributeType::PublicExponent],
            Some(KeyType::EC) => &[AttributeType::EcParams, AttributeType::EcPoint],
            _ => return Ok(key),
        };
        key.take(session.get_attributes(handle, kind)?);
        let usages = [
            AttributeType::AlwaysAuthenticate,
            AttributeType::Copyable,
            AttributeType::Sign,
            AttributeType::Decrypt,
            AttributeType::Derive,
        ];
        key.take(session.get_attributes(handle, &usages)?);
        Ok(key)
    }

    fn take(&mut self, attributes: Vec<Attribute>) {
        for attribute in attributes {
            match attribute {
                Attribute::Id(id) => self.id = KeyId::from(id),
                Attribute::Label(label) => self.label = String::from_utf8_lossy(&label).into_owned(),
                Attribute::KeyType(key_type) => self.key_type = Some(key_type),
                Attribute::Modulus(modulus) => self.modulus = modulus,
                Attribute::PublicExponent(exponent) => self.exponent = exponent,
                Attribute::EcParams(parameters) => self.parameters = parameters,
                Attribute::EcPoint(point) => self.point = point,
                Attribute::AlwaysAuthenticate(always) => self.pin_enforcement.token = always,
                Attribute::Copyable(copyable) => self.pin_enforcement.we = !copyable,
                Attribute::Sign(signs) => self.signs = signs,
                Attribute::Decrypt(true) | Attribute::Derive(true) => self.reads = true,
                _ => {}
            }
        }
    }

    fn public_key(&self) -> Option<SubjectPublicKey> {
        match self.key_type {
            Some(KeyType::RSA) => SubjectPublicKey::rsa(&self.modulus, &self.exponent),
            Some(KeyType::EC) => SubjectPublicKey::elliptic_curve(&self.parameters, &self.point),
            _ => None,
        }
    }
}
