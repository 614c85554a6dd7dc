//! An administrator's command: a statement signed with a keyset's signing key, one use, one PIN, and the response checked.
//!
//! The log-in lasts over the exchange, which the carrier bounds in time: what the response says of the audit log is kept
//! in the private index, and a second PIN for that would be one too many.

use jiff::Timestamp;
use zeroize::Zeroizing;

use crate::carrier::Carrier;
use crate::pki::{Certificate, Fingerprint};
use crate::statement::{
    Checkpoint, LogPosition, Operation, SignedResponse, SignedStatement, Statement, StatementError, Way,
};
use crate::token::{Ceremony, KeyId, Token};

use super::checkpoint::{self, Answered, KnownLog};
use super::index::PrivateIndex;
use super::sign::refuse_expired;
use super::unlock::{believed_for_use, damaged, key_and_certificate, must_be_usable, unlock};
use super::{FoundKeyset, KeysetError, Person, Tokens};
use crate::crash_point;

/// Signs the command, takes it to the authority, and checks that the response is this authority's and answers this
/// statement, and that the authority's audit log is the one that the keyset knows. A refusal by the authority is in
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
    let Signed { ceremony, index, authority, statement, stated } =
        sign(tokens, keyset, (operation, Way::Online, known_log), person, now)?;
    let response = Zeroizing::new(carrier.statement(statement.as_der())?);
    let response = SignedResponse::from_der(response.to_vec())
        .verify(&authority, statement.digest(), now)
        .map_err(|error| answer(&error))?;
    crash_point::reached("keyset.statement_answered");
    let judged = checkpoint::judge(index.audit.as_ref(), stated, &response, authority.fingerprint(), known_log);
    Ok(checkpoint::answered(&ceremony, &index, response.answer, judged, person))
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
    sign(tokens, keyset, (operation, Way::File, known_log), person, now).map(|signed| signed.statement)
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
    (operation, way, known_log): (Operation, Way, KnownLog),
    person: &mut dyn Person,
    now: Timestamp,
) -> Result<Signed, KeysetError> {
    must_be_usable(keyset)?;
    refuse_expired(keyset, now)?;
    // The PIN at every level, and whoever is logged in: what speaks for an administrator is no use like others.
    let unlock = unlock(tokens, keyset, "sign the command", person)?;
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
    let statement = Statement::by(way, authority.fingerprint(), operation, nonce()?, now).knowing(stated);
    let signer = ceremony.signer(&key);
    let statement = statement.sign(&signer, &certificate, now).map_err(|error| match signer.take_error() {
        Some(error) => error.into(),
        None => message(error),
    })?;
    drop(signer);
    Ok(Signed { ceremony, index, authority, statement, stated })
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

fn answer(error: &StatementError) -> KeysetError {
    KeysetError::Message { operation: "use the authority's answer to the command", reason: error.to_string() }
}
