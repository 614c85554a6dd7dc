//! The authority and token that a database belongs to, and the records that `init` writes
//! atomically.

use jiff::Timestamp;

use super::{AuditEntry, GrantRecord, Store, StoreError, TemporaryKeyRecord, UserRecord};

/// The authority and the token that this database belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthorityIdentity {
    /// SHA-256 of the CA certificate.
    pub authority: [u8; 32],
    /// The authority token's label.
    pub token_label: String,
    /// The authority token's serial number.
    pub token_serial: String,
    /// An input of every temporary key's derivation.
    pub epoch: u64,
    /// The time of `init`.
    pub initialized_at: Timestamp,
}

/// All records that `init` writes.
#[derive(Debug, Clone)]
pub struct FirstRecords {
    /// The authority and its token.
    pub identity: AuthorityIdentity,
    /// The serial numbers of the authority's own certificates, which are issued already.
    pub certificates: Vec<String>,
    /// The first administrator.
    pub administrator: UserRecord,
    /// Their role.
    pub grant: GrantRecord,
    /// Their letter.
    pub temporary_key: TemporaryKeyRecord,
    /// The log's first entry.
    pub entry: AuditEntry,
}

impl Store {
    /// Returns the authority and token that the database belongs to; `None` until `init` is
    /// complete.
    pub fn identity(&self) -> Result<Option<AuthorityIdentity>, StoreError> {
        self.thread.transaction(|database| {
            database.query_one(sqlx::query("SELECT * FROM identity"), |row| {
                let epoch: i64 = row.get("epoch")?;
                Ok(AuthorityIdentity {
                    authority: row.digest("authority")?,
                    token_label: row.get("token_label")?,
                    token_serial: row.get("token_serial")?,
                    epoch: epoch.unsigned_abs(),
                    initialized_at: row.time("initialized_at")?,
                })
            })
        })
    }

    /// Writes all records of `init`, or none of them after a crash.
    pub fn initialize(&self, first: FirstRecords) -> Result<(), StoreError> {
        self.thread.transaction(move |database| {
            let identity = &first.identity;
            database.execute_one(
                sqlx::query(
                    "INSERT INTO identity (only_row, authority, token_label, token_serial, epoch, initialized_at)
                     VALUES (1, $1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
                )
                .bind(identity.authority.to_vec())
                .bind(identity.token_label.clone())
                .bind(identity.token_serial.clone())
                .bind(identity.epoch.cast_signed())
                .bind(identity.initialized_at.as_second()),
                "initialize the database",
            )?;
            for serial in &first.certificates {
                database.make_current(serial, identity.initialized_at)?;
            }
            database.add_user(&first.administrator)?;
            database.add_grant(&first.grant)?;
            database.add_temporary_key(&first.temporary_key)?;
            database.log(&first.entry)
        })
    }
}
