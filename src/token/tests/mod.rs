//! Tests of this module on real tokens, through its public interface. Attacks on key restrictions
//! need PKCS#11 sessions of their own and are in `pkcs11::bypass_tests`.

mod keys;
mod log_in;
mod objects;
mod pin_queue;
mod presence;
mod provisioning;
mod so_pin;
mod transfer;
mod witnesses;

pub(super) use keys::verifies;
