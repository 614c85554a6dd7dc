//! Finds one keyset.

use serde::{Deserialize, Serialize};

use crate::keyset::{FoundKeyset, Inventory, KeysetChoice, KeysetError, Operation, OperationContext, Outcome};

/// Finds the one keyset that the choice selects.
#[derive(Debug, Serialize, Deserialize)]
pub struct ChooseKeyset {
    pub keyset: KeysetChoice,
}

impl Operation for ChooseKeyset {
    const NAME: &'static str = "find the keyset";
    type Target = FoundKeyset;
    type Output = FoundKeyset;

    fn select(&self, inventory: &Inventory<'_>) -> Result<FoundKeyset, KeysetError> {
        inventory.keyset(&self.keyset)
    }

    fn run(self, keyset: FoundKeyset, _cx: &mut OperationContext<'_>) -> Result<Outcome<FoundKeyset>, KeysetError> {
        Ok(Outcome::Done(keyset))
    }
}
