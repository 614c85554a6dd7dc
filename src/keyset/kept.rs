//! The agent's cache between operations: open tokens and the content of their public indexes.
//!
//! It holds no PIN. An active session belongs to the open token itself.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::token::{Pin, PinState, Token, TokenError, TokenInfo, Turn, Unlock};

use super::find::keysets_of;
use super::{FoundKeyset, KeysetError, Tokens};

/// Number of consecutive wrong PINs from which the next prompt is delayed.
const PATIENT_AFTER: u32 = 3;
/// Number of consecutive wrong PINs from which no further one is accepted.
const REFUSED_AFTER: u32 = 10;
/// The longest delay before a prompt.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// The delay after [`PATIENT_AFTER`] wrong PINs; it doubles with each further one.
#[cfg(not(test))]
const FIRST_WAIT: Duration = Duration::from_secs(1);
#[cfg(test)]
const FIRST_WAIT: Duration = Duration::from_millis(1);

/// A token, identified by module path and serial number.
type Place = (PathBuf, String);

/// The cache: one entry per token.
#[derive(Debug, Default)]
pub(super) struct Kept {
    tokens: Mutex<HashMap<Place, KeptToken>>,
    // Tokens that another program owned at the last attempt: the next listing does not wait for
    // them.
    held: Mutex<HashSet<Place>>,
}

#[derive(Debug)]
struct KeptToken {
    label: String,
    // `None` for an authority's token: it is opened once for inspection, and never kept open.
    open: Option<Token>,
    keysets: Option<Vec<FoundKeyset>>,
}

fn place(info: &TokenInfo) -> Place {
    (info.module.clone(), info.serial.clone())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Kept {
    /// Returns the token if it is open and still present.
    pub fn open(&self, info: &TokenInfo) -> Option<Token> {
        let token = lock(&self.tokens).get(&place(info))?.open.clone()?;
        if token.is_present() {
            return Some(token);
        }
        self.forget(info);
        None
    }

    /// How long a listing waits for this token.
    pub fn patience(&self, info: &TokenInfo, usual: Duration) -> Duration {
        if lock(&self.held).contains(&place(info)) { Duration::ZERO } else { usual }
    }

    /// Records whether another program owns the token.
    pub fn note_held<T>(&self, info: &TokenInfo, result: &Result<T, TokenError>) {
        let mut held = lock(&self.held);
        match result {
            Err(TokenError::Owned { .. }) => held.insert(place(info)),
            _ => held.remove(&place(info)),
        };
    }

    /// Returns whether the token is known to belong to an authority.
    pub fn is_an_authoritys(&self, info: &TokenInfo) -> bool {
        lock(&self.tokens).get(&place(info)).is_some_and(|kept| kept.open.is_none() && kept.label == info.label)
    }

    /// The keysets found when the public indexes were last read.
    pub fn keysets(&self, info: &TokenInfo) -> Option<Vec<FoundKeyset>> {
        let tokens = lock(&self.tokens);
        let kept = tokens.get(&place(info)).filter(|kept| kept.label == info.label)?;
        kept.keysets.clone()
    }

    pub fn keep(&self, info: &TokenInfo, token: &Token) {
        let mut tokens = lock(&self.tokens);
        let keysets = tokens.remove(&place(info)).and_then(|kept| kept.keysets);
        tokens.insert(place(info), KeptToken { label: info.label.clone(), open: Some(token.clone()), keysets });
    }

    /// Caches a token on which keysets were found. A token without keysets is released, so that
    /// other programs can enroll on it; so is a token with a locked PIN, so that `pin unblock` can
    /// open it.
    pub fn keep_keysets(&self, info: &TokenInfo, token: &Token, keysets: &[FoundKeyset]) {
        let of_no_use = keysets.is_empty() || matches!(info.pin_state, PinState::Locked | PinState::NotSet);
        if of_no_use && !token.stands() {
            self.forget(info);
            return;
        }
        let kept = KeptToken { label: info.label.clone(), open: Some(token.clone()), keysets: Some(keysets.to_vec()) };
        lock(&self.tokens).insert(place(info), kept);
    }

    pub fn note_authoritys(&self, info: &TokenInfo) {
        lock(&self.tokens)
            .insert(place(info), KeptToken { label: info.label.clone(), open: None, keysets: Some(Vec::new()) });
    }

    /// Discards the cached keysets; the token stays open.
    pub fn forget_keysets(&self, info: &TokenInfo) {
        if let Some(kept) = lock(&self.tokens).get_mut(&place(info)).filter(|kept| kept.open.is_some()) {
            kept.keysets = None;
        }
    }

    pub fn forget(&self, info: &TokenInfo) {
        // Dropped outside the lock: closing a token calls its module.
        let kept = lock(&self.tokens).remove(&place(info));
        drop(kept);
    }

    pub fn tokens(&self) -> Vec<Token> {
        lock(&self.tokens).values().filter_map(|kept| kept.open.clone()).collect()
    }

    /// The open tokens of this module, with the keysets found on them.
    fn read_tokens(&self, module: &Path) -> Vec<(Token, Vec<FoundKeyset>)> {
        let tokens = lock(&self.tokens);
        let of_module = tokens.iter().filter(|((path, _), _)| path == module);
        of_module.filter_map(|(_, kept)| Some((kept.open.clone()?, kept.keysets.clone()?))).collect()
    }

    /// Releases every token of this module that has no active session.
    fn let_go_of_idle_ones(&self, module: &Path) {
        let mut idle = Vec::new();
        lock(&self.tokens).retain(|(path, _), kept| {
            // Authority tokens stay recorded, so that they are not opened again for inspection.
            let stays = path != module || kept.open.as_ref().is_none_or(Token::stands);
            if !stays {
                idle.extend(kept.open.take());
            }
            stays
        });
        drop(idle);
    }

    /// Limits guessing independently of the token, because some tokens (such as SoftHSM) accept any
    /// number of wrong PINs. Costs no try.
    fn bound_guesses(token: &Token, operation: &'static str) -> Result<(), KeysetError> {
        let wrong = token.wrong_pins_in_a_row();
        if wrong >= REFUSED_AFTER {
            return Err(KeysetError::TooManyWrongPins { operation, token: token.info().name(), wrong });
        }
        if let Some(more) = wrong.checked_sub(PATIENT_AFTER) {
            std::thread::sleep(FIRST_WAIT.saturating_mul(1 << more.min(8)).min(LONGEST_WAIT));
        }
        Ok(())
    }
}

/// The exclusive right to ask for a token's PIN and to try it. In the agent, concurrent operations
/// wait for it.
pub(super) struct MyTurn {
    token: Token,
    turn: Option<Turn>,
    kept: Option<Arc<Kept>>,
    // The user was warned that one try is left, and accepted the risk.
    takes_the_last_try: Cell<bool>,
}

impl Tokens {
    /// Keeps tokens open and sessions of levels Medium and Low active between operations, as the
    /// agent does. Without this, every operation asks for the PIN and ends its login.
    #[must_use]
    pub fn keeping_log_ins(mut self) -> Self {
        self.kept = Some(Arc::default());
        self
    }

    pub(super) fn keeps_log_ins(&self) -> bool {
        self.kept.is_some()
    }

    /// The open tokens with an active session.
    pub fn standing(&self) -> Vec<Token> {
        self.kept.iter().flat_map(|kept| kept.tokens()).filter(Token::stands_after_all).collect()
    }

    /// Lists all tokens as [`Tokens::list`] does, with a fresh PIN state: modules of an agent may
    /// cache what tokens reported at its start. If a state cannot be refreshed, the cached one is
    /// returned and a warning is logged.
    pub fn list_as_of_now(&self) -> Result<Vec<TokenInfo>, KeysetError> {
        Ok(self.list_and_read_pins()?.0)
    }

    /// As [`Tokens::list_as_of_now`], but without tokens whose PIN state could not be refreshed.
    pub fn list_with_pins_known(&self) -> Result<Vec<TokenInfo>, KeysetError> {
        let (mut tokens, not_read) = self.list_and_read_pins()?;
        tokens.retain(|token| !not_read.contains(&place(token)));
        Ok(tokens)
    }

    /// Lists all tokens, and those whose PIN state is only the cached one.
    fn list_and_read_pins(&self) -> Result<(Vec<TokenInfo>, HashSet<Place>), KeysetError> {
        let (mut tokens, mut not_read) = (self.list()?, HashSet::new());
        for module in self.modules().iter().filter(|_| self.kept.is_some()) {
            let all = |tokens: &[TokenInfo]| -> Vec<Place> {
                tokens.iter().filter(|token| token.module == module.path()).map(place).collect()
            };
            if module.silent_for().is_some() {
                not_read.extend(all(&tokens));
                continue;
            }
            match module.refresh_pin_states(tokens.iter_mut()) {
                Ok(not_seen) => {
                    for (serial, error) in not_seen {
                        tracing::warn!("{error}");
                        not_read.insert((module.path().to_owned(), serial));
                    }
                }
                Err(error) => {
                    tracing::warn!("{error}");
                    not_read.extend(all(&tokens));
                }
            }
        }
        Ok((tokens, not_read))
    }

    /// Discards all cached keysets; the next listing reads the public indexes again.
    pub fn forget_all_keysets(&self) {
        for token in self.kept.iter().flat_map(|kept| kept.tokens()) {
            self.forget_keysets(token.info());
        }
    }

    /// Discards the cached keysets of this token.
    pub fn forget_keysets(&self, info: &TokenInfo) {
        if let Some(kept) = &self.kept {
            kept.forget_keysets(info);
        }
    }

    /// Removes a token that is absent or has been replaced. Its session ends.
    pub fn forget(&self, info: &TokenInfo) {
        if let Some(kept) = &self.kept {
            kept.forget(info);
        }
    }

    /// Restarts modules, so that they show tokens created by other processes. Without
    /// `with_readers`, only modules without card readers are restarted: a reader reports insertions
    /// itself, and restarting its module is slow. Tokens without an active session are released
    /// first; a module with a token in use is not restarted.
    pub fn rescan(&self, with_readers: bool) -> Result<(), KeysetError> {
        let mut failed = None;
        for module in self.modules() {
            // A stopped module cannot report its readers, and owns no card that other programs
            // need.
            if !module.is_stopped() {
                // Skip an unresponsive module: listing its tokens reports the error.
                let asked = module.clone();
                let Ok(has_readers) = module.ask(move || asked.has_readers()) else { continue };
                let is_left_alone = match has_readers {
                    Ok(has_readers) => !with_readers && has_readers,
                    Err(error) => {
                        failed.get_or_insert(error);
                        true
                    }
                };
                if is_left_alone {
                    continue;
                }
            }
            if let Some(kept) = &self.kept {
                kept.let_go_of_idle_ones(module.path());
            }
            // Continue with the other modules.
            if let Err(error) = module.rescan() {
                failed.get_or_insert(error);
            }
        }
        failed.map_or(Ok(()), |error| Err(error.into()))
    }

    /// The open tokens whose keysets were changed by another program, which may even have
    /// reinitialized the token with the same serial number and label. Modules with readers are
    /// skipped: they report a replaced card themselves.
    pub fn changed_behind(&self) -> Vec<TokenInfo> {
        let mut changed = Vec::new();
        for module in self.modules() {
            let Some(kept) = self.kept.as_ref().filter(|_| module.silent_for().is_none()) else { continue };
            if module.has_readers().unwrap_or(true) {
                continue;
            }
            for (token, before) in kept.read_tokens(module.path()) {
                let info = token.info().clone();
                let now = self.asked(module, move |_| Ok(keysets_of(&token, token.info())));
                // Other code reports unreadable tokens.
                if let Ok(Ok((now, trouble))) = now
                    && (now != before || !trouble.is_empty())
                {
                    changed.push(info);
                }
            }
        }
        changed
    }

    /// Waits until no other operation uses a PIN of this token.
    pub(super) fn turn(&self, token: &Token) -> MyTurn {
        let turn = self.kept.is_some().then(|| token.wait_for_turn());
        let takes_the_last_try = Cell::new(false);
        MyTurn { token: token.clone(), turn, kept: self.kept.clone(), takes_the_last_try }
    }
}

impl MyTurn {
    /// The token whose PIN may be tried.
    pub fn token(&self) -> &Token {
        &self.token
    }

    /// Enforces the limit of wrong PINs before the prompt.
    pub fn bound_guesses(&self, operation: &'static str) -> Result<(), KeysetError> {
        if self.kept.is_none() {
            return Ok(());
        }
        Kept::bound_guesses(&self.token, operation)
    }

    /// Records that the user accepted to risk the token's last try.
    pub fn take_the_last_try(&self) {
        self.takes_the_last_try.set(true);
    }

    fn as_agreed(&self, pin: Pin) -> Pin {
        if self.takes_the_last_try.get() { pin.taking_the_last_try() } else { pin }
    }

    /// The error of the preceding operation's failed login, if this operation waited for it: it
    /// shares the result at no further try.
    pub fn failed_meanwhile(&self) -> Option<TokenError> {
        self.turn.as_ref().and_then(Turn::failed_meanwhile)
    }

    /// Returns whether the user declined the preceding operation's login while this one waited; the
    /// user is not asked again.
    pub fn declined_meanwhile(&self) -> bool {
        self.turn.as_ref().is_some_and(Turn::declined_meanwhile)
    }

    /// Ends the lease because the user declined.
    pub fn decline(self) {
        if let Some(turn) = self.turn {
            turn.decline();
        }
    }

    /// Logs in for one operation, with one try.
    pub fn unlock(self, pin: Pin) -> Result<Unlock, TokenError> {
        let pin = self.as_agreed(pin);
        match self.turn {
            Some(turn) => turn.unlock(pin),
            None => self.token.unlock(pin),
        }
    }

    /// Logs in with one try; the session stays active after the operation.
    pub fn log_in_standing(self, pin: Pin) -> Result<Unlock, TokenError> {
        let pin = self.as_agreed(pin);
        let Some(turn) = self.turn else { return self.token.unlock(pin) };
        let result = turn.log_in_standing(pin);
        if let (Ok(_), Some(kept)) = (&result, &self.kept) {
            kept.keep(self.token.info(), &self.token);
        }
        result
    }

    /// Verifies the PIN with one try and logs out again; the lease continues. Returns the correct
    /// PIN.
    pub fn verify(&self, pin: Pin) -> Result<Pin, TokenError> {
        let pin = self.as_agreed(pin);
        self.token.verify_pin(&pin)?;
        Ok(pin)
    }

    /// Changes the PIN; costs one try of the old one.
    pub fn change_pin(self, old: Pin, new: &Pin) -> Result<(), TokenError> {
        let old = self.as_agreed(old);
        self.token.change_pin(&old, new)
    }
}
