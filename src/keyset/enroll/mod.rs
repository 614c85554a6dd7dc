//! Enrollment on the user's token: letter → place → PIN → letter checked → keys → request → reply → installed → confirmed.

//!
//! Each step takes the last one's result, which only that one can make: a place, a log-in, a letter that was checked, a
//! request that is written down, a good reply. [`enroll`] conducts; where a step ends the whole, it decides whether what
//! was made stays for the same letter to go on, or is removed.

mod abandon;
mod desk;
mod finish;
mod install;
mod letter_check;
mod person_check;
mod place;
mod reply;
mod request;
mod run;
mod so_pin;
mod stored;

use std::fmt;
use std::path::PathBuf;

use jiff::Timestamp;

use crate::carrier::Carrier;
use crate::cmp::PkiMessage;
use crate::letter::Letter;
use crate::token::{KeysetName, SecurityLevel, TokenError};

use super::{AuthorityAddress, ErrorKind, FoundKeyset, Holder, KeysetError, Person, TokenSelector, Tokens};

/// Enrolls with this letter: an `ir` or, with a recovery letter, a `krr`. What an enrollment with the same letter that
/// was cut off has left is finished or cleaned up first.
///
/// `carrier` leads to the letter's authority ([`crate::carrier::Http::new`] of the letter's addresses, or of those given
/// in their place). `now` goes into the messages' headers.
pub fn enroll(
    tokens: &Tokens,
    carrier: &dyn Carrier,
    letter: &Letter,
    options: &EnrollOptions,
    person: &mut dyn Person,
    now: Timestamp,
) -> Result<Enrollment, KeysetError> {
    let chosen = place::choose(tokens, letter, options).and_then(|place| {
        if place.is_for_a_new_keyset() {
            options.keyset.check_new()?;
        }
        Ok(place)
    });
    let place = match chosen {
        Ok(place) => place,
        Err(error) => {
            let reason = NotEnrolledReason::Refused(error);
            return Ok(Enrollment::NotEnrolled(NotEnrolled { reenrollment: false, resumed: false, reason }));
        }
    };
    let (reenrollment, resumed) = (place.reenrolls(), place.is_resumed());
    // What was begun in time goes on: the authority alone knows how far it had got.
    if !resumed && now >= letter.expires {
        let reason = NotEnrolledReason::Expired { good_until: letter.expires, now };
        return Ok(Enrollment::NotEnrolled(NotEnrolled { reenrollment, resumed, reason }));
    }
    match (run::Act { tokens, carrier, letter, options, person, now }).run(place) {
        Ok(enrolled) => Ok(Enrollment::Enrolled(Box::new(enrolled))),
        Err(Stop::Ended(reason)) => Ok(Enrollment::NotEnrolled(NotEnrolled { reenrollment, resumed, reason })),
        Err(Stop::Fault(error)) => Err(error),
    }
}

/// `--new-token[=MODULE]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NewToken {
    /// in the only module that can make tokens
    Anywhere,
    /// in this module
    Module(PathBuf),
}

/// What the person chose.
#[derive(Clone, Debug)]
pub struct EnrollOptions {
    /// the keyset's name (`--keyset`, else `default`)
    pub keyset: KeysetName,
    /// `--level`; `None`: the keyset's when re-enrolling, else the strictest that the letter allows
    pub level: Option<SecurityLevel>,
    /// `--new-token`
    pub new_token: Option<NewToken>,
    /// `--token`
    pub token: Option<TokenSelector>,
    /// is there an SO PIN for the new token (`--so-pin-source`)? Then [`super::PinRequest::NewSoPin`] is asked.
    pub so_pin: bool,
    /// `--replace-person`: may the letter be another person's than the keyset that it is enrolled into?
    pub replace_person: bool,
}

/// How an enrollment ended. Faults of this machine are errors, not ends.
#[derive(Debug)]
pub enum Enrollment {
    /// The keyset stands.
    Enrolled(Box<Enrolled>),
    /// It does not, or not anew; what was there before still works.
    NotEnrolled(NotEnrolled),
}

/// A keyset that stands.
#[derive(Debug)]
pub struct Enrolled {
    /// the keyset as it is now on its token
    pub keyset: FoundKeyset,
    /// did it stand before?
    pub reenrolled: bool,
    /// was an enrollment finished that had been cut off?
    pub resumed: bool,
    /// encryption keys installed, the history included
    pub encryption_keys: usize,
    /// the person whom the new certificates name
    pub holder: Option<Holder>,
    /// the same person's other keysets at this authority, as far as they are present: their certificates are superseded
    pub supersedes: Vec<FoundKeyset>,
}

/// Why the keyset was not (re-)enrolled. `Display` is the whole sentence: "not re-enrolled: …".
#[derive(Debug)]
pub struct NotEnrolled {
    /// was it to be re-enrolled?
    pub reenrollment: bool,
    /// was an enrollment to go on that had been cut off?
    pub resumed: bool,
    /// why not
    pub reason: NotEnrolledReason,
}

/// Why the keyset was not enrolled.
#[derive(Debug, thiserror::Error)]
pub enum NotEnrolledReason {
    /// A rule was against it; nothing was made.
    #[error("{0}")]
    Refused(KeysetError),
    /// The date in the letter has passed, by this machine's clock; nobody was asked for anything.
    #[error(
        "the letter was good until {good_until}, and this machine's clock says {}; correct the clock if it is wrong, else ask \
         your administrator for a new one; nothing was sent or made",
        now.round(jiff::Unit::Second).unwrap_or(*now)
    )]
    Expired {
        /// the date in the letter
        good_until: Timestamp,
        /// what the clock said
        now: Timestamp,
    },
    /// No PIN, a cancelled prompt, a wrong or locked PIN; nothing was sent.
    #[error("{0}")]
    Pin(KeysetError),
    /// The authority did not answer when it was asked about the letter; nothing was made.
    #[error("{0}")]
    Unreachable(KeysetError),
    /// The authority did not answer the request or the confirmation; the same command goes on where this one stopped.
    #[error("{0}; type the same command with the same letter again to go on")]
    Interrupted(KeysetError),
    /// The authority does not take the letter, or refused the request.
    #[error("{0}; nothing was left on the token")]
    Rejected(String),
    /// The reply is not one: tampered with, for another transaction, from another authority, or with a key that does
    /// not fit its certificate. Everything made for it was removed.
    #[error("the reply was refused: {0}; everything made for it was removed")]
    BadReply(String),
    /// What was installed is not on the token for a process that looks anew. The authority was told, and the letter is good
    /// again.
    #[error("{0}; what was made was removed, and the temporary key is still good")]
    NotStored(TokenError),
}

impl NotEnrolled {
    /// What has not happened. Whether the temporary key is good the authority alone knows, and it was not asked, or not
    /// reached; what was begun earlier may have claimed it.
    fn untouched(&self) -> &'static str {
        match (&self.reason, self.resumed) {
            (_, true) => "; nothing was changed now, and the same command with the same letter goes on",
            (NotEnrolledReason::Refused(_), false) => {
                "; nothing was sent or made, so the temporary key is not used up by this"
            }
            (NotEnrolledReason::Pin(_), false) => "; nothing was sent, so the temporary key is not used up by this",
            (_, false) => "; nothing was made, and the temporary key is not used up by this",
        }
    }

    /// Which of the program's ends this leads to.
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

/// Why an enrollment stops: it has ended for a reason that a person is told, or something broke.
#[derive(Debug)]
enum Stop {
    Ended(NotEnrolledReason),
    Fault(KeysetError),
}

/// What can be wrong with an exchange with the authority, told apart by what has to be done about it.
#[derive(Debug)]
enum Trouble {
    /// What was made stays; see [`Stop`].
    Stop(Stop),
    /// The authority itself refused, and its MAC proves that: what was made is removed.
    Rejected(String),
    /// What was installed is lost: the authority is told, and what is left of it is removed.
    NotStored(TokenError),
    /// The reply is not to be used: the authority is told, and what was made is removed.
    Bad { reason: String, reply: Option<Box<PkiMessage>> },
}

impl Trouble {
    fn bad(reason: String, reply: Option<PkiMessage>) -> Self {
        Self::Bad { reason, reply: reply.map(Box::new) }
    }
}

impl From<NotEnrolledReason> for Stop {
    fn from(reason: NotEnrolledReason) -> Self {
        Self::Ended(reason)
    }
}

impl From<KeysetError> for Stop {
    fn from(error: KeysetError) -> Self {
        Self::Fault(error)
    }
}

impl From<TokenError> for Stop {
    fn from(error: TokenError) -> Self {
        Self::Fault(error.into())
    }
}

impl<T: Into<Stop>> From<T> for Trouble {
    fn from(stop: T) -> Self {
        Self::Stop(stop.into())
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
