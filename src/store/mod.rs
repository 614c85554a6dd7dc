//! The authority's records: users, temporary keys, transactions, certificates, the key archive, statements, the log.
//!
//! The only room with SQL. Every change is one database transaction together with the log entry that tells of it, and
//! lasts when the call returns (SQLite in WAL mode with `synchronous=FULL`). The store answers synchronously from a
//! thread of its own, so call it from blocking threads only. It must never hold a temporary key, a PIN or a private key
//! that is not wrapped, and it decides nothing: it refuses only what two requests cannot both have.

mod administrators;
mod audit;
mod certificates;
mod error;
mod identity;
mod key_archive;
mod pages;
mod schema;
mod statements;
mod temporary_keys;
#[cfg(test)]
mod tests;
mod thread;
mod transactions;
mod users;
mod words;

use std::path::{Path, PathBuf};

pub use self::audit::{AuditEntry, AuditHead, AuditRow, LogEnd, LogKeeper, LogPage};
pub use self::certificates::{CertificateRecord, NewCertificate};
pub use self::error::StoreError;
pub use self::identity::{FirstRecords, Identity};
pub use self::key_archive::ArchiveRecord;
pub use self::pages::ListedRow;
pub use self::statements::StatementRecord;
pub use self::temporary_keys::{Claim, Claimant, TemporaryKeyRecord};
pub use self::transactions::{Ending, TransactionRecord};
pub use self::users::{GrantRecord, ListedUser, UserPage, UserRecord};
pub use self::words::{CertificateKind, CertificateState, Purpose, Role, TemporaryKeyState, TransactionState};

use self::thread::{Opening, StoreThread};

/// The open database.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    thread: StoreThread,
}

impl Store {
    /// Makes the database file if it is not there, and brings it to this version's form.
    pub fn create(path: &Path) -> Result<Self, StoreError> {
        Ok(Self { path: path.to_path_buf(), thread: StoreThread::start(path, Opening::Create)? })
    }

    /// Opens a database that is there.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Ok(Self { path: path.to_path_buf(), thread: StoreThread::start(path, Opening::Write)? })
    }

    /// Opens a database that is there to look at it: nothing is changed, not even the form of an older version.
    pub fn open_to_read(path: &Path) -> Result<Self, StoreError> {
        Ok(Self { path: path.to_path_buf(), thread: StoreThread::start(path, Opening::Read)? })
    }

    /// The database file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Puts what is in SQLite's write-ahead log into the database file, and empties the log.
    /// [`StoreError::Locked`] while somebody reads what is older.
    pub fn put_into_one_file(&self) -> Result<(), StoreError> {
        self.thread.outside_transactions(|database| {
            let busy = database.one(sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)"), |row| row.get::<i64>("busy"))?;
            if busy == Some(0) { Ok(()) } else { Err(StoreError::Locked(database.path().to_path_buf())) }
        })
    }
}
