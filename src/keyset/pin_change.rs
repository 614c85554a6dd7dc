//! Changes the PIN of the token a keyset is on; one try of the old one.

use super::{FoundKeyset, KeysetError, Person, Tokens};

/// Asks for the old PIN and for a new one and changes it. Other keysets on the token get the new PIN too, and a notice says so.
pub fn pin_change(tokens: &Tokens, keyset: &FoundKeyset, person: &mut dyn Person) -> Result<(), KeysetError> {
    todo!()
}
