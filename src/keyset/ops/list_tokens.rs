//! Lists the tokens that are present.

use serde::{Deserialize, Serialize};

use crate::keyset::{Inventory, KeysetError, Operation, OperationContext, Outcome};
use crate::token::TokenInfo;

/// Lists the tokens that are present.
#[derive(Debug, Serialize, Deserialize)]
pub struct ListTokens;

impl Operation for ListTokens {
    const NAME: &'static str = "list tokens";
    type Target = ();
    type Output = Vec<TokenInfo>;

    fn select(&self, inventory: &Inventory<'_>) -> Result<(), KeysetError> {
        inventory.refresh();
        Ok(())
    }

    fn run(self, (): (), cx: &mut OperationContext<'_>) -> Result<Outcome<Vec<TokenInfo>>, KeysetError> {
        cx.tokens.list_with_pin_states().map(Outcome::Done)
    }
}
