//! Signs a message with a keyset's signing key: one use, one PIN.

use jiff::Timestamp;

use super::{FoundKeyset, KeysetError, Person, Tokens};

/// How to sign.
#[derive(Clone, Copy, Debug, Default)]
pub struct SignOptions {
    /// leave the content out of the signature (CMS detached)
    pub detached: bool,
}

/// Signs `content` with the keyset's signing key. Returns DER of a CMS `ContentInfo` with `SignedData`, certificates included.
pub fn sign(
    tokens: &Tokens,
    keyset: &FoundKeyset,
    content: &[u8],
    options: SignOptions,
    person: &mut dyn Person,
    now: Timestamp,
) -> Result<Vec<u8>, KeysetError> {
    todo!()
}
