//! The authority's records: users, temporary keys, transactions, certificates, the key archive,
//! statements and the audit log.
//!
//! **Invariants:** only this module contains SQL. Every change is one database transaction together
//! with its log entry, and is durable when the call returns (SQLite in WAL mode with
//! `synchronous=FULL`). The store runs on its own thread and answers synchronously, so call it from
//! blocking threads only. It never holds a temporary key, a PIN or an unwrapped private key. It
//! decides nothing: it only refuses a change that conflicts with a concurrent one.

mod audit;
mod certificates;
mod columns;
mod error;
mod identity;
mod key_archive;
mod log_state;
mod migrations;
mod pages;
mod schema;
mod statements;
mod temporary_keys;
#[cfg(test)]
mod tests;
mod thread;
mod transactions;
mod users;

use std::path::{Path, PathBuf};

pub use self::audit::{LogEnd, LogPage};
pub use self::certificates::{CertificateIntent, CertificateRecord};
pub use self::columns::{
    CertificateKind, CertificateState, Role, TemporaryKeyPurpose, TemporaryKeyState, TransactionState,
};
pub use self::error::StoreError;
pub use self::identity::{AuthorityIdentity, FirstRecords};
pub use self::key_archive::ArchiveRecord;
pub use self::log_state::{AuditEntry, AuditHead, AuditRow, LogSealer};
pub use self::pages::ListedRow;
pub use self::statements::StatementRecord;
pub use self::temporary_keys::{ClaimOutcome, ClaimRequest, TemporaryKeyRecord};
pub use self::transactions::{TransactionEnd, TransactionRecord};
pub use self::users::{GrantRecord, ListedUser, UserPage, UserRecord};

use self::thread::{Opening, StoreThread};

/// An open database.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    thread: StoreThread,
}

impl Store {
    /// Opens the database, creates it if it is missing, and upgrades its schema.
    pub fn create(path: &Path) -> Result<Self, StoreError> {
        Ok(Self { path: path.to_path_buf(), thread: StoreThread::start(path, Opening::Create)? })
    }

    /// Opens an existing database and upgrades its schema.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Ok(Self { path: path.to_path_buf(), thread: StoreThread::start(path, Opening::Write)? })
    }

    /// Opens an existing database read-only. Not even an older version's schema is changed.
    pub fn open_to_read(path: &Path) -> Result<Self, StoreError> {
        Ok(Self { path: path.to_path_buf(), thread: StoreThread::start(path, Opening::Read)? })
    }

    /// The path of the database file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Moves SQLite's write-ahead log into the database file and empties it. Fails with
    /// [`StoreError::Locked`] while another connection reads an older state.
    pub fn put_into_one_file(&self) -> Result<(), StoreError> {
        self.thread.outside_transactions(|database| {
            let busy =
                database.query_one(sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)"), |row| row.get::<i64>("busy"))?;
            if busy == Some(0) { Ok(()) } else { Err(StoreError::Locked(database.path().to_path_buf())) }
        })
    }
}
