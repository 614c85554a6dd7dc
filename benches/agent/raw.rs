//! The module itself: a session a thread, the key's handle looked up once.
//!
//! cryptoki's one-call functions ask for the length of what comes before they fetch it: one short call more than
//! `C_SignInit` and `C_Sign`, under 1 % of the fastest operation here.

use cryptoki::context::Pkcs11;
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::elliptic_curve::{EcKdf, Ecdh1DeriveParams};
use cryptoki::object::{Attribute, ObjectClass, ObjectHandle};
use cryptoki::session::Session;
use cryptoki::slot::Slot;
use tokenkeep::token::TokenKey;

use crate::measure::Contender;
use crate::stage::{Stage, agreed_secret, peer_point};

/// `C_SignInit` and `C_Sign`, by any module.
pub struct Signing {
    pkcs11: Pkcs11,
    slot: Slot,
    id: Vec<u8>,
    elliptic: bool,
}

impl Signing {
    pub fn of(stage: &Stage, key: &TokenKey) -> Self {
        let elliptic = key.algorithm().is_elliptic_curve();
        Self::new(stage.pkcs11.clone(), stage.slot, key.id().as_bytes().to_vec(), elliptic)
    }

    /// With the key of this `CKA_ID`, which is on a curve or RSA. Somebody is logged in.
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

/// `C_DecryptInit` and `C_Decrypt` (RSA), or `C_DeriveKey` and what follows it (ECDH).
pub struct Reading<'a> {
    stage: &'a Stage,
    key: TokenKey,
    ciphertext: Vec<u8>,
}

impl<'a> Reading<'a> {
    pub fn new(stage: &'a Stage, key: &TokenKey) -> Self {
        Self { stage, key: key.clone(), ciphertext: Stage::ciphertext_for(key) }
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
    let handle = private_key(&session, key.id().as_bytes());
    (session, handle)
}

fn private_key(session: &Session, id: &[u8]) -> ObjectHandle {
    let template = [Attribute::Class(ObjectClass::PRIVATE_KEY), Attribute::Token(true), Attribute::Id(id.to_vec())];
    session.find_objects(&template).unwrap()[0]
}
