//! Warnings before a certificate in use expires, of the authority itself or its administrators: in
//! the program's log at the start and once a day, in responses to administrators, and in `authority
//! check`.

use std::sync::{Arc, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};

use super::AuthorityError;
use super::records::{VerifiedRecords, normalize_email};
use crate::pki::Certificate;
use crate::store::{CertificateKind, CertificateState, Role};

/// The time before expiry from which warnings are given.
const WARNING_PERIOD: SignedDuration = SignedDuration::from_hours(60 * 24);

/// The interval of warnings in the program's log.
const WARNING_INTERVAL: SignedDuration = SignedDuration::from_hours(24);

/// The remedy for a certificate, before and after it expires.
struct Remedy {
    before: &'static str,
    after: &'static str,
}

/// The remedy for the CA certificate.
const CA: Remedy = Remedy {
    before: "make a new authority before that, and have all users enroll with it",
    after: "make a new authority, and have all users enroll with it",
};

/// The remedy for a service certificate.
const RENEWED: Remedy = Remedy { before: RENEW, after: RENEW };
const RENEW: &str = "restart `authority serve`: it renews that certificate at the start";

/// The remedy for an administrator's certificate.
const ADMINISTRATORS: Remedy = Remedy {
    before: "they need a letter before that, from an administrator's `tokenkeep admin issue`, or, if no other \
             administrator can issue it, from `tokenkeep authority administrator add`",
    after: "they need a letter, from another administrator's `tokenkeep admin issue`, or, if there is no other \
            administrator, from `tokenkeep authority administrator add`",
};

/// Warns before the certificates of the authority and of its administrators expire.
#[derive(Debug)]
pub(super) struct ExpiryWarnings {
    records: Arc<VerifiedRecords>,
    response: Certificate,
    tls: Certificate,
    /// The time of the last warnings in the program's log.
    last_logged: Mutex<Option<Timestamp>>,
}

impl ExpiryWarnings {
    pub(super) fn new(records: &Arc<VerifiedRecords>, response: &Certificate, tls: &Certificate) -> Self {
        let (response, tls) = (response.clone(), tls.clone());
        Self { records: Arc::clone(records), response, tls, last_logged: Mutex::default() }
    }

    /// Returns one line, with a remedy, for each certificate in use that expires soon or has
    /// expired. `but` is the id of a user to leave out: an administrator's own machine warns about
    /// their own certificate.
    pub(super) fn lines(&self, but: Option<&str>, now: Timestamp) -> Vec<String> {
        let mut lines: Vec<String> = [
            own(CertificateKind::Ca, &self.records.ca, now),
            own(CertificateKind::Response, &self.response, now),
            own(CertificateKind::Tls, &self.tls, now),
        ]
        .into_iter()
        .flatten()
        .collect();
        match self.ending_administrators(but, now) {
            Ok(more) => lines.extend(more),
            Err(error) => tracing::error!(%error, "cannot read the administrators' certificates"),
        }
        lines
    }

    fn ending_administrators(&self, but: Option<&str>, now: Timestamp) -> Result<Vec<String>, AuthorityError> {
        let mut lines = Vec::new();
        let holders = self.records.audit_state.enrolled_holders(Role::Administrator);
        for id in holders.iter().filter(|id| but != Some(id.as_str())) {
            // An altered row is not trusted as a role or certificate; other checks report it.
            let Some(user) = self.records.unchanged_user(id)? else { continue };
            let grant = match self.records.role_of(&user, Role::Administrator) {
                Err(error) if error.is_of_one_record() => None,
                found => found?,
            };
            if !grant.is_some_and(|grant| grant.counts_at(now)) {
                continue;
            }
            let current = self.records.readable_certificates_of(&user.id)?.into_iter().filter(|record| {
                record.intent.kind == CertificateKind::Signing && record.state == CertificateState::Current
            });
            let certificates = current.filter_map(|record| self.records.genuine(&record, &user));
            let newest = certificates.max_by_key(Certificate::not_after);
            lines.extend(newest.and_then(|certificate| administrators(&user.email, &certificate, now)));
        }
        lines.sort_unstable();
        Ok(lines)
    }

    /// Writes the warnings to the program's log, at most once a day.
    pub(super) fn log(&self, now: Timestamp) {
        let mut last_logged = self.last_logged.lock().unwrap_or_else(PoisonError::into_inner);
        if last_logged.is_some_and(|at| now.duration_since(at) < WARNING_INTERVAL) {
            return;
        }
        *last_logged = Some(now);
        for line in self.lines(None, now) {
            tracing::warn!("{line}");
        }
    }
}

/// The warning about one of the authority's own certificates, if it is due.
pub(super) fn own(kind: CertificateKind, certificate: &Certificate, now: Timestamp) -> Option<String> {
    let (which, remedy) = match kind {
        CertificateKind::Ca => ("the CA's", CA),
        CertificateKind::Response => ("the CMP response key's", RENEWED),
        CertificateKind::Tls => ("the TLS key's", RENEWED),
        CertificateKind::Signing | CertificateKind::Encryption => return None,
    };
    line(&format!("a certificate of the authority, {which},"), certificate, &remedy, now)
}

/// The warning about an administrator's signing certificate, if it is due.
pub(super) fn administrators(email: &str, certificate: &Certificate, now: Timestamp) -> Option<String> {
    let is_theirs = certificate.emails().iter().any(|found| normalize_email(found) == normalize_email(email));
    is_theirs
        .then(|| line(&format!("the certificate of the administrator {email}"), certificate, &ADMINISTRATORS, now))?
}

fn line(which: &str, certificate: &Certificate, remedy: &Remedy, now: Timestamp) -> Option<String> {
    let end = certificate.not_after();
    let left = end.duration_since(now);
    if left <= SignedDuration::ZERO {
        return Some(format!("{which} expired on {end}; {}", remedy.after));
    }
    let days = left.as_hours() / 24;
    (left <= WARNING_PERIOD).then(|| format!("{which} expires in {days} days, on {end}; {}", remedy.before))
}
