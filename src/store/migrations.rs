//! The migrations of the database's schema.
//!
//! They are the files in `migrations/`, compiled in. sqlx's macro `migrate!` would find the files
//! itself, but its crate compiles sqlx and SQLite a second time, for the compiler.

use sqlx::SqlSafeStr as _;
use sqlx::migrate::{Migration, MigrationType, Migrator};

/// Version, description and SQL of each migration, as sqlx derives them from the file's name. The
/// table `_sqlx_migrations` stores version, description and the SHA-384 digest of the SQL.
const MIGRATIONS: [(i64, &str, &str); 3] = [
    (1, "first", include_str!("../../migrations/0001_first.sql")),
    (2, "sealed log", include_str!("../../migrations/0002_sealed_log.sql")),
    (3, "added administrators", include_str!("../../migrations/0003_added_administrators.sql")),
];

/// Returns the migrator from any earlier schema to the newest one.
pub(super) fn migrator() -> Migrator {
    let migration = |(version, description, sql): (i64, &'static str, &'static str)| {
        Migration::new(version, description.into(), MigrationType::Simple, sql.into_sql_str(), false)
    };
    Migrator::with_migrations(MIGRATIONS.map(migration).into())
}

/// Returns the version of the newest migration in this program.
pub(super) fn newest_version() -> i64 {
    MIGRATIONS.iter().map(|(version, ..)| *version).max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn every_file_of_migrations_is_compiled_in() {
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations");
        let mut files: Vec<_> = fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .map(|path| (path.file_stem().unwrap().to_str().unwrap().to_owned(), fs::read_to_string(path).unwrap()))
            .collect();
        files.sort();
        let listed = MIGRATIONS.map(|(version, description, text)| {
            (format!("{version:04}_{}", description.replace(' ', "_")), text.to_owned())
        });
        assert_eq!(listed.as_slice(), files);
    }
}
