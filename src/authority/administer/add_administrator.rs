//! Adds an administrator with the authority's PIN, when no other administrator is left or the
//! authority is not running. It makes a letter, a role and an audit-log entry of which the other
//! administrators are notified.
//!
//! The holder of the authority's machine and PIN can override its administrators; this rule makes
//! that visible. While the log has another administrator with a current certificate, letter and
//! role take effect only after a day, and every response to the other administrators reports the
//! addition until each has acknowledged it. Neither database rows nor the clock decide whether
//! another administrator exists: that same person controls both. So an expired certificate counts
//! too.

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::authority::addition_notices::{ACKNOWLEDGED, ADDED, AdditionNotices};
use crate::authority::letters::{LetterIssuer, LetterUser};
use crate::authority::records::VerifiedRecords;
use crate::authority::rejection::{RequestError, not_authorized};
use crate::authority::temporary_key::TemporaryKeySpec;
use crate::authority::{AuthorityError, audit};
use crate::letter::Letter;
use crate::pki::{DistinguishedName, EmailAddress, PkiError};
use crate::statement::StatementAnswer;
use crate::store::{GrantRecord, Role, TemporaryKeyPurpose, UserRecord};

/// The time between an addition and its effect, in which the other administrators can notice it.
const NOTICE_PERIOD: SignedDuration = SignedDuration::from_hours(24);

/// The result of adding an administrator.
#[derive(Debug)]
pub struct AdministratorLetter {
    /// The letter with which the administrator enrolls. It is not valid before `counts_from`.
    pub letter: Letter,
    /// The time from which letter and role are valid.
    pub counts_from: Timestamp,
    /// The e-mail addresses of the other administrators, who are notified.
    pub others: Vec<String>,
    /// The number of the audit-log entry.
    pub entry: u64,
}

/// Checks address and name, so that invalid ones are refused before the PIN is asked for.
///
/// # Errors
/// [`AuthorityError::NotAdded`] if the address or the name is invalid.
pub(in crate::authority) fn check_administrator(email: &str, name: Option<&str>) -> Result<(), AuthorityError> {
    let wrong = |error: PkiError| AuthorityError::NotAdded(error.to_string());
    email.parse::<EmailAddress>().map_err(wrong)?;
    name.map_or(Ok(()), |name| DistinguishedName::check_person_name(name).map_err(wrong))
}

/// Adds one administrator, or gives one whose keyset is unusable a new letter.
pub(super) struct AdministratorAddition<'a> {
    pub(super) records: &'a VerifiedRecords,
    pub(super) letters: &'a LetterIssuer,
    pub(super) now: Timestamp,
}

impl AdministratorAddition<'_> {
    pub(super) fn add(&self, email: &str, name: Option<&str>) -> Result<AdministratorLetter, RequestError> {
        let now = Timestamp::from_second(self.now.as_second()).unwrap_or(self.now);
        let LetterUser { record: user, is_new } = self.letters.letter_user(email, name, now)?;
        let others = self.other_administrators(&user)?;
        // The newest entry's time is a lower bound: a clock that was set back would shorten the
        // day.
        let begin = self.records.audit_state.newest_entry().map_or(now, |newest| newest.max(now));
        let counts_from =
            if others.is_empty() { now } else { begin.checked_add(NOTICE_PERIOD).unwrap_or(Timestamp::MAX) };
        let grant = match self.records.role_of(&user, Role::Administrator)? {
            Some(_) => None,
            None => Some(self.grant_of(&user, counts_from, now)?),
        };
        let wanted = TemporaryKeySpec {
            user_id: user.id.clone(),
            purpose: TemporaryKeyPurpose::Enroll,
            levels: self.letters.levels(None)?,
            lost: false,
            statement: None,
            valid_for: self.letters.validity(None)?,
        };
        // Issued at `counts_from`: the letter is not valid before that.
        let letter = self.letters.temporary_keys.new_record(&wanted, counts_from)?;
        let detail = json!({
            "user": user.id, "email": user.email, "counts_from": counts_from.to_string(),
            "reference": letter.reference, "expires": letter.expires_at.to_string(), "others": others.len(),
        });
        let entry = audit::entry(now, ADDED, &detail);
        let entry = self.records.store.add_administrator(is_new.then(|| user.clone()), grant, letter.clone(), entry)?;
        tracing::warn!(email = %user.email, %counts_from, entry, "an administrator was added with the authority's PIN");
        Ok(AdministratorLetter { letter: self.letters.letter(&letter, &user)?, counts_from, others, entry })
    }

    fn grant_of(
        &self,
        user: &UserRecord,
        counts_from: Timestamp,
        now: Timestamp,
    ) -> Result<GrantRecord, AuthorityError> {
        let mut grant = GrantRecord {
            user_id: user.id.clone(),
            role: Role::Administrator,
            granted_at: now,
            counts_from: (counts_from > now).then_some(counts_from),
            mac: [0; 32],
        };
        grant.mac = self.records.sealer.seal_grant(&grant, user)?;
        Ok(grant)
    }

    /// Returns the addresses of the other enrolled administrators; the user id where the row is
    /// missing or altered.
    fn other_administrators(&self, user: &UserRecord) -> Result<Vec<String>, AuthorityError> {
        let mut others = Vec::new();
        for id in self.records.audit_state.enrolled_holders(Role::Administrator).into_iter().filter(|id| *id != user.id)
        {
            let record = self.records.unchanged_user(&id)?;
            others.push(record.map_or(id, |other| other.email));
        }
        Ok(others)
    }
}

/// Records in the audit log that this administrator acknowledges the addition in the entry.
pub(super) fn acknowledge(
    records: &VerifiedRecords,
    additions: &AdditionNotices,
    entry: u64,
    by: &UserRecord,
    now: Timestamp,
) -> Result<StatementAnswer, RequestError> {
    if !additions.has(entry) {
        return Err(not_authorized(format!("log entry {entry} does not record an added administrator")));
    }
    let detail = json!({ "entry": entry, "administrator": by.id });
    records.store.record(audit::entry(now, ACKNOWLEDGED, &detail))?;
    Ok(StatementAnswer::Acknowledged(entry))
}
