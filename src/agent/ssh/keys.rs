//! What the door needs of the keystore behind it. Tests put keys in software there.

use super::card::Constraints;
use super::{AgentError, Refusal, Usage};
use crate::token::{KeyAlgorithm, Pin, Signature, SignatureHash};

/// A keystore, as seen through this door.
pub(super) trait Keys {
    /// A signing key that was found.
    type Key;

    /// All that can sign; none while the agent is locked.
    fn list(&self, each: &mut dyn FnMut(Listed<'_>));

    /// The key of this DER `SubjectPublicKeyInfo`.
    fn find(&self, spki_der: &[u8]) -> Option<Self::Key>;

    fn algorithm(key: &Self::Key) -> KeyAlgorithm;

    /// Signs under the security level of the key's keyset.
    fn sign(&self, key: &Self::Key, hash: SignatureHash, data: &[u8], usage: &Usage) -> Result<Signature, AgentError>;

    /// Logs in to the one token that `provider` means: one try of this PIN, or of the one that a person is asked for.
    fn log_in(&self, provider: &str, pin: Option<Pin>, constraints: Constraints, usage: &Usage) -> Result<(), Refusal>;

    /// Logs off from the one token that `provider` means.
    fn log_off(&self, provider: &str) -> Result<(), Refusal>;

    /// Logs off from the token of a key.
    fn log_off_from(&self, key: &Self::Key) -> Result<(), AgentError>;

    /// Logs off from all tokens.
    fn log_off_from_all(&self) -> Result<(), AgentError>;

    fn is_locked(&self) -> bool;

    fn lock(&self, pass_phrase: &[u8]) -> Result<(), AgentError>;

    fn unlock(&self, pass_phrase: &[u8]) -> Result<(), AgentError>;
}

/// A key in a list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Listed<'a> {
    pub(super) spki_der: &'a [u8],
    /// the keyset's name and the user's e-mail address
    pub(super) comment: &'a str,
}
