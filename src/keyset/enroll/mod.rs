//! Enrollment on the user's token: letter → target token → PIN → letter check → keys → request →
//! reply → installation → confirmation.
//!
//! Each step takes the result of the previous one, which no other code can create: a target, a
//! login, a checked letter, a stored request, a verified reply. [`enroll`] runs the steps. When one
//! fails, it decides whether the created objects stay, so that the same letter can continue, or are
//! removed.

mod finish;
mod install;
mod letter_check;
mod person_check;
mod reply;
mod request;
mod rollback;
mod run;
mod session;
mod so_pin;
mod stored;
mod target;

use std::fmt;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::cmp::PkiMessage;
use crate::letter::Letter;
use crate::token::{KeysetName, SecurityLevel, TokenError};
use crate::transport::Transport;

use super::{AuthorityAddress, ErrorKind, FoundKeyset, KeysetError, KeysetHolder, TokenSelector, Tokens, UserPrompter};

/// Enrolls with this letter: an `ir`, or a `krr` with a recovery letter. First finishes or rolls
/// back an interrupted enrollment with the same letter.
///
/// `transport` must lead to the letter's authority: [`crate::transport::HttpTransport::new`] with
/// the addresses of the letter, or with those that replace them. `now` is the time in the messages'
/// headers.
pub fn enroll(
    tokens: &Tokens,
    transport: &dyn Transport,
    letter: &Letter,
    options: &EnrollOptions,
    person: &mut dyn UserPrompter,
    now: Timestamp,
) -> Result<Enrollment, KeysetError> {
    let chosen = target::choose(tokens, letter, options).and_then(|target| {
        if target.is_for_a_new_keyset() {
            options.keyset.check_new()?;
        }
        Ok(target)
    });
    let target = match chosen {
        Ok(target) => target,
        Err(error) => {
            let reason = NotEnrolledReason::Refused(error);
            return Ok(Enrollment::NotEnrolled(NotEnrolled { reenrollment: false, resumed: false, reason }));
        }
    };
    let (reenrollment, resumed) = (target.reenrolls(), target.is_resumed());
    // An enrollment that began in time may continue: only the authority knows how far it got.
    if !resumed && now >= letter.expires {
        let reason = NotEnrolledReason::Expired { good_until: letter.expires, now };
        return Ok(Enrollment::NotEnrolled(NotEnrolled { reenrollment, resumed, reason }));
    }
    match (run::EnrollmentRun { tokens, transport, letter, options, person, now }).run(target) {
        Ok(enrolled) => Ok(Enrollment::Enrolled(Box::new(enrolled))),
        Err(EnrollError::Ended(reason)) => Ok(Enrollment::NotEnrolled(NotEnrolled { reenrollment, resumed, reason })),
        Err(EnrollError::Fault(error)) => Err(error),
    }
}

/// `--new-token[=MODULE]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NewToken {
    /// in the only module that can create tokens
    Anywhere,
    /// in the module at this path
    In(PathBuf),
}

/// The user's choices.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EnrollOptions {
    /// the keyset's name (`--keyset`, else `default`)
    pub keyset: KeysetName,
    /// `--level`; `None`: the present level when re-enrolling, else the strictest level that the
    /// letter allows
    pub level: Option<SecurityLevel>,
    /// `--new-token`
    pub new_token: Option<NewToken>,
    /// `--token`
    pub token: Option<TokenSelector>,
    /// is there an SO PIN for the new token (`--so-pin-source`)? It is requested with
    /// [`super::Prompt::NewSoPin`]
    pub so_pin: bool,
    /// `--replace-person`: may letter and keyset belong to different persons?
    pub replace_person: bool,
}

/// The outcome of an enrollment. Faults of this machine are errors instead.
#[derive(Debug)]
pub enum Enrollment {
    /// The keyset is enrolled.
    Enrolled(Box<Enrolled>),
    /// The keyset was not enrolled or re-enrolled; a previous one still works.
    NotEnrolled(NotEnrolled),
}

/// An enrolled keyset.
#[derive(Debug, Serialize, Deserialize)]
pub struct Enrolled {
    /// the keyset as stored on its token
    pub keyset: FoundKeyset,
    /// was it enrolled before?
    pub reenrolled: bool,
    /// did this finish an interrupted enrollment?
    pub resumed: bool,
    /// the number of installed encryption keys, including the history
    pub encryption_keys: usize,
    /// the subject of the new certificates
    pub holder: Option<KeysetHolder>,
    /// the person's other keysets at this authority that are present; their certificates are now
    /// superseded
    pub supersedes: Vec<FoundKeyset>,
}

/// The reason for not (re-)enrolling the keyset. `Display` gives the whole sentence: "not
/// re-enrolled: …".
#[derive(Debug)]
pub struct NotEnrolled {
    /// was this a re-enrollment?
    pub reenrollment: bool,
    /// was this the continuation of an interrupted enrollment?
    pub resumed: bool,
    pub reason: NotEnrolledReason,
}

/// The reason for not enrolling the keyset, without its name.
#[derive(Debug, thiserror::Error)]
pub enum NotEnrolledReason {
    /// A rule forbids it; nothing was created.
    #[error("{0}")]
    Refused(KeysetError),
    /// The letter has expired according to this machine's clock; no PIN was requested.
    #[error(
        "the letter was good until {good_until}, and this machine's clock says {}; correct the clock if it is wrong, \
         else ask your administrator for a new letter; nothing was sent or created",
        now.round(jiff::Unit::Second).unwrap_or(*now)
    )]
    Expired {
        /// the expiry date in the letter
        good_until: Timestamp,
        /// the time of this machine's clock
        now: Timestamp,
    },
    /// The PIN is missing, cancelled, wrong or locked; nothing was sent.
    #[error("{0}")]
    Pin(KeysetError),
    /// The authority did not answer the letter check; nothing was created.
    #[error("{0}")]
    Unreachable(KeysetError),
    /// The authority did not answer the request or the confirmation; the same command continues at
    /// that point.
    #[error("{0}; run the same command with the same letter again to continue")]
    Interrupted(KeysetError),
    /// The authority does not accept the letter, or refused the request.
    #[error("{0}; nothing was left on the token")]
    Rejected(String),
    /// The reply is invalid: modified, for another transaction, from another authority, or with a
    /// key that does not match its certificate. Everything created for it was removed.
    #[error("the reply was refused: {0}; everything created for it was removed")]
    BadReply(String),
    /// A new process does not find the installed objects on the token. The authority was notified,
    /// and the letter remains valid.
    #[error("{0}; everything created was removed, and the temporary key is still good")]
    NotStored(TokenError),
}

impl NotEnrolled {
    /// States what did not happen. Only the authority knows whether the temporary key is still
    /// valid, and it was not asked or not reached; an earlier, interrupted run may have used the
    /// key.
    fn untouched(&self) -> &'static str {
        match (&self.reason, self.resumed) {
            (_, true) => "; nothing was changed, and the same command with the same letter continues",
            (NotEnrolledReason::Refused(_), false) => {
                "; nothing was sent or created, so this did not use up the temporary key"
            }
            (NotEnrolledReason::Pin(_), false) => "; nothing was sent, so this did not use up the temporary key",
            (_, false) => "; nothing was created, and this did not use up the temporary key",
        }
    }

    /// The exit code class of this outcome.
    pub fn kind(&self) -> ErrorKind {
        match &self.reason {
            NotEnrolledReason::Refused(error) => error.kind(),
            NotEnrolledReason::Pin(error) if error.kind() == ErrorKind::Interrupted => ErrorKind::Interrupted,
            NotEnrolledReason::NotStored(_) => ErrorKind::Fault,
            NotEnrolledReason::Pin(_) => ErrorKind::Pin,
            NotEnrolledReason::Unreachable(_) | NotEnrolledReason::Interrupted(_) => ErrorKind::Unreachable,
            NotEnrolledReason::Expired { .. } | NotEnrolledReason::Rejected(_) | NotEnrolledReason::BadReply(_) => {
                ErrorKind::Refused
            }
        }
    }
}

impl fmt::Display for NotEnrolled {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.reenrollment { "not re-enrolled" } else { "not enrolled" };
        write!(formatter, "{what}: {}", self.reason)?;
        let untouched = match &self.reason {
            NotEnrolledReason::Refused(_) | NotEnrolledReason::Pin(_) | NotEnrolledReason::Unreachable(_) => {
                self.untouched()
            }
            _ => "",
        };
        formatter.write_str(untouched)
    }
}

/// The end of an enrollment before its completion: an outcome to report, or a fault.
#[derive(Debug)]
enum EnrollError {
    Ended(NotEnrolledReason),
    Fault(KeysetError),
}

/// A failed exchange with the authority, by the required reaction.
#[derive(Debug)]
enum ExchangeError {
    /// Keep everything created; see [`EnrollError`].
    Enroll(EnrollError),
    /// The authority refused, with a valid MAC: remove everything created.
    Rejected(String),
    /// The installed objects are lost: notify the authority and remove the rest.
    NotStored(TokenError),
    /// The reply is unusable: notify the authority and remove everything created.
    Bad { reason: String, reply: Option<Box<PkiMessage>> },
}

impl ExchangeError {
    fn bad(reason: String, reply: Option<PkiMessage>) -> Self {
        Self::Bad { reason, reply: reply.map(Box::new) }
    }
}

impl From<NotEnrolledReason> for EnrollError {
    fn from(reason: NotEnrolledReason) -> Self {
        Self::Ended(reason)
    }
}

impl From<KeysetError> for EnrollError {
    fn from(error: KeysetError) -> Self {
        Self::Fault(error)
    }
}

impl From<TokenError> for EnrollError {
    fn from(error: TokenError) -> Self {
        Self::Fault(error.into())
    }
}

impl<T: Into<EnrollError>> From<T> for ExchangeError {
    fn from(stop: T) -> Self {
        Self::Enroll(stop.into())
    }
}

impl AuthorityAddress {
    fn of(letter: &Letter) -> Self {
        Self { name: letter.authority_name.clone(), http: letter.http_url.clone(), https: letter.https_url.clone() }
    }
}

#[cfg(test)]
pub(super) fn so_pin_of(letter: &Letter) -> crate::token::Pin {
    so_pin::of_letter(letter).unwrap()
}
