//! Compares the database's schema with the one that the migrations create in an empty database.

use std::collections::BTreeMap;

use super::thread::{Database, Opening, StoreThread};
use super::{Store, StoreError};

/// The maximum number of ill-typed values listed per table.
const MAX_LISTED_ROWS: u32 = 100;

/// A table's column, as the migrations create it.
struct Column {
    name: String,
    /// The results of SQLite's `typeof` that the column allows.
    types: &'static str,
}

impl Store {
    /// Lists differences from the schema of the migrations: missing, additional or different
    /// tables, indexes, triggers and views. SQLite's own tables (`ANALYZE`) are ignored.
    pub fn schema_problems(&self) -> Result<Vec<String>, StoreError> {
        self.on_separate_connection(|database| {
            let expected = Database::in_memory()?.form()?;
            let mut found = database.form()?;
            let mut problems = Vec::new();
            for (name, sql) in expected {
                match found.remove(&name) {
                    None => problems.push(format!("the {} {} is missing", name.0, name.1)),
                    Some(other) if other != sql => {
                        problems.push(format!("the {} {} differs from this program's schema", name.0, name.1));
                    }
                    Some(_) => {}
                }
            }
            problems
                .extend(found.into_keys().map(|(kind, name)| format!("this program's schema has no {kind} {name}")));
            Ok(problems)
        })
    }

    /// Lists values of a different type than their column, in the tables that exist: SQLite stores
    /// text in a bytes column, and vice versa.
    pub fn ill_typed_values(&self) -> Result<Vec<String>, StoreError> {
        self.on_separate_connection(|database| {
            let mut fresh = Database::in_memory()?;
            let found = database.form()?;
            let mut problems = Vec::new();
            for (kind, table) in fresh.form()?.into_keys() {
                let exists = found.contains_key(&(kind.clone(), table.clone()));
                if kind != "table" || table == "_sqlx_migrations" || !exists {
                    continue;
                }
                let columns = fresh.columns(&table)?;
                problems.extend(database.ill_typed(&table, &columns)?);
            }
            Ok(problems)
        })
    }

    /// Counts the log rows that a walk does not reach, because entries are numbered from 1.
    pub fn stray_log_rows(&self) -> Result<u64, StoreError> {
        self.on_separate_connection(|database| {
            let sql = "SELECT COUNT(*) AS stray FROM audit WHERE typeof(number) <> 'integer' OR number < 1";
            let stray = database.query_one(sqlx::query(sql), |row| row.get::<i64>("stray"))?;
            Ok(stray.unwrap_or_default().unsigned_abs())
        })
    }

    /// Reads on a separate connection, so that nobody waits for it, however large the database is.
    pub(super) fn on_separate_connection<T: Send + 'static>(
        &self,
        read: impl FnOnce(&mut Database) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        StoreThread::start(self.path(), Opening::Read)?.read(read)
    }
}

impl Database {
    /// Returns the SQL of every object of the schema, by kind and name.
    fn form(&mut self) -> Result<BTreeMap<(String, String), String>, StoreError> {
        let sql = "SELECT type, name, tbl_name || ': ' || COALESCE(sql, '') AS form FROM sqlite_schema
                   WHERE type <> 'table' OR name NOT LIKE 'sqlite_stat%'";
        let all = self.query_all(sqlx::query(sql), |row| {
            Ok(((row.any_text("type"), row.any_text("name")), row.any_text("form")))
        })?;
        Ok(all.into_iter().collect())
    }

    fn columns(&mut self, table: &str) -> Result<Vec<Column>, StoreError> {
        let sql = "SELECT name, type, \"notnull\" + pk AS must_be FROM pragma_table_info($1)";
        self.query_all(sqlx::query(sql).bind(table.to_owned()), |row| {
            let (kind, must_be): (String, i64) = (row.get("type")?, row.get("must_be")?);
            let types = match (kind.as_str(), must_be) {
                ("TEXT", 0) => "'text', 'null'",
                ("TEXT", _) => "'text'",
                ("BYTEA", 0) => "'blob', 'null'",
                ("BYTEA", _) => "'blob'",
                (_, 0) => "'integer', 'null'",
                (_, _) => "'integer'",
            };
            Ok(Column { name: row.get("name")?, types })
        })
    }

    fn ill_typed(&mut self, table: &str, columns: &[Column]) -> Result<Vec<String>, StoreError> {
        let is_wrong = |column: &Column| format!("typeof({}) NOT IN ({})", column.name, column.types);
        let cases: Vec<String> =
            columns.iter().map(|column| format!("WHEN {} THEN '{}'", is_wrong(column), column.name)).collect();
        let wrong = format!("CASE {} END", cases.join(" "));
        let sql = format!("SELECT rowid AS place, {wrong} AS wrong FROM {table} WHERE {wrong} IS NOT NULL LIMIT $1");
        self.query_all(sqlx::query(sqlx::AssertSqlSafe(sql)).bind(MAX_LISTED_ROWS), |row| {
            let (place, column): (i64, String) = (row.get("place")?, row.get("wrong")?);
            Ok(format!("row {place} of {table}: the value of {column} has a different type than the column"))
        })
    }
}
