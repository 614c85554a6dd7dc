//! Tokens behind a PKCS#11 module.
//!
//! `module` lists and opens (`answering` knows when it keeps one waiting), `provisioning` makes tokens, `token` shares one among operations, `log_in` knows PINs,
//! `turns` whose turn it is to use one, `keys` finds and makes keys (`each_use` at level High) and `key_use` uses them
//! (`fast_signer` those that sign often), `presence` knows whether a token is still there, `archive` wraps on the
//! authority's side, `transfer` installs on the user's, `objects` keeps data and certificates. `templates` says what each kind of key may do. `raw` is the only unsafe code.
//!
//! It must never be used around these files: a session of its own, beside the pool and the lock, would break the rules
//! that keep a token whole.

mod afresh;
mod answering;
mod answers;
mod archive;
#[cfg(test)]
mod bypass_tests;
mod each_use;
mod fast_signer;
mod key_use;
mod keys;
mod lanes;
mod log_in;
mod mechanisms;
mod module;
mod objects;
mod officer;
mod presence;
mod provisioning;
mod raw;
mod sessions;
mod templates;
mod token;
mod transfer;
mod turns;

pub use archive::{DeliverableKey, SecretKey};
pub use fast_signer::FastSigner;
pub use keys::{PublicKeyObject, TokenKey};
pub(super) use log_in::LogIn;
pub use module::{Module, NotText, TokenInfo};
pub use objects::{AUTHORITY_MARK, DataObject, StoredCertificate};
pub use officer::{SlotCount, TokenFlags};
pub use token::Token;
pub(super) use transfer::Installation;
pub(super) use turns::Place;
pub use turns::Turn;
