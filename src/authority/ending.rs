//! Warnings before one of the authority's own certificates ends: in the log at the start and once a day.

use jiff::{SignedDuration, Timestamp};

use super::Authority;
use crate::pki::Certificate;

/// How long before its end a certificate is spoken of.
const SOON: SignedDuration = SignedDuration::from_hours(60 * 24);

/// How often.
const AGAIN: SignedDuration = SignedDuration::from_hours(24);

impl Authority {
    /// What is to be known of certificates in use that end soon, or have ended: one line each, with what to do.
    pub fn ending_certificates(&self, now: Timestamp) -> Vec<String> {
        let renewed = "stop `authority serve` and start it again: it renews that certificate at the start";
        let own = [
            ("the CA's", &self.ca, "make a new authority before that, and have everybody enroll with it"),
            ("that of its responses", &self.response, renewed),
            ("that of its TLS key", &self.tls, renewed),
        ];
        let lines = own.into_iter().filter_map(|(which, certificate, remedy)| line(which, certificate, remedy, now));
        lines.collect()
    }

    /// Writes them into the program's log, at most once a day.
    pub(super) fn warn_of_ending_certificates(&self, now: Timestamp) {
        let mut warned = self.warned.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if warned.is_some_and(|at| now.duration_since(at) < AGAIN) {
            return;
        }
        *warned = Some(now);
        for line in self.ending_certificates(now) {
            tracing::warn!("{line}");
        }
    }
}

fn line(which: &str, certificate: &Certificate, remedy: &str, now: Timestamp) -> Option<String> {
    let end = certificate.not_after();
    let left = end.duration_since(now);
    if left <= SignedDuration::ZERO {
        return Some(format!("a certificate of the authority, {which}, ended on {end}; {remedy}"));
    }
    let days = left.as_hours() / 24;
    (left <= SOON).then(|| format!("a certificate of the authority, {which}, ends in {days} days, on {end}; {remedy}"))
}
