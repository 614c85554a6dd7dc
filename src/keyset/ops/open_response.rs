//! Opens the authority's response to a statement that traveled as a file.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::keyset::checkpoint::{CommandResult, LogPolicy};
use crate::keyset::command_response::VerifiedResponse;
use crate::keyset::unlock::{read_private_index_for_use, require_usable, unlock};
use crate::keyset::{
    FoundKeyset, Inventory, KeysetChoice, KeysetError, Operation, OperationContext, Outcome, Purpose, Tokens,
    UserPrompter,
};
use crate::pki::Certificate;
use crate::statement::SignedStatement;

/// Opens the authority's response to a statement file; the result is the answer. The text of a
/// letter is the attached secret.
#[derive(Debug, Serialize, Deserialize)]
pub struct OpenResponse {
    pub keyset: KeysetChoice,
    pub statement: SignedStatement,
    /// DER
    #[serde(with = "crate::base64_bytes")]
    pub response: Vec<u8>,
    pub log_policy: LogPolicy,
}

impl Operation for OpenResponse {
    const NAME: &'static str = "open the response";
    type Target = FoundKeyset;
    type Output = CommandResult;

    fn select(&self, inventory: &Inventory<'_>) -> Result<FoundKeyset, KeysetError> {
        inventory.keyset(&self.keyset)
    }

    fn run(self, keyset: FoundKeyset, cx: &mut OperationContext<'_>) -> Result<Outcome<CommandResult>, KeysetError> {
        let Self { statement, response, log_policy, .. } = self;
        let mut result = open_response(cx.tokens, &keyset, &statement, response, log_policy, cx.person, cx.now)?;
        cx.attachments.secret = result.take_letter();
        Ok(Outcome::Done(result))
    }
}

/// Opens the response to a statement that was transported as a file: verifies that it comes from
/// the keyset's authority and answers this statement, and compares the authority's audit log with
/// the stored checkpoint. Always asks for one PIN. A letter is decrypted with the keyset's
/// encryption key and returned as [`OpenedResponse::Letter`]. [`CommandResult::answer`] holds a
/// refusal by the authority, [`CommandResult::log_mismatch`] a mismatch of the log.
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
    let verified = VerifiedResponse::read(OpenResponse::NAME, response, statement, &authority, keyset, now)?;
    let stated = statement
        .claimed_statement()
        .map_err(|error| KeysetError::NotVerified { operation: OpenResponse::NAME, reason: error.to_string() })?;

    // The PIN is required at every level, because the stored checkpoint is compared or discarded.
    let pin_session = unlock(tokens, keyset, &Purpose::OpenResponse, person)?;
    let index = read_private_index_for_use(tokens, &pin_session, keyset, person)?;
    let token_enrollment = pin_session.begin_enrollment();
    if authority.fingerprint().as_bytes().as_slice() != index.ca_sha256.0 {
        return Err(KeysetError::Refused(format!(
            "cannot use the response: the public index of the keyset {} named another authority than the private one; \
             the public index was rewritten; run the command again",
            keyset.described()
        )));
    }
    verified.open(&token_enrollment, &index, stated.known_log, log_policy, person)
}
