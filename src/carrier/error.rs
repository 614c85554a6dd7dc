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
    #[error("cannot use the answer from {url}: {reason}")]
    BadAnswer {
        /// The address that answered.
        url: String,
        /// What was wrong with the answer.
        reason: String,
    },
    /// The authority answered that it does not do this (HTTP 4xx): the search door is closed, too many requests.
    #[error("cannot get this from {url}: {reason}")]
    Refused {
        /// The address that refused.
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
    #[error("cannot use the address {url}: {reason}")]
    Address {
        /// The address as given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
}
