//! What can go wrong on the way, told apart by what the sender can do about it.

use serde::{Deserialize, Serialize};

/// Why no answer, or no usable one, came back. Each message completes "cannot …".
#[derive(Debug, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum CarrierError {
    /// Nobody answered: no such host, no connection, or no answer in time. The request may or may not have arrived.
    #[error("cannot reach the authority at {url}: {reason}; is it running, and is this its address?")]
    Unreachable {
        /// The address that was tried.
        url: String,
        /// What the network said.
        reason: String,
    },
    /// Somebody answered, but not as an authority does: wrong status, wrong kind of content, too long, not HTTP.
    #[error(
        "cannot use the answer from {url}: {reason}; check that this is the authority's address and no proxy's, and try again"
    )]
    BadAnswer {
        /// The address that answered.
        url: String,
        /// What was wrong with the answer.
        reason: String,
    },
    /// The authority answered that it does not do this (HTTP 4xx): the search door is closed, too many requests.
    #[error("cannot get this from {url}: {reason}; the authority's administrator decides what it answers")]
    Refused {
        /// The address that refused.
        url: String,
        /// The status and, when it sent one, the authority's sentence.
        reason: String,
    },
    /// The authority answered that it has too much to do (HTTP 503), and went on so. It did nothing for this request.
    #[error("cannot get an answer from {url}: {reason}, and waiting did not help; nothing was done, try again later")]
    Busy {
        /// The address that was asked.
        url: String,
        /// The status and, when it sent one, the authority's sentence.
        reason: String,
    },
    /// The CA certificate at this address is not the one whose fingerprint is known: another authority, or a forgery.
    #[error(
        "cannot trust the authority at {url}: its certificate has the fingerprint {found}, and the one known is {known}; \
         check the address, and the fingerprint in the letter"
    )]
    OtherAuthority {
        /// The address that served the certificate.
        url: String,
        /// SHA-256 of the served certificate, hexadecimal.
        found: String,
        /// SHA-256 of the certificate that is known, hexadecimal.
        known: String,
    },
    /// The address itself cannot be used.
    #[error("cannot use the address {url}: {reason}; the letter has the right one, or give it by `--authority`")]
    Address {
        /// The address as given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_says_the_next_step() {
        let (url, reason) = (|| "http://127.0.0.1:8829".to_owned(), || "a reason".to_owned());
        for error in [
            CarrierError::Busy { url: url(), reason: reason() },
            CarrierError::Unreachable { url: url(), reason: reason() },
            CarrierError::BadAnswer { url: url(), reason: reason() },
            CarrierError::Refused { url: url(), reason: reason() },
            CarrierError::Address { url: url(), reason: reason() },
        ] {
            let text = error.to_string();
            let (what, next) = text.split_once("; ").unwrap_or((&text, ""));
            assert!(what.starts_with("cannot ") && next.len() > 20, "{text}");
        }
    }
}
