//! Reports the states of tokens' PINs. It tries no PIN.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::keyset::{
    Inventory, KeysetChoice, KeysetError, Operation, OperationContext, Outcome, TokenSelector, Tokens, UnreadableToken,
};
use crate::token::{TokenFlags, TokenId, TokenInfo, TokenSource};

/// Reports the PIN states of one token or of all, and the tokens that could not be read.
#[derive(Debug, Serialize, Deserialize)]
pub struct PinStatus {
    /// `None`: all tokens
    pub token: Option<TokenSelector>,
}

impl Operation for PinStatus {
    const NAME: &'static str = "check the PINs";
    type Target = ();
    type Output = (Vec<TokenPins>, Vec<UnreadableToken>);

    fn select(&self, inventory: &Inventory<'_>) -> Result<(), KeysetError> {
        inventory.prepare(&KeysetChoice { token: self.token.clone(), ..KeysetChoice::default() });
        Ok(())
    }

    fn run(self, (): (), cx: &mut OperationContext<'_>) -> Result<Outcome<Self::Output>, KeysetError> {
        cx.tokens.pins(self.token.as_ref()).map(Outcome::Done)
    }
}

/// A token, with the PIN flags that it reports.
pub type TokenPins = (TokenInfo, TokenFlags);

fn unreadable_token(token: &TokenInfo, error: &KeysetError) -> UnreadableToken {
    let error = KeysetError::Remote { kind: error.kind(), message: error.to_string() };
    UnreadableToken { place: token.name().to_string(), error }
}

impl Tokens {
    /// The PIN flags of the selected token, else of all tokens, and the tokens whose flags cannot
    /// be read now. Tries no PIN.
    ///
    /// # Errors
    /// The flags of the selected token, or of every token, cannot be read.
    pub fn pins(
        &self,
        selector: Option<&TokenSelector>,
    ) -> Result<(Vec<TokenPins>, Vec<UnreadableToken>), KeysetError> {
        let (pins, mut unreadable) = self.pin_states(selector)?;
        match unreadable.pop() {
            Some(unreadable_tokens) if pins.is_empty() => Err(unreadable_tokens.error),
            last => {
                unreadable.extend(last);
                Ok((pins, unreadable))
            }
        }
    }

    /// Like [`Tokens::pins`], but an empty result is not an error.
    ///
    /// # Errors
    /// The selected token does not exist. Without a selector, and outside the agent: a source
    /// cannot list its tokens.
    pub fn pin_states(
        &self,
        selector: Option<&TokenSelector>,
    ) -> Result<(Vec<TokenPins>, Vec<UnreadableToken>), KeysetError> {
        let (tokens, mut unreadable) = match selector {
            Some(selector) => (vec![self.token(selector)?], Vec::new()),
            None => self.list_each(TokenSource::tokens),
        };
        if !self.has_persistent_sessions() && !unreadable.is_empty() {
            return Err(unreadable.swap_remove(0).error);
        }
        if selector.is_none() {
            unreadable.extend(self.unusable_source_errors());
        }
        let mut pins = Vec::new();
        for token in tokens {
            let of_thread = token.clone();
            match self.query(self.source_of(&token)?, move |source| source.flags(&of_thread)) {
                Ok(flags) => pins.push((token, flags)),
                Err(error) => unreadable.push(unreadable_token(&token, &error.into())),
            }
        }
        // A command loads its sources just before; the sources of an agent may cache what tokens
        // reported at its start.
        for source in self.sources().iter().filter(|_| self.has_persistent_sessions()) {
            let own = pins.iter_mut().filter(|(token, _)| source.has(token));
            let not_seen = source.refresh_flags(own.map(|(token, flags)| (token, Some(flags))));
            let of_each: HashMap<TokenId, KeysetError> =
                not_seen.into_iter().map(|(token, error)| (token, error.into())).collect();
            pins.retain(|(token, _)| {
                let why = of_each.get(&token.id());
                unreadable.extend(why.map(|error| unreadable_token(token, error)));
                why.is_none()
            });
        }
        Ok((pins, unreadable))
    }
}
