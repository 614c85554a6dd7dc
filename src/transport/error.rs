//! Transport errors, grouped by what the sender can do about them.

use serde::{Deserialize, Serialize};

/// The reason for a missing or unusable response. Each message begins with "cannot".
#[derive(Debug, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum TransportError {
    /// No response: unknown host, no connection, or a timeout. The request may or may not have
    /// arrived.
    #[error("cannot reach the authority at {url}: {reason}; check that it is running and that this is its address")]
    Unreachable { url: String, reason: String },
    /// Something responded, but not as an authority: wrong status or content type, too long, not
    /// HTTP.
    #[error(
        "cannot use the response from {url}: {reason}; check that this is the authority's address, not a proxy's, and \
         try again"
    )]
    BadResponse {
        url: String,
        /// The fault of the response.
        reason: String,
    },
    /// The authority refused (HTTP 4xx): the search is disabled, or there were too many requests.
    #[error("cannot get this from {url}: {reason}; the authority's administrator configures what it permits")]
    Refused {
        url: String,
        /// The status and the authority's text, if it sent one.
        reason: String,
    },
    /// The authority kept responding that it is busy (HTTP 503). It did not process the request.
    #[error("cannot get a response from {url}: {reason}, and retrying did not help; nothing was done; try again later")]
    Busy {
        url: String,
        /// The status and the authority's text, if it sent one.
        reason: String,
    },
    /// The CA certificate at this URL does not have the pinned fingerprint: another authority, or a
    /// forgery.
    #[error(
        "cannot trust the authority at {url}: its certificate has the fingerprint {found}, expected {known}; \
         check the address, and the fingerprint in the letter"
    )]
    WrongAuthority {
        /// The URL of the certificate.
        url: String,
        /// SHA-256 of the received certificate, hexadecimal.
        found: String,
        /// SHA-256 of the pinned certificate, hexadecimal.
        known: String,
    },
    /// The URL is invalid.
    #[error("cannot use the address {url}: {reason}; use the address in the letter, or set one with `--authority`")]
    Address { url: String, reason: String },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_names_the_next_step() {
        let (url, reason) = (|| "http://127.0.0.1:8829".to_owned(), || "a reason".to_owned());
        for error in [
            TransportError::Busy { url: url(), reason: reason() },
            TransportError::Unreachable { url: url(), reason: reason() },
            TransportError::BadResponse { url: url(), reason: reason() },
            TransportError::Refused { url: url(), reason: reason() },
            TransportError::Address { url: url(), reason: reason() },
        ] {
            let text = error.to_string();
            let (what, next) = text.split_once("; ").unwrap_or((&text, ""));
            assert!(what.starts_with("cannot ") && next.len() > 20, "{text}");
        }
    }
}
