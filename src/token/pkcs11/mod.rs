//! Tokens behind a PKCS#11 module.
//!
//! | file | content |
//! |---|---|
//! | `module` | loads a module, lists and opens tokens |
//! | `answering` | handles modules that respond slowly |
//! | `provisioning` | makes and empties tokens |
//! | `token` | shares a token among operations |
//! | `log_in`, `turns` | login, and the queue for PINs |
//! | `keys`, `each_use` | find and make keys, also of level High |
//! | `key_use`, `fast_signer` | use keys, once or repeatedly |
//! | `presence` | detects removed tokens |
//! | `archive`, `transfer` | wrap on the authority's side, install on the user's |
//! | `objects` | data objects and certificates |
//! | `templates` | the permissions of each kind of key |
//! | `raw` | the only unsafe code |
//!
//! No code may bypass these files: a session of its own, outside the pool and the lock, would break
//! the rules that keep a token consistent.

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
