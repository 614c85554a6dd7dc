//! Verifies that an administrator of this authority signed a statement for this run of it.

use std::sync::Arc;

use jiff::Timestamp;

use crate::authority::records::{VerifiedRecords, names_user};
use crate::authority::rejection::{RequestError, not_authorized};
use crate::pki::{Certificate, CertificatePurpose};
use crate::statement::{Instance, SignedStatement, StatementChannel, StatementError, VerifiedStatement};
use crate::store::{CertificateKind, CertificateState, Role, UserRecord};

/// Refuses every signer who is not an administrator in the same words.
const NOT_AN_ADMINISTRATOR: &str =
    "the signer is not an administrator of this authority, or the certificate is not current";

/// Checked before any work: the memory of this run cannot tell a statement that an earlier run used
/// from a new one.
const WRONG_INSTANCE: &str = "the authority was restarted in the meantime; nothing was done; run the command again";

/// The reason for a missing signed response to a statement, as a sentence for the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UnsignedError {
    /// The statement is not verified as an administrator's. Nothing was done or signed: anybody can
    /// send such bytes.
    Unverified(String),
    /// A fault. The audit log shows whether the command was executed.
    Fault(String),
}

/// Verifies the signer of a statement, and what the statement says about this run.
#[derive(Debug)]
pub(super) struct StatementVerifier {
    pub(super) records: Arc<VerifiedRecords>,
    /// The random number of this run.
    pub(super) instance: Instance,
}

impl StatementVerifier {
    /// Checks that the holder of a certificate of this CA signed the statement. Only such a signer
    /// gets a signed response: anybody can send other bytes, and these are refused before the token
    /// is used.
    pub(super) fn check_signer(
        &self,
        statement: &[u8],
        channel: StatementChannel,
        now: Timestamp,
    ) -> Result<(), UnsignedError> {
        let unverified = |reason: String| {
            tracing::warn!(reason, "statement not verified");
            UnsignedError::Unverified(reason)
        };
        let signed = SignedStatement::parse(statement).map_err(|error| unverified(error.to_string()))?;
        let certificate = signed.claimed_certificate();
        self.records
            .verify_path(certificate, CertificatePurpose::Signing, now)
            .map_err(|_| unverified(NOT_AN_ADMINISTRATOR.to_owned()))?;
        match signed.verify(certificate, self.records.authority(), channel, now) {
            Err(error @ (StatementError::Signature { .. } | StatementError::Cms { .. })) => {
                Err(unverified(error.to_string()))
            }
            // Other faults of the statement are reported to its signer in the response.
            _ => Ok(()),
        }
    }

    /// Verifies a statement and finds the administrator who signed it.
    pub(super) fn verify(
        &self,
        signed: &SignedStatement,
        channel: StatementChannel,
        now: Timestamp,
    ) -> Result<(VerifiedStatement, UserRecord), RequestError> {
        let certificate = signed.claimed_certificate();
        let administrator = self.administrator_of(certificate, now)?;
        let verified = signed
            .verify(certificate, self.records.authority(), channel, now)
            .map_err(|error| not_authorized(error.to_string()))?;
        if verified.statement().instance.is_some_and(|instance| instance != self.instance) {
            return Err(not_authorized(WRONG_INSTANCE));
        }
        Ok((verified, administrator))
    }

    /// Returns the administrator whose current signing certificate this is. Every other signer gets
    /// the same refusal.
    fn administrator_of(&self, claimed: &Certificate, now: Timestamp) -> Result<UserRecord, RequestError> {
        let not_an_administrator = || not_authorized(NOT_AN_ADMINISTRATOR);
        let record = self.records.certificate(&claimed.serial().to_string())?.ok_or_else(not_an_administrator)?;
        let is_theirs = record.certificate.as_deref() == Some(claimed.as_der())
            && record.intent.kind == CertificateKind::Signing
            && record.state == CertificateState::Current;
        let user_id = record.intent.user_id.as_ref().filter(|_| is_theirs).ok_or_else(not_an_administrator)?;
        self.records.verify_path(claimed, CertificatePurpose::Signing, now).map_err(|_| not_an_administrator())?;
        let user = self.records.user(user_id)?;
        if !names_user(claimed, &user) {
            return Err(not_an_administrator());
        }
        let grant = self.records.role_of(&user, Role::Administrator)?.ok_or_else(not_an_administrator)?;
        if !grant.counts_at(now) {
            let from = grant.counts_from.unwrap_or(now);
            return Err(not_authorized(format!("the signer's administrator role takes effect only from {from} on")));
        }
        Ok(user)
    }
}
