//! Enrollment transactions, open and ended, with the exact bytes of their replies.

use jiff::Timestamp;

use super::thread::{Database, Row};
use super::{AuditEntry, CertificateKind, ClaimRequest, Store, StoreError, TransactionState};

/// The transaction of one enrollment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionRecord {
    /// The transactionID that the client chose.
    pub transaction_id: Vec<u8>,
    /// The letter's reference.
    pub reference: String,
    /// The user's id.
    pub user_id: String,
    /// SHA-256 of the request.
    pub message_hash: [u8; 32],
    /// The transaction's state.
    pub state: TransactionState,
    /// The time when the request was received.
    pub begun_at: Timestamp,
    /// The deadline for the confirmation of the reply.
    pub confirm_until: Timestamp,
    /// The exact bytes of the reply; `None` before it is made, and some time after the end.
    pub reply: Option<Vec<u8>>,
    /// SHA-256 of the message that ended the transaction.
    pub confirmation_hash: Option<[u8; 32]>,
    /// The exact bytes of the reply to that message.
    pub confirmation_reply: Option<Vec<u8>>,
}

/// The end of a transaction.
#[derive(Debug, Clone)]
pub struct TransactionEnd {
    pub transaction_id: Vec<u8>,
    /// Its new state: confirmed, rejected or unconfirmed.
    pub state: TransactionState,
    /// SHA-256 of the message that ended it, and the bytes of the reply; `None` if it was swept.
    pub confirmation: Option<([u8; 32], Vec<u8>)>,
    /// The time of the end.
    pub now: Timestamp,
}

impl Store {
    /// Returns the transaction with this id.
    pub fn transaction(&self, transaction_id: &[u8]) -> Result<Option<TransactionRecord>, StoreError> {
        let transaction_id = transaction_id.to_vec();
        self.thread.transaction(move |database| database.transaction_by_id(&transaction_id))
    }

    /// Returns the open transactions whose confirmation deadline is before `now`.
    pub fn overdue_transactions(&self, now: Timestamp) -> Result<Vec<TransactionRecord>, StoreError> {
        self.thread.transaction(move |database| {
            database.readable(
                sqlx::query(
                    "SELECT * FROM transactions WHERE state IN ('begun', 'answered') AND confirm_until < $1
                     ORDER BY confirm_until",
                )
                .bind(now.as_second()),
                TransactionRecord::read,
            )
        })
    }

    /// Deletes the replies of ended transactions whose confirmation deadline is before `before`;
    /// keeps the records. Returns the number of transactions.
    pub fn forget_replies(&self, before: Timestamp) -> Result<u64, StoreError> {
        self.thread.transaction(move |database| {
            let query = sqlx::query(
                "UPDATE transactions SET reply = NULL, confirmation_reply = NULL
                 WHERE state IN ('confirmed', 'rejected', 'unconfirmed') AND confirm_until < $1
                   AND (reply IS NOT NULL OR confirmation_reply IS NOT NULL)",
            );
            Ok(database.run(query.bind(before.as_second()))?.rows_affected())
        })
    }

    /// Stores the reply to a transaction without one, before it is sent, and restarts the
    /// confirmation deadline. A `transaction_end` is recorded atomically with it: a client with
    /// implicit confirmation sends none.
    pub fn store_reply(
        &self,
        transaction_id: &[u8],
        reply: Vec<u8>,
        confirm_until: Timestamp,
        entry: AuditEntry,
        transaction_end: Option<(TransactionEnd, AuditEntry)>,
    ) -> Result<(), StoreError> {
        let transaction_id = transaction_id.to_vec();
        self.thread.transaction(move |database| {
            database.execute_one(
                sqlx::query(
                    "UPDATE transactions SET state = 'answered', reply = $2, confirm_until = $3
                     WHERE transaction_id = $1 AND state = 'begun'",
                )
                .bind(transaction_id)
                .bind(reply)
                .bind(confirm_until.as_second()),
                "store the reply",
            )?;
            database.log(&entry)?;
            transaction_end.map_or(Ok(()), |(transaction_end, entry)| database.end_transaction(transaction_end, &entry))
        })
    }

    /// Ends a transaction atomically: its certificates become current (and replace the previous
    /// ones) or are revoked, and its letter becomes used or unused.
    pub fn end_transaction(&self, transaction_end: TransactionEnd, entry: AuditEntry) -> Result<(), StoreError> {
        self.thread.transaction(move |database| database.end_transaction(transaction_end, &entry))
    }
}

impl TransactionRecord {
    pub(super) fn read(row: &Row<'_>) -> Result<Self, StoreError> {
        let confirmation: Option<Vec<u8>> = row.get("confirmation_hash")?;
        Ok(Self {
            transaction_id: row.get("transaction_id")?,
            reference: row.get("reference")?,
            user_id: row.get("user_id")?,
            message_hash: row.digest("message_hash")?,
            state: row.parsed("state")?,
            begun_at: row.time("begun_at")?,
            confirm_until: row.time("confirm_until")?,
            reply: row.get("reply")?,
            confirmation_hash: confirmation.map(|_| row.digest("confirmation_hash")).transpose()?,
            confirmation_reply: row.get("confirmation_reply")?,
        })
    }
}

impl Database {
    fn transaction_by_id(&mut self, transaction_id: &[u8]) -> Result<Option<TransactionRecord>, StoreError> {
        self.query_one(
            sqlx::query("SELECT * FROM transactions WHERE transaction_id = $1").bind(transaction_id.to_vec()),
            TransactionRecord::read,
        )
    }

    fn end_transaction(&mut self, transaction_end: TransactionEnd, entry: &AuditEntry) -> Result<(), StoreError> {
        let transaction = self
            .transaction_by_id(&transaction_end.transaction_id)?
            .ok_or(StoreError::Conflict("end the transaction"))?;
        let (hash, reply) = transaction_end.confirmation.map_or((None, None), |(h, r)| (Some(h.to_vec()), Some(r)));
        self.execute_one(
            sqlx::query(
                "UPDATE transactions SET state = $2, confirmation_hash = $3, confirmation_reply = $4
                     WHERE transaction_id = $1 AND state IN ('begun', 'answered')",
            )
            .bind(transaction_end.transaction_id.clone())
            .bind(transaction_end.state.as_str())
            .bind(hash)
            .bind(reply),
            "end the transaction",
        )?;
        if transaction_end.state == TransactionState::Confirmed {
            for kind in [CertificateKind::Signing, CertificateKind::Encryption] {
                self.confirm_certificates(&transaction, kind, transaction_end.now)?;
            }
        } else {
            self.discard_certificates(&transaction, transaction_end.state, transaction_end.now)?;
        }
        self.end_claim(&transaction.reference, transaction_end.state != TransactionState::Confirmed)?;
        self.log(entry)
    }

    /// Adds the claimant's transaction, or restarts an unconfirmed one.
    pub(super) fn begin_transaction(&mut self, claim_request: &ClaimRequest) -> Result<(), StoreError> {
        self.execute_one(
            sqlx::query(
                "INSERT INTO transactions (transaction_id, reference, user_id, message_hash, state, begun_at,
                   confirm_until)
                 VALUES ($1, $2, (SELECT user_id FROM temporary_keys WHERE reference = $2), $3, 'begun', $4, $5)
                 ON CONFLICT (transaction_id) DO UPDATE SET state = 'begun', begun_at = $4, confirm_until = $5,
                   reply = NULL, confirmation_hash = NULL, confirmation_reply = NULL",
            )
            .bind(claim_request.transaction_id.clone())
            .bind(claim_request.reference.clone())
            .bind(claim_request.message_hash.to_vec())
            .bind(claim_request.now.as_second())
            .bind(claim_request.confirm_until.as_second()),
            "begin the transaction",
        )
    }
}
