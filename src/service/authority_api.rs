//! The interface of the authority that the listeners use.

use std::net::IpAddr;

use jiff::Timestamp;

use crate::authority::{Authority, AuthorityError, CmpReply, DatabaseCheckReport, UnsignedError};
use crate::statement::{Instance, StatementChannel};

/// The authority's interface for the listeners. All methods block unless noted.
///
/// It is a trait because the tests of limits, timeouts and shutdown need an authority that blocks
/// until it is released, panics, or reports a chosen fault, which the real one never does on
/// command.
pub(super) trait AuthorityApi: Send + Sync + 'static {
    fn answer_cmp(&self, message: &[u8], source: IpAddr, now: Timestamp) -> CmpReply;
    /// Answers a statement that arrived by this transport.
    fn answer_statement(
        &self,
        statement: &[u8],
        channel: StatementChannel,
        now: Timestamp,
    ) -> Result<Vec<u8>, UnsignedError>;
    /// The random number of this run. Does not block.
    fn instance(&self) -> Instance;
    /// Returns the encryption certificates of an e-mail address.
    fn search_certificates(&self, email: &str, now: Timestamp) -> Result<Vec<Vec<u8>>, AuthorityError>;
    /// The CA certificate (DER).
    fn ca_certificate(&self) -> Vec<u8>;
    /// Checks the whole database. May take minutes.
    fn check(&self) -> Result<DatabaseCheckReport, AuthorityError>;
    /// Checks the log entries that the start left unchecked. May take minutes.
    fn check_older_log(&self) -> Result<(), AuthorityError>;
    /// Moves all changes into the main database file. The last call.
    fn close(&self) -> Result<(), AuthorityError>;
    /// Discards unconfirmed transactions.
    fn sweep(&self, now: Timestamp) -> Result<usize, AuthorityError>;
}

impl AuthorityApi for Authority {
    fn answer_cmp(&self, message: &[u8], source: IpAddr, now: Timestamp) -> CmpReply {
        Self::answer_cmp(self, message, source, now)
    }

    fn answer_statement(
        &self,
        statement: &[u8],
        channel: StatementChannel,
        now: Timestamp,
    ) -> Result<Vec<u8>, UnsignedError> {
        Self::answer_statement(self, statement, channel, now)
    }

    fn instance(&self) -> Instance {
        Self::instance(self)
    }

    fn search_certificates(&self, email: &str, now: Timestamp) -> Result<Vec<Vec<u8>>, AuthorityError> {
        Self::search_certificates(self, email, now)
    }

    fn ca_certificate(&self) -> Vec<u8> {
        Self::ca_certificate(self).to_vec()
    }

    fn check(&self) -> Result<DatabaseCheckReport, AuthorityError> {
        Self::check(self)
    }

    fn check_older_log(&self) -> Result<(), AuthorityError> {
        Self::check_older_log(self)
    }

    fn close(&self) -> Result<(), AuthorityError> {
        Self::close(self)
    }

    fn sweep(&self, now: Timestamp) -> Result<usize, AuthorityError> {
        Self::sweep(self, now)
    }
}
