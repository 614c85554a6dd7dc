//! The enrollment letter: what an administrator hands to a person so that they can enroll.
//!
//! It is a short text that a person reads and `tokenkeep enroll --letter` reads too: who it is for, where to enroll,
//! the reference and the temporary key, the CA's fingerprint, the allowed levels, until when, and what to type. This
//! room makes that text and reads it back, even after a mail program has been at it. It must never put a temporary key
//! anywhere but into that text: not into an error, not into a log, not into a file that others can read, and never
//! over a file that is there already. It does no network and knows no database.

mod base32;
mod file;
mod other_form;
mod reference;
mod temporary_key;
mod text;

use std::io;
use std::path::PathBuf;

use jiff::Timestamp;

use crate::token::SecurityLevel;

pub use reference::{Purpose, Reference, ReferenceError};
pub use temporary_key::{TemporaryKey, TemporaryKeyError};
pub use text::LONGEST_LETTER;

/// An enrollment letter. Its text form is [`Letter::to_text`], read back by [`Letter::parse`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// Who it is for, as the authority's record has the name. For the reader only: certificates take the name from the
    /// authority's record. Control characters are not kept in the text form.
    pub user_name: String,
    /// The user's e-mail address.
    pub email: String,
    /// The authority's name.
    pub authority_name: String,
    /// Where the authority answers over HTTP: a base URL without a trailing slash, e.g. `http://127.0.0.1:8829`.
    pub http_url: String,
    /// The same over HTTPS (administration, and all the rest), e.g. `https://127.0.0.1:8830`.
    pub https_url: String,
    /// What the temporary key is looked up by; it also says what the letter is for ([`Letter::purpose`]).
    pub reference: Reference,
    /// The one-time secret.
    pub temporary_key: TemporaryKey,
    /// SHA-256 of the CA certificate's DER.
    pub ca_fingerprint: [u8; 32],
    /// The security levels the user may choose from; at least one, each once.
    pub levels: Vec<SecurityLevel>,
    /// Until when it can be used; the text form has whole seconds.
    pub expires: Timestamp,
}

impl Letter {
    /// What the letter is for: the reference says it.
    pub fn purpose(&self) -> Purpose {
        self.reference.purpose()
    }
}

/// Why a letter cannot be read or written. No message repeats a temporary key.
#[derive(Debug, thiserror::Error)]
pub enum LetterError {
    /// A field that every letter has is not there.
    #[error("cannot read the letter: the line \"{field}:\" is missing; is the whole letter there?")]
    Missing {
        /// The field's name as letters have it.
        field: &'static str,
    },
    /// A field is there twice: two letters in one file, or one with its quotation.
    #[error("cannot read the letter: the line \"{field}:\" is there twice; keep one letter only")]
    Twice {
        /// The field's name as letters have it.
        field: &'static str,
    },
    /// A field's value does not make sense.
    #[error("cannot read the letter: \"{field}\" is wrong: {reason}")]
    Field {
        /// The field's name as letters have it.
        field: &'static str,
        /// Why; never the value of a secret.
        reason: String,
    },
    /// It is longer than a letter can be.
    #[error("cannot read the letter: it is longer than {LONGEST_LETTER} bytes, so it is no letter")]
    TooLong,
    /// It is not text.
    #[error("cannot read the letter: it is not UTF-8 text; save it again as plain text in UTF-8")]
    NotText,
    /// It is a letter, but not as it was written.
    #[error("cannot read the letter: it is {found}; {remedy}")]
    OtherForm {
        /// What it is.
        found: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// The file cannot be read.
    #[error("cannot read the letter from {place}: {source}")]
    Read {
        /// The file, or "standard input".
        place: String,
        /// What the system said.
        source: io::Error,
    },
    /// The file is there already.
    #[error("cannot write the letter to {}: the file exists, and a letter is never written over one; name another", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be written.
    #[error("cannot write the letter to {}: {source}; name another file (`--letter-out`), in a directory that you can write to", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}
