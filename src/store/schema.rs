//! The form of the database: compared with the form that the migrations give to an empty one.

use std::collections::BTreeMap;

use super::thread::{Database, Opening, StoreThread};
use super::{Store, StoreError};

/// Values of a wrong type that are listed of one table.
const LISTED: u32 = 100;

/// A table's column, as the migrations make it.
struct Column {
    name: String,
    /// What SQLite's `typeof` may say of a value.
    types: &'static str,
}

impl Store {
    /// What of the database's form is not as the migrations make it: tables, indexes, triggers and views that are other,
    /// too many or gone. Tables that SQLite makes for itself (`ANALYZE`) are nobody's concern.
    pub fn schema_problems(&self) -> Result<Vec<String>, StoreError> {
        self.beside(|database| {
            let expected = Database::in_memory()?.form()?;
            let mut found = database.form()?;
            let mut problems = Vec::new();
            for (name, sql) in expected {
                match found.remove(&name) {
                    None => problems.push(format!("the {} {} is gone", name.0, name.1)),
                    Some(other) if other != sql => {
                        problems.push(format!("the {} {} is not as this program makes it", name.0, name.1));
                    }
                    Some(_) => {}
                }
            }
            problems.extend(found.into_keys().map(|(kind, name)| format!("this program makes no {kind} {name}")));
            Ok(problems)
        })
    }

    /// Values that are of another type than their column, in the tables that are there: SQLite keeps
    /// text in a column of bytes, and the other way round.
    pub fn ill_typed_values(&self) -> Result<Vec<String>, StoreError> {
        self.beside(|database| {
            let mut fresh = Database::in_memory()?;
            let found = database.form()?;
            let mut problems = Vec::new();
            for (kind, table) in fresh.form()?.into_keys() {
                let is_there = found.contains_key(&(kind.clone(), table.clone()));
                if kind != "table" || table == "_sqlx_migrations" || !is_there {
                    continue;
                }
                let columns = fresh.columns(&table)?;
                problems.extend(database.ill_typed(&table, &columns)?);
            }
            Ok(problems)
        })
    }

    /// How many rows of the log lie where nobody who walks it comes by: its entries are numbered from 1 on.
    pub fn stray_log_rows(&self) -> Result<u64, StoreError> {
        self.beside(|database| {
            let sql = "SELECT COUNT(*) AS stray FROM audit WHERE typeof(number) <> 'integer' OR number < 1";
            let stray = database.one(sqlx::query(sql), |row| row.get::<i64>("stray"))?;
            Ok(stray.unwrap_or_default().unsigned_abs())
        })
    }

    /// Reads on a connection of its own: others need not wait for it, however large the database is.
    pub(super) fn beside<T: Send + 'static>(
        &self,
        read: impl FnOnce(&mut Database) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        StoreThread::start(self.path(), Opening::Read)?.read(read)
    }
}

impl Database {
    /// Kind and name of all that the database is made of, with the SQL that made it.
    fn form(&mut self) -> Result<BTreeMap<(String, String), String>, StoreError> {
        let sql = "SELECT type, name, tbl_name || ': ' || COALESCE(sql, '') AS form FROM sqlite_schema
                   WHERE type <> 'table' OR name NOT LIKE 'sqlite_stat%'";
        let all =
            self.all(sqlx::query(sql), |row| Ok(((row.any_text("type"), row.any_text("name")), row.any_text("form"))))?;
        Ok(all.into_iter().collect())
    }

    fn columns(&mut self, table: &str) -> Result<Vec<Column>, StoreError> {
        let sql = "SELECT name, type, \"notnull\" + pk AS must_be FROM pragma_table_info($1)";
        self.all(sqlx::query(sql).bind(table.to_owned()), |row| {
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
        self.all(sqlx::query(sqlx::AssertSqlSafe(sql)).bind(LISTED), |row| {
            let (place, column): (i64, String) = (row.get("place")?, row.get("wrong")?);
            Ok(format!("row {place} of {table}: {column} is of another type than its column"))
        })
    }
}
