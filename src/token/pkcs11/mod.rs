//! Tokens behind a PKCS#11 module.
//!
//! | file | content |
//! |---|---|
//! | `module` | loads a module, lists and opens tokens |
//! | `responsiveness` | handles modules that respond slowly |
//! | `call_counts` | counts calls in progress, to name the module after a crash |
//! | `provisioning` | makes and empties tokens |
//! | `token`, `token_info`, `sessions` | share a token and its sessions among operations |
//! | `log_in`, `so_pin`, `pin_queue` | login of user and security officer, and the queue for PINs |
//! | `fresh_process` | asks a new process what this one's module may report wrongly |
//! | `keys`, `always_authenticate` | find and make keys, also of level High |
//! | `key_use`, `fast_signer`, `signing_pool` | use keys, once or repeatedly |
//! | `presence` | detects removed tokens |
//! | `archive`, `transfer` | wrap on the authority's side, install on the user's |
//! | `objects` | data objects and certificates |
//! | `templates`, `mechanisms` | the permissions of each kind of key; what a token supports |
//! | `return_values` | interprets `CKR_…` |
//! | `raw` | the only unsafe code |
//!
//! No code may bypass these files: a session of its own, outside the pool and the lock, would break
//! the rules that keep a token consistent.

mod always_authenticate;
mod archive;
#[cfg(test)]
mod bypass_tests;
mod call_counts;
mod fast_signer;
mod fresh_process;
mod key_use;
mod keys;
mod log_in;
mod mechanisms;
mod module;
mod objects;
mod pin_queue;
mod presence;
mod provisioning;
mod raw;
mod responsiveness;
mod return_values;
mod sessions;
mod signing_pool;
mod so_pin;
mod templates;
mod token;
mod token_info;
mod transfer;

pub use archive::{DeliverableKey, SecretKey};
pub use call_counts::{CallCounts, count_calls_in};
pub use fast_signer::FastSigner;
pub use keys::{PublicKeyObject, TokenKey};
pub(super) use log_in::KeyAuthorization;
pub use module::Module;
pub use objects::{AUTHORITY_MARK, DataObject, StoredCertificate};
pub use pin_queue::PinLease;
pub(super) use pin_queue::QueueSlot;
pub use so_pin::{SlotCount, TokenFlags};
pub use token::Token;
pub use token_info::{NonUtf8Name, TokenInfo};
pub(super) use transfer::Installation;
