//! What has become of the authority's audit log since it last answered a command of this keyset's: the checkpoint in a
//! response is judged by the one that was kept, and kept in its place.
//!
//! Nothing here is proof against an authority that lies with its own keys: it is proof against whoever changes its
//! database, or puts an old one back, and against a lie that does not fit the ones before.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::pki::Fingerprint;
use crate::statement::{Answer, Checkpoint, LogPosition, LogVerdict, Response};
use crate::token::{KeysetName, Token};

use super::index::{self, PrivateIndex};
use super::{KeysetError, Notice, Person};

/// How a command takes the authority's audit log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KnownLog {
    /// It must be the one that the keyset knows, gone on.
    #[default]
    Compare,
    /// As it is now, whatever the keyset knew: for a person who was told that the authority's database was put back.
    Accept,
}

/// The authority's answer to a command, and whether its audit log is still the one that the keyset knew.
#[derive(Debug, PartialEq)]
pub struct Answered {
    /// what came of the command
    pub answer: OpenedAnswer,
    /// why the log is not to be believed; the answer is the authority's all the same
    pub alarm: Option<Box<LogAlarm>>,
}

/// What came of a command, its letter opened.
#[derive(PartialEq)]
pub enum OpenedAnswer {
    /// the text of a letter, with the temporary key in it
    Letter(Zeroizing<String>),
    /// any other answer, as it is in the response
    Other(Answer),
}

impl fmt::Debug for OpenedAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Letter(_) => f.write_str("Letter([redacted])"),
            Self::Other(answer) => answer.fmt(f),
        }
    }
}

/// The audit log is not the one that the keyset knew. What the keyset knew, it goes on knowing: the next command says so again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[error(
    "the authority's audit log was cut off or rewritten: {finding}; known here: {}; told now: {}",
    described(.known.as_ref()), described(Some(.told))
)]
pub struct LogAlarm {
    /// What does not fit.
    pub finding: Finding,
    /// What was kept; none, where nothing was.
    pub known: Option<Checkpoint>,
    /// What the response says.
    pub told: Checkpoint,
}

/// What does not fit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Finding {
    /// The log has fewer entries than it had.
    #[error("it has fewer entries than it had")]
    Shorter,
    /// As many, and another end.
    #[error("its last entry is another one")]
    OtherEnd,
    /// The authority found it out by itself.
    #[error("it does not have the entry {0} that is known here, says the authority itself")]
    Contradicted(u64),
    /// The authority was asked, and did not say.
    #[error("the authority does not say whether it still has the entry {0} that is known here")]
    NotSaid(u64),
    /// The checkpoint is signed with another audit key.
    #[error("its checkpoint is signed with another audit key than before")]
    OtherKey,
    /// The checkpoint is not signed by the key that it names.
    #[error("its checkpoint is not signed as it must be ({0})")]
    Signature(String),
}

/// Judges the checkpoint of a verified response to a statement that said `stated`. Answers what is to be kept from now
/// on, if anything; what was kept stays until something is proven to go on from it.
///
/// A response that came as a file may be older than what was kept since: then its log is shorter, and rightly so.
pub(super) fn judge(
    kept: Option<&Checkpoint>,
    stated: Option<LogPosition>,
    response: &Response,
    authority: Fingerprint,
    known_log: KnownLog,
) -> Result<Option<Checkpoint>, Box<LogAlarm>> {
    let told = &response.checkpoint;
    let kept = kept.filter(|_| known_log == KnownLog::Compare);
    let alarm = |finding| Err(Box::new(LogAlarm { finding, known: kept.cloned(), told: told.clone() }));
    if let Err(error) = told.verify(authority) {
        return alarm(Finding::Signature(error.to_string()));
    }
    let Some(known) = kept else { return Ok(Some(told.clone())) };
    if told.key != known.key {
        return alarm(Finding::OtherKey);
    }
    let is_continued = match (stated, response.known_log) {
        (None, _) => false,
        (Some(_), Some(LogVerdict::Continued)) => true,
        (Some(stated), Some(LogVerdict::Contradicted)) => return alarm(Finding::Contradicted(stated.sequence)),
        // Whoever is refused before anybody looks into the log learns nothing of it.
        (Some(_), None) if matches!(response.answer, Answer::Refused(_)) => false,
        (Some(stated), None) => return alarm(Finding::NotSaid(stated.sequence)),
    };
    let is_later = stated == Some(known.position()) || told.at > known.at;
    match told.sequence.cmp(&known.sequence) {
        std::cmp::Ordering::Less if is_later => alarm(Finding::Shorter),
        std::cmp::Ordering::Equal if told.head != known.head => alarm(Finding::OtherEnd),
        std::cmp::Ordering::Greater if is_continued && stated == Some(known.position()) => Ok(Some(told.clone())),
        _ => Ok(None),
    }
}

/// Keeps what is to be kept, and answers.
pub(super) fn answered(
    token: &Token,
    index: &PrivateIndex,
    answer: OpenedAnswer,
    judged: Result<Option<Checkpoint>, Box<LogAlarm>>,
    person: &mut dyn Person,
) -> Answered {
    let alarm = match judged {
        Ok(checkpoint) => {
            if let Some(checkpoint) = checkpoint {
                keep(token, index, checkpoint, person);
            }
            None
        }
        Err(alarm) => Some(alarm),
    };
    Answered { answer, alarm }
}

/// Keeps the checkpoint on the token, which is unlocked, in the place of the one that it was judged by. That it cannot
/// be written is said, and stops nothing: the next command compares with the older one.
fn keep(token: &Token, judged_by: &PrivateIndex, checkpoint: Checkpoint, person: &mut dyn Person) {
    let name = &judged_by.keyset.name;
    if let Err(error) = write(token, name, judged_by.audit.as_ref(), checkpoint) {
        person.notice(Notice::CheckpointNotKept {
            keyset: name.clone(),
            token: token.info().name().to_string(),
            reason: error.to_string(),
        });
    }
}

/// Into the index as it is now: an agent may have done something else with the keyset during the exchange.
fn write(
    token: &Token,
    name: &KeysetName,
    judged_by: Option<&Checkpoint>,
    checkpoint: Checkpoint,
) -> Result<(), KeysetError> {
    match index::private_index(token, name)? {
        Some(mut index) if index.audit.as_ref() == judged_by => {
            index.audit = Some(checkpoint);
            index.write(token)
        }
        _ => Ok(()),
    }
}

fn described(checkpoint: Option<&Checkpoint>) -> String {
    match checkpoint {
        Some(Checkpoint { sequence, head, at, .. }) => {
            let at = Timestamp::from_second(at.as_second()).unwrap_or(*at);
            format!("entry {sequence} with the hash {}, signed {at}", hex::encode(head))
        }
        None => "nothing".to_owned(),
    }
}

#[cfg(test)]
mod tests;
