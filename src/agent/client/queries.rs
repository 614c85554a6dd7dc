//! Queries that need no person: the agent's status, its tokens, keysets and PIN states.

use serde::Deserialize;

use super::replies::NoPrompter;
use super::{AgentClient, ClientError, http};
use crate::agent::operation::{NoTransport, OperationOutput, OperationRequest, selector_text};
use crate::keyset::{FoundKeyset, KeysetChoice, TokenPins, TokenSelector, UnreadableToken};
use crate::token::TokenInfo;

/// An agent's status (`/v1/status`). An older agent reports less, which is not an error.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct AgentStatus {
    /// locked with `ssh-add -x`
    pub locked: bool,
    /// its prompt method
    #[serde(default)]
    pub prompter: Option<String>,
    /// the reason if it cannot prompt, with the remedy
    #[serde(default)]
    pub prompter_problem: Option<String>,
}

impl AgentClient {
    /// The agent's status.
    ///
    /// # Errors
    /// [`ClientError::Unusable`], also if an older agent has no status.
    pub fn status(&self) -> Result<AgentStatus, ClientError> {
        http::get(self.connect()?, "/v1/status").map_err(|error| self.unusable(&error))
    }

    /// The tokens that are present.
    ///
    /// # Errors
    /// As for all functions below: the error of the operation or of the connection to the agent.
    pub fn tokens(&self) -> Result<Vec<TokenInfo>, ClientError> {
        match self.query(&OperationRequest::ListTokens {})? {
            OperationOutput::Tokens(tokens) => Ok(tokens),
            _ => Err(ClientError::Unfitting),
        }
    }

    /// The keysets that are present, and the tokens that could not be read.
    pub fn keysets(&self) -> Result<(Vec<FoundKeyset>, Vec<UnreadableToken>), ClientError> {
        match self.query(&OperationRequest::ListKeysets {})? {
            OperationOutput::Keysets(found) => found.read().map_err(|_| ClientError::Unfitting),
            _ => Err(ClientError::Unfitting),
        }
    }

    /// The one keyset that the choice selects.
    pub fn choose(&self, choice: &KeysetChoice) -> Result<FoundKeyset, ClientError> {
        match self.query(&OperationRequest::ChooseKeyset(choice.into()))? {
            OperationOutput::Keyset(keyset) => (*keyset).try_into().map_err(|_| ClientError::Unfitting),
            _ => Err(ClientError::Unfitting),
        }
    }

    /// The PIN states of one token or all, and the tokens that did not report them.
    pub fn pins(&self, token: Option<&TokenSelector>) -> Result<(Vec<TokenPins>, Vec<UnreadableToken>), ClientError> {
        match self.query(&OperationRequest::PinStatus { token: token.map(selector_text) })? {
            OperationOutput::Pins(found) => Ok(found.read()),
            _ => Err(ClientError::Unfitting),
        }
    }

    fn query(&self, request: &OperationRequest) -> Result<OperationOutput, ClientError> {
        self.run_operation(request, &mut NoPrompter, &NoTransport)
    }
}
