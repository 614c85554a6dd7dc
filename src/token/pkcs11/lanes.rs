//! Lanes: a session and what a key is called in it, for one signature at a time ([`super::fast_signer`]).
//!
//! They are taken, furnished and put back while the token is shared, or held alone: whoever holds it alone and closes the lanes
//! finds all of them here. So nobody may wait for a lane while he shares the token, and no lane may leave this room.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLockReadGuard, Weak};

use cryptoki::object::ObjectHandle;
use cryptoki::session::Session;

use crate::token::Token;

/// Lanes of one signer. More than there are cores: whoever is interrupted in the middle of a signature keeps nobody waiting.
/// But a token has only so many sessions.
const MOST: usize = 8;

/// A session, and what the key is called in it.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) session: Session,
    pub(super) key: ObjectHandle,
}

/// The lanes of one signer. Whoever signs has one to himself.
#[derive(Debug)]
pub(super) struct Lanes {
    room: Mutex<Room>,
    returned: Condvar,
}

#[derive(Debug)]
struct Room {
    // The last one first: what it needs is still in the processor's caches.
    idle: Vec<Lane>,
    // Idle, taken, or being furnished.
    count: usize,
    limit: usize,
}

/// How one comes to a lane.
pub(super) enum Way<'a> {
    /// This one is free; the token is shared until it is put back (a pattern's last name is dropped first).
    Take(RwLockReadGuard<'a, ()>, Place<'a>),
    /// There may be one more: this is its place.
    Furnish(Place<'a>),
    /// All were taken: one has been put back meanwhile.
    Again,
}

/// A lane that is taken, or the place of one. Dropping it puts the lane back, or gives the place up.
pub(super) struct Place<'a> {
    lanes: &'a Lanes,
    pub(super) lane: Option<Lane>,
}

/// The lanes of all signers of a token.
#[derive(Debug, Default)]
pub(super) struct AllLanes(Mutex<Vec<Weak<Lanes>>>);

impl Token {
    /// Closes all lanes, and with them the copies of keys. The token must be held alone.
    pub(super) fn drop_copies(&self) {
        for lanes in self.lanes().0.lock().unwrap_or_else(PoisonError::into_inner).iter().filter_map(Weak::upgrade) {
            lanes.close();
        }
    }
}

impl AllLanes {
    /// One more signer's; none is furnished yet.
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

    /// To a lane. Where all are taken, this waits, without sharing the token.
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

    /// The token has no session for a lane whose place is counted already: the others have to do, if there are any.
    pub(super) fn do_without(&self) -> bool {
        let mut room = self.room();
        room.limit = (room.count - 1).max(1);
        room.count > 1
    }

    /// Closes all that are not taken.
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
