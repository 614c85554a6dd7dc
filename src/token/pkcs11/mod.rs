//! Tokens behind a PKCS#11 module.

mod archive;
mod keys;
mod module;
mod objects;
mod token;

pub use archive::{DeliverableKey, SecretKey};
pub use keys::{PublicKeyObject, TokenKey};
pub use module::{Module, TokenInfo};
pub use objects::{DataObject, StoredCertificate};
pub use token::Token;
