//! The security authority: makes temporary keys, enrolls users, archives, delivers and recovers
//! keys, and writes the audit log.
//!
//! [`Authority`] only delegates: each type behind it has one responsibility.
//!
//! The steps of an enrollment are one file each, in this order: [`temporary_key`] →
//! [`authenticate`] → [`verify`] → [`decide`] → [`certify`] → [`archive`] → [`reply`]. They are
//! pure or use only the token; the modules that drive them ([`enroll`], [`key_archive`],
//! [`letters`], [`init`]) call the store in between. Each step takes the result of the previous one
//! by value, so skipping or repeating a step does not compile.
//!
//! **Invariants:** the authority never delivers a key that is not archived, signs nothing that is
//! not stored as an intent, does not distinguish an unknown reference from a wrong temporary key,
//! delivers no history without an approved recovery, and writes no secret to a log.

mod addition_notices;
mod administer;
pub mod archive;
mod audit;
mod audit_state;
pub mod authenticate;
pub mod certify;
mod check;
mod configuration;
pub mod decide;
mod delays;
mod enroll;
mod error;
mod expiry;
mod init;
mod key_archive;
mod letter_orders;
mod letters;
mod log_verifier;
mod opening;
mod policy;
mod records;
mod reference_locks;
mod rejection;
pub mod reply;
mod seal;
mod search;
mod service_certificates;
mod temporary_key;
#[cfg(test)]
mod tests;
mod token_keys;
pub mod verify;

use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;

pub use self::administer::{AdministratorLetter, UnsignedError};
pub use self::check::{DatabaseCheckReport, DatabaseFinding};
pub use self::configuration::{
    CaConfiguration, Configuration, ConfigurationError, EnrollmentConfiguration, EnvironmentPaths, ListenConfiguration,
    Networks, TokenConfiguration,
};
pub use self::enroll::CmpReply;
pub use self::error::AuthorityError;
pub use self::init::PreparedInit;
pub use self::opening::token_at_last_pin_try;
pub use self::rejection::Rejection;
pub use self::service_certificates::TlsIdentity;
use crate::letter::Letter;
use crate::statement::{Instance, StatementChannel};
use crate::store::Store;
use crate::token::Pin;

use self::addition_notices::AdditionNotices;
use self::administer::Administration;
use self::enroll::CmpResponder;
use self::expiry::ExpiryWarnings;
use self::letters::LetterIssuer;
use self::log_verifier::{LogVerifier, OlderEntries};
use self::opening::OpenedAuthority;
use self::policy::Policy;
use self::records::VerifiedRecords;
use self::service_certificates::ServiceCertificates;
use self::temporary_key::TemporaryKeys;
use self::token_keys::TokenKeys;

/// Crash points for tests: between any two durable steps.
pub const CRASH_POINTS: &[&str] = &[
    "authority.init.after_marker",
    "authority.init.before_marker_names_token",
    "authority.init.after_token",
    "authority.init.after_mark",
    "authority.init.after_key",
    "authority.init.after_so_pin",
    "authority.own.after_intent",
    "authority.own.after_issued",
    "authority.init.before_identity",
    "authority.init.after_identity",
    "authority.init.after_letter",
    "authority.statement.after_taken",
    "authority.statement.after_revocation",
    "authority.statement.after_letter",
    "authority.enroll.after_claim",
    "authority.enroll.after_intent",
    "authority.enroll.after_signature",
    "authority.enroll.after_issued",
    "authority.enroll.after_session_key",
    "authority.enroll.before_archive",
    "authority.enroll.after_archive",
    "authority.enroll.after_abandon",
    "authority.enroll.before_reply",
    "authority.enroll.after_reply",
    "authority.confirm.before_end",
    "authority.confirm.after_end",
    "authority.sweep.after_end",
];

/// A running authority. Several threads may call its methods at once. All methods block (on the
/// token and the database), so asynchronous callers need threads that may block.
#[derive(Debug)]
pub struct Authority {
    configuration: Configuration,
    keys: TokenKeys,
    records: Arc<VerifiedRecords>,
    older_entries: OlderEntries,
    tls: TlsIdentity,
    letters: Arc<LetterIssuer>,
    expiry: Arc<ExpiryWarnings>,
    responder: CmpResponder,
    administration: Administration,
}

impl Authority {
    /// Makes a checked authority: token, keys, certificates, database, and the first administrator,
    /// whose letter is returned.
    ///
    /// The same call with the same PIN completes an interrupted one. Without `so_pin` the token's
    /// final SO PIN is random and not stored.
    ///
    /// `hand_over` writes the letter. The authority counts as made only after that: after an
    /// earlier crash, the same call hands over the same letter.
    pub fn init<E: From<AuthorityError>>(
        prepared: &PreparedInit<'_>,
        new_pin: &Pin,
        so_pin: Option<&Pin>,
        hand_over: impl FnOnce(&Letter) -> Result<(), E>,
    ) -> Result<Letter, E> {
        let made = prepared.make(new_pin, so_pin)?;
        let authority = Self::open(prepared.configuration.clone(), new_pin, prepared.now)?;
        let letter = authority.letters.first_letter(made.initialized_at)?;
        drop(authority);
        hand_over(&letter)?;
        made.finish()?;
        Ok(letter)
    }

    /// Opens the authority's token (as its only owner) and its database, checks that they belong
    /// together and that every key exists, walks the audit log, renews service certificates if they
    /// are due, and sweeps.
    pub fn open(configuration: Configuration, pin: &Pin, now: Timestamp) -> Result<Self, AuthorityError> {
        let policy = Policy::read(&configuration.enrollment)?;
        let store = Store::open(&configuration.database())?;
        let opened = OpenedAuthority::open(store, &configuration, pin, "start the authority")?;
        let OpenedAuthority { identity, keys, records } = opened;
        let additions = Arc::new(AdditionNotices::default());
        records.store.set_log_sealer(audit::TokenLogSealer::new(&keys, &records.audit_state, &additions))?;
        let older_entries = LogVerifier { records: &records, keys: &keys }.at_start(&additions, now)?;
        let services = ServiceCertificates { records: &records, keys: &keys, configuration: &configuration };
        let response = services.response(&policy, now)?;
        let tls = services.tls(&policy, now)?;
        let records = Arc::new(records);
        let temporary_keys = TemporaryKeys::new(&keys, &identity);
        let letters = Arc::new(LetterIssuer::new(&records, &temporary_keys, &configuration, &policy));
        let expiry = Arc::new(ExpiryWarnings::new(&records, &response, &tls));
        let authority = Self {
            older_entries,
            tls: TlsIdentity {
                chain: vec![tls.as_der().to_vec(), records.ca.as_der().to_vec()],
                key: keys.tls.clone(),
            },
            administration: Administration::new((&records, &keys), (&letters, &additions, &expiry), response)?,
            responder: CmpResponder::new((&records, &keys), temporary_keys, policy, &configuration),
            letters,
            expiry,
            records,
            keys,
            configuration,
        };
        authority.sweep(now)?;
        Ok(authority)
    }

    /// The configuration in use.
    pub fn configuration(&self) -> &Configuration {
        &self.configuration
    }

    /// Sets the base URLs for letters, after the listeners are bound. The default is derived from
    /// the configuration.
    pub fn set_public_urls(&self, http: &str, https: &str) {
        self.letters.set_public_urls(http, https);
    }

    /// The random number of this run, which every statement for online use must name.
    pub fn instance(&self) -> Instance {
        self.administration.instance()
    }

    /// The CA certificate (DER).
    pub fn ca_certificate(&self) -> &[u8] {
        self.records.ca.as_der()
    }

    /// Returns certificate chain and key of the TLS server.
    pub fn tls_identity(&self) -> TlsIdentity {
        self.tls.clone()
    }

    /// Answers one CMP message (DER `PKIMessage`) with another. Every input gets a reply.
    pub fn answer_cmp(&self, message: &[u8], source: IpAddr, now: Timestamp) -> CmpReply {
        self.responder.answer(message, source, now)
    }

    /// Answers one statement (CMS `SignedData`) with a signed response, within the limits of its
    /// transport. Fails, without a signature, unless the holder of a certificate of this CA signed
    /// the statement.
    pub fn answer_statement(
        &self,
        statement: &[u8],
        channel: StatementChannel,
        now: Timestamp,
    ) -> Result<Vec<u8>, UnsignedError> {
        self.administration.answer(statement, channel, now)
    }

    /// Checks address and name, so that invalid ones are refused before the PIN is asked for.
    ///
    /// # Errors
    /// [`AuthorityError::NotAdded`] if the address or the name is invalid.
    pub fn check_administrator(email: &str, name: Option<&str>) -> Result<(), AuthorityError> {
        administer::check_administrator(email, name)
    }

    /// Grants the administrator role to a user, or gives an administrator whose keyset is unusable
    /// a new letter. The caller has opened the authority for this purpose alone, with a PIN that a
    /// login verified.
    ///
    /// # Errors
    /// [`AuthorityError::NotAdded`] if the addition is refused; other errors are faults.
    pub fn add_administrator(
        &self,
        email: &str,
        name: Option<&str>,
        now: Timestamp,
    ) -> Result<AdministratorLetter, AuthorityError> {
        self.administration.add_administrator(email, name, now)
    }

    /// Returns the current encryption certificates (DER) of exactly this e-mail address.
    pub fn search_certificates(&self, email: &str, now: Timestamp) -> Result<Vec<Vec<u8>>, AuthorityError> {
        search::search_certificates(&self.records, email, now)
    }

    /// Discards transactions that were not confirmed in time: revokes their certificates and makes
    /// their letters valid again. Deletes the replies of transactions that ended 30 days ago. Once
    /// a day it writes warnings about certificates that expire. Call it every minute. Returns the
    /// number of discarded transactions.
    pub fn sweep(&self, now: Timestamp) -> Result<usize, AuthorityError> {
        self.expiry.log(now);
        self.responder.sweep(now)
    }

    /// Checks the database of this running authority.
    pub fn check(&self) -> Result<DatabaseCheckReport, AuthorityError> {
        check::check_running(self.log_verifier(), Timestamp::now())
    }

    /// Checks the database of a stopped authority, with its token opened for this.
    pub fn check_stopped(configuration: &Configuration, pin: &Pin) -> Result<DatabaseCheckReport, AuthorityError> {
        check::check_stopped(configuration, pin)
    }

    /// Checks MACs and evidence of the older log entries that the start left unchecked. This may
    /// take minutes. After a fault, the next call continues where this one stopped.
    ///
    /// # Errors
    /// [`AuthorityError::Log`]: the log is altered, and the authority's answers can no longer be
    /// trusted. Other errors say nothing about the log.
    pub fn check_older_log(&self) -> Result<(), AuthorityError> {
        self.log_verifier().check_older(&self.older_entries)
    }

    /// Moves all changes into the main database file, so that a copy of that file is complete. Call
    /// it at the end of the process; other readers of the database do not delay it.
    pub fn close(&self) -> Result<(), AuthorityError> {
        Ok(self.records.store.put_into_one_file()?)
    }

    fn log_verifier(&self) -> LogVerifier<'_> {
        LogVerifier { records: &self.records, keys: &self.keys }
    }
}
