//! Enrollments under way and ended ones, with the exact bytes that were answered.

use jiff::Timestamp;

use super::thread::{Database, Row};
use super::{AuditEntry, CertificateKind, Claimant, Store, StoreError, TransactionState};

/// One enrollment's transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionRecord {
    /// The transactionID that the client chose.
    pub transaction_id: Vec<u8>,
    /// The letter's reference.
    pub reference: String,
    /// Whose.
    pub user_id: String,
    /// SHA-256 of the request.
    pub message_hash: [u8; 32],
    /// Where it stands.
    pub state: TransactionState,
    /// When the request came.
    pub begun_at: Timestamp,
    /// Until when the reply must be confirmed.
    pub confirm_until: Timestamp,
    /// The reply's exact bytes; none before it is made, and long after the end.
    pub reply: Option<Vec<u8>>,
    /// SHA-256 of the message that ended it.
    pub confirmation_hash: Option<[u8; 32]>,
    /// The exact bytes that were answered to that.
    pub confirmation_reply: Option<Vec<u8>>,
}

/// How a transaction ends.
#[derive(Debug, Clone)]
pub struct Ending {
    /// The transaction.
    pub transaction_id: Vec<u8>,
    /// Its new state: confirmed, rejected or unconfirmed.
    pub state: TransactionState,
    /// SHA-256 of the message that ended it, and the bytes of the answer to it; none when it was swept.
    pub confirmation: Option<([u8; 32], Vec<u8>)>,
    /// When.
    pub now: Timestamp,
}

impl Store {
    /// The transaction with this id.
    pub fn transaction(&self, transaction_id: &[u8]) -> Result<Option<TransactionRecord>, StoreError> {
        let transaction_id = transaction_id.to_vec();
        self.thread.transaction(move |database| database.transaction_by_id(&transaction_id))
    }

    /// Transactions that should have been confirmed before `now`.
    pub fn overdue(&self, now: Timestamp) -> Result<Vec<TransactionRecord>, StoreError> {
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

    /// Forgets the replies of transactions that ended, if they were to be confirmed before `before`; their records stay.
    /// Says of how many.
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

    /// Stores the reply to a transaction that has none, before it is sent. The time to confirm begins again. An `ending`
    /// is recorded with it, at once or not at all: a client that is told that it need not confirm will not.
    pub fn store_reply(
        &self,
        transaction_id: &[u8],
        reply: Vec<u8>,
        confirm_until: Timestamp,
        entry: AuditEntry,
        ending: Option<(Ending, AuditEntry)>,
    ) -> Result<(), StoreError> {
        let transaction_id = transaction_id.to_vec();
        self.thread.transaction(move |database| {
            database.change_one(
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
            ending.map_or(Ok(()), |(ending, entry)| database.end_transaction(ending, &entry))
        })
    }

    /// Ends a transaction in one stroke: its certificates become current (and what they replace superseded) or revoked,
    /// its letter used or good again.
    pub fn end_transaction(&self, ending: Ending, entry: AuditEntry) -> Result<(), StoreError> {
        self.thread.transaction(move |database| database.end_transaction(ending, &entry))
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
            state: row.word("state")?,
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
        self.one(
            sqlx::query("SELECT * FROM transactions WHERE transaction_id = $1").bind(transaction_id.to_vec()),
            TransactionRecord::read,
        )
    }

    fn end_transaction(&mut self, ending: Ending, entry: &AuditEntry) -> Result<(), StoreError> {
        let transaction =
            self.transaction_by_id(&ending.transaction_id)?.ok_or(StoreError::Conflict("end the transaction"))?;
        let (hash, reply) = ending.confirmation.map_or((None, None), |(h, r)| (Some(h.to_vec()), Some(r)));
        self.change_one(
            sqlx::query(
                "UPDATE transactions SET state = $2, confirmation_hash = $3, confirmation_reply = $4
                     WHERE transaction_id = $1 AND state IN ('begun', 'answered')",
            )
            .bind(ending.transaction_id.clone())
            .bind(ending.state.as_str())
            .bind(hash)
            .bind(reply),
            "end the transaction",
        )?;
        if ending.state == TransactionState::Confirmed {
            for kind in [CertificateKind::Signing, CertificateKind::Encryption] {
                self.confirm_certificates(&transaction, kind, ending.now)?;
            }
        } else {
            self.give_up_certificates(&transaction, ending.state, ending.now)?;
        }
        self.end_claim(&transaction.reference, ending.state != TransactionState::Confirmed)?;
        self.log(entry)
    }

    /// Adds the claimant's transaction, or begins an unconfirmed one anew.
    pub(super) fn begin_transaction(&mut self, claimant: &Claimant) -> Result<(), StoreError> {
        self.change_one(
            sqlx::query(
                "INSERT INTO transactions (transaction_id, reference, user_id, message_hash, state, begun_at, confirm_until)
                 VALUES ($1, $2, (SELECT user_id FROM temporary_keys WHERE reference = $2), $3, 'begun', $4, $5)
                 ON CONFLICT (transaction_id) DO UPDATE SET state = 'begun', begun_at = $4, confirm_until = $5,
                   reply = NULL, confirmation_hash = NULL, confirmation_reply = NULL",
            )
            .bind(claimant.transaction_id.clone())
            .bind(claimant.reference.clone())
            .bind(claimant.message_hash.to_vec())
            .bind(claimant.now.as_second())
            .bind(claimant.confirm_until.as_second()),
            "begin the transaction",
        )
    }
}
