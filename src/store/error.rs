//! Database faults, one variant for each remedy.

use std::path::{Path, PathBuf};

/// A fault of the authority's database. Every message begins with "cannot".
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process holds the write lock (SQLite's BUSY, after the busy timeout).
    #[error("cannot use the database {}: another process has locked it; stop that process and try again", .0.display())]
    Locked(PathBuf),
    /// The file or its file system cannot be written.
    #[error("cannot write the database {}: it is read-only; check the permissions of the file and of its \
             directory, and the mount", .0.display())]
    ReadOnly(PathBuf),
    /// No space is left for the database.
    #[error("cannot write the database {}: the disk is full; free some space and try again", .0.display())]
    DiskFull(PathBuf),
    /// The file does not exist or cannot be opened.
    #[error("cannot open the database {}: {reason}; check `state` in the configuration, or run \
             `tokenkeep authority init`", path.display())]
    Absent { path: PathBuf, reason: String },
    /// The file is not a database, or a damaged one.
    #[error("cannot read the database {}: {reason}; restore it from a backup", path.display())]
    Damaged {
        path: PathBuf,
        /// SQLite's error, or the record that cannot be parsed.
        reason: String,
    },
    /// A row has values that its columns cannot hold: it was altered. Other rows are not affected.
    #[error(
        "cannot read a row of the database {}: {reason}; `tokenkeep authority check` lists the problems, and a backup \
         has the original row", path.display()
    )]
    UnreadableRow {
        path: PathBuf,
        /// The column and its fault.
        reason: String,
    },
    /// A newer version of tokenkeep wrote the database last.
    #[error(
        "cannot use the database {}: a newer tokenkeep wrote it (version {version}; tokenkeep {} reads up to {reads}); \
         upgrade tokenkeep on this machine, or restore a backup from before the upgrade",
        path.display(),
        env!("CARGO_PKG_VERSION")
    )]
    NewerVersion {
        path: PathBuf,
        /// The database's version.
        version: i64,
        /// The newest version that this program reads.
        reads: i64,
    },
    /// The migration to this program's schema failed.
    #[error("cannot upgrade the database {}: {reason}; run the version of tokenkeep that wrote it \
             last, or a newer one", path.display())]
    Migration { path: PathBuf, reason: String },
    /// Any other SQLite error.
    #[error("cannot use the database {}: {source}; try again, and restore it from a backup if the error \
             persists", path.display())]
    Database { path: PathBuf, source: sqlx::Error },
    /// The token did not return a MAC for a log entry.
    #[error(
        "cannot seal an entry of the audit log, so nothing was changed: {0}; check that the authority's token is \
         present, and try again"
    )]
    Seal(String),
    /// The newest row of the log differs from the entry that this process wrote last.
    #[error(
        "cannot continue the audit log in {}: its newest entry, {number}, differs from the one written last, so the \
         database was altered; stop the authority, and run `tokenkeep authority check`", path.display()
    )]
    LogChanged {
        path: PathBuf,
        /// The number of the newest row.
        number: u64,
    },
    /// The store's thread has stopped.
    #[error("cannot use the database: the thread that owns it has stopped; restart the authority")]
    Stopped,
    /// The record already exists, or is not in the required state: another caller was faster.
    #[error("cannot {0}: the record was changed concurrently; check it (`tokenkeep admin show`) and try again")]
    Conflict(&'static str),
}

impl StoreError {
    /// Returns only the reason of an unreadable row.
    pub(super) fn into_reason(self) -> String {
        match self {
            Self::UnreadableRow { reason, .. } => reason,
            other => other.to_string(),
        }
    }

    /// Classifies an SQLite error by its primary result code
    /// (<https://www.sqlite.org/rescode.html>).
    pub(super) fn from_sqlx(path: &Path, source: sqlx::Error) -> Self {
        let path = path.to_path_buf();
        let code = source
            .as_database_error()
            .and_then(sqlx::error::DatabaseError::code)
            .and_then(|code| code.parse::<i32>().ok());
        // SQLite reports missing space for the WAL index as an I/O error (IOERR_SHMSIZE).
        if code == Some(4874) {
            return Self::DiskFull(path);
        }
        match code.map(|code| code & 0xff) {
            Some(5 | 6) => Self::Locked(path),
            Some(8) => Self::ReadOnly(path),
            Some(13) => Self::DiskFull(path),
            Some(14) => Self::Absent { path, reason: source.to_string() },
            Some(11 | 26) => Self::Damaged { path, reason: source.to_string() },
            _ => Self::Database { path, source },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_names_the_next_step() {
        let path = || PathBuf::from("/state/authority.db");
        for error in [
            StoreError::NewerVersion { path: path(), version: 9, reads: 1 },
            StoreError::Migration { path: path(), reason: "it is newer".into() },
            StoreError::Database { path: path(), source: sqlx::Error::PoolClosed },
            StoreError::Conflict("add the user"),
            StoreError::DiskFull(path()),
            StoreError::Seal("it was removed".into()),
            StoreError::UnreadableRow { path: path(), reason: "column mac".into() },
            StoreError::LogChanged { path: path(), number: 7 },
        ] {
            let text = error.to_string();
            let (what, next) = text.split_once("; ").unwrap_or((&text, ""));
            assert!(what.starts_with("cannot ") && next.len() > 20, "{text}");
        }
    }
}
