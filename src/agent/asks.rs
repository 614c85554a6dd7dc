//! The way from the worker to a person, and to what the worker may not read itself.

use super::{Peer, Usage};
use crate::keyset::{KeysetOnToken, NoPin};
use crate::token::{KeysetName, Pin, SecurityLevel, TokenInfo};

/// Asks a person about one use of a key. The worker asks through the broker; tests put a script here.
///
/// Each call is one question about one use. Which of several questions comes first is decided before: whoever calls
/// has the token's turn.
pub trait Asks: Send + Sync {
    /// The PIN of a token for this use. Nothing is tried when there is none.
    fn pin(&self, question: &Question<'_>) -> Result<Pin, NoPin>;

    /// A new PIN, in place of the one that the token has or for a token that is to be made; typed twice.
    fn new_pin(&self, question: &Question<'_>) -> Result<Pin, NoPin> {
        let token = question.token.name();
        Err(NoPin::Unavailable(format!("there is no way to ask for a new PIN of {token}; use the command for it")))
    }

    /// Yes or no to this use (level Medium), or to risking the token's last try (`last_try`). An error is no yes:
    /// [`NoPin::Declined`] when the person said no.
    fn confirm(&self, question: &Question<'_>) -> Result<(), NoPin>;

    /// May somebody who typed a wrong PIN be asked again? Not where a file or a script answers: that would be another try
    /// for the same answer.
    fn can_ask_again(&self, _dialog: u64) -> bool {
        false
    }

    /// The use that this dialog asked for is over ([`Question::dialog`]): its program ends.
    fn end_dialog(&self, _dialog: u64) {}

    /// How a person is asked, in a line; else why nobody can be, with the remedy.
    fn prompter(&self) -> Result<String, String> {
        Err("it does not say how it asks".to_owned())
    }

    /// The keysets that are hidden on this machine now; none where that cannot be said.
    fn hidden_keysets(&self) -> Option<Vec<KeysetOnToken>> {
        None
    }

    /// The name of the program behind a peer, as far as it can be known. Advice for a person, nothing more.
    fn program(&self, peer: Peer) -> Option<String>;
}

/// What a person is told when asked.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// who asks, and for what
    pub usage: &'a Usage,
    /// which keyset is to be used; none when a whole token is meant
    pub keyset: Option<(&'a KeysetName, SecurityLevel)>,
    /// on which token; its PIN state as of now
    pub token: &'a TokenInfo,
    /// is this the token's last try?
    pub last_try: bool,
    /// was the PIN wrong that was just typed for this use?
    pub was_wrong: bool,
    /// was it the same wrong PIN once more, which was not tried?
    pub was_repeated: bool,
    /// the number of the use: the same dialog asks for its PIN again
    pub dialog: u64,
}

#[cfg(test)]
impl<'a> Question<'a> {
    /// For a use that names no keyset, with nothing to warn of.
    pub(super) fn without_a_keyset(usage: &'a Usage, token: &'a TokenInfo) -> Self {
        Self { usage, keyset: None, token, last_try: false, was_wrong: false, was_repeated: false, dialog: 5 }
    }
}
