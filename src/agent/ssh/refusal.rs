//! Why the door said no. The protocol has one number for all of these; the words are for the log.

use crate::agent::AgentError;

/// A request that is answered with `SSH_AGENT_FAILURE`. Completes "refused an SSH client: ".
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The bytes are no message of the agent protocol.
    #[error("cannot read {0}: it is malformed, or something follows it")]
    Malformed(&'static str),
    /// A message that this door does not serve.
    #[error("cannot serve a message of type {0}: there is none, or it belongs to SSH 1")]
    UnknownMessage(u8),
    /// An extension of the protocol that this door does not know.
    #[error("cannot serve the extension {0:?}: it is not known here")]
    UnknownExtension(String),
    /// What is to be signed is neither of the two things that are signed here.
    #[error(
        "cannot sign this: it is neither a log-in over SSH (RFC 4252 §7) nor an SSHSIG blob; \
         `tokenkeep sign` signs contents"
    )]
    NotForSsh,
    /// It begins as one of the two, and is wrong.
    #[error("cannot sign this {what}: {why}")]
    NotWellFormed {
        /// which of the two
        what: &'static str,
        /// what is wrong with it
        why: &'static str,
    },
    /// The hash or the kind of signature that was asked for.
    #[error("cannot sign: {0}")]
    Algorithm(&'static str),
    /// A key of a kind that no token of ours has.
    #[error("cannot use this public key: {0}")]
    Key(&'static str),
    /// The key is on no token that is present.
    #[error("cannot sign: this key is on none of the tokens that are present; insert its token, see `ssh-add -l`")]
    NoSuchKey,
    /// What the connection was bound to (`session-bind@openssh.com`) does not admit it.
    #[error("cannot {what}: {why}")]
    Bound {
        /// what was asked for
        what: &'static str,
        /// why the binding does not admit it
        why: &'static str,
    },
    /// Private keys come onto a token by enrollment, and by nothing else.
    #[error("cannot take a private key from a file: keys live on tokens; `tokenkeep enroll` makes them there")]
    KeysLiveOnTokens,
    /// A constraint that cannot be kept must not be taken.
    #[error("cannot keep the constraint {0}; nobody is logged in")]
    Constraint(String),
    /// `ssh-add -s` and `-e` name one token.
    #[error("cannot tell which token {provider:?} means: {why}")]
    Provider {
        /// what was given
        provider: String,
        /// why it names none, or more than one
        why: &'static str,
    },
    /// The PIN that came with the request is none.
    #[error("cannot log in: {0}")]
    Pin(#[from] crate::token::PinError),
    /// What the keystore says.
    #[error(transparent)]
    Keystore(#[from] AgentError),
}
