//! Errors of tokens, and [`TokenName`], which names a token in them. Each error gives the
//! operation, the token, and the next step.

mod kind;

use std::fmt;
use std::path::PathBuf;

use super::{PinState, WhichPin};
pub use kind::TokenErrorKind;

/// The operation of a login whose purpose this module does not know.
pub(super) const LOG_IN: &str = "log in";

/// A failed operation on a token.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TokenError {
    /// A source of tokens cannot be used: its PKCS#11 module cannot be loaded or initialized.
    #[error("cannot use the PKCS#11 module {}: {reason}; {remedy}", path.display())]
    Source {
        path: PathBuf,
        /// what the module reported
        reason: String,
        remedy: String,
    },
    /// The token is not present, or was removed.
    #[error("cannot {operation}: {token} is not present; insert it, or see `tokenkeep tokens`")]
    Absent { operation: &'static str, token: TokenName },
    /// Another process owns the token.
    #[error("cannot use {token}: it is in use by {owner}; {remedy}")]
    Owned {
        token: TokenName,
        /// program and process id
        owner: String,
        /// the next step, as the owner gives it
        remedy: String,
    },
    /// Another operation of this process uses the token.
    #[error("cannot unlock {token}: it is in use by another operation; finish that first")]
    Busy { token: TokenName },
    /// The PIN was tried once and is wrong.
    #[error(
        "cannot {operation}: the PIN of {token} is wrong ({pin_state}); {}{}",
        after_wrong_pin(*pin_state),
        if *log_in_ended { SESSION_ENDED } else { "" }
    )]
    PinIncorrect {
        operation: &'static str,
        token: TokenName,
        /// the state of the PIN after the try
        pin_state: PinState,
        /// whether a session was active and has ended with this try
        log_in_ended: bool,
    },
    /// The key requires the PIN for every use; an active session is not enough.
    #[error("cannot {operation}: the key on {token} requires the PIN for every use; type it for this one")]
    PinEachUse { operation: &'static str, token: TokenName },
    /// One try is left, and the source of the PIN could not be warned. No try was spent.
    #[error(
        "cannot {operation}: only one try of the {which} of {token} is left, and a wrong {which} would lock it; \
         nothing was tried; run the command at a terminal, where it asks before it uses the last try"
    )]
    LastTry { operation: &'static str, token: TokenName, which: WhichPin },
    /// The current state of the PIN is unknown. No try was spent.
    #[error(
        "cannot {operation}: the state of the {which} of {token} cannot be read ({reason}); nothing was tried; \
         {AFTER_UNKNOWN_STATE}"
    )]
    PinStateUnknown { operation: &'static str, token: TokenName, which: WhichPin, reason: String },
    /// Too many wrong PINs in a row came from unattended sources (files, descriptors, credentials).
    /// No try was spent.
    #[error(
        "cannot {operation}: {wrong} wrong {which}s of {token} in a row came from unattended sources; nothing was \
         tried; correct the source, then type the {which} once at a prompt (without `--{}pin-source`)",
        if *which == WhichPin::User { "" } else { "so-" }
    )]
    TooManyUnattended {
        operation: &'static str,
        token: TokenName,
        which: WhichPin,
        /// number of wrong PINs in a row
        wrong: u32,
    },
    /// The PIN is locked, or this try locked it.
    #[error("cannot {operation}: the PIN of {token} is locked; {AFTER_LOCKED_PIN}")]
    PinLocked { operation: &'static str, token: TokenName },
    /// The SO PIN was tried once and is wrong.
    #[error(
        "cannot {operation}: the SO PIN of {token} is wrong ({so_pin_state}); {}",
        if *so_pin_state == PinState::FinalTry {
            "the next wrong one locks it permanently"
        } else {
            "nothing was changed"
        }
    )]
    SoPinIncorrect {
        operation: &'static str,
        token: TokenName,
        /// the state of the SO PIN after the try
        so_pin_state: PinState,
    },
    /// The SO PIN is locked, or this try locked it.
    #[error(
        "cannot {operation}: the SO PIN of {token} is locked, so no PIN can be set on it; get a recovery letter and \
         enroll into another token"
    )]
    SoPinLocked { operation: &'static str, token: TokenName },
    /// The token has no user PIN.
    #[error("cannot {operation}: {token} has no PIN yet; set one with the SO PIN (`tokenkeep pin unblock`)")]
    PinNotSet { operation: &'static str, token: TokenName },
    /// The PIN is too short or too long for this token. No try was spent.
    #[error("cannot {operation}: a PIN of {token} must have {min} to {max} bytes; choose another one")]
    PinLength {
        operation: &'static str,
        token: TokenName,
        /// minimum length in bytes
        min: usize,
        /// maximum length in bytes
        max: usize,
    },
    /// The operation needs a login.
    #[error("cannot {operation}: {token} is not logged in; enter its PIN")]
    NotLoggedIn { operation: &'static str, token: TokenName },
    /// A token with this label exists already and holds objects.
    #[error(
        "cannot create a token labeled {label:?}: a token with this label exists (serial {serial}); choose another \
         name, or put the keyset on that token with `--token {serial}`"
    )]
    LabelTaken {
        label: String,
        /// the serial number of the token that has it
        serial: String,
    },
    /// The label is not allowed for a token.
    #[error("cannot create a token labeled {label:?}: a label must have 1 to 32 bytes and no control characters")]
    LabelUnfit { label: String },
    /// The module has no free slot.
    #[error("cannot create a token: {} has no free slot; use an existing token (`--token`)", module.display())]
    NoFreeSlot { module: PathBuf },
    /// The key is not on the token.
    #[error(
        "cannot {operation}: the key is not on {token}; if it was never there, find the right token with `tokenkeep \
         tokens`; if another program deleted it, enroll again"
    )]
    KeyAbsent { operation: &'static str, token: TokenName },
    /// The token has no space for the new object.
    #[error(
        "cannot {operation}: {token} is full; delete what is no longer needed (`tokenkeep keyset delete`), or use \
         another token"
    )]
    Full { operation: &'static str, token: TokenName },
    /// The module's token directory accepts no more data. Nothing was tried.
    #[error(
        "cannot {operation}: nothing more can be stored on {token}: {condition}; free space there, or make the \
         directory writable"
    )]
    NoRoom {
        operation: &'static str,
        token: TokenName,
        /// free space and permissions of the token directory
        condition: String,
    },
    /// The module reported success, and a new process does not find the objects.
    #[error(
        "cannot {operation}: the module of {token} reported success, but a new process does not find everything \
         ({missing}): {condition}; free space there or make the directory writable, then run the same command again"
    )]
    NotStored {
        operation: &'static str,
        token: TokenName,
        missing: String,
        /// free space and permissions of the token directory
        condition: String,
    },
    #[error("cannot {operation}: {token} is write-protected; remove the protection, or use another token")]
    WriteProtected { operation: &'static str, token: TokenName },
    /// The token does not support the operation.
    #[error("cannot {operation}: {token} does not support {what}; use another token, or another module for it")]
    Unsupported { operation: &'static str, token: TokenName, what: String },
    /// The delivered key is damaged, encrypted to another token, or not the expected one.
    #[error(
        "cannot {operation} on {token}: the delivered key cannot be unwrapped ({reason}); run the same command again, \
         and tell the authority's administrator if it fails again"
    )]
    BadDelivery {
        operation: &'static str,
        token: TokenName,
        /// what the token reported
        reason: String,
    },
    /// The token refused the data because of its padding, length or content.
    #[error(
        "cannot {operation}: {token} refused the data ({reason}); it is damaged or meant for another key: get it again"
    )]
    BadData {
        operation: &'static str,
        token: TokenName,
        /// what the token reported
        reason: String,
    },
    /// The PIN was typed for one use, and that use is over.
    #[error("cannot sign with a key on {token} a second time: the PIN was for one use; type it again for the next")]
    Spent { token: TokenName },
    /// The directory of the owner locks cannot be trusted. No token can be used.
    #[error(
        "cannot use any token: the lock directory {path} {reason}; make it a directory of your own (`chmod 700`), \
         or set XDG_RUNTIME_DIR to one",
        path = path.display()
    )]
    LockDirectory {
        path: PathBuf,
        /// the fault as a predicate, such as "is not a directory"
        reason: String,
    },
    /// The owner lock file of a token cannot be used.
    #[error(
        "cannot lock {token}: {path}: {reason}; remove this file, or make yourself its owner",
        path = path.display()
    )]
    LockFile { token: TokenName, path: PathBuf, reason: String },
    /// A key or certificate cannot be encoded or decoded.
    #[error("cannot encode or decode a key or certificate: {0}; get it again from its source, in DER")]
    Encoding(String),
    /// The system provides no random numbers.
    #[error("cannot make random bytes: {0}; try again, and check the system log if it fails again")]
    NoRandom(String),
    /// The token's policy refuses the new PIN. The SO PIN was right, or no wrong try of the old PIN
    /// was counted.
    #[error(
        "cannot {operation}: {token} does not accept the new PIN ({code}); the PINs are unchanged; choose another one"
    )]
    NewPinRefused {
        operation: &'static str,
        token: TokenName,
        /// the return value's name (`CKR_…`)
        code: String,
    },
    /// Any other error of the module.
    #[error(
        "cannot {operation}: {token} returned {code}; try again, and check the log of its module if it fails again"
    )]
    Fault {
        operation: &'static str,
        token: TokenName,
        /// the return value's name (`CKR_…`)
        code: String,
    },
}

/// What a try adds that ended a session: only a new login verifies a PIN, and a logout precedes it.
const SESSION_ENDED: &str = "; the active session on this token has ended";

impl TokenError {
    /// Adds that a session was active and ended with this try.
    pub(super) fn with_session_ended(self) -> Self {
        match self {
            Self::PinIncorrect { operation, token, pin_state, .. } => {
                Self::PinIncorrect { operation, token, pin_state, log_in_ended: true }
            }
            other => other,
        }
    }

    /// Replaces the operation "log in" by the operation that the login was for, so that a user who
    /// wanted to sign reads that they cannot sign.
    #[must_use]
    pub fn with_operation(mut self, replacement: &'static str) -> Self {
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
            *operation = replacement;
        }
        self
    }
}

/// Identifies a token to a person: the label that they know and the unique serial number.
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

/// The next step for a locked PIN. The recovery letter comes first because most people do not know
/// their token's SO PIN: `enroll` makes it at random unless told to keep one.
const AFTER_LOCKED_PIN: &str = "get a recovery letter from an administrator (`tokenkeep admin recover`) and \
    enroll with it into another token, or, if you have the token's SO PIN, \
    set a new PIN with it (`tokenkeep pin unblock`)";

/// The next step for modules that keep reporting the state from their initialization.
const AFTER_UNKNOWN_STATE: &str = "try again; if it fails again, see `tokenkeep doctor` and stop a running \
    agent (`tokenkeep agent stop`): its next start reloads the module";

/// The next step for the state that the token reports after the wrong PIN.
fn after_wrong_pin(pin_state: PinState) -> &'static str {
    match pin_state {
        PinState::FinalTry => "the next wrong one locks it",
        PinState::Locked => AFTER_LOCKED_PIN,
        PinState::Ok | PinState::CountLow | PinState::NotSet => "nothing was changed",
    }
}

#[cfg(test)]
mod tests;
