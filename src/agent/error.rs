//! Why the keystore did not do what it was asked.

use std::path::PathBuf;

use crate::keyset::{ErrorKind, KeysetError, NoPin};
use crate::token::{SignatureHash, TokenError};

/// A use of a key, or an act, that did not succeed. Each message completes "cannot …" and says the next step.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// What the act itself says.
    #[error(transparent)]
    Keyset(#[from] KeysetError),
    /// The keystore is locked with a pass phrase (`ssh-add -x`).
    #[error("cannot {operation}: the agent is locked; unlock it with `ssh-add -X`")]
    Locked {
        /// what was asked for
        operation: &'static str,
    },
    /// It is locked already, or not locked.
    #[error("cannot {operation} the agent: it is {state}")]
    LockState {
        /// lock or unlock
        operation: &'static str,
        /// how it is
        state: &'static str,
    },
    /// Not the pass phrase that it was locked with.
    #[error("cannot unlock the agent: the pass phrase is not the one that it was locked with")]
    WrongPassPhrase,
    /// No key on the tokens that are present.
    #[error("cannot {operation}: this key is on none of the tokens that are present; insert its token")]
    NoSuchKey {
        /// what was asked for
        operation: &'static str,
    },
    /// The key cannot make this kind of signature.
    #[error("cannot {operation}: this key does not sign with {hash}")]
    NoSuchHash {
        /// what was asked for
        operation: &'static str,
        /// the hash
        hash: SignatureHash,
    },
    /// The worker of a module that has one of its own ended in the middle of it.
    #[error(
        "cannot {operation}: the worker of the module {} ended before it was done; another one is started, which asks for \
         the PIN anew: try again",
        module.display()
    )]
    WorkerEnded {
        /// what was asked for
        operation: &'static str,
        /// the module
        module: PathBuf,
    },
    /// The system cannot do it.
    #[error("cannot {operation}: {reason}")]
    System {
        /// what was tried
        operation: &'static str,
        /// why it failed
        reason: String,
    },
}

impl AgentError {
    /// Which of the program's ends (exit codes of the command line) this leads to.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Keyset(error) => error.kind(),
            Self::Locked { .. } | Self::LockState { .. } | Self::NoSuchHash { .. } => ErrorKind::Refused,
            Self::WrongPassPhrase => ErrorKind::Pin,
            Self::NoSuchKey { .. } => ErrorKind::Absent,
            Self::WorkerEnded { .. } | Self::System { .. } => ErrorKind::Fault,
        }
    }

    /// Did a person cancel, or say no, at the prompt; or did whoever asked go away?
    pub fn is_cancelled(&self) -> bool {
        let Self::Keyset(KeysetError::NoPin { reason, .. }) = self else { return false };
        reason.is_a_no() || *reason == NoPin::Withdrawn
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
    fn errors_complete_a_sentence_and_lead_to_an_end() {
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
