//! The module itself: one session per thread, and one lookup of the key's handle.
//!
//! cryptoki's one-call functions ask for the output length first. That is one short call more than
//! `C_SignInit` and `C_Sign`, under 1 % of the fastest operation here.

use cryptoki::context::Pkcs11;
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::elliptic_curve::{EcKdf, Ecdh1DeriveParams};
use cryptoki::object::{Attribute, AttributeType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;
use cryptoki::slot::Slot;
use tokenkeep::token::TokenKey;

use crate::bench_token::{BenchToken, KeyInput, agreed_secret};
use crate::measure::Contender;

/// `C_SignInit` and `C_Sign` of any module.
pub struct Signing {
    pkcs11: Pkcs11,
    slot: Slot,
    id: Vec<u8>,
    elliptic: bool,
}

impl Signing {
    pub fn of(bench_token: &BenchToken, key: &TokenKey) -> Self {
        let elliptic = key.algorithm().is_elliptic_curve();
        Self::new(bench_token.pkcs11.clone(), bench_token.slot, key.id().as_bytes().to_vec(), elliptic)
    }

    /// Uses the key with this `CKA_ID`, elliptic-curve or RSA. The token must be logged in.
    pub fn new(pkcs11: Pkcs11, slot: Slot, id: Vec<u8>, elliptic: bool) -> Self {
        Self { pkcs11, slot, id, elliptic }
    }
}

impl Contender for Signing {
    fn worker(&self) -> Box<dyn FnMut() + '_> {
        let session = self.pkcs11.open_rw_session(self.slot).unwrap();
        let handle = private_key(&session, &self.id);
        let (mechanism, length) = if self.elliptic { (Mechanism::Ecdsa, 32) } else { (Mechanism::RsaPkcs, 51) };
        let input = vec![7; length];
        Box::new(move || drop(session.sign(&mechanism, handle, &input).unwrap()))
    }
}

/// `C_DecryptInit` and `C_Decrypt` (RSA), or `C_DeriveKey`, read and destroy (ECDH).
pub struct Reading {
    pkcs11: Pkcs11,
    slot: Slot,
    id: Vec<u8>,
    key_input: KeyInput,
}

impl Reading {
    pub fn of(bench_token: &BenchToken, key: &TokenKey) -> Self {
        Self::new(
            bench_token.pkcs11.clone(),
            bench_token.slot,
            key.id().as_bytes().to_vec(),
            BenchToken::input_for(key),
        )
    }

    /// Uses the key with this `CKA_ID`. The token must be logged in.
    pub fn new(pkcs11: Pkcs11, slot: Slot, id: Vec<u8>, key_input: KeyInput) -> Self {
        Self { pkcs11, slot, id, key_input }
    }
}

impl Contender for Reading {
    fn worker(&self) -> Box<dyn FnMut() + '_> {
        let session = self.pkcs11.open_rw_session(self.slot).unwrap();
        let handle = private_key(&session, &self.id);
        match &self.key_input {
            KeyInput::Point(point) => Box::new(move || {
                let mechanism = Mechanism::Ecdh1Derive(Ecdh1DeriveParams::new(EcKdf::null(), point));
                let secret = session.derive_key(&mechanism, handle, &agreed_secret()).unwrap();
                session.get_attributes(secret, &[AttributeType::Value]).unwrap();
                session.destroy_object(secret).unwrap();
            }),
            KeyInput::Ciphertext(ciphertext) => {
                Box::new(move || drop(session.decrypt(&Mechanism::RsaPkcs, handle, ciphertext).unwrap()))
            }
        }
    }
}

fn private_key(session: &Session, id: &[u8]) -> ObjectHandle {
    let template = [Attribute::Class(ObjectClass::PRIVATE_KEY), Attribute::Token(true), Attribute::Id(id.to_vec())];
    session.find_objects(&template).unwrap()[0]
}
