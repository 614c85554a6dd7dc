//! The keystore's own ways to a key, in this process: what the doors add to is measured here.

use tokenkeep::token::{FastSigner, KeyTransport, SignatureHash, TokenKey};

use crate::measure::Contender;
use crate::raw::Given;
use crate::stage::Stage;

/// What is signed: about as long as what an SSH client has its agent sign.
pub const MESSAGE: [u8; 200] = [7; 200];

/// The signer for a log-in that stands.
pub struct Signing {
    signer: FastSigner,
}

impl Signing {
    pub fn new(key: &TokenKey) -> Self {
        Self { signer: key.token().fast_signer(key) }
    }
}

impl Contender for Signing {
    fn worker(&self) -> Box<dyn FnMut() + '_> {
        let hash = SignatureHash::usual_for(self.signer.key().algorithm());
        Box::new(move || drop(self.signer.sign(hash, &MESSAGE).unwrap()))
    }
}

/// Decrypting and agreeing, an unlock each.
pub struct Reading {
    key: TokenKey,
    given: Given,
}

impl Reading {
    pub fn new(key: &TokenKey) -> Self {
        Self { key: key.clone(), given: Stage::given_to(key) }
    }
}

impl Contender for Reading {
    fn worker(&self) -> Box<dyn FnMut() + '_> {
        let unlock = || self.key.token().under_standing_log_in().unwrap();
        match &self.given {
            Given::Point(_) => Box::new(move || drop(unlock().agree(&self.key, self.key.public_key_der()).unwrap())),
            Given::Ciphertext(ciphertext) => {
                Box::new(move || drop(unlock().decrypt(&self.key, &KeyTransport::Pkcs1v15, ciphertext).unwrap()))
            }
        }
    }
}
