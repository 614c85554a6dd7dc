//! What this process' own module cannot be believed about, and where its tokens lie: what a token says about its PIN, and
//! whether what was stored is there.
//!
//! | module | what it says about a PIN | what it says is stored |
//! |---|---|---|
//! | one with readers | the card is asked each time | is on the card |
//! | `SoftHSM` | its files are read each time | may be lost on a full disk, and is still shown to this process |
//! | any other in software (Kryoptic, NSS) | taken for as old as its start | taken for what `SoftHSM` says |

use std::path::Path;

use cryptoki::error::{Error, RvError};

use super::answers;
use crate::token::check::{self, CheckOutcome, CheckQuestion, CheckReport, CheckRequest, StoredObject};
use crate::token::stores::Store;
use crate::token::{Module, Pin, PinState, PinStates, Token, TokenError, TokenFlags, TokenInfo, TokenName, WhichPin};

/// The library that is known to read what a token says from its files each time.
const READS_AGAIN: &str = "SoftHSM";

/// Why nothing is known of a token that such a process does not see.
pub(super) const NOT_SEEN_AFRESH: &str = "the token is not there for a process that looks for it afresh";

/// Tokens that such a process did not see, by serial number, each with what is to be said of it.
pub type NotSeen = Vec<(String, TokenError)>;

impl Module {
    /// What a process that loads the module afresh reads of its tokens' PINs, by serial number; none where this one reads
    /// as well, and where no such process is ever started: in one of those, and in unit tests.
    ///
    /// # Errors
    /// Why nothing is known: then what this process has kept is no answer either.
    pub(super) fn pin_states_seen_afresh(&self) -> Result<Option<Vec<(String, PinStates)>>, String> {
        if !self.keeps_pin_state() {
            return Ok(None);
        }
        states_by(|| self.ask_afresh(CheckQuestion::PinStates {}, None)).inspect_err(|reason| {
            tracing::warn!(module = %self.path().display(), reason, "cannot read the states of PINs afresh");
        })
    }

    /// Brings up to date what these tokens, of any modules, say about their PINs. Gives those of
    /// this module that were not seen, and stay as they were.
    ///
    /// # Errors
    /// [`TokenError::PinStateUnknown`]: it is known of none of them.
    pub fn refresh_pin_states<'a>(
        &self,
        tokens: impl Iterator<Item = &'a mut TokenInfo>,
    ) -> Result<NotSeen, TokenError> {
        let own = |info: &&mut TokenInfo| info.module == self.path();
        self.refresh_flags(tokens.filter(own).map(|info| (info, None)))
    }

    /// The same, also of their SO PINs; all are of this module.
    ///
    /// # Errors
    /// As [`Module::refresh_pin_states`].
    pub fn refresh_flags<'a>(
        &self,
        tokens: impl Iterator<Item = (&'a mut TokenInfo, Option<&'a mut TokenFlags>)>,
    ) -> Result<NotSeen, TokenError> {
        let mut tokens = tokens.peekable();
        let Some((first, _)) = tokens.peek() else { return Ok(Vec::new()) };
        let unknown = |token: TokenName, reason| {
            let (operation, which) = ("read the state of the PIN", WhichPin::User);
            TokenError::PinStateUnknown { operation, token, which, reason }
        };
        let seen = self.pin_states_seen_afresh().map_err(|reason| unknown(first.name(), reason))?;
        let Some(seen) = seen else { return Ok(Vec::new()) };
        let not_seen = take(&seen, tokens);
        let unknown = |name: TokenName| (name.serial.clone(), unknown(name, NOT_SEEN_AFRESH.to_owned()));
        Ok(not_seen.into_iter().map(unknown).collect())
    }

    /// Does it go on saying of a PIN what it said when it was started, while other processes spend its tries? One that
    /// does not say what it is is taken for such a one.
    fn keeps_pin_state(&self) -> bool {
        if self.known().has_readers() {
            return false;
        }
        if let Some(known) = self.known().keeps_pin_state.get() {
            return *known;
        }
        // A module that does not answer keeps nobody waiting for that.
        let asked = self.clone();
        match self.ask(move || asked.is_known_to_read_again()) {
            Ok(Some(reads)) => *self.known().keeps_pin_state.get_or_init(|| !reads),
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

    pub(super) fn not_started(&self, error: &Error) -> TokenError {
        TokenError::Module {
            path: self.path().to_owned(),
            reason: error.to_string(),
            remedy: start_remedy(self.path()),
        }
    }

    fn ask_afresh(&self, question: CheckQuestion, pin: Option<&Pin>) -> Option<CheckOutcome> {
        check::ask(&CheckRequest { module: self.path().to_owned(), question }, pin)
    }

    /// A module's answer, and where it is only that something failed, what is known of the place where its tokens lie.
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
        let explained = answers::explain(operation, token, error, pin_state);
        if self.known().has_readers() || !says_nothing.iter().any(|code| answers::is(error, *code)) {
            return explained;
        }
        match (explained, Store::of(self.path()).condition()) {
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

    /// Refuses what would store something where there is no room for it: `SoftHSM` says that it was stored all the same,
    /// and destroys what was there before.
    pub(super) fn must_have_room(&self, operation: &'static str, token: &TokenName) -> Result<(), TokenError> {
        if self.known().has_readers() {
            return Ok(());
        }
        match Store::of(self.path()).lack() {
            Some(condition) => Err(TokenError::NoRoom { operation, token: token.clone(), condition }),
            None => Ok(()),
        }
    }
}

impl Token {
    /// The same, of this token's module.
    pub(super) fn must_have_room(&self, operation: &'static str) -> Result<(), TokenError> {
        self.module().must_have_room(operation, &self.info().name())
    }

    /// Has a process with a module of its own look whether all this is there. The PIN is the one that this process is
    /// logged in with. A module with readers is not asked: the card is its store, and a second process would take it away.
    /// Gives why it is not known where that process could not look.
    ///
    /// # Errors
    /// [`TokenError::NotStored`] names what is missing.
    pub fn must_be_stored(
        &self,
        operation: &'static str,
        objects: Vec<StoredObject>,
        pin: Option<&Pin>,
    ) -> Result<Option<String>, TokenError> {
        let module = self.module();
        if module.has_readers()? {
            return Ok(None);
        }
        // Nobody else of this process logs in or out, or writes, while the child does.
        let _alone = self.exclusive();
        let serial = self.info().serial.clone();
        let missing = match module.ask_afresh(CheckQuestion::Stored { serial, objects }, pin) {
            Some(CheckOutcome::Answered(CheckReport::Missing(missing))) => missing.join(", "),
            Some(CheckOutcome::Answered(CheckReport::TokenFailed(reason))) => reason,
            Some(outcome @ CheckOutcome::Died(_)) => outcome.why_unknown(),
            Some(CheckOutcome::Answered(CheckReport::Well {})) | None => return Ok(None),
            // It could be loaded by itself; that it can be beside this process the log-in before has shown, or it is
            // SoftHSM: what has come since, a full disk among it, is in the way.
            Some(CheckOutcome::Answered(CheckReport::ModuleFailed(reason))) if check::has_been_well(module.path()) => {
                reason
            }
            // A module that cannot be loaded twice, or not shut in, is no worse for that.
            Some(outcome) => return Ok(Some(outcome.why_unknown())),
        };
        let condition = Store::of(module.path()).condition().unwrap_or_else(|| "the disk may be full".to_owned());
        Err(TokenError::NotStored { operation, token: self.info().name(), missing, condition })
    }
}

/// Takes what was seen of each of these tokens; gives those of which nothing was.
fn take<'a>(
    seen: &[(String, PinStates)],
    tokens: impl Iterator<Item = (&'a mut TokenInfo, Option<&'a mut TokenFlags>)>,
) -> Vec<TokenName> {
    let mut not_seen = Vec::new();
    for (info, flags) in tokens {
        let Some((_, states)) = seen.iter().find(|(serial, _)| *serial == info.serial) else {
            not_seen.push(info.name());
            continue;
        };
        info.pin_state = states.pin;
        if let Some(flags) = flags {
            flags.so_pin_state = states.so_pin;
        }
    }
    not_seen
}

/// Asks once more where the answer is none: another program may just write what is read. Not one that took too long.
fn states_by(ask: impl Fn() -> Option<CheckOutcome>) -> Result<Option<Vec<(String, PinStates)>>, String> {
    let mut reason = String::new();
    for _ in 0..2 {
        match ask() {
            None => return Ok(None),
            Some(CheckOutcome::Answered(CheckReport::PinStates(states))) => return Ok(Some(states)),
            Some(outcome @ (CheckOutcome::TookTooLong(_) | CheckOutcome::LoadTookTooLong(_))) => {
                return Err(outcome.why_unknown());
            }
            Some(outcome) => reason = outcome.why_unknown(),
        }
    }
    Err(reason)
}

/// What may help where a module cannot be started.
pub(super) fn start_remedy(path: &Path) -> String {
    if path.to_string_lossy().contains("softhsm") {
        "check that SOFTHSM2_CONF names a configuration that you can read, and that its token directory is there"
            .to_owned()
    } else {
        "see the module's own documentation for its configuration".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::token::test_support::a_card;

    type States = Result<Option<Vec<(String, PinStates)>>, String>;

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
    fn a_token_that_is_not_seen_keeps_no_other_from_being_brought_up_to_date() {
        let token = |serial: &str| TokenInfo { serial: serial.into(), pin_state: PinState::Ok, ..a_card() };
        let mut tokens = [token("1"), token("2"), token("3")];
        let state = PinStates { pin: PinState::FinalTry, so_pin: PinState::Ok };
        let seen = [("1".to_owned(), state), ("3".to_owned(), state)];
        let not_seen = take(&seen, tokens.iter_mut().map(|info| (info, None)));
        assert_eq!(not_seen.iter().map(|name| name.serial.as_str()).collect::<Vec<_>>(), ["2"]);
        let states: Vec<_> = tokens.iter().map(|token| token.pin_state).collect();
        assert_eq!(states, [PinState::FinalTry, PinState::Ok, PinState::FinalTry]);
    }

    #[test]
    fn what_is_not_known_of_a_pin_is_never_taken_from_what_was_kept() {
        let unknown = || CheckOutcome::Unknown("it is none of the agent's modules".into());
        let (states, asked) = ask(&[unknown()]);
        assert!(states.unwrap_err().contains("none of the agent's modules") && asked == 2);
        let failed = CheckOutcome::Answered(CheckReport::ModuleFailed("the database is locked".into()));
        assert!(ask(std::slice::from_ref(&failed)).0.unwrap_err().contains("locked"));
        let well = CheckOutcome::Answered(CheckReport::PinStates(Vec::new()));
        assert_eq!(ask(&[failed, well]), (Ok(Some(Vec::new())), 2));
        // Thirty seconds are waited once.
        let (states, asked) = ask(&[CheckOutcome::TookTooLong(30)]);
        assert!(states.unwrap_err().contains("30 seconds") && asked == 1);
        assert_eq!(ask(&[]), (Ok(None), 1), "there is nobody to be asked");
    }
}
