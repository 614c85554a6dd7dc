//! An administrator's command: a statement signed with a keyset's signing key, one use, one PIN, and the response checked.

use jiff::Timestamp;
use zeroize::Zeroizing;

use crate::carrier::Carrier;
use crate::pki::{Certificate, Fingerprint};
use crate::statement::{Operation, Response, SignedResponse, SignedStatement, Statement, StatementError, Way};
use crate::token::{KeyId, Token};

use super::index::PrivateIndex;
use super::sign::must_be_valid;
use super::unlock::{believed_for_use, damaged, key_and_certificate, must_be_usable, unlock_for_use};
use super::{FoundKeyset, KeysetError, Person, Tokens};

/// Signs the command, takes it to the authority, and checks that the response is this authority's and answers this
/// statement. A refusal by the authority is in [`Response::answer`].
///
/// `carrier` leads to [`FoundKeyset::authority`], with [`FoundKeyset::authority_sha256`] as its pin; both come from the
/// public index, so nothing is sent when the private one, read after log-in, says otherwise.
pub fn administer(
    tokens: &Tokens,
    keyset: &FoundKeyset,
    carrier: &dyn Carrier,
    operation: Operation,
    person: &mut dyn Person,
    now: Timestamp,
) -> Result<Response, KeysetError> {
    let (sent, authority) = sign(tokens, keyset, operation, Way::Online, person, now)?;
    let response = Zeroizing::new(carrier.statement(sent.as_der())?);
    SignedResponse::from_der(response.to_vec()).verify(&authority, sent.digest(), now).map_err(|error| answer(&error))
}

/// Signs the command, to be carried to the authority as a file; nothing is sent. [`super::open_response()`] opens what
/// comes back.
pub fn sign_for_a_file(
    tokens: &Tokens,
    keyset: &FoundKeyset,
    operation: Operation,
    person: &mut dyn Person,
    now: Timestamp,
) -> Result<SignedStatement, KeysetError> {
    sign(tokens, keyset, operation, Way::File, person, now).map(|(statement, _)| statement)
}

/// The signed command, and the CA certificate of the authority it is for. The token is logged out again.
fn sign(
    tokens: &Tokens,
    keyset: &FoundKeyset,
    operation: Operation,
    way: Way,
    person: &mut dyn Person,
    now: Timestamp,
) -> Result<(SignedStatement, Certificate), KeysetError> {
    must_be_usable(keyset)?;
    must_be_valid(keyset, now)?;
    let act = "sign the command";
    let unlock = unlock_for_use(tokens, keyset, act, person)?;
    let token = unlock.token();
    let index = believed_for_use(tokens, &unlock, keyset, person)?;
    let keys =
        index.keyset.keys.as_ref().ok_or_else(|| damaged(token, &keyset.name, "its enrollment is not finished"))?;
    let authority = same_authority(token, keyset, &index, &keys.authority.key_id())?;
    let (key, certificate) = key_and_certificate(token, &keyset.name, &keys.signing)?;
    let certificate = Certificate::from_der(&certificate.der).map_err(message)?;

    let statement = Statement::by(way, authority.fingerprint(), operation, nonce()?, now);
    let signer = unlock.sign_with(&key);
    let sent = statement.sign(&signer, &certificate, now).map_err(|error| match signer.take_error() {
        Some(error) => error.into(),
        None => message(error),
    })?;
    drop(signer); // logged out before anything is sent
    Ok((sent, authority))
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
