//! Rows that carry no seal: transactions, statements, and roles whose rows are gone.

use super::{Check, PAGE};
use crate::authority::AuthorityError;
use crate::authority::ended::Ended;
use crate::store::{
    CertificateKind, CertificateRecord, CertificateState, Role, Store, StoreError, TransactionRecord, TransactionState,
};

impl Check<'_> {
    /// The form of the database, the types of its values, and rows where nobody who walks the log comes by. An older
    /// version's is brought to this form by the next start.
    ///
    /// Whether tables and columns are there to be read.
    pub(super) fn form(&mut self) -> Result<bool, AuthorityError> {
        let mut is_readable = true;
        if self.is_of_this_version() {
            for problem in self.store.schema_problems()? {
                is_readable = false;
                self.found("database", problem);
            }
            match self.store.ill_typed_values() {
                Err(error @ StoreError::Database { .. }) if !is_readable => {
                    self.found("database", format!("not all values could be checked: {error}"));
                }
                problems => {
                    for problem in problems? {
                        self.found("database", problem);
                    }
                }
            }
        }
        match self.store.stray_log_rows() {
            Ok(0) => {}
            Err(error @ StoreError::Database { .. }) if !is_readable => {
                self.found("log", format!("its rows could not be counted: {error}"));
            }
            stray => {
                let stray = stray?;
                self.found("log", format!("{stray} of its rows have no number that an entry can have"));
            }
        }
        Ok(is_readable)
    }

    fn is_of_this_version(&self) -> bool {
        self.report.schema == Store::newest_schema()
    }

    /// Roles of which the log tells, and which have no row. Where roles are read from an older version's tables it is not
    /// asked.
    pub(super) fn missing_roles(&mut self, ended: Option<&Ended>) -> Result<(), AuthorityError> {
        let ended = ended.filter(|_| self.is_of_this_version());
        for holder in ended.map(|ended| ended.holders(Role::Administrator)).unwrap_or_default() {
            let grant = self.store.grant(&holder, Role::Administrator).map_err(AuthorityError::from);
            match grant {
                // It was found already.
                Err(error) if error.is_of_one_record() => continue,
                Ok(Some(_)) => continue,
                other => drop(other?),
            }
            let email = self.store.user(&holder).ok().flatten().map_or(holder, |user| user.email);
            self.found("role", format!("administrator of {email}: the log has it, and its row is gone"));
        }
        Ok(())
    }

    /// Transactions have no seal. Whether each is under way, and whose it is, is known from its letter.
    pub(super) fn transactions(&mut self, ended: Option<&Ended>) -> Result<(), AuthorityError> {
        let store = self.store;
        self.each(
            "transaction",
            |row| store.transactions_after(row, PAGE),
            |check, transaction| {
                let id = hex::encode(&transaction.transaction_id);
                let letter = store.temporary_key(&transaction.reference)?;
                if letter.is_none_or(|letter| letter.user_id != transaction.user_id) {
                    check.found("transaction", format!("{id}: it is not that of its letter's user"));
                }
                // Looked at twice: a running authority may just have changed it.
                if transaction_differs(ended, &transaction)
                    && store
                        .transaction(&transaction.transaction_id)?
                        .is_some_and(|transaction| transaction_differs(ended, &transaction))
                {
                    let row = transaction.state;
                    check.found("transaction", format!("{id}: its row says {row}, and the log does not"));
                }
                Ok(())
            },
        )
    }

    /// Statements that the log does not know. Those that it knows are its evidence, and were checked as that.
    pub(super) fn statements(&mut self, ended: Option<&Ended>) -> Result<(), AuthorityError> {
        let store = self.store;
        self.each(
            "statement",
            |row| store.statements_after(row, PAGE),
            |check, record| {
                if ended.is_some_and(|ended| !ended.is_statement_taken(&record.digest)) {
                    let digest = hex::encode(record.digest);
                    check.found("statement", format!("{digest}: the log does not know it"));
                }
                Ok(())
            },
        )
    }
}

fn transaction_differs(ended: Option<&Ended>, transaction: &TransactionRecord) -> bool {
    let is_open = matches!(transaction.state, TransactionState::Begun | TransactionState::Answered);
    ended.is_some_and(|ended| ended.is_claimed_by(&transaction.reference, &transaction.transaction_id) != is_open)
}

/// Whether the row of one of the authority's own certificates says something else than the log. The CA's is known by the
/// database's identity.
pub(super) fn own_differs(ended: Option<&Ended>, record: &CertificateRecord) -> bool {
    let (kind, serial) = (record.intent.kind, &record.intent.serial);
    kind != CertificateKind::Ca
        && ended.is_some_and(|ended| ended.is_own_current(kind, serial) != (record.state == CertificateState::Current))
}
