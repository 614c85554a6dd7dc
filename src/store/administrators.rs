//! Adds administrators with the authority's PIN: the role and the letter.

use super::{AuditEntry, GrantRecord, Store, StoreError, TemporaryKeyRecord, UserRecord};

impl Store {
    /// Adds an administrator: the role if `grant` is given, the user if `new_user` is, and the
    /// letter, which voids the user's unused letters. Returns the number of the audit-log entry.
    pub fn add_administrator(
        &self,
        new_user: Option<UserRecord>,
        grant: Option<GrantRecord>,
        letter: TemporaryKeyRecord,
        entry: AuditEntry,
    ) -> Result<u64, StoreError> {
        self.thread.transaction(move |database| {
            if let Some(user) = &new_user {
                database.add_user(user)?;
            }
            if let Some(grant) = &grant {
                database.add_grant(grant)?;
            }
            database.issue_temporary_key(&letter)?;
            database.log(&entry)?;
            Ok(database.audit_head()?.number)
        })
    }
}
