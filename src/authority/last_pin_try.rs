//! Checks whether one more wrong PIN would lock the authority's token, so that a person can be
//! warned before the PIN prompt.

use super::{Configuration, load_module};
use crate::token::{PinState, TokenName};

/// Returns the authority's token if its PIN has one try left. Errors are left to the opening of the
/// authority.
pub fn token_at_last_pin_try(configuration: &Configuration) -> Option<TokenName> {
    let tokens = load_module(configuration).and_then(|module| Ok(module.tokens()?)).unwrap_or_default();
    let is_it = |label: &str, state| label == configuration.token.label && state == PinState::FinalTry;
    tokens.iter().find(|token| is_it(&token.label, token.pin_state)).map(crate::token::TokenInfo::name)
}
