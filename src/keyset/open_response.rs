//! Opens the authority's response to a statement that travelled as a file.

use jiff::Timestamp;

use crate::pki::Certificate;
use crate::statement::SignedStatement;

use super::checkpoint::{Answered, KnownLog};
use super::command_response::VerifiedResponse;
use super::unlock::{believed_for_use, must_be_usable, unlock};
use super::{FoundKeyset, KeysetError, Person, Tokens};

const OPERATION: &str = "open the response";

/// Checks that the response is the keyset's authority's and answers this statement, and that the authority's audit log is
/// the one that the keyset knows: one PIN, whatever is in it. A letter is opened with the keyset's encryption key and
/// given as [`super::OpenedAnswer::Letter`]. A refusal by the authority is in [`Answered::answer`], a log that is another one in
/// [`Answered::alarm`].
///
/// What is not this authority's by the public index is refused before the PIN. It is given only if the private index
/// names the same: whoever changed the public one must not choose what an administrator reads, or hands over.
pub fn open_response(
    tokens: &Tokens,
    keyset: &FoundKeyset,
    statement: &SignedStatement,
    response: Vec<u8>,
    known_log: KnownLog,
    person: &mut dyn Person,
    now: Timestamp,
) -> Result<Answered, KeysetError> {
    must_be_usable(keyset)?;
    let authority = keyset.authority_certificate().and_then(|der| Certificate::from_der(der).ok());
    let authority = authority.ok_or_else(|| KeysetError::Damaged {
        keyset: keyset.name.to_string(),
        token: keyset.token.name().to_string(),
        reason: "its authority's certificate is gone from the token".to_owned(),
    })?;
    let verified = VerifiedResponse::read(OPERATION, response, statement, &authority, keyset, now)?;
    let stated = statement
        .claimed_statement()
        .map_err(|error| KeysetError::NotVerified { operation: OPERATION, reason: error.to_string() })?;

    // The PIN at every level: with it, what was kept of the authority's log is compared, or given up.
    let unlock = unlock(tokens, keyset, OPERATION, person)?;
    let index = believed_for_use(tokens, &unlock, keyset, person)?;
    let ceremony = unlock.ceremony();
    if authority.fingerprint().as_bytes().as_slice() != index.ca_sha256.0 {
        return Err(KeysetError::Refused(format!(
            "cannot use the response: the public index of the keyset {} named another authority than its private one; it \
             was written anew; type the command again",
            keyset.described()
        )));
    }
    verified.open(&ceremony, &index, stated.known_log, known_log, person)
}
