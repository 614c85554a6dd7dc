//! The signers of level Low keys in active sessions. With one, a signature needs neither the PIN
//! nor the token's lease.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use crate::token::{FastSigner, TokenInfo};

/// A level Low key's signer in the active session; empty without a session. One for each public key
/// while the key is present or its identity is held.
#[derive(Debug, Default)]
pub(super) struct CachedSigner {
    signer: RwLock<Option<Arc<FastSigner>>>,
    used: AtomicBool,
}

impl CachedSigner {
    pub fn signer(&self) -> Option<Arc<FastSigner>> {
        self.signer.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn set(&self, signer: Option<FastSigner>) {
        // Drop the old signer outside the lock: it may call its module.
        let new = signer.map(Arc::new);
        let old = std::mem::replace(&mut *self.signer.write().unwrap_or_else(PoisonError::into_inner), new);
        drop(old);
    }

    pub fn note_use(&self) {
        // The flag is usually set; storing it each time would take the cache line from other
        // threads.
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
    }

    pub fn take_use(&self) -> bool {
        self.used.swap(false, Ordering::Relaxed)
    }
}

/// The signers by public key (DER `SubjectPublicKeyInfo`).
#[derive(Debug, Default)]
pub(super) struct CachedSigners(Mutex<HashMap<Vec<u8>, Arc<CachedSigner>>>);

impl CachedSigners {
    pub fn of_key(&self, spki: &[u8]) -> Arc<CachedSigner> {
        Arc::clone(self.by_key().entry(spki.to_vec()).or_default())
    }

    /// The signers of this token's active session.
    pub fn on(&self, token: &TokenInfo) -> Vec<Arc<CachedSigner>> {
        let is_on = |cached_signer: &&Arc<CachedSigner>| {
            cached_signer.signer().is_some_and(|signer| signer.key().token().info().id() == token.id())
        };
        self.by_key().values().filter(is_on).map(Arc::clone).collect()
    }

    /// Drops entries without a signer that nobody else holds; otherwise the map would grow without
    /// limit.
    pub fn forget_unused(&self) {
        self.by_key()
            .retain(|_, cached_signer| Arc::strong_count(cached_signer) > 1 || cached_signer.signer().is_some());
    }

    #[cfg(test)]
    pub fn key_count(&self) -> usize {
        self.by_key().len()
    }

    fn by_key(&self) -> MutexGuard<'_, HashMap<Vec<u8>, Arc<CachedSigner>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
