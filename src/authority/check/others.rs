//! Checks rows without a seal (transactions and statements), and finds roles without a row.

use super::{DatabaseCheck, ROWS_PER_PAGE};
use crate::authority::AuthorityError;
use crate::authority::audit_state::AuditState;
use crate::store::{
    CertificateKind, CertificateRecord, CertificateState, Role, Store, StoreError, TransactionRecord, TransactionState,
};

impl DatabaseCheck<'_> {
    /// Checks the schema, the types of values, and log rows that the walk does not reach. The
    /// schema of an older version is upgraded by the next start.
    ///
    /// Returns whether tables and columns can be read.
    pub(super) fn form(&mut self) -> Result<bool, AuthorityError> {
        let mut is_readable = true;
        if self.is_of_this_version() {
            for problem in self.store.schema_problems()? {
                is_readable = false;
                self.add_finding("database", problem);
            }
            match self.store.ill_typed_values() {
                Err(error @ StoreError::Database { .. }) if !is_readable => {
                    self.add_finding("database", format!("check of values incomplete: {error}"));
                }
                problems => {
                    for problem in problems? {
                        self.add_finding("database", problem);
                    }
                }
            }
        }
        match self.store.stray_log_rows() {
            Ok(0) => {}
            Err(error @ StoreError::Database { .. }) if !is_readable => {
                self.add_finding("log", format!("rows cannot be counted: {error}"));
            }
            stray => {
                let stray = stray?;
                self.add_finding("log", format!("{stray} rows have a number that no entry can have"));
            }
        }
        Ok(is_readable)
    }

    fn is_of_this_version(&self) -> bool {
        self.report.schema == Store::newest_schema()
    }

    /// Lists roles that the log records and that have no row. Skipped where roles are read from an
    /// older version's tables.
    pub(super) fn missing_roles(&mut self, audit_state: Option<&AuditState>) -> Result<(), AuthorityError> {
        let audit_state = audit_state.filter(|_| self.is_of_this_version());
        for holder in audit_state.map(|audit_state| audit_state.holders(Role::Administrator)).unwrap_or_default() {
            let grant = self.store.grant(&holder, Role::Administrator).map_err(AuthorityError::from);
            match grant {
                // Listed earlier.
                Err(error) if error.is_of_one_record() => continue,
                Ok(Some(_)) => continue,
                other => drop(other?),
            }
            let email = self.store.user(&holder).ok().flatten().map_or(holder, |user| user.email);
            self.add_finding("role", format!("administrator of {email}: recorded in the log, but the row is missing"));
        }
        Ok(())
    }

    /// Checks transactions, which have no seal: the letter decides whether one is active and whose
    /// it is.
    pub(super) fn transactions(&mut self, audit_state: Option<&AuditState>) -> Result<(), AuthorityError> {
        let store = self.store;
        self.each(
            "transaction",
            |row| store.transactions_after(row, ROWS_PER_PAGE),
            |check, transaction| {
                let id = hex::encode(&transaction.transaction_id);
                let letter = store.temporary_key(&transaction.reference)?;
                if letter.is_none_or(|letter| letter.user_id != transaction.user_id) {
                    check.add_finding("transaction", format!("{id}: its user is not the user of its letter"));
                }
                // Read twice: a running authority may just have changed the row.
                if transaction_differs(audit_state, &transaction)
                    && store
                        .transaction(&transaction.transaction_id)?
                        .is_some_and(|transaction| transaction_differs(audit_state, &transaction))
                {
                    let row = transaction.state;
                    check.add_finding("transaction", format!("{id}: the state {row} of its row contradicts the log"));
                }
                Ok(())
            },
        )
    }

    /// Lists statements that the log does not name. The walk has checked the named ones as
    /// evidence.
    pub(super) fn statements(&mut self, audit_state: Option<&AuditState>) -> Result<(), AuthorityError> {
        let store = self.store;
        self.each(
            "statement",
            |row| store.statements_after(row, ROWS_PER_PAGE),
            |check, record| {
                if audit_state.is_some_and(|audit_state| !audit_state.is_statement_used(&record.digest)) {
                    let digest = hex::encode(record.digest);
                    check.add_finding("statement", format!("{digest}: not in the log"));
                }
                Ok(())
            },
        )
    }
}

fn transaction_differs(audit_state: Option<&AuditState>, transaction: &TransactionRecord) -> bool {
    let is_open = matches!(transaction.state, TransactionState::Begun | TransactionState::Answered);
    audit_state.is_some_and(|audit_state| {
        audit_state.is_claimed_by(&transaction.reference, &transaction.transaction_id) != is_open
    })
}

/// Whether the row of one of the authority's own certificates contradicts the log. The database's
/// identity determines the CA certificate.
pub(super) fn own_differs(audit_state: Option<&AuditState>, record: &CertificateRecord) -> bool {
    let (kind, serial) = (record.intent.kind, &record.intent.serial);
    kind != CertificateKind::Ca
        && audit_state.is_some_and(|audit_state| {
            audit_state.is_authority_current(kind, serial) != (record.state == CertificateState::Current)
        })
}
