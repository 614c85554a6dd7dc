//! Sends an administrator's command, a statement signed with a keyset's signing key, to the
//! authority, and processes the verified response.
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
use crate::keyset::signed_command::{SignedCommand, message, sign_command};
use crate::keyset::signing::refuse_expired_administrator;
use crate::keyset::unlock::require_usable;
use crate::keyset::{
    FoundKeyset, Inventory, KeysetChoice, KeysetError, Operation, OperationContext, Outcome, Tokens, UserPrompter,
};
use crate::statement::{AdminOperation, Instance};
use crate::transport::{Transport, TransportError};

/// Signs an administrator's command and sends it to the authority; the result is the answer. The
/// text of a letter is the attached secret. No other operation signs a statement, but
/// [`super::SignStatement`].
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
    let SignedCommand { token_enrollment, index, authority, statement, stated } =
        sign_command(tokens, keyset, (operation, Some(instance), log_policy), person, now)?;
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
