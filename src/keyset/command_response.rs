//! Processes the authority's response to a command, from any transport: verifies it, opens its
//! letter, compares its checkpoint.
//!
//! A response never contains a letter in clear: the letter is encrypted to the keyset's encryption
//! key that the statement named. Only a verified answer to this statement reaches the key.

use jiff::Timestamp;
use zeroize::Zeroizing;

use crate::pki::{Certificate, Fingerprint};
use crate::smime::{EncryptedMessage, KeyOperation, Message, SmimeError};
use crate::statement::{Answer, LogPosition, Response, SignedResponse, SignedStatement, StatementError};
use crate::token::Ceremony;

use super::checkpoint::{self, Answered, KnownLog, OpenedAnswer};
use super::decrypt::{Way, key_of, open_with, way_of};
use super::index::PrivateIndex;
use super::{FoundKeyset, KeysetError, Notice, Person};

/// A response with a valid signature, bound to the statement; a letter in it is for this keyset.
pub(super) struct VerifiedResponse {
    operation: &'static str,
    authority: Fingerprint,
    response: Response,
    letter: Option<EncryptedLetter>,
    read_at: Timestamp,
}

impl VerifiedResponse {
    /// Verifies that `response` comes from this authority and answers `statement`. `operation`
    /// completes "cannot …" in errors.
    pub(super) fn read(
        operation: &'static str,
        response: Vec<u8>,
        statement: &SignedStatement,
        authority: &Certificate,
        keyset: &FoundKeyset,
        now: Timestamp,
    ) -> Result<Self, KeysetError> {
        let unverified = |error: StatementError| not_verified(operation, error.to_string());
        let response =
            SignedResponse::from_der(response).verify(authority, statement.digest(), now).map_err(unverified)?;
        let letter = match &response.answer {
            Answer::EncryptedLetter(encrypted) => Some(EncryptedLetter::read(operation, encrypted, keyset)?),
            _ => None,
        };
        Ok(Self { operation, authority: authority.fingerprint(), response, letter, read_at: now })
    }

    /// Opens the letter, then compares and stores the checkpoint; `stated` is the log position that
    /// the statement named.
    pub(super) fn open(
        self,
        ceremony: &Ceremony,
        index: &PrivateIndex,
        stated: Option<LogPosition>,
        known_log: KnownLog,
        person: &mut dyn Person,
    ) -> Result<Answered, KeysetError> {
        let letter = self.letter.map(|letter| letter.open(self.operation, ceremony, index)).transpose()?;
        notice_added(&self.response, self.read_at, person);
        for told in &self.response.ending {
            person.notice(Notice::CertificateEnding { told: told.clone() });
        }
        let judged = checkpoint::judge(index.audit.as_ref(), stated, &self.response, self.authority, known_log);
        let answer = letter.map_or(OpenedAnswer::Other(self.response.answer), OpenedAnswer::Letter);
        Ok(checkpoint::answered(ceremony, index, answer, judged, person))
    }
}

/// Reports administrators that someone at the authority's machine added without a statement.
fn notice_added(response: &Response, now: Timestamp, person: &mut dyn Person) {
    for added in &response.added {
        person.notice(Notice::AdministratorAdded {
            email: added.email.clone(),
            at: added.at.to_string(),
            counts_from: added.counts_from.to_string(),
            counts: added.counts_from <= now,
            entry: added.entry,
        });
    }
}

/// A letter that this keyset can open.
struct EncryptedLetter {
    message: EncryptedMessage,
    way: Way,
}

impl EncryptedLetter {
    fn read(operation: &'static str, encrypted: &[u8], keyset: &FoundKeyset) -> Result<Self, KeysetError> {
        let unreadable = |error: SmimeError| not_verified(operation, error.to_string());
        let message =
            Message::read(encrypted).and_then(|message| EncryptedMessage::parse(&message)).map_err(unreadable)?;
        let way = way_of(keyset.clone(), message.recipients()).ok_or_else(|| {
            KeysetError::NotARecipient(format!(
                "the letter is encrypted to another keyset than {}; select the statement's keyset (--keyset)",
                keyset.described()
            ))
        })?;
        Ok(Self { message, way })
    }

    fn open(
        &self,
        operation: &'static str,
        ceremony: &Ceremony,
        index: &PrivateIndex,
    ) -> Result<Zeroizing<String>, KeysetError> {
        let key = key_of(ceremony, index, &self.way)?;
        let opened = open_with(&self.way, &self.message, |operation| match operation {
            KeyOperation::Decrypt { transport, ciphertext } => ceremony.decrypt(&key, &transport, ciphertext),
            KeyOperation::Agree { peer_public_key } => ceremony.agree(&key, peer_public_key),
        })?;
        let text = std::str::from_utf8(&opened.content)
            .map_err(|_| not_verified(operation, "its letter is not UTF-8 text"))?;
        Ok(Zeroizing::new(text.to_owned()))
    }
}

fn not_verified(operation: &'static str, reason: impl Into<String>) -> KeysetError {
    KeysetError::NotVerified { operation, reason: reason.into() }
}
