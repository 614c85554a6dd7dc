//! Reads the attributes of keys, and destroys key pairs, in a session of the caller.

use cryptoki::error::Result as CkResult;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;

use crate::token::key_description::PinEnforcement;
use crate::token::{KeyDescription, KeyId, SubjectPublicKey};

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
pub(super) struct KeyAttributes {
    pub(super) id: KeyId,
    pub(super) label: String,
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
    pub(super) fn read(session: &Session, handle: ObjectHandle) -> CkResult<Self> {
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
                Attribute::Copyable(copyable) => self.pin_enforcement.program = !copyable,
                Attribute::Sign(signs) => self.signs = signs,
                Attribute::Decrypt(true) | Attribute::Derive(true) => self.reads = true,
                _ => {}
            }
        }
    }

    pub(super) fn public_key(&self) -> Option<SubjectPublicKey> {
        match self.key_type {
            Some(KeyType::RSA) => SubjectPublicKey::rsa(&self.modulus, &self.exponent),
            Some(KeyType::EC) => SubjectPublicKey::elliptic_curve(&self.parameters, &self.point),
            _ => None,
        }
    }
}
