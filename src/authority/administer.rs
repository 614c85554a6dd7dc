//! Administration: verifies a signed statement, executes its command and returns a signed response.
//!
//! Every statement is authorized again: the certificate must be current in the store and issued by
//! this CA, the seals of the user's record and role must be valid, and the statement must name this
//! run of the authority and be new. A letter leaves the authority only encrypted to the certificate
//! that the statement names.

mod added;
mod fetch;
mod letter_reader;
mod letters;
mod tell;

use std::sync::PoisonError;

use jiff::Timestamp;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::rejection::{Rejection, Stop};
use super::temporary_key::Wanted;
use super::{Authority, AuthorityError, NoResponse, at, audit};
use crate::cmp::PkiFailureInfo;
use crate::pki::{Certificate, Fingerprint, Purpose as CertificatePurpose, path};
use crate::statement::{
    Answer, Checkpoint, LogPosition, LogVerdict, Operation, Response, SignedStatement, StatementError,
    VerifiedStatement, Way,
};
use crate::store::{
    AuditHead, CertificateKind, CertificateState, LogEnd, Purpose, Role, StatementRecord, StoreError, UserRecord,
};

pub(super) use self::added::Added;
pub use self::added::AdministratorLetter;
use self::letters::IssueTo;

/// Checked before any work, so that a command changes nothing in a restored or altered database.
const LOG_CONTRADICTED: &str =
    "its audit log contradicts the checkpoint that the administrator knows; nothing was done";

/// No command is executed, because no entry is added to an altered log.
const LOG_CHANGED: &str = "its audit log was altered in the database, so it executes no more commands; stop the \
                           authority, and see its log";

/// The same refusal for every signer who is not an administrator.
const NOBODY: &str = "the signer is not an administrator of this authority, or the certificate is not current";

/// Checked before any work: the memory of this run cannot tell a statement that an earlier run used
/// from a new one.
const OTHER_RUN: &str = "the authority was restarted in the meantime; nothing was done; run the command again";

const TAKEN_BEFORE: &str = "this statement was already used; make a new one";

/// A statement signed by an administrator, whose nonce is consumed.
struct TakenStatement {
    statement: VerifiedStatement,
    administrator: UserRecord,
    /// The certificate that the letter is encrypted to; `None` if the command returns no letter.
    letter_reader: Option<Certificate>,
}

impl Authority {
    /// Answers one statement (CMS `SignedData`) with a signed response, within the limits of its
    /// transport. Fails, without a signature, unless the holder of a certificate of this CA signed
    /// the statement.
    pub fn answer_statement(&self, statement: &[u8], way: Way, now: Timestamp) -> Result<Vec<u8>, NoResponse> {
        let signed = SignedStatement::parse(statement);
        // An unreadable statement has no digest; the digest of its bytes identifies it to its
        // sender.
        let digest = signed.as_ref().map_or_else(|_| Sha256::digest(statement).into(), SignedStatement::digest);
        let span = tracing::info_span!("statement", digest = %hex::encode(digest));
        let _inside = span.enter();
        self.check_signer(statement, way, now)?;
        // One statement at a time: administrators are few, and the order of two letters for one
        // user matters.
        let mut turn = Some(self.administration.lock().unwrap_or_else(PoisonError::into_inner));
        let mut known_log = None;
        let signed = signed.map_err(|error| refuse(error.to_string()));
        let heard = signed.and_then(|signed| self.hear(&signed, way, now));
        let (mut added, mut ending) = (Vec::new(), Vec::new());
        let answer = heard.and_then(|(verified, administrator)| {
            added = self.added.not_known_to(&administrator.id);
            ending = self.ending_certificates(Some(&administrator.id), now);
            // This check precedes the walk through the log, which is expensive.
            self.refuse_used(&verified)?;
            known_log = self.compare_log(verified.statement().known_log)?;
            if known_log == Some(LogVerdict::Contradicted) {
                tracing::error!(by = %administrator.email, "an administrator's checkpoint contradicts the audit log of this database");
                return Err(refuse(LOG_CONTRADICTED));
            }
            let taken = self.take(statement, verified, administrator, now)?;
            if taken.statement.statement().operation.only_reads() {
                // Releases the lock, so that others need not wait while users are read and seals
                // are checked.
                turn = None;
            }
            self.carry_out_statement(&taken, now)
        });
        if let Err(Stop::Failed(error)) = &answer
            && error.passing().is_some()
        {
            return Err(no_response(error));
        }
        let answer = answer.unwrap_or_else(|stop| match stop {
            Stop::Refused(rejection) => {
                tracing::warn!(reason = %rejection, "refused");
                Answer::Refused(rejection.text)
            }
            Stop::Failed(error) => {
                tracing::error!(%error, "failed");
                Answer::Refused(failure_text(&error).into())
            }
        });
        drop(turn);
        let response = |checkpoint| Response { statement: digest, answer, checkpoint, known_log, added, ending };
        self.respond(response, now).map_err(|error| no_response(&error))
    }

    /// Checks that the holder of a certificate of this CA signed the statement. Only such a signer
    /// gets a signed response: anybody can send other bytes, and these are refused before the token
    /// is used.
    fn check_signer(&self, statement: &[u8], way: Way, now: Timestamp) -> Result<(), NoResponse> {
        let unverified = |reason: String| {
            tracing::warn!(reason, "statement not verified");
            NoResponse::Unverified(reason)
        };
        let signed = SignedStatement::parse(statement).map_err(|error| unverified(error.to_string()))?;
        let certificate = signed.claimed_certificate();
        path::verify(certificate, &[], std::slice::from_ref(&self.ca), CertificatePurpose::Signing, now)
            .map_err(|_| unverified(NOBODY.to_owned()))?;
        match signed.verify(certificate, Fingerprint::from_bytes(self.identity.authority), way, now) {
            Err(error @ (StatementError::Signature { .. } | StatementError::Cms { .. })) => {
                Err(unverified(error.to_string()))
            }
            // Other faults of the statement are reported to its signer in the response.
            _ => Ok(()),
        }
    }

    /// Verifies a statement and finds the administrator who signed it.
    fn hear(
        &self,
        signed: &SignedStatement,
        way: Way,
        now: Timestamp,
    ) -> Result<(VerifiedStatement, UserRecord), Stop> {
        let (administrator, certificate) = self.administrator_of(signed.claimed_certificate(), now)?;
        let authority = Fingerprint::from_bytes(self.identity.authority);
        let verified = signed.verify(&certificate, authority, way, now).map_err(|error| refuse(error.to_string()))?;
        if verified.statement().instance.is_some_and(|instance| instance != self.instance) {
            return Err(refuse(OTHER_RUN));
        }
        Ok((verified, administrator))
    }

    /// Compares the audit log with the position that the administrator knows.
    fn compare_log(&self, known: Option<LogPosition>) -> Result<Option<LogVerdict>, AuthorityError> {
        let Some(LogPosition { sequence, head }) = known else { return Ok(None) };
        let continues = self.store.audit_continues(AuditHead { number: sequence, hash: head })?;
        Ok(Some(if continues { LogVerdict::Continued } else { LogVerdict::Contradicted }))
    }

    /// Refuses a statement that was accepted before according to the log, even if its row was
    /// deleted.
    fn refuse_used(&self, verified: &VerifiedStatement) -> Result<(), Stop> {
        if self.ended.is_statement_taken(&verified.digest()) {
            return Err(refuse(TAKEN_BEFORE));
        }
        Ok(())
    }

    /// Consumes the statement's nonce, which [`Self::refuse_used`] found unused.
    fn take(
        &self,
        message: &[u8],
        verified: VerifiedStatement,
        administrator: UserRecord,
        now: Timestamp,
    ) -> Result<TakenStatement, Stop> {
        let content = verified.statement();
        // Checked before the nonce is consumed: a letter that its administrator could not open must
        // not void the user's earlier letter.
        let letter_reader = self.letter_reader(content, &administrator, now)?;
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
        if !self.store.take_statement(record, audit::entry(now, "statement.taken", &detail))? {
            return Err(refuse(TAKEN_BEFORE));
        }
        at("authority.statement.after_taken");
        tracing::info!(operation = content.operation.name(), by = %administrator.email, "taken");
        Ok(TakenStatement { statement: verified, administrator, letter_reader })
    }

    /// Returns the administrator whose current signing certificate this is. Every other signer gets
    /// the same refusal.
    fn administrator_of(&self, claimed: &Certificate, now: Timestamp) -> Result<(UserRecord, Certificate), Stop> {
        let nobody = || refuse(NOBODY);
        let record = self.certificate(&claimed.serial().to_string())?.ok_or_else(nobody)?;
        let is_theirs = record.certificate.as_deref() == Some(claimed.as_der())
            && record.intent.kind == CertificateKind::Signing
            && record.state == CertificateState::Current;
        let user_id = record.intent.user_id.as_ref().filter(|_| is_theirs).ok_or_else(nobody)?;
        let anchors = std::slice::from_ref(&self.ca);
        path::verify(claimed, &[], anchors, CertificatePurpose::Signing, now).map_err(|_| nobody())?;
        let user = self.user_of(user_id)?;
        // The row names the owner of the certificate, but only the certificate is signed by the CA.
        if !claimed.emails().iter().any(|email| comparable(email) == user.email_key) {
            return Err(nobody());
        }
        let grant = self.role_of(&user, Role::Administrator)?.ok_or_else(nobody)?;
        if !grant.counts_at(now) {
            let from = grant.counts_from.unwrap_or(now);
            return Err(refuse(format!("the signer's administrator role takes effect only from {from} on")));
        }
        Ok((user, claimed.clone()))
    }

    fn carry_out_statement(&self, taken: &TakenStatement, now: Timestamp) -> Result<Answer, Stop> {
        match &taken.statement.statement().operation {
            Operation::Issue { email, name, levels, valid_for_seconds } => {
                let user = self.user_to_issue_to(email, name.as_deref(), now)?;
                let wanted = Wanted {
                    user_id: user.record.id.clone(),
                    purpose: Purpose::Enroll,
                    levels: self.levels(levels.as_deref())?,
                    lost: false,
                    statement: Some(taken.statement.digest()),
                    valid_for: self.validity(*valid_for_seconds)?,
                };
                self.issue_letter(&user, &wanted, taken, now)
            }
            Operation::Recover { email, lost, valid_for_seconds } => {
                let user = self.known_user(email)?;
                if self.history_certificates(&user)?.is_empty() {
                    return Err(refuse(format!(
                        "{email} has no archived keys to recover; `admin issue` makes a letter to enroll"
                    )));
                }
                let wanted = Wanted {
                    user_id: user.id.clone(),
                    purpose: Purpose::Recover,
                    levels: self.levels(None)?,
                    lost: *lost,
                    statement: Some(taken.statement.digest()),
                    valid_for: self.validity(*valid_for_seconds)?,
                };
                if *lost {
                    let mut current = self.certificates_of(&user.id)?;
                    current.retain(|record| record.state == CertificateState::Current);
                    let serials: Vec<&str> = current.iter().map(|record| record.intent.serial.as_str()).collect();
                    let detail = json!({ "user": user.id, "reason": "keyCompromise", "serials": serials });
                    let entry = audit::entry(now, "certificates.revoked", &detail);
                    self.store.revoke_current(&user.id, "keyCompromise", entry)?;
                    at("authority.statement.after_revocation");
                }
                self.issue_letter(&IssueTo { record: user, is_new: false }, &wanted, taken, now)
            }
            Operation::Letter { letter } => self.fetch_letter(letter, taken, now),
            Operation::List => self.list(None, None, now),
            Operation::ListPage { after, limit } => self.list(after.as_deref(), *limit, now),
            Operation::Show { email } => self.show(&self.known_user(email)?, now),
            Operation::Acknowledge { entry } => self.acknowledge(*entry, &taken.administrator, now),
        }
    }

    fn known_user(&self, email: &str) -> Result<UserRecord, Stop> {
        let user = self.store.user_by_email(&comparable(email))?;
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

fn no_response(error: &AuthorityError) -> NoResponse {
    tracing::error!(%error, "cannot respond");
    NoResponse::Fault(failure_text(error).to_owned())
}

/// The text about a fault that the administrator gets.
fn failure_text(error: &AuthorityError) -> &'static str {
    match error {
        AuthorityError::Store(StoreError::LogChanged { .. }) => LOG_CHANGED,
        _ => error.passing().unwrap_or("the authority cannot do this now; see its log"),
    }
}

/// Normalizes an e-mail address (trimmed, ASCII lower case), so that spellings of one address
/// compare equal.
pub(super) fn comparable(email: &str) -> String {
    email.trim().to_ascii_lowercase()
}

fn refuse(text: impl Into<String>) -> Stop {
    Stop::Refused(Rejection::new(PkiFailureInfo::NOT_AUTHORIZED, text))
}
