//! Signs an administrator's command as a statement, with a keyset's signing key.

use jiff::Timestamp;

use crate::pki::{Certificate, Fingerprint};
use crate::statement::{AdminOperation, Checkpoint, Instance, LogPosition, SignedStatement, Statement};
use crate::token::{KeyId, Token, TokenEnrollment};

use super::checkpoint::LogPolicy;
use super::index::PrivateIndex;
use super::unlock::{damaged, key_and_certificate, read_private_index_for_use, unlock};
use super::{FoundKeyset, KeysetError, Purpose, Tokens, UserPrompter};

/// A signed command, with its token still unlocked.
pub(super) struct SignedCommand {
    pub(super) token_enrollment: TokenEnrollment,
    pub(super) index: PrivateIndex,
    /// The CA certificate of the authority that the statement addresses.
    pub(super) authority: Certificate,
    pub(super) statement: SignedStatement,
    /// The log position that the statement names.
    pub(super) stated: Option<LogPosition>,
}

/// Signs the command with one PIN. The statement names `instance`, the authority's running
/// instance; without it, it is for file transport.
pub(super) fn sign_command(
    tokens: &Tokens,
    keyset: &FoundKeyset,
    (operation, instance, log_policy): (AdminOperation, Option<Instance>, LogPolicy),
    person: &mut dyn UserPrompter,
    now: Timestamp,
) -> Result<SignedCommand, KeysetError> {
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
    Ok(SignedCommand { token_enrollment, index, authority, statement, stated })
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

/// An error about the format of a message.
pub(super) fn message(error: impl std::fmt::Display) -> KeysetError {
    KeysetError::Message { operation: "sign the command", reason: error.to_string() }
}
