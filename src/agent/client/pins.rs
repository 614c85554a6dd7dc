//! What the agent's tokens say about their PINs, as far as that is known.

use super::{Agent, ClientError};
use crate::agent::act::{ActAnswer, ActRequest, text_of};
use crate::keyset::{KeysetError, TokenPins, TokenSelector, TokenTrouble};
use crate::token::{TokenInfo, TokenUri};

impl Agent {
    /// What tokens say about their PINs: the one that was named, or all.
    pub fn pins(&self, token: Option<&TokenSelector>) -> Result<Vec<TokenPins>, ClientError> {
        match self.simple(&ActRequest::LookAtPins { token: token.map(text_of) })? {
            ActAnswer::Pins(pins) => Ok(pins.into_iter().map(Into::into).collect()),
            _ => Err(ClientError::Unfitting),
        }
    }

    /// What all tokens say about their PINs, and those of which it is not known.
    pub fn all_pins(&self) -> Result<(Vec<TokenPins>, Vec<TokenTrouble>), ClientError> {
        let (mut pins, mut troubles) = (self.pins(None)?, Vec::new());
        let is_left_out = |token: &TokenInfo| {
            !pins.iter().any(|(known, _)| known.module == token.module && known.serial == token.serial)
        };
        let left_out: Vec<_> = self.tokens()?.into_iter().filter(is_left_out).collect();
        for token in left_out {
            // Asked for alone, it has its reason said.
            let named = TokenUri::of(&token).to_string().parse().map_err(|_| ClientError::Unfitting)?;
            match self.pins(Some(&named)) {
                Ok(known) => pins.extend(known),
                Err(error) => {
                    let told = KeysetError::Told { kind: error.kind(), message: error.to_string() };
                    troubles.push(TokenTrouble { place: token.name().to_string(), error: told });
                }
            }
        }
        Ok((pins, troubles))
    }
}
