//! Processes the authority's response to a command, from any transport: verifies it, opens its
//! letter, compares its checkpoint.
//!
//! A response never contains a letter in clear: the letter is encrypted to the keyset's encryption
//! key that the statement named. Only a verified answer to this statement reaches the key.

use jiff::Timestamp;
use zeroize::Zeroizing;

use crate::pki::{Certificate, Fingerprint};
use crate::smime::{EncryptedMessage, KeyOperation, Message, SmimeError};
use crate::statement::{LogPosition, Response, SignedResponse, SignedStatement, StatementAnswer, StatementError};
use crate::token::TokenEnrollment;

use super::checkpoint::{self, CommandResult, LogPolicy, OpenedResponse};
use super::index::PrivateIndex;
use super::recipient::{RecipientMatch, key_of, match_recipient, open_with};
use super::{FoundKeyset, KeysetError, Notice, UserPrompter};

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
            StatementAnswer::EncryptedLetter(encrypted) => Some(EncryptedLetter::read(operation, encrypted, keyset)?),
            _ => None,
        };
        Ok(Self { operation, authority: authority.fingerprint(), response, letter, read_at: now })
    }

    /// Opens the letter, then compares and stores the checkpoint; `stated` is the log position that
    /// the statement named.
    pub(super) fn open(
        self,
        token_enrollment: &TokenEnrollment,
        index: &PrivateIndex,
        stated: Option<LogPosition>,
        log_policy: LogPolicy,
        person: &mut dyn UserPrompter,
    ) -> Result<CommandResult, KeysetError> {
        let letter = self.letter.map(|letter| letter.open(self.operation, token_enrollment, index)).transpose()?;
        notice_added(&self.response, self.read_at, person);
        for text in &self.response.ending {
            person.notice(Notice::CertificateEnding { text: text.clone() });
        }
        let comparison =
            checkpoint::compare_checkpoints(index.audit.as_ref(), stated, &self.response, self.authority, log_policy);
        let answer = letter.map_or(OpenedResponse::Other(self.response.answer), OpenedResponse::Letter);
        Ok(checkpoint::command_result(token_enrollment, index, answer, comparison, person))
    }
}

/// Reports administrators that someone at the authority's machine added without a statement.
fn notice_added(response: &Response, now: Timestamp, person: &mut dyn UserPrompter) {
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
    recipient_match: RecipientMatch,
}

impl EncryptedLetter {
    fn read(operation: &'static str, encrypted: &[u8], keyset: &FoundKeyset) -> Result<Self, KeysetError> {
        let unreadable = |error: SmimeError| not_verified(operation, error.to_string());
        let message =
            Message::read(encrypted).and_then(|message| EncryptedMessage::parse(&message)).map_err(unreadable)?;
        let recipient_match = match_recipient(keyset.clone(), message.recipients()).ok_or_else(|| {
            KeysetError::NotARecipient(format!(
                "the letter is encrypted to another keyset than {}; select the one that signed \
                 the statement (--keyset)",
                keyset.described()
            ))
        })?;
        Ok(Self { message, recipient_match })
    }

    fn open(
        &self,
        operation: &'static str,
        token_enrollment: &TokenEnrollment,
        index: &PrivateIndex,
    ) -> Result<Zeroizing<String>, KeysetError> {
        let key = key_of(token_enrollment, index, &self.recipient_match)?;
        let opened = open_with(&self.recipient_match, &self.message, |operation| match operation {
            KeyOperation::Decrypt { transport, ciphertext } => token_enrollment.decrypt(&key, &transport, ciphertext),
            KeyOperation::Agree { peer_public_key } => token_enrollment.agree(&key, peer_public_key),
        })?;
        let text = std::str::from_utf8(&opened.content)
            .map_err(|_| not_verified(operation, "its letter is not UTF-8 text"))?;
        Ok(Zeroizing::new(text.to_owned()))
    }
}

fn not_verified(operation: &'static str, reason: impl Into<String>) -> KeysetError {
    KeysetError::NotVerified { operation, reason: reason.into() }
}
