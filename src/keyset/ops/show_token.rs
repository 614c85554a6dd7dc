//! Shows a token, the states of its PINs, and what it can do. It tries no PIN.

use serde::{Deserialize, Serialize};

use crate::keyset::{Inventory, KeysetError, Operation, OperationContext, Outcome, TokenSelector, UnreadableToken};
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
        inventory.token_or_only(Some(&self.token))
    }

    fn run(self, info: TokenInfo, cx: &mut OperationContext<'_>) -> Result<Outcome<TokenDetails>, KeysetError> {
        let (mut shown, _) = cx.tokens.pin_flags(Some(&self.token))?;
        let absent = || KeysetError::NoSuchToken { selector: self.token.to_string(), found: info.name().to_string() };
        let (token, flags) = shown.pop().ok_or_else(absent)?;
        let capabilities = cx.tokens.open(&info).and_then(|token| Ok(token.capabilities()?.clone()));
        let capabilities = capabilities.map_err(|error| UnreadableToken::new(info.name(), error));
        Ok(Outcome::Done(TokenDetails { token, flags, capabilities }))
    }
}
