//! The security authority: makes temporary keys, enrolls users, archives, delivers and recovers
//! keys, and writes the audit log.
//!
//! Each file is one step, in this order: [`temporary_key`] → [`authenticate`] → [`verify`] →
//! [`decide`] → [`certify`] → [`archive`] → [`reply`]. The steps are pure or use only the token;
//! the sources that drive them ([`enroll`], [`administer`], [`init`]) call the store in between.
//! Each step takes the result of the previous one by value, so skipping or repeating a step does
//! not compile.
//!
//! **Invariants:** the authority never delivers a key that is not archived, signs nothing that is
//! not stored as an intent, does not distinguish an unknown reference from a wrong temporary key,
//! delivers no history without an approved recovery, and writes no secret to a log.

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
mod log_verifier;
mod policy;
mod records;
mod recover;
mod reference_locks;
mod rejection;
pub mod reply;
mod seal;
mod service_certificates;
mod temporary_key;
#[cfg(test)]
mod tests;
mod token_keys;
pub mod verify;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use x509_cert::name::Name;

pub use self::check::{DatabaseCheckReport, DatabaseFinding};
pub use self::configuration::{
    CaConfiguration, Configuration, ConfigurationError, EnrollmentConfiguration, EnvironmentPaths, ListenConfiguration,
    Networks, TokenConfiguration,
};
pub use self::error::AuthorityError;
pub use self::init::{PreparedInit, init};
pub use self::rejection::Rejection;
pub use self::token_keys::token_at_last_pin_try;
use crate::crash_point;
use crate::pki::{Certificate, EmailAddress};
use crate::statement::Instance;
use crate::store::{AuditHead, AuthorityIdentity, CertificateKind, CertificateState, Store, UserRecord};
use crate::token::{AuthorityKey, Pin, TokenInfo, TokenSource};

pub use self::administer::AdministratorLetter;
use self::administer::{AdditionNotices, normalize_email};
use self::audit_state::AuditState;
use self::delays::GuessDelays;
use self::log_verifier::LogVerifier;
use self::policy::Policy;
use self::reference_locks::ReferenceLocks;
use self::seal::Sealer;
use self::service_certificates::ServiceCertificates;
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
    identity: AuthorityIdentity,
    keys: TokenKeys,
    store: Store,
    sealer: Sealer,
    audit_state: Arc<AuditState>,
    /// The last log entry whose MAC and evidence were not checked at the start.
    last_unchecked_entry: AuditHead,
    /// The progress of the check of those entries.
    older_checked: Mutex<AuditHead>,
    policy: Policy,
    ca: Certificate,
    response: Certificate,
    tls: Certificate,
    reference_locks: ReferenceLocks,
    delays: GuessDelays,
    administration_lock: Mutex<()>,
    instance: Instance,
    added: Arc<AdditionNotices>,
    /// The time of the last expiry warnings in the program's log.
    last_expiry_warning: Mutex<Option<Timestamp>>,
    public_urls: Mutex<(String, String)>,
}

/// A reply to a CMP message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CmpReply {
    /// The message (DER).
    pub bytes: Vec<u8>,
    /// The delay before the endpoint sends it: guesses at temporary keys are slowed by source
    /// address.
    pub delay: Duration,
}

/// The reason for a missing signed response to a statement, as a sentence for the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UnsignedError {
    /// The statement is not verified as an administrator's. Nothing was done or signed: anybody can
    /// send such bytes.
    Unverified(String),
    /// A fault. The audit log shows whether the command was executed.
    Fault(String),
}

/// Certificate chain and key of the TLS server.
#[derive(Debug, Clone)]
pub struct TlsIdentity {
    /// DER certificates: the server's, then the CA's.
    pub chain: Vec<Vec<u8>>,
    /// The server's key, on the token.
    pub key: AuthorityKey,
}

impl Authority {
    /// Opens the authority's token (as its only owner) and its database, checks that they belong
    /// together and that every key exists, walks the audit log, renews service certificates if they
    /// are due, and sweeps.
    pub fn open(configuration: Configuration, pin: &Pin, now: Timestamp) -> Result<Self, AuthorityError> {
        let policy = Policy::read(&configuration.enrollment)?;
        let store = Store::open(&configuration.database())?;
        let identity = store.identity()?.ok_or(AuthorityError::Unfinished)?;
        let source = configuration.token_source()?;
        let token = source.open_for_authority(&choose_token(&configuration, &source, &identity)?)?;
        token.log_in(pin).map_err(|error| error.with_operation("start the authority"))?;
        let keys = TokenKeys::find(&token)?;
        let ca = service_certificates::ca(&store)?;
        check_identity(&identity, &ca, &keys)?;
        let sealer = Sealer::new(&keys, identity.authority);
        let (audit_state, added) = (Arc::new(AuditState::default()), Arc::new(AdditionNotices::default()));
        store.set_log_sealer(audit::TokenLogSealer::new(&keys, &audit_state, &added))?;
        let log = LogVerifier { store: &store, keys: &keys, sealer: &sealer, ca: &ca };
        let last_unchecked_entry = log.at_start(&audit_state, &added, now)?;
        let services = ServiceCertificates {
            store: &store,
            keys: &keys,
            audit_state: &audit_state,
            ca: &ca,
            configuration: &configuration,
        };
        let response = services.response(&policy, now)?;
        let tls = services.tls(&policy, now)?;
        let authority = Self {
            sealer,
            audit_state,
            last_unchecked_entry,
            older_checked: Mutex::new(AuditHead::EMPTY),
            public_urls: Mutex::new(configured_urls(&configuration)),
            configuration,
            identity,
            keys,
            store,
            policy,
            ca,
            response,
            tls,
            reference_locks: ReferenceLocks::default(),
            delays: GuessDelays::default(),
            administration_lock: Mutex::new(()),
            instance: Instance::random().map_err(|error| AuthorityError::Random(error.to_string()))?,
            added,
            last_expiry_warning: Mutex::default(),
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
        let urls = (http.trim_end_matches('/').to_owned(), https.trim_end_matches('/').to_owned());
        *self.public_urls.lock().unwrap_or_else(PoisonError::into_inner) = urls;
    }

    /// Returns the current encryption certificates (DER) of exactly this e-mail address.
    pub fn search_certificates(&self, email: &str, now: Timestamp) -> Result<Vec<Vec<u8>>, AuthorityError> {
        let user = match self.store.user_by_email(&normalize_email(email)) {
            Ok(Some(user)) => self.sealer.check_user(user),
            Ok(None) => return Ok(Vec::new()),
            Err(error) => Err(error.into()),
        };
        let user = match user {
            Ok(user) => user,
            Err(error) if error.is_of_one_record() => {
                tracing::error!(%error, "a user was altered in the database");
                return Ok(Vec::new());
            }
            Err(error) => return Err(error),
        };
        let mut records = self.readable_certificates_of(&user.id)?;
        records.retain(|record| {
            record.intent.kind == CertificateKind::Encryption && record.state == CertificateState::Current
        });
        // The rows name a certificate's owner, but the signed certificate decides.
        let genuine = records.iter().filter_map(|record| self.genuine(record, &user));
        Ok(genuine.filter(|certificate| certificate.is_valid_at(now)).map(|found| found.as_der().to_vec()).collect())
    }

    /// Checks MACs and evidence of the older log entries that the start left unchecked. This may
    /// take minutes. After a fault, the next call continues where this one stopped.
    ///
    /// # Errors
    /// [`AuthorityError::Log`]: the log is altered, and the authority's answers can no longer be
    /// trusted. Other errors say nothing about the log.
    pub fn check_older_log(&self) -> Result<(), AuthorityError> {
        let mut checked = self.older_checked.lock().unwrap_or_else(PoisonError::into_inner);
        self.log_verifier().check_older(self.last_unchecked_entry, &mut checked)
    }

    /// Moves all changes into the main database file, so that a copy of that file is complete. Call
    /// it at the end of the process; other readers of the database do not delay it.
    pub fn close(&self) -> Result<(), AuthorityError> {
        Ok(self.store.put_into_one_file()?)
    }

    fn log_verifier(&self) -> LogVerifier<'_> {
        LogVerifier { store: &self.store, keys: &self.keys, sealer: &self.sealer, ca: &self.ca }
    }

    /// The random number of this run, which every statement for online use must name.
    pub fn instance(&self) -> Instance {
        self.instance
    }

    /// The CA certificate (DER).
    pub fn ca_certificate(&self) -> &[u8] {
        self.ca.as_der()
    }

    /// Returns certificate chain and key of the TLS server.
    pub fn tls_identity(&self) -> TlsIdentity {
        TlsIdentity { chain: vec![self.tls.as_der().to_vec(), self.ca.as_der().to_vec()], key: self.keys.tls.clone() }
    }

    /// The authority's name, the sender of its messages.
    fn name(&self) -> &Name {
        self.ca.subject_name().as_x509()
    }

    fn public_urls(&self) -> (String, String) {
        self.public_urls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the user's record after its seal is checked.
    fn user_of(&self, user_id: &str) -> Result<UserRecord, AuthorityError> {
        let user = self.store.user(user_id)?;
        let user = user.ok_or_else(|| AuthorityError::Tampered(format!("the user {user_id}, who is missing")))?;
        self.sealer.check_user(user)
    }
}

/// Reports a crash point; does nothing in builds without crash points.
fn crash_point(point: &str) {
    crash_point::reached(point);
}

/// Makes the sealed record of a new user.
fn user_record(
    sealer: &Sealer,
    email: &EmailAddress,
    name: &str,
    now: Timestamp,
) -> Result<UserRecord, AuthorityError> {
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|error| AuthorityError::Random(error.to_string()))?;
    let mut user = UserRecord {
        id: hex::encode(id),
        email: email.as_str().to_owned(),
        email_key: normalize_email(email.as_str()),
        name: name.trim().to_owned(),
        created_at: Timestamp::from_second(now.as_second()).unwrap_or(now),
        mac: [0; 32],
    };
    user.mac = sealer.seal_user(&user)?;
    Ok(user)
}

/// Chooses the database's token, by label and serial number.
fn choose_token(
    configuration: &Configuration,
    source: &TokenSource,
    identity: &AuthorityIdentity,
) -> Result<TokenInfo, AuthorityError> {
    let tokens = source.tokens()?;
    let same_label = tokens.iter().filter(|token| token.label == configuration.token.label);
    if let Some(token) = same_label.clone().find(|token| token.serial == identity.token_serial) {
        return Ok(token.clone());
    }
    match same_label.count() {
        0 => Err(AuthorityError::TokenAbsent {
            label: configuration.token.label.clone(),
            searched: source.path().to_path_buf(),
        }),
        _ => Err(AuthorityError::Mismatch(format!(
            "the database belongs to the token {:?} with the serial number {}, which is not present",
            identity.token_label, identity.token_serial
        ))),
    }
}

fn check_identity(identity: &AuthorityIdentity, ca: &Certificate, keys: &TokenKeys) -> Result<(), AuthorityError> {
    if *ca.fingerprint().as_bytes() != identity.authority {
        return Err(AuthorityError::Mismatch("the database contains a different CA certificate".into()));
    }
    if ca.public_key_der()? != keys.ca.public_key_der() {
        return Err(AuthorityError::Mismatch("the CA key on the token does not match the CA certificate".into()));
    }
    Ok(())
}

fn configured_urls(configuration: &Configuration) -> (String, String) {
    let listen = &configuration.listen;
    (
        listen.public_url.clone().unwrap_or_else(|| format!("http://{}", listen.http)),
        listen.public_https_url.clone().unwrap_or_else(|| format!("https://{}", listen.https)),
    )
}
