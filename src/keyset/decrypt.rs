//! Reads an encrypted message: the keyset and key are chosen by the message's recipients, through the whole history.

use zeroize::Zeroizing;

use super::{KeysetChoice, KeysetError, Person, Tokens};

/// A message that was read.
#[derive(Debug)]
pub struct Decrypted {
    /// what was encrypted
    pub content: Zeroizing<Vec<u8>>,
    /// the name of the keyset whose key opened it
    pub keyset: String,
    /// Was the content encrypted with integrity protection (AES-GCM)? With AES-CBC it is as good as the signature inside.
    pub integrity_protected: bool,
}

/// Decrypts DER of a CMS `ContentInfo` with `EnvelopedData` or `AuthEnvelopedData`. `choice` narrows where to look;
/// among what is left, the recipients named in the message choose the key. One PIN.
pub fn decrypt(
    tokens: &Tokens,
    choice: &KeysetChoice,
    message: &[u8],
    person: &mut dyn Person,
) -> Result<Decrypted, KeysetError> {
    todo!()
}
