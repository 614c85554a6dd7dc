//! Signs an administrator's command that travels to the authority as a file.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::keyset::checkpoint::LogPolicy;
use crate::keyset::signed_command::sign_command;
use crate::keyset::signing::refuse_expired_administrator;
use crate::keyset::unlock::require_usable;
use crate::keyset::{
    FoundKeyset, Inventory, KeysetChoice, KeysetError, Operation, OperationContext, Outcome, Tokens, UserPrompter,
};
use crate::statement::{AdminOperation, SignedStatement};

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
    sign_command(tokens, keyset, (operation, None, log_policy), person, now).map(|signed| signed.statement)
}
