//! Deletes a keyset: its keys, certificates and both indexes, and nothing else on the token.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::crash_point;

use crate::keyset::index::{self, Hex};
use crate::keyset::removal::{Deleted, objects_of, remove};
use crate::keyset::unlock::{report_index_mismatch, unlock};
use crate::keyset::{
    FoundKeyset, Inventory, KeysetChoice, KeysetError, Operation, OperationContext, Outcome, Purpose, Tokens,
    UserPrompter,
};

/// Deletes a keyset with all its keys.
#[derive(Debug, Serialize, Deserialize)]
pub struct DeleteKeyset {
    pub keyset: KeysetChoice,
}

impl Operation for DeleteKeyset {
    const NAME: &'static str = "delete the keyset";
    const CHANGES_LISTINGS: bool = true;
    type Target = FoundKeyset;
    type Output = Deleted;

    fn select(&self, inventory: &Inventory<'_>) -> Result<FoundKeyset, KeysetError> {
        inventory.keyset(&self.keyset)
    }

    fn run(self, keyset: FoundKeyset, cx: &mut OperationContext<'_>) -> Result<Outcome<Deleted>, KeysetError> {
        delete(cx.tokens, &keyset, cx.person).map(Outcome::Done)
    }
}

/// Deletes the keyset after a PIN check. Mail encrypted to its keys is readable again only after a
/// `recover`. Objects of other keysets stay, including an authority's certificate that another
/// keyset needs.
///
/// The indexes are deleted last, so that a second deletion can finish an interrupted one. Nothing
/// is written: a full disk cannot prevent a deletion, and a failed one loses nothing that remains.
pub fn delete(tokens: &Tokens, keyset: &FoundKeyset, person: &mut dyn UserPrompter) -> Result<Deleted, KeysetError> {
    let pin_session = unlock(tokens, keyset, &Purpose::DeleteKeyset, person)?;
    let token = pin_session.begin_enrollment();
    let (indexes, unreadable) = index::private_indexes(&token)?;
    let (own, others): (Vec<_>, Vec<_>) = indexes.into_iter().partition(|index| index.keyset.name == keyset.name);

    for private in &own {
        report_index_mismatch(&token, private, person)?;
    }
    // Without a private index, nothing that needed the PIN proves which objects are the keyset's:
    // only the name is removed.
    let mut doomed: BTreeSet<Hex> = own.iter().flat_map(objects_of).collect();
    for other in others.iter().flat_map(objects_of) {
        doomed.remove(&other);
    }
    // An unreadable index may belong to a keyset that needs the same authority's certificate.
    if !unreadable.is_empty() {
        for keys in own.iter().filter_map(|index| index.keyset.keys.as_ref()) {
            doomed.remove(&keys.authority);
        }
    }
    let deleted = remove(&token, &doomed)?;
    crash_point::reached("keyset.deleted_objects");
    index::remove(&token, &keyset.name)?;
    Ok(deleted)
}
