//! The PIN states of the agent's tokens.

use super::{AgentClient, ClientError};
use crate::agent::operation::{OperationOutput, OperationRequest, selector_text};
use crate::keyset::{TokenPins, TokenSelector, UnreadableToken};

impl AgentClient {
    /// The PIN states of one token or all, and the tokens that did not report them.
    pub fn pins(&self, token: Option<&TokenSelector>) -> Result<(Vec<TokenPins>, Vec<UnreadableToken>), ClientError> {
        match self.simple(&OperationRequest::PinStatus { token: token.map(selector_text) })? {
            OperationOutput::Pins(found) => Ok(found.read()),
            _ => Err(ClientError::Unfitting),
        }
    }
}
