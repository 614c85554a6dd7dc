//! Reasons for which the SSH endpoint refuses a request. The protocol has one failure code for all;
//! the messages are for the log.

use crate::agent::AgentError;

/// A request answered with `SSH_AGENT_FAILURE`. Each message completes "refused an SSH client: ".
#[derive(Debug, thiserror::Error)]
pub enum SshError {
    /// The message is malformed.
    #[error("cannot read {0}: it is malformed or has trailing bytes")]
    Malformed(&'static str),
    /// An unsupported message type.
    #[error("cannot serve message type {0}: it is unknown or belongs to SSH 1")]
    UnknownMessage(u8),
    /// An unsupported protocol extension.
    #[error("cannot serve the extension {0:?}: it is unsupported")]
    UnknownExtension(String),
    /// The data to sign is neither of the two supported kinds.
    #[error(
        "cannot sign this: it is neither an SSH login (RFC 4252 §7) nor an SSHSIG blob; \
         `tokenkeep sign` signs other content"
    )]
    NotForSsh,
    /// The data begins as one of the two kinds, and is malformed.
    #[error("cannot sign this {kind}: {reason}")]
    MalformedData {
        /// the kind of data
        kind: &'static str,
        /// the defect
        reason: &'static str,
    },
    /// The hash or signature algorithm is unsupported.
    #[error("cannot sign: {0}")]
    Algorithm(&'static str),
    /// A key type that no token supports.
    #[error("cannot use this public key: {0}")]
    Key(&'static str),
    /// The key is on no token that is present.
    #[error("cannot sign: this key is on none of the tokens that are present; insert its token, see `ssh-add -l`")]
    NoSuchKey,
    /// The session bindings (`session-bind@openssh.com`) forbid the request.
    #[error("cannot {operation}: {reason}")]
    Bound {
        /// the request, completing "cannot …"
        operation: &'static str,
        /// the rule that forbids it
        reason: &'static str,
    },
    /// Private keys reach a token only by enrollment.
    #[error("cannot add a private key from a file: keys are created on tokens with `tokenkeep enroll`")]
    TokenKeysOnly,
    /// A constraint that cannot be enforced must not be accepted.
    #[error("cannot apply the constraint {0}; not logged in")]
    Constraint(String),
    /// `ssh-add -s` and `-e` must select one token.
    #[error("cannot tell which token {provider:?} means: {reason}")]
    Provider {
        /// the client's argument
        provider: String,
        /// the problem: no token matches, or several do
        reason: &'static str,
    },
    /// The PIN in the request is invalid.
    #[error("cannot log in: {0}")]
    Pin(#[from] crate::token::PinError),
    /// An error of the keystore.
    #[error(transparent)]
    Keystore(#[from] AgentError),
}
