//! Deletes a keyset: its keys, certificates and both indexes, and nothing else on the token.

use super::{FoundKeyset, KeysetError, Person, Tokens};

/// What a deletion removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deleted {
    /// private keys destroyed
    pub keys: usize,
    /// certificates removed
    pub certificates: usize,
}

/// Deletes the keyset after its PIN. What is encrypted to its keys can then be read only after a `recover`. Objects that
/// are not the keyset's are left alone.
pub fn delete(tokens: &Tokens, keyset: &FoundKeyset, person: &mut dyn Person) -> Result<Deleted, KeysetError> {
    todo!()
}
