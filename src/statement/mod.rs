//! Statements: how administrators speak, and how the authority answers them.
//!
//! A statement is one command in JSON, signed as CMS content of a type of its own by the key on the administrator's
//! token: one use, one PIN, and its own evidence for the log. The authority's [`Response`] is signed with its CMP
//! response key, names the statement by its digest, and carries the latest audit checkpoint. A statement says which place in the
//! audit log its signer knows, so that the authority has to say whether its log still has that; to which certificate a letter
//! is encrypted; and, if it is sent at once, to which run of the authority.
//!
//! This room must never take a byte for signed that is not: what is read is the content exactly as it was signed, and a
//! [`VerifiedStatement`] comes only out of [`SignedStatement::verify`]. Unknown or doubled members are refused, never
//! skipped. It does not know who is an administrator; whoever calls brings the certificate that must have signed.

mod checkpoint;
mod form;
mod instance;
mod members;
mod response;
mod signed;

use jiff::{SignedDuration, Timestamp};

use crate::pki::{Fingerprint, PathProblem, PkiError};
use crate::token::SecurityLevel;

#[cfg(test)]
pub(crate) use checkpoint::tests::signed as signed_checkpoint;
pub use checkpoint::{Checkpoint, LogPosition, LogVerdict};
pub use instance::Instance;
pub use response::{
    AddedAdministrator, Answer, CertificateEntry, LetterEntry, Response, SignedResponse, UserDetails, UserSummary,
};
pub use signed::{SignedStatement, VerifiedStatement};

/// The most bytes a signed statement has (the CMS message).
pub const LONGEST_STATEMENT: usize = 65_536;

/// Users on a page of the list where the statement does not say how many.
pub const USERS_A_PAGE: u32 = 500;

/// The most users on a page: a response has its bounds.
pub const MOST_USERS_A_PAGE: u32 = 5_000;

/// How a statement travels: that decides how long it may be valid, and whether it names a run of the authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Over TLS, answered at once, by the run of the authority that the statement names.
    Online,
    /// As a file that somebody carries, to whichever run answers it.
    File,
}

impl Way {
    /// The longest time between a statement's notBefore and its notAfter: 15 minutes online, 14 days by file.
    pub const fn longest_validity(self) -> SignedDuration {
        match self {
            Self::Online => SignedDuration::from_mins(15),
            Self::File => SignedDuration::from_hours(14 * 24),
        }
    }
}

/// How long a new statement is valid online: enough for a slow token, and for clocks that differ a little.
const VALIDITY: SignedDuration = SignedDuration::from_mins(10);

/// How far before "now" a new statement's validity begins, for an authority whose clock is behind.
const CLOCK_DIFFERENCE: SignedDuration = SignedDuration::from_mins(3);

/// One command of an administrator to one authority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// SHA-256 of the CA certificate of the authority it is for; no other takes it.
    pub authority: Fingerprint,
    /// What is to be done.
    pub operation: Operation,
    /// Random; the authority keeps it until `not_after` and takes it once.
    pub nonce: [u8; 16],
    /// From when it may be taken.
    pub not_before: Timestamp,
    /// Until when; at most [`Way::longest_validity`] after `not_before`.
    pub not_after: Timestamp,
    /// The place in the audit log that the signer knows, from the latest checkpoint they kept; the authority says whether
    /// its log still has it ([`LogVerdict`]). None before the first, or when the signer wants none compared.
    pub known_log: Option<LogPosition>,
    /// The run of the authority that it is for; none: it goes as a file.
    pub instance: Option<Instance>,
    /// SHA-256 of the signer's encryption certificate, to which the letter is encrypted; there exactly if the operation
    /// brings one.
    pub encryption_certificate: Option<Fingerprint>,
}

impl Statement {
    /// A statement to be sent to this run of `authority` at once, good for some minutes around `now`, with a fresh random
    /// `nonce`.
    pub fn online(
        authority: Fingerprint,
        instance: Instance,
        operation: Operation,
        nonce: [u8; 16],
        now: Timestamp,
    ) -> Self {
        Self { instance: Some(instance), ..Self::valid_for(VALIDITY, authority, operation, nonce, now) }
    }

    /// A statement that goes as a file, good for as long as one may be.
    pub fn by_file(authority: Fingerprint, operation: Operation, nonce: [u8; 16], now: Timestamp) -> Self {
        Self::valid_for(Way::File.longest_validity() - CLOCK_DIFFERENCE, authority, operation, nonce, now)
    }

    fn valid_for(
        validity: SignedDuration,
        authority: Fingerprint,
        operation: Operation,
        nonce: [u8; 16],
        now: Timestamp,
    ) -> Self {
        let shifted = |by: SignedDuration| now.checked_add(by).unwrap_or(now);
        let (not_before, not_after) = (shifted(-CLOCK_DIFFERENCE), shifted(validity));
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

    /// The same, naming the certificate to which its letter is to be encrypted.
    #[must_use]
    pub fn encrypted_to(self, certificate: Option<Fingerprint>) -> Self {
        Self { encryption_certificate: certificate, ..self }
    }

    /// The same, saying which place in the audit log its signer knows.
    #[must_use]
    pub fn knowing(self, known_log: Option<LogPosition>) -> Self {
        Self { known_log, ..self }
    }
}

/// What an administrator can ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// A letter to enroll, for a person who is known or new.
    Issue {
        /// The user's e-mail address: whom it is about.
        email: String,
        /// The user's whole name; needed for someone new; of somebody known by name it must be that name.
        name: Option<String>,
        /// The security levels the letter allows; none given: what the profile allows.
        levels: Option<Vec<SecurityLevel>>,
        /// How many seconds the letter is good for; none given: what the authority's configuration says.
        valid_for_seconds: Option<u64>,
    },
    /// A letter to recover the whole history of a user's encryption keys.
    Recover {
        /// The user's e-mail address.
        email: String,
        /// Whether the old token may be in others' hands: revokes, and makes a new current encryption key.
        lost: bool,
        /// How many seconds the letter is good for; none given: what the authority's configuration says.
        valid_for_seconds: Option<u64>,
    },
    /// The letter that an earlier statement of the same administrator brought, once more.
    Letter {
        /// The user's e-mail address, or the letter's reference.
        letter: String,
    },
    /// All users, in short: the first page of them, by e-mail address.
    List,
    /// Another page of them.
    ListPage {
        /// Those after this e-mail address; none given: from the first.
        after: Option<String>,
        /// At most so many, from 1 to [`MOST_USERS_A_PAGE`]; none given: [`USERS_A_PAGE`].
        limit: Option<u32>,
    },
    /// One user, in full.
    Show {
        /// The user's e-mail address.
        email: String,
    },
    /// The signer knows that an administrator was added where the authority is.
    Acknowledge {
        /// The number of the log's entry that says so.
        entry: u64,
    },
}

impl Operation {
    /// The operation's name, as it stands in the statement: `issue`, `recover`, `letter`, `list`, `show`,
    /// `acknowledge`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Issue { .. } => "issue",
            Self::Recover { .. } => "recover",
            Self::Letter { .. } => "letter",
            Self::List | Self::ListPage { .. } => "list",
            Self::Show { .. } => "show",
            Self::Acknowledge { .. } => "acknowledge",
        }
    }

    /// Whether it changes nothing.
    pub fn only_reads(&self) -> bool {
        matches!(self, Self::List | Self::ListPage { .. } | Self::Show { .. })
    }

    /// What it is about, if not all users: an e-mail address, or a letter's reference.
    pub fn target(&self) -> Option<&str> {
        match self {
            Self::Issue { email, .. } | Self::Recover { email, .. } | Self::Show { email } => Some(email),
            Self::Letter { letter } => Some(letter),
            Self::List | Self::ListPage { .. } | Self::Acknowledge { .. } => None,
        }
    }

    /// The address after which the page begins that it asks for.
    pub fn after(&self) -> Option<&str> {
        match self {
            Self::ListPage { after, .. } => after.as_deref(),
            _ => None,
        }
    }

    /// Whether the answer to it is a letter.
    pub const fn brings_letter(&self) -> bool {
        match self {
            Self::Issue { .. } | Self::Recover { .. } | Self::Letter { .. } => true,
            Self::List | Self::ListPage { .. } | Self::Show { .. } | Self::Acknowledge { .. } => false,
        }
    }
}

/// Why a statement or a response is not taken, or cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StatementError {
    /// Longer than any is.
    #[error("cannot take the {what}: it is too long")]
    TooLong {
        /// "statement" or "response".
        what: &'static str,
    },
    /// It is no CMS SignedData, or one that cannot be read or made.
    #[error("cannot handle the {what}: {source}")]
    Cms {
        /// "statement" or "response".
        what: &'static str,
        /// What the standards room says.
        source: PkiError,
    },
    /// It is signed content of another type: a signed mail is no statement.
    #[error("cannot take the {what}: it is signed as {found}, not as a {what}")]
    OtherType {
        /// "statement" or "response".
        what: &'static str,
        /// The type it has.
        found: String,
    },
    /// Its signature is not that of the one who must have signed, or there are several.
    #[error("cannot take the {what}: {reason}")]
    Signature {
        /// "statement", "response" or "checkpoint".
        what: &'static str,
        /// What does not fit.
        reason: String,
    },
    /// Its JSON is not in the form it must have.
    #[error("cannot take the {what}: its form is wrong: {reason}")]
    Form {
        /// "statement", "response" or "checkpoint".
        what: &'static str,
        /// Which rule is broken.
        reason: String,
    },
    /// It is for, or from, another authority.
    #[error("cannot take the {what}: it is about another authority ({found})")]
    OtherAuthority {
        /// "statement" or "response".
        what: &'static str,
        /// The CA fingerprint it names.
        found: Fingerprint,
    },
    /// It was made to travel another way.
    #[error("cannot take the statement: {}", match .0 {
        Way::Online => "it was made to go as a file, to `tokenkeep authority answer`, and no run of the authority is named \
                        in it",
        Way::File => "it was made to be sent at once; one that goes as a file is made with --statement-out",
    })]
    OtherWay(Way),
    /// It is in a form that earlier versions wrote, which says too little to be taken once and no more.
    #[error("cannot take the statement: an older version of tokenkeep made it; make a new one with this one")]
    Older,
    /// Its validity is longer than allowed.
    #[error("cannot take the statement: {}", match .0 {
        Way::Online => "it is valid for longer than 15 minutes",
        Way::File => "it is valid for longer than 14 days",
    })]
    ValidTooLong(Way),
    /// Its time has not come: a clock is wrong.
    #[error("cannot take the statement: it is not valid before {not_before:.0}; compare the clocks")]
    NotYet {
        /// From when it is valid.
        not_before: Timestamp,
    },
    /// Its time is over.
    #[error("cannot take the statement: it was valid until {not_after:.0}; make a new one, and compare the clocks")]
    Over {
        /// Until when it was valid.
        not_after: Timestamp,
    },
    /// The response answers another statement.
    #[error("cannot take the response: it answers another statement than the one that was sent")]
    OtherStatement,
    /// The response is not signed by the authority that is known.
    #[error("cannot take the response: its signer is not believed: {0}")]
    NotTheAuthority(PathProblem),
}

#[cfg(test)]
mod tests;
