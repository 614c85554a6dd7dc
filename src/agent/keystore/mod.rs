//! The keystore behind the agent's endpoints: keysets, signing keys, active sessions, and prompts.
//!
//! | level | each use requires |
//! |---|---|
//! | High | the PIN, one use at a time in order of arrival; no session stays open |
//! | Medium | a confirmation; the PIN that starts the session confirms its own use |
//! | Low | nothing, while the session is active |
//!
//! A session ends on log-off, after [`Settings::idle_timeout`] without use, when the token is
//! removed, when the machine sleeps, and when the keystore is locked. The keystore and the token
//! decide all of this; the endpoints only deliver requests.
//!
//! This must never keep a PIN, never believe a public index after login, never try a PIN that
//! nobody typed for that use, and never let a confirmation count for more than one use.

mod agent_prompter;
mod clock;
mod events;
mod hidden;
mod identity;
mod key_cache;
mod key_use;
mod listing;
mod pass_phrase;
mod presence;
mod recovered_source;
mod rescan;
mod sessions;

use std::fmt;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;

pub use clock::{Clock, SystemClock};
pub use events::{Event, EventReceiver, LogOffReason};
pub use identity::SigningIdentity;
pub use key_use::{DecryptMessage, KeyUse, OpenContentKey, SignData};
pub use presence::TokenWatcher;

use super::{AgentError, Link, Requester};
use crate::keyset::{
    self, Attachments, FoundKeyset, Inventory, KeysetChoice, KeysetError, Operation, OperationContext, Outcome,
    TokenSelector, Tokens, UserPrompter,
};
use crate::token::{Pin, TokenInfo};
use crate::transport::Transport;
use agent_prompter::{AgentPrompter, ConfirmingPrompter};
use events::Events;
use hidden::{HiddenKeysetCache, is_among};
use key_cache::KeyCache;
use pass_phrase::PassPhraseLock;
use rescan::OperationGuard;
use sessions::ActiveSession;

/// The keystore's settings.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// time without use after which a session ends; default 30 minutes
    pub idle_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { idle_timeout: Duration::from_mins(30) }
    }
}

/// A token, and whether it has an active session.
#[derive(Clone, Debug)]
pub struct TokenState {
    /// what the token reports about itself
    pub info: TokenInfo,
    /// true if the token has an active session
    pub logged_in: bool,
}

/// The keystore. Clones share the same state.
#[derive(Clone)]
pub struct Keystore {
    inner: Arc<Inner>,
}

struct Inner {
    tokens: Tokens,
    link: Arc<Link>,
    settings: Settings,
    clock: Arc<dyn Clock>,
    key_cache: KeyCache,
    events: Events,
    locked: PassPhraseLock,
    sessions: Mutex<Vec<ActiveSession>>,
    // The time the machine has slept, as last measured.
    time_asleep: Mutex<Duration>,
    operations: AtomicUsize,
    // Logins, signatures, listings and operations.
    uses: AtomicUsize,
    // The last warning about sources that cannot be restarted.
    last_warning: Mutex<String>,
    hidden: HiddenKeysetCache,
}

impl Keystore {
    /// Creates a keystore that keeps sessions on these tokens. It opens no token yet.
    pub fn new(tokens: Tokens, link: Arc<Link>, settings: Settings, clock: Arc<dyn Clock>) -> Self {
        let time_asleep = Mutex::new(clock.elapsed().saturating_sub(clock.awake()));
        let inner = Inner {
            tokens: tokens.with_persistent_sessions(),
            link,
            settings,
            clock,
            key_cache: KeyCache::default(),
            events: Events::default(),
            locked: PassPhraseLock::default(),
            sessions: Mutex::default(),
            time_asleep,
            operations: AtomicUsize::new(0),
            uses: AtomicUsize::new(0),
            last_warning: Mutex::default(),
            hidden: HiddenKeysetCache::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Starts the thread that polls for inserted and removed tokens, idle sessions and sleep.
    /// Polling stops when the returned value is dropped.
    ///
    /// # Errors
    /// Fails if the thread cannot be started.
    pub fn watch(&self) -> std::io::Result<TokenWatcher> {
        TokenWatcher::begin(&self.inner)
    }

    /// The current time of day, from the keystore's clock.
    pub fn now(&self) -> Timestamp {
        self.inner.clock.now()
    }

    /// Logs in to a keyset's token, so that uses at levels Medium and Low need no PIN. Does nothing
    /// if the token has an active session.
    ///
    /// # Errors
    /// The keystore is locked, the keyset has level High, or no PIN or a wrong PIN was entered.
    pub fn log_in(&self, choice: &KeysetChoice, requester: &Requester) -> Result<FoundKeyset, AgentError> {
        self.inner.refuse_if_locked("log in")?;
        let _using = OperationGuard::begin(&self.inner.uses);
        let choice = self.inner.with_hidden(choice);
        self.inner.ensure_present(&choice);
        let keyset = self.inner.tokens.choose(&choice)?;
        self.inner.log_in(&keyset, AgentPrompter::new(&self.inner.link, requester), false)?;
        Ok(keyset)
    }

    /// Logs in with a PIN that the caller supplies. The PIN is verified even if a session is
    /// active.
    ///
    /// # Errors
    /// As [`Keystore::log_in`]; also if no usable keyset is on the token.
    pub fn log_in_with(
        &self,
        token: &TokenSelector,
        pin: Pin,
        requester: &Requester,
    ) -> Result<FoundKeyset, AgentError> {
        self.inner.refuse_if_locked("log in")?;
        let _using = OperationGuard::begin(&self.inner.uses);
        let choice = self.inner.with_hidden(&KeysetChoice { token: Some(token.clone()), ..KeysetChoice::default() });
        self.inner.ensure_present(&choice);
        let keyset = self.inner.choose_least_strict(&choice)?;
        self.inner.log_in(&keyset, AgentPrompter::with_pin(&self.inner.link, requester, pin), true)?;
        Ok(keyset)
    }

    /// Limits the token's active session to `longest` from now, however much it is used.
    pub fn limit_session(&self, token: &TokenInfo, longest: Duration) {
        self.inner.limit_session(token, longest);
    }

    /// Ends all sessions, or the session on this token. Returns the number of sessions ended.
    ///
    /// # Errors
    /// No token matches the selector.
    pub fn log_off(&self, token: Option<&TokenSelector>) -> Result<usize, AgentError> {
        let token = token.map(|selector| self.inner.tokens.token(selector)).transpose()?;
        Ok(self.end_sessions(token.as_ref(), LogOffReason::Requested))
    }

    /// Ends all sessions, or the session on this token, for this reason. Returns their number.
    pub(super) fn end_sessions(&self, token: Option<&TokenInfo>, reason: LogOffReason) -> usize {
        let before = self.inner.tokens.active_sessions().len();
        match token {
            Some(token) => self.inner.end_session(token, reason),
            None => self.inner.end_all_sessions(reason),
        }
        before.saturating_sub(self.inner.tokens.active_sessions().len())
    }

    /// Locks with a pass phrase: it offers no identities, refuses uses and operations, and ends all
    /// sessions.
    ///
    /// # Errors
    /// The keystore is already locked.
    pub fn lock(&self, pass_phrase: &[u8]) -> Result<(), AgentError> {
        self.inner.locked.lock(pass_phrase)?;
        self.inner.end_all_sessions(LogOffReason::Locked);
        self.inner.events.publish(&Event::Locked);
        Ok(())
    }

    /// Unlocks with the pass phrase it was locked with. Each attempt costs a slow hash.
    ///
    /// # Errors
    /// The pass phrase is wrong, or the keystore is not locked.
    pub fn unlock(&self, pass_phrase: &[u8]) -> Result<(), AgentError> {
        self.inner.locked.unlock(pass_phrase)?;
        self.inner.events.publish(&Event::Unlocked);
        Ok(())
    }

    /// Returns true while the keystore is locked.
    pub fn is_locked(&self) -> bool {
        self.inner.locked.is_locked()
    }

    /// Ends all sessions because the machine goes to sleep or has slept.
    pub fn suspend(&self) {
        self.inner.end_all_sessions(LogOffReason::Suspend);
    }

    /// Subscribes to the events that happen from now on.
    pub fn events(&self) -> EventReceiver {
        self.inner.events.listen()
    }

    /// Runs an operation on the keystore's tokens. `person` supplies PINs, `transport` sends
    /// requests to an authority. Confirmations (level Medium) go through the agent's own prompter,
    /// with the requester.
    ///
    /// # Errors
    /// The keystore is locked, or the operation's own errors.
    pub fn run_operation<O: Operation>(
        &self,
        operation: O,
        person: &mut dyn UserPrompter,
        transport: &dyn Transport,
        attachments: &mut Attachments,
        requester: &Requester,
    ) -> Result<Outcome<O::Output>, AgentError> {
        self.inner.refuse_if_locked(O::NAME)?;
        let _using = OperationGuard::begin(&self.inner.uses);
        let target = operation.select(&Inventory::with_search(&self.inner.tokens, &*self.inner))?;
        let outcome = self.inner.with_command(person, requester, |person| {
            let (tokens, now) = (&self.inner.tokens, self.inner.clock.now());
            operation.run(target, &mut OperationContext { tokens, person, transport, attachments, now })
        });
        if O::CHANGES_LISTINGS {
            self.inner.forget_keysets();
            self.inner.refresh_or_log();
        }
        self.inner.sync_sessions();
        outcome
    }

    /// Describes the prompt method in one line, or says why none is available, with the remedy.
    ///
    /// # Errors
    /// A sentence for the user.
    pub fn prompter(&self) -> Result<String, String> {
        self.inner.link.prompter()
    }
}

impl Inner {
    fn refuse_if_locked(&self, operation: &'static str) -> Result<(), AgentError> {
        if self.locked.is_locked() { Err(AgentError::Locked { operation }) } else { Ok(()) }
    }

    /// Runs this with the command as the person, and the agent's prompter where the command cannot
    /// ask.
    fn with_command<T>(
        &self,
        command: &mut dyn UserPrompter,
        requester: &Requester,
        run: impl FnOnce(&mut dyn UserPrompter) -> Result<T, KeysetError>,
    ) -> Result<T, AgentError> {
        let _operation = OperationGuard::begin(&self.operations);
        let mut person = ConfirmingPrompter::new(command, &self.link, requester, &self.locked);
        let result = run(&mut person);
        match (&result, person.token) {
            (Err(error), Some(token)) if error.is_token_absent() => self.mark_lost(&token),
            (_, Some(token)) => self.note_use(&token),
            _ => {}
        }
        Ok(result?)
    }

    /// Runs this with the agent's prompter as the person.
    fn with_prompter<T>(
        &self,
        requester: &Requester,
        run: impl FnOnce(&mut dyn UserPrompter) -> Result<T, KeysetError>,
    ) -> Result<T, AgentError> {
        let mut person = AgentPrompter::new(&self.link, requester);
        let result = self.with_command(&mut person, requester, run);
        self.sync_sessions();
        result
    }

    fn log_in(
        &self,
        keyset: &FoundKeyset,
        mut person: AgentPrompter<'_>,
        verify_again: bool,
    ) -> Result<(), AgentError> {
        let result = keyset::log_in(&self.tokens, keyset, verify_again, &mut person);
        self.sync_sessions();
        Ok(result?)
    }

    /// On the selected token, chooses the keyset with the lowest level: a session serves it best.
    fn choose_least_strict(&self, choice: &KeysetChoice) -> Result<FoundKeyset, AgentError> {
        let Some(selector) = &choice.token else { return Ok(self.tokens.choose(choice)?) };
        let token = self.tokens.token(selector)?;
        let (keysets, _) = self.tokens.keysets()?;
        let usable = keysets.into_iter().filter(|keyset| keyset.token.id() == token.id() && keyset.is_usable());
        let usable = usable.filter(|keyset| !is_among(&choice.hidden, keyset));
        match usable.min_by_key(|keyset| keyset.level) {
            Some(keyset) => Ok(keyset),
            None => Ok(self.tokens.choose(choice)?),
        }
    }
}

impl fmt::Debug for Keystore {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Keystore").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
