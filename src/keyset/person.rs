//! The person behind an act: who is asked for PINs, warned, and told how far it is.
//!
//! The command line puts the prompter behind this; tests put a script. Nothing here speaks to a terminal.

use std::os::unix::net::UnixStream;

use serde::{Deserialize, Serialize};

use crate::token::{KeysetName, Pin, PinRule, TokenInfo};

use super::{FoundKeyset, SecurityOfficer};

/// Which PIN is asked for, and why.
#[derive(Clone, Copy, Debug)]
pub enum PinRequest<'a> {
    /// The PIN that the token has: tried once, right after this.
    Existing {
        /// the act it is for, completing "to …"
        operation: &'static str,
        /// the token, chosen before anybody is asked
        token: &'a TokenInfo,
    },
    /// The PIN that was chosen when an enrollment into a new token began that was cut off since: with the same command,
    /// the new PIN's source again. At a terminal it is asked once; tried once, right after this.
    Resumed {
        /// the token that was made then
        token: &'a TokenInfo,
    },
    /// A new PIN for a token that is to be made, or (`pin change`) in place of the old one. At a terminal it is asked twice.
    New {
        /// the label of the token it will belong to
        label: &'a str,
        /// what it has to be, where that is known
        rule: Option<PinRule>,
    },
    /// The SO PIN that a new token is to keep; asked only when the options say that there is one.
    NewSoPin {
        /// the label of the token it will belong to
        label: &'a str,
    },
}

/// Why there is no PIN. Nothing was tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum NoPin {
    /// The person cancelled: a closed window, end of input, an empty line.
    #[error("cancelled at the prompt")]
    Cancelled,
    /// The person pressed Ctrl-C at the command's prompt, and so does not want the command.
    #[error("interrupted at the prompt")]
    Interrupted,
    /// Whoever wanted this has gone: the question went with it.
    #[error("the program that asked has gone")]
    Withdrawn,
    /// The person was asked whether to go on, and said no.
    #[error("declined at the prompt")]
    Declined,
    /// There is no way to ask, or the source cannot be used; the text says why and what to do.
    #[error("{0}")]
    Unavailable(String),
    /// The same, where it is only that nobody can be asked here: whoever does the act may ask a person elsewhere.
    #[error("{0}")]
    NobodyHere(String),
    /// One try is left, and nobody at a terminal agreed to risk it.
    #[error("one try is left on this token and nobody is there to warn; run it at a terminal")]
    LastTry,
}

impl NoPin {
    /// Did the person not want to? Then nobody who waited behind the same question is asked it again.
    pub fn is_a_no(&self) -> bool {
        matches!(self, Self::Cancelled | Self::Interrupted | Self::Declined)
    }
}

/// How far an act is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Step {
    /// The authority is asked whether the letter is good.
    CheckingLetter,
    /// A new token is made.
    CreatingToken,
    /// Keys are made on the token.
    MakingKeys,
    /// The request is with the authority.
    AwaitingReply,
    /// An encryption key is installed.
    InstallingKey {
        /// which one, from 1
        number: usize,
        /// of how many
        of: usize,
    },
    /// The authority is told that all fits.
    Confirming,
    /// Everything made by an attempt that failed is removed.
    CleaningUp,
}

/// Something a person should know that stops nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Notice {
    /// An enrollment that was cut off is continued.
    #[error("an enrollment into the keyset {:?} was cut off; going on with it", keyset.as_str())]
    Resuming {
        /// its name
        keyset: KeysetName,
    },
    /// What an enrollment that was cut off had made is removed first.
    #[error("an unfinished enrollment into the keyset {:?} is removed", keyset.as_str())]
    Abandoning {
        /// its name
        keyset: KeysetName,
    },
    /// The public index on the token does not say what the private one says.
    #[error(
        "the public index of the keyset {:?} on {token} was changed by somebody without the PIN ({what}); \
         the private one is believed, and the public one replaced",
        keyset.as_str()
    )]
    IndexMismatch {
        /// its name
        keyset: KeysetName,
        /// the token's label and serial number
        token: String,
        /// which part differs
        what: String,
    },
    /// A new token could not be made empty again.
    #[error("the new {token} could not be emptied: {reason}")]
    TokenLeft {
        /// the token's label and serial number
        token: String,
        /// why
        reason: String,
    },
    /// The authority has a new administrator, and no administrator's statement made them one.
    #[error(
        "{email} was made an administrator on {at} where the authority is, with the authority's PIN, and {}; if you do: \
         `tokenkeep admin acknowledge {entry}`",
        when_it_counts(*counts, counts_from)
    )]
    AdministratorAdded {
        /// the new administrator's address
        email: String,
        /// when that was
        at: String,
        /// from when it counts
        counts_from: String,
        /// does it count by now?
        counts: bool,
        /// the number of the log's entry
        entry: u64,
    },
    /// A certificate in use at the authority ends soon; its own signed words.
    #[error("the authority says: {told}")]
    CertificateEnding {
        /// which, when, and what to do
        told: String,
    },
    /// The authority's audit checkpoint could not be written onto the token; the one before is still known.
    #[error(
        "how far the authority's audit log has got could not be kept in the keyset {:?} on {token} ({reason}); the next \
         command compares with what was kept before",
        keyset.as_str()
    )]
    CheckpointNotKept {
        /// its name
        keyset: KeysetName,
        /// the token's label and serial number
        token: String,
        /// why
        reason: String,
    },
    /// Whether all that was installed is really stored could not be looked at.
    #[error(
        "whether all of it is stored on {token} could not be looked at by a program that loads its module afresh ({reason}); \
         the module says that it is; `tokenkeep doctor` looks at the module"
    )]
    NotReadBack {
        /// the token's label and serial number
        token: String,
        /// why
        reason: String,
    },
    /// Other keysets have the same PIN, because they are on the same token.
    #[error("this PIN is also the one of {others}, on the same token")]
    SharedPin {
        /// the other keysets' names
        others: String,
    },
}

/// From when an administrator counts who was added, and what is to be done by whoever did not know.
fn when_it_counts(counts: bool, from: &str) -> String {
    if counts {
        format!("has counted since {from}; if you do not know why, have the authority's machine examined now")
    } else {
        format!("counts from {from} on; if you do not know why, act before then")
    }
}

/// Who acts. Called only when everything that can be refused without a PIN has been refused.
pub trait Person {
    /// Gives the PIN that is asked for, or says why there is none. It is called once for each PIN of an act, and
    /// once more after a wrong one where [`Person::is_asked_again`].
    fn pin(&mut self, request: PinRequest<'_>) -> Result<Pin, NoPin>;

    /// One more wrong PIN locks this token. Warns, and says whether to go on; who is not at a terminal must not go on
    /// ([`NoPin::LastTry`], [`NoPin::NobodyHere`]). Called before [`Person::pin`].
    fn risks_last_try(&mut self, token: &TokenInfo) -> Result<(), NoPin>;

    /// Which keyset the next question is about. Called before it, where a keyset is known.
    fn concerns(&mut self, keyset: &FoundKeyset) {
        let _ = keyset;
    }

    /// Yes to this one use of a keyset at level Medium, to which a log-in stands; asked in place of the PIN. An error is
    /// no yes: [`NoPin::Declined`] when the person said no. Who cannot be asked does not agree.
    fn confirm(&mut self, operation: &str, keyset: &FoundKeyset) -> Result<(), NoPin> {
        let _ = (operation, keyset);
        Err(NoPin::Unavailable("there is no way to ask for a confirmation here".to_owned()))
    }

    /// The PIN that this person gave last was wrong: are they asked for it once more? Not where nobody typed it, and not
    /// without end.
    fn is_asked_again(&mut self) -> bool {
        false
    }

    /// Over which connection the next question came, where it came over one: when that can be read or ends, whoever wants
    /// the answer has gone, and the question with them.
    fn is_asked_over(&mut self, connection: &UnixStream) {
        let _ = connection;
    }

    /// Who has the SO PIN, for the one act that needs it; none where nobody does.
    fn security_officer(&mut self) -> Option<&mut dyn SecurityOfficer> {
        None
    }

    /// How far the act is.
    fn progress(&mut self, step: Step) {
        let _ = step;
    }

    /// Something to know that stops nothing.
    fn notice(&mut self, notice: Notice) {
        let _ = notice;
    }
}
