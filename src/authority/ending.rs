//! Warnings before a certificate in use ends, the authority's own and those of its administrators: in the log at the start
//! and once a day, in the answers to administrators, and in `authority check`.

use jiff::{SignedDuration, Timestamp};

use super::{Authority, AuthorityError, comparable};
use crate::pki::Certificate;
use crate::store::{CertificateKind, CertificateState, Role};

/// How long before its end a certificate is spoken of.
const SOON: SignedDuration = SignedDuration::from_hours(60 * 24);

/// How often.
const AGAIN: SignedDuration = SignedDuration::from_hours(24);

/// What to do about a certificate: before it ends, and after that.
struct Remedy {
    before: &'static str,
    after: &'static str,
}

/// About the CA's.
const CA: Remedy = Remedy {
    before: "make a new authority before that, and have everybody enroll with it",
    after: "make a new authority, and have everybody enroll with it",
};

/// About a service's.
const RENEWED: Remedy = Remedy { before: RENEW, after: RENEW };
const RENEW: &str = "stop `authority serve` and start it again: it renews that certificate at the start";

/// About an administrator's.
const ADMINISTRATORS: Remedy = Remedy {
    before: "they need a letter before that, by an administrator's `tokenkeep admin issue`, or, where nobody else can, by \
             `tokenkeep authority administrator add`",
    after: "they need a letter, by another administrator's `tokenkeep admin issue`, or, where there is none, by `tokenkeep \
            authority administrator add`",
};

impl Authority {
    /// What is to be known of certificates in use that end soon, or have ended: one line each, with what to do. One's own
    /// certificate a person is told of by their own machine: `but` is that user's id.
    pub fn ending_certificates(&self, but: Option<&str>, now: Timestamp) -> Vec<String> {
        let mut lines: Vec<String> = [
            own(CertificateKind::Ca, &self.ca, now),
            own(CertificateKind::Response, &self.response, now),
            own(CertificateKind::Tls, &self.tls, now),
        ]
        .into_iter()
        .flatten()
        .collect();
        match self.ending_administrators(but, now) {
            Ok(more) => lines.extend(more),
            Err(error) => tracing::error!(%error, "cannot look at the administrators' certificates"),
        }
        lines
    }

    fn ending_administrators(&self, but: Option<&str>, now: Timestamp) -> Result<Vec<String>, AuthorityError> {
        let mut lines = Vec::new();
        let holders = self.ended.enrolled_holders(Role::Administrator);
        for id in holders.iter().filter(|id| but != Some(id.as_str())) {
            // What was changed in the database is nobody's role and nobody's certificate; others say so.
            let Some(user) = self.unchanged_user(id)? else { continue };
            let grant = match self.role_of(&user, Role::Administrator) {
                Err(error) if error.is_of_one_record() => None,
                found => found?,
            };
            if !grant.is_some_and(|grant| grant.counts_at(now)) {
                continue;
            }
            let current = self.readable_certificates_of(&user.id)?.into_iter().filter(|record| {
                record.intent.kind == CertificateKind::Signing && record.state == CertificateState::Current
            });
            let certificates = current.filter_map(|record| self.genuine(&record, &user));
            let newest = certificates.max_by_key(Certificate::not_after);
            lines.extend(newest.and_then(|certificate| administrators(&user.email, &certificate, now)));
        }
        lines.sort_unstable();
        Ok(lines)
    }

    /// Writes them into the program's log, at most once a day.
    pub(super) fn warn_of_ending_certificates(&self, now: Timestamp) {
        let mut warned = self.warned.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if warned.is_some_and(|at| now.duration_since(at) < AGAIN) {
            return;
        }
        *warned = Some(now);
        for line in self.ending_certificates(None, now) {
            tracing::warn!("{line}");
        }
    }
}

/// Of one of the authority's own certificates.
pub(super) fn own(kind: CertificateKind, certificate: &Certificate, now: Timestamp) -> Option<String> {
    let (which, remedy) = match kind {
        CertificateKind::Ca => ("the CA's", CA),
        CertificateKind::Response => ("that of its responses", RENEWED),
        CertificateKind::Tls => ("that of its TLS key", RENEWED),
        CertificateKind::Signing | CertificateKind::Encryption => return None,
    };
    line(&format!("a certificate of the authority, {which},"), certificate, &remedy, now)
}

/// Of an administrator's signing certificate.
pub(super) fn administrators(email: &str, certificate: &Certificate, now: Timestamp) -> Option<String> {
    let is_theirs = certificate.emails().iter().any(|found| comparable(found) == comparable(email));
    is_theirs
        .then(|| line(&format!("the certificate of the administrator {email}"), certificate, &ADMINISTRATORS, now))?
}

fn line(which: &str, certificate: &Certificate, remedy: &Remedy, now: Timestamp) -> Option<String> {
    let end = certificate.not_after();
    let left = end.duration_since(now);
    if left <= SignedDuration::ZERO {
        return Some(format!("{which} ended on {end}; {}", remedy.after));
    }
    let days = left.as_hours() / 24;
    (left <= SOON).then(|| format!("{which} ends in {days} days, on {end}; {}", remedy.before))
}
