//! An open token: its lock, its sessions, and what is known of it. The types that operate on it
//! (objects, keys, logins and so on) borrow it.
//!
//! Operations that only use keys hold the lock shared. Operations that find, make or destroy
//! objects, or change the login, hold it exclusively. (On SoftHSM a `C_FindObjects` in one thread
//! makes a key generation in another fail.)

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, TryLockError};

use cryptoki::error::{Error, Result as CkResult};
use cryptoki::session::{Session, SessionState};
use cryptoki::slot::Slot;

use super::call_counts::Calling;
use super::fresh_process::NOT_SEEN_AFRESH;
use super::key_handles::KeyHandles;
use super::login_state::LoginState;
use super::module::Module;
use super::probe::probe;
use super::raw::RawFunctions;
use super::return_values;
use super::sessions::Sessions;
use super::signing_pool::SigningPools;
use super::slot_info::pin_states_of;
use crate::token::owner_lock::OwnerLock;
use crate::token::pin_queue::PinQueue;
use crate::token::{Capabilities, PinRule, PinState, PinStates, TokenError, TokenInfo, WhichPin};

/// An open token. Fields drop in this order: sessions close before the owner lock is released.
#[derive(Debug)]
pub struct Pkcs11Token {
    sessions: Sessions,
    module: Module,
    slot: Slot,
    info: TokenInfo,
    pin_length_range: std::ops::RangeInclusive<usize>,
    guard: RwLock<()>,
    login: LoginState,
    pin_queue: PinQueue,
    // It was removed, or initialized again, and stays gone for this process.
    gone: AtomicBool,
    signing_pool: SigningPools,
    handles: KeyHandles,
    capabilities: OnceLock<Capabilities>,
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

impl Pkcs11Token {
    pub(super) fn new(
        module: Module,
        slot: Slot,
        info: TokenInfo,
        pin_length_range: std::ops::RangeInclusive<usize>,
        owner: Arc<OwnerLock>,
    ) -> CkResult<Self> {
        let sessions = Sessions::open(module.pkcs11(), slot, info.write_protected)?;
        Ok(Self {
            sessions,
            module,
            slot,
            info,
            pin_length_range,
            guard: RwLock::new(()),
            login: LoginState::default(),
            pin_queue: PinQueue::default(),
            gone: AtomicBool::new(false),
            signing_pool: SigningPools::default(),
            handles: KeyHandles::default(),
            capabilities: OnceLock::new(),
            owner,
            in_use: Arc::default(),
        })
    }

    /// Outlives the last clone until the sessions are closed.
    pub(super) fn in_use(&self) -> &Arc<()> {
        &self.in_use
    }

    /// The description of the token at its opening.
    pub(in crate::token) fn info(&self) -> &TokenInfo {
        &self.info
    }

    /// Reads the current state of the user PIN. It spends no try.
    ///
    /// # Errors
    /// [`TokenError::PinStateUnknown`] if the module does not know the state and no new process
    /// could read it.
    pub(in crate::token) fn refresh_pin_state(&self) -> Result<PinState, TokenError> {
        self.pin_state_now("read the state of the PIN", WhichPin::User)
    }

    /// Reads the current state of the SO PIN. It spends no try.
    ///
    /// # Errors
    /// Those of [`Pkcs11Token::refresh_pin_state`].
    pub(in crate::token) fn refresh_so_pin_state(&self) -> Result<PinState, TokenError> {
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
        if let Some(all) = self.module.pin_states_seen_afresh().map_err(NotRead::Unknown)? {
            let own = all.into_iter().find(|(token, _)| *token == self.info.id());
            let unknown = || NotRead::Unknown(NOT_SEEN_AFRESH.to_owned());
            return own.map(|(_, states)| states).ok_or_else(unknown);
        }
        let reported = pin_states_of(&self.module.read_token_info(self.slot).map_err(NotRead::Failed)?);
        // Some modules report the old state after C_InitPIN until the next login. A warning is
        // never replaced: another program may have spent tries of the new PIN.
        let is_lifted = matches!(reported.pin, PinState::Locked | PinState::NotSet) && self.login.is_pin_new();
        Ok(if is_lifted { PinStates { pin: PinState::Ok, ..reported } } else { reported })
    }

    pub(in crate::token) fn pin_queue(&self) -> &PinQueue {
        &self.pin_queue
    }

    pub(in crate::token) fn pin_rule(&self) -> PinRule {
        let allowed = self.pin_length_range();
        PinRule { min: *allowed.start(), max: *allowed.end() }
    }

    /// The PIN lengths in bytes that this token accepts.
    pub(super) fn pin_length_range(&self) -> &std::ops::RangeInclusive<usize> {
        &self.pin_length_range
    }

    pub(super) fn raw(&self) -> &RawFunctions {
        self.module.raw()
    }

    pub(super) fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// What the token can do, probed once.
    pub(in crate::token) fn capabilities(&self) -> Result<&Capabilities, TokenError> {
        if let Some(known) = self.capabilities.get() {
            return Ok(known);
        }
        let found = probe(&self.module, self.slot, &self.sessions, self.pin_rule())
            .map_err(|error| self.explain("probe what the token can do", &error))?;
        Ok(self.capabilities.get_or_init(|| found))
    }

    pub(super) fn shared(&self) -> Calling<RwLockReadGuard<'_, ()>> {
        self.calling(self.guard.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether a session is active; `None` while another thread holds the token exclusively,
    /// perhaps for a login.
    pub(in crate::token) fn has_active_session_unless_busy(&self) -> Option<bool> {
        let _shared = match self.guard.try_read() {
            Ok(lock) => lock,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        Some(self.login.active_session().is_some())
    }

    pub(in crate::token) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::SeqCst)
    }

    /// Like `is_gone`, and closes the sessions of a gone token: the module may reuse their handles
    /// for others.
    pub(super) fn is_closed(&self) -> bool {
        if self.is_gone() {
            let _alone = self.exclusive();
            self.drop_copies();
            self.sessions.end();
        }
        self.is_gone()
    }

    /// Closes all signing sessions, and with them the copies of keys. The caller holds the token
    /// exclusively.
    pub(super) fn drop_copies(&self) {
        self.signing_pool.close_all();
    }

    /// Refuses to write to a full token directory ([`Module::check_free_space`]).
    pub(super) fn check_free_space(&self, operation: &'static str) -> Result<(), TokenError> {
        self.module.check_free_space(operation, &self.info.name())
    }

    pub(super) fn require_login(&self, operation: &'static str) -> Result<(), TokenError> {
        if self.login.is_logged_in() { Ok(()) } else { Err(self.not_logged_in_error(operation)) }
    }

    /// The error for a missing login. For a removed token it is `Absent`: a PIN could not help.
    pub(super) fn not_logged_in_error(&self, operation: &'static str) -> TokenError {
        let token = self.info.name();
        if self.is_gone() {
            TokenError::Absent { operation, token }
        } else {
            TokenError::NotLoggedIn { operation, token }
        }
    }

    /// What is known of the login.
    pub(in crate::token) fn login(&self) -> &LoginState {
        &self.login
    }

    /// Records a logout: it ends an active session, and handles of private objects become invalid.
    pub(super) fn note_logged_out(&self) {
        self.login.note_logged_out();
        self.handles.clear();
    }

    pub(super) fn handles(&self) -> &KeyHandles {
        &self.handles
    }

    pub(super) fn slot(&self) -> Slot {
        self.slot
    }

    pub(in crate::token) fn module(&self) -> &Module {
        &self.module
    }

    /// The pools of the fast signers. Their content ends with the login.
    pub(super) fn signing_pool(&self) -> &SigningPools {
        &self.signing_pool
    }

    pub(super) fn owner(&self) -> Arc<OwnerLock> {
        Arc::clone(&self.owner)
    }

    pub(super) fn exclusive(&self) -> Calling<RwLockWriteGuard<'_, ()>> {
        self.calling(self.guard.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// Counts a call to the module under this lock.
    fn calling<G>(&self, lock: G) -> Calling<G> {
        Calling::under(lock, self.module.calls())
    }

    /// Runs a closure in a pooled session under the exclusive lock.
    pub(super) fn exclusively<T>(
        &self,
        operation: &'static str,
        action: impl FnOnce(&Session) -> CkResult<T>,
    ) -> Result<T, TokenError> {
        let _alone = self.exclusive();
        self.sessions.with(action).map_err(|error| self.explain(operation, &error))
    }

    /// Runs a closure in a pooled session under the shared lock.
    pub(super) fn concurrently<T>(
        &self,
        operation: &'static str,
        action: impl FnOnce(&Session) -> CkResult<T>,
    ) -> Result<T, TokenError> {
        let _shared = self.shared();
        self.sessions.with(action).map_err(|error| self.explain(operation, &error))
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
        let name = self.info.name();
        if self.is_gone() {
            return TokenError::Absent { operation, token: name };
        }
        self.module().explain(operation, &name, error, pin_state)
    }

    /// Records what a module's return value says about the token's presence and login. A single
    /// session may end; the login session decides for the token.
    pub(super) fn note(&self, error: &Error) {
        if return_values::is_removed(error) {
            self.note_gone();
        } else if return_values::is_session_gone(error) || return_values::is_not_logged_in(error) {
            self.look_at_sessions();
        }
    }

    /// Queries the login session, unless it is in use: its user notices a change first.
    pub(super) fn look_at_sessions(&self) {
        match self.sessions.in_free_login_session(Session::get_session_info) {
            Some(Err(error)) if return_values::is_removed(&error) || return_values::is_session_gone(&error) => {
                self.note_gone();
            }
            // The login may end without a removal: after a card reset, or a logout by another
            // program.
            Some(Ok(info)) if self.login.is_logged_in() && !is_users(info.session_state()) => {
                tracing::info!(token = %self.info().name(), "the token logged out on its own");
                self.note_logged_out();
            }
            _ => {}
        }
    }

    pub(super) fn note_gone(&self) {
        if !self.gone.swap(true, Ordering::SeqCst) {
            tracing::info!(token = %self.info().name(), "the token is gone");
            self.note_logged_out();
        }
    }
}

fn is_users(state: SessionState) -> bool {
    matches!(state, SessionState::RoUser | SessionState::RwUser)
}
