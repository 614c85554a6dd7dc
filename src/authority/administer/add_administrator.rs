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

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::letters::LetterUser;
use super::refuse;
use crate::authority::rejection::RequestError;
use crate::authority::temporary_key::{self, TemporaryKeySpec};
use crate::authority::{Authority, AuthorityError, audit};
use crate::letter::Letter;
use crate::pki::{DistinguishedName, EmailAddress, PkiError};
use crate::statement::{AddedAdministrator, StatementAnswer};
use crate::store::{AuditRow, GrantRecord, Role, TemporaryKeyPurpose, UserRecord};

const ADDED: &str = "administrator.added";
const ACKNOWLEDGED: &str = "administrator.acknowledged";

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

/// The added administrators and who acknowledged each, according to the audit log. Rebuilt at the
/// start, entry by entry as the log is walked, and updated with each new entry.
#[derive(Debug, Default)]
pub(in crate::authority) struct AdditionNotices(Mutex<Vec<Event>>);

#[derive(Debug)]
struct Event {
    addition: AddedAdministrator,
    user: String,
    acknowledged: HashSet<String>,
}

/// The detail of the audit-log entry for an added administrator.
#[derive(Serialize, Deserialize)]
struct AddedDetail {
    user: String,
    email: String,
    /// RFC 3339.
    counts_from: String,
}

/// The detail of the audit-log entry for an acknowledgment.
#[derive(Serialize, Deserialize)]
struct AcknowledgedDetail {
    entry: u64,
    administrator: String,
}

impl AdditionNotices {
    /// Applies one entry of the audit log. Call it for every entry, in order.
    ///
    /// # Errors
    /// The detail of an entry of one of the two kinds cannot be parsed. No entry that the authority
    /// wrote is like that.
    pub(in crate::authority) fn apply(&self, row: &AuditRow) -> Result<(), serde_json::Error> {
        match row.event.as_str() {
            ADDED => {
                let AddedDetail { user, email, counts_from } = serde_json::from_str(&row.detail)?;
                let counts_from = counts_from.parse().map_err(serde::de::Error::custom)?;
                let addition = AddedAdministrator { entry: row.number, email, at: row.at, counts_from };
                self.lock().push(Event { addition, user, acknowledged: HashSet::new() });
            }
            ACKNOWLEDGED => {
                let known: AcknowledgedDetail = serde_json::from_str(&row.detail)?;
                for event in self.lock().iter_mut().filter(|event| event.addition.entry == known.entry) {
                    event.acknowledged.insert(known.administrator.clone());
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Returns the additions that this administrator has not acknowledged, except their own.
    pub(super) fn unacknowledged_by(&self, administrator: &str) -> Vec<AddedAdministrator> {
        let is_news = |event: &&Event| event.user != administrator && !event.acknowledged.contains(administrator);
        self.lock().iter().filter(is_news).map(|event| event.addition.clone()).collect()
    }

    fn has(&self, entry: u64) -> bool {
        self.lock().iter().any(|event| event.addition.entry == entry)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Event>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Authority {
    /// Checks address and name, so that invalid ones are refused before the PIN is asked for.
    ///
    /// # Errors
    /// [`AuthorityError::NotAdded`] if the address or the name is invalid.
    pub fn check_administrator(email: &str, name: Option<&str>) -> Result<(), AuthorityError> {
        let wrong = |error: PkiError| AuthorityError::NotAdded(error.to_string());
        email.parse::<EmailAddress>().map_err(wrong)?;
        name.map_or(Ok(()), |name| DistinguishedName::check_person_name(name).map_err(wrong))
    }

    /// Grants the administrator role to a user, or gives an administrator whose keyset is unusable
    /// a new letter. The caller has opened the authority for this purpose alone, with a PIN that a
    /// login verified.
    ///
    /// # Errors
    /// [`AuthorityError::NotAdded`] if the addition is refused; other errors are faults.
    pub fn add_administrator(
        &self,
        email: &str,
        name: Option<&str>,
        now: Timestamp,
    ) -> Result<AdministratorLetter, AuthorityError> {
        let _turn = self.administration_lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.add(email, name, now).map_err(|stop| match stop {
            RequestError::Refused(rejection) => AuthorityError::NotAdded(rejection.text),
            RequestError::Failed(error) => error,
        })
    }

    fn add(&self, email: &str, name: Option<&str>, now: Timestamp) -> Result<AdministratorLetter, RequestError> {
        let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
        let LetterUser { record: user, is_new } = self.letter_user(email, name, now)?;
        let others = self.other_administrators(&user)?;
        // The newest entry's time is a lower bound: a clock that was set back would shorten the
        // day.
        let begin = self.audit_state.newest_entry().map_or(now, |newest| newest.max(now));
        let counts_from =
            if others.is_empty() { now } else { begin.checked_add(NOTICE_PERIOD).unwrap_or(Timestamp::MAX) };
        let grant = match self.role_of(&user, Role::Administrator)? {
            Some(_) => None,
            None => Some(self.grant_of(&user, counts_from, now)?),
        };
        let wanted = TemporaryKeySpec {
            user_id: user.id.clone(),
            purpose: TemporaryKeyPurpose::Enroll,
            levels: self.levels(None)?,
            lost: false,
            statement: None,
            valid_for: self.validity(None)?,
        };
        // Issued at `counts_from`: the letter is not valid before that.
        let letter = temporary_key::new_record(&self.keys, &self.sealer, self.identity.epoch, &wanted, counts_from)?;
        let detail =
            AddedDetail { user: user.id.clone(), email: user.email.clone(), counts_from: counts_from.to_string() };
        let mut detail = serde_json::to_value(detail).map_err(encode)?;
        if let Some(members) = detail.as_object_mut() {
            members.insert("reference".to_owned(), json!(letter.reference));
            members.insert("expires".to_owned(), json!(letter.expires_at.to_string()));
            members.insert("others".to_owned(), json!(others.len()));
        }
        let entry = audit::entry(now, ADDED, &detail);
        let entry = self.store.add_administrator(is_new.then(|| user.clone()), grant, letter.clone(), entry)?;
        tracing::warn!(email = %user.email, %counts_from, entry, "an administrator was added with the authority's PIN");
        Ok(AdministratorLetter { letter: self.letter(&letter, &user)?, counts_from, others, entry })
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
        grant.mac = self.sealer.seal_grant(&grant, user)?;
        Ok(grant)
    }

    /// Returns the addresses of the other enrolled administrators; the user id where the row is
    /// missing or altered.
    fn other_administrators(&self, user: &UserRecord) -> Result<Vec<String>, AuthorityError> {
        let mut others = Vec::new();
        for id in self.audit_state.enrolled_holders(Role::Administrator).into_iter().filter(|id| *id != user.id) {
            let record = self.unchanged_user(&id)?;
            others.push(record.map_or(id, |other| other.email));
        }
        Ok(others)
    }

    /// Records in the audit log that this administrator acknowledges the addition in the entry.
    pub(super) fn acknowledge(
        &self,
        entry: u64,
        by: &UserRecord,
        now: Timestamp,
    ) -> Result<StatementAnswer, RequestError> {
        if !self.added.has(entry) {
            return Err(refuse(format!("log entry {entry} does not record an added administrator")));
        }
        let detail = AcknowledgedDetail { entry, administrator: by.id.clone() };
        let detail = serde_json::to_value(detail).map_err(encode)?;
        self.store.record(audit::entry(now, ACKNOWLEDGED, &detail))?;
        Ok(StatementAnswer::Acknowledged(entry))
    }
}

#[allow(clippy::needless_pass_by_value)] // for `map_err`
fn encode(error: serde_json::Error) -> AuthorityError {
    AuthorityError::Encode { what: "an entry of the log", reason: error.to_string() }
}
