//! An open token: who is logged in, how operations share it, and where the handles of its objects are kept.
//!
//! Operations that only use keys share the token; whatever finds, makes or destroys objects, or changes the log-in, has
//! it alone. (On SoftHSM a `C_FindObjects` in one thread makes key generation in another fail.)

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, TryLockError};

use cryptoki::error::{Error, Result as CkResult};
use cryptoki::object::{Attribute, ObjectClass, ObjectHandle};
use cryptoki::session::Session;
use cryptoki::slot::Slot;

use super::afresh::NOT_SEEN_AFRESH;
use super::answers;
use super::lanes::AllLanes;
use super::log_in::LogIn;
use super::mechanisms::Mechanisms;
use super::module::Module;
use super::officer::pin_states_of;
use super::presence::Presence;
use super::raw::RawFunctions;
use super::sessions::Sessions;
use super::turns::Turns;
use crate::token::owner_lock::OwnerLock;
use crate::token::{KeyId, PinState, PinStates, TokenError, TokenInfo, WhichPin};

/// An open token, owned by this process as long as a clone of it (or a key on it) lives.
#[derive(Clone, Debug)]
pub struct Token {
    inner: Arc<OpenToken>,
}

/// What all clones of a [`Token`] share. Fields are dropped in this order: sessions close before the lock is given up.
#[derive(Debug)]
pub(super) struct OpenToken {
    sessions: Sessions,
    module: Module,
    slot: Slot,
    info: TokenInfo,
    pin_bytes: std::ops::RangeInclusive<usize>,
    guard: RwLock<()>,
    logged_in: AtomicBool,
    // The number of the log-in that stands; 0 when none does. It changes only while the token is held alone.
    standing: AtomicU64,
    turns: Turns,
    presence: Presence,
    lanes: AllLanes,
    // The SO has set a new PIN that nobody has tried yet. Kryoptic goes on saying that the old one is locked.
    pin_is_new: AtomicBool,
    handles: Mutex<HashMap<(ObjectClassKey, KeyId), ObjectHandle>>,
    mechanisms: OnceLock<Mechanisms>,
    // Shared with the token that is opened anew in this one's place.
    owner: Arc<OwnerLock>,
    // As long as it lives, sessions may be open, or just being closed.
    in_use: Arc<()>,
}

/// Why it is not known what a token says about its PINs.
#[derive(Debug)]
pub(super) enum NotRead {
    /// The module failed.
    Failed(Error),
    /// The module goes on saying what it said at its start, and no process that loads it afresh could say.
    Unknown(String),
}

/// The classes of objects whose handles are kept, as something that can be hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum ObjectClassKey {
    Private,
    Secret,
}

impl ObjectClassKey {
    fn class(self) -> ObjectClass {
        match self {
            Self::Private => ObjectClass::PRIVATE_KEY,
            Self::Secret => ObjectClass::SECRET_KEY,
        }
    }
}

impl Token {
    pub(super) fn new(
        module: Module,
        slot: Slot,
        info: TokenInfo,
        pin_bytes: std::ops::RangeInclusive<usize>,
        owner: Arc<OwnerLock>,
    ) -> CkResult<Self> {
        let sessions = Sessions::open(module.pkcs11(), slot, info.write_protected)?;
        Ok(Self {
            inner: Arc::new(OpenToken {
                sessions,
                module,
                slot,
                info,
                pin_bytes,
                guard: RwLock::new(()),
                logged_in: AtomicBool::new(false),
                standing: AtomicU64::new(0),
                turns: Turns::default(),
                presence: Presence::default(),
                lanes: AllLanes::default(),
                pin_is_new: AtomicBool::new(false),
                handles: Mutex::default(),
                mechanisms: OnceLock::new(),
                owner,
                in_use: Arc::default(),
            }),
        })
    }

    pub(super) fn from_shared(inner: Arc<OpenToken>) -> Self {
        Self { inner }
    }

    pub(super) fn share(&self) -> &Arc<OpenToken> {
        &self.inner
    }

    /// Outlives the last clone until its sessions are closed.
    pub(super) fn in_use(&self) -> &Arc<()> {
        &self.inner.in_use
    }

    /// What the token said about itself when it was opened.
    pub fn info(&self) -> &TokenInfo {
        &self.inner.info
    }

    /// Asks the token what it says about its PIN now. Costs no try.
    ///
    /// # Errors
    /// [`TokenError::PinStateUnknown`] where its module does not know, and no process that loads it afresh could say.
    pub fn refresh_pin_state(&self) -> Result<PinState, TokenError> {
        self.pin_state_now("read the state of the PIN", WhichPin::User)
    }

    /// The same of its SO PIN.
    ///
    /// # Errors
    /// As [`Token::refresh_pin_state`].
    pub fn refresh_so_pin_state(&self) -> Result<PinState, TokenError> {
        self.pin_state_now("read the state of the SO PIN", WhichPin::SecurityOfficer)
    }

    pub(super) fn pin_state_now(&self, operation: &'static str, which: WhichPin) -> Result<PinState, TokenError> {
        match self.read_pin_states() {
            Ok(states) => Ok(states.of(which)),
            Err(NotRead::Failed(error)) => Err(self.explain(operation, &error)),
            Err(NotRead::Unknown(reason)) => {
                Err(TokenError::PinStateUnknown { operation, token: self.info().name(), which, reason })
            }
        }
    }

    /// What a process that loads the module afresh says counts before anything that is known here.
    pub(super) fn read_pin_states(&self) -> Result<PinStates, NotRead> {
        if let Some(all) = self.inner.module.pin_states_seen_afresh().map_err(NotRead::Unknown)? {
            let own = all.into_iter().find(|(serial, _)| *serial == self.inner.info.serial);
            let gone = || NotRead::Unknown(NOT_SEEN_AFRESH.to_owned());
            return own.map(|(_, states)| states).ok_or_else(gone);
        }
        let said = pin_states_of(&self.inner.module.look_into(self.inner.slot).map_err(NotRead::Failed)?);
        let is_new = self.inner.pin_is_new.load(Ordering::SeqCst);
        Ok(if is_new { PinStates { pin: PinState::Ok, ..said } } else { said })
    }

    /// Notes that the SO has set a new PIN, or that it was tried.
    pub(super) fn note_new_pin(&self, new: bool) {
        self.inner.pin_is_new.store(new, Ordering::SeqCst);
    }

    /// Is the user logged in through this process?
    pub fn is_logged_in(&self) -> bool {
        self.inner.logged_in.load(Ordering::SeqCst)
    }

    pub(super) fn note_logged_in(&self) {
        self.inner.logged_in.store(true, Ordering::SeqCst);
    }

    /// Notes that nobody is logged in any more: nothing stands, and handles of private objects are dead.
    pub(super) fn note_logged_out(&self) {
        self.note_standing(None);
        self.inner.logged_in.store(false, Ordering::SeqCst);
        self.handles().clear();
    }

    /// The number of the log-in that stands.
    pub(super) fn standing(&self) -> Option<u64> {
        Some(self.inner.standing.load(Ordering::SeqCst)).filter(|number| *number != 0)
    }

    /// Notes which log-in stands from now on.
    pub(super) fn note_standing(&self, standing: Option<u64>) {
        self.inner.standing.store(standing.unwrap_or(0), Ordering::SeqCst);
    }

    /// Those who want to use a PIN.
    pub(super) fn turns(&self) -> &Turns {
        &self.inner.turns
    }

    /// How long a PIN of this token may be, in bytes.
    pub(super) fn pin_bytes(&self) -> &std::ops::RangeInclusive<usize> {
        &self.inner.pin_bytes
    }

    pub(super) fn raw(&self) -> &RawFunctions {
        self.inner.module.raw()
    }

    pub(super) fn sessions(&self) -> &Sessions {
        &self.inner.sessions
    }

    pub(super) fn mechanisms(&self) -> Result<&Mechanisms, TokenError> {
        if let Some(known) = self.inner.mechanisms.get() {
            return Ok(known);
        }
        let found = Mechanisms::probe(self.raw(), self.inner.slot, &self.inner.sessions)
            .map_err(|error| self.explain("find out what the token can do", &error))?;
        Ok(self.inner.mechanisms.get_or_init(|| found))
    }

    pub(super) fn shared(&self) -> RwLockReadGuard<'_, ()> {
        self.inner.guard.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same; none while somebody has the token alone.
    pub(super) fn shared_at_once(&self) -> Option<RwLockReadGuard<'_, ()>> {
        match self.inner.guard.try_read() {
            Ok(guard) => Some(guard),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    pub(super) fn presence(&self) -> &Presence {
        &self.inner.presence
    }

    pub(super) fn slot(&self) -> Slot {
        self.inner.slot
    }

    pub(super) fn module(&self) -> &Module {
        &self.inner.module
    }

    /// Those who sign fast: what they keep dies with the log-in.
    pub(super) fn lanes(&self) -> &AllLanes {
        &self.inner.lanes
    }

    pub(super) fn owner(&self) -> Arc<OwnerLock> {
        Arc::clone(&self.inner.owner)
    }

    pub(super) fn exclusive(&self) -> RwLockWriteGuard<'_, ()> {
        self.inner.guard.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn handles(&self) -> std::sync::MutexGuard<'_, HashMap<(ObjectClassKey, KeyId), ObjectHandle>> {
        self.inner.handles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something that has the token alone, in a session of the pool.
    pub(super) fn alone<T>(
        &self,
        operation: &'static str,
        act: impl FnOnce(&Session) -> CkResult<T>,
    ) -> Result<T, TokenError> {
        let _alone = self.exclusive();
        self.inner.sessions.with(act).map_err(|error| self.explain(operation, &error))
    }

    /// Does something that other operations may go on beside, in a session of the pool.
    pub(super) fn beside_others<T>(
        &self,
        operation: &'static str,
        act: impl FnOnce(&Session) -> CkResult<T>,
    ) -> Result<T, TokenError> {
        let _shared = self.shared();
        self.inner.sessions.with(act).map_err(|error| self.explain(operation, &error))
    }

    /// Uses a key by its identifier: beside other operations while its handle is known, else looked up and used alone.
    pub(super) fn with_key<T>(
        &self,
        operation: &'static str,
        class: ObjectClassKey,
        id: &KeyId,
        act: impl Fn(&Session, ObjectHandle) -> CkResult<T>,
    ) -> Result<T, TokenError> {
        self.with_key_under(LogIn::There, operation, class, id, act)
    }

    /// The same, as long as the log-in is there that entitles to it.
    pub(super) fn with_key_under<T>(
        &self,
        entitled: LogIn<'_>,
        operation: &'static str,
        class: ObjectClassKey,
        id: &KeyId,
        act: impl Fn(&Session, ObjectHandle) -> CkResult<T>,
    ) -> Result<T, TokenError> {
        let beside_others = || {
            let _shared = self.shared();
            self.must_be_entitled(operation, entitled)?;
            let known = self.handles().get(&(class, id.clone())).copied();
            Ok::<_, TokenError>(known.map(|handle| self.inner.sessions.with(|session| act(session, handle))))
        };
        let looked_up = || {
            let with = |handle| self.inner.sessions.with(|session| act(session, handle));
            self.looked_up(entitled, operation, class, id, with)
        };
        let first = match beside_others()? {
            Some(used) => used,
            None => looked_up()?,
        };
        match first {
            // What was begun with a PIN is not begun again: that would be a second try of it.
            Err(error) if entitled.pin().is_some() && answers::is_after_init(&error) => Err(error),
            Err(error) if answers::is_stale_handle(&error) => looked_up()?,
            // The pool has closed the session; if that was all that is gone, the next one does it.
            Err(error) if answers::is_session_gone(&error) => {
                self.note(&error);
                looked_up()?
            }
            result => result,
        }
        .map_err(|error| self.explain(operation, &error))
    }

    /// Looks up a key's handle and does something with it, and has the token alone for both.
    pub(super) fn looked_up<T>(
        &self,
        entitled: LogIn<'_>,
        operation: &'static str,
        class: ObjectClassKey,
        id: &KeyId,
        act: impl FnOnce(ObjectHandle) -> CkResult<T>,
    ) -> Result<CkResult<T>, TokenError> {
        let _alone = self.exclusive();
        self.must_be_entitled(operation, entitled)?;
        Ok(self.look_up(operation, class, id)?.and_then(act))
    }

    fn must_be_entitled(&self, operation: &'static str, entitled: LogIn<'_>) -> Result<(), TokenError> {
        match entitled {
            LogIn::Standing(number) if self.standing() != Some(number) => Err(self.nobody_is_logged_in(operation)),
            _ => self.must_be_logged_in(operation),
        }
    }

    /// Looks up the handle of a key. The token must be held alone until the handle has been used: a log-out in between
    /// would end it. What the module answers to the search is for the caller: it may be the session that is gone.
    pub(super) fn look_up(
        &self,
        operation: &'static str,
        class: ObjectClassKey,
        id: &KeyId,
    ) -> Result<CkResult<ObjectHandle>, TokenError> {
        let template = [Attribute::Class(class.class()), Attribute::Token(true), Attribute::Id(id.as_bytes().to_vec())];
        let found = match self.inner.sessions.with(|session| session.find_objects(&template)) {
            Ok(found) => found,
            Err(error) => return Ok(Err(error)),
        };
        let Some(handle) = found.first() else {
            self.forget(class, id);
            self.must_be_logged_in(operation)?;
            return Err(TokenError::KeyAbsent { operation, token: self.info().name() });
        };
        self.remember(class, id, *handle);
        Ok(Ok(*handle))
    }

    pub(super) fn remember(&self, class: ObjectClassKey, id: &KeyId, handle: ObjectHandle) {
        self.handles().insert((class, id.clone()), handle);
    }

    pub(super) fn forget(&self, class: ObjectClassKey, id: &KeyId) {
        self.handles().remove(&(class, id.clone()));
    }

    /// What a module's answer means; notes what it says about the token's presence and log-in.
    pub(super) fn explain(&self, operation: &'static str, error: &Error) -> TokenError {
        self.explain_with(operation, error, || self.read_pin_states().map_or(PinState::CountLow, |states| states.pin))
    }

    /// The same; this is asked what the token says of its PIN, where the answer is of that.
    pub(super) fn explain_with(
        &self,
        operation: &'static str,
        error: &Error,
        pin_state: impl FnOnce() -> PinState,
    ) -> TokenError {
        self.note(error);
        let name = self.inner.info.name();
        if self.presence().is_gone() {
            return TokenError::Absent { operation, token: name };
        }
        self.module().explain(operation, &name, error, pin_state)
    }
}
