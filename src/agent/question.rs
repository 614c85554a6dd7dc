//! A question of the worker to the person, which the supervisor asks.

use serde::{Deserialize, Serialize};

use crate::keyset::Prompt;
use crate::token::TokenInfo;

/// A prompt for one use of a key, with what its text needs besides.
///
/// The caller holds the token's lease, so questions about a token are already in order.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Question {
    pub prompt: Prompt,
    /// the process id of the program that asked for the use
    pub pid: i32,
    /// true if the person has accepted the risk of the token's last try
    pub last_try: bool,
    /// true if the same wrong PIN was just typed again; it was not tried
    pub was_repeated: bool,
    /// the number of the use; its questions share a dialog
    pub dialog: u64,
}

impl Question {
    /// The token, with its current PIN state; `None` if it is still to be created.
    pub fn token(&self) -> Option<&TokenInfo> {
        match &self.prompt {
            Prompt::Pin { token, .. }
            | Prompt::ResumedPin { token }
            | Prompt::SoPin { token }
            | Prompt::LastTry { token, .. }
            | Prompt::Use { token, .. } => Some(token),
            Prompt::NewPin { .. } | Prompt::NewSoPin { .. } => None,
        }
    }
}
