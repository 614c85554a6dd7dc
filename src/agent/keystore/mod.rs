//! The keystore behind the agent's doors: keysets and their signing keys, log-ins that stand, and who is asked what.
//!
//! | level | a use |
//! |---|---|
//! | High | asks for the PIN, each for itself, in the order of arrival; nothing stands afterwards |
//! | Medium | under a log-in that stands a confirmation; the PIN that begins the log-in confirms its own use |
//! | Low | nothing, as long as the log-in stands |
//!
//! A log-in ends by log-off, when nobody used it for [`Settings::idle_timeout`], when the token goes, when the machine
//! sleeps, and when the keystore is locked. All of it is decided here and on the token; the doors only bring requests.
//!
//! This must never keep a PIN, never believe a public index after log-in, never try a PIN that nobody typed for it, and
//! never let a confirmation count for more than one use.

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

/// What can be set about the keystore.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// how long a log-in stands that nobody uses
    pub idle_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { idle_timeout: Duration::from_mins(30) }
    }
}

/// A token, and whether somebody is logged in to it so that it stands.
#[derive(Clone, Debug)]
pub struct TokenState {
    /// what it says about itself
    pub info: TokenInfo,
    /// does a log-in stand?
    pub logged_in: bool,
}

/// The keystore. Clones are the same one.
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
    // How long the machine has slept, as far as it is known.
    asleep: Mutex<Duration>,
    acts: AtomicUsize,
    // Those that annexes do.
    acts_elsewhere: AtomicUsize,
    // Log-ins, signatures and lists, which are no acts, and all that is asked of this worker as an
    // act.
    uses: AtomicUsize,
    // What was said last of modules that cannot be started anew.
    said: Mutex<String>,
    annexes: Vec<Arc<Annex>>,
    hidden: HiddenKeysets,
}

impl Keystore {
    /// Over these tokens, whose log-ins it keeps. Nothing is opened yet.
    pub fn new(tokens: Tokens, asks: Arc<dyn Asks>, settings: Settings, clock: Arc<dyn Clock>) -> Self {
        Self::with_annexes(tokens, Vec::new(), asks, settings, clock)
    }

    /// The same, and over the tokens of modules that have workers of their own.
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

    /// Starts to look which tokens come and go, how long nobody has used a log-in, and whether the machine slept, until
    /// what this gives is dropped.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn watch(&self) -> std::io::Result<Watching> {
        Inner::follow_annexes(&self.inner)?;
        Watching::begin(&self.inner)
    }

    /// Signs `data`, hashed so, with the identity's key, as its level wants it. Whoever calls has read `data` and says in
    /// `usage` what it is.
    ///
    /// # Errors
    /// Locked, cancelled, a wrong PIN, a token that is gone; or a hash that such a key does not sign with.
    pub fn sign(
        &self,
        identity: &Identity,
        hash: SignatureHash,
        data: &[u8],
        usage: &Usage,
    ) -> Result<Signature, AgentError> {
        self.inner.sign(identity, hash, data, usage)
    }

    /// Now.
    pub fn now(&self) -> Timestamp {
        self.inner.clock.now()
    }

    /// Logs in to a keyset's token, so that the uses of its keysets at levels Medium and Low need no PIN. Does nothing
    /// where a log-in stands already.
    ///
    /// # Errors
    /// Locked, level High, no PIN, a wrong one.
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

    /// The same with a PIN that somebody has typed for it; it is verified even where a log-in stands.
    ///
    /// # Errors
    /// As [`Keystore::log_in`]; and when several keysets, or none, are on the token, none of them below level High.
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

    /// Lets the log-in that stands to this token last no longer than this from now on, however much it is used.
    pub fn bound_log_in(&self, token: &TokenInfo, longest: Duration) {
        match self.inner.annex_of(token) {
            Some(annex) => annex.bound_log_in(token, longest),
            None => self.inner.bound_log_in(token, longest),
        }
    }

    /// Ends the log-ins: all of them, or the one to this token. Says how many stood.
    ///
    /// # Errors
    /// No such token.
    pub fn log_off(&self, token: Option<&TokenSelector>) -> Result<usize, AgentError> {
        let token = token.map(|selector| self.inner.tokens.token(selector)).transpose()?;
        Ok(self.end_log_ins(token.as_ref(), LogOff::Asked))
    }

    /// The same, of a token that is known, and why. Says how many stood.
    pub(super) fn end_log_ins(&self, token: Option<&TokenInfo>, why: LogOff) -> usize {
        let before = self.inner.tokens.standing().len();
        let elsewhere = match token {
            Some(token) => self.inner.end_log_in(token, why),
            None => self.inner.end_all_log_ins(why),
        };
        elsewhere + before.saturating_sub(self.inner.tokens.standing().len())
    }

    /// What is there as far as it is known, without looking for more; locked or not. For the worker whose annex this is.
    /// `with_pins`: with what tokens say of their PINs now, which may take as long as another
    /// process, and without those of which it cannot be known.
    pub(super) fn seen(&self, with_pins: bool) -> Seen {
        let tokens = &self.inner.tokens;
        let listed = if with_pins { tokens.list_with_pins_known() } else { tokens.list() };
        let keysets = tokens.keysets().unwrap_or_default();
        // Last: what takes a while must not tell of log-ins that are over by then.
        let logged_in = tokens.standing().iter().map(|token| token.info().clone()).collect();
        Seen::new(listed, logged_in, self.is_locked(), keysets)
    }

    /// This token, as it is known here: the worker may know its module by another path.
    pub(super) fn own(&self, token: &TokenInfo) -> Option<TokenInfo> {
        self.inner.catalogue.tokens().into_iter().find(|own| own.serial == token.serial)
    }

    /// Looks for tokens that other programs made, if nobody is logged in; `with_readers`: also for those that readers tell
    /// of by themselves.
    pub(super) fn look_again(&self, with_readers: bool) {
        self.inner.look_again(with_readers);
    }

    /// Is locked or not as the worker is whose annex this is.
    pub(super) fn follow_lock(&self, locked: bool) {
        self.inner.locked.follow(locked);
        if locked {
            self.inner.end_all_log_ins(LogOff::Locked);
        }
    }

    /// Can a token be made?
    pub(super) fn has_room(&self) -> bool {
        self.inner.tokens.modules_with_room().is_ok_and(|modules| !modules.is_empty())
    }

    /// Locks with a pass phrase: no identities, no use, no act, and every log-in is over.
    ///
    /// # Errors
    /// It is locked already.
    pub fn lock(&self, pass_phrase: &[u8]) -> Result<(), AgentError> {
        self.inner.locked.lock(pass_phrase)?;
        self.inner.tell_annexes_whether_locked();
        self.inner.end_all_log_ins(LogOff::Locked);
        self.inner.events.tell(&Event::Locked);
        Ok(())
    }

    /// Unlocks with the pass phrase it was locked with. Each guess takes as long as a slow hash.
    ///
    /// # Errors
    /// Another pass phrase, or it is not locked.
    pub fn unlock(&self, pass_phrase: &[u8]) -> Result<(), AgentError> {
        self.inner.locked.unlock(pass_phrase)?;
        self.inner.tell_annexes_whether_locked();
        self.inner.events.tell(&Event::Unlocked);
        Ok(())
    }

    /// Is it locked?
    pub fn is_locked(&self) -> bool {
        self.inner.locked.is_locked()
    }

    /// The machine goes to sleep, or has slept: every log-in is over.
    pub fn suspend(&self) {
        self.inner.end_all_log_ins(LogOff::Suspend);
    }

    /// What happens from now on.
    pub fn events(&self) -> EventReceiver {
        self.inner.events.listen()
    }

    /// Does an act with the keystore's tokens: `person` is asked for PINs, `carrier` takes what goes to an authority. A
    /// confirmation (level Medium) is asked through the agent's own prompter, with `usage`.
    ///
    /// # Errors
    /// Locked; else those of the act.
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

    /// How a person is asked, in a line; else why nobody can be, with the remedy.
    ///
    /// # Errors
    /// The sentence.
    pub fn prompter(&self) -> Result<String, String> {
        self.inner.asks.prompter()
    }

    /// The person behind a use, asked through the agent's prompter.
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

    /// Of the keysets on a token the one for which a log-in is good for most.
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
