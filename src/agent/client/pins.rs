//! What the agent's tokens say about their PINs, as far as that is known.

use super::{Agent, ClientError};
use crate::agent::act::{ActAnswer, ActRequest, text_of};
use crate::keyset::{TokenPins, TokenSelector, TokenTrouble};

impl Agent {
    /// What tokens say about their PINs: the one that was named, or all; and those of which it is
    /// not known.
    pub fn pins(&self, token: Option<&TokenSelector>) -> Result<(Vec<TokenPins>, Vec<TokenTrouble>), ClientError> {
        match self.simple(&ActRequest::LookAtPins { token: token.map(text_of) })? {
            ActAnswer::Pins(found) => Ok(found.read()),
            _ => Err(ClientError::Unfitting),
        }
    }
}
