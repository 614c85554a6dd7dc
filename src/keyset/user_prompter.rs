//! The user interface of an operation: asks for PINs and confirmations, shows warnings and
//! progress.
//!
//! Implementations are the terminal (`cli`), the command behind an operation in the agent, and the
//! agent's own prompter. Nothing here uses a terminal.

use std::os::unix::net::UnixStream;

use serde::{Deserialize, Serialize};

use crate::token::{KeysetName, Pin, PinRule, TokenInfo, WhichPin};

use super::{FoundKeyset, NoPin, Purpose};

/// A question to the person.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Prompt {
    /// The token's present PIN; it is tried once, immediately afterwards.
    Pin {
        purpose: Purpose,
        /// the token, chosen before any prompt
        token: TokenInfo,
    },
    /// The PIN chosen when an interrupted enrollment into a new token began. The same command reads
    /// the new PIN's source again; a terminal asks once. It is tried once, immediately afterwards.
    ResumedPin {
        /// the token created by that enrollment
        token: TokenInfo,
    },
    /// A new PIN, for a token still to be created or as a replacement (`pin change`, `pin
    /// unblock`). A terminal asks twice.
    NewPin {
        /// the label of the token
        label: String,
        /// its serial number; `None` if it is still to be created
        serial: Option<String>,
        /// the PIN lengths that the token accepts, if known
        rule: Option<PinRule>,
    },
    /// The SO PIN for a new token; requested only if the options ask for it.
    NewSoPin {
        /// the label of the token
        label: String,
    },
    /// The token's present SO PIN; it is tried once, immediately afterwards.
    SoPin { token: TokenInfo },
    /// Whether to risk the last try of this PIN. One more wrong PIN locks it; one more wrong SO PIN
    /// locks that for good, after which nothing can unblock the token. Asked before the PIN itself.
    LastTry { purpose: Purpose, token: TokenInfo, which: WhichPin },
    /// Whether to allow one use of a keyset at level Medium in an active session, instead of the
    /// PIN.
    Use { purpose: Purpose, keyset: Box<FoundKeyset> },
}

impl Prompt {
    /// The purpose of a PIN or of a confirmation; `None` for a new PIN and for the SO PIN.
    pub fn purpose(&self) -> Option<&Purpose> {
        match self {
            Self::Pin { purpose, .. } | Self::LastTry { purpose, .. } | Self::Use { purpose, .. } => Some(purpose),
            Self::ResumedPin { .. } => Some(&Purpose::Enroll),
            Self::NewPin { .. } | Self::NewSoPin { .. } | Self::SoPin { .. } => None,
        }
    }
}

/// The answer to a [`Prompt`].
#[derive(Debug)]
pub enum PromptReply {
    /// the PIN
    Pin(Pin),
    /// the person agreed
    Yes,
}

/// The progress of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Step {
    /// Asking the authority whether it accepts the letter.
    CheckingLetter,
    /// Creating a new token.
    CreatingToken,
    /// Generating keys on the token.
    MakingKeys,
    /// Waiting for the authority's reply.
    AwaitingReply,
    /// Installing an encryption key.
    InstallingKey {
        /// its position, from 1
        number: usize,
        /// the number of keys
        of: usize,
    },
    /// Confirming the certificates to the authority.
    Confirming,
    /// Removing everything that a failed attempt created.
    CleaningUp,
}

/// Information for the user that does not stop the operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Notice {
    /// An interrupted enrollment continues.
    #[error("continuing an interrupted enrollment into the keyset {:?}", keyset.as_str())]
    Resuming {
        /// the keyset's name
        keyset: KeysetName,
    },
    /// The objects of an interrupted enrollment are removed first.
    #[error("removing an unfinished enrollment into the keyset {:?}", keyset.as_str())]
    RollingBack {
        /// the keyset's name
        keyset: KeysetName,
    },
    /// The public index differs from the private one.
    #[error(
        "the public index of the keyset {:?} on {token} was changed without the PIN ({what}); \
         the private index is used and the public one is replaced",
        keyset.as_str()
    )]
    IndexMismatch {
        /// the keyset's name
        keyset: KeysetName,
        /// the token's label and serial number
        token: String,
        /// the part that differs
        what: String,
    },
    /// The SO PIN of a new token could not be replaced; the one of the letter may still be valid.
    #[error(
        "the SO PIN of the new {token} was not replaced ({reason}); destroy the letter, for its temporary key gives \
         the SO PIN"
    )]
    SoPinKept {
        /// the token's label and serial number
        token: String,
        reason: String,
    },
    /// A newly created token could not be emptied again.
    #[error("the new {token} could not be emptied: {reason}")]
    TokenLeft {
        /// the token's label and serial number
        token: String,
        reason: String,
    },
    /// A new administrator exists without a statement by another administrator.
    #[error(
        "{email} was added as an administrator on {at} on the authority's machine, with the authority's PIN, and {}; \
         if you do: `tokenkeep admin acknowledge {entry}`",
        when_it_counts(*counts, counts_from)
    )]
    AdministratorAdded {
        /// the address of the new administrator
        email: String,
        /// the time of the addition
        at: String,
        /// the time from which it counts
        counts_from: String,
        /// does it count already?
        counts: bool,
        /// the sequence number of the log entry
        entry: u64,
    },
    /// A certificate in use at the authority expires soon; the text is part of its signed response.
    #[error("the authority says: {text}")]
    CertificateEnding {
        /// the certificate, its expiry, and the remedy
        text: String,
    },
    /// The authority's audit checkpoint could not be stored on the token; the previous one stays.
    #[error(
        "the authority's audit checkpoint could not be kept in the keyset {:?} on {token} ({reason}); the next command \
         compares with the previous checkpoint",
        keyset.as_str()
    )]
    CheckpointNotKept {
        /// the keyset's name
        keyset: KeysetName,
        /// the token's label and serial number
        token: String,
        reason: String,
    },
    /// The check that all installed objects are stored could not run.
    #[error(
        "a new process could not verify that everything is stored on {token} ({reason}); the module reports success; \
         `tokenkeep doctor` checks the module"
    )]
    NotReadBack {
        /// the token's label and serial number
        token: String,
        reason: String,
    },
    /// Other keysets share the PIN because they are on the same token.
    #[error("this PIN is also the PIN of {others}, on the same token")]
    SharedPin {
        /// the names of the other keysets
        others: String,
    },
}

/// States from when an added administrator counts, and what to do about an unexpected one.
fn when_it_counts(counts: bool, from: &str) -> String {
    if counts {
        format!("has been in effect since {from}; if you do not know why, have the authority's machine examined now")
    } else {
        format!("takes effect on {from}; if you do not know why, act before then")
    }
}

/// Asks the person who wants an operation, after all checks that need no PIN.
pub trait UserPrompter {
    /// Asks one question. Called once for each PIN of an operation, and again after a wrong one if
    /// [`UserPrompter::can_retry_pin`].
    ///
    /// # Errors
    /// The reason for no answer. Without a user who can be warned, [`Prompt::LastTry`] must be
    /// refused ([`NoPin::LastTry`], [`NoPin::NotInteractive`]). Every error denies a use;
    /// [`NoPin::Declined`] means that the user refused.
    fn ask(&mut self, prompt: &Prompt) -> Result<PromptReply, NoPin>;

    /// Asks for a PIN.
    ///
    /// # Errors
    /// Those of [`UserPrompter::ask`].
    fn pin(&mut self, prompt: &Prompt) -> Result<Pin, NoPin> {
        match self.ask(prompt)? {
            PromptReply::Pin(pin) => Ok(pin),
            PromptReply::Yes => Err(unexpected_reply()),
        }
    }

    /// Asks for yes or no.
    ///
    /// # Errors
    /// Those of [`UserPrompter::ask`].
    fn confirm(&mut self, prompt: &Prompt) -> Result<(), NoPin> {
        match self.ask(prompt)? {
            PromptReply::Yes => Ok(()),
            PromptReply::Pin(_) => Err(unexpected_reply()),
        }
    }

    /// Names the keyset of the next prompt. Called before it if the keyset is known.
    fn set_keyset(&mut self, keyset: &FoundKeyset) {
        let _ = keyset;
    }

    /// Returns whether to prompt again after a wrong PIN. False if no user typed it, and after a
    /// limited number of attempts.
    fn can_retry_pin(&mut self) -> bool {
        false
    }

    /// Sets the connection over which the next prompt was requested. If it becomes readable or
    /// closes, the requester has gone, and the prompt is closed.
    fn watch_connection(&mut self, connection: &UnixStream) {
        let _ = connection;
    }

    /// Reports the progress.
    fn progress(&mut self, step: Step) {
        let _ = step;
    }

    /// Shows a notice.
    fn notice(&mut self, notice: Notice) {
        let _ = notice;
    }
}

fn unexpected_reply() -> NoPin {
    NoPin::Unavailable("the reply does not match the question".to_owned())
}
