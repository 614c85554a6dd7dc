//! A parsed entry of the audit log, with access to the members of its detail.

use serde_json::Value;

use super::{Key, key};
use crate::store::AuditRow;

/// An entry without a member that its event requires.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the event {event:?} lacks the member {member:?}")]
pub(in crate::authority) struct MalformedLogEntry {
    event: String,
    member: &'static str,
}

/// An entry's row with its parsed detail.
pub(super) struct Entry<'a> {
    pub(super) row: &'a AuditRow,
    pub(super) detail: Value,
}

impl<'a> Entry<'a> {
    pub(super) fn of(row: &'a AuditRow) -> Self {
        Self { row, detail: serde_json::from_str(&row.detail).unwrap_or(Value::Null) }
    }

    pub(super) fn text(&self, member: &'static str) -> Result<&str, MalformedLogEntry> {
        self.detail.get(member).and_then(Value::as_str).ok_or_else(|| self.lacks(member))
    }

    pub(super) fn key(&self, member: &'static str) -> Result<Key, MalformedLogEntry> {
        Ok(key(self.text(member)?))
    }

    /// The keys of a list of names; empty if the member is missing.
    pub(super) fn keys(&self, member: &str) -> impl Iterator<Item = Key> {
        self.detail.get(member).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).map(key)
    }

    pub(super) fn lacks(&self, member: &'static str) -> MalformedLogEntry {
        MalformedLogEntry { event: self.row.event.clone(), member }
    }
}
