//! The keystore's lock (`ssh-add -x`, `-X`). It keeps the pass phrase only as a salted, slow hash.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use sha2::Sha256;
use subtle::ConstantTimeEq;

use super::super::AgentError;

/// PBKDF2-HMAC-SHA-256 (RFC 8018 §5.2) iterations: OWASP's number of 2025, under a second on any
/// machine.
#[cfg(not(test))]
const PBKDF2_ITERATIONS: u32 = 600_000;
#[cfg(test)]
const PBKDF2_ITERATIONS: u32 = 1_000;

/// The lock's state, and the hash of its pass phrase.
#[derive(Default)]
pub(super) struct PassPhraseLock {
    // Every signature reads it, so it is outside the mutex.
    locked: AtomicBool,
    by: Mutex<Option<Salted>>,
}

struct Salted {
    salt: [u8; 16],
    hash: [u8; 32],
}

impl PassPhraseLock {
    pub fn is_locked(&self) -> bool {
        self.locked.load(Ordering::Acquire)
    }

    /// Refuses an operation (completing "cannot …") while locked.
    pub fn check_unlocked(&self, operation: &'static str) -> Result<(), AgentError> {
        if self.is_locked() { Err(AgentError::Locked { operation }) } else { Ok(()) }
    }

    /// Locks. Refuses if already locked, because the first pass phrase would be lost.
    pub fn lock(&self, pass_phrase: &[u8]) -> Result<(), AgentError> {
        let mut by = self.by.lock().unwrap_or_else(PoisonError::into_inner);
        if by.is_some() {
            return Err(AgentError::LockState { operation: "lock", state: "already locked" });
        }
        let mut salt = [0; 16];
        getrandom::fill(&mut salt)
            .map_err(|error| AgentError::System { operation: "lock the agent", reason: error.to_string() })?;
        *by = Some(Salted { salt, hash: slow_hash(pass_phrase, &salt) });
        self.locked.store(true, Ordering::Release);
        Ok(())
    }

    /// Unlocks. Attempts run one at a time, so guessing many pass phrases is slow.
    pub fn unlock(&self, pass_phrase: &[u8]) -> Result<(), AgentError> {
        let mut by = self.by.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(salted) = by.as_ref() else {
            return Err(AgentError::LockState { operation: "unlock", state: "not locked" });
        };
        if !bool::from(slow_hash(pass_phrase, &salted.salt).ct_eq(&salted.hash)) {
            return Err(AgentError::WrongPassPhrase);
        }
        *by = None;
        self.locked.store(false, Ordering::Release);
        Ok(())
    }
}

impl fmt::Debug for PassPhraseLock {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("PassPhraseLock").field("locked", &self.is_locked()).finish_non_exhaustive()
    }
}

fn slow_hash(pass_phrase: &[u8], salt: &[u8]) -> [u8; 32] {
    pbkdf2::pbkdf2_hmac_array::<Sha256, 32>(pass_phrase, salt, PBKDF2_ITERATIONS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_pass_phrase_unlocks() {
        let lock = PassPhraseLock::default();
        assert!(matches!(lock.unlock(b"a"), Err(AgentError::LockState { .. })));
        lock.lock(b"a").unwrap();
        assert!(lock.is_locked());
        assert!(matches!(lock.unlock(b"b"), Err(AgentError::WrongPassPhrase)));
        assert!(matches!(lock.unlock(b""), Err(AgentError::WrongPassPhrase)));
        assert!(lock.is_locked(), "a wrong pass phrase unlocked it");
        lock.unlock(b"a").unwrap();
        assert!(!lock.is_locked());
    }

    #[test]
    fn a_second_lock_does_not_replace_the_first() {
        let lock = PassPhraseLock::default();
        lock.lock(b"first").unwrap();
        assert!(matches!(lock.lock(b"second"), Err(AgentError::LockState { .. })));
        assert!(matches!(lock.unlock(b"second"), Err(AgentError::WrongPassPhrase)));
        lock.unlock(b"first").unwrap();
    }

    #[test]
    fn the_pass_phrase_is_not_kept() {
        let lock = PassPhraseLock::default();
        lock.lock(b"geheim-4711").unwrap();
        let by = lock.by.lock().unwrap();
        let salted = by.as_ref().unwrap();
        assert_ne!(salted.hash.as_slice(), b"geheim-4711");
        assert_ne!(salted.salt, [0; 16]);
        drop(by);
        assert!(!format!("{lock:?}").contains("geheim"));
    }
}
