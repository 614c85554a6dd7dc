//! Tests of the room on real tokens, through its public surface. What tries to get round a key's limits needs sessions
//! of its own and is in `pkcs11::bypass_tests`.

mod keys;
mod log_in;
mod objects;
mod presence;
mod provisioning;
mod transfer;
mod turns;
mod witnesses;

pub(super) use keys::verifies;
