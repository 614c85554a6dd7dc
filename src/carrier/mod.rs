//! Takes bytes to the authority and brings its answer back: today over HTTP, later as files, by mail and through the agent's socket.
//!
//! A carrier never looks into what it carries and never judges it: CMP messages protect themselves, statements are
//! signed, and whoever opens a reply checks it. It must never follow a redirect, never wait or read without a bound,
//! and never take an authority that it could not reach for one that answered badly: after the one the same request is
//! sent again, after the other it is given up.

mod error;
mod http;
mod multipart;

pub use error::CarrierError;
pub use http::Http;

/// Something that takes a request to the authority and brings back what came as the answer.
///
/// [`Http`] is the carrier of every online command; tests put themselves in its place to lose, cut and tamper.
pub trait Carrier {
    /// Takes one DER `PKIMessage` there (RFC 9811) and brings the answer's bytes back, unread and unjudged.
    fn cmp(&self, message: &[u8]) -> Result<Vec<u8>, CarrierError>;

    /// Brings the authority's CA certificate, DER. Who calls compares it with the fingerprint it knows.
    fn ca_certificate(&self) -> Result<Vec<u8>, CarrierError>;

    /// Brings the certificates (DER) found under exactly this e-mail address (RFC 4387); none is an empty list.
    fn search_certificates(&self, email: &str) -> Result<Vec<Vec<u8>>, CarrierError>;

    /// Brings the number of the authority's run, which a statement names, over a connection to the pinned authority and to no
    /// other.
    fn instance(&self) -> Result<Vec<u8>, CarrierError>;

    /// Takes an administrator's signed statement there, over a connection to the pinned authority and to no other.
    fn statement(&self, statement: &[u8]) -> Result<Vec<u8>, CarrierError>;
}
