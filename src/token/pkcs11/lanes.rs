//! The pool of signing sessions: a PKCS#11 session and the key's handle in it, for one signature at
//! a time ([`super::fast_signer`]).
//!
//! Sessions are taken, opened and returned under the token's shared or exclusive lock, so a thread
//! that holds it exclusively and closes the pool finds all of them here. Therefore no thread may
//! wait for a session while it holds the shared lock, and no session may leave this module.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLockReadGuard, Weak};

use cryptoki::object::ObjectHandle;
use cryptoki::session::Session;

use crate::token::Token;

/// Maximum number of sessions of one signer. It exceeds the number of cores so that a preempted
/// signature delays no other. A token has only a limited number of sessions.
const MOST: usize = 8;

/// A PKCS#11 session and the handle of the key in it.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) session: Session,
    pub(super) key: ObjectHandle,
}

/// The sessions of one signer. Each signature uses one exclusively.
#[derive(Debug)]
pub(super) struct Lanes {
    room: Mutex<Room>,
    returned: Condvar,
}

#[derive(Debug)]
struct Room {
    // Last in, first out: the most recently used one is still in the processor's caches.
    idle: Vec<Lane>,
    // Idle, in use, or being opened.
    count: usize,
    limit: usize,
}

/// The result of a checkout.
pub(super) enum Way<'a> {
    /// This session is free. The token stays shared until the session is returned (a pattern's last
    /// name is dropped first).
    Take(RwLockReadGuard<'a, ()>, Place<'a>),
    /// The pool may open one more session, and this lease is for it.
    Furnish(Place<'a>),
    /// All sessions were in use, and one has been returned since.
    Again,
}

/// The lease of a session, or of the right to open one. Dropping it returns the session or the
/// right.
pub(super) struct Place<'a> {
    lanes: &'a Lanes,
    pub(super) lane: Option<Lane>,
}

/// The pools of all signers of a token.
#[derive(Debug, Default)]
pub(super) struct AllLanes(Mutex<Vec<Weak<Lanes>>>);

impl Token {
    /// Closes all signing sessions, and with them the copies of keys. The caller holds the token
    /// exclusively.
    pub(super) fn drop_copies(&self) {
        for lanes in self.lanes().0.lock().unwrap_or_else(PoisonError::into_inner).iter().filter_map(Weak::upgrade) {
            lanes.close();
        }
    }
}

impl AllLanes {
    /// An empty pool for a new signer.
    pub(super) fn of_another_signer(&self) -> Arc<Lanes> {
        let room = Room { idle: Vec::new(), count: 0, limit: MOST };
        let lanes = Arc::new(Lanes { room: Mutex::new(room), returned: Condvar::new() });
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|others| others.strong_count() > 0);
        all.push(Arc::downgrade(&lanes));
        lanes
    }
}

impl Lanes {
    fn room(&self) -> MutexGuard<'_, Room> {
        self.room.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks out a session. If all are in use, it releases the shared lock and waits.
    pub(super) fn way<'a>(&'a self, shared: RwLockReadGuard<'a, ()>) -> Way<'a> {
        let mut room = self.room();
        if let Some(lane) = room.idle.pop() {
            return Way::Take(shared, Place { lanes: self, lane: Some(lane) });
        }
        drop(shared);
        if room.count < room.limit {
            room.count += 1;
            return Way::Furnish(Place { lanes: self, lane: None });
        }
        drop(self.returned.wait_while(room, |room| room.idle.is_empty() && room.count >= room.limit));
        Way::Again
    }

    /// Lowers the limit after the token refused a session that is counted already. Returns whether
    /// other sessions remain.
    pub(super) fn do_without(&self) -> bool {
        let mut room = self.room();
        room.limit = (room.count - 1).max(1);
        room.count > 1
    }

    /// Closes all idle sessions.
    fn close(&self) {
        let idle = {
            let mut room = self.room();
            room.count -= room.idle.len();
            std::mem::take(&mut room.idle)
        };
        drop(idle);
        self.returned.notify_all();
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut room = self.lanes.room();
        match self.lane.take() {
            Some(lane) => room.idle.push(lane),
            None => room.count -= 1,
        }
        drop(room);
        self.lanes.returned.notify_one();
    }
}
