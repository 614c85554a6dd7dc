//! One PIN serves one operation: an unlock is consumed by its use, and cannot be copied.

use tokenkeep::token::{KeyTransport, PinSession, TokenKey};

pub fn sign(unlock: PinSession, key: &TokenKey) {
    drop(unlock.sign(key, b"one"));
    drop(unlock.sign(key, b"two")); //~ E0382
}

pub fn read(unlock: PinSession, key: &TokenKey) {
    drop(unlock.decrypt(key, &KeyTransport::Pkcs1v15, b"one"));
    drop(unlock.decrypt(key, &KeyTransport::Pkcs1v15, b"two")); //~ E0382
}

pub fn agree(unlock: PinSession, key: &TokenKey, peer: &[u8]) {
    drop(unlock.agree(key, peer));
    drop(unlock.agree(key, peer)); //~ E0382
}

pub fn sign_then_read(unlock: PinSession, key: &TokenKey) {
    drop(unlock.sign_with(key));
    drop(unlock.decrypt(key, &KeyTransport::Pkcs1v15, b"two")); //~ E0382
}

pub fn sign_then_enroll(unlock: PinSession, key: &TokenKey) {
    drop(unlock.sign(key, b"one"));
    drop(unlock.begin_enrollment()); //~ E0382
}

pub fn copied(unlock: &PinSession) {
    drop(PinSession::clone(unlock)); //~ E0277
}
