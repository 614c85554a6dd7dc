//! Tokens behind a PKCS#11 module.
//!
//! | file | content |
//! |---|---|
//! | `source`, `provisioning` | lists and opens the tokens behind a module; makes and empties them |
//! | `token`, `sessions`, `login_state`, `key_handles` | an open token: lock, sessions, and what is known of it |
//! | `log_in` | logins and PIN changes of user and security officer |
//! | `presence` | detects removed tokens |
//! | `objects`, `marks`, `stored_objects` | data objects and certificates; the mark of an unfinished token; whether objects were really stored |
//! | `keys`, `key_attributes`, `always_authenticate` | find and make keys, also of level High |
//! | `key_lookup`, `key_use` | use keys |
//! | `pooled_signer`, `signing_pool` | sign repeatedly |
//! | `archive`, `transfer`, `key_wrap` | wrap on the authority's side, install on the user's |
//! | `module`, `module_state`, `slots`, `slot_info` | a loaded module, and what its slots tell |
//! | `responsiveness` | handles modules that respond slowly |
//! | `call_counts` | counts calls in progress, to name the module after a crash |
//! | `fresh_process`, `check_child` | asks a new process what this one's module may report wrongly; the answer there |
//! | `templates`, `mechanisms` | the permissions of each kind of key; parameters |
//! | `probe` | probes what a token can do |
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
mod check_child;
mod fresh_process;
mod key_attributes;
mod key_handles;
mod key_lookup;
mod key_use;
mod key_wrap;
mod keys;
mod log_in;
mod login_state;
mod marks;
mod mechanisms;
mod module;
mod module_state;
mod objects;
mod pooled_signer;
mod presence;
mod probe;
mod provisioning;
mod raw;
mod responsiveness;
mod return_values;
mod sessions;
mod signing_pool;
mod slot_info;
mod slots;
mod source;
mod stored_objects;
mod templates;
mod token;
mod transfer;

pub(super) use archive::ArchiveOperations;
pub use archive::{DeliverableKey, SecretKey};
pub use call_counts::{CallCounts, count_calls_in};
pub use check_child::{answer as answer_check, take_request as take_check_request};
pub(super) use key_use::KeyOperations;
pub(super) use keys::KeyPairs;
pub(super) use log_in::LogIn;
pub(super) use marks::TokenMarks;
pub(super) use objects::Objects;
pub(super) use pooled_signer::PooledSigner;
pub(super) use presence::Presence;
pub use source::Pkcs11Source;
pub(super) use stored_objects::StoredObjects;
pub use token::Pkcs11Token;
pub(super) use transfer::KeyInstaller;
