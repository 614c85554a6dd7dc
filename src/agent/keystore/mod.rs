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

mod annexes;
mod catalogue;
mod clock;
mod events;
mod hidden;
mod identity;
mod listing;
mod log_ins;
mod of_module;
mod pass_phrase;
mod person;
mod presence;
mod rescan;
mod sign;
mod theirs;
mod well_again;

use std::fmt;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;

pub use clock::{Clock, SystemClock};
pub use events::{Event, EventReceiver, LogOff};
pub use identity::Identity;
pub use person::AskedPerson;
pub use presence::Watching;

use super::act::{self, ActAnswer, ActRequest};
use super::annex::{Annex, Seen};
use super::{AgentError, Asks, Usage};
use crate::carrier::Carrier;
use crate::keyset::{self, Elsewhere, FoundKeyset, KeysetChoice, Person, TokenSelector, Tokens};
use crate::token::{Pin, Signature, SignatureHash, TokenInfo};
use catalogue::{Catalogue, is_at};
use events::Events;
use hidden::{HiddenKeysets, is_among};
use log_ins::LoggedIn;
use pass_phrase::PassPhraseLock;
use person::Confirmed;
use rescan::{Acting, wanted};

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
    asks: Arc<dyn Asks>,
    settings: Settings,
    clock: Arc<dyn Clock>,
    catalogue: Catalogue,
    events: Events,
    locked: PassPhraseLock,
    log_ins: Mutex<Vec<LoggedIn>>,
    // The time the machine has slept, as last measured.
    asleep: Mutex<Duration>,
    acts: AtomicUsize,
    // Operations that module workers run.
    acts_elsewhere: AtomicUsize,
    // Logins, signatures and listings, which are not operations, and every operation requested from
    // this worker.
    uses: AtomicUsize,
    // The last warning about modules that cannot be restarted.
    said: Mutex<String>,
    annexes: Vec<Arc<Annex>>,
    hidden: HiddenKeysets,
}

impl Keystore {
    /// Creates a keystore that keeps sessions on these tokens. It opens no token yet.
    pub fn new(tokens: Tokens, asks: Arc<dyn Asks>, settings: Settings, clock: Arc<dyn Clock>) -> Self {
        Self::with_annexes(tokens, Vec::new(), asks, settings, clock)
    }

    /// Creates a keystore for these tokens and those of the module workers.
    pub fn with_annexes(
        tokens: Tokens,
        annexes: Vec<Arc<Annex>>,
        asks: Arc<dyn Asks>,
        settings: Settings,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let elsewhere = annexes.iter().map(|annex| Arc::clone(annex) as Arc<dyn Elsewhere>).collect();
        let asleep = Mutex::new(clock.elapsed().saturating_sub(clock.awake()));
        let inner = Inner {
            tokens: tokens.keeping_log_ins().and_elsewhere(elsewhere),
            asks,
            settings,
            clock,
            catalogue: Catalogue::default(),
            events: Events::default(),
            locked: PassPhraseLock::default(),
            log_ins: Mutex::default(),
            asleep,
            acts: AtomicUsize::new(0),
            acts_elsewhere: AtomicUsize::new(0),
            uses: AtomicUsize::new(0),
            said: Mutex::default(),
            annexes,
            hidden: HiddenKeysets::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Starts the thread that polls for inserted and removed tokens, idle sessions and sleep, and
    /// the threads that follow the module workers. Polling stops when the returned value is
    /// dropped.
    ///
    /// # Errors
    /// Fails if a thread cannot be started.
    pub fn watch(&self) -> std::io::Result<Watching> {
        Inner::follow_annexes(&self.inner)?;
        Watching::begin(&self.inner)
    }

    /// Hashes `data` with `hash` and signs it with the identity's key, as its level requires. The
    /// caller has parsed `data` and describes it in `usage`.
    ///
    /// # Errors
    /// The keystore is locked, the prompt was cancelled, the PIN is wrong, the token is absent, or
    /// the key does not support the hash.
    pub fn sign(
        &self,
        identity: &Identity,
        hash: SignatureHash,
        data: &[u8],
        usage: &Usage,
    ) -> Result<Signature, AgentError> {
        self.inner.sign(identity, hash, data, usage)
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
    pub fn log_in(&self, choice: &KeysetChoice, usage: &Usage) -> Result<FoundKeyset, AgentError> {
        self.inner.refuse_if_locked("log in")?;
        let _using = Acting::begin(&self.inner.uses);
        let choice = self.inner.with_hidden(choice);
        self.inner.make_sure_of(&choice);
        let keyset = self.inner.tokens.choose(&choice)?;
        match self.inner.annex_of(&keyset.token) {
            Some(annex) => annex.log_in(&keyset, None, usage)?,
            None => self.inner.log_in(&keyset, AskedPerson::new(&*self.inner.asks, usage), false)?,
        }
        Ok(keyset)
    }

    /// Logs in with a PIN that the caller supplies. The PIN is verified even if a session is
    /// active.
    ///
    /// # Errors
    /// As [`Keystore::log_in`]; also if no usable keyset is on the token.
    pub fn log_in_with(&self, token: &TokenSelector, pin: Pin, usage: &Usage) -> Result<FoundKeyset, AgentError> {
        self.inner.refuse_if_locked("log in")?;
        let _using = Acting::begin(&self.inner.uses);
        let choice = self.inner.with_hidden(&KeysetChoice { token: Some(token.clone()), ..KeysetChoice::default() });
        self.inner.make_sure_of(&choice);
        let keyset = self.inner.least_strict(&choice)?;
        match self.inner.annex_of(&keyset.token) {
            Some(annex) => annex.log_in(&keyset, Some(&pin), usage)?,
            None => self.inner.log_in(&keyset, AskedPerson::with_pin(&*self.inner.asks, usage, pin), true)?,
        }
        Ok(keyset)
    }

    /// Limits the token's active session to `longest` from now, however much it is used.
    pub fn bound_log_in(&self, token: &TokenInfo, longest: Duration) {
        match self.inner.annex_of(token) {
            Some(annex) => annex.bound_log_in(token, longest),
            None => self.inner.bound_log_in(token, longest),
        }
    }

    /// Ends all sessions, or the session on this token. Returns the number of sessions ended.
    ///
    /// # Errors
    /// No token matches the selector.
    pub fn log_off(&self, token: Option<&TokenSelector>) -> Result<usize, AgentError> {
        let token = token.map(|selector| self.inner.tokens.token(selector)).transpose()?;
        Ok(self.end_log_ins(token.as_ref(), LogOff::Asked))
    }

    /// Ends all sessions, or the session on this token, for the reason `why`. Returns their number.
    pub(super) fn end_log_ins(&self, token: Option<&TokenInfo>, why: LogOff) -> usize {
        let before = self.inner.tokens.standing().len();
        let elsewhere = match token {
            Some(token) => self.inner.end_log_in(token, why),
            None => self.inner.end_all_log_ins(why),
        };
        elsewhere + before.saturating_sub(self.inner.tokens.standing().len())
    }

    /// The inventory of this module worker, for the main worker, without a new search; also while
    /// locked. `with_pins` adds the current PIN states, which may take as long as starting a
    /// process, and omits tokens whose state is unknown.
    pub(super) fn seen(&self, with_pins: bool) -> Seen {
        let tokens = &self.inner.tokens;
        let listed = if with_pins { tokens.list_with_pins_known() } else { tokens.list() };
        let keysets = tokens.keysets().unwrap_or_default();
        // Read the sessions last: reading the PIN states takes a while, and sessions may end
        // meanwhile.
        let logged_in = tokens.standing().iter().map(|token| token.info().clone()).collect();
        Seen::new(listed, logged_in, self.is_locked(), keysets)
    }

    /// Finds this token by serial number; the main worker may know its module by another path.
    pub(super) fn own(&self, token: &TokenInfo) -> Option<TokenInfo> {
        self.inner.catalogue.tokens().into_iter().find(|own| own.serial == token.serial)
    }

    /// Searches for tokens that other programs created, unless a session is active. `with_readers`
    /// includes modules that report insertions and removals themselves.
    pub(super) fn look_again(&self, with_readers: bool) {
        self.inner.look_again(with_readers);
    }

    /// Locks or unlocks this module worker together with the main worker.
    pub(super) fn follow_lock(&self, locked: bool) {
        self.inner.locked.follow(locked);
        if locked {
            self.inner.end_all_log_ins(LogOff::Locked);
        }
    }

    /// Returns true if a module can create a token.
    pub(super) fn has_room(&self) -> bool {
        self.inner.tokens.modules_with_room().is_ok_and(|modules| !modules.is_empty())
    }

    /// Locks with a pass phrase: it offers no identities, refuses uses and operations, and ends all
    /// sessions.
    ///
    /// # Errors
    /// The keystore is already locked.
    pub fn lock(&self, pass_phrase: &[u8]) -> Result<(), AgentError> {
        self.inner.locked.lock(pass_phrase)?;
        self.inner.tell_annexes_whether_locked();
        self.inner.end_all_log_ins(LogOff::Locked);
        self.inner.events.tell(&Event::Locked);
        Ok(())
    }

    /// Unlocks with the pass phrase it was locked with. Each attempt costs a slow hash.
    ///
    /// # Errors
    /// The pass phrase is wrong, or the keystore is not locked.
    pub fn unlock(&self, pass_phrase: &[u8]) -> Result<(), AgentError> {
        self.inner.locked.unlock(pass_phrase)?;
        self.inner.tell_annexes_whether_locked();
        self.inner.events.tell(&Event::Unlocked);
        Ok(())
    }

    /// Returns true while the keystore is locked.
    pub fn is_locked(&self) -> bool {
        self.inner.locked.is_locked()
    }

    /// Ends all sessions because the machine goes to sleep or has slept.
    pub fn suspend(&self) {
        self.inner.end_all_log_ins(LogOff::Suspend);
    }

    /// Subscribes to the events that happen from now on.
    pub fn events(&self) -> EventReceiver {
        self.inner.events.listen()
    }

    /// Runs an operation on the keystore's tokens. `person` supplies PINs, `carrier` sends requests
    /// to an authority. Confirmations (level Medium) go through the agent's own prompter, with
    /// `usage`.
    ///
    /// # Errors
    /// The keystore is locked, or the operation's own errors.
    pub fn act(
        &self,
        request: ActRequest,
        person: &mut dyn Person,
        carrier: &dyn Carrier,
        usage: &Usage,
    ) -> Result<ActAnswer, AgentError> {
        self.inner.refuse_if_locked(request.operation())?;
        self.inner.act(request, person, carrier, usage)
    }

    /// Describes the prompt method in one line, or says why none is available, with the remedy.
    ///
    /// # Errors
    /// A sentence for the user.
    pub fn prompter(&self) -> Result<String, String> {
        self.inner.asks.prompter()
    }

    /// A [`Person`] for this use, asked through the agent's prompter.
    pub fn person<'a>(&'a self, usage: &'a Usage) -> AskedPerson<'a> {
        AskedPerson::new(&*self.inner.asks, usage)
    }
}

impl Inner {
    fn refuse_if_locked(&self, operation: &'static str) -> Result<(), AgentError> {
        if self.locked.is_locked() { Err(AgentError::Locked { operation }) } else { Ok(()) }
    }

    fn act(
        &self,
        mut request: ActRequest,
        person: &mut dyn Person,
        carrier: &dyn Carrier,
        usage: &Usage,
    ) -> Result<ActAnswer, AgentError> {
        let _using = Acting::begin(&self.uses);
        self.hide_from(&mut request);
        if let Some(choice) = wanted(&request) {
            self.make_sure_of(&choice);
        }
        if matches!(request, ActRequest::ListTokens {}) {
            self.look_at_pins_elsewhere();
        }
        if let Some(result) = self.act_elsewhere(&mut request, person, carrier, usage) {
            return result;
        }
        let changes_nothing = request.changes_nothing();
        let acting = Acting::begin(&self.acts);
        let mut person = Confirmed::new(person, &*self.asks, usage, &self.locked);
        let result = act::perform(request, &self.tokens, &mut person, carrier, self.clock.now());
        drop(acting);
        let token = person.token;
        match (&result, token) {
            (Err(error), Some(token)) if error.is_token_absent() => self.lost(&token),
            (_, Some(token)) => self.note_use(&token),
            _ => {}
        }
        if !changes_nothing {
            self.forget_keysets();
            self.refresh_or_say();
        }
        self.note_log_ins();
        Ok(result?)
    }

    fn log_in(&self, keyset: &FoundKeyset, mut person: AskedPerson<'_>, anew: bool) -> Result<(), AgentError> {
        let result = keyset::log_in(&self.tokens, keyset, anew, &mut person);
        self.note_log_ins();
        Ok(result?)
    }

    /// On the selected token, chooses the keyset with the lowest level: a session serves it best.
    fn least_strict(&self, choice: &KeysetChoice) -> Result<FoundKeyset, AgentError> {
        let Some(selector) = &choice.token else { return Ok(self.tokens.choose(choice)?) };
        let token = self.tokens.token(selector)?;
        let (keysets, _) = self.tokens.keysets()?;
        let usable = keysets.into_iter().filter(|keyset| is_at(&keyset.token, &token) && keyset.is_usable());
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
