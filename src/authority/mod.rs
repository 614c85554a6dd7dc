//! What the security authority does: hands out temporary keys, enrolls, archives, delivers, recovers, and keeps the log.
//!
//! The folder is the story, each file one act in the order in which it happens; the acts are pure or touch the token
//! only, and this file and the conductors beside it call the store. This room must never answer with a key that is not
//! archived, sign what is not stored as an intent, tell an unknown reference from a wrong temporary key, deliver a
//! history without a recovery that was approved as one, or let a secret into a log.

mod configuration;
mod error;

use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;

pub use self::configuration::{
    CaConfiguration, Configuration, ConfigurationError, EnrollmentConfiguration, Environment, ListenConfiguration,
    TokenConfiguration,
};
pub use self::error::AuthorityError;
use crate::letter::Letter;
use crate::token::{Pin, TokenKey};

/// Where a test may kill the authority: between any two steps that last.
pub const CRASH_POINTS: &[&str] = &[];

/// `CKA_APPLICATION` of the public data object that marks a token as an authority's: no user's command chooses it.
pub const TOKEN_MARK: &str = "tokenkeep-authority";

/// A running authority. All methods may be called from several threads at once; all of them block (on the token and on
/// the database), so asynchronous callers use threads that may.
#[derive(Debug)]
pub struct Authority {
    configuration: Configuration,
}

/// What goes back over the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The message.
    pub bytes: Vec<u8>,
    /// How long the door waits before it sends it: guesses at temporary keys are slowed by their source's address.
    pub delay: Duration,
}

/// What the TLS door needs.
#[derive(Debug, Clone)]
pub struct TlsIdentity {
    /// DER certificates: the server's first, then the CA's.
    pub chain: Vec<Vec<u8>>,
    /// The server's key, on the token.
    pub key: TokenKey,
}

/// Makes an authority: token, keys, certificates, database, and the first administrator, whose letter is returned.
///
/// A state directory that is not empty is refused. What an interrupted call left behind is finished by the same call
/// with the same PIN. Without `so_pin` the token's SO PIN is random in the end, and forgotten.
#[allow(clippy::todo, clippy::needless_pass_by_value)]
pub fn init(
    _configuration: &Configuration,
    _new_pin: Pin,
    _so_pin: Option<Pin>,
    _first_administrator: &str,
    _now: Timestamp,
) -> Result<Letter, AuthorityError> {
    todo!()
}

#[allow(clippy::todo)]
impl Authority {
    /// Opens the authority's token (as its only owner) and database, checks that they are each other's and that every
    /// key is there, renews the authority's service certificates if need be, and sweeps.
    pub fn open(_configuration: Configuration, _pin: &Pin, _now: Timestamp) -> Result<Self, AuthorityError> {
        todo!()
    }

    /// The configuration it was opened with.
    pub fn configuration(&self) -> &Configuration {
        &self.configuration
    }

    /// Sets the base URLs for letters, once the listeners are bound. Before that, they are made of the configuration.
    pub fn set_public_urls(&self, _http: &str, _https: &str) {
        todo!()
    }

    /// Answers one CMP message (DER `PKIMessage`) with another. Whatever comes in, there is an answer.
    pub fn answer_cmp(&self, _message: &[u8], _source: IpAddr, _now: Timestamp) -> Answer {
        todo!()
    }

    /// Answers one statement (CMS `SignedData`) with a signed response.
    pub fn answer_statement(&self, _statement: &[u8], _now: Timestamp) -> Vec<u8> {
        todo!()
    }

    /// The current encryption certificates (DER) of exactly this e-mail address.
    pub fn search_certificates(&self, _email: &str, _now: Timestamp) -> Result<Vec<Vec<u8>>, AuthorityError> {
        todo!()
    }

    /// The CA certificate, DER.
    pub fn ca_certificate(&self) -> &[u8] {
        todo!()
    }

    /// Certificate chain and key of the TLS door.
    pub fn tls_identity(&self) -> TlsIdentity {
        todo!()
    }

    /// Gives up what was not confirmed in time: its certificates are revoked, its letters are good again. To be called
    /// every minute. Says how many transactions ended so.
    pub fn sweep(&self, _now: Timestamp) -> Result<usize, AuthorityError> {
        todo!()
    }
}
