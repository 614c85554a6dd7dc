//! What can go wrong with the authority itself. What it refuses is no error: refusals are answers.

use std::path::PathBuf;

use super::ConfigurationError;
use crate::cmp::CmpError;
use crate::pki::PkiError;
use crate::smime::SmimeError;
use crate::statement::StatementError;
use crate::store::StoreError;
use crate::token::TokenError;

/// A fault of the authority. Every message completes "cannot …".
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The configuration is refused.
    #[error(transparent)]
    Configuration(#[from] ConfigurationError),
    /// The token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Certificates, names, signatures.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// `init` onto an authority that is there.
    #[error("cannot initialize the authority: {} is not empty; it belongs to an authority already, or name another `state`", .0.display())]
    StateNotEmpty(PathBuf),
    /// The state directory cannot be made or read.
    #[error("cannot use the state directory {}: {source}", path.display())]
    State {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// No token has the configured label.
    #[error("cannot find a token labelled {label:?} in {}; run `tokenkeep authority init`, or correct `label` or `module`", module.display())]
    TokenAbsent {
        /// The label.
        label: String,
        /// The module.
        module: PathBuf,
    },
    /// CMP messages that cannot be made.
    #[error(transparent)]
    Cmp(#[from] CmpError),
    /// Responses that cannot be made.
    #[error(transparent)]
    Statement(#[from] StatementError),
    /// A letter that cannot be encrypted to the administrator.
    #[error(transparent)]
    Smime(#[from] SmimeError),
    /// No PKCS#11 module is configured and none was found.
    #[error("cannot find SoftHSM's PKCS#11 module where it is usually installed; install softhsm2, or set `module` in {}", .0.display())]
    NoModule(PathBuf),
    /// `init` was interrupted earlier.
    #[error(
        "cannot start the authority: its `authority init` was interrupted; run `tokenkeep authority init` again with the same configuration and PIN"
    )]
    Unfinished,
    /// Token and database are not each other's.
    #[error("cannot start the authority: {0}")]
    Mismatch(String),
    /// A record of the database does not carry the token's MAC: somebody changed it.
    #[error("cannot trust the record of {0} in the database: its MAC does not fit; restore the database from a backup")]
    Tampered(String),
    /// DER.
    #[error("cannot encode a message: {0}")]
    Der(#[from] der::Error),
    /// Something could not be encoded.
    #[error("cannot encode {what}: {reason}")]
    Encode {
        /// What.
        what: &'static str,
        /// Why.
        reason: String,
    },
    /// No random numbers.
    #[error("cannot make random bytes: {0}")]
    Random(String),
    /// The first administrator's address is none.
    #[error("cannot make {address:?} the first administrator: {reason}")]
    Administrator {
        /// What was given.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
}
