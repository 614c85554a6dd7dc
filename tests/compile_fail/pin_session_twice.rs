//! One PIN serves one operation: a session is consumed by its use, and cannot be copied.

use tokenkeep::token::{KeyTransport, PinSession, TokenKey};

pub fn sign(session: PinSession, key: &TokenKey) {
    drop(session.sign(key, b"one"));
    drop(session.sign(key, b"two")); //~ E0382
}

pub fn read(session: PinSession, key: &TokenKey) {
    drop(session.decrypt(key, &KeyTransport::Pkcs1v15, b"one"));
    drop(session.decrypt(key, &KeyTransport::Pkcs1v15, b"two")); //~ E0382
}

pub fn agree(session: PinSession, key: &TokenKey, peer: &[u8]) {
    drop(session.agree(key, peer));
    drop(session.agree(key, peer)); //~ E0382
}

pub fn sign_then_read(session: PinSession, key: &TokenKey) {
    drop(session.sign_with(key));
    drop(session.decrypt(key, &KeyTransport::Pkcs1v15, b"two")); //~ E0382
}

pub fn sign_then_enroll(session: PinSession, key: &TokenKey) {
    drop(session.sign(key, b"one"));
    drop(session.begin_enrollment()); //~ E0382
}

pub fn copied(session: &PinSession) {
    drop(PinSession::clone(session)); //~ E0277
}
