//! The worker's interface to a person, and to what only the supervisor may read.

use super::{PeerProcess, Usage};
use crate::keyset::{KeysetRef, NoPin};
use crate::token::{KeysetName, Pin, SecurityLevel, TokenInfo};

/// Prompts a person about one use of a key. The worker sends prompts through the supervisor; tests
/// use a script.
///
/// Each call is one question about one use. The caller holds the token's lease, so questions about
/// a token are already in order.
pub trait PromptBackend: Send + Sync {
    /// The PIN of a token for this use. Without a PIN nothing is tried.
    fn pin(&self, question: &Question<'_>) -> Result<Pin, NoPin>;

    /// Confirms this use (level Medium), or risking the token's last try (`last_try`). An error
    /// means no: [`NoPin::Declined`] if the person declined.
    fn confirm(&self, question: &Question<'_>) -> Result<(), NoPin>;

    /// Returns true if a person who typed a wrong PIN can be asked again. A file or script would
    /// answer the same and waste another try.
    fn can_ask_again(&self, _dialog: u64) -> bool {
        false
    }

    /// Closes the dialog of a use that has ended ([`Question::dialog`]).
    fn end_dialog(&self, _dialog: u64) {}

    /// Describes the prompt method in one line, or says why there is none, with the remedy.
    fn prompter(&self) -> Result<String, String> {
        Err("its prompt method is unknown".to_owned())
    }

    /// The keysets hidden on this machine now; `None` if unknown.
    fn hidden_keysets(&self) -> Option<Vec<KeysetRef>> {
        None
    }

    /// Describes the program behind a peer, if known. It is only advice for a person.
    fn program(&self, peer: PeerProcess) -> Option<String>;
}

/// The content of a prompt.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// the client and its purpose
    pub usage: &'a Usage,
    /// the keyset to use; `None` if the whole token is meant
    pub keyset: Option<(&'a KeysetName, SecurityLevel)>,
    /// the token, with its current PIN state
    pub token: &'a TokenInfo,
    /// true if this is the token's last try
    pub last_try: bool,
    /// true if the previous PIN for this use was wrong
    pub was_wrong: bool,
    /// true if it was the same wrong PIN again, which was not tried
    pub was_repeated: bool,
    /// the number of the use; its questions share a dialog
    pub dialog: u64,
}

#[cfg(test)]
impl<'a> Question<'a> {
    /// For a use without a keyset and without warnings.
    pub(super) fn without_a_keyset(usage: &'a Usage, token: &'a TokenInfo) -> Self {
        Self { usage, keyset: None, token, last_try: false, was_wrong: false, was_repeated: false, dialog: 5 }
    }
}
