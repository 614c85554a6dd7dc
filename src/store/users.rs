//! Users, their roles, and the addition of administrators. Users and roles carry a MAC by the
//! authority's token, which the authority checks at each use.

use jiff::Timestamp;

use super::thread::{Database, Row};
use super::{AuditEntry, CertificateRecord, Role, Store, StoreError, TemporaryKeyRecord};

/// A user of the authority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserRecord {
    /// The internal user id: 32 hexadecimal digits. It never changes.
    pub id: String,
    /// The address as the administrator wrote it.
    pub email: String,
    /// The normalized address: spellings of one address are equal.
    pub email_key: String,
    /// The full display name, of any length.
    pub name: String,
    /// The time of creation.
    pub created_at: Timestamp,
    /// HMAC by the token over all fields above.
    pub mac: [u8; 32],
}

/// A page of users, with the data that a list shows of each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserPage {
    /// The users, by address.
    pub users: Vec<ListedUser>,
    /// Their roles.
    pub grants: Vec<GrantRecord>,
    /// Their signing certificates, in all states.
    pub certificates: Vec<CertificateRecord>,
    /// Their letters, in all states.
    pub letters: Vec<TemporaryKeyRecord>,
}

/// A user on a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedUser {
    /// The normalized address as stored; the next page starts after it.
    pub key: Vec<u8>,
    /// The record; `None` if the row cannot be read.
    pub record: Option<UserRecord>,
}

/// A role of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantRecord {
    /// The user's id.
    pub user_id: String,
    pub role: Role,
    /// The time of the grant.
    pub granted_at: Timestamp,
    /// The time from which the role is effective, if that is later.
    pub counts_from: Option<Timestamp>,
    /// HMAC by the token over all fields above and the user's address.
    pub mac: [u8; 32],
}

impl GrantRecord {
    /// Whether the role is effective at this time.
    pub fn counts_at(&self, now: Timestamp) -> bool {
        self.counts_from.is_none_or(|from| from <= now)
    }
}

impl Store {
    /// Adds a user. An existing address is a [`StoreError::Conflict`].
    pub fn add_user(&self, user: UserRecord, entry: AuditEntry) -> Result<(), StoreError> {
        self.thread.transaction(move |database| {
            database.add_user(&user)?;
            database.log(&entry)
        })
    }

    /// Sets the display name (and the MAC) of a user without a name.
    pub fn rename_user(&self, user: UserRecord, entry: AuditEntry) -> Result<(), StoreError> {
        self.thread.transaction(move |database| {
            database.execute_one(
                sqlx::query("UPDATE users SET name = $2, mac = $3 WHERE id = $1")
                    .bind(user.id.clone())
                    .bind(user.name.clone())
                    .bind(user.mac.to_vec()),
                "rename the user",
            )?;
            database.log(&entry)
        })
    }

    /// Returns the user with this id.
    pub fn user(&self, id: &str) -> Result<Option<UserRecord>, StoreError> {
        let id = id.to_owned();
        self.thread.transaction(move |database| {
            database.query_one(sqlx::query("SELECT * FROM users WHERE id = $1").bind(id), UserRecord::read)
        })
    }

    /// Returns the user with this normalized address.
    pub fn user_by_email(&self, email_key: &str) -> Result<Option<UserRecord>, StoreError> {
        let email_key = email_key.to_owned();
        self.thread.transaction(move |database| {
            database
                .query_one(sqlx::query("SELECT * FROM users WHERE email_key = $1").bind(email_key), UserRecord::read)
        })
    }

    /// Returns at most `limit` users after the address `after`, by address. The cost does not
    /// depend on the number of all users: four queries, each by an index.
    pub fn user_page(&self, after: &[u8], limit: u32) -> Result<UserPage, StoreError> {
        // Pages advance over any stored bytes; values that are not text sort after all text and are
        // on no page.
        const PAGE: &str = "FROM users WHERE email_key > CAST($1 AS TEXT) AND typeof(email_key) = 'text'
                            ORDER BY email_key LIMIT $2";
        let after = after.to_vec();
        let users = format!("SELECT * {PAGE}");
        let grants = format!(
            "SELECT grants.*, grants_to_come.counts_from FROM grants LEFT JOIN grants_to_come USING (user_id, role)
             WHERE user_id IN (SELECT id {PAGE})"
        );
        let certificates =
            format!("SELECT * FROM certificates WHERE user_id IN (SELECT id {PAGE}) AND kind = 'signing'");
        let letters = format!("SELECT * FROM temporary_keys WHERE user_id IN (SELECT id {PAGE})");
        self.thread.read(move |database| {
            let page = |sql: &str| sqlx::query(sqlx::AssertSqlSafe(sql.to_owned())).bind(after.clone()).bind(limit);
            Ok(UserPage {
                users: database.query_all(page(&users), |row| {
                    let key = row.any_bytes("email_key").unwrap_or_default();
                    Ok(ListedUser { key, record: row.readable(UserRecord::read) })
                })?,
                grants: database.readable(page(&grants), GrantRecord::read)?,
                certificates: database.readable(page(&certificates), CertificateRecord::read)?,
                letters: database.readable(page(&letters), TemporaryKeyRecord::read)?,
            })
        })
    }

    /// Returns every user, by address.
    pub fn users(&self) -> Result<Vec<UserRecord>, StoreError> {
        self.thread.transaction(|database| {
            database.query_all(sqlx::query("SELECT * FROM users ORDER BY email_key"), UserRecord::read)
        })
    }

    /// Returns the user's grant of `role`.
    pub fn grant(&self, user_id: &str, role: Role) -> Result<Option<GrantRecord>, StoreError> {
        let user_id = user_id.to_owned();
        self.thread.transaction(move |database| {
            database.query_one(
                sqlx::query(
                    "SELECT grants.*, grants_to_come.counts_from
                     FROM grants LEFT JOIN grants_to_come USING (user_id, role)
                     WHERE user_id = $1 AND role = $2",
                )
                .bind(user_id)
                .bind(role.as_str()),
                GrantRecord::read,
            )
        })
    }
}

impl UserRecord {
    pub(super) fn read(row: &Row<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            id: row.get("id")?,
            email: row.get("email")?,
            email_key: row.get("email_key")?,
            name: row.get("name")?,
            created_at: row.time("created_at")?,
            mac: row.any_digest("mac"),
        })
    }
}

impl GrantRecord {
    pub(super) fn read(row: &Row<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            user_id: row.get("user_id")?,
            role: row.parsed("role")?,
            granted_at: row.time("granted_at")?,
            counts_from: row.optional_time("counts_from")?,
            mac: row.any_digest("mac"),
        })
    }
}

impl Database {
    pub(super) fn add_user(&mut self, user: &UserRecord) -> Result<(), StoreError> {
        self.execute_one(
            sqlx::query(
                "INSERT INTO users (id, email, email_key, name, created_at, mac) VALUES ($1, $2, $3, $4, $5, $6)
                 ON CONFLICT DO NOTHING",
            )
            .bind(user.id.clone())
            .bind(user.email.clone())
            .bind(user.email_key.clone())
            .bind(user.name.clone())
            .bind(user.created_at.as_second())
            .bind(user.mac.to_vec()),
            "add the user",
        )
    }

    pub(super) fn add_grant(&mut self, grant: &GrantRecord) -> Result<(), StoreError> {
        self.execute_one(
            sqlx::query(
                "INSERT INTO grants (user_id, role, granted_at, mac) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
            )
            .bind(grant.user_id.clone())
            .bind(grant.role.as_str())
            .bind(grant.granted_at.as_second())
            .bind(grant.mac.to_vec()),
            "grant the role",
        )?;
        let Some(from) = grant.counts_from else { return Ok(()) };
        self.execute_one(
            sqlx::query("INSERT INTO grants_to_come (user_id, role, counts_from) VALUES ($1, $2, $3)")
                .bind(grant.user_id.clone())
                .bind(grant.role.as_str())
                .bind(from.as_second()),
            "grant the role",
        )
    }
}

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
