//! The pool of signing sessions: a PKCS#11 session and the key's handle in it, for one signature at
//! a time ([`super::fast_signer`]).
//!
//! Sessions are taken, opened and returned under the token's shared or exclusive lock, so a thread
//! that holds it exclusively and closes the pool finds all of them here. Therefore no thread may
//! wait for a session while it holds the shared lock, and no session may leave this module.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLockReadGuard, Weak};

use cryptoki::object::ObjectHandle;
use cryptoki::session::Session;

use super::call_counts::Calling;

/// Maximum number of sessions of one signer. It exceeds the number of cores so that a preempted
/// signature delays no other. A token has only a limited number of sessions.
const MAX_SESSIONS: usize = 8;

/// A PKCS#11 session and the handle of the key in it.
#[derive(Debug)]
pub(super) struct SigningSession {
    pub(super) session: Session,
    pub(super) key: ObjectHandle,
}

/// The sessions of one signer. Each signature uses one exclusively.
#[derive(Debug)]
pub(super) struct SigningPool {
    state: Mutex<PoolState>,
    returned: Condvar,
}

#[derive(Debug)]
struct PoolState {
    // Last in, first out: the most recently used one is still in the processor's caches.
    idle: Vec<SigningSession>,
    // Idle, in use, or being opened.
    count: usize,
    limit: usize,
}

/// The result of a checkout.
pub(super) enum Checkout<'a> {
    /// This session is free. The token stays shared until the session is returned (a pattern's last
    /// name is dropped first).
    Ready(Calling<RwLockReadGuard<'a, ()>>, SessionLease<'a>),
    /// The pool may open one more session, and this lease is for it.
    Open(SessionLease<'a>),
    /// All sessions were in use, and one has been returned since.
    Retry,
}

/// The lease of a session, or of the right to open one. Dropping it returns the session or the
/// right.
pub(super) struct SessionLease<'a> {
    signing_pool: &'a SigningPool,
    pub(super) session: Option<SigningSession>,
}

/// The pools of all signers of a token.
#[derive(Debug, Default)]
pub(super) struct SigningPools(Mutex<Vec<Weak<SigningPool>>>);

impl SigningPools {
    /// Closes the idle sessions of all pools.
    pub(super) fn close_all(&self) {
        for signing_pool in self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().filter_map(Weak::upgrade) {
            signing_pool.close();
        }
    }

    /// An empty pool for a new signer.
    pub(super) fn new_pool(&self) -> Arc<SigningPool> {
        let state = PoolState { idle: Vec::new(), count: 0, limit: MAX_SESSIONS };
        let signing_pool = Arc::new(SigningPool { state: Mutex::new(state), returned: Condvar::new() });
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|others| others.strong_count() > 0);
        all.push(Arc::downgrade(&signing_pool));
        signing_pool
    }
}

impl SigningPool {
    fn state(&self) -> MutexGuard<'_, PoolState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks out a session. If all are in use, it releases the shared lock and waits.
    pub(super) fn check_out<'a>(&'a self, shared: Calling<RwLockReadGuard<'a, ()>>) -> Checkout<'a> {
        let mut state = self.state();
        if let Some(signing_session) = state.idle.pop() {
            return Checkout::Ready(shared, SessionLease { signing_pool: self, session: Some(signing_session) });
        }
        drop(shared);
        if state.count < state.limit {
            state.count += 1;
            return Checkout::Open(SessionLease { signing_pool: self, session: None });
        }
        drop(self.returned.wait_while(state, |state| state.idle.is_empty() && state.count >= state.limit));
        Checkout::Retry
    }

    /// Lowers the limit after the token refused a session that is counted already. Returns whether
    /// other sessions remain.
    pub(super) fn lower_limit(&self) -> bool {
        let mut state = self.state();
        state.limit = (state.count - 1).max(1);
        state.count > 1
    }

    /// Closes all idle sessions.
    fn close(&self) {
        let idle = {
            let mut state = self.state();
            state.count -= state.idle.len();
            std::mem::take(&mut state.idle)
        };
        drop(idle);
        self.returned.notify_all();
    }
}

impl Drop for SessionLease<'_> {
    fn drop(&mut self) {
        let mut state = self.signing_pool.state();
        match self.session.take() {
            Some(signing_session) => state.idle.push(signing_session),
            None => state.count -= 1,
        }
        drop(state);
        self.signing_pool.returned.notify_one();
    }
}
