//! An open token: its login state, its lock, and the cache of object handles.
//!
//! Operations that only use keys hold the lock shared. Operations that find, make or destroy
//! objects, or change the login, hold it exclusively. (On SoftHSM a `C_FindObjects` in one thread
//! makes a key generation in another fail.)

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, TryLockError};

use cryptoki::error::{Error, Result as CkResult};
use cryptoki::object::{Attribute, ObjectClass, ObjectHandle};
use cryptoki::session::Session;
use cryptoki::slot::Slot;

use super::call_counts::Calling;
use super::fresh_process::NOT_SEEN_AFRESH;
use super::log_in::KeyAuthorization;
use super::mechanisms::Mechanisms;
use super::module::Module;
use super::pin_queue::PinQueue;
use super::presence::Presence;
use super::raw::RawFunctions;
use super::return_values;
use super::sessions::Sessions;
use super::signing_pool::SigningPools;
use super::so_pin::pin_states_of;
use crate::token::owner_lock::OwnerLock;
use crate::token::{KeyId, PinState, PinStates, TokenError, TokenInfo, WhichPin};

/// An open token. This process owns it as long as a clone of it (or a key on it) lives.
#[derive(Clone, Debug)]
pub struct Token {
    inner: Arc<OpenToken>,
}

/// The state shared by all clones of a [`Token`]. Fields drop in this order: sessions close before
/// the owner lock is released.
#[derive(Debug)]
pub(super) struct OpenToken {
    sessions: Sessions,
    module: Module,
    slot: Slot,
    info: TokenInfo,
    pin_length_range: std::ops::RangeInclusive<usize>,
    guard: RwLock<()>,
    logged_in: AtomicBool,
    // The number of the active session; 0 without one. It changes only under the exclusive lock.
    active_session: AtomicU64,
    pin_queue: PinQueue,
    presence: Presence,
    signing_pool: SigningPools,
    // The SO has set a new PIN that was not tried yet. Kryoptic still reports the old one as
    // locked.
    pin_is_new: AtomicBool,
    handles: Mutex<HashMap<(ObjectClassKey, KeyId), ObjectHandle>>,
    mechanisms: OnceLock<Mechanisms>,
    // Shared with the token that replaces this one after a removal.
    owner: Arc<OwnerLock>,
    // While it lives, sessions may be open or closing.
    in_use: Arc<()>,
}

/// The reason why the PIN states are unknown.
#[derive(Debug)]
pub(super) enum NotRead {
    /// The module failed.
    Failed(Error),
    /// The module keeps reporting the states of its initialization, and no new process could read
    /// them.
    Unknown(String),
}

/// The object classes whose handles are cached, as a hash key.
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
        pin_length_range: std::ops::RangeInclusive<usize>,
        owner: Arc<OwnerLock>,
    ) -> CkResult<Self> {
        let sessions = Sessions::open(module.pkcs11(), slot, info.write_protected)?;
        Ok(Self {
            inner: Arc::new(OpenToken {
                sessions,
                module,
                slot,
                info,
                pin_length_range,
                guard: RwLock::new(()),
                logged_in: AtomicBool::new(false),
                active_session: AtomicU64::new(0),
                pin_queue: PinQueue::default(),
                presence: Presence::default(),
                signing_pool: SigningPools::default(),
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

    /// Outlives the last clone until the sessions are closed.
    pub(super) fn in_use(&self) -> &Arc<()> {
        &self.inner.in_use
    }

    /// The description of the token at its opening.
    pub fn info(&self) -> &TokenInfo {
        &self.inner.info
    }

    /// Reads the current state of the user PIN. It spends no try.
    ///
    /// # Errors
    /// [`TokenError::PinStateUnknown`] if the module does not know the state and no new process
    /// could read it.
    pub fn refresh_pin_state(&self) -> Result<PinState, TokenError> {
        self.pin_state_now("read the state of the PIN", WhichPin::User)
    }

    /// Reads the current state of the SO PIN. It spends no try.
    ///
    /// # Errors
    /// Those of [`Token::refresh_pin_state`].
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

    /// The states that a new process reads take precedence over everything known here.
    pub(super) fn read_pin_states(&self) -> Result<PinStates, NotRead> {
        if let Some(all) = self.inner.module.pin_states_seen_afresh().map_err(NotRead::Unknown)? {
            let own = all.into_iter().find(|(token, _)| *token == self.inner.info.id());
            let unknown = || NotRead::Unknown(NOT_SEEN_AFRESH.to_owned());
            return own.map(|(_, states)| states).ok_or_else(unknown);
        }
        let reported = pin_states_of(&self.inner.module.read_token_info(self.inner.slot).map_err(NotRead::Failed)?);
        // Some modules report the old state after C_InitPIN until the next login. A warning is
        // never replaced: another program may have spent tries of the new PIN.
        let is_lifted =
            matches!(reported.pin, PinState::Locked | PinState::NotSet) && self.inner.pin_is_new.load(Ordering::SeqCst);
        Ok(if is_lifted { PinStates { pin: PinState::Ok, ..reported } } else { reported })
    }

    /// Records that the SO has set a new PIN, or that it was tried.
    pub(super) fn note_new_pin(&self, new: bool) {
        self.inner.pin_is_new.store(new, Ordering::SeqCst);
    }

    /// Whether this process has logged in the user.
    pub fn is_logged_in(&self) -> bool {
        self.inner.logged_in.load(Ordering::SeqCst)
    }

    pub(super) fn note_logged_in(&self) {
        self.inner.logged_in.store(true, Ordering::SeqCst);
    }

    /// Records a logout: it ends an active session, and handles of private objects become invalid.
    pub(super) fn note_logged_out(&self) {
        self.set_active_session(None);
        self.inner.logged_in.store(false, Ordering::SeqCst);
        self.handles().clear();
    }

    /// The number of the active session.
    pub(super) fn active_session(&self) -> Option<u64> {
        Some(self.inner.active_session.load(Ordering::SeqCst)).filter(|number| *number != 0)
    }

    pub(super) fn set_active_session(&self, active_session: Option<u64>) {
        self.inner.active_session.store(active_session.unwrap_or(0), Ordering::SeqCst);
    }

    pub(super) fn pin_queue(&self) -> &PinQueue {
        &self.inner.pin_queue
    }

    /// The PIN lengths in bytes that this token accepts.
    pub(super) fn pin_length_range(&self) -> &std::ops::RangeInclusive<usize> {
        &self.inner.pin_length_range
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
            .map_err(|error| self.explain("probe the token's mechanisms", &error))?;
        Ok(self.inner.mechanisms.get_or_init(|| found))
    }

    pub(super) fn shared(&self) -> Calling<RwLockReadGuard<'_, ()>> {
        self.calling(self.inner.guard.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Like `shared`; `None` while the lock is held exclusively.
    pub(super) fn try_shared(&self) -> Option<Calling<RwLockReadGuard<'_, ()>>> {
        match self.inner.guard.try_read() {
            Ok(lock) => Some(self.calling(lock)),
            Err(TryLockError::Poisoned(poisoned)) => Some(self.calling(poisoned.into_inner())),
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

    /// The pools of the fast signers. Their content ends with the login.
    pub(super) fn signing_pool(&self) -> &SigningPools {
        &self.inner.signing_pool
    }

    pub(super) fn owner(&self) -> Arc<OwnerLock> {
        Arc::clone(&self.inner.owner)
    }

    pub(super) fn exclusive(&self) -> Calling<RwLockWriteGuard<'_, ()>> {
        self.calling(self.inner.guard.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// Counts a call to the module under this lock.
    fn calling<G>(&self, lock: G) -> Calling<G> {
        Calling::under(lock, self.inner.module.calls())
    }

    fn handles(&self) -> std::sync::MutexGuard<'_, HashMap<(ObjectClassKey, KeyId), ObjectHandle>> {
        self.inner.handles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a closure in a pooled session under the exclusive lock.
    pub(super) fn exclusively<T>(
        &self,
        operation: &'static str,
        action: impl FnOnce(&Session) -> CkResult<T>,
    ) -> Result<T, TokenError> {
        let _alone = self.exclusive();
        self.inner.sessions.with(action).map_err(|error| self.explain(operation, &error))
    }

    /// Runs a closure in a pooled session under the shared lock.
    pub(super) fn concurrently<T>(
        &self,
        operation: &'static str,
        action: impl FnOnce(&Session) -> CkResult<T>,
    ) -> Result<T, TokenError> {
        let _shared = self.shared();
        self.inner.sessions.with(action).map_err(|error| self.explain(operation, &error))
    }

    /// Uses a key by its identifier: under the shared lock if its handle is cached, else looked up
    /// and used under the exclusive lock.
    pub(super) fn with_key<T>(
        &self,
        operation: &'static str,
        class: ObjectClassKey,
        id: &KeyId,
        action: impl Fn(&Session, ObjectHandle) -> CkResult<T>,
    ) -> Result<T, TokenError> {
        self.with_key_under(KeyAuthorization::LoggedIn, operation, class, id, action)
    }

    /// Like `with_key`, and checks this authorization under the lock.
    pub(super) fn with_key_under<T>(
        &self,
        authorization: KeyAuthorization<'_>,
        operation: &'static str,
        class: ObjectClassKey,
        id: &KeyId,
        action: impl Fn(&Session, ObjectHandle) -> CkResult<T>,
    ) -> Result<T, TokenError> {
        let concurrently = || {
            let _shared = self.shared();
            self.check_authorization(operation, authorization)?;
            let known = self.handles().get(&(class, id.clone())).copied();
            Ok::<_, TokenError>(known.map(|handle| self.inner.sessions.with(|session| action(session, handle))))
        };
        let looked_up = || {
            let with = |handle| self.inner.sessions.with(|session| action(session, handle));
            self.looked_up(authorization, operation, class, id, with)
        };
        let first = match concurrently()? {
            Some(used) => used,
            None => looked_up()?,
        };
        match first {
            // Do not repeat a call after a login with the PIN: that would be a second try.
            Err(error) if authorization.pin().is_some() && return_values::is_after_init(&error) => Err(error),
            Err(error) if return_values::is_stale_handle(&error) => looked_up()?,
            // The pool has closed the session. If nothing else is gone, a new one works.
            Err(error) if return_values::is_session_gone(&error) => {
                self.note(&error);
                looked_up()?
            }
            result => result,
        }
        .map_err(|error| self.explain(operation, &error))
    }

    /// Looks up a key's handle and uses it, both under the exclusive lock.
    pub(super) fn looked_up<T>(
        &self,
        authorization: KeyAuthorization<'_>,
        operation: &'static str,
        class: ObjectClassKey,
        id: &KeyId,
        action: impl FnOnce(ObjectHandle) -> CkResult<T>,
    ) -> Result<CkResult<T>, TokenError> {
        let _alone = self.exclusive();
        self.check_authorization(operation, authorization)?;
        Ok(self.look_up(operation, class, id)?.and_then(action))
    }

    fn check_authorization(
        &self,
        operation: &'static str,
        authorization: KeyAuthorization<'_>,
    ) -> Result<(), TokenError> {
        match authorization {
            KeyAuthorization::ActiveSession(number) if self.active_session() != Some(number) => {
                Err(self.not_logged_in_error(operation))
            }
            _ => self.require_login(operation),
        }
    }

    /// Looks up the handle of a key. The caller holds the token exclusively until it has used the
    /// handle: a logout in between would invalidate it. The caller handles errors of the search,
    /// because only the session may be gone.
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
            self.require_login(operation)?;
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

    /// Explains a module's error, and records what it says about the token's presence and login.
    pub(super) fn explain(&self, operation: &'static str, error: &Error) -> TokenError {
        self.explain_with(operation, error, || self.read_pin_states().map_or(PinState::CountLow, |states| states.pin))
    }

    /// Like `explain`; `pin_state` is called if the error is about the PIN.
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
