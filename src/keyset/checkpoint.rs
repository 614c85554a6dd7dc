//! Compares the checkpoint in a response with the one stored in the keyset, to detect changes of
//! the authority's audit log, and stores the newer one.
//!
//! This does not protect against an authority that lies with its own keys. It detects anyone who
//! changes the authority's database or restores an old one, and a lie that contradicts earlier
//! checkpoints.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::pki::Fingerprint;
use crate::statement::{Checkpoint, LogPosition, LogVerdict, Response, StatementAnswer};
use crate::token::{KeysetName, Token};

use super::index::{self, PrivateIndex};
use super::{KeysetError, Notice, UserPrompter};

/// The treatment of a mismatch of the authority's audit log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogPolicy {
    /// The log must continue the one that the keyset knows. The default.
    #[default]
    Compare,
    /// Accept any log: for a user who was told that the authority's database was restored.
    Accept,
}

/// The authority's answer to a command, and the result of the audit log check.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct CommandResult {
    /// the outcome of the command
    pub answer: OpenedResponse,
    /// why the log cannot be trusted; the answer is authentic nevertheless
    pub log_mismatch: Option<Box<LogMismatch>>,
}

impl CommandResult {
    /// Moves the text of a letter out, to travel apart from the result.
    pub fn take_letter(&mut self) -> Zeroizing<Vec<u8>> {
        match &mut self.answer {
            OpenedResponse::Letter(text) => Zeroizing::new(std::mem::take(&mut **text).into_bytes()),
            OpenedResponse::Other(_) => Zeroizing::default(),
        }
    }

    /// Puts the text of a letter back.
    ///
    /// # Errors
    /// It is not UTF-8.
    pub fn with_letter(mut self, mut secret: Zeroizing<Vec<u8>>) -> Result<Self, std::string::FromUtf8Error> {
        if let OpenedResponse::Letter(text) = &mut self.answer {
            *text = Zeroizing::new(String::from_utf8(std::mem::take(&mut *secret))?);
        }
        Ok(self)
    }
}

/// The outcome of a command, its letter opened.
#[derive(PartialEq, Serialize, Deserialize)]
pub enum OpenedResponse {
    /// the text of a letter, with the temporary key in it, which never enters JSON
    Letter(#[serde(skip)] Zeroizing<String>),
    /// any other answer, as received
    Other(StatementAnswer),
}

impl fmt::Debug for OpenedResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Letter(_) => f.write_str("Letter([redacted])"),
            Self::Other(answer) => answer.fmt(f),
        }
    }
}

/// The audit log is not the one that the keyset knows. The stored checkpoint stays, so the next
/// command reports the mismatch again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[error(
    "the authority's audit log was truncated or rewritten: {finding}; known here: {}; reported now: {}",
    described(.known.as_ref()), described(Some(.received))
)]
pub struct LogMismatch {
    pub finding: LogMismatchKind,
    /// The stored checkpoint, if there was one.
    pub known: Option<Checkpoint>,
    /// The checkpoint in the response.
    pub received: Checkpoint,
}

/// A difference between the log and the stored checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogMismatchKind {
    /// The log has fewer entries than before.
    #[error("it has fewer entries than before")]
    Shorter,
    /// The number of entries is equal, the last entry is not.
    #[error("its last entry has changed")]
    DifferentLastEntry,
    /// The authority itself reports that its log lacks the known entry.
    #[error("the authority itself reports that it lacks the entry {0} that is known here")]
    Contradicted(u64),
    /// The statement named a position, and the response does not say whether the log still has it.
    #[error("the authority does not say whether it still has the entry {0} that is known here")]
    Unconfirmed(u64),
    /// A different audit key signed the checkpoint.
    #[error("a different audit key signed its checkpoint")]
    OtherKey,
    /// The checkpoint's signature does not verify with the key that it names.
    #[error("the signature of its checkpoint does not verify ({0})")]
    Signature(String),
}

/// Compares the checkpoint of a verified response with the stored one; `stated` is the position
/// that the statement named. Returns the checkpoint to store, or `None` to keep the stored one:
/// that one stays until a newer one is proven to continue it.
///
/// A response that came as a file may be older than the stored checkpoint. Its log is then rightly
/// shorter.
pub(super) fn compare_checkpoints(
    stored: Option<&Checkpoint>,
    stated: Option<LogPosition>,
    response: &Response,
    authority: Fingerprint,
    log_policy: LogPolicy,
) -> Result<Option<Checkpoint>, Box<LogMismatch>> {
    let received = &response.checkpoint;
    let stored = stored.filter(|_| log_policy == LogPolicy::Compare);
    let mismatch = |finding| Err(Box::new(LogMismatch { finding, known: stored.cloned(), received: received.clone() }));
    if let Err(error) = received.verify(authority) {
        return mismatch(LogMismatchKind::Signature(error.to_string()));
    }
    let Some(known) = stored else { return Ok(Some(received.clone())) };
    if received.key != known.key {
        return mismatch(LogMismatchKind::OtherKey);
    }
    let is_continued = match (stated, response.known_log) {
        (None, _) => false,
        (Some(_), Some(LogVerdict::Continued)) => true,
        (Some(stated), Some(LogVerdict::Contradicted)) => {
            return mismatch(LogMismatchKind::Contradicted(stated.sequence));
        }
        // The authority refuses some statements before it reads the log, so a refusal may carry no
        // verdict.
        (Some(_), None) if matches!(response.answer, StatementAnswer::Refused(_)) => false,
        (Some(stated), None) => return mismatch(LogMismatchKind::Unconfirmed(stated.sequence)),
    };
    let is_later = stated == Some(known.position()) || received.at > known.at;
    match received.sequence.cmp(&known.sequence) {
        std::cmp::Ordering::Less if is_later => mismatch(LogMismatchKind::Shorter),
        std::cmp::Ordering::Equal if received.head != known.head => mismatch(LogMismatchKind::DifferentLastEntry),
        std::cmp::Ordering::Greater if is_continued && stated == Some(known.position()) => Ok(Some(received.clone())),
        _ => Ok(None),
    }
}

/// Stores the new checkpoint, if there is one, and builds the result.
pub(super) fn command_result(
    token: &Token,
    index: &PrivateIndex,
    answer: OpenedResponse,
    comparison: Result<Option<Checkpoint>, Box<LogMismatch>>,
    person: &mut dyn UserPrompter,
) -> CommandResult {
    let log_mismatch = match comparison {
        Ok(checkpoint) => {
            if let Some(checkpoint) = checkpoint {
                keep(token, index, checkpoint, person);
            }
            None
        }
        Err(mismatch) => Some(mismatch),
    };
    CommandResult { answer, log_mismatch }
}

/// Replaces the checkpoint on the unlocked token that `judged_by` carries. A failure is only a
/// notice: the next command compares with the older checkpoint.
fn keep(token: &Token, judged_by: &PrivateIndex, checkpoint: Checkpoint, person: &mut dyn UserPrompter) {
    let name = &judged_by.keyset.name;
    if let Err(error) = write(token, name, judged_by.audit.as_ref(), checkpoint) {
        person.notice(Notice::CheckpointNotKept {
            keyset: name.clone(),
            token: token.info().name().to_string(),
            reason: error.to_string(),
        });
    }
}

/// Reads the index again before writing: an agent may have used the keyset during the exchange.
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
