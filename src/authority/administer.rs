//! Administration: verifies a signed statement, executes its command and returns a signed response.
//!
//! Every statement is authorized again: the certificate must be current in the store and issued by
//! this CA, the seals of the user's record and role must be valid, and the statement must name this
//! run of the authority and be new. A letter leaves the authority only encrypted to the certificate
//! that the statement names.

mod add_administrator;
mod fetch;
mod letter_recipient;
mod letters;
mod queries;

use std::sync::PoisonError;

use jiff::Timestamp;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::rejection::{Rejection, RequestError};
use super::temporary_key::TemporaryKeySpec;
use super::{Authority, AuthorityError, UnsignedError, audit, crash_point};
use crate::cmp::PkiFailureInfo;
use crate::pki::{Certificate, CertificatePurpose, Fingerprint, path};
use crate::statement::{
    AdminOperation, Checkpoint, LogPosition, LogVerdict, Response, SignedStatement, StatementAnswer, StatementChannel,
    StatementError, VerifiedStatement,
};
use crate::store::{
    AuditHead, CertificateKind, CertificateState, LogEnd, Role, StatementRecord, StoreError, TemporaryKeyPurpose,
    UserRecord,
};

pub(super) use self::add_administrator::AdditionNotices;
pub use self::add_administrator::AdministratorLetter;
use self::letters::LetterUser;

/// Checked before any work, so that a command changes nothing in a restored or altered database.
const LOG_CONTRADICTED: &str =
    "its audit log contradicts the checkpoint that the administrator knows; nothing was done";

/// No command is executed, because no entry is added to an altered log.
const LOG_CHANGED: &str = "its audit log was altered in the database, so it executes no more commands; stop the \
                           authority, and see its log";

/// Refuses every signer who is not an administrator in the same words.
const NOT_AN_ADMINISTRATOR: &str =
    "the signer is not an administrator of this authority, or the certificate is not current";

/// Checked before any work: the memory of this run cannot tell a statement that an earlier run used
/// from a new one.
const WRONG_INSTANCE: &str = "the authority was restarted in the meantime; nothing was done; run the command again";

const TAKEN_BEFORE: &str = "this statement was already used; make a new one";

/// A statement signed by an administrator, whose nonce is consumed.
struct AcceptedStatement {
    statement: VerifiedStatement,
    administrator: UserRecord,
    /// The certificate that the letter is encrypted to; `None` if the command returns no letter.
    letter_recipient: Option<Certificate>,
}

impl Authority {
    /// Answers one statement (CMS `SignedData`) with a signed response, within the limits of its
    /// transport. Fails, without a signature, unless the holder of a certificate of this CA signed
    /// the statement.
    pub fn answer_statement(
        &self,
        statement: &[u8],
        channel: StatementChannel,
        now: Timestamp,
    ) -> Result<Vec<u8>, UnsignedError> {
        let signed = SignedStatement::parse(statement);
        // An unreadable statement has no digest; the digest of its bytes identifies it to its
        // sender.
        let digest = signed.as_ref().map_or_else(|_| Sha256::digest(statement).into(), SignedStatement::digest);
        let span = tracing::info_span!("statement", digest = %hex::encode(digest));
        let _inside = span.enter();
        self.check_signer(statement, channel, now)?;
        // One statement at a time: administrators are few, and the order of two letters for one
        // user matters.
        let mut lock = Some(self.administration_lock.lock().unwrap_or_else(PoisonError::into_inner));
        let mut known_log = None;
        let signed = signed.map_err(|error| refuse(error.to_string()));
        let heard = signed.and_then(|signed| self.verify_statement(&signed, channel, now));
        let (mut added, mut ending) = (Vec::new(), Vec::new());
        let answer = heard.and_then(|(verified, administrator)| {
            added = self.added.unacknowledged_by(&administrator.id);
            ending = self.expiring_certificates(Some(&administrator.id), now);
            // This check precedes the walk through the log, which is expensive.
            self.refuse_used(&verified)?;
            known_log = self.compare_log(verified.statement().known_log)?;
            if known_log == Some(LogVerdict::Contradicted) {
                tracing::error!(
                    by = %administrator.email,
                    "an administrator's checkpoint contradicts the audit log of this database"
                );
                return Err(refuse(LOG_CONTRADICTED));
            }
            let accepted = self.consume_nonce(statement, verified, administrator, now)?;
            if accepted.statement.statement().operation.only_reads() {
                // Releases the lock, so that others need not wait while users are read and seals
                // are checked.
                lock = None;
            }
            self.execute(&accepted, now)
        });
        if let Err(RequestError::Failed(error)) = &answer
            && error.text_for_client().is_some()
        {
            return Err(no_response(error));
        }
        let answer = answer.unwrap_or_else(|stop| match stop {
            RequestError::Refused(rejection) => {
                tracing::warn!(reason = %rejection, "refused");
                StatementAnswer::Refused(rejection.text)
            }
            RequestError::Failed(error) => {
                tracing::error!(%error, "failed");
                StatementAnswer::Refused(failure_text(&error).into())
            }
        });
        drop(lock);
        let response = |checkpoint| Response { statement: digest, answer, checkpoint, known_log, added, ending };
        self.respond(response, now).map_err(|error| no_response(&error))
    }

    /// Checks that the holder of a certificate of this CA signed the statement. Only such a signer
    /// gets a signed response: anybody can send other bytes, and these are refused before the token
    /// is used.
    fn check_signer(&self, statement: &[u8], channel: StatementChannel, now: Timestamp) -> Result<(), UnsignedError> {
        let unverified = |reason: String| {
            tracing::warn!(reason, "statement not verified");
            UnsignedError::Unverified(reason)
        };
        let signed = SignedStatement::parse(statement).map_err(|error| unverified(error.to_string()))?;
        let certificate = signed.claimed_certificate();
        path::verify(certificate, &[], std::slice::from_ref(&self.ca), CertificatePurpose::Signing, now)
            .map_err(|_| unverified(NOT_AN_ADMINISTRATOR.to_owned()))?;
        match signed.verify(certificate, Fingerprint::from_bytes(self.identity.authority), channel, now) {
            Err(error @ (StatementError::Signature { .. } | StatementError::Cms { .. })) => {
                Err(unverified(error.to_string()))
            }
            // Other faults of the statement are reported to its signer in the response.
            _ => Ok(()),
        }
    }

    /// Verifies a statement and finds the administrator who signed it.
    fn verify_statement(
        &self,
        signed: &SignedStatement,
        channel: StatementChannel,
        now: Timestamp,
    ) -> Result<(VerifiedStatement, UserRecord), RequestError> {
        let (administrator, certificate) = self.administrator_of(signed.claimed_certificate(), now)?;
        let authority = Fingerprint::from_bytes(self.identity.authority);
        let verified =
            signed.verify(&certificate, authority, channel, now).map_err(|error| refuse(error.to_string()))?;
        if verified.statement().instance.is_some_and(|instance| instance != self.instance) {
            return Err(refuse(WRONG_INSTANCE));
        }
        Ok((verified, administrator))
    }

    /// Compares the audit log with the position that the administrator knows.
    fn compare_log(&self, known: Option<LogPosition>) -> Result<Option<LogVerdict>, AuthorityError> {
        let Some(LogPosition { sequence, head }) = known else { return Ok(None) };
        let continues = self.store.log_contains(AuditHead { number: sequence, hash: head })?;
        Ok(Some(if continues { LogVerdict::Continued } else { LogVerdict::Contradicted }))
    }

    /// Refuses a statement that was accepted before according to the log, even if its row was
    /// deleted.
    fn refuse_used(&self, verified: &VerifiedStatement) -> Result<(), RequestError> {
        if self.audit_state.is_statement_used(&verified.digest()) {
            return Err(refuse(TAKEN_BEFORE));
        }
        Ok(())
    }

    /// Consumes the statement's nonce, which [`Self::refuse_used`] found unused.
    fn consume_nonce(
        &self,
        message: &[u8],
        verified: VerifiedStatement,
        administrator: UserRecord,
        now: Timestamp,
    ) -> Result<AcceptedStatement, RequestError> {
        let content = verified.statement();
        // Checked before the nonce is consumed: a letter that its administrator could not open must
        // not void the user's earlier letter.
        let letter_recipient = self.letter_recipient(content, &administrator, now)?;
        let detail = json!({
            "statement": hex::encode(verified.digest()),
            "administrator": administrator.id,
            "operation": content.operation.name(),
            "target": content.operation.target(),
            "known_log": content.known_log.map(|known| known.sequence),
            "not_after": content.not_after.as_second(),
        });
        let record = StatementRecord {
            digest: verified.digest(),
            nonce: content.nonce.to_vec(),
            administrator: administrator.id.clone(),
            operation: content.operation.name().to_owned(),
            received_at: now,
            not_after: content.not_after,
            message: message.to_vec(),
        };
        if !self.store.record_statement(record, audit::entry(now, "statement.taken", &detail))? {
            return Err(refuse(TAKEN_BEFORE));
        }
        crash_point("authority.statement.after_taken");
        tracing::info!(operation = content.operation.name(), by = %administrator.email, "taken");
        Ok(AcceptedStatement { statement: verified, administrator, letter_recipient })
    }

    /// Returns the administrator whose current signing certificate this is. Every other signer gets
    /// the same refusal.
    fn administrator_of(
        &self,
        claimed: &Certificate,
        now: Timestamp,
    ) -> Result<(UserRecord, Certificate), RequestError> {
        let not_an_administrator = || refuse(NOT_AN_ADMINISTRATOR);
        let record = self.certificate(&claimed.serial().to_string())?.ok_or_else(not_an_administrator)?;
        let is_theirs = record.certificate.as_deref() == Some(claimed.as_der())
            && record.intent.kind == CertificateKind::Signing
            && record.state == CertificateState::Current;
        let user_id = record.intent.user_id.as_ref().filter(|_| is_theirs).ok_or_else(not_an_administrator)?;
        let anchors = std::slice::from_ref(&self.ca);
        path::verify(claimed, &[], anchors, CertificatePurpose::Signing, now).map_err(|_| not_an_administrator())?;
        let user = self.user_of(user_id)?;
        // The row names the owner of the certificate, but only the certificate is signed by the CA.
        if !claimed.emails().iter().any(|email| normalize_email(email) == user.email_key) {
            return Err(not_an_administrator());
        }
        let grant = self.role_of(&user, Role::Administrator)?.ok_or_else(not_an_administrator)?;
        if !grant.counts_at(now) {
            let from = grant.counts_from.unwrap_or(now);
            return Err(refuse(format!("the signer's administrator role takes effect only from {from} on")));
        }
        Ok((user, claimed.clone()))
    }

    fn execute(&self, accepted: &AcceptedStatement, now: Timestamp) -> Result<StatementAnswer, RequestError> {
        match &accepted.statement.statement().operation {
            AdminOperation::Issue { email, name, levels, valid_for_seconds } => {
                let user = self.letter_user(email, name.as_deref(), now)?;
                let wanted = TemporaryKeySpec {
                    user_id: user.record.id.clone(),
                    purpose: TemporaryKeyPurpose::Enroll,
                    levels: self.levels(levels.as_deref())?,
                    lost: false,
                    statement: Some(accepted.statement.digest()),
                    valid_for: self.validity(*valid_for_seconds)?,
                };
                self.issue_letter(&user, &wanted, accepted, now)
            }
            AdminOperation::Recover { email, lost, valid_for_seconds } => {
                let user = self.known_user(email)?;
                if self.history_certificates(&user)?.is_empty() {
                    return Err(refuse(format!(
                        "{email} has no archived keys to recover; `admin issue` makes a letter to enroll"
                    )));
                }
                let wanted = TemporaryKeySpec {
                    user_id: user.id.clone(),
                    purpose: TemporaryKeyPurpose::Recover,
                    levels: self.levels(None)?,
                    lost: *lost,
                    statement: Some(accepted.statement.digest()),
                    valid_for: self.validity(*valid_for_seconds)?,
                };
                if *lost {
                    let mut current = self.certificates_of(&user.id)?;
                    current.retain(|record| record.state == CertificateState::Current);
                    let serials: Vec<&str> = current.iter().map(|record| record.intent.serial.as_str()).collect();
                    let detail = json!({ "user": user.id, "reason": "keyCompromise", "serials": serials });
                    let entry = audit::entry(now, "certificates.revoked", &detail);
                    self.store.revoke_current(&user.id, "keyCompromise", entry)?;
                    crash_point("authority.statement.after_revocation");
                }
                self.issue_letter(&LetterUser { record: user, is_new: false }, &wanted, accepted, now)
            }
            AdminOperation::Letter { letter } => self.fetch_letter(letter, accepted, now),
            AdminOperation::List => self.list(None, None, now),
            AdminOperation::ListPage { after, limit } => self.list(after.as_deref(), *limit, now),
            AdminOperation::Show { email } => self.show(&self.known_user(email)?, now),
            AdminOperation::Acknowledge { entry } => self.acknowledge(*entry, &accepted.administrator, now),
        }
    }

    fn known_user(&self, email: &str) -> Result<UserRecord, RequestError> {
        let user = self.store.user_by_email(&normalize_email(email))?;
        let user = user.ok_or_else(|| refuse(format!("user {email} not found; `admin list` lists all users")))?;
        Ok(self.sealer.check_user(user)?)
    }

    fn respond(
        &self,
        response: impl FnOnce(Checkpoint) -> Response,
        now: Timestamp,
    ) -> Result<Vec<u8>, AuthorityError> {
        // The head that this process wrote: a row of the database is never signed.
        let LogEnd { head, is_unchanged } = self.store.log_end()?;
        if !is_unchanged {
            tracing::error!(known = head.number, "the newest entry of the audit log was altered in the database");
        }
        let checkpoint = audit::checkpoint(&self.keys, &self.identity.authority, head, now)?;
        let response = response(checkpoint);
        let authority = Fingerprint::from_bytes(self.identity.authority);
        let signed = response.sign(&self.keys.response, &self.response, authority, now)?;
        Ok(signed.as_der().to_vec())
    }
}

fn no_response(error: &AuthorityError) -> UnsignedError {
    tracing::error!(%error, "cannot respond");
    UnsignedError::Fault(failure_text(error).to_owned())
}

/// The text about a fault that the administrator gets.
fn failure_text(error: &AuthorityError) -> &'static str {
    match error {
        AuthorityError::Store(StoreError::LogChanged { .. }) => LOG_CHANGED,
        _ => error.text_for_client().unwrap_or("the authority cannot do this now; see its log"),
    }
}

/// Normalizes an e-mail address (trimmed, ASCII lower case), so that spellings of one address
/// compare equal.
pub(super) fn normalize_email(email: &str) -> String {
    email.trim().to_ascii_lowercase()
}

fn refuse(text: impl Into<String>) -> RequestError {
    RequestError::Refused(Rejection::new(PkiFailureInfo::NOT_AUTHORIZED, text))
}
