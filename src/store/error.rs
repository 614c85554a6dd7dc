//! What can be wrong with the database, each told apart because each has another remedy.

use std::path::{Path, PathBuf};

/// A fault of the authority's database. Every message completes "cannot …".
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process holds the database's write lock (SQLite's BUSY, after the busy timeout).
    #[error("cannot use the database {}: another process has locked it; stop that process and try again", .0.display())]
    Locked(PathBuf),
    /// The file or its file system cannot be written.
    #[error("cannot write the database {}: it is read-only; check the permissions of the file and of its directory, and the mount", .0.display())]
    ReadOnly(PathBuf),
    /// No space is left for the database.
    #[error("cannot write the database {}: the disk is full; free some space and try again", .0.display())]
    DiskFull(PathBuf),
    /// The file does not exist or cannot be opened.
    #[error("cannot open the database {}: {reason}; check `state` in the configuration, or run `tokenkeep authority init`", path.display())]
    Absent {
        /// The database file.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// The file is not a database, or a damaged one.
    #[error("cannot read the database {}: {reason}; restore it from a backup", path.display())]
    Damaged {
        /// The database file.
        path: PathBuf,
        /// What SQLite says, or which record does not parse.
        reason: String,
    },
    /// A row holds what its columns cannot hold: somebody has changed it. No other row is the worse for it.
    #[error(
        "cannot read a row of the database {}: {reason}; `tokenkeep authority check` lists what is wrong, and a backup has \
         what was there", path.display()
    )]
    UnreadableRow {
        /// The database file.
        path: PathBuf,
        /// Which column, and what is wrong with it.
        reason: String,
    },
    /// A newer tokenkeep wrote the database last.
    #[error(
        "cannot use the database {}: a newer tokenkeep wrote it (version {version}; tokenkeep {} reads up to {reads}); upgrade \
         tokenkeep on this machine, or restore a backup from before the upgrade",
        path.display(),
        env!("CARGO_PKG_VERSION")
    )]
    Newer {
        /// The database file.
        path: PathBuf,
        /// The database's version.
        version: i64,
        /// The newest version that this program reads.
        reads: i64,
    },
    /// The migration to this program's schema failed.
    #[error("cannot bring the database {} to this version's form: {reason}; run the version of tokenkeep that wrote it last, or a newer one", path.display())]
    Migration {
        /// The database file.
        path: PathBuf,
        /// What the migrator says.
        reason: String,
    },
    /// Anything else SQLite may say.
    #[error("cannot use the database {}: {source}; try again, and restore it from a backup if it stays so", path.display())]
    Database {
        /// The database file.
        path: PathBuf,
        /// SQLite's own words.
        source: sqlx::Error,
    },
    /// The token gave no MAC for an entry of the log.
    #[error(
        "cannot seal an entry of the audit log, so nothing was changed: {0}; see that the authority's token is there, and try again"
    )]
    Seal(String),
    /// The log's newest entry is not the one that this process wrote last.
    #[error(
        "cannot go on with the audit log in {}: its newest entry, {number}, is not the one that was written last, so somebody \
         else has changed the database; stop the authority, and run `tokenkeep authority check`", path.display()
    )]
    LogChanged {
        /// The database file.
        path: PathBuf,
        /// The entry that is the newest now.
        number: u64,
    },
    /// The store's thread is gone.
    #[error("cannot use the database: the thread that owns it has stopped; start the authority again")]
    Stopped,
    /// A record is there already, or not in the state that the change needs: the caller has lost a race.
    #[error(
        "cannot {0}: the record has changed meanwhile; look at it again (`tokenkeep admin show`) before you try again"
    )]
    Conflict(&'static str),
}

impl StoreError {
    /// The reason alone of a row that cannot be read.
    pub(super) fn into_reason(self) -> String {
        match self {
            Self::UnreadableRow { reason, .. } => reason,
            other => other.to_string(),
        }
    }

    /// Sorts what SQLite reports by its primary result code (<https://www.sqlite.org/rescode.html>).
    pub(super) fn from_sqlx(path: &Path, source: sqlx::Error) -> Self {
        let path = path.to_path_buf();
        let code = source
            .as_database_error()
            .and_then(sqlx::error::DatabaseError::code)
            .and_then(|code| code.parse::<i32>().ok());
        // No room to enlarge the WAL's index is an I/O error (IOERR_SHMSIZE) to SQLite.
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
    fn every_error_says_the_next_step() {
        let path = || PathBuf::from("/state/authority.db");
        for error in [
            StoreError::Newer { path: path(), version: 9, reads: 1 },
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
