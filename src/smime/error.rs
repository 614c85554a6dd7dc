//! The errors of this module. Each text begins with "cannot".

use crate::pki::PkiError;

/// A fault or a refusal. An invalid signature is not an error but a [`super::SignatureVerdict`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SmimeError {
    /// An error of [`crate::pki`].
    #[error(transparent)]
    Pki(#[from] PkiError),

    /// The input claims to be a signed or encrypted message, but cannot be parsed unambiguously as
    /// one.
    #[error("cannot read the message: {0}")]
    Unreadable(String),

    /// The input is not a signed or encrypted message, but e.g. another file or an unprotected
    /// mail.
    #[error("cannot read the message: {0}")]
    NoMessage(String),

    /// The message has the wrong kind for the operation.
    #[error("cannot {operation} this message: it is {found}")]
    WrongKind {
        /// "verify" or "decrypt".
        operation: &'static str,
        /// The kind found, e.g. "encrypted, not signed".
        found: &'static str,
    },

    /// A detached signature without its content.
    #[error("cannot verify this message: its content is missing; give the signed file too")]
    NoContent,

    /// A content type that only [`crate::statement`] may sign.
    #[error("cannot sign content of type {0}: only administration commands sign it")]
    ReservedContentType(String),

    /// A certificate that does not allow encryption.
    #[error("cannot encrypt to {name}: {reason}")]
    Recipient {
        /// The name in the certificate.
        name: String,
        reason: String,
    },

    /// The list of recipients is empty.
    #[error("cannot encrypt the message: no recipient")]
    NoRecipient,

    /// The list of recipients is too long.
    #[error("cannot encrypt the message: it has more than {most} recipients")]
    TooManyRecipients { most: usize },

    /// The input was another one when it was read again. What has been written is not the content.
    #[error("cannot decrypt the message: it changed while it was being decrypted")]
    ChangedWhileDecrypting,

    /// One error for every cause, so that it cannot serve as a decryption oracle.
    #[error("cannot decrypt the message: it is damaged, or it was not encrypted to this key")]
    Undecryptable,
}

/// The reason why a message was not decrypted.
#[derive(Debug, thiserror::Error)]
pub enum DecryptError<E> {
    /// The private key could not be used. The error is the closure's own.
    #[error(transparent)]
    Key(E),
    /// The message is invalid or cannot be decrypted.
    #[error(transparent)]
    Message(#[from] SmimeError),
}
