//! Faults of the authority itself. A refusal is an answer, not an error.

use std::path::PathBuf;

use super::ConfigurationError;
use crate::cmp::CmpError;
use crate::pki::PkiError;
use crate::smime::SmimeError;
use crate::statement::StatementError;
use crate::store::StoreError;
use crate::token::TokenError;

/// A fault of the authority. Every message begins with "cannot".
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The configuration is invalid.
    #[error(transparent)]
    Configuration(#[from] ConfigurationError),
    /// A token operation failed.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// A database operation failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A certificate, name or signature could not be made or read.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// `init` found the state directory of an existing authority.
    #[error("cannot initialize the authority: {} is not empty and may already belong to an \
             authority; set `state` to another directory", .0.display())]
    StateNotEmpty(PathBuf),
    /// The state directory cannot be created or read.
    #[error("cannot use the state directory {}: {source}; check its owner, its permissions and the free space on \
             its disk, or set `state` to another directory", path.display())]
    State { path: PathBuf, source: std::io::Error },
    /// No token has the configured label.
    #[error("cannot find a token labeled {label:?} in {}; run `tokenkeep authority init`, or correct `label` or \
             `module`", searched.display())]
    TokenAbsent { label: String, searched: PathBuf },
    /// A CMP message could not be built.
    #[error(transparent)]
    Cmp(#[from] CmpError),
    /// A response to a statement could not be built.
    #[error(transparent)]
    Statement(#[from] StatementError),
    /// A letter could not be encrypted to the administrator.
    #[error(transparent)]
    Smime(#[from] SmimeError),
    /// No PKCS#11 module is configured and none was found.
    #[error("cannot find SoftHSM's PKCS#11 module in its usual locations; install softhsm2, or set `module` in \
             {}", .0.display())]
    NoTokenSource(PathBuf),
    /// An `init` was interrupted earlier.
    #[error(
        "cannot start the authority: its `authority init` was interrupted; run `tokenkeep authority init` again with \
         the same configuration and PIN"
    )]
    Unfinished,
    /// Token and database do not belong together.
    #[error(
        "cannot act as the authority: {0}; set `state` and `[token]` in the configuration to a database and a token \
         that belong together, or restore both from one backup"
    )]
    Mismatch(String),
    /// A record of the database has no valid MAC of the token: it was altered.
    #[error("cannot trust the record of {0} in the database: its MAC is invalid; restore the database from a backup")]
    Tampered(String),
    /// Certificates of a user's history are missing or altered.
    #[error(
        "cannot recover the keys of {email}: according to the log, they confirmed {logged} encryption certificates, \
         but only {found} of them are unaltered in the database; restore the database from a backup"
    )]
    History {
        email: String,
        /// The number of certificates according to the log.
        logged: usize,
        /// The number of these that the database has.
        found: usize,
    },
    /// The audit log is invalid.
    #[error(
        "cannot trust the audit log: its entry {number} {reason}; restore the database from a backup, and let an \
         administrator run a command, which compares the log with the checkpoint in their keyset"
    )]
    Log {
        /// The first invalid entry.
        number: u64,
        /// The reason; completes "its entry …".
        reason: String,
    },
    /// A structure could not be encoded as DER.
    #[error("cannot encode a message: {0}; please report this bug")]
    Der(#[from] der::Error),
    /// A value could not be encoded.
    #[error("cannot encode {what}: {reason}; please report this bug")]
    Encode { what: &'static str, reason: String },
    /// The system returned no random bytes.
    #[error("cannot generate random bytes: {0}; try again, and check the system log if it persists")]
    Random(String),
    /// An administrator cannot be added.
    #[error("cannot add the administrator: {0}")]
    NotAdded(String),
    /// The first administrator's address is invalid.
    #[error(
        "cannot make {address:?} the first administrator: {reason}; give `--first-administrator` an e-mail address"
    )]
    Administrator { address: String, reason: String },
}

impl AuthorityError {
    /// Whether the error concerns one altered record only.
    pub(super) fn is_of_one_record(&self) -> bool {
        matches!(self, Self::Tampered(_) | Self::Store(StoreError::UnreadableRow { .. }))
    }

    /// Returns the text for a client about a fault that is temporary or that the authority's
    /// administrator must fix, and that reveals no secret; `None` for all other faults.
    pub fn text_for_client(&self) -> Option<&'static str> {
        match self {
            Self::Store(StoreError::Locked(_)) => Some(
                "the authority's database is locked by another program on its machine; try again when that has ended",
            ),
            Self::Store(StoreError::DiskFull(_)) => {
                Some("no space is left on the disk of the authority's database; try again when some has been freed")
            }
            Self::Store(StoreError::ReadOnly(_)) => Some(
                "the authority cannot write its database; see its log, and try again when the permissions are fixed",
            ),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_names_the_next_step() {
        for error in [
            AuthorityError::State { path: "/state".into(), source: std::io::ErrorKind::PermissionDenied.into() },
            AuthorityError::Mismatch("its token has no CA key".into()),
            AuthorityError::Random("none".into()),
            AuthorityError::Encode { what: "a letter", reason: "too long".into() },
            AuthorityError::Tampered("the user u1".into()),
            AuthorityError::History { email: "user@example.org".into(), logged: 2, found: 1 },
            AuthorityError::Log { number: 7, reason: "has no MAC".into() },
        ] {
            let text = error.to_string();
            let (what, next) = text.split_once("; ").unwrap_or((&text, ""));
            assert!(what.starts_with("cannot ") && next.len() > 20, "{text}");
        }
    }

    #[test]
    fn a_temporary_fault_is_reported_without_the_path() {
        let path = || PathBuf::from("/state/authority.db");
        for (error, expected) in [
            (StoreError::Locked(path()), Some("locked by another program")),
            (StoreError::DiskFull(path()), Some("no space is left on the disk")),
            (StoreError::ReadOnly(path()), Some("cannot write its database")),
            (StoreError::Stopped, None),
        ] {
            let text = AuthorityError::Store(error).text_for_client();
            assert_eq!(text.is_some(), expected.is_some());
            // The path of the database is not for clients.
            assert!(text.is_none_or(|text| text.contains(expected.unwrap()) && !text.contains("/state")), "{text:?}");
        }
    }
}
