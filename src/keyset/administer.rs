//! An administrator's command: a statement signed with a keyset's signing key, one use, one PIN, and the response checked.
//!
//! The log-in lasts over the exchange, which the carrier bounds in time: the letter in the response is opened, and what it
//! says of the audit log is kept in the private index. One prompt names both uses of keys (signing the command, opening its
//! letter): an administrator's command is one act, at every level.

use jiff::Timestamp;

use crate::carrier::{Carrier, CarrierError};
use crate::pki::{Certificate, Fingerprint};
use crate::statement::{Checkpoint, Instance, LogPosition, Operation, SignedStatement, Statement};
use crate::token::{Ceremony, KeyId, Token};

use super::checkpoint::{Answered, KnownLog};
use super::command_response::VerifiedResponse;
use super::index::PrivateIndex;
use super::sign::refuse_expired_administrator;
use super::unlock::{believed_for_use, damaged, key_and_certificate, must_be_usable, unlock};
use super::{FoundKeyset, KeysetError, Person, Tokens};
use crate::crash_point;

/// Signs the command, takes it to the authority, and checks that the response is this authority's and answers this
/// statement, opens the letter in it, and checks that the authority's audit log is the one that the keyset knows. A refusal by the authority is in
/// [`Answered::answer`], a log that is another one in [`Answered::alarm`].
///
/// `carrier` leads to [`FoundKeyset::authority`], with [`FoundKeyset::authority_sha256`] as its pin; both come from the
/// public index, so nothing is sent when the private one, read after log-in, says otherwise.
pub fn administer(
    tokens: &Tokens,
    keyset: &FoundKeyset,
    carrier: &dyn Carrier,
    operation: Operation,
    known_log: KnownLog,
    person: &mut dyn Person,
    now: Timestamp,
) -> Result<Answered, KeysetError> {
    must_be_usable(keyset)?;
    refuse_expired_administrator(keyset, now)?;
    // Before the PIN: an authority that cannot be reached costs nobody a PIN, and what is signed is for this run of it.
    let instance = Instance::parse(&carrier.instance()?).map_err(message)?;
    let next = if_outcome_unknown(&operation);
    let Signed { ceremony, index, authority, statement, stated } =
        sign(tokens, keyset, (operation, Some(instance), known_log), person, now)?;
    let unknown = |source| KeysetError::OutcomeUnknown { source: Box::new(source), next: next.clone() };
    let response = carrier.statement(statement.as_der()).map_err(|error| match error {
        // Turned away before it was read, or never sent. A refusal that is not signed is nobody's word.
        CarrierError::Busy { .. } | CarrierError::Address { .. } | CarrierError::OtherAuthority { .. } => error.into(),
        error => unknown(error.into()),
    })?;
    let operation = "use the authority's answer to the command";
    let response = VerifiedResponse::read(operation, response, &statement, &authority, keyset, now).map_err(unknown)?;
    crash_point::reached("keyset.statement_answered");
    response.open(&ceremony, &index, stated, known_log, person)
}

/// What to type when nobody knows whether the authority has done it.
fn if_outcome_unknown(operation: &Operation) -> String {
    match operation {
        Operation::Issue { email, .. } | Operation::Recover { email, .. } => {
            format!("`tokenkeep admin letter {email} --letter-out FILE` fetches the letter if it was")
        }
        Operation::Letter { .. }
        | Operation::List
        | Operation::ListPage { .. }
        | Operation::Show { .. }
        | Operation::Acknowledge { .. } => "it changes nothing; type it again".to_owned(),
    }
}

/// Signs the command, to be carried to the authority as a file; nothing is sent. [`super::open_response()`] opens what
/// comes back.
pub fn sign_for_a_file(
    tokens: &Tokens,
    keyset: &FoundKeyset,
    operation: Operation,
    known_log: KnownLog,
    person: &mut dyn Person,
    now: Timestamp,
) -> Result<SignedStatement, KeysetError> {
    must_be_usable(keyset)?;
    refuse_expired_administrator(keyset, now)?;
    sign(tokens, keyset, (operation, None, known_log), person, now).map(|signed| signed.statement)
}

/// A signed command on a token that is still unlocked.
struct Signed {
    ceremony: Ceremony,
    index: PrivateIndex,
    /// The CA certificate of the authority it is for.
    authority: Certificate,
    statement: SignedStatement,
    /// What it says of the audit log.
    stated: Option<LogPosition>,
}

fn sign(
    tokens: &Tokens,
    keyset: &FoundKeyset,
    (operation, instance, known_log): (Operation, Option<Instance>, KnownLog),
    person: &mut dyn Person,
    now: Timestamp,
) -> Result<Signed, KeysetError> {
    if operation.brings_letter() && keyset.encryption.is_empty() {
        return Err(KeysetError::Refused(format!(
            "cannot order a letter: it would be encrypted to its administrator, and the keyset {} has no encryption key",
            keyset.described()
        )));
    }
    // The PIN at every level, and whoever is logged in: what speaks for an administrator is no use like others.
    let unlock = unlock(tokens, keyset, purpose(&operation, instance.is_some()), person)?;
    let index = believed_for_use(tokens, &unlock, keyset, person)?;
    let ceremony = unlock.ceremony();
    let token: &Token = &ceremony;
    let keys =
        index.keyset.keys.as_ref().ok_or_else(|| damaged(token, &keyset.name, "its enrollment is not finished"))?;
    let authority = same_authority(token, keyset, &index, &keys.authority.key_id())?;
    let (key, certificate) = key_and_certificate(token, &keyset.name, &keys.signing)?;
    let certificate = Certificate::from_der(&certificate.der).map_err(message)?;

    let kept = index.audit.as_ref().filter(|_| known_log == KnownLog::Compare);
    let stated = kept.map(Checkpoint::position);
    let letter_to = if operation.brings_letter() {
        let current = keys.encryption.first();
        let current =
            current.ok_or_else(|| damaged(token, &keyset.name, "its encryption key is gone from its index"))?;
        Some(Fingerprint::of(&key_and_certificate(token, &keyset.name, current)?.1.der))
    } else {
        None
    };
    let statement = match instance {
        Some(instance) => Statement::online(authority.fingerprint(), instance, operation, nonce()?, now),
        None => Statement::by_file(authority.fingerprint(), operation, nonce()?, now),
    };
    let statement = statement.encrypted_to(letter_to).knowing(stated);
    let signer = ceremony.signer(&key);
    let statement = statement.sign(&signer, &certificate, now).map_err(|error| match signer.take_error() {
        Some(error) => error.into(),
        None => message(error),
    })?;
    drop(signer);
    Ok(Signed { ceremony, index, authority, statement, stated })
}

/// What the PIN is for, completing "to …".
fn purpose(operation: &Operation, is_answered_at_once: bool) -> &'static str {
    if is_answered_at_once && operation.brings_letter() {
        "sign the command and open its letter"
    } else {
        "sign the command"
    }
}

/// The authority that the private index names, if the public one led to the same.
fn same_authority(
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
        .ok_or_else(|| damaged(token, &keyset.name, "its authority's certificate is gone from the token"))?;
    let pinned = keyset.authority_sha256().map(Fingerprint::from_bytes);
    if pinned == Some(certificate.fingerprint()) && index.keyset.authority == keyset.authority {
        return Ok(certificate);
    }
    Err(KeysetError::Refused(format!(
        "cannot send the command: the public index of the keyset {} led to another authority than its private one; it \
         was written anew, and nothing was sent; type the command again",
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
