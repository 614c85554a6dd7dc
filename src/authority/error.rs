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
    #[error("cannot use the state directory {}: {source}; check its owner, its permissions and the room on its disk, or name another `state`", path.display())]
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
    #[error(
        "cannot act as the authority: {0}; give `state` and `[token]` in the configuration the two that belong together, or \
         restore both from one backup"
    )]
    Mismatch(String),
    /// A record of the database does not carry the token's MAC: somebody changed it.
    #[error("cannot trust the record of {0} in the database: its MAC does not fit; restore the database from a backup")]
    Tampered(String),
    /// A user's history has a hole, or a certificate that was changed.
    #[error(
        "cannot recover the keys of {email}: by the log they have confirmed {logged} encryption certificates, and of these the \
         database has {found} as they were issued; restore the database from a backup"
    )]
    History {
        /// Whose.
        email: String,
        /// How many certificates the log has.
        logged: usize,
        /// How many of them are in the database.
        found: usize,
    },
    /// The log does not hold.
    #[error(
        "cannot trust the audit log: its entry {number} {reason}; restore the database from a backup, and let an administrator \
         run a command with it, which compares the log with the checkpoint that their keyset keeps"
    )]
    Log {
        /// The first entry that does not hold.
        number: u64,
        /// What is wrong with it; completes "its entry …".
        reason: String,
    },
    /// DER.
    #[error("cannot encode a message: {0}; this is a fault of the program: please report it")]
    Der(#[from] der::Error),
    /// Something could not be encoded.
    #[error("cannot encode {what}: {reason}; this is a fault of the program: please report it")]
    Encode {
        /// What.
        what: &'static str,
        /// Why.
        reason: String,
    },
    /// No random numbers.
    #[error("cannot make random bytes: {0}; try again, and look into the system's log if it stays so")]
    Random(String),
    /// Nobody is made an administrator.
    #[error("cannot add the administrator: {0}")]
    NotAdded(String),
    /// The first administrator's address is none.
    #[error(
        "cannot make {address:?} the first administrator: {reason}; give `--first-administrator` an e-mail address"
    )]
    Administrator {
        /// What was given.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl AuthorityError {
    /// Whether it says that somebody has changed one record, and nothing of the others.
    pub(super) fn is_of_one_record(&self) -> bool {
        matches!(self, Self::Tampered(_) | Self::Store(StoreError::UnreadableRow { .. }))
    }

    /// What a person at the other end is told of a fault that passes, or that its administrator must mend, and that is nobody
    /// else's secret; `None` of all others.
    pub fn passing(&self) -> Option<&'static str> {
        match self {
            Self::Store(StoreError::Locked(_)) => Some(
                "the authority's database is locked by another program on its machine; try again when that has ended",
            ),
            Self::Store(StoreError::DiskFull(_)) => Some(
                "there is no space on the disk of the authority's database; try again when some has been freed there",
            ),
            Self::Store(StoreError::ReadOnly(_)) => Some(
                "the authority cannot write its database; see its log, and try again when the permissions there are mended",
            ),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_says_the_next_step() {
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
    fn a_fault_that_passes_is_said_to_those_who_ask() {
        let path = || PathBuf::from("/state/authority.db");
        for (error, said) in [
            (StoreError::Locked(path()), Some("locked by another program")),
            (StoreError::DiskFull(path()), Some("no space on the disk")),
            (StoreError::ReadOnly(path()), Some("cannot write its database")),
            (StoreError::Stopped, None),
        ] {
            let passing = AuthorityError::Store(error).passing();
            assert_eq!(passing.is_some(), said.is_some());
            // Where the database is, is nobody else's business.
            assert!(passing.is_none_or(|text| text.contains(said.unwrap()) && !text.contains("/state")), "{passing:?}");
        }
    }
}
