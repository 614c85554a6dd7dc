//! The thread that owns the database connection.
//!
//! sqlx is asynchronous, and the layers up to the authority are not: callers send a closure to this
//! thread and wait for its result. There is one connection, and one closure runs at a time, so
//! statements of two closures are never interleaved.

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use sqlx::Connection as _;
use sqlx::sqlite::{
    SqliteArguments, SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteQueryResult, SqliteRow,
    SqliteSynchronous,
};
use sqlx::{Sqlite, query::Query};

use super::StoreError;
use super::log_state::LogState;
use super::migrations::{migrator, newest_version};

/// Time for which SQLite waits for another process's lock before it fails.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Replaces bytes that are not a digest. No SHA-256 or HMAC is likely to have this value.
const NO_DIGEST: [u8; 32] = [0xff; 32];

/// The mode in which a database is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opening {
    /// Create it if it is missing, and upgrade its schema.
    Create,
    /// It must exist; upgrade its schema.
    Write,
    /// It must exist; change nothing, not even an older version's schema.
    Read,
}

type Job = Box<dyn FnOnce(&mut Database) + Send>;

/// Sends closures to the store's thread.
#[derive(Debug)]
pub(super) struct StoreThread {
    jobs: Option<mpsc::Sender<Job>>,
    handle: Option<thread::JoinHandle<()>>,
}

/// The connection, with a synchronous interface for closures on the store's thread.
pub(super) struct Database {
    path: PathBuf,
    opening: Opening,
    runtime: tokio::runtime::Runtime,
    connection: SqliteConnection,
    pub(super) log_state: LogState,
}

impl StoreThread {
    /// Starts the thread and opens the database.
    pub(super) fn start(path: &Path, opening: Opening) -> Result<Self, StoreError> {
        let (jobs, received) = mpsc::channel::<Job>();
        let (opened, result) = mpsc::sync_channel(1);
        let path = path.to_path_buf();
        let thread_path = path.clone();
        let handle = thread::Builder::new()
            .name("store".into())
            .spawn(move || match Database::open(thread_path, opening) {
                Ok(mut database) => {
                    let _ = opened.send(Ok(()));
                    for job in received {
                        job(&mut database);
                    }
                    database.close();
                }
                Err(error) => {
                    let _ = opened.send(Err(error));
                }
            })
            .map_err(|error| StoreError::Absent { path, reason: error.to_string() })?;
        result.recv().map_err(|_| StoreError::Stopped)??;
        Ok(Self { jobs: Some(jobs), handle: Some(handle) })
    }

    /// Runs `work` in a transaction, which is committed, or rolled back on an error.
    pub(super) fn transaction<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Database) -> Result<T, StoreError> + Send + 'static,
    {
        // IMMEDIATE takes the write lock at once: a transaction that reads first cannot fail at its
        // first write.
        self.run("BEGIN IMMEDIATE", work)
    }

    /// Runs `work`, which changes nothing, on a snapshot of the database. Does not wait for another
    /// program's lock.
    pub(super) fn read<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Database) -> Result<T, StoreError> + Send + 'static,
    {
        self.run("BEGIN", work)
    }

    fn run<T, F>(&self, begin: &'static str, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Database) -> Result<T, StoreError> + Send + 'static,
    {
        self.outside_transactions(move |database| database.in_transaction(begin, work))
    }

    /// Runs `work` without an open transaction.
    pub(super) fn outside_transactions<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Database) -> Result<T, StoreError> + Send + 'static,
    {
        let (answer, result) = mpsc::sync_channel(1);
        let job: Job = Box::new(move |database| {
            let _ = answer.send(work(database));
        });
        self.jobs.as_ref().ok_or(StoreError::Stopped)?.send(job).map_err(|_| StoreError::Stopped)?;
        result.recv().map_err(|_| StoreError::Stopped)?
    }
}

impl Drop for StoreThread {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(handle) = self.handle.take() {
            let _ = handle.join();
        }
    }
}

impl Database {
    fn open(path: PathBuf, opening: Opening) -> Result<Self, StoreError> {
        if opening != Opening::Create && !path.exists() {
            return Err(StoreError::Absent { path, reason: "no such file".into() });
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(|error| StoreError::Absent { path: path.clone(), reason: error.to_string() })?;
        // No statement is cached: sqlx (0.9.0) indexes past the end of a row after another program
        // has added a column.
        let options = SqliteConnectOptions::new().statement_cache_capacity(0);
        let options = options.filename(&path).foreign_keys(true).busy_timeout(BUSY_TIMEOUT);
        let options = match opening {
            Opening::Read => options.read_only(true),
            Opening::Create | Opening::Write => options
                .create_if_missing(opening == Opening::Create)
                .journal_mode(SqliteJournalMode::Wal)
                .synchronous(SqliteSynchronous::Full),
        };
        let connection = runtime
            .block_on(SqliteConnection::connect_with(&options))
            .map_err(|error| StoreError::from_sqlx(&path, error))?;
        let mut database = Self { path, opening, runtime, connection, log_state: LogState::default() };
        let (version, reads) = (database.version()?, newest_version());
        if version > reads {
            return Err(StoreError::NewerVersion { path: database.path.clone(), version, reads });
        }
        if opening != Opening::Read {
            database.migrate()?;
            database.check_writable()?;
        }
        Ok(database)
    }

    /// Opens an empty in-memory database with the newest schema.
    pub(super) fn in_memory() -> Result<Self, StoreError> {
        let path = PathBuf::from(":memory:");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(|error| StoreError::Absent { path: path.clone(), reason: error.to_string() })?;
        let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
        let connection = runtime
            .block_on(SqliteConnection::connect_with(&options))
            .map_err(|error| StoreError::from_sqlx(&path, error))?;
        let mut database = Self { path, opening: Opening::Create, runtime, connection, log_state: LogState::default() };
        database.migrate()?;
        Ok(database)
    }

    fn migrate(&mut self) -> Result<(), StoreError> {
        self.runtime.block_on(migrator().run(&mut self.connection)).map_err(|error| match error {
            sqlx::migrate::MigrateError::Execute(error) | sqlx::migrate::MigrateError::ExecuteMigration(error, _) => {
                StoreError::from_sqlx(&self.path, error)
            }
            other => StoreError::Migration { path: self.path.clone(), reason: other.to_string() },
        })
    }

    /// Returns the number of the newest applied migration; 0 in a new database.
    pub(super) fn version(&mut self) -> Result<i64, StoreError> {
        let table = sqlx::query("SELECT name FROM sqlite_schema WHERE name = '_sqlx_migrations'");
        if self.query_one(table, |row| row.get::<String>("name"))?.is_none() {
            return Ok(0);
        }
        let newest = sqlx::query("SELECT COALESCE(MAX(version), 0) AS version FROM _sqlx_migrations");
        Ok(self.query_one(newest, |row| row.get::<i64>("version"))?.unwrap_or_default())
    }

    /// Checks that the file can be written. Otherwise the first change would fail, in the middle of
    /// an enrollment.
    fn check_writable(&mut self) -> Result<(), StoreError> {
        self.in_transaction("BEGIN IMMEDIATE", |database| {
            database.run(sqlx::query("UPDATE identity SET only_row = 1 WHERE only_row = 1")).map(|_| ())
        })
    }

    fn in_transaction<T>(
        &mut self,
        begin: &'static str,
        work: impl FnOnce(&mut Self) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        // A read-only connection cannot take the write lock.
        self.run(sqlx::query(if self.opening == Opening::Read { "BEGIN" } else { begin }))?;
        match work(self) {
            Ok(value) => match self.run(sqlx::query("COMMIT")) {
                Ok(_) => {
                    self.log_state.committed();
                    Ok(value)
                }
                Err(error) => self.roll_back(error),
            },
            Err(error) => self.roll_back(error),
        }
    }

    fn roll_back<T>(&mut self, error: StoreError) -> Result<T, StoreError> {
        let _ = self.run(sqlx::query("ROLLBACK"));
        self.log_state.rolled_back();
        Err(error)
    }

    /// The path of the database file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn close(self) {
        let _ = self.runtime.block_on(self.connection.close());
    }

    /// Runs a statement; the result has the number of changed rows.
    pub(super) fn run(&mut self, query: Query<'_, Sqlite, SqliteArguments>) -> Result<SqliteQueryResult, StoreError> {
        self.runtime.block_on(query.execute(&mut self.connection)).map_err(|e| StoreError::from_sqlx(&self.path, e))
    }

    /// Runs a statement that must change exactly one row; otherwise fails with a conflict over
    /// `what`.
    pub(super) fn execute_one(
        &mut self,
        query: Query<'_, Sqlite, SqliteArguments>,
        what: &'static str,
    ) -> Result<(), StoreError> {
        if self.run(query)?.rows_affected() == 1 { Ok(()) } else { Err(StoreError::Conflict(what)) }
    }

    /// Returns the first row, parsed by `read`.
    pub(super) fn query_one<T>(
        &mut self,
        query: Query<'_, Sqlite, SqliteArguments>,
        read: impl Fn(&Row<'_>) -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        let row = self
            .runtime
            .block_on(query.fetch_optional(&mut self.connection))
            .map_err(|error| StoreError::from_sqlx(&self.path, error))?;
        row.map(|row| read(&Row { path: &self.path, row: &row })).transpose()
    }

    /// Returns every readable row. The program's log reports the others, which do not affect the
    /// result.
    pub(super) fn readable<T>(
        &mut self,
        query: Query<'_, Sqlite, SqliteArguments>,
        read: impl Fn(&Row<'_>) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        let rows = self.query_all(query, |row| Ok(row.readable(&read)))?;
        Ok(rows.into_iter().flatten().collect())
    }

    /// Returns every row, parsed by `read`.
    pub(super) fn query_all<T>(
        &mut self,
        query: Query<'_, Sqlite, SqliteArguments>,
        read: impl Fn(&Row<'_>) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        let rows = self
            .runtime
            .block_on(query.fetch_all(&mut self.connection))
            .map_err(|error| StoreError::from_sqlx(&self.path, error))?;
        rows.iter().map(|row| read(&Row { path: &self.path, row })).collect()
    }
}

/// A row with columns by name. A value of the wrong type makes only this row unreadable
/// ([`StoreError::UnreadableRow`]).
pub(super) struct Row<'r> {
    path: &'r Path,
    row: &'r SqliteRow,
}

impl<'r> Row<'r> {
    /// Parses the row with `read`; logs an unreadable row and returns `None`.
    pub(super) fn readable<T>(&self, read: impl Fn(&Self) -> Result<T, StoreError>) -> Option<T> {
        read(self).inspect_err(|error| tracing::error!(%error, "a row was altered in the database; skipped")).ok()
    }

    /// Returns the column's value.
    pub(super) fn get<T>(&self, column: &str) -> Result<T, StoreError>
    where
        T: sqlx::Decode<'r, Sqlite> + sqlx::Type<Sqlite>,
    {
        use sqlx::Row as _;
        self.row.try_get_unchecked(column).map_err(|error| self.unreadable(&error.to_string()))
    }

    /// Returns the column's value, in seconds since 1970, as a timestamp.
    pub(super) fn time(&self, column: &str) -> Result<jiff::Timestamp, StoreError> {
        let seconds: i64 = self.get(column)?;
        jiff::Timestamp::from_second(seconds).map_err(|error| self.unreadable(&error.to_string()))
    }

    /// Like [`Row::time`], for a column that may be NULL.
    pub(super) fn optional_time(&self, column: &str) -> Result<Option<jiff::Timestamp>, StoreError> {
        let seconds: Option<i64> = self.get(column)?;
        let time = seconds.map(jiff::Timestamp::from_second).transpose();
        time.map_err(|error| self.unreadable(&error.to_string()))
    }

    /// Parses the column's text into one of the enums of the schema.
    pub(super) fn parsed<T: std::str::FromStr>(&self, column: &str) -> Result<T, StoreError> {
        let text: String = self.get(column)?;
        text.parse().map_err(|_| self.unreadable(&format!("column {column} holds {text:?}")))
    }

    /// Returns the column's bytes, which must be 32: a SHA-256 digest or an HMAC.
    pub(super) fn digest(&self, column: &str) -> Result<[u8; 32], StoreError> {
        let bytes: Vec<u8> = self.get(column)?;
        bytes.try_into().map_err(|_| self.unreadable(&format!("column {column} is not 32 bytes long")))
    }

    /// Returns the column's 32 bytes. Any other value becomes one that no digest or MAC has, so
    /// that the check of this row fails and not the reading of all rows.
    pub(super) fn any_digest(&self, column: &str) -> [u8; 32] {
        self.any_bytes(column).and_then(|bytes| bytes.try_into().ok()).unwrap_or(NO_DIGEST)
    }

    /// Like [`Row::any_digest`], for a column that may be NULL or (in an older version's database)
    /// missing.
    pub(super) fn optional_digest(&self, column: &str) -> Option<[u8; 32]> {
        self.any_bytes(column).map(|bytes| bytes.try_into().unwrap_or(NO_DIGEST))
    }

    /// Returns the column's text, lossily converted; empty for NULL or a value of another type.
    pub(super) fn any_text(&self, column: &str) -> String {
        String::from_utf8_lossy(&self.any_bytes(column).unwrap_or_default()).into_owned()
    }

    pub(super) fn any_bytes(&self, column: &str) -> Option<Vec<u8>> {
        self.get::<Option<Vec<u8>>>(column).ok().flatten()
    }

    fn unreadable(&self, reason: &str) -> StoreError {
        StoreError::UnreadableRow { path: self.path.to_path_buf(), reason: reason.into() }
    }
}
