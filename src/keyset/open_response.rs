//! Opens the authority's response to a statement that was transported as a file.

use jiff::Timestamp;

use crate::pki::Certificate;
use crate::statement::SignedStatement;

use super::checkpoint::{CommandResult, LogPolicy};
use super::command_response::VerifiedResponse;
use super::unlock::{read_private_index_for_use, require_usable, unlock};
use super::{FoundKeyset, KeysetError, Tokens, UserPrompter};

const OPERATION: &str = "open the response";

/// Verifies that the response comes from the keyset's authority and answers this statement, and
/// compares the authority's audit log with the stored checkpoint. Always asks for one PIN. A letter
/// is decrypted with the keyset's encryption key and returned as [`super::OpenedResponse::Letter`].
/// [`CommandResult::answer`] holds a refusal by the authority, [`CommandResult::log_mismatch`] a
/// mismatch of the log.
///
/// A response from an authority other than the public index names is refused before the PIN. The
/// content is returned only if the private index names the same authority: a change of the public
/// one must not choose what an administrator reads or passes on.
pub fn open_response(
    tokens: &Tokens,
    keyset: &FoundKeyset,
    statement: &SignedStatement,
    response: Vec<u8>,
    log_policy: LogPolicy,
    person: &mut dyn UserPrompter,
    now: Timestamp,
) -> Result<CommandResult, KeysetError> {
    require_usable(keyset)?;
    let authority = keyset.authority_certificate().and_then(|der| Certificate::from_der(der).ok());
    let authority = authority.ok_or_else(|| KeysetError::Damaged {
        keyset: keyset.name.to_string(),
        token: keyset.token.name().to_string(),
        reason: "its authority's certificate is missing from the token".to_owned(),
    })?;
    let verified = VerifiedResponse::read(OPERATION, response, statement, &authority, keyset, now)?;
    let stated = statement
        .claimed_statement()
        .map_err(|error| KeysetError::NotVerified { operation: OPERATION, reason: error.to_string() })?;

    // The PIN is required at every level, because the stored checkpoint is compared or discarded.
    let unlock = unlock(tokens, keyset, OPERATION, person)?;
    let index = read_private_index_for_use(tokens, &unlock, keyset, person)?;
    let token_enrollment = unlock.begin_enrollment();
    if authority.fingerprint().as_bytes().as_slice() != index.ca_sha256.0 {
        return Err(KeysetError::Refused(format!(
            "cannot use the response: the public index of the keyset {} named another authority than the private one; \
             the public index was rewritten; run the command again",
            keyset.described()
        )));
    }
    verified.open(&token_enrollment, &index, stated.known_log, log_policy, person)
}
