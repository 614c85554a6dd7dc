//! The answer to a prompt, as it travels between two processes of this program: from the supervisor
//! to the worker, and from a command to the agent.

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::ipc::ReplyWithPayload;
use crate::keyset::{NoPin, PromptReply};
use crate::token::Pin;

/// The answer to a [`Prompt`](crate::keyset::Prompt).
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum PromptAnswer {
    /// the frame's payload is the PIN, UTF-8
    Pin {
        /// true if a person typed it for this use
        attended: bool,
        /// true if the question may be asked again if the PIN is wrong
        may_retry: bool,
    },
    /// confirmed
    Yes,
    /// no PIN, or no confirmation
    No(NoPin),
}

impl PromptAnswer {
    /// The answer and its payload.
    pub(super) fn of(reply: Result<PromptReply, NoPin>) -> ReplyWithPayload<Self> {
        match reply {
            Ok(PromptReply::Pin { pin, may_retry }) => {
                let attended = pin.is_attended();
                (Self::Pin { attended, may_retry }, Zeroizing::new(pin.as_str().as_bytes().to_vec()))
            }
            Ok(PromptReply::Yes) => (Self::Yes, Zeroizing::default()),
            Err(reason) => (Self::No(reason), Zeroizing::default()),
        }
    }

    /// # Errors
    /// No PIN, or no confirmation; also if the payload is not a PIN.
    pub(super) fn into_reply(self, payload: &[u8]) -> Result<PromptReply, NoPin> {
        match self {
            Self::Pin { attended, may_retry } => {
                let text = std::str::from_utf8(payload)
                    .map_err(|_| NoPin::Unavailable("the answer is not UTF-8".to_owned()))?;
                let pin = Pin::new(text.to_owned()).map_err(|error| NoPin::Unavailable(error.to_string()))?;
                Ok(PromptReply::Pin { pin: pin.attended_if(attended), may_retry })
            }
            Self::Yes => Ok(PromptReply::Yes),
            Self::No(reason) => Err(reason),
        }
    }
}
