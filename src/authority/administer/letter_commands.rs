//! `issue` and `recover` issue a letter; `letter` returns that of an earlier statement again, to
//! the administrator who ordered it.
//!
//! A letter whose response was lost stays valid until it is used, so the administrator must be able
//! to fetch it without making another one. Only the administrator who ordered it gets it, whatever
//! database rows say: the letter's sealed record names the statement, and the statement proves its
//! signer.

use jiff::Timestamp;
use serde_json::json;

use super::accepted_statement::AcceptedStatement;
use super::queries::known_user;
use crate::authority::audit;
use crate::authority::letter_orders::order_of;
use crate::authority::letters::{LetterIssuer, LetterUser};
use crate::authority::records::{VerifiedRecords, serials};
use crate::authority::rejection::{RequestError, not_authorized};
use crate::authority::temporary_key::TemporaryKeySpec;
use crate::crash_point::reached as crash_point;
use crate::statement::StatementAnswer;
use crate::store::{CertificateState, TemporaryKeyPurpose, TemporaryKeyRecord, TemporaryKeyState};
use crate::token::SecurityLevel;

/// Executes one command whose answer is a letter.
pub(super) struct LetterCommand<'a> {
    pub(super) records: &'a VerifiedRecords,
    pub(super) letters: &'a LetterIssuer,
    pub(super) accepted: &'a AcceptedStatement,
    pub(super) now: Timestamp,
}

impl LetterCommand<'_> {
    pub(super) fn issue(
        &self,
        email: &str,
        name: Option<&str>,
        levels: Option<&[SecurityLevel]>,
        valid_for_seconds: Option<u64>,
    ) -> Result<StatementAnswer, RequestError> {
        let user = self.letters.letter_user(email, name, self.now)?;
        let wanted = TemporaryKeySpec {
            user_id: user.record.id.clone(),
            purpose: TemporaryKeyPurpose::Enroll,
            levels: self.letters.levels(levels)?,
            lost: false,
            statement: Some(self.accepted.statement.digest()),
            valid_for: self.letters.validity(valid_for_seconds)?,
        };
        self.letter(&user, &wanted)
    }

    pub(super) fn recover(
        &self,
        email: &str,
        lost: bool,
        valid_for_seconds: Option<u64>,
    ) -> Result<StatementAnswer, RequestError> {
        let user = known_user(self.records, email)?;
        if self.records.history_certificates(&user)?.is_empty() {
            return Err(not_authorized(format!(
                "{email} has no archived keys to recover; `admin issue` makes a letter to enroll"
            )));
        }
        let wanted = TemporaryKeySpec {
            user_id: user.id.clone(),
            purpose: TemporaryKeyPurpose::Recover,
            levels: self.letters.levels(None)?,
            lost,
            statement: Some(self.accepted.statement.digest()),
            valid_for: self.letters.validity(valid_for_seconds)?,
        };
        if lost {
            let mut current = self.records.certificates_of(&user.id)?;
            current.retain(|record| record.state == CertificateState::Current);
            let detail = json!({ "user": user.id, "reason": "keyCompromise", "serials": serials(&current) });
            let entry = audit::entry(self.now, "certificates.revoked", &detail);
            self.records.store.revoke_current(&user.id, "keyCompromise", entry)?;
            crash_point("authority.statement.after_revocation");
        }
        self.letter(&LetterUser { record: user, is_new: false }, &wanted)
    }

    fn letter(&self, to: &LetterUser, wanted: &TemporaryKeySpec) -> Result<StatementAnswer, RequestError> {
        let letter = self.letters.issue(to, wanted, &self.accepted.administrator, self.now)?;
        self.accepted.encrypted(&letter)
    }

    /// Returns an unused letter again.
    pub(super) fn fetch(&self, which: &str) -> Result<StatementAnswer, RequestError> {
        let record = self.records.sealer.check_temporary_key(self.unused_letter(which)?)?;
        if record.statement.is_none() {
            return Err(not_authorized(format!("no administrator ordered the letter {}", record.reference)));
        }
        let (_, administrator) = order_of(self.records, &record)?;
        if administrator.id != self.accepted.administrator.id {
            return Err(not_authorized(format!("another administrator ordered the letter {}", record.reference)));
        }
        let user = self.records.user(&record.user_id)?;
        let detail = json!({
            "reference": record.reference, "user": user.id, "by": administrator.id,
            "statement": hex::encode(self.accepted.statement.digest()),
        });
        let answer = self.accepted.encrypted(&self.letters.letter(&record, &user)?)?;
        self.records.store.record(audit::entry(self.now, "letter.fetched", &detail))?;
        tracing::info!(reference = %record.reference, email = %user.email, "letter fetched again");
        Ok(answer)
    }

    /// Returns the unused letter with this reference, or of the user with this address (at most
    /// one).
    fn unused_letter(&self, which: &str) -> Result<TemporaryKeyRecord, RequestError> {
        let is_good =
            |record: &TemporaryKeyRecord| record.state == TemporaryKeyState::Unused && self.now < record.expires_at;
        if which.contains('@') {
            let user = known_user(self.records, which)?;
            let letters = self.records.store.temporary_keys_of(&user.id)?.into_iter().rev();
            let unused = letters.filter_map(|record| self.records.letter_as_logged(record).ok()).find(is_good);
            return unused.ok_or_else(|| {
                not_authorized(format!(
                    "{} has no unused letter; `admin issue` or `admin recover` makes one",
                    user.email
                ))
            });
        }
        let record = self.records.store.temporary_key(which)?;
        let record = record
            .ok_or_else(|| not_authorized(format!("letter {which} not found; `admin show` lists all letters")))?;
        let record = self.records.letter_as_logged(record)?;
        if is_good(&record) {
            return Ok(record);
        }
        let state = if record.state == TemporaryKeyState::Unused { "expired" } else { record.state.as_str() };
        Err(not_authorized(format!("the letter {which} is {state}; `admin issue` or `admin recover` makes a new one")))
    }
}
