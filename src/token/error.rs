//! What can go wrong with a token: each error names the operation, the token, and the next step to take.

mod remedies;

use std::fmt;
use std::path::PathBuf;

use super::{PinState, WhichPin};
use remedies::{AFTER_LOCKED_PIN, AFTER_UNKNOWN_STATE, after_wrong_pin};

/// How a person tells one token from another: the label they know it by and the serial number that is unique.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TokenName {
    /// the token's label
    pub label: String,
    /// the token's serial number
    pub serial: String,
}

impl fmt::Display for TokenName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "token {:?} (serial {})", self.label, self.serial)
    }
}

/// The operation of a log-in whose purpose is not known on this floor.
pub(super) const LOG_IN: &str = "log in";

/// Which of the program's ends an error leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenErrorKind {
    /// The token, module or key is not there.
    Absent,
    /// The PIN: wrong, locked, not set, of a wrong length.
    Pin,
    /// What was asked is not allowed or not possible, and asking again changes nothing.
    Refused,
    /// Something broke.
    Fault,
}

/// An operation on a token that did not succeed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TokenError {
    /// The PKCS#11 module cannot be loaded or started.
    #[error("cannot use the PKCS#11 module {}: {reason}; {remedy}", path.display())]
    Module {
        /// the shared library
        path: PathBuf,
        /// what it said
        reason: String,
        /// what to do
        remedy: String,
    },
    /// The token is not there, or no longer.
    #[error("cannot {operation}: {token} is not there; insert it, or see `tokenkeep tokens`")]
    Absent {
        /// what was tried
        operation: &'static str,
        /// the token
        token: TokenName,
    },
    /// Another process owns the token.
    #[error("cannot use {token}: it is in use by {holder}; {remedy}")]
    Owned {
        /// the token
        token: TokenName,
        /// program and process id
        holder: String,
        /// what to do, as the holder says
        remedy: String,
    },
    /// An act on the token is going on in this process.
    #[error("cannot unlock {token}: it is unlocked for another act; end that one first")]
    Busy {
        /// the token
        token: TokenName,
    },
    /// The PIN was tried once and is wrong.
    #[error("cannot {operation}: the PIN of {token} is wrong ({pin_state}); {}{}", after_wrong_pin(*pin_state), if *log_in_ended { LOG_IN_ENDED } else { "" })]
    PinIncorrect {
        /// what was tried
        operation: &'static str,
        /// the token
        token: TokenName,
        /// what the token says now
        pin_state: PinState,
        /// did a log-in stand before, which is over now?
        log_in_ended: bool,
    },
    /// A key that asks for the PIN at each use, and a log-in that stands.
    #[error("cannot {operation}: the key on {token} asks for the PIN at every use; type it for this one")]
    PinEachUse {
        /// what was tried
        operation: &'static str,
        /// the token
        token: TokenName,
    },
    /// One try is left, and whoever gave the PIN was not warned of it; nothing was tried.
    #[error(
        "cannot {operation}: one try of the {which} of {token} is left, and the next wrong one locks it; nothing was tried; \
         type the command at a terminal, where it asks before it takes the last try"
    )]
    LastTry {
        /// what was to be done
        operation: &'static str,
        /// the token
        token: TokenName,
        /// which PIN
        which: WhichPin,
    },
    /// What the token says about its PIN now cannot be known; nothing was tried.
    #[error(
        "cannot {operation}: whether tries of the {which} of {token} are left cannot be read ({reason}); nothing was tried; \
         {AFTER_UNKNOWN_STATE}"
    )]
    PinStateUnknown {
        /// what was to be done
        operation: &'static str,
        /// the token
        token: TokenName,
        /// which PIN
        which: WhichPin,
        /// why
        reason: String,
    },
    /// So many wrong PINs came from files, descriptors and credentials that no more are tried from there.
    #[error(
        "cannot {operation}: {wrong} wrong {which}s of {token} in a row came from where no person types them; nothing was \
         tried; correct its source, then type the {which} once at a prompt (without `--{}pin-source`)",
        if *which == WhichPin::User { "" } else { "so-" }
    )]
    TooManyUnattended {
        /// what was to be done
        operation: &'static str,
        /// the token
        token: TokenName,
        /// which PIN
        which: WhichPin,
        /// how many
        wrong: u32,
    },
    /// The PIN is locked; it was not tried, or locked by this try.
    #[error("cannot {operation}: the PIN of {token} is locked; {AFTER_LOCKED_PIN}")]
    PinLocked {
        /// what was tried
        operation: &'static str,
        /// the token
        token: TokenName,
    },
    /// The SO PIN was tried once and is wrong.
    #[error(
        "cannot {operation}: the SO PIN of {token} is wrong ({so_pin_state}); {}",
        if *so_pin_state == PinState::FinalTry { "the next wrong one locks it for good" } else { "nothing was changed" }
    )]
    SoPinIncorrect {
        /// what was tried
        operation: &'static str,
        /// the token
        token: TokenName,
        /// what the token says of the SO PIN now
        so_pin_state: PinState,
    },
    /// The SO PIN is locked; it was not tried, or locked by this try.
    #[error(
        "cannot {operation}: the SO PIN of {token} is locked, so nobody can set a PIN on it; get a recovery letter and enroll into \
         another token"
    )]
    SoPinLocked {
        /// what was tried
        operation: &'static str,
        /// the token
        token: TokenName,
    },
    /// The token has no user PIN.
    #[error("cannot {operation}: {token} has no PIN yet; set one by the SO PIN (`tokenkeep pin unblock`)")]
    PinNotSet {
        /// what was tried
        operation: &'static str,
        /// the token
        token: TokenName,
    },
    /// The PIN is too short or too long for this token. Found out without a try.
    #[error("cannot {operation}: a PIN of {token} has {min} to {max} bytes; choose another")]
    PinLength {
        /// what was tried
        operation: &'static str,
        /// the token
        token: TokenName,
        /// the shortest, in bytes
        min: usize,
        /// the longest, in bytes
        max: usize,
    },
    /// The operation needs a log-in and there is none.
    #[error("cannot {operation}: nobody is logged in to {token}; its PIN is needed")]
    NotLoggedIn {
        /// what was tried
        operation: &'static str,
        /// the token
        token: TokenName,
    },
    /// A token with this label exists already and holds something.
    #[error(
        "cannot create a token labelled {label:?}: there is one (serial {serial}); choose another name (a keyset \
         may also go on that token: `--token {serial}`)"
    )]
    LabelTaken {
        /// the label
        label: String,
        /// the serial number of the token that has it
        serial: String,
    },
    /// A label that a token cannot have.
    #[error("cannot create a token labelled {label:?}: a label has 1 to 32 bytes and no control characters")]
    LabelUnfit {
        /// the label
        label: String,
    },
    /// The module has no free slot.
    #[error("cannot create a token: {} has no free slot; use a token that exists (`--token`)", module.display())]
    NoFreeSlot {
        /// the module
        module: PathBuf,
    },
    /// The key is not on the token.
    #[error(
        "cannot {operation}: no such key on {token}; if it was never there, see `tokenkeep tokens` for the right token; if \
         another program deleted it, enroll again"
    )]
    KeyAbsent {
        /// what was tried
        operation: &'static str,
        /// the token
        token: TokenName,
    },
    /// There is no room on the token for what was to be written.
    #[error(
        "cannot {operation}: {token} is full; delete what is no longer needed (`tokenkeep keyset delete`), or use another \
         token"
    )]
    Full {
        /// what was tried
        operation: &'static str,
        /// the token
        token: TokenName,
    },
    /// Where the module keeps its tokens nothing more can be written; nothing was tried.
    #[error("cannot {operation}: nothing more can be stored on {token}: {condition}; make room there, or mend that")]
    NoRoom {
        /// what was to be done
        operation: &'static str,
        /// the token
        token: TokenName,
        /// free space and permissions of the token directory
        condition: String,
    },
    /// The module said that it was stored, and a process that looks anew does not find it.
    #[error(
        "cannot {operation}: the module of {token} said that all was stored, and for a program that looks anew it is not \
         there ({missing}): {condition}; make room there, or mend that, and type the same command again"
    )]
    NotStored {
        /// what was to be done
        operation: &'static str,
        /// the token
        token: TokenName,
        /// what is missing
        missing: String,
        /// free space and permissions of the token directory
        condition: String,
    },
    /// Nothing can be written to the token.
    #[error("cannot {operation}: {token} is write-protected; lift that, or use another token")]
    WriteProtected {
        /// what was tried
        operation: &'static str,
        /// the token
        token: TokenName,
    },
    /// The token cannot do this at all.
    #[error(
        "cannot {operation}: {token} does not support {what}; use another token, or another module for it that does"
    )]
    Unsupported {
        /// what was tried
        operation: &'static str,
        /// the token
        token: TokenName,
        /// what it lacks
        what: String,
    },
    /// The key that arrived is damaged, for another token, or not what it was said to be.
    #[error(
        "cannot {operation} on {token}: the key that was delivered does not open ({reason}); type the same command again, \
         and tell the authority's administrator if it stays so"
    )]
    BadDelivery {
        /// what was tried
        operation: &'static str,
        /// the token
        token: TokenName,
        /// what the token said
        reason: String,
    },
    /// The token refused the data: padding, length or content.
    #[error(
        "cannot {operation}: {token} refused the data ({reason}); it is damaged, or meant for another key: get it once more"
    )]
    BadData {
        /// what was tried
        operation: &'static str,
        /// the token
        token: TokenName,
        /// what the token said
        reason: String,
    },
    /// The one use that a PIN was typed for is over.
    #[error("cannot sign with a key on {token} a second time: the PIN was for one use; type it again for the next")]
    Spent {
        /// the token
        token: TokenName,
    },
    /// The directory of the lock files that say who owns a token cannot be trusted: no token can be used at all.
    #[error(
        "cannot use any token: the directory {path}, where who uses one says so, {reason}; make it a directory of \
         your own (`chmod 700`), or set XDG_RUNTIME_DIR to one", path = path.display()
    )]
    LockDirectory {
        /// the directory
        path: PathBuf,
        /// what is wrong with it: "is no directory"
        reason: String,
    },
    /// The lock file that says who owns a token cannot be used.
    #[error("cannot lock {token}: {path}: {reason}; the file must belong to you, and can be removed", path = path.display())]
    LockFile {
        /// the token
        token: TokenName,
        /// the file
        path: PathBuf,
        /// what is wrong with it
        reason: String,
    },
    /// A key or certificate cannot be encoded or decoded.
    #[error("cannot encode or decode a key or certificate: {0}; get it once more from where it came from, in DER")]
    Encoding(String),
    /// The system gives no random numbers.
    #[error("cannot make random bytes: {0}; try again, and look into the system's log if it stays so")]
    NoRandom(String),
    /// The token's own policy refuses a new PIN: the SO PIN was right, or no wrong try of the old PIN was seen counted.
    #[error(
        "cannot {operation}: {token} does not take the new PIN ({code}); the PINs are as they were; choose another one"
    )]
    NewPinRefused {
        /// what was tried
        operation: &'static str,
        /// the token
        token: TokenName,
        /// the return value's name (`CKR_…`)
        code: String,
    },
    /// Anything else a module can say.
    #[error(
        "cannot {operation}: {token} answered {code}; try again, and look into the log of its module if it stays so"
    )]
    Fault {
        /// what was tried
        operation: &'static str,
        /// the token
        token: TokenName,
        /// the return value's name (`CKR_…`)
        code: String,
    },
}

/// A wrong PIN is found out by logging out first.
const LOG_IN_ENDED: &str = "; the log-in that stood on this token is over";

impl TokenError {
    /// Adds that a log-in stood, and ended with this try.
    pub(super) fn and_a_log_in_ended(self) -> Self {
        match self {
            Self::PinIncorrect { operation, token, pin_state, .. } => {
                Self::PinIncorrect { operation, token, pin_state, log_in_ended: true }
            }
            other => other,
        }
    }

    /// The same, of the act that a log-in was for: whoever wanted to sign is told that they cannot sign.
    #[must_use]
    pub fn of_act(mut self, act: &'static str) -> Self {
        if let Self::PinIncorrect { operation, .. }
        | Self::PinLocked { operation, .. }
        | Self::LastTry { operation, .. }
        | Self::PinStateUnknown { operation, .. }
        | Self::TooManyUnattended { operation, .. }
        | Self::PinNotSet { operation, .. }
        | Self::PinLength { operation, .. }
        | Self::Absent { operation, .. }
        | Self::Fault { operation, .. } = &mut self
            && *operation == LOG_IN
        {
            *operation = act;
        }
        self
    }

    /// Which of the program's ends (exit codes) this error leads to.
    pub fn kind(&self) -> TokenErrorKind {
        match self {
            Self::Module { .. } | Self::Absent { .. } | Self::KeyAbsent { .. } => TokenErrorKind::Absent,
            Self::PinIncorrect { .. }
            | Self::PinLocked { .. }
            | Self::LastTry { .. }
            | Self::TooManyUnattended { .. }
            | Self::SoPinIncorrect { .. }
            | Self::SoPinLocked { .. }
            | Self::PinNotSet { .. }
            | Self::PinLength { .. }
            | Self::NotLoggedIn { .. }
            | Self::PinEachUse { .. }
            | Self::Spent { .. } => TokenErrorKind::Pin,
            Self::LabelTaken { .. }
            | Self::LabelUnfit { .. }
            | Self::NewPinRefused { .. }
            | Self::NoFreeSlot { .. }
            | Self::Unsupported { .. }
            | Self::BadDelivery { .. }
            | Self::BadData { .. } => TokenErrorKind::Refused,
            Self::Owned { .. }
            | Self::PinStateUnknown { .. }
            | Self::Full { .. }
            | Self::NoRoom { .. }
            | Self::NotStored { .. }
            | Self::WriteProtected { .. }
            | Self::Busy { .. }
            | Self::LockDirectory { .. }
            | Self::LockFile { .. }
            | Self::Encoding(_)
            | Self::NoRandom(_)
            | Self::Fault { .. } => TokenErrorKind::Fault,
        }
    }
}

#[cfg(test)]
mod tests;
