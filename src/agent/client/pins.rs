//! The PIN states of the agent's tokens.

use super::{Agent, ClientError};
use crate::agent::act::{ActAnswer, ActRequest, text_of};
use crate::keyset::{TokenPins, TokenSelector, TokenTrouble};

impl Agent {
    /// The PIN states of one token or all, and the tokens that did not report them.
    pub fn pins(&self, token: Option<&TokenSelector>) -> Result<(Vec<TokenPins>, Vec<TokenTrouble>), ClientError> {
        match self.simple(&ActRequest::LookAtPins { token: token.map(text_of) })? {
            ActAnswer::Pins(found) => Ok(found.read()),
            _ => Err(ClientError::Unfitting),
        }
    }
}
