//! The module itself: a session a thread, the key's handle looked up once.
//!
//! cryptoki's one-call functions ask for the length of what comes before they fetch it: one short call more than
//! `C_SignInit` and `C_Sign`, under 1 % of the fastest operation here.

use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::elliptic_curve::{EcKdf, Ecdh1DeriveParams};
use cryptoki::object::{Attribute, ObjectClass, ObjectHandle};
use cryptoki::session::Session;
use tokenkeep::token::TokenKey;

use crate::measure::Contender;
use crate::stage::{Stage, agreed_secret, peer_point};

/// `C_SignInit` and `C_Sign`.
pub struct Signing<'a> {
    stage: &'a Stage,
    key: TokenKey,
}

impl<'a> Signing<'a> {
    pub fn new(stage: &'a Stage, key: &TokenKey) -> Self {
        Self { stage, key: key.clone() }
    }
}

impl Contender for Signing<'_> {
    fn worker(&self) -> Box<dyn FnMut() + '_> {
        let (session, handle) = session_with(self.stage, &self.key);
        let elliptic = self.key.algorithm().is_elliptic_curve();
        let (mechanism, length) = if elliptic { (Mechanism::Ecdsa, 32) } else { (Mechanism::RsaPkcs, 51) };
        let input = vec![7; length];
        Box::new(move || drop(session.sign(&mechanism, handle, &input).unwrap()))
    }
}

/// `C_DecryptInit` and `C_Decrypt` (RSA), or `C_DeriveKey` and what follows it (ECDH).
pub struct Reading<'a> {
    stage: &'a Stage,
    key: TokenKey,
    ciphertext: Vec<u8>,
}

impl<'a> Reading<'a> {
    pub fn new(stage: &'a Stage, key: &TokenKey) -> Self {
        Self { stage, key: key.clone(), ciphertext: stage.ciphertext_for(key) }
    }
}

impl Contender for Reading<'_> {
    fn worker(&self) -> Box<dyn FnMut() + '_> {
        let (session, handle) = session_with(self.stage, &self.key);
        if self.key.algorithm().is_elliptic_curve() {
            let point = peer_point(&self.key);
            return Box::new(move || {
                let mechanism = Mechanism::Ecdh1Derive(Ecdh1DeriveParams::new(EcKdf::null(), &point));
                let secret = session.derive_key(&mechanism, handle, &agreed_secret()).unwrap();
                session.get_attributes(secret, &[cryptoki::object::AttributeType::Value]).unwrap();
                session.destroy_object(secret).unwrap();
            });
        }
        let ciphertext = &self.ciphertext;
        Box::new(move || drop(session.decrypt(&Mechanism::RsaPkcs, handle, ciphertext).unwrap()))
    }
}

fn session_with(stage: &Stage, key: &TokenKey) -> (Session, ObjectHandle) {
    let session = stage.session();
    let template = [
        Attribute::Class(ObjectClass::PRIVATE_KEY),
        Attribute::Token(true),
        Attribute::Id(key.id().as_bytes().to_vec()),
    ];
    let handle = session.find_objects(&template).unwrap()[0];
    (session, handle)
}
