//! Statements, the administrators' commands, and the authority's responses.
//!
//! A statement is one command in JSON. The key on the administrator's token signs it as CMS content
//! of its own type, so one statement takes one use of the key and one PIN, and is its own evidence
//! for the audit log. The authority signs its [`Response`] with its CMP response key. A response
//! names the statement by its digest and carries the newest audit checkpoint.
//!
//! A statement also names the audit log position that its signer knows, so that the authority must
//! say whether its log still has it; the certificate to which a letter is encrypted; and, if it is
//! sent online, the run of the authority.
//!
//! **Invariants:** Only signed bytes are used: the parser reads the content exactly as it was
//! signed, and only [`SignedStatement::verify`] makes a [`VerifiedStatement`]. Unknown or repeated
//! members are refused, never skipped. This module does not know who is an administrator; the
//! caller passes the certificate that must have signed.

mod checkpoint;
mod instance;
mod json;
mod operation;
mod response;
mod serde_formats;
mod signed;
mod users;

use jiff::{SignedDuration, Timestamp};

use crate::pki::{Fingerprint, PathProblem, PkiError};

#[cfg(test)]
pub(crate) use checkpoint::tests::signed as signed_checkpoint;
pub use checkpoint::{Checkpoint, LogPosition, LogVerdict};
pub use instance::Instance;
pub use operation::{AdminOperation, MAX_USERS_PER_PAGE, StatementAnswer, USERS_PER_PAGE};
pub use response::{AddedAdministrator, Response, SignedResponse};
pub use signed::{SignedStatement, VerifiedStatement};
pub use users::{CertificateEntry, LetterEntry, UserDetails, UserSummary};

/// The maximum size of a signed statement (the CMS message), in bytes.
pub const MAX_STATEMENT_BYTES: usize = 65_536;

/// The channel of a statement. It decides how long the statement may be valid, and whether it names
/// a run of the authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatementChannel {
    /// Over TLS, answered at once by the run of the authority that the statement names.
    Online,
    /// A file, answered by any run of the authority.
    File,
}

impl StatementChannel {
    /// The maximum time between a statement's notBefore and notAfter: 15 minutes online, 14 days as
    /// a file.
    pub const fn max_validity(self) -> SignedDuration {
        match self {
            Self::Online => SignedDuration::from_mins(15),
            Self::File => SignedDuration::from_hours(14 * 24),
        }
    }
}

/// The validity of a new online statement after "now": enough for a slow token and for small clock
/// differences.
const VALIDITY: SignedDuration = SignedDuration::from_mins(10);

/// The start of a new statement's validity before "now", for an authority whose clock is behind.
const CLOCK_SKEW: SignedDuration = SignedDuration::from_mins(3);

/// One administrator's command to one authority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// SHA-256 of the CA certificate of the authority. Every other authority refuses the statement.
    pub authority: Fingerprint,
    /// The requested operation.
    pub operation: AdminOperation,
    /// A random number. The authority accepts it once, and stores it until `not_after`.
    pub nonce: [u8; 16],
    /// The start of the validity.
    pub not_before: Timestamp,
    /// The end of the validity, at most [`StatementChannel::max_validity`] after `not_before`.
    pub not_after: Timestamp,
    /// The audit log position that the signer knows, from the newest checkpoint that they keep. The
    /// authority states whether its log still has it ([`LogVerdict`]). `None` before the first
    /// checkpoint, or if the signer requests no comparison.
    pub known_log: Option<LogPosition>,
    /// The run of the authority that may accept the statement. `None` for a file.
    pub instance: Option<Instance>,
    /// SHA-256 of the signer's encryption certificate, to which the letter is encrypted. Present
    /// exactly if the response to the operation has a letter.
    pub encryption_certificate: Option<Fingerprint>,
}

impl Statement {
    /// A statement for this run of `authority`, valid from 3 minutes before `now` to 10 minutes
    /// after it. `nonce` must be fresh and random.
    pub fn online(
        authority: Fingerprint,
        instance: Instance,
        operation: AdminOperation,
        nonce: [u8; 16],
        now: Timestamp,
    ) -> Self {
        Self { instance: Some(instance), ..Self::valid_for(VALIDITY, authority, operation, nonce, now) }
    }

    /// A statement for file transport, with the maximum validity.
    pub fn for_file(authority: Fingerprint, operation: AdminOperation, nonce: [u8; 16], now: Timestamp) -> Self {
        Self::valid_for(StatementChannel::File.max_validity() - CLOCK_SKEW, authority, operation, nonce, now)
    }

    fn valid_for(
        validity: SignedDuration,
        authority: Fingerprint,
        operation: AdminOperation,
        nonce: [u8; 16],
        now: Timestamp,
    ) -> Self {
        let shifted = |by: SignedDuration| now.checked_add(by).unwrap_or(now);
        let (not_before, not_after) = (shifted(-CLOCK_SKEW), shifted(validity));
        Self {
            authority,
            operation,
            nonce,
            not_before,
            not_after,
            known_log: None,
            instance: None,
            encryption_certificate: None,
        }
    }

    /// Sets the certificate to which the response's letter is encrypted.
    #[must_use]
    pub fn with_encryption_certificate(self, certificate: Option<Fingerprint>) -> Self {
        Self { encryption_certificate: certificate, ..self }
    }

    /// Sets the audit log position that the signer knows.
    #[must_use]
    pub fn with_known_log(self, known_log: Option<LogPosition>) -> Self {
        Self { known_log, ..self }
    }
}

/// An error in making, reading or verifying a statement or a response.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StatementError {
    /// The message exceeds its maximum size.
    #[error("cannot accept the {what}: it is too long")]
    TooLong {
        /// "statement" or "response".
        what: &'static str,
    },
    /// The message is not a usable CMS SignedData, or cannot be made.
    #[error("cannot process the {what}: {source}")]
    Cms {
        /// "statement" or "response".
        what: &'static str,
        /// The error of [`crate::pki`].
        source: PkiError,
    },
    /// The signed content has another type, e.g. a signed mail.
    #[error("cannot accept the {what}: it is signed as {found}, not as a {what}")]
    WrongContentType {
        /// "statement" or "response".
        what: &'static str,
        /// The content type found.
        found: String,
    },
    /// The signature is not that of the required signer, or there are several.
    #[error("cannot accept the {what}: {reason}")]
    Signature {
        /// "statement", "response" or "checkpoint".
        what: &'static str,
        reason: String,
    },
    /// The JSON does not have the required form.
    #[error("cannot accept the {what}: invalid form: {reason}")]
    Form {
        /// "statement", "response" or "checkpoint".
        what: &'static str,
        /// The rule that is broken.
        reason: String,
    },
    /// The statement is for another authority, or the response is from one.
    #[error("cannot accept the {what}: it belongs to another authority ({found})")]
    OtherAuthority {
        /// "statement" or "response".
        what: &'static str,
        /// The CA fingerprint in it.
        found: Fingerprint,
    },
    /// The statement was made for the other transport.
    #[error("cannot accept the statement: {}", match .0 {
        StatementChannel::Online => "it was made for file transport (`tokenkeep authority answer`); it names no run of \
                        the authority",
        StatementChannel::File => "it was made for online use; make one for file transport with --statement-out",
    })]
    WrongChannel(StatementChannel),
    /// An old version, whose members do not ensure that a statement is accepted only once.
    #[error("cannot accept the statement: an older version of tokenkeep made it; make a new one with this version")]
    OldVersion,
    /// The validity is longer than allowed.
    #[error("cannot accept the statement: {}", match .0 {
        StatementChannel::Online => "it is valid for longer than 15 minutes",
        StatementChannel::File => "it is valid for longer than 14 days",
    })]
    ValidityTooLong(StatementChannel),
    /// The validity has not begun: a clock is wrong.
    #[error("cannot accept the statement: it is not valid before {not_before:.0}; compare the clocks")]
    NotYetValid {
        /// The start of the validity.
        not_before: Timestamp,
    },
    /// The validity has ended.
    #[error("cannot accept the statement: it was valid until {not_after:.0}; make a new one, and compare the clocks")]
    Expired {
        /// The end of the validity.
        not_after: Timestamp,
    },
    /// The response answers another statement.
    #[error("cannot accept the response: it answers another statement")]
    WrongStatement,
    /// The response's signer is not a response key of the trusted authority.
    #[error("cannot accept the response: its signer is not trusted: {0}")]
    UntrustedSigner(PathProblem),
}

#[cfg(test)]
mod tests;
