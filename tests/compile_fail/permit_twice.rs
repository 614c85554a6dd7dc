//! A permit is consumed by its use, and cannot be copied.

use tokenkeep::authority::certify::certificate_intent;
use tokenkeep::authority::decide::{EncryptionPermit, IssuancePermit};
use tokenkeep::pki::Certificate;

pub fn once(permit: IssuancePermit, ca: &Certificate) {
    drop(certificate_intent(permit, ca, ca.not_before()));
}

pub fn twice(permit: IssuancePermit, ca: &Certificate) {
    drop(certificate_intent(permit, ca, ca.not_before()));
    drop(certificate_intent(permit, ca, ca.not_before())); //~ E0382
}

pub fn copied(permit: &IssuancePermit) {
    drop(IssuancePermit::clone(permit)); //~ E0277
}

pub fn two_keys(permit: EncryptionPermit, one: Vec<u8>, other: Vec<u8>) {
    drop(permit.for_key(one));
    drop(permit.for_key(other)); //~ E0382
}
