//! Changes the PIN of a token, or sets a new one with the SO PIN if it is locked or forgotten.

use std::collections::HashMap;

use crate::token::{Module, PinState, TokenError, TokenFlags, TokenInfo, WhichPin};

use super::choose::list_or;
use super::unlock::check_before_pin;
use super::{FoundKeyset, KeysetError, NoPin, Notice, Prompt, TokenSelector, Tokens, UnreadableToken, UserPrompter};

const OPERATION: &str = "set a new PIN";

/// Asks for the old PIN and a new one, and changes it. The old PIN is verified, with one try,
/// before the new one is requested. The new PIN also applies to other keysets on the token; a
/// notice says so.
pub fn pin_change(tokens: &Tokens, keyset: &FoundKeyset, person: &mut dyn UserPrompter) -> Result<(), KeysetError> {
    let operation = "change the PIN";
    let no_pin = |reason: NoPin| KeysetError::NoPin { operation, token: Some(keyset.token.name()), reason };
    let (others, _) = tokens.keysets_on(&keyset.token)?;
    let others: Vec<FoundKeyset> = others.into_iter().filter(|other| other.name != keyset.name).collect();
    let token = tokens.open(&keyset.token)?;
    person.set_keyset(keyset);
    let lease = tokens.acquire_lease(&token);
    let pin_state = check_before_pin(&lease, operation, person)?;
    if !others.is_empty() {
        person.notice(Notice::SharedPin { others: list_or(&others, |other| other.name.to_string(), "") });
    }
    let info = TokenInfo { pin_state, ..keyset.token.clone() };
    let old = person.pin(Prompt::Pin { operation, token: &info }).map_err(no_pin)?;
    // Verify the old PIN first, so that nobody invents a new one and types it twice before learning
    // of a wrong old one. Giving the correct PIN again to change it costs no further try.
    let old = lease.verify(old).map_err(|error| error.with_operation(operation))?;
    let no_new_pin = |reason: NoPin| KeysetError::NoNewPin { operation, token: keyset.token.name(), reason };
    let new = person
        .pin(Prompt::NewPin { label: &info.label, serial: Some(&info.serial), rule: Some(token.pin_rule()) })
        .map_err(no_new_pin)?;
    // Do not verify the new PIN in another process: if it failed, that would cost a try. If a full
    // disk lost the change, the old PIN still works and nothing is lost.
    Ok(lease.change_pin(old, &new)?)
}

/// Sets a new PIN on a token, also an authority's; its content stays. Costs one try of the SO PIN.
pub fn pin_unblock(tokens: &Tokens, info: &TokenInfo, person: &mut dyn UserPrompter) -> Result<(), KeysetError> {
    let name = info.name();
    let no_pin = |reason| KeysetError::NoPin { operation: OPERATION, token: Some(name.clone()), reason };
    let token = tokens.module_of(info)?.open(info)?;
    let state = token.refresh_so_pin_state()?;
    match state {
        PinState::Locked => return Err(TokenError::SoPinLocked { operation: OPERATION, token: name }.into()),
        PinState::FinalTry => {
            let which = WhichPin::SecurityOfficer;
            person.confirm(Prompt::LastTry { token: info, which }).map_err(no_pin)?;
        }
        PinState::Ok | PinState::CountLow | PinState::NotSet => {}
    }
    // Verify the SO PIN first, so that nobody invents a new PIN and types it twice before learning
    // of a wrong SO PIN. Giving the correct SO PIN again costs no further try.
    let so_pin = person.pin(Prompt::SoPin { token: info }).map_err(no_pin)?;
    let so_pin = if state == PinState::FinalTry { so_pin.allow_last_try() } else { so_pin };
    token.verify_so_pin(&so_pin)?;
    let no_new_pin = |reason| KeysetError::NoNewPin { operation: OPERATION, token: name.clone(), reason };
    let new = person
        .pin(Prompt::NewPin { label: &info.label, serial: Some(&info.serial), rule: Some(token.pin_rule()) })
        .map_err(no_new_pin)?;
    Ok(token.unblock_pin(&so_pin, &new)?)
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
    /// The selected token does not exist. Without a selector, and outside the agent: a module
    /// cannot list its tokens.
    pub fn pin_states(
        &self,
        selector: Option<&TokenSelector>,
    ) -> Result<(Vec<TokenPins>, Vec<UnreadableToken>), KeysetError> {
        let (tokens, mut unreadable) = match selector {
            Some(selector) => (vec![self.token(selector)?], Vec::new()),
            None => self.list_each(Module::tokens),
        };
        if !self.has_persistent_sessions() && !unreadable.is_empty() {
            return Err(unreadable.swap_remove(0).error);
        }
        if selector.is_none() {
            unreadable.extend(self.unusable_module_errors());
        }
        let mut pins = Vec::new();
        for token in tokens {
            let of_thread = token.clone();
            match self.query(self.module_of(&token)?, move |module| module.flags(&of_thread)) {
                Ok(flags) => pins.push((token, flags)),
                Err(error) => unreadable.push(unreadable_token(&token, &error.into())),
            }
        }
        // A command loads its modules just before; the modules of an agent may cache what tokens
        // reported at its start.
        for module in self.modules().iter().filter(|_| self.has_persistent_sessions()) {
            let own = pins.iter_mut().filter(|(token, _)| token.module == module.path());
            let not_seen = module.refresh_flags(own.map(|(token, flags)| (token, Some(flags))));
            let of_each: HashMap<String, KeysetError> =
                not_seen.into_iter().map(|(serial, error)| (serial, error.into())).collect();
            pins.retain(|(token, _)| {
                let why = of_each.get(&token.serial).filter(|_| token.module == module.path());
                unreadable.extend(why.map(|error| unreadable_token(token, error)));
                why.is_none()
            });
        }
        Ok((pins, unreadable))
    }

    /// The selected token, else the only one present.
    pub fn token_or_only(&self, selector: Option<&TokenSelector>) -> Result<TokenInfo, KeysetError> {
        if let Some(selector) = selector {
            return self.token(selector);
        }
        self.require_all_modules()?;
        let mut tokens = self.list()?;
        match (tokens.pop(), tokens.is_empty()) {
            (Some(token), true) => Ok(token),
            (None, _) => Err(KeysetError::NoSuchToken {
                selector: "with the PIN".to_owned(),
                found: "no token is present".to_owned(),
            }),
            (Some(token), false) => {
                tokens.push(token);
                Err(KeysetError::Ambiguous {
                    what: "token",
                    candidates: list_or(&tokens, |token| token.name().to_string(), ""),
                    remedy: "name it by its serial number or label".to_owned(),
                })
            }
        }
    }
}
