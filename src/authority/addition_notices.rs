//! The administrators who were added with the authority's PIN, and who has acknowledged each,
//! according to the audit log.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Deserialize;

use crate::statement::AddedAdministrator;
use crate::store::AuditRow;

/// The event of an added administrator.
pub(super) const ADDED: &str = "administrator.added";
/// The event of an acknowledgment.
pub(super) const ACKNOWLEDGED: &str = "administrator.acknowledged";

/// The added administrators and who acknowledged each, according to the audit log. Rebuilt at the
/// start, entry by entry as the log is walked, and updated with each new entry.
#[derive(Debug, Default)]
pub(super) struct AdditionNotices(Mutex<Vec<Event>>);

#[derive(Debug)]
struct Event {
    addition: AddedAdministrator,
    user: String,
    acknowledged: HashSet<String>,
}

/// The detail of the audit-log entry for an added administrator.
#[derive(Deserialize)]
struct AddedDetail {
    user: String,
    email: String,
    /// RFC 3339.
    counts_from: String,
}

/// The detail of the audit-log entry for an acknowledgment.
#[derive(Deserialize)]
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
    pub(super) fn apply(&self, row: &AuditRow) -> Result<(), serde_json::Error> {
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

    /// Whether this entry of the log records an addition.
    pub(super) fn has(&self, entry: u64) -> bool {
        self.lock().iter().any(|event| event.addition.entry == entry)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Event>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
