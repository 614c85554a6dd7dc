//! Asks the person who wants an operation, for PINs and confirmations.
//!
//! Implementations are the terminal (`cli`), the command behind an operation in the agent, and the
//! agent's own prompter. Nothing here uses a terminal.

use serde::{Deserialize, Serialize};

use crate::token::{KeysetName, Pin, PinRule, SecurityLevel, TokenInfo, WhichPin};

use super::{FoundKeyset, NoPin, OperationObserver, Purpose};

/// A question to the person.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Prompt {
    /// The token's present PIN; it is tried once, immediately afterwards.
    Pin {
        purpose: Purpose,
        /// the token, chosen before any prompt
        token: TokenInfo,
        /// the keyset to use; `None` if the whole token is meant
        keyset: Option<PromptedKeyset>,
        /// true if the previous PIN for the same use was wrong
        was_wrong: bool,
    },
    /// The PIN chosen when an interrupted enrollment into a new token began. The same command reads
    /// the new PIN's source again; a terminal asks once. It is tried once, immediately afterwards.
    ResumedPin {
        /// the token created by that enrollment
        token: TokenInfo,
    },
    /// A new PIN, for a token still to be created or as a replacement (`pin change`, `pin
    /// unblock`). A terminal asks twice.
    NewPin {
        /// the label of the token
        label: String,
        /// its serial number; `None` if it is still to be created
        serial: Option<String>,
        /// the PIN lengths that the token accepts, if known
        rule: Option<PinRule>,
    },
    /// The SO PIN for a new token; requested only if the options ask for it.
    NewSoPin {
        /// the label of the token
        label: String,
    },
    /// The token's present SO PIN; it is tried once, immediately afterwards.
    SoPin { token: TokenInfo },
    /// Whether to risk the last try of this PIN. One more wrong PIN locks it; one more wrong SO PIN
    /// locks that for good, after which nothing can unblock the token. Asked before the PIN itself.
    LastTry {
        purpose: Purpose,
        token: TokenInfo,
        /// the keyset to use; `None` if the whole token is meant
        keyset: Option<PromptedKeyset>,
        which: WhichPin,
    },
    /// Whether to allow one use of a keyset at level Medium in an active session, instead of the
    /// PIN.
    Use { purpose: Purpose, token: TokenInfo, keyset: PromptedKeyset },
}

impl Prompt {
    /// The purpose of a PIN or of a confirmation; `None` for a new PIN and for the SO PIN.
    pub fn purpose(&self) -> Option<&Purpose> {
        match self {
            Self::Pin { purpose, .. } | Self::LastTry { purpose, .. } | Self::Use { purpose, .. } => Some(purpose),
            Self::ResumedPin { .. } => Some(&Purpose::Enroll),
            Self::NewPin { .. } | Self::NewSoPin { .. } | Self::SoPin { .. } => None,
        }
    }

    /// The keyset to use; `None` if the whole token is meant.
    pub fn keyset(&self) -> Option<&PromptedKeyset> {
        match self {
            Self::Pin { keyset, .. } | Self::LastTry { keyset, .. } => keyset.as_ref(),
            Self::Use { keyset, .. } => Some(keyset),
            Self::ResumedPin { .. } | Self::NewPin { .. } | Self::NewSoPin { .. } | Self::SoPin { .. } => None,
        }
    }
}

/// The keyset that a prompt names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromptedKeyset {
    pub name: KeysetName,
    pub level: SecurityLevel,
}

impl PromptedKeyset {
    pub fn of(keyset: &FoundKeyset) -> Self {
        Self { name: keyset.name.clone(), level: keyset.level }
    }
}

/// The answer to a [`Prompt`].
#[derive(Debug)]
pub enum PromptReply {
    /// the PIN
    Pin {
        pin: Pin,
        /// true if the same question can be asked again should this PIN be wrong: a user typed it,
        /// and not too many before; a file or a program would answer the same
        may_retry: bool,
    },
    /// the person agreed
    Yes,
}

impl PromptReply {
    /// The PIN.
    ///
    /// # Errors
    /// [`NoPin::Unavailable`] if this is the answer to another question.
    pub fn into_pin(self) -> Result<Pin, NoPin> {
        match self {
            Self::Pin { pin, .. } => Ok(pin),
            Self::Yes => Err(unexpected_reply()),
        }
    }

    /// The confirmation.
    ///
    /// # Errors
    /// [`NoPin::Unavailable`] if this is the answer to another question.
    pub fn into_yes(self) -> Result<(), NoPin> {
        match self {
            Self::Yes => Ok(()),
            Self::Pin { .. } => Err(unexpected_reply()),
        }
    }
}

fn unexpected_reply() -> NoPin {
    NoPin::Unavailable("the reply does not match the question".to_owned())
}

/// Asks the person who wants an operation, after all checks that need no PIN.
pub trait UserPrompter: OperationObserver {
    /// Asks one question. Called once for each PIN of an operation, and again after a wrong one if
    /// its [`PromptReply`] permits that.
    ///
    /// # Errors
    /// The reason for no answer. Without a user who can be warned, [`Prompt::LastTry`] must be
    /// refused ([`NoPin::LastTry`], [`NoPin::NotInteractive`]). Every error denies a use;
    /// [`NoPin::Declined`] means that the user refused.
    fn ask(&mut self, prompt: &Prompt) -> Result<PromptReply, NoPin>;
}
