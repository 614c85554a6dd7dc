//! Lists the keysets that are present.

use serde::{Deserialize, Serialize};

use crate::keyset::{FoundKeyset, Inventory, KeysetError, Operation, OperationContext, Outcome, UnreadableToken};

/// Lists the keysets that are present, and the tokens that could not be read.
#[derive(Debug, Serialize, Deserialize)]
pub struct ListKeysets;

impl Operation for ListKeysets {
    const NAME: &'static str = "list keysets";
    type Target = ();
    type Output = (Vec<FoundKeyset>, Vec<UnreadableToken>);

    fn select(&self, inventory: &Inventory<'_>) -> Result<(), KeysetError> {
        inventory.refresh();
        Ok(())
    }

    fn run(self, (): (), cx: &mut OperationContext<'_>) -> Result<Outcome<Self::Output>, KeysetError> {
        cx.tokens.keysets().map(Outcome::Done)
    }
}
