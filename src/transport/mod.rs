//! Transports requests to the authority and returns its responses. HTTP is the only transport so
//! far; files, mail and the agent's socket may follow.
//!
//! A transport neither reads nor judges its payload: CMP messages are protected, statements are
//! signed, and the receiver verifies each response. A transport must never follow a redirect, never
//! wait or read without a limit, and never confuse an unreachable authority with a bad response:
//! after the former, the same request is sent again; after the latter, the exchange is abandoned.

mod error;
mod http;
mod multipart;

pub use error::TransportError;
pub use http::HttpTransport;

/// Sends requests to the authority and returns the responses.
///
/// [`HttpTransport`] is the transport of all online commands; tests use their own, which lose,
/// truncate or modify messages.
pub trait Transport {
    /// Sends one `PKIMessage` in DER (RFC 9811) and returns the response's bytes unverified.
    fn cmp(&self, message: &[u8]) -> Result<Vec<u8>, TransportError>;

    /// Fetches the authority's CA certificate in DER. The caller must compare its fingerprint.
    fn ca_certificate(&self) -> Result<Vec<u8>, TransportError>;

    /// Searches for the certificates (DER) of exactly this e-mail address (RFC 4387). No match is
    /// an empty list.
    fn search_certificates(&self, email: &str) -> Result<Vec<Vec<u8>>, TransportError>;

    /// Fetches the number of the authority's running instance, which a statement names. Connects
    /// only to the pinned authority.
    fn instance(&self) -> Result<Vec<u8>, TransportError>;

    /// Sends an administrator's signed statement and returns the response. Connects only to the
    /// pinned authority.
    fn statement(&self, statement: &[u8]) -> Result<Vec<u8>, TransportError>;
}
