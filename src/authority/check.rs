//! `authority check`: everything in the database that carries a seal, a signature or a hash, looked at once.
//!
//! It changes nothing and refuses nothing: what does not hold is listed. A stopped authority's database is checked with the
//! token opened for it; a running one checks itself, page by page, while others go on.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::ended::{Ended, LetterStatus};
use super::log_check::LogCheck;
use super::seal::Sealer;
use super::token_keys::TokenKeys;
use super::{
    Authority, AuthorityError, Configuration, check_identity, choose_token, ending, load_module, service_certificates,
};
use crate::pki::Certificate;
use crate::store::{
    CertificateKind, CertificateRecord, CertificateState, Role, Store, TemporaryKeyRecord, TemporaryKeyState,
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
    /// What does not hold.
    pub findings: Vec<CheckFinding>,
    /// Certificates in use that end soon, or have ended, the authority's own and its administrators': a sentence each.
    #[serde(default)]
    pub ending: Vec<String>,
}

/// One thing that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckFinding {
    /// What it is about: `database`, `log`, `user`, `role`, `letter`, `certificate` or `archived-key`.
    pub concern: String,
    /// Which one, and what is wrong with it.
    pub what: String,
}

/// A check under way.
struct Check<'a> {
    log: LogCheck<'a>,
    store: &'a Store,
    sealer: &'a Sealer,
    ca: &'a Certificate,
    now: Timestamp,
    /// Addresses of the administrators, by user id.
    administrators: HashMap<String, String>,
    report: CheckReport,
}

impl Authority {
    /// Checks the database of this running authority.
    pub fn check(&self) -> Result<CheckReport, AuthorityError> {
        self.check_at(Timestamp::now())
    }

    pub(super) fn check_at(&self, now: Timestamp) -> Result<CheckReport, AuthorityError> {
        let check = Check {
            log: self.log_check(),
            store: &self.store,
            sealer: &self.sealer,
            ca: &self.ca,
            now,
            administrators: HashMap::new(),
            report: CheckReport::default(),
        };
        check.run(Some(&self.ended))
    }

    /// Checks the database of an authority that does not run, with its token opened for this.
    pub fn check_stopped(configuration: &Configuration, pin: &Pin) -> Result<CheckReport, AuthorityError> {
        let store = Store::open(&configuration.database())?;
        let identity = store.identity()?.ok_or(AuthorityError::Unfinished)?;
        let module = load_module(configuration)?;
        let token = module.open(&choose_token(configuration, &module, &identity)?)?;
        token.log_in(pin).map_err(|error| error.of_act("check the authority"))?;
        let keys = TokenKeys::find(&token)?;
        let ca = service_certificates::ca(&store)?;
        check_identity(&identity, &ca, &keys)?;
        let sealer = Sealer::new(&keys, identity.authority);
        let log = LogCheck { store: &store, keys: &keys, sealer: &sealer, ca: &ca };
        let (now, report) = (Timestamp::now(), CheckReport::default());
        Check { log, store: &store, sealer: &sealer, ca: &ca, now, administrators: HashMap::new(), report }.run(None)
    }
}

impl Check<'_> {
    /// `running` is what a running authority knows has ended: its log goes on while it is walked.
    fn run(mut self, running: Option<&Arc<Ended>>) -> Result<CheckReport, AuthorityError> {
        self.report.schema = self.store.schema_version()?;
        for problem in self.store.quick_check()? {
            self.found("database", problem);
        }
        let walked = Ended::default();
        let is_whole = self.walk_log(&walked)?;
        // Of a log with a gap rows cannot be compared with: what comes after the gap is not known.
        let ended = running.map(Arc::as_ref).or_else(|| is_whole.then_some(&walked));
        self.users(ended)?;
        self.letters(ended)?;
        self.certificates(ended)?;
        self.archived_keys()?;
        self.own_certificates()?;
        self.summarize();
        Ok(self.report)
    }

    /// The chain, every MAC, all evidence. Behind a gap in the chain nothing can be said: the walk ends there.
    /// Whether there is none.
    fn walk_log(&mut self, walked: &Ended) -> Result<bool, AuthorityError> {
        if !self.log.is_marked()? {
            self.found("log", "it is an older version's and not sealed yet; start the authority once".into());
        }
        let (mut findings, mut entries) = (Vec::new(), 0);
        let result = self.log.walk(|row| {
            for checked in [self.log.check_mac(row), self.log.check_evidence(row)] {
                match checked {
                    Err(AuthorityError::Log { number, reason }) => findings.push(format!("entry {number} {reason}")),
                    other => other?,
                }
            }
            if let Err(error) = walked.apply(row) {
                findings.push(format!("entry {} cannot be read: {error}", row.number));
            }
            entries = row.number;
            Ok(())
        });
        let is_whole = match result {
            Ok(_) => true,
            Err(AuthorityError::Log { number, reason }) => {
                findings.push(format!("entry {number} {reason}"));
                false
            }
            Err(error) => return Err(error),
        };
        self.report.log_entries = entries;
        for what in findings {
            self.found("log", what);
        }
        Ok(is_whole)
    }

    /// Users and roles: their seals.
    fn users(&mut self, ended: Option<&Ended>) -> Result<(), AuthorityError> {
        let mut after = String::new();
        loop {
            let page = self.store.user_page(&after, PAGE)?;
            let Some(last) = page.users.last() else { return Ok(()) };
            after.clone_from(&last.email_key);
            for user in &page.users {
                self.report.users += 1;
                let checked = self.sealer.check_user(user.clone()).map(drop);
                self.seal("user", &user.email, checked)?;
                for grant in page.grants.iter().filter(|grant| grant.user_id == user.id) {
                    if ended.is_some_and(|ended| !ended.has_role(&grant.user_id, grant.role)) {
                        self.found(
                            "role",
                            format!("{} of {}: by the log this user does not have it", grant.role, user.email),
                        );
                    }
                    let checked = self.sealer.check_grant(grant.clone(), user).map(drop);
                    if checked.is_ok() && grant.role == Role::Administrator {
                        self.administrators.insert(user.id.clone(), user.email.clone());
                    }
                    self.seal("role", &format!("{} of {}", grant.role, user.email), checked)?;
                }
            }
        }
    }

    /// Letters: their seals, and that no row says more than the log.
    fn letters(&mut self, ended: Option<&Ended>) -> Result<(), AuthorityError> {
        let mut after = String::new();
        loop {
            let page = self.store.letters_after(&after, PAGE)?;
            let Some(last) = page.last() else { return Ok(()) };
            after.clone_from(&last.reference);
            for letter in page {
                self.report.letters += 1;
                let checked = self.sealer.check_temporary_key(letter.clone()).map(drop);
                self.seal("letter", &letter.reference, checked)?;
                // Looked at twice: a running authority may just have changed it.
                if says_more(ended, &letter)
                    && self.store.temporary_key(&letter.reference)?.is_some_and(|letter| says_more(ended, &letter))
                {
                    self.found(
                        "letter",
                        format!("{}: its row says {}, and the log does not", letter.reference, letter.state),
                    );
                }
            }
        }
    }

    /// Users' certificates: the CA's signature, and that no row says more than the log.
    fn certificates(&mut self, ended: Option<&Ended>) -> Result<(), AuthorityError> {
        let mut after = String::new();
        loop {
            let page = self.store.certificates_after(&after, PAGE)?;
            let Some(last) = page.last() else { return Ok(()) };
            after.clone_from(&last.intent.serial);
            for record in page.iter().filter(|record| record.intent.user_id.is_some()) {
                self.report.certificates += 1;
                let serial = &record.intent.serial;
                let is_signed = record.certificate.as_deref().is_none_or(|der| {
                    Certificate::from_der(der).is_ok_and(|found| {
                        found.serial().to_string() == *serial && found.verify_signature(self.ca).is_ok()
                    })
                });
                if !is_signed {
                    self.found("certificate", format!("{serial}: the CA did not sign it"));
                }
                if is_signed && record.intent.kind == CertificateKind::Signing {
                    self.ending_administrator(record);
                }
                if is_put_back(ended, record)
                    && self.store.certificate(serial)?.is_some_and(|record| is_put_back(ended, &record))
                {
                    self.found("certificate", format!("{serial}: its row says {}, and the log does not", record.state));
                }
            }
        }
    }

    /// Archived keys: their seals.
    fn archived_keys(&mut self) -> Result<(), AuthorityError> {
        let mut after = Vec::new();
        loop {
            let page = self.store.archived_keys_after(&after, PAGE)?;
            let Some(last) = page.last() else { return Ok(()) };
            after = last.certificate_sha256.to_vec();
            for record in page {
                self.report.archived_keys += 1;
                let name = hex::encode(record.certificate_sha256);
                let checked = self.sealer.check_archived_key(record).map(drop);
                self.seal("archived-key", &name, checked)?;
            }
        }
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
            let stored = self.store.own_certificate(kind)?.and_then(|record| record.certificate);
            let certificate = stored.and_then(|der| Certificate::from_der(&der).ok());
            let told = certificate.and_then(|certificate| ending::own(kind, &certificate, self.now));
            self.report.ending.extend(told);
        }
        Ok(())
    }

    fn seal(&mut self, concern: &str, name: &str, checked: Result<(), AuthorityError>) -> Result<(), AuthorityError> {
        match checked {
            Err(AuthorityError::Tampered(_)) => self.found(concern, format!("{name}: its MAC does not fit")),
            other => other?,
        }
        Ok(())
    }

    fn found(&mut self, concern: &str, what: String) {
        self.report.findings.push(CheckFinding { concern: concern.to_owned(), what });
    }

    /// Leaves the first findings of each concern, and says how many more there are.
    fn summarize(&mut self) {
        for concern in ["database", "log", "user", "role", "letter", "certificate", "archived-key"] {
            let mut seen = 0_usize;
            self.report.findings.retain(|finding| {
                seen += usize::from(finding.concern == concern);
                finding.concern != concern || seen <= LISTED
            });
            if seen > LISTED {
                self.found(concern, format!("and {} more of this kind", seen - LISTED));
            }
        }
    }
}

fn says_more(ended: Option<&Ended>, letter: &TemporaryKeyRecord) -> bool {
    let Some(ended) = ended else { return false };
    match ended.letter_status(&letter.reference, &letter.user_id) {
        LetterStatus::Open => false,
        LetterStatus::Claimed => letter.state == TemporaryKeyState::Unused,
        LetterStatus::Ended => matches!(letter.state, TemporaryKeyState::Unused | TemporaryKeyState::Claimed),
    }
}

fn is_put_back(ended: Option<&Ended>, record: &CertificateRecord) -> bool {
    let Some(ended) = ended else { return false };
    let serial = &record.intent.serial;
    match (record.state, &record.intent.user_id) {
        (CertificateState::Current, Some(user)) => !ended.is_current_of(user, record.intent.kind, serial),
        (CertificateState::Intended | CertificateState::Issued, Some(_)) => !ended.is_being_made(serial),
        (state, _) => state != CertificateState::Revoked && ended.is_revoked(serial),
    }
}
