//! What can go wrong with messages; each text completes a sentence that begins "cannot".

use crate::pki::PkiError;

/// A fault or a refusal of the message room. That a signature is wrong is no error, but a [`super::Verdict`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SmimeError {
    /// The structures below.
    #[error(transparent)]
    Pki(#[from] PkiError),

    /// The input says to be a signed or encrypted message, and cannot be read as the one message that it would be.
    #[error("cannot read the message: {0}")]
    Unreadable(String),

    /// The input does not say to be a signed or encrypted message: another file, a mail without protection.
    #[error("cannot read the message: {0}")]
    NoMessage(String),

    /// A message of another kind than the act needs.
    #[error("cannot {act} this message: it is {found}")]
    WrongKind {
        /// "verify", "decrypt".
        act: &'static str,
        /// What it is instead: "encrypted, not signed".
        found: &'static str,
    },

    /// A detached signature without its content.
    #[error("cannot verify this message: its content is not in it; give the signed file too")]
    NoContent,

    /// A content type that only the statement room may sign.
    #[error("cannot sign content of the type {0}: only the administration commands sign it")]
    ReservedContentType(String),

    /// A certificate that nobody may encrypt to.
    #[error("cannot encrypt to {name}: {reason}")]
    Recipient {
        /// Whose certificate.
        name: String,
        /// Why not.
        reason: String,
    },

    /// Nobody to encrypt to.
    #[error("cannot encrypt the message: there is no recipient")]
    NoRecipient,

    /// Too many to encrypt to in one message.
    #[error("cannot encrypt the message: it has more than {most} recipients")]
    TooManyRecipients {
        /// As many are possible.
        most: usize,
    },

    /// One error for every cause, on purpose (PROTOCOLS.md, no oracle).
    #[error("cannot decrypt the message: it is damaged, or it was not encrypted to this key")]
    Undecryptable,
}
