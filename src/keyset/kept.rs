//! What the agent keeps between acts, beside the log-ins themselves: open tokens, and what their public indexes said.
//!
//! No PIN is among it: a log-in that stands is the token's own.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::token::{Pin, PinState, Token, TokenError, TokenInfo, Turn, Unlock};

use super::find::keysets_of;
use super::{FoundKeyset, KeysetError, Tokens};

/// Wrong PINs in a row after which the next one has to wait.
const PATIENT_AFTER: u32 = 3;
/// Wrong PINs in a row after which no more are taken.
const REFUSED_AFTER: u32 = 10;
/// The longest wait before another PIN is asked for.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// The wait after [`PATIENT_AFTER`] wrong PINs; it doubles with each further one.
#[cfg(not(test))]
const FIRST_WAIT: Duration = Duration::from_secs(1);
#[cfg(test)]
const FIRST_WAIT: Duration = Duration::from_millis(1);

/// Which token: module and serial number.
type Place = (PathBuf, String);

/// What is kept of each token.
#[derive(Debug, Default)]
pub(super) struct Kept {
    tokens: Mutex<HashMap<Place, KeptToken>>,
    // Tokens that another program had when they were last looked at: it is not waited for again.
    held: Mutex<HashSet<Place>>,
}

#[derive(Debug)]
struct KeptToken {
    label: String,
    // None of an authority's token: it is looked at once, and never kept open.
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
    /// The token, if it is kept open and still there.
    pub fn open(&self, info: &TokenInfo) -> Option<Token> {
        let token = lock(&self.tokens).get(&place(info))?.open.clone()?;
        if token.is_present() {
            return Some(token);
        }
        self.forget(info);
        None
    }

    /// How long to wait for a token that is only looked at.
    pub fn patience(&self, info: &TokenInfo, usual: Duration) -> Duration {
        if lock(&self.held).contains(&place(info)) { Duration::ZERO } else { usual }
    }

    /// Remembers whether another program has it.
    pub fn note_held<T>(&self, info: &TokenInfo, result: &Result<T, TokenError>) {
        let mut held = lock(&self.held);
        match result {
            Err(TokenError::Owned { .. }) => held.insert(place(info)),
            _ => held.remove(&place(info)),
        };
    }

    /// Is it known to be an authority's?
    pub fn is_an_authoritys(&self, info: &TokenInfo) -> bool {
        lock(&self.tokens).get(&place(info)).is_some_and(|kept| kept.open.is_none() && kept.label == info.label)
    }

    /// What its public indexes said when they were last read.
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

    /// Keeps a token on which keysets were found. One without is let go, so that others can enroll on it; and one whose PIN
    /// is locked, so that `pin unblock` can have it.
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

    /// Forgets what the indexes said; the token stays open.
    pub fn forget_keysets(&self, info: &TokenInfo) {
        if let Some(kept) = lock(&self.tokens).get_mut(&place(info)).filter(|kept| kept.open.is_some()) {
            kept.keysets = None;
        }
    }

    pub fn forget(&self, info: &TokenInfo) {
        // Dropped outside the lock: closing a token talks to its module.
        let kept = lock(&self.tokens).remove(&place(info));
        drop(kept);
    }

    pub fn tokens(&self) -> Vec<Token> {
        lock(&self.tokens).values().filter_map(|kept| kept.open.clone()).collect()
    }

    /// The open tokens of this module, with what their public indexes said.
    fn read_tokens(&self, module: &Path) -> Vec<(Token, Vec<FoundKeyset>)> {
        let tokens = lock(&self.tokens);
        let of_module = tokens.iter().filter(|((path, _), _)| path == module);
        of_module.filter_map(|(_, kept)| Some((kept.open.clone()?, kept.keysets.clone()?))).collect()
    }

    /// Lets go of every token of this module to which nobody is logged in.
    fn let_go_of_idle_ones(&self, module: &Path) {
        let mut idle = Vec::new();
        lock(&self.tokens).retain(|(path, _), kept| {
            // That one is an authority's stays known: it is not opened for that again.
            let stays = path != module || kept.open.as_ref().is_none_or(Token::stands);
            if !stays {
                idle.extend(kept.open.take());
            }
            stays
        });
        drop(idle);
    }

    /// A bound of our own: some tokens (SoftHSM among them) take wrong PINs for ever. It spends no try.
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

/// The right to ask for a token's PIN and to try it: others wait, where acts can be several at once.
pub(super) struct MyTurn {
    token: Token,
    turn: Option<Turn>,
    kept: Option<Arc<Kept>>,
    // A person was warned that one try is left, and wants to take it.
    takes_the_last_try: Cell<bool>,
}

impl Tokens {
    /// Keeps log-ins of levels Medium and Low between acts, and the tokens open: the agent's way. Without it every act
    /// asks for the PIN, and nothing of it outlasts the act.
    #[must_use]
    pub fn keeping_log_ins(mut self) -> Self {
        self.kept = Some(Arc::default());
        self
    }

    pub(super) fn keeps_log_ins(&self) -> bool {
        self.kept.is_some()
    }

    /// The open tokens to which a log-in stands.
    pub fn standing(&self) -> Vec<Token> {
        self.kept.iter().flat_map(|kept| kept.tokens()).filter(Token::stands_after_all).collect()
    }

    /// All tokens as [`Tokens::list`] gives them, with what each says of its PIN now: an agent's modules may keep what tokens
    /// said when it was started.
    /// Where that cannot be known it is what was kept, and the log says so.
    pub fn list_as_of_now(&self) -> Result<Vec<TokenInfo>, KeysetError> {
        Ok(self.list_and_read_pins()?.0)
    }

    /// The same, without those of which it cannot be known now.
    pub fn list_with_pins_known(&self) -> Result<Vec<TokenInfo>, KeysetError> {
        let (mut tokens, not_read) = self.list_and_read_pins()?;
        tokens.retain(|token| !not_read.contains(&place(token)));
        Ok(tokens)
    }

    /// All tokens, and those whose PIN's state is only what was kept.
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

    /// Forgets what all public indexes said: they are read anew when next asked for.
    pub fn forget_all_keysets(&self) {
        for token in self.kept.iter().flat_map(|kept| kept.tokens()) {
            self.forget_keysets(token.info());
        }
    }

    /// Forgets what the public indexes on this token said.
    pub fn forget_keysets(&self, info: &TokenInfo) {
        if let Some(kept) = &self.kept {
            kept.forget_keysets(info);
        }
    }

    /// Forgets a token that is gone, or no longer what it was. Its log-in is over with that.
    pub fn forget(&self, info: &TokenInfo) {
        if let Some(kept) = &self.kept {
            kept.forget(info);
        }
    }

    /// Starts modules anew so that tokens are seen that other processes made: those with nothing but slots in software
    /// (a reader tells by itself, and to start its module anew takes long), or, `with_readers`, all. Tokens to which nobody is
    /// logged in are let go for it; a module that has a token in use stays as it is.
    pub fn rescan(&self, with_readers: bool) -> Result<(), KeysetError> {
        let mut failed = None;
        for module in self.modules() {
            // One that is stopped cannot say what it has, and has no card that could be kept from others.
            if !module.is_stopped() {
                // A module that does not answer is left as it is: whoever lists tokens is told so there.
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
            // The other modules are started anew all the same.
            if let Err(error) = module.rescan() {
                failed.get_or_insert(error);
            }
        }
        failed.map_or(Ok(()), |error| Err(error.into()))
    }

    /// The tokens that are kept open whose keysets are not what was read, though nothing here has changed them: another program
    /// has, or it has made the token anew, with the serial number and the label that it had. A module with readers is not asked:
    /// it says by itself when a card is another one.
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
                // What cannot be read is another's to find out.
                if let Ok(Ok((now, trouble))) = now
                    && (now != before || !trouble.is_empty())
                {
                    changed.push(info);
                }
            }
        }
        changed
    }

    /// Waits until no other act with a PIN is going on on this token.
    pub(super) fn turn(&self, token: &Token) -> MyTurn {
        let turn = self.kept.is_some().then(|| token.wait_for_turn());
        let takes_the_last_try = Cell::new(false);
        MyTurn { token: token.clone(), turn, kept: self.kept.clone(), takes_the_last_try }
    }
}

impl MyTurn {
    /// Whose PIN.
    pub fn token(&self) -> &Token {
        &self.token
    }

    /// Before anybody is asked: have there been too many wrong ones?
    pub fn bound_guesses(&self, operation: &'static str) -> Result<(), KeysetError> {
        if self.kept.is_none() {
            return Ok(());
        }
        Kept::bound_guesses(&self.token, operation)
    }

    /// The person was warned, and risks the token's last try.
    pub fn take_the_last_try(&self) {
        self.takes_the_last_try.set(true);
    }

    fn as_agreed(&self, pin: Pin) -> Pin {
        if self.takes_the_last_try.get() { pin.taking_the_last_try() } else { pin }
    }

    /// A log-in that somebody before in the row failed at: whoever waited behind it shares its end, at no further try.
    pub fn failed_meanwhile(&self) -> Option<TokenError> {
        self.turn.as_ref().and_then(Turn::failed_meanwhile)
    }

    /// Did somebody before in the row say no to such a log-in? Whoever waited behind that is not asked again.
    pub fn declined_meanwhile(&self) -> bool {
        self.turn.as_ref().is_some_and(Turn::declined_meanwhile)
    }

    /// Ends the turn because the person said no.
    pub fn decline(self) {
        if let Some(turn) = self.turn {
            turn.decline();
        }
    }

    /// One try, for one act.
    pub fn unlock(self, pin: Pin) -> Result<Unlock, TokenError> {
        let pin = self.as_agreed(pin);
        match self.turn {
            Some(turn) => turn.unlock(pin),
            None => self.token.unlock(pin),
        }
    }

    /// One try; the log-in stays when the act is over.
    pub fn log_in_standing(self, pin: Pin) -> Result<Unlock, TokenError> {
        let pin = self.as_agreed(pin);
        let Some(turn) = self.turn else { return self.token.unlock(pin) };
        let result = turn.log_in_standing(pin);
        if let (Ok(_), Some(kept)) = (&result, &self.kept) {
            kept.keep(self.token.info(), &self.token);
        }
        result
    }

    /// One try; nobody is logged in afterwards by it, and the turn goes on. Gives the PIN back, which is right.
    pub fn verify(&self, pin: Pin) -> Result<Pin, TokenError> {
        let pin = self.as_agreed(pin);
        self.token.verify_pin(&pin)?;
        Ok(pin)
    }

    /// One try of the old PIN.
    pub fn change_pin(self, old: Pin, new: &Pin) -> Result<(), TokenError> {
        let old = self.as_agreed(old);
        self.token.change_pin(&old, new)
    }
}
