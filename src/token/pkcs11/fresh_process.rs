//! Asks a new process what this process' module may report wrongly, above all PIN states. Also
//! checks the storage of the module's tokens.
//!
//! - A module with card readers reads the PIN state from the card each time, and stores objects on
//!   the card.
//! - `SoftHSM` reads the PIN state from its files each time. On a full disk it may lose objects and
//!   still show them to this process.
//! - Other software modules (Kryoptic, NSS) are assumed to keep the PIN state of their
//!   initialization, and to store objects like `SoftHSM`.

use cryptoki::error::{Error, RvError};

use super::module::Module;
use super::return_values;
use crate::token::check::{self, CheckOutcome, CheckQuestion, CheckRequest, TokenCheckReport};
use crate::token::module_storage::ModuleStorage;
use crate::token::{
    Pin, PinState, PinStates, TokenError, TokenFlags, TokenId, TokenInfo, TokenName, UnreadTokens, WhichPin,
};

/// The manufacturer ID of the library that is known to read its files each time.
const READS_AGAIN: &str = "SoftHSM";

/// The reason for a token that the new process did not find.
pub(super) const NOT_SEEN_AFRESH: &str = "a new process does not find the token";

impl Module {
    /// The PIN states that a new process reads. `None` if this process reads them
    /// just as well, or if it starts no check process (in a check process itself and in unit
    /// tests).
    ///
    /// # Errors
    /// The reason why the states are unknown. The cached states of this process are then unknown
    /// too.
    pub(super) fn pin_states_seen_afresh(&self) -> Result<Option<Vec<(TokenId, PinStates)>>, String> {
        if !self.keeps_pin_state() {
            return Ok(None);
        }
        states_by(|| self.ask_afresh(CheckQuestion::PinStates {}, None)).inspect_err(|reason| {
            tracing::warn!(module = %self.path().display(), reason, "cannot read the PIN states in a new process");
        })
    }

    /// Updates the PIN states of these tokens, and their flags where given. All tokens must be of
    /// this module. Returns the tokens whose states could not be read and are unchanged.
    pub fn refresh_flags<'a>(
        &self,
        tokens: impl Iterator<Item = (&'a mut TokenInfo, Option<&'a mut TokenFlags>)>,
    ) -> UnreadTokens {
        let mut tokens = tokens.peekable();
        if tokens.peek().is_none() {
            return Vec::new();
        }
        let (not_seen, reason) = match self.pin_states_seen_afresh() {
            Ok(None) => return Vec::new(),
            Ok(Some(reported)) => (take(&reported, tokens), NOT_SEEN_AFRESH.to_owned()),
            Err(reason) => (tokens.map(|(info, _)| (info.id(), info.name())).collect(), reason),
        };
        let unknown = |(id, token)| {
            let (operation, which) = ("read the state of the PIN", WhichPin::User);
            (id, TokenError::PinStateUnknown { operation, token, which, reason: reason.clone() })
        };
        not_seen.into_iter().map(unknown).collect()
    }

    /// Whether the module keeps reporting the PIN states of its initialization while other
    /// processes spend tries. Assumed of a module that does not identify itself.
    fn keeps_pin_state(&self) -> bool {
        if self.module_state().has_readers() {
            return false;
        }
        if let Some(known) = self.module_state().keeps_pin_state.get() {
            return *known;
        }
        // A module that does not respond must not block this.
        let asked = self.clone();
        match self.ask(move || asked.is_known_to_read_again()) {
            Ok(Some(reads)) => *self.module_state().keeps_pin_state.get_or_init(|| !reads),
            Ok(None) | Err(_) => true,
        }
    }

    fn is_known_to_read_again(&self) -> Option<bool> {
        let library = {
            let _running = self.running();
            self.pkcs11().get_library_info().ok()?
        };
        Some(self.has_readers().ok()? || library.manufacturer_id().trim_end() == READS_AGAIN)
    }

    pub(super) fn ask_afresh(&self, question: CheckQuestion, pin: Option<&Pin>) -> Option<CheckOutcome> {
        check::ask(&CheckRequest { module: self.path().to_owned(), question }, pin)
    }

    /// Explains a module's error. For an unspecific failure it adds what is known about the storage
    /// of its tokens.
    pub(super) fn explain(
        &self,
        operation: &'static str,
        token: &TokenName,
        error: &Error,
        pin_state: impl FnOnce() -> PinState,
    ) -> TokenError {
        let says_nothing = [
            RvError::FunctionFailed,
            RvError::GeneralError,
            RvError::DeviceError,
            RvError::DeviceMemory,
            RvError::HostMemory,
            RvError::TokenWriteProtected,
        ];
        let explained = return_values::explain(operation, token, error, pin_state);
        if self.module_state().has_readers() || !says_nothing.iter().any(|code| return_values::is(error, *code)) {
            return explained;
        }
        match (explained, ModuleStorage::of(self.path()).describe_storage()) {
            (TokenError::Fault { operation, token, code }, Some(condition)) => {
                TokenError::Fault { operation, token, code: format!("{code} ({condition})") }
            }
            (
                TokenError::Full { operation, token } | TokenError::WriteProtected { operation, token },
                Some(condition),
            ) => TokenError::NoRoom { operation, token, condition },
            (explained, _) => explained,
        }
    }

    /// Refuses to write to a full token directory: `SoftHSM` reports success there, and destroys
    /// what was stored before.
    pub(super) fn check_free_space(&self, operation: &'static str, token: &TokenName) -> Result<(), TokenError> {
        if self.module_state().has_readers() {
            return Ok(());
        }
        match ModuleStorage::of(self.path()).storage_problem() {
            Some(condition) => Err(TokenError::NoRoom { operation, token: token.clone(), condition }),
            None => Ok(()),
        }
    }
}

/// Copies the read states to the tokens. Returns the tokens that were not found.
fn take<'a>(
    reported: &[(TokenId, PinStates)],
    tokens: impl Iterator<Item = (&'a mut TokenInfo, Option<&'a mut TokenFlags>)>,
) -> Vec<(TokenId, TokenName)> {
    let mut not_seen = Vec::new();
    for (info, flags) in tokens {
        let Some((_, states)) = reported.iter().find(|(token, _)| *token == info.id()) else {
            not_seen.push((info.id(), info.name()));
            continue;
        };
        info.pin_state = states.pin;
        if let Some(flags) = flags {
            flags.so_pin_state = states.so_pin;
        }
    }
    not_seen
}

/// Retries once after a failure, because another program may have been writing. Does not
/// repeat after a timeout.
fn states_by(ask: impl Fn() -> Option<CheckOutcome>) -> Result<Option<Vec<(TokenId, PinStates)>>, String> {
    let mut reason = String::new();
    for _ in 0..2 {
        match ask() {
            None => return Ok(None),
            Some(CheckOutcome::Answered(TokenCheckReport::PinStates(states))) => return Ok(Some(states)),
            Some(outcome @ (CheckOutcome::TookTooLong(_) | CheckOutcome::LoadTookTooLong(_))) => {
                return Err(outcome.why_unknown());
            }
            Some(outcome) => reason = outcome.why_unknown(),
        }
    }
    Err(reason)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::token::test_support::a_card;

    type States = Result<Option<Vec<(TokenId, PinStates)>>, String>;

    fn ask(outcomes: &[CheckOutcome]) -> (States, usize) {
        let asked = Cell::new(0);
        let states = states_by(|| {
            let number = asked.get();
            asked.set(number + 1);
            outcomes.get(number).or(outcomes.last()).cloned()
        });
        (states, asked.get())
    }

    #[test]
    fn an_absent_token_does_not_block_refreshing_the_others() {
        let token = |serial: &str| TokenInfo { serial: serial.into(), pin_state: PinState::Ok, ..a_card() };
        let mut tokens = [token("1"), token("2"), token("3")];
        let state = PinStates { pin: PinState::FinalTry, so_pin: PinState::Ok };
        let reported = [(tokens[0].id(), state), (tokens[2].id(), state)];
        let not_seen = take(&reported, tokens.iter_mut().map(|info| (info, None)));
        assert_eq!(not_seen.iter().map(|(_, name)| name.serial.as_str()).collect::<Vec<_>>(), ["2"]);
        let states: Vec<_> = tokens.iter().map(|token| token.pin_state).collect();
        assert_eq!(states, [PinState::FinalTry, PinState::Ok, PinState::FinalTry]);
    }

    #[test]
    fn an_unknown_pin_state_is_never_replaced_by_an_older_one() {
        let unknown = || CheckOutcome::Unknown("it is none of the agent's modules".into());
        let (states, asked) = ask(&[unknown()]);
        assert!(states.unwrap_err().contains("none of the agent's modules") && asked == 2);
        let failed = CheckOutcome::Answered(TokenCheckReport::ModuleFailed("the database is locked".into()));
        assert!(ask(std::slice::from_ref(&failed)).0.unwrap_err().contains("locked"));
        let well = CheckOutcome::Answered(TokenCheckReport::PinStates(Vec::new()));
        assert_eq!(ask(&[failed, well]), (Ok(Some(Vec::new())), 2));
        // A timeout of thirty seconds occurs only once.
        let (states, asked) = ask(&[CheckOutcome::TookTooLong(30)]);
        assert!(states.unwrap_err().contains("30 seconds") && asked == 1);
        assert_eq!(ask(&[]), (Ok(None), 1), "there is no runner");
    }
}
