//! What an operation reports while it runs: its token, its progress, and notices to the user.
//!
//! None of it is a question: [`super::UserPrompter`] asks.

use serde::{Deserialize, Serialize};

use crate::token::{KeysetName, TokenInfo};

/// Follows a running operation. By default, nothing is shown.
pub trait OperationObserver {
    /// The operation uses this token. Reported before the token is opened.
    fn token_chosen(&mut self, token: &TokenInfo) {
        let _ = token;
    }

    /// Shows the progress.
    fn progress(&mut self, step: Step) {
        let _ = step;
    }

    /// Shows a notice.
    fn notice(&mut self, notice: Notice) {
        let _ = notice;
    }
}

/// The progress of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Step {
    /// Asking the authority whether it accepts the letter.
    CheckingLetter,
    /// Creating a new token.
    CreatingToken,
    /// Generating keys on the token.
    MakingKeys,
    /// Waiting for the authority's reply.
    AwaitingReply,
    /// Installing an encryption key.
    InstallingKey {
        /// its position, from 1
        number: usize,
        /// the number of keys
        of: usize,
    },
    /// Confirming the certificates to the authority.
    Confirming,
    /// Removing everything that a failed attempt created.
    CleaningUp,
}

/// Information for the user that does not stop the operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Notice {
    /// An interrupted enrollment continues.
    #[error("continuing an interrupted enrollment into the keyset {:?}", keyset.as_str())]
    Resuming {
        /// the keyset's name
        keyset: KeysetName,
    },
    /// The objects of an interrupted enrollment are removed first.
    #[error("removing an unfinished enrollment into the keyset {:?}", keyset.as_str())]
    RollingBack {
        /// the keyset's name
        keyset: KeysetName,
    },
    /// The public index differs from the private one.
    #[error(
        "the public index of the keyset {:?} on {token} was changed without the PIN ({what}); \
         the private index is used and the public one is replaced",
        keyset.as_str()
    )]
    IndexMismatch {
        /// the keyset's name
        keyset: KeysetName,
        /// the token's label and serial number
        token: String,
        /// the part that differs
        what: String,
    },
    /// The SO PIN of a new token could not be replaced; the one of the letter may still be valid.
    #[error(
        "the SO PIN of the new {token} was not replaced ({reason}); destroy the letter, for its temporary key gives \
         the SO PIN"
    )]
    SoPinKept {
        /// the token's label and serial number
        token: String,
        reason: String,
    },
    /// A newly created token could not be emptied again.
    #[error("the new {token} could not be emptied: {reason}")]
    TokenLeft {
        /// the token's label and serial number
        token: String,
        reason: String,
    },
    /// A new administrator exists without a statement by another administrator.
    #[error(
        "{email} was added as an administrator on {at} on the authority's machine, with the authority's PIN, and {}; \
         if you do: `tokenkeep admin acknowledge {entry}`",
        when_it_counts(*counts, counts_from)
    )]
    AdministratorAdded {
        /// the address of the new administrator
        email: String,
        /// the time of the addition
        at: String,
        /// the time from which it counts
        counts_from: String,
        /// does it count already?
        counts: bool,
        /// the sequence number of the log entry
        entry: u64,
    },
    /// A certificate in use at the authority expires soon; the text is part of its signed response.
    #[error("the authority says: {text}")]
    CertificateEnding {
        /// the certificate, its expiry, and the remedy
        text: String,
    },
    /// The authority's audit checkpoint could not be stored on the token; the previous one stays.
    #[error(
        "the authority's audit checkpoint could not be kept in the keyset {:?} on {token} ({reason}); the next command \
         compares with the previous checkpoint",
        keyset.as_str()
    )]
    CheckpointNotKept {
        /// the keyset's name
        keyset: KeysetName,
        /// the token's label and serial number
        token: String,
        reason: String,
    },
    /// The check that all installed objects are stored could not run.
    #[error(
        "a new process could not verify that everything is stored on {token} ({reason}); the module reports success; \
         `tokenkeep doctor` checks the module"
    )]
    NotReadBack {
        /// the token's label and serial number
        token: String,
        reason: String,
    },
    /// Other keysets share the PIN because they are on the same token.
    #[error("this PIN is also the PIN of {others}, on the same token")]
    SharedPin {
        /// the names of the other keysets
        others: String,
    },
}

/// States from when an added administrator counts, and what to do about an unexpected one.
fn when_it_counts(counts: bool, from: &str) -> String {
    if counts {
        format!("has been in effect since {from}; if you do not know why, have the authority's machine examined now")
    } else {
        format!("takes effect on {from}; if you do not know why, act before then")
    }
}
