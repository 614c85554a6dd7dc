//! `authority check`: everything in the database that carries a seal, a signature or a hash, looked at once.
//!
//! It changes nothing and refuses nothing: what does not hold is listed. A stopped authority's database is opened to be read
//! only, with the token opened for it, and an older version's stays one; a running authority checks itself, page by page,
//! while others go on.

mod log;
mod named;
mod others;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::ended::Ended;
use super::log_check::LogCheck;
use super::seal::Sealer;
use super::token_keys::TokenKeys;
use super::{
    Authority, AuthorityError, Configuration, check_identity, choose_token, ending, load_module, service_certificates,
};
use crate::pki::Certificate;
use crate::store::{
    CertificateKind, CertificateRecord, CertificateState, ListedRow, Role, Store, StoreError, TemporaryKeyRecord,
};
use crate::token::Pin;

/// Rows that are read at once.
const PAGE: u32 = 500;
/// Of one concern so many findings are listed; how many more there are is said.
const LISTED: usize = 100;

/// What a check has looked at, and what does not hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckReport {
    /// The version of the database's form: the number of its newest migration.
    pub schema: i64,
    /// What there is to know of a database that is only old, and what to do.
    pub note: Option<String>,
    /// Entries of the audit log that hold, from the first one on.
    pub log_entries: u64,
    /// Users that were checked.
    pub users: u64,
    /// Letters, likewise.
    pub letters: u64,
    /// Users' certificates, likewise.
    pub certificates: u64,
    /// Archived keys, likewise.
    pub archived_keys: u64,
    /// Whether the log's end was compared with the memory of the running authority, which wrote it. Of a stopped one an end
    /// that was cut off cannot be seen.
    pub log_end_known: bool,
    /// What does not hold.
    pub findings: Vec<CheckFinding>,
    /// Certificates in use that end soon, or have ended, the authority's own and its administrators': a sentence each.
    #[serde(default)]
    pub ending: Vec<String>,
}

/// One thing that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckFinding {
    /// What it is about: `database`, `log`, `user`, `role`, `letter`, `certificate`, `archived-key`,
    /// `transaction` or `statement`.
    pub concern: String,
    /// Which one, and what is wrong with it.
    pub what: String,
}

/// Checks the rows of one kind, by what has ended where that is known.
type RowCheck<'a> = fn(&mut Check<'a>, Option<&Ended>) -> Result<(), AuthorityError>;

/// A check under way.
struct Check<'a> {
    log: LogCheck<'a>,
    store: &'a Store,
    sealer: &'a Sealer,
    ca: &'a Certificate,
    now: Timestamp,
    /// Addresses of the administrators, by user id.
    administrators: HashMap<String, String>,
    /// How many findings there were of each concern.
    seen: BTreeMap<String, usize>,
    /// Tables and columns are there to be read.
    is_readable: bool,
    report: CheckReport,
}

impl Authority {
    /// Checks the database of this running authority.
    pub fn check(&self) -> Result<CheckReport, AuthorityError> {
        self.check_at(Timestamp::now())
    }

    pub(super) fn check_at(&self, now: Timestamp) -> Result<CheckReport, AuthorityError> {
        Check::new(self.log_check(), now).run(Some(&self.ended))
    }

    /// Checks the database of an authority that does not run, with its token opened for this.
    pub fn check_stopped(configuration: &Configuration, pin: &Pin) -> Result<CheckReport, AuthorityError> {
        let store = Store::open_to_read(&configuration.database())?;
        let identity = store.identity()?.ok_or(AuthorityError::Unfinished)?;
        let module = load_module(configuration)?;
        let token = module.open(&choose_token(configuration, &module, &identity)?)?;
        token.log_in(pin).map_err(|error| error.of_act("check the authority"))?;
        let keys = TokenKeys::find(&token)?;
        let ca = service_certificates::ca(&store)?;
        check_identity(&identity, &ca, &keys)?;
        let sealer = Sealer::new(&keys, identity.authority);
        let log = LogCheck { store: &store, keys: &keys, sealer: &sealer, ca: &ca };
        Check::new(log, Timestamp::now()).run(None)
    }
}

impl<'a> Check<'a> {
    fn new(log: LogCheck<'a>, now: Timestamp) -> Self {
        let LogCheck { store, sealer, ca, .. } = log;
        let (administrators, seen, report) = (HashMap::new(), BTreeMap::new(), CheckReport::default());
        Self { log, store, sealer, ca, now, administrators, seen, is_readable: true, report }
    }
}

impl Check<'_> {
    /// `running` is what a running authority knows has ended: its log goes on while it is walked.
    fn run(mut self, running: Option<&Arc<Ended>>) -> Result<CheckReport, AuthorityError> {
        self.report.schema = self.store.schema_version()?;
        for problem in self.store.quick_check()? {
            self.found("database", problem);
        }
        self.is_readable = self.form()?;
        self.report.log_end_known = running.is_some();
        let walked = Ended::default();
        let is_whole = self.walk_log(&walked)?;
        // Of a log with a gap rows cannot be compared with: what comes after the gap is not known.
        let ended = running.map(Arc::as_ref).or_else(|| is_whole.then_some(&walked));
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
            match check_rows(&mut self, ended) {
                Err(error) if self.was_listed(&error) => {
                    self.found(concern, format!("not all of them could be checked: {error}"));
                }
                checked => checked?,
            }
        }
        self.summarize();
        Ok(self.report)
    }

    /// A table or a column that is gone was found already; other rows are checked all the same.
    fn was_listed(&self, error: &AuthorityError) -> bool {
        !self.is_readable && matches!(error, AuthorityError::Store(StoreError::Database { .. }))
    }

    /// Users: their seals.
    fn users(&mut self, ended: Option<&Ended>) -> Result<(), AuthorityError> {
        let store = self.store;
        self.each(
            "user",
            |row| store.users_after(row, PAGE),
            |check, user| {
                check.report.users += 1;
                if ended.is_some_and(|ended| !ended.knows_user(&user.id)) {
                    check.found("user", format!("{}: the log does not know this user", user.email));
                }
                let checked = check.sealer.check_user(user.clone()).map(drop);
                check.seal("user", &user.email, checked)
            },
        )
    }

    /// Roles: their seals.
    fn roles(&mut self, ended: Option<&Ended>) -> Result<(), AuthorityError> {
        let store = self.store;
        self.each(
            "role",
            |row| store.grants_after(row, PAGE),
            |check, grant| {
                let user = match store.user(&grant.user_id).map_err(AuthorityError::from) {
                    Err(error) if error.is_of_one_record() => None,
                    found => found?,
                };
                let Some(user) = user else {
                    check.found("role", format!("{} of {}: there is no such user", grant.role, grant.user_id));
                    return Ok(());
                };
                let name = format!("{} of {}", grant.role, user.email);
                if ended.is_some_and(|ended| !ended.has_role(&grant.user_id, grant.role)) {
                    check.found("role", format!("{name}: by the log this user does not have it"));
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

    /// Letters: their seals, and that each row says what the log does.
    fn letters(&mut self, ended: Option<&Ended>) -> Result<(), AuthorityError> {
        let store = self.store;
        self.each(
            "letter",
            |row| store.letters_after(row, PAGE),
            |check, letter| {
                check.report.letters += 1;
                let checked = check.sealer.check_temporary_key(letter.clone()).map(drop);
                check.seal("letter", &letter.reference, checked)?;
                // Looked at twice: a running authority may just have changed it.
                if letter_differs(ended, &letter)
                    && store.temporary_key(&letter.reference)?.is_some_and(|letter| letter_differs(ended, &letter))
                {
                    check.found(
                        "letter",
                        format!("{}: its row says {}, and the log does not", letter.reference, letter.state),
                    );
                }
                Ok(())
            },
        )
    }

    /// Users' certificates: the CA's signature, and that each row says what the log does.
    fn certificates(&mut self, ended: Option<&Ended>) -> Result<(), AuthorityError> {
        let store = self.store;
        self.each(
            "certificate",
            |row| store.certificates_after(row, PAGE),
            |check, record| {
                if record.intent.user_id.is_none() {
                    let (serial, row) = (&record.intent.serial, record.state);
                    if others::own_differs(ended, &record) {
                        check.found("certificate", format!("{serial}: its row says {row}, and the log does not"));
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
                    check.found("certificate", format!("{serial}: the CA did not sign it"));
                }
                if is_signed && record.intent.kind == CertificateKind::Signing {
                    check.ending_administrator(&record);
                }
                if certificate_differs(ended, &record)
                    && store.certificate(serial)?.is_some_and(|record| certificate_differs(ended, &record))
                {
                    check
                        .found("certificate", format!("{serial}: its row says {}, and the log does not", record.state));
                }
                Ok(())
            },
        )
    }

    /// Archived keys: their seals.
    fn archived_keys(&mut self) -> Result<(), AuthorityError> {
        let store = self.store;
        self.each(
            "archived-key",
            |row| store.archived_keys_after(row, PAGE),
            |check, record| {
                check.report.archived_keys += 1;
                let name = hex::encode(record.certificate_sha256);
                let checked = check.sealer.check_archived_key(record).map(drop);
                check.seal("archived-key", &name, checked)
            },
        )
    }

    /// Of an administrator's certificate that is in use, when it ends.
    fn ending_administrator(&mut self, record: &CertificateRecord) {
        let email = record.intent.user_id.as_ref().and_then(|user| self.administrators.get(user));
        let Some(email) = email.filter(|_| record.state == CertificateState::Current) else { return };
        let certificate = record.certificate.as_deref().and_then(|der| Certificate::from_der(der).ok());
        let told = certificate.and_then(|certificate| ending::administrators(email, &certificate, self.now));
        self.report.ending.extend(told);
    }

    /// When the authority's own certificates end. Where it does not run, the services' are renewed at its start.
    fn own_certificates(&mut self) -> Result<(), AuthorityError> {
        self.report.ending.sort();
        for kind in [CertificateKind::Ca, CertificateKind::Response, CertificateKind::Tls] {
            let stored = match self.store.own_certificate(kind) {
                // It was found already.
                Err(StoreError::UnreadableRow { .. }) => None,
                found => found?.and_then(|record| record.certificate),
            };
            let certificate = stored.and_then(|der| Certificate::from_der(&der).ok());
            let told = certificate.and_then(|certificate| ending::own(kind, &certificate, self.now));
            self.report.ending.extend(told);
        }
        Ok(())
    }

    /// Hands over each record of a table. A row that cannot be read is found, and is no other's fault.
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
                        Err(error) if error.is_of_one_record() => self.found(concern, format!("{name}: {error}")),
                        other => other?,
                    },
                    Err(reason) => self.found(concern, format!("{name} (row {row}): it cannot be read: {reason}")),
                }
            }
        }
    }

    fn seal(&mut self, concern: &str, name: &str, checked: Result<(), AuthorityError>) -> Result<(), AuthorityError> {
        match checked {
            Err(AuthorityError::Tampered(_)) => self.found(concern, format!("{name}: its MAC does not fit")),
            other => other?,
        }
        Ok(())
    }

    /// What comes out of a row may hold anything: control characters are written as escapes.
    fn found(&mut self, concern: &str, what: String) {
        let is_plain = !what.contains(char::is_control);
        let what = if is_plain { what } else { what.escape_debug().to_string() };
        let seen = self.seen.entry(concern.to_owned()).or_default();
        *seen += 1;
        if *seen <= LISTED {
            self.report.findings.push(CheckFinding { concern: concern.to_owned(), what });
        }
    }

    /// Says how many more findings there are of each concern than are listed.
    fn summarize(&mut self) {
        for (concern, seen) in std::mem::take(&mut self.seen) {
            if let Some(more) = seen.checked_sub(LISTED).filter(|more| *more > 0) {
                self.found(&concern, format!("and {more} more of this kind"));
            }
        }
    }
}

fn letter_differs(ended: Option<&Ended>, letter: &TemporaryKeyRecord) -> bool {
    ended.is_some_and(|ended| ended.letter_state(&letter.reference, &letter.user_id) != Some(letter.state))
}

fn certificate_differs(ended: Option<&Ended>, record: &CertificateRecord) -> bool {
    let (Some(ended), Some(user)) = (ended, &record.intent.user_id) else { return false };
    let logged = ended.certificate_state(user, record.intent.kind, &record.intent.serial, record.state);
    logged != Some(record.state)
}
