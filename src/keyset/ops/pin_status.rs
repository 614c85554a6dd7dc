//! Reports the states of tokens' PINs. It tries no PIN.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::keyset::find::Listing;
use crate::keyset::{
    Inventory, KeysetChoice, KeysetError, Operation, OperationContext, Outcome, TokenSelector, Tokens, UnreadableToken,
};
use crate::token::{TokenError, TokenFlags, TokenId, TokenInfo, TokenSource};

/// Reports the PIN states of one token or of all, and the tokens that could not be read.
#[derive(Debug, Serialize, Deserialize)]
pub struct PinStatus {
    /// `None`: all tokens
    pub token: Option<TokenSelector>,
}

impl Operation for PinStatus {
    const NAME: &'static str = "check the PINs";
    type Target = ();
    type Output = (Vec<TokenPinFlags>, Vec<UnreadableToken>);

    fn select(&self, inventory: &Inventory<'_>) -> Result<(), KeysetError> {
        inventory.prepare(&KeysetChoice { token: self.token.clone(), ..KeysetChoice::default() });
        Ok(())
    }

    fn run(self, (): (), cx: &mut OperationContext<'_>) -> Result<Outcome<Self::Output>, KeysetError> {
        cx.tokens.pin_flags(self.token.as_ref()).map(Outcome::Done)
    }
}

/// A token, with the PIN flags that it reports.
pub type TokenPinFlags = (TokenInfo, TokenFlags);

impl Tokens {
    /// The PIN flags of the selected token, else of all tokens, and the tokens whose flags cannot
    /// be read now. Tries no PIN.
    ///
    /// # Errors
    /// The flags of the selected token, or of every token, cannot be read.
    pub(super) fn pin_flags(&self, selector: Option<&TokenSelector>) -> Result<Listing<TokenPinFlags>, KeysetError> {
        let (tokens, mut unreadable) = match selector {
            Some(selector) => (vec![self.token(selector)?], Vec::new()),
            None => self.list_each(TokenSource::tokens)?,
        };
        if selector.is_none() {
            unreadable.extend(self.unusable_sources().errors());
        }
        let mut pins = Vec::new();
        for token in tokens {
            let of_thread = token.clone();
            match self.access.call(self.source_of(&token)?, move |source| source.flags(&of_thread)) {
                Ok(flags) => pins.push((token, flags)),
                Err(error) => unreadable.push(UnreadableToken::new(token.name(), error)),
            }
        }
        for source in self.sources() {
            let own = pins.iter_mut().filter(|(token, _)| source.has(token));
            let unread = self.access.refresh_flags(source, own.map(|(token, flags)| (token, Some(flags))));
            let of_each: HashMap<TokenId, TokenError> = unread.into_iter().collect();
            pins.retain(|(token, _)| {
                let error = of_each.get(&token.id());
                unreadable.extend(error.map(|error| UnreadableToken::new(token.name(), error.clone())));
                error.is_none()
            });
        }
        match unreadable.pop() {
            Some(last) if pins.is_empty() => Err(last.error),
            last => {
                unreadable.extend(last);
                Ok((pins, unreadable))
            }
        }
    }
}
