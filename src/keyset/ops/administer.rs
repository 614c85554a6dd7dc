//! An administrator's command: a statement signed with a keyset's signing key, sent to the
//! authority, and the verified response.
//!
//! The login lasts for the whole exchange, which the transport limits in time: it is needed to open
//! the letter in the response and to store the checkpoint in the private index. One prompt covers
//! both key uses (signing the command and opening its letter), because a command is one operation
//! at every level.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::crash_point;
use crate::keyset::checkpoint::{CommandResult, LogPolicy};
use crate::keyset::command_response::VerifiedResponse;
use crate::keyset::index::PrivateIndex;
use crate::keyset::signing::refuse_expired_administrator;
use crate::keyset::unlock::{damaged, key_and_certificate, read_private_index_for_use, require_usable, unlock};
use crate::keyset::{
    FoundKeyset, Inventory, KeysetChoice, KeysetError, Operation, OperationContext, Outcome, Purpose, Tokens,
    UserPrompter,
};
use crate::pki::{Certificate, Fingerprint};
use crate::statement::{AdminOperation, Checkpoint, Instance, LogPosition, SignedStatement, Statement};
use crate::token::{KeyId, Token, TokenEnrollment};
use crate::transport::{Transport, TransportError};

/// Signs an administrator's command and sends it to the authority; the result is the answer. The
/// text of a letter is the attached secret. No other operation signs a statement, but
/// [`SignStatement`].
#[derive(Debug, Serialize, Deserialize)]
pub struct Administer {
    pub keyset: KeysetChoice,
    pub command: AdminOperation,
    pub log_policy: LogPolicy,
}

impl Operation for Administer {
    const NAME: &'static str = "sign the command";
    type Target = FoundKeyset;
    type Output = CommandResult;

    fn select(&self, inventory: &Inventory<'_>) -> Result<FoundKeyset, KeysetError> {
        inventory.keyset(&self.keyset)
    }

    fn run(self, keyset: FoundKeyset, cx: &mut OperationContext<'_>) -> Result<Outcome<CommandResult>, KeysetError> {
        let Self { command, log_policy, .. } = self;
        let mut result = administer(cx.tokens, &keyset, cx.transport, command, log_policy, cx.person, cx.now)?;
        cx.attachments.secret = result.take_letter();
        Ok(Outcome::Done(result))
    }
}

/// Signs an administrator's command that travels as a file; the result is the signed statement.
#[derive(Debug, Serialize, Deserialize)]
pub struct SignStatement {
    pub keyset: KeysetChoice,
    pub command: AdminOperation,
    pub log_policy: LogPolicy,
}

impl Operation for SignStatement {
    const NAME: &'static str = "sign the command";
    type Target = FoundKeyset;
    type Output = SignedStatement;

    fn select(&self, inventory: &Inventory<'_>) -> Result<FoundKeyset, KeysetError> {
        inventory.keyset(&self.keyset)
    }

    fn run(self, keyset: FoundKeyset, cx: &mut OperationContext<'_>) -> Result<Outcome<SignedStatement>, KeysetError> {
        let Self { command, log_policy, .. } = self;
        sign_for_a_file(cx.tokens, &keyset, command, log_policy, cx.person, cx.now).map(Outcome::Done)
    }
}

/// Signs the command, sends it to the authority and processes the response: verifies that this
/// authority signed it for this statement, opens its letter, and compares the authority's audit log
/// with the stored checkpoint. [`CommandResult::answer`] holds a refusal by the authority,
/// [`CommandResult::log_mismatch`] a mismatch of the log.
///
/// `transport` must lead to [`FoundKeyset::authority`], pinned to
/// [`FoundKeyset::authority_sha256`]. Both come from the public index, so nothing is sent if the
/// private index, read after login, differs.
pub fn administer(
    tokens: &Tokens,
    keyset: &FoundKeyset,
    transport: &dyn Transport,
    operation: AdminOperation,
    log_policy: LogPolicy,
    person: &mut dyn UserPrompter,
    now: Timestamp,
) -> Result<CommandResult, KeysetError> {
    require_usable(keyset)?;
    refuse_expired_administrator(keyset, now)?;
    // Before the PIN: an unreachable authority must not cost a PIN entry, and the statement is
    // bound to the authority's running instance.
    let instance = Instance::parse(&transport.instance()?).map_err(message)?;
    let next = retry_hint(&operation);
    let Signed { token_enrollment, index, authority, statement, stated } =
        sign(tokens, keyset, (operation, Some(instance), log_policy), person, now)?;
    let unknown = |source| KeysetError::OutcomeUnknown { source: Box::new(source), next: next.clone() };
    let response = transport.statement(statement.as_der()).map_err(|error| match error {
        // Rejected before it was read, or never sent. An unsigned refusal proves nothing.
        TransportError::Busy { .. } | TransportError::Address { .. } | TransportError::WrongAuthority { .. } => {
            error.into()
        }
        error => unknown(error.into()),
    })?;
    let operation = "use the authority's response to the command";
    let response = VerifiedResponse::read(operation, response, &statement, &authority, keyset, now).map_err(unknown)?;
    crash_point::reached("keyset.statement_answered");
    response.open(&token_enrollment, &index, stated, log_policy, person)
}

/// The next step for the user when it is unknown whether the authority executed the command.
fn retry_hint(operation: &AdminOperation) -> String {
    if operation.is_repeatable() {
        return "it changes nothing; run it again".to_owned();
    }
    let email = operation.target().unwrap_or("EMAIL");
    format!("`tokenkeep admin letter {email} --letter-out FILE` fetches the letter if it was")
}

/// Signs the command for file transport and sends nothing. [`mod@super::open_response`] opens the
/// response.
pub fn sign_for_a_file(
    tokens: &Tokens,
    keyset: &FoundKeyset,
    operation: AdminOperation,
    log_policy: LogPolicy,
    person: &mut dyn UserPrompter,
    now: Timestamp,
) -> Result<SignedStatement, KeysetError> {
    require_usable(keyset)?;
    refuse_expired_administrator(keyset, now)?;
    sign(tokens, keyset, (operation, None, log_policy), person, now).map(|signed| signed.statement)
}

/// A signed command, with its token still unlocked.
struct Signed {
    token_enrollment: TokenEnrollment,
    index: PrivateIndex,
    /// The CA certificate of the authority that the statement addresses.
    authority: Certificate,
    statement: SignedStatement,
    /// The log position that the statement names.
    stated: Option<LogPosition>,
}

fn sign(
    tokens: &Tokens,
    keyset: &FoundKeyset,
    (operation, instance, log_policy): (AdminOperation, Option<Instance>, LogPolicy),
    person: &mut dyn UserPrompter,
    now: Timestamp,
) -> Result<Signed, KeysetError> {
    if operation.returns_letter() && keyset.encryption.is_empty() {
        return Err(KeysetError::Refused(format!(
            "cannot order a letter: it is encrypted to the administrator, and the keyset {} has no encryption key",
            keyset.described()
        )));
    }
    // The PIN is asked for at every level, even in an active session: an administrator's command is
    // never an ordinary key use.
    let pin_session = unlock(tokens, keyset, &purpose(&operation, instance.is_some()), person)?;
    let index = read_private_index_for_use(tokens, &pin_session, keyset, person)?;
    let token_enrollment = pin_session.begin_enrollment();
    let token: &Token = &token_enrollment;
    let keys =
        index.keyset.keys.as_ref().ok_or_else(|| damaged(token, &keyset.name, "its enrollment is not finished"))?;
    let authority = check_same_authority(token, keyset, &index, &keys.authority.key_id())?;
    let (key, certificate) = key_and_certificate(token, &keyset.name, &keys.signing)?;
    let certificate = Certificate::from_der(&certificate.der).map_err(message)?;

    let stored = index.audit.as_ref().filter(|_| log_policy == LogPolicy::Compare);
    let stated = stored.map(Checkpoint::position);
    let letter_to = if operation.returns_letter() {
        let current = keys.encryption.first();
        let current = current.ok_or_else(|| damaged(token, &keyset.name, "its index names no encryption key"))?;
        Some(Fingerprint::of(&key_and_certificate(token, &keyset.name, current)?.1.der))
    } else {
        None
    };
    let statement = match instance {
        Some(instance) => Statement::online(authority.fingerprint(), instance, operation, nonce()?, now),
        None => Statement::for_file(authority.fingerprint(), operation, nonce()?, now),
    };
    let statement = statement.with_encryption_certificate(letter_to).with_known_log(stated);
    let signer = token_enrollment.signer(&key);
    let statement = statement.sign(&signer, &certificate, now).map_err(|error| match signer.take_error() {
        Some(error) => error.into(),
        None => message(error),
    })?;
    drop(signer);
    Ok(Signed { token_enrollment, index, authority, statement, stated })
}

/// The purpose of the PIN.
fn purpose(operation: &AdminOperation, is_answered_at_once: bool) -> Purpose {
    Purpose::Statement {
        operation: operation.name().to_owned(),
        target: operation.target().map(str::to_owned),
        opens_letter: is_answered_at_once && operation.returns_letter(),
    }
}

/// Returns the CA certificate that the private index names, if the public index led to the same
/// one.
fn check_same_authority(
    token: &Token,
    keyset: &FoundKeyset,
    index: &PrivateIndex,
    id: &KeyId,
) -> Result<Certificate, KeysetError> {
    let certificate =
        token.certificates()?.into_iter().filter(|certificate| certificate.id == *id).find_map(|certificate| {
            let certificate = Certificate::from_der(&certificate.der).ok()?;
            (certificate.fingerprint().as_bytes().as_slice() == index.ca_sha256.0).then_some(certificate)
        });
    let certificate = certificate
        .ok_or_else(|| damaged(token, &keyset.name, "its authority's certificate is missing from the token"))?;
    let pinned = keyset.authority_sha256().map(Fingerprint::from_bytes);
    if pinned == Some(certificate.fingerprint()) && index.keyset.authority == keyset.authority {
        return Ok(certificate);
    }
    Err(KeysetError::Refused(format!(
        "cannot send the command: the public index of the keyset {} named another authority than the private one; \
         the public index was rewritten, and nothing was sent; run the command again",
        keyset.described()
    )))
}

fn nonce() -> Result<[u8; 16], KeysetError> {
    let mut nonce = [0; 16];
    getrandom::fill(&mut nonce).map_err(message)?;
    Ok(nonce)
}

fn message(error: impl std::fmt::Display) -> KeysetError {
    KeysetError::Message { operation: "sign the command", reason: error.to_string() }
}
