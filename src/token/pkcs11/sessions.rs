//! The sessions of one token: an anchor that keeps the log-in alive, and a few for the work.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use cryptoki::context::Pkcs11;
use cryptoki::error::Result;
use cryptoki::session::Session;
use cryptoki::slot::Slot;

use super::answers;

/// Opens sessions and lends them out, about as many as there are cores: more would not make a token faster.
#[derive(Debug)]
pub(super) struct Sessions {
    module: Pkcs11,
    slot: Slot,
    read_only: bool,
    limit: usize,
    // Closing the last session of a token logs out (PKCS#11 v2.40 §5.6): this one stays.
    anchor: Mutex<Session>,
    work: Mutex<Work>,
    returned: Condvar,
}

#[derive(Debug, Default)]
struct Work {
    idle: Vec<Session>,
    lent: usize,
}

impl Sessions {
    /// Opens the anchor.
    pub(super) fn open(module: &Pkcs11, slot: Slot, read_only: bool) -> Result<Self> {
        let cores = std::thread::available_parallelism().map_or(2, std::num::NonZeroUsize::get);
        Ok(Self {
            module: module.clone(),
            slot,
            read_only,
            limit: cores.clamp(2, 16),
            anchor: Mutex::new(open_session(module, slot, read_only)?),
            work: Mutex::default(),
            returned: Condvar::new(),
        })
    }

    /// The session on which log-in and log-out happen.
    pub(super) fn anchor(&self) -> MutexGuard<'_, Session> {
        self.anchor.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something in a session, waiting for one if all are lent. A session in which something failed is closed,
    /// so that no half-begun operation outlives its failure.
    pub(super) fn with<T>(&self, act: impl FnOnce(&Session) -> Result<T>) -> Result<T> {
        let idle = {
            let mut work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
            while work.lent >= self.limit {
                work = self.returned.wait(work).unwrap_or_else(PoisonError::into_inner);
            }
            work.lent += 1;
            work.idle.pop()
        };
        let lent = Lent(self);
        let session = match idle {
            Some(session) => session,
            None => self.open_another()?,
        };
        let result = act(&session);
        if result.is_ok() {
            let mut work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
            work.idle.push(session);
        }
        drop(lent);
        result
    }

    /// A session that the caller keeps: session objects live as long as the session that made them.
    pub(super) fn open_another(&self) -> Result<Session> {
        open_session(&self.module, self.slot, self.read_only)
    }
}

/// Counts a lent session down, also when the work in it panics.
struct Lent<'a>(&'a Sessions);

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        self.0.work.lock().unwrap_or_else(PoisonError::into_inner).lent -= 1;
        self.0.returned.notify_one();
    }
}

/// Read-write where possible: the security officer cannot log in while a read-only session is open.
fn open_session(module: &Pkcs11, slot: Slot, read_only: bool) -> Result<Session> {
    answers::patiently(|| if read_only { module.open_ro_session(slot) } else { module.open_rw_session(slot) })
}
