//! The interface between the SSH endpoint and the keystore. Tests implement it with software keys.

use super::smartcard::Constraints;
use super::{AgentError, SshError, Usage};
use crate::token::{KeyAlgorithm, Pin, Signature, SignatureHash};

/// A keystore as the SSH endpoint uses it.
pub(super) trait KeyProvider {
    /// A signing key found by [`KeyProvider::find`].
    type Key;

    /// Calls `each` for every signing key; for none while the agent is locked.
    fn list(&self, each: &mut dyn FnMut(ListedKey<'_>));

    /// The key with this DER `SubjectPublicKeyInfo`.
    fn find(&self, spki_der: &[u8]) -> Option<Self::Key>;

    fn algorithm(key: &Self::Key) -> KeyAlgorithm;

    /// Signs as the level of the key's keyset requires.
    fn sign(&self, key: &Self::Key, hash: SignatureHash, data: &[u8], usage: &Usage) -> Result<Signature, AgentError>;

    /// Logs in to the one token that `provider` selects: one try of this PIN, or of a PIN that a
    /// person is asked for.
    fn log_in(&self, provider: &str, pin: Option<Pin>, constraints: Constraints, usage: &Usage)
    -> Result<(), SshError>;

    /// Logs off from the one token that `provider` selects.
    fn log_off(&self, provider: &str) -> Result<(), SshError>;

    /// Logs off from the token of a key.
    fn log_off_from(&self, key: &Self::Key) -> Result<(), AgentError>;

    /// Logs off from all tokens.
    fn log_off_from_all(&self) -> Result<(), AgentError>;

    fn is_locked(&self) -> bool;

    fn lock(&self, pass_phrase: &[u8]) -> Result<(), AgentError>;

    fn unlock(&self, pass_phrase: &[u8]) -> Result<(), AgentError>;
}

/// A key in a listing.
#[derive(Clone, Copy, Debug)]
pub(super) struct ListedKey<'a> {
    pub(super) spki_der: &'a [u8],
    /// the keyset's name and the user's e-mail address
    pub(super) comment: &'a str,
}
