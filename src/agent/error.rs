//! Errors of the keystore.

use crate::keyset::{ErrorKind, KeysetError, NoPin};
use crate::token::{SignatureHash, TokenError};

/// A failed use of a key, or a failed operation. Each message begins with "cannot"; where there is
/// a next step, it names it.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The operation's own error.
    #[error(transparent)]
    Keyset(#[from] KeysetError),
    /// The keystore is locked with a pass phrase (`ssh-add -x`).
    #[error("cannot {operation}: the agent is locked; unlock it with `ssh-add -X`")]
    Locked { operation: &'static str },
    /// The agent is already locked, or not locked.
    #[error("cannot {operation} the agent: it is {state}")]
    LockState {
        /// "lock" or "unlock"
        operation: &'static str,
        /// the present state
        state: &'static str,
    },
    /// The pass phrase differs from the one that locked the agent.
    #[error("cannot unlock the agent: wrong pass phrase")]
    WrongPassPhrase,
    /// The key is on no token that is present.
    #[error("cannot {operation}: this key is on none of the tokens that are present; insert its token")]
    NoSuchKey { operation: &'static str },
    /// The key does not support the hash.
    #[error("cannot {operation}: this key cannot sign with {hash}")]
    NoSuchHash { operation: &'static str, hash: SignatureHash },
    /// The operating system refused something.
    #[error("cannot {operation}: {reason}")]
    System { operation: &'static str, reason: String },
}

impl AgentError {
    /// The kind of error, which decides a command's exit code.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Keyset(error) => error.kind(),
            Self::Locked { .. } | Self::LockState { .. } | Self::NoSuchHash { .. } => ErrorKind::Refused,
            Self::WrongPassPhrase => ErrorKind::Pin,
            Self::NoSuchKey { .. } => ErrorKind::Absent,
            Self::System { .. } => ErrorKind::Fault,
        }
    }

    /// Returns true if a person cancelled or declined at the prompt, or the client disconnected.
    pub fn is_cancelled(&self) -> bool {
        let Self::Keyset(KeysetError::NoPin { reason, .. }) = self else { return false };
        reason.is_refusal() || *reason == NoPin::Withdrawn
    }
}

impl From<AgentError> for KeysetError {
    fn from(error: AgentError) -> Self {
        match error {
            AgentError::Keyset(error) => error,
            error => Self::Other { kind: error.kind(), message: error.to_string() },
        }
    }
}

impl From<TokenError> for AgentError {
    fn from(error: TokenError) -> Self {
        Self::Keyset(error.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::TokenName;

    #[test]
    fn every_error_begins_with_cannot_and_has_its_kind() {
        let token = TokenName { label: "default".into(), serial: "a1b2".into() };
        for (error, kind) in [
            (AgentError::Locked { operation: "sign" }, ErrorKind::Refused),
            (AgentError::LockState { operation: "unlock", state: "not locked" }, ErrorKind::Refused),
            (AgentError::WrongPassPhrase, ErrorKind::Pin),
            (AgentError::NoSuchKey { operation: "sign" }, ErrorKind::Absent),
            (AgentError::NoSuchHash { operation: "sign", hash: SignatureHash::Sha512 }, ErrorKind::Refused),
            (TokenError::PinLocked { operation: "sign", token }.into(), ErrorKind::Pin),
        ] {
            assert!(error.to_string().starts_with("cannot "), "{error}");
            assert_eq!(error.kind(), kind, "{error}");
        }
    }
}
