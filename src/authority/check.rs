//! `authority check`: verifies every seal, signature and hash in the database once.
//!
//! It changes nothing and refuses nothing: it lists the problems. The database of a stopped
//! authority is opened read-only, with the token opened for this check, and an older version's
//! database is not upgraded. A running authority checks itself page by page, while it serves
//! requests.

mod log;
mod named;
mod others;

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::audit_state::AuditState;
use super::log_verifier::LogVerifier;
use super::opening::OpenedAuthority;
use super::records::VerifiedRecords;
use super::seal::Sealer;
use super::{AuthorityError, Configuration, expiry};
use crate::pki::Certificate;
use crate::store::{
    CertificateKind, CertificateRecord, CertificateState, ListedRow, Role, Store, StoreError, TemporaryKeyRecord,
};
use crate::token::Pin;

/// Rows per database query.
const ROWS_PER_PAGE: u32 = 500;
/// The number of findings listed per concern; the rest is only counted.
const MAX_LISTED_FINDINGS: usize = 100;

/// The result of a check: row counts and problems.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseCheckReport {
    /// The schema version of the database: the number of its newest migration.
    pub schema: i64,
    /// A note on a database that is only old, with the next step.
    pub note: Option<String>,
    /// The number of valid entries of the audit log, from the first one.
    pub log_entries: u64,
    /// The number of users checked.
    pub users: u64,
    /// The number of letters checked.
    pub letters: u64,
    /// The number of users' certificates checked.
    pub certificates: u64,
    /// The number of archived keys checked.
    pub archived_keys: u64,
    /// Whether the log's end was compared with the memory of the running authority that wrote it.
    /// With a stopped authority a truncated end cannot be detected.
    pub log_end_known: bool,
    /// The problems found.
    pub findings: Vec<DatabaseFinding>,
    /// One sentence for each certificate in use that expires soon or has expired, of the authority
    /// itself and its administrators.
    #[serde(default)]
    pub ending: Vec<String>,
}

/// One problem in the database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseFinding {
    /// The subject: `database`, `log`, `user`, `role`, `letter`, `certificate`, `archived-key`,
    /// `transaction` or `statement`.
    pub concern: String,
    /// The record and its problem.
    pub what: String,
}

/// Checks the rows of one kind, against the audit log's state if that is known.
type RowCheck<'a> = fn(&mut DatabaseCheck<'a>, Option<&AuditState>) -> Result<(), AuthorityError>;

/// A check in progress.
struct DatabaseCheck<'a> {
    log: LogVerifier<'a>,
    store: &'a Store,
    sealer: &'a Sealer,
    ca: &'a Certificate,
    now: Timestamp,
    /// The addresses of the administrators, by user id.
    administrators: HashMap<String, String>,
    /// The number of findings by concern.
    occurrences: BTreeMap<String, usize>,
    /// Whether all tables and columns can be read.
    is_readable: bool,
    report: DatabaseCheckReport,
}

/// Checks the database of a running authority.
pub(super) fn check_running(log: LogVerifier<'_>, now: Timestamp) -> Result<DatabaseCheckReport, AuthorityError> {
    DatabaseCheck::new(log, now).run(Some(&log.records.audit_state))
}

/// Checks the database of a stopped authority, with its token opened for this.
pub(super) fn check_stopped(configuration: &Configuration, pin: &Pin) -> Result<DatabaseCheckReport, AuthorityError> {
    let store = Store::open_to_read(&configuration.database())?;
    let OpenedAuthority { keys, records, .. } =
        OpenedAuthority::open(store, configuration, pin, "check the authority")?;
    DatabaseCheck::new(LogVerifier { records: &records, keys: &keys }, Timestamp::now()).run(None)
}

impl<'a> DatabaseCheck<'a> {
    fn new(log: LogVerifier<'a>, now: Timestamp) -> Self {
        let VerifiedRecords { store, sealer, ca, .. } = log.records;
        let (administrators, occurrences, report) = (HashMap::new(), BTreeMap::new(), DatabaseCheckReport::default());
        Self { log, store, sealer, ca, now, administrators, occurrences, is_readable: true, report }
    }
}

impl DatabaseCheck<'_> {
    /// `running` is the audit-log state of a running authority, whose log grows during the walk.
    fn run(mut self, running: Option<&AuditState>) -> Result<DatabaseCheckReport, AuthorityError> {
        self.report.schema = self.store.schema_version()?;
        for problem in self.store.quick_check()? {
            self.add_finding("database", problem);
        }
        self.is_readable = self.form()?;
        self.report.log_end_known = running.is_some();
        let walked = AuditState::default();
        let is_whole = self.walk_log(&walked)?;
        // A log with a gap cannot be compared with the rows: the entries after the gap are unknown.
        let audit_state = running.or_else(|| is_whole.then_some(&walked));
        let rows: [(&str, RowCheck<'_>); 9] = [
            ("user", Self::users),
            ("role", Self::roles),
            ("letter", Self::letters),
            ("certificate", Self::certificates),
            ("archived-key", |check, _| check.archived_keys()),
            ("role", Self::missing_roles),
            ("transaction", Self::transactions),
            ("statement", Self::statements),
            ("certificate", |check, _| check.own_certificates()),
        ];
        for (concern, check_rows) in rows {
            match check_rows(&mut self, audit_state) {
                Err(error) if self.was_listed(&error) => {
                    self.add_finding(concern, format!("check incomplete: {error}"));
                }
                checked => checked?,
            }
        }
        self.summarize();
        Ok(self.report)
    }

    /// Whether a missing table or column, listed earlier, caused the error; other rows are still
    /// checked.
    fn was_listed(&self, error: &AuthorityError) -> bool {
        !self.is_readable && matches!(error, AuthorityError::Store(StoreError::Database { .. }))
    }

    /// Checks the seals of users.
    fn users(&mut self, audit_state: Option<&AuditState>) -> Result<(), AuthorityError> {
        let store = self.store;
        self.each(
            "user",
            |row| store.users_after(row, ROWS_PER_PAGE),
            |check, user| {
                check.report.users += 1;
                if audit_state.is_some_and(|audit_state| !audit_state.knows_user(&user.id)) {
                    check.add_finding("user", format!("{}: not in the log", user.email));
                }
                let checked = check.sealer.check_user(user.clone()).map(drop);
                check.seal("user", &user.email, checked)
            },
        )
    }

    /// Checks the seals of roles.
    fn roles(&mut self, audit_state: Option<&AuditState>) -> Result<(), AuthorityError> {
        let store = self.store;
        self.each(
            "role",
            |row| store.grants_after(row, ROWS_PER_PAGE),
            |check, grant| {
                let user = match store.user(&grant.user_id).map_err(AuthorityError::from) {
                    Err(error) if error.is_of_one_record() => None,
                    found => found?,
                };
                let Some(user) = user else {
                    check.add_finding("role", format!("{} of {}: no such user", grant.role, grant.user_id));
                    return Ok(());
                };
                let name = format!("{} of {}", grant.role, user.email);
                if audit_state.is_some_and(|audit_state| !audit_state.has_role(&grant.user_id, grant.role)) {
                    check
                        .add_finding("role", format!("{name}: according to the log, this user does not have the role"));
                }
                let role = grant.role;
                let checked = check.sealer.check_grant(grant, &user).map(drop);
                if checked.is_ok() && role == Role::Administrator {
                    check.administrators.insert(user.id.clone(), user.email.clone());
                }
                check.seal("role", &name, checked)
            },
        )
    }

    /// Checks the letters' seals, and compares each row's state with the log.
    fn letters(&mut self, audit_state: Option<&AuditState>) -> Result<(), AuthorityError> {
        let store = self.store;
        self.each(
            "letter",
            |row| store.letters_after(row, ROWS_PER_PAGE),
            |check, letter| {
                check.report.letters += 1;
                let checked = check.sealer.check_temporary_key(letter.clone()).map(drop);
                check.seal("letter", &letter.reference, checked)?;
                // Read twice: a running authority may just have changed the row.
                if letter_differs(audit_state, &letter)
                    && store
                        .temporary_key(&letter.reference)?
                        .is_some_and(|letter| letter_differs(audit_state, &letter))
                {
                    check.add_finding(
                        "letter",
                        format!("{}: the state {} of its row contradicts the log", letter.reference, letter.state),
                    );
                }
                Ok(())
            },
        )
    }

    /// Checks the CA's signature on users' certificates, and compares each row's state with the
    /// log.
    fn certificates(&mut self, audit_state: Option<&AuditState>) -> Result<(), AuthorityError> {
        let store = self.store;
        self.each(
            "certificate",
            |row| store.certificates_after(row, ROWS_PER_PAGE),
            |check, record| {
                if record.intent.user_id.is_none() {
                    let (serial, row) = (&record.intent.serial, record.state);
                    if others::own_differs(audit_state, &record) {
                        check.add_finding(
                            "certificate",
                            format!("{serial}: the state {row} of its row contradicts the log"),
                        );
                    }
                    return Ok(());
                }
                check.report.certificates += 1;
                let serial = &record.intent.serial;
                let is_signed = record.certificate.as_deref().is_none_or(|der| {
                    Certificate::from_der(der).is_ok_and(|found| {
                        found.serial().to_string() == *serial && found.verify_signature(check.ca).is_ok()
                    })
                });
                if !is_signed {
                    check.add_finding("certificate", format!("{serial}: the CA did not sign it"));
                }
                if is_signed && record.intent.kind == CertificateKind::Signing {
                    check.ending_administrator(&record);
                }
                if certificate_differs(audit_state, &record)
                    && store.certificate(serial)?.is_some_and(|record| certificate_differs(audit_state, &record))
                {
                    check.add_finding(
                        "certificate",
                        format!("{serial}: the state {} of its row contradicts the log", record.state),
                    );
                }
                Ok(())
            },
        )
    }

    /// Checks the seals of archived keys.
    fn archived_keys(&mut self) -> Result<(), AuthorityError> {
        let store = self.store;
        self.each(
            "archived-key",
            |row| store.archived_keys_after(row, ROWS_PER_PAGE),
            |check, record| {
                check.report.archived_keys += 1;
                let name = hex::encode(record.certificate_sha256);
                let checked = check.sealer.check_archived_key(record).map(drop);
                check.seal("archived-key", &name, checked)
            },
        )
    }

    /// Lists the expiry of an administrator's certificate that is in use.
    fn ending_administrator(&mut self, record: &CertificateRecord) {
        let email = record.intent.user_id.as_ref().and_then(|user| self.administrators.get(user));
        let Some(email) = email.filter(|_| record.state == CertificateState::Current) else { return };
        let certificate = record.certificate.as_deref().and_then(|der| Certificate::from_der(der).ok());
        let warning = certificate.and_then(|certificate| expiry::administrators(email, &certificate, self.now));
        self.report.ending.extend(warning);
    }

    /// Lists the expiry of the authority's own certificates. A stopped authority renews those of
    /// its services at the next start.
    fn own_certificates(&mut self) -> Result<(), AuthorityError> {
        self.report.ending.sort();
        for kind in [CertificateKind::Ca, CertificateKind::Response, CertificateKind::Tls] {
            let stored = match self.store.authority_certificate(kind) {
                // Listed earlier.
                Err(StoreError::UnreadableRow { .. }) => None,
                found => found?.and_then(|record| record.certificate),
            };
            let certificate = stored.and_then(|der| Certificate::from_der(&der).ok());
            let warning = certificate.and_then(|certificate| expiry::own(kind, &certificate, self.now));
            self.report.ending.extend(warning);
        }
        Ok(())
    }

    /// Passes each record of a table to `take`. An unreadable row is listed and does not affect the
    /// others.
    fn each<T>(
        &mut self,
        concern: &str,
        page: impl Fn(i64) -> Result<Vec<ListedRow<T>>, StoreError>,
        mut take: impl FnMut(&mut Self, T) -> Result<(), AuthorityError>,
    ) -> Result<(), AuthorityError> {
        let mut after = i64::MIN;
        loop {
            let rows = page(after)?;
            let Some(last) = rows.last() else { return Ok(()) };
            after = last.row;
            for ListedRow { row, name, record } in rows {
                match record {
                    Ok(record) => match take(self, record) {
                        Err(error) if error.is_of_one_record() => self.add_finding(concern, format!("{name}: {error}")),
                        other => other?,
                    },
                    Err(reason) => self.add_finding(concern, format!("{name} (row {row}): unreadable: {reason}")),
                }
            }
        }
    }

    fn seal(&mut self, concern: &str, name: &str, checked: Result<(), AuthorityError>) -> Result<(), AuthorityError> {
        match checked {
            Err(AuthorityError::Tampered(_)) => self.add_finding(concern, format!("{name}: invalid MAC")),
            other => other?,
        }
        Ok(())
    }

    /// Adds a finding. A row may contain anything, so control characters are escaped.
    fn add_finding(&mut self, concern: &str, what: String) {
        let is_plain = !what.contains(char::is_control);
        let what = if is_plain { what } else { what.escape_debug().to_string() };
        let occurrences = self.occurrences.entry(concern.to_owned()).or_default();
        *occurrences += 1;
        if *occurrences <= MAX_LISTED_FINDINGS {
            self.report.findings.push(DatabaseFinding { concern: concern.to_owned(), what });
        }
    }

    /// Adds the number of findings of each concern that are not listed.
    fn summarize(&mut self) {
        for (concern, occurrences) in std::mem::take(&mut self.occurrences) {
            if let Some(more) = occurrences.checked_sub(MAX_LISTED_FINDINGS).filter(|more| *more > 0) {
                self.add_finding(&concern, format!("and {more} more of this kind"));
            }
        }
    }
}

fn letter_differs(audit_state: Option<&AuditState>, letter: &TemporaryKeyRecord) -> bool {
    audit_state
        .is_some_and(|audit_state| audit_state.letter_state(&letter.reference, &letter.user_id) != Some(letter.state))
}

fn certificate_differs(audit_state: Option<&AuditState>, record: &CertificateRecord) -> bool {
    let (Some(audit_state), Some(user)) = (audit_state, &record.intent.user_id) else { return false };
    let logged = audit_state.certificate_state(user, record.intent.kind, &record.intent.serial, record.state);
    logged != Some(record.state)
}
