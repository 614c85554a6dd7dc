//! Whether the next wrong PIN would lock the authority's token: known before the PIN is asked for, so that whoever types
//! it can be warned.

use super::{Configuration, load_module};
use crate::token::{PinState, TokenName};

/// The authority's token, if one try of its PIN is left. What cannot be looked at is told when the authority is opened.
pub fn at_its_last_try(configuration: &Configuration) -> Option<TokenName> {
    let tokens = load_module(configuration).and_then(|module| Ok(module.tokens()?)).unwrap_or_default();
    let is_it = |label: &str, state| label == configuration.token.label && state == PinState::FinalTry;
    tokens.iter().find(|token| is_it(&token.label, token.pin_state)).map(crate::token::TokenInfo::name)
}
