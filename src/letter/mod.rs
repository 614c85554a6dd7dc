//! The enrollment letter, which an administrator gives to a person so that they can enroll.
//!
//! A letter is a short text for people and for `tokenkeep enroll --letter`. It states the person,
//! the authority's addresses, the reference, the temporary key, the CA fingerprint, the allowed
//! levels, the expiry and the command to type. This module writes the text and parses it, also
//! after a mail program has changed the layout.
//!
//! **Invariants:** A temporary key appears in the letter's text only: never in an error, in a log
//! or in a file that others can read. A letter never overwrites an existing file. This module uses
//! no network and no database.

mod altered;
mod base32;
mod file;
mod reference;
mod temporary_key;
mod text;

use std::io;
use std::path::PathBuf;

use jiff::Timestamp;

use crate::token::SecurityLevel;

pub use reference::{LetterPurpose, Reference, ReferenceError};
pub use temporary_key::{TemporaryKey, TemporaryKeyError};
pub use text::MAX_LETTER_BYTES;

/// An enrollment letter. [`Letter::to_text`] writes its text and [`Letter::parse`] reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// The user's name as the authority records it, for the human reader only: certificates take
    /// the name from the authority's record. The text form drops control characters.
    pub user_name: String,
    /// The user's e-mail address.
    pub email: String,
    /// The authority's name.
    pub authority_name: String,
    /// The authority's base URL over HTTP, without a trailing slash, e.g. `http://127.0.0.1:8829`.
    pub http_url: String,
    /// The authority's base URL over HTTPS, which serves administration too, e.g.
    /// `https://127.0.0.1:8830`.
    pub https_url: String,
    /// The public name of the temporary key. It also determines the purpose ([`Letter::purpose`]).
    pub reference: Reference,
    /// The one-time secret, which protects the enrollment's CMP messages.
    pub temporary_key: TemporaryKey,
    /// SHA-256 of the CA certificate in DER.
    pub ca_fingerprint: [u8; 32],
    /// The security levels that the user may choose from: at least one, without repetition.
    pub levels: Vec<SecurityLevel>,
    /// The time at which the letter expires. The text form has whole seconds.
    pub expires: Timestamp,
}

impl Letter {
    /// The letter's purpose, which its reference encodes.
    pub fn purpose(&self) -> LetterPurpose {
        self.reference.purpose()
    }
}

/// An error in reading or writing a letter. No message repeats a temporary key.
#[derive(Debug, thiserror::Error)]
pub enum LetterError {
    /// A mandatory field is missing.
    #[error("cannot read the letter: the line \"{field}:\" is missing; check that the letter is complete")]
    Missing {
        /// The field's name in the text form.
        field: &'static str,
    },
    /// A field is repeated: two letters in one file, or a letter and its quotation.
    #[error("cannot read the letter: the line \"{field}:\" is repeated; keep only one letter")]
    Duplicate {
        /// The field's name in the text form.
        field: &'static str,
    },
    /// A field's value is invalid.
    #[error("cannot read the letter: \"{field}\" is invalid: {reason}")]
    Field {
        /// The field's name in the text form.
        field: &'static str,
        /// The reason, without the value of a secret.
        reason: String,
    },
    /// The text is longer than [`MAX_LETTER_BYTES`].
    #[error("cannot read the letter: longer than {MAX_LETTER_BYTES} bytes")]
    TooLong,
    /// The bytes are not UTF-8.
    #[error("cannot read the letter: it is not UTF-8 text; save it again as plain text in UTF-8")]
    NotUtf8,
    /// The letter was encoded or reformatted on its way.
    #[error("cannot read the letter: it is {found}; {remedy}")]
    Altered {
        /// The form that was detected.
        found: &'static str,
        /// The next step for the person.
        remedy: &'static str,
    },
    /// The file cannot be read.
    #[error("cannot read the letter from {place}: {source}")]
    Read {
        /// The file, or "standard input".
        place: String,
        /// The system's error.
        source: io::Error,
    },
    /// The file exists.
    #[error("cannot write the letter to {}: the file exists and is not overwritten; name another file", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be written.
    #[error(
        "cannot write the letter to {}: {source}; name a file in a writable directory (`--letter-out`)",
        path.display()
    )]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}
