//! Temporary keys by reference: their derivation inputs and their state, never the keys themselves.

use jiff::Timestamp;

use super::thread::{Database, Row};
use super::{AuditEntry, Store, StoreError, TemporaryKeyPurpose, TemporaryKeyState, TransactionState, UserRecord};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemporaryKeyRecord {
    /// The reference, as it is printed in the letter.
    pub reference: String,
    /// The user's id.
    pub user_id: String,
    /// The kind of message that it permits.
    pub purpose: TemporaryKeyPurpose,
    /// Random input of the derivation.
    pub nonce: Vec<u8>,
    /// `CKA_ID` of the HMAC key that derives it.
    pub key_id: Vec<u8>,
    /// The authority's epoch when it was issued.
    pub epoch: u64,
    /// Security levels that the letter allows, separated by spaces.
    pub levels: String,
    /// Whether the token is lost: a recovery then also makes a new current encryption key.
    pub lost: bool,
    /// SHA-256 of the statement that issued it; `None` for the first administrator's.
    pub statement: Option<[u8; 32]>,
    /// The time of issue.
    pub issued_at: Timestamp,
    /// The time from which it no longer permits a first message.
    pub expires_at: Timestamp,
    /// The temporary key's state.
    pub state: TemporaryKeyState,
    /// The transaction that claimed it.
    pub transaction_id: Option<Vec<u8>>,
    /// HMAC by the token over all fields that do not change.
    pub mac: [u8; 32],
}

/// The outcome of a claim on a temporary key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimOutcome {
    /// The transaction has the temporary key, exclusively.
    Claimed,
    /// The temporary key was not unused.
    NotUnused,
    /// Another message used the transactionID before.
    TransactionIdInUse,
}

/// The message that claims a temporary key.
#[derive(Debug, Clone)]
pub struct ClaimRequest {
    /// The temporary key's reference.
    pub reference: String,
    /// The message's transactionID.
    pub transaction_id: Vec<u8>,
    /// SHA-256 of the whole message.
    pub message_hash: [u8; 32],
    /// The time of receipt.
    pub now: Timestamp,
    /// The deadline for the confirmation of the reply.
    pub confirm_until: Timestamp,
}

impl Store {
    /// Issues a temporary key, voids the user's unused earlier ones, and adds the user if
    /// `new_user` is given.
    pub fn issue_temporary_key(
        &self,
        key: TemporaryKeyRecord,
        new_user: Option<UserRecord>,
        entry: AuditEntry,
    ) -> Result<(), StoreError> {
        self.thread.transaction(move |database| {
            if let Some(user) = &new_user {
                database.add_user(user)?;
            }
            database.issue_temporary_key(&key)?;
            database.log(&entry)
        })
    }

    /// Returns the temporary key with this reference.
    pub fn temporary_key(&self, reference: &str) -> Result<Option<TemporaryKeyRecord>, StoreError> {
        let reference = reference.to_owned();
        self.thread.transaction(move |database| {
            database.query_one(
                sqlx::query("SELECT * FROM temporary_keys WHERE reference = $1").bind(reference),
                TemporaryKeyRecord::read,
            )
        })
    }

    /// Returns all temporary keys of a user in order of issue, without unreadable rows.
    pub fn temporary_keys_of(&self, user_id: &str) -> Result<Vec<TemporaryKeyRecord>, StoreError> {
        let user_id = user_id.to_owned();
        self.thread.transaction(move |database| {
            database.readable(
                sqlx::query("SELECT * FROM temporary_keys WHERE user_id = $1 ORDER BY number").bind(user_id),
                TemporaryKeyRecord::read,
            )
        })
    }

    /// Claims an unused temporary key for a transaction. A single SQL statement decides, so exactly
    /// one of several claimants succeeds. An unconfirmed transaction may restart with exactly the
    /// same message.
    pub fn claim(&self, claim_request: ClaimRequest, entry: AuditEntry) -> Result<ClaimOutcome, StoreError> {
        self.thread.transaction(move |database| {
            let earlier = database.query_one(
                sqlx::query("SELECT message_hash, reference, state FROM transactions WHERE transaction_id = $1")
                    .bind(claim_request.transaction_id.clone()),
                |row| {
                    let reference: String = row.get("reference")?;
                    Ok((row.digest("message_hash")?, reference, row.parsed::<TransactionState>("state")?))
                },
            )?;
            if let Some((hash, reference, state)) = &earlier
                && (*hash != claim_request.message_hash
                    || *reference != claim_request.reference
                    || *state != TransactionState::Unconfirmed)
            {
                return Ok(ClaimOutcome::TransactionIdInUse);
            }
            let won = database.run(
                sqlx::query(
                    "UPDATE temporary_keys SET state = 'claimed', transaction_id = $2, message_hash = $3
                     WHERE reference = $1 AND state = 'unused'",
                )
                .bind(claim_request.reference.clone())
                .bind(claim_request.transaction_id.clone())
                .bind(claim_request.message_hash.to_vec()),
            )?;
            if won.rows_affected() != 1 {
                return Ok(ClaimOutcome::NotUnused);
            }
            database.begin_transaction(&claim_request)?;
            database.log(&entry)?;
            Ok(ClaimOutcome::Claimed)
        })
    }
}

impl TemporaryKeyRecord {
    pub(super) fn read(row: &Row<'_>) -> Result<Self, StoreError> {
        let epoch: i64 = row.get("epoch")?;
        Ok(Self {
            reference: row.get("reference")?,
            user_id: row.get("user_id")?,
            purpose: row.parsed("purpose")?,
            nonce: row.get("nonce")?,
            key_id: row.get("key_id")?,
            epoch: epoch.unsigned_abs(),
            levels: row.get("levels")?,
            lost: row.get("lost")?,
            statement: row.optional_digest("statement"),
            issued_at: row.time("issued_at")?,
            expires_at: row.time("expires_at")?,
            state: row.parsed("state")?,
            transaction_id: row.get("transaction_id")?,
            mac: row.any_digest("mac"),
        })
    }
}

impl Database {
    /// Adds a temporary key, and voids the user's unused earlier ones.
    pub(super) fn issue_temporary_key(&mut self, key: &TemporaryKeyRecord) -> Result<(), StoreError> {
        self.run(
            sqlx::query("UPDATE temporary_keys SET state = 'voided' WHERE user_id = $1 AND state = 'unused'")
                .bind(key.user_id.clone()),
        )?;
        self.add_temporary_key(key)
    }

    pub(super) fn add_temporary_key(&mut self, key: &TemporaryKeyRecord) -> Result<(), StoreError> {
        self.execute_one(
            sqlx::query(
                "INSERT INTO temporary_keys (reference, number, user_id, purpose, nonce, key_id, epoch, levels, lost,
                   statement, issued_at, expires_at, state, mac)
                 VALUES ($1, (SELECT COALESCE(MAX(number), 0) + 1 FROM temporary_keys), $2, $3, $4, $5, $6, $7, $8,
                   $9, $10, $11, $12, $13) ON CONFLICT DO NOTHING",
            )
            .bind(key.reference.clone())
            .bind(key.user_id.clone())
            .bind(key.purpose.as_str())
            .bind(key.nonce.clone())
            .bind(key.key_id.clone())
            .bind(key.epoch.cast_signed())
            .bind(key.levels.clone())
            .bind(key.lost)
            .bind(key.statement.map(|digest| digest.to_vec()))
            .bind(key.issued_at.as_second())
            .bind(key.expires_at.as_second())
            .bind(key.state.as_str())
            .bind(key.mac.to_vec()),
            "issue the temporary key",
        )
    }

    /// Ends a claim. A reopened letter becomes unused, or void if a newer one was issued meanwhile.
    pub(super) fn end_claim(&mut self, reference: &str, reopen: bool) -> Result<(), StoreError> {
        let query = if reopen {
            "UPDATE temporary_keys SET transaction_id = NULL, message_hash = NULL, state = CASE WHEN EXISTS (
               SELECT 1 FROM temporary_keys AS newer
               WHERE newer.user_id = temporary_keys.user_id AND newer.number > temporary_keys.number)
             THEN 'voided' ELSE 'unused' END
             WHERE reference = $1 AND state = 'claimed'"
        } else {
            "UPDATE temporary_keys SET state = 'used' WHERE reference = $1 AND state = 'claimed'"
        };
        self.execute_one(sqlx::query(query).bind(reference.to_owned()), "end the transaction")
    }
}
