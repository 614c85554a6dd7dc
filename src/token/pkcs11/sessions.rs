//! The PKCS#11 sessions of one token: a login session that keeps the login alive, and a pool for
//! operations.

use std::sync::{Condvar, Mutex, PoisonError, TryLockError};

use cryptoki::context::{Function, Pkcs11};
use cryptoki::error::{Error, Result, RvError};
use cryptoki::session::Session;
use cryptoki::slot::Slot;

use super::return_values;

/// Opens sessions and lends them out. The limit is about the number of cores: more would not make a
/// token faster.
#[derive(Debug)]
pub(super) struct Sessions {
    module: Pkcs11,
    slot: Slot,
    read_only: bool,
    limit: usize,
    // Closing the last session of a token logs out (PKCS#11 v2.40 §5.6): this one stays open until
    // the token is gone.
    login_session: Mutex<Option<Session>>,
    pool: Mutex<SessionPool>,
    returned: Condvar,
}

#[derive(Debug, Default)]
struct SessionPool {
    idle: Vec<Session>,
    in_use: usize,
    ended: bool,
}

impl Sessions {
    /// Opens the login session.
    pub(super) fn open(module: &Pkcs11, slot: Slot, read_only: bool) -> Result<Self> {
        let cores = std::thread::available_parallelism().map_or(2, std::num::NonZeroUsize::get);
        Ok(Self {
            module: module.clone(),
            slot,
            read_only,
            limit: cores.clamp(2, 16),
            login_session: Mutex::new(Some(open_session(module, slot, read_only)?)),
            pool: Mutex::default(),
            returned: Condvar::new(),
        })
    }

    /// Runs a closure in the session that logs in and out.
    pub(super) fn in_login_session<T>(&self, action: impl FnOnce(&Session) -> Result<T>) -> Result<T> {
        let login_session = self.login_session.lock().unwrap_or_else(PoisonError::into_inner);
        action(login_session.as_ref().ok_or_else(ended)?)
    }

    /// Like `in_login_session`; `None` while that session is in use.
    pub(super) fn in_free_login_session<T>(&self, action: impl FnOnce(&Session) -> Result<T>) -> Option<Result<T>> {
        let login_session = match self.login_session.try_lock() {
            Ok(login_session) => login_session,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        Some(login_session.as_ref().ok_or_else(ended).and_then(action))
    }

    /// Closes all sessions and opens no more. The token is gone, and a module may reuse its session
    /// handles for others.
    pub(super) fn end(&self) {
        let idle = {
            let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
            pool.ended = true;
            std::mem::take(&mut pool.idle)
        };
        drop(idle);
        *self.login_session.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Runs a closure in a pooled session, and waits if all are in use. A session in which a call
    /// failed is closed, so that no unfinished operation remains.
    pub(super) fn with<T>(&self, action: impl FnOnce(&Session) -> Result<T>) -> Result<T> {
        let idle = {
            let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
            while pool.in_use >= self.limit {
                pool = self.returned.wait(pool).unwrap_or_else(PoisonError::into_inner);
            }
            if pool.ended {
                return Err(ended());
            }
            pool.in_use += 1;
            pool.idle.pop()
        };
        let in_use = SessionLoan(self);
        let session = match idle {
            Some(session) => session,
            None => self.open_another()?,
        };
        let result = action(&session);
        if result.is_ok() {
            let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
            if !pool.ended {
                pool.idle.push(session);
            }
        }
        drop(in_use);
        result
    }

    /// A session that the caller keeps: session objects live as long as the session that made them.
    pub(super) fn open_another(&self) -> Result<Session> {
        if self.pool.lock().unwrap_or_else(PoisonError::into_inner).ended {
            return Err(ended());
        }
        open_session(&self.module, self.slot, self.read_only)
    }
}

/// The error that a module returns for a closed session.
fn ended() -> Error {
    Error::Pkcs11(RvError::SessionClosed, Function::GetSessionInfo)
}

/// Returns a session to the count, even if its user panics.
struct SessionLoan<'a>(&'a Sessions);

impl Drop for SessionLoan<'_> {
    fn drop(&mut self) {
        self.0.pool.lock().unwrap_or_else(PoisonError::into_inner).in_use -= 1;
        self.0.returned.notify_one();
    }
}

/// Opens a read-write session if possible: the security officer cannot log in while a read-only
/// session is open.
fn open_session(module: &Pkcs11, slot: Slot, read_only: bool) -> Result<Session> {
    return_values::retry_transient(
        || if read_only { module.open_ro_session(slot) } else { module.open_rw_session(slot) },
    )
}
