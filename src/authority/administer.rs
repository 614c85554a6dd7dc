//! Administration: verifies a signed statement, executes its command and returns a signed response.
//!
//! Every statement is authorized again: the certificate must be current in the store and issued by
//! this CA, the seals of the user's record and role must be valid, and the statement must name this
//! run of the authority and be new. A letter leaves the authority only encrypted to the certificate
//! that the statement names.

mod accepted_statement;
mod add_administrator;
mod letter_commands;
mod queries;
mod statement_verifier;

use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use self::accepted_statement::{AcceptedStatement, refuse_used};
pub use self::add_administrator::AdministratorLetter;
pub(super) use self::add_administrator::check_administrator;
use self::add_administrator::{AdministratorAddition, acknowledge};
use self::letter_commands::LetterCommand;
use self::queries::UserQueries;
use self::statement_verifier::StatementVerifier;
pub use self::statement_verifier::UnsignedError;
use super::addition_notices::AdditionNotices;
use super::expiry::ExpiryWarnings;
use super::letters::LetterIssuer;
use super::records::VerifiedRecords;
use super::rejection::{RequestError, not_authorized};
use super::token_keys::TokenKeys;
use super::{AuthorityError, audit};
use crate::pki::Certificate;
use crate::statement::{
    AdminOperation, Checkpoint, Instance, LogPosition, LogVerdict, Response, SignedStatement, StatementAnswer,
    StatementChannel,
};
use crate::store::{AuditHead, LogEnd, StoreError};

/// Checked before any work, so that a command changes nothing in a restored or altered database.
const LOG_CONTRADICTED: &str =
    "its audit log contradicts the checkpoint that the administrator knows; nothing was done";

/// No command is executed, because no entry is added to an altered log.
const LOG_CHANGED: &str = "its audit log was altered in the database, so it executes no more commands; stop the \
                           authority, and see its log";

/// Executes administrators' commands, one at a time, and signs the responses.
#[derive(Debug)]
pub(super) struct Administration {
    records: Arc<VerifiedRecords>,
    verifier: StatementVerifier,
    letters: Arc<LetterIssuer>,
    additions: Arc<AdditionNotices>,
    expiry: Arc<ExpiryWarnings>,
    keys: TokenKeys,
    /// The certificate of the key that signs the responses.
    response: Certificate,
    lock: Mutex<()>,
}

impl Administration {
    pub(super) fn new(
        (records, keys): (&Arc<VerifiedRecords>, &TokenKeys),
        (letters, additions, expiry): (&Arc<LetterIssuer>, &Arc<AdditionNotices>, &Arc<ExpiryWarnings>),
        response: Certificate,
    ) -> Result<Self, AuthorityError> {
        let instance = Instance::random().map_err(|error| AuthorityError::Random(error.to_string()))?;
        Ok(Self {
            records: Arc::clone(records),
            verifier: StatementVerifier { records: Arc::clone(records), instance },
            letters: Arc::clone(letters),
            additions: Arc::clone(additions),
            expiry: Arc::clone(expiry),
            keys: keys.clone(),
            response,
            lock: Mutex::default(),
        })
    }

    /// The random number of this run.
    pub(super) fn instance(&self) -> Instance {
        self.verifier.instance
    }

    /// Answers one statement, within the limits of its transport.
    pub(super) fn answer(
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
        self.verifier.check_signer(statement, channel, now)?;
        // One statement at a time: administrators are few, and the order of two letters for one
        // user matters.
        let mut lock = Some(self.lock.lock().unwrap_or_else(PoisonError::into_inner));
        let mut known_log = None;
        let signed = signed.map_err(|error| not_authorized(error.to_string()));
        let heard = signed.and_then(|signed| self.verifier.verify(&signed, channel, now));
        let (mut added, mut ending) = (Vec::new(), Vec::new());
        let answer = heard.and_then(|(verified, administrator)| {
            added = self.additions.unacknowledged_by(&administrator.id);
            ending = self.expiry.lines(Some(&administrator.id), now);
            // This check precedes the walk through the log, which is expensive.
            refuse_used(&self.records, &verified)?;
            known_log = self.compare_log(verified.statement().known_log)?;
            if known_log == Some(LogVerdict::Contradicted) {
                tracing::error!(
                    by = %administrator.email,
                    "an administrator's checkpoint contradicts the audit log of this database"
                );
                return Err(not_authorized(LOG_CONTRADICTED));
            }
            let accepted = AcceptedStatement::accept(&self.records, statement, verified, administrator, now)?;
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

    /// Compares the audit log with the position that the administrator knows.
    fn compare_log(&self, known: Option<LogPosition>) -> Result<Option<LogVerdict>, AuthorityError> {
        let Some(LogPosition { sequence, head }) = known else { return Ok(None) };
        let continues = self.records.store.log_contains(AuditHead { number: sequence, hash: head })?;
        Ok(Some(if continues { LogVerdict::Continued } else { LogVerdict::Contradicted }))
    }

    fn execute(&self, accepted: &AcceptedStatement, now: Timestamp) -> Result<StatementAnswer, RequestError> {
        let records = &*self.records;
        let letter = LetterCommand { records, letters: &self.letters, accepted, now };
        let users = UserQueries { records, now };
        match &accepted.statement.statement().operation {
            AdminOperation::Issue { email, name, levels, valid_for_seconds } => {
                letter.issue(email, name.as_deref(), levels.as_deref(), *valid_for_seconds)
            }
            AdminOperation::Recover { email, lost, valid_for_seconds } => {
                letter.recover(email, *lost, *valid_for_seconds)
            }
            AdminOperation::Letter { letter: which } => letter.fetch(which),
            AdminOperation::List { after, limit } => users.list(after.as_deref(), *limit),
            AdminOperation::Show { email } => users.show(email),
            AdminOperation::Acknowledge { entry } => {
                acknowledge(records, &self.additions, *entry, &accepted.administrator, now)
            }
        }
    }

    /// Grants the administrator role to a user, or gives an administrator whose keyset is unusable
    /// a new letter. It waits for a statement that is being executed.
    pub(super) fn add_administrator(
        &self,
        email: &str,
        name: Option<&str>,
        now: Timestamp,
    ) -> Result<AdministratorLetter, AuthorityError> {
        let _turn = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let addition = AdministratorAddition { records: &self.records, letters: &self.letters, now };
        addition.add(email, name).map_err(|stop| match stop {
            RequestError::Refused(rejection) => AuthorityError::NotAdded(rejection.text),
            RequestError::Failed(error) => error,
        })
    }

    fn respond(
        &self,
        response: impl FnOnce(Checkpoint) -> Response,
        now: Timestamp,
    ) -> Result<Vec<u8>, AuthorityError> {
        // The head that this process wrote: a row of the database is never signed.
        let LogEnd { head, is_unchanged } = self.records.store.log_end()?;
        if !is_unchanged {
            tracing::error!(known = head.number, "the newest entry of the audit log was altered in the database");
        }
        let checkpoint = audit::checkpoint(&self.keys, self.records.authority(), head, now)?;
        let response = response(checkpoint);
        let signed = response.sign(&self.keys.response, &self.response, self.records.authority(), now)?;
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
