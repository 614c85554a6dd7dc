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
mod cached_signer;
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
use std::path::PathBuf;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use clock::{Clock, SystemClock};
pub use events::{Event, EventReceiver, LogOffReason};
pub use identity::SigningIdentity;
// Not `KeyUse`: its `run` has no check of the lock.
pub use key_use::{DecryptMessage, OpenContentKey, SignData};
pub use presence::TokenWatcher;

use super::{AgentError, Link, Requester};
use crate::keyset::{
    self, Attachments, FoundKeyset, Inventory, KeysetChoice, KeysetError, Operation, OperationContext, Outcome,
    TokenSearch, TokenSelector, Tokens, UserPrompter,
};
use crate::token::{Pin, TokenInfo};
use crate::transport::Transport;
use agent_prompter::{AgentPrompter, ConfirmingPrompter};
use events::Events;
use hidden::{HiddenKeysetCache, is_among};
use key_cache::KeyCache;
use pass_phrase::PassPhraseLock;
use rescan::OperationGuard;
use sessions::ActiveSessions;

/// The keystore's settings.
#[derive(Clone, Debug)]
pub struct Settings {
    /// time without use after which a session ends; default 30 minutes
    pub idle_timeout: Duration,
    /// the file that lists the keysets hidden on this machine; each change takes effect
    pub hidden_keysets: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { idle_timeout: Duration::from_mins(30), hidden_keysets: None }
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

/// What a client can learn while the keystore is locked, too. It is also the body of `/v1/status`
/// (`docs/agent-api.openapi.json`).
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct AgentStatus {
    /// locked with `ssh-add -x`
    pub locked: bool,
    /// its prompt method
    pub prompter: Option<String>,
    /// the reason if it cannot prompt, with the remedy
    pub prompter_problem: Option<String>,
}

/// The keystore. Its endpoints and the thread that polls the tokens share it.
pub struct Keystore {
    tokens: Tokens,
    link: Arc<Link>,
    clock: Arc<dyn Clock>,
    events: Events,
    lock: PassPhraseLock,
    hidden: HiddenKeysetCache,
    sessions: Arc<ActiveSessions>,
    key_cache: KeyCache,
    operations: AtomicUsize,
    // Logins, signatures, listings and operations.
    uses: AtomicUsize,
    // The last warning about sources that cannot be restarted.
    last_warning: Mutex<String>,
}

impl Keystore {
    /// Creates a keystore that keeps sessions on these tokens. It opens no token yet.
    pub fn new(tokens: Tokens, link: Arc<Link>, settings: Settings, clock: Arc<dyn Clock>) -> Self {
        let tokens = tokens.with_persistent_sessions();
        let (events, signers) = (Events::default(), Arc::default());
        let sessions = Arc::new(ActiveSessions::new(
            tokens.clone(),
            Arc::clone(&clock),
            settings.idle_timeout,
            events.clone(),
            Arc::clone(&signers),
        ));
        let key_cache =
            KeyCache::new(tokens.clone(), Arc::clone(&clock), events.clone(), Arc::clone(&sessions), signers);
        Self {
            tokens,
            hidden: HiddenKeysetCache::new(Arc::clone(&link), settings.hidden_keysets),
            link,
            clock,
            events,
            lock: PassPhraseLock::default(),
            sessions,
            key_cache,
            operations: AtomicUsize::new(0),
            uses: AtomicUsize::new(0),
            last_warning: Mutex::default(),
        }
    }

    /// The current time of day, from the keystore's clock.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Logs in to a keyset's token, so that uses at levels Medium and Low need no PIN. Asks for
    /// nothing if the token has an active session. `lifetime` limits the session from now on,
    /// however much it is used.
    ///
    /// # Errors
    /// The keystore is locked, the keyset has level High, or no PIN or a wrong PIN was entered.
    pub fn log_in(
        &self,
        choice: &KeysetChoice,
        lifetime: Option<Duration>,
        requester: &Requester,
    ) -> Result<FoundKeyset, AgentError> {
        self.lock.check_unlocked("log in")?;
        let _using = OperationGuard::begin(&self.uses);
        let choice = self.hidden.added_to(choice);
        self.ensure_present(&choice);
        let keyset = self.tokens.choose(&choice)?;
        self.start_session(keyset, lifetime, AgentPrompter::new(&self.link, requester), false)
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
        lifetime: Option<Duration>,
        requester: &Requester,
    ) -> Result<FoundKeyset, AgentError> {
        self.lock.check_unlocked("log in")?;
        let _using = OperationGuard::begin(&self.uses);
        let choice = self.hidden.added_to(&KeysetChoice { token: Some(token.clone()), ..KeysetChoice::default() });
        self.ensure_present(&choice);
        let keyset = self.choose_least_strict(&choice)?;
        self.start_session(keyset, lifetime, AgentPrompter::with_pin(&self.link, requester, pin), true)
    }

    /// Ends all sessions, or the session on this token. Returns the number of sessions ended.
    ///
    /// # Errors
    /// No token matches the selector.
    pub fn log_off(&self, token: Option<&TokenSelector>) -> Result<usize, AgentError> {
        let token = token.map(|selector| self.tokens.token(selector)).transpose()?;
        let before = self.tokens.active_sessions().len();
        match &token {
            Some(token) => self.sessions.end(token, LogOffReason::Requested),
            None => self.sessions.end_all(LogOffReason::Requested),
        }
        Ok(before.saturating_sub(self.tokens.active_sessions().len()))
    }

    /// Locks with a pass phrase: it offers no identities, refuses uses and operations, and ends all
    /// sessions.
    ///
    /// # Errors
    /// The keystore is already locked.
    pub fn lock(&self, pass_phrase: &[u8]) -> Result<(), AgentError> {
        self.lock.lock(pass_phrase)?;
        self.sessions.end_all(LogOffReason::Locked);
        self.events.publish(&Event::Locked);
        Ok(())
    }

    /// Unlocks with the pass phrase it was locked with. Each attempt costs a slow hash.
    ///
    /// # Errors
    /// The pass phrase is wrong, or the keystore is not locked.
    pub fn unlock(&self, pass_phrase: &[u8]) -> Result<(), AgentError> {
        self.lock.unlock(pass_phrase)?;
        self.events.publish(&Event::Unlocked);
        Ok(())
    }

    /// Returns true while the keystore is locked.
    pub fn is_locked(&self) -> bool {
        self.lock.is_locked()
    }

    /// Subscribes to the events that happen from now on.
    pub fn events(&self) -> EventReceiver {
        self.events.listen()
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
        self.lock.check_unlocked(O::NAME)?;
        let _using = OperationGuard::begin(&self.uses);
        let target = operation.select(&Inventory::with_search(&self.tokens, self))?;
        let outcome = self.with_command(person, requester, |person| {
            let (tokens, now) = (&self.tokens, self.clock.now());
            operation.run(target, &mut OperationContext { tokens, person, transport, attachments, now })
        });
        if O::CHANGES_LISTINGS {
            self.tokens.forget_all_keysets();
            self.key_cache.refresh();
        }
        self.sessions.sync(&self.lock);
        outcome
    }

    /// Works while the keystore is locked, so that a user can learn why nothing else does.
    pub fn status(&self) -> AgentStatus {
        let (prompter, prompter_problem) = match self.link.prompter() {
            Ok(prompter) => (Some(prompter), None),
            Err(problem) => (None, Some(problem)),
        };
        AgentStatus { locked: self.is_locked(), prompter, prompter_problem }
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
        let mut person = ConfirmingPrompter::new(command, &self.link, requester, &self.lock);
        let result = run(&mut person);
        match (&result, person.token) {
            (Err(error), Some(token)) if error.is_token_absent() => self.key_cache.mark_lost(&token),
            (_, Some(token)) => self.sessions.note_use(&token),
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
        self.sessions.sync(&self.lock);
        result
    }

    fn start_session(
        &self,
        keyset: FoundKeyset,
        lifetime: Option<Duration>,
        mut person: AgentPrompter<'_>,
        verify_again: bool,
    ) -> Result<FoundKeyset, AgentError> {
        let result = keyset::log_in(&self.tokens, &keyset, verify_again, &mut person);
        self.sessions.sync(&self.lock);
        result?;
        if let Some(lifetime) = lifetime {
            self.sessions.limit(&keyset.token, lifetime);
        }
        Ok(keyset)
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
pub(super) mod tests;
