//! Shows a token, the states of its PINs, and what it can do. It tries no PIN.

use serde::{Deserialize, Serialize};

use crate::keyset::{
    Inventory, KeysetChoice, KeysetError, Operation, OperationContext, Outcome, TokenSelector, UnreadableToken,
};
use crate::token::{Capabilities, TokenFlags, TokenInfo};

/// Shows the selected token.
#[derive(Debug, Serialize, Deserialize)]
pub struct ShowToken {
    pub token: TokenSelector,
}

/// A token as it is shown.
#[derive(Debug, Serialize, Deserialize)]
pub struct TokenDetails {
    pub token: TokenInfo,
    pub flags: TokenFlags,
    /// what it can do, or why that cannot be asked now: another process may own it
    pub capabilities: Result<Capabilities, UnreadableToken>,
}

impl Operation for ShowToken {
    const NAME: &'static str = "show the token";
    type Target = TokenInfo;
    type Output = TokenDetails;

    fn select(&self, inventory: &Inventory<'_>) -> Result<TokenInfo, KeysetError> {
        inventory.prepare(&KeysetChoice { token: Some(self.token.clone()), ..KeysetChoice::default() });
        inventory.tokens.token(&self.token)
    }

    fn run(self, info: TokenInfo, cx: &mut OperationContext<'_>) -> Result<Outcome<TokenDetails>, KeysetError> {
        let (shown, mut unreadable) = cx.tokens.pins(Some(&self.token))?;
        let Some((token, flags)) = shown.into_iter().next() else {
            let absent =
                || KeysetError::NoSuchToken { selector: self.token.to_string(), found: info.name().to_string() };
            return Err(unreadable.pop().map_or_else(absent, |unreadable| unreadable.error));
        };
        let capabilities = cx.tokens.open(&info).and_then(|token| Ok(token.capabilities()?.clone()));
        let place = info.name().to_string();
        let capabilities = capabilities.map_err(|error| UnreadableToken { place, error });
        Ok(Outcome::Done(TokenDetails { token, flags, capabilities }))
    }
}
