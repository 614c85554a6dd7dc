//! Direct use of the keystore's keys in this process: the baseline for the endpoints.

use tokenkeep::token::{FastSigner, KeyTransport, SignatureHash, TokenKey};

use crate::bench_token::{BenchToken, KeyInput};
use crate::measure::Contender;

/// The signed message, about as long as the data that an SSH client has its agent sign.
pub const MESSAGE: [u8; 200] = [7; 200];

/// The signer for an active session.
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

/// Decrypts or agrees, with one unlock per operation.
pub struct Reading {
    key: TokenKey,
    key_input: KeyInput,
}

impl Reading {
    pub fn new(key: &TokenKey) -> Self {
        Self { key: key.clone(), key_input: BenchToken::input_for(key) }
    }
}

impl Contender for Reading {
    fn worker(&self) -> Box<dyn FnMut() + '_> {
        let unlock = || self.key.token().under_active_session().unwrap();
        match &self.key_input {
            KeyInput::Point(_) => Box::new(move || drop(unlock().agree(&self.key, self.key.public_key_der()).unwrap())),
            KeyInput::Ciphertext(ciphertext) => {
                Box::new(move || drop(unlock().decrypt(&self.key, &KeyTransport::Pkcs1v15, ciphertext).unwrap()))
            }
        }
    }
}
