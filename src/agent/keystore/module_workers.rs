//! The modules with workers of their own: lists their tokens, forwards their events, and locks
//! them.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::key_cache::is_same_token;
use super::{Event, Inner, LogOffReason};
use crate::agent::module_worker::{ModuleWorker, SessionChange, StateUpdate};
use crate::token::TokenInfo;

/// Delay before the next module worker is followed when one exited at once.
const RETRY_DELAY: Duration = Duration::from_millis(50);

impl Inner {
    /// The module worker that has this token.
    pub fn module_worker_of(&self, token: &TokenInfo) -> Option<&Arc<ModuleWorker>> {
        self.module_workers.iter().find(|module_worker| module_worker.has(token))
    }

    /// Starts a thread for each module worker; it follows the worker while the keystore exists.
    pub fn follow_module_workers(inner: &Arc<Self>) -> std::io::Result<()> {
        for module_worker in &inner.module_workers {
            let (module_worker, inner) = (Arc::clone(module_worker), Arc::downgrade(inner));
            let thread = std::thread::Builder::new().name("module-worker".to_owned()).stack_size(256 * 1024);
            thread.spawn(move || follow(&inner, &module_worker))?;
        }
        Ok(())
    }

    fn handle_update(&self, module_worker: &ModuleWorker, update: StateUpdate) {
        if let Some(SessionChange::Ended(token, reason)) = &update.session_change {
            self.events.publish(&Event::LoggedOff { token: token.clone(), reason: *reason });
        }
        if let Some(SessionChange::Started(token)) = &update.session_change {
            module_worker.forget_pin(token);
        }
        module_worker.note(update.inventory);
        module_worker.lock(self.locked.is_locked());
        self.refresh_or_log();
        if let Some(SessionChange::Started(token)) = update.session_change {
            self.events.publish(&Event::LoggedIn(token));
        }
    }

    fn handle_exit(&self, module_worker: &ModuleWorker) {
        for token in module_worker.note_end() {
            self.events.publish(&Event::LoggedOff { token, reason: LogOffReason::Removed });
        }
        self.refresh_or_log();
    }

    /// Locks or unlocks the module workers like this keystore; locking stops their operations. The
    /// pass phrase stays in this process.
    pub fn propagate_lock(&self) {
        for module_worker in &self.module_workers {
            module_worker.lock(self.locked.is_locked());
        }
    }

    /// Makes the module workers report the current PIN states of their tokens.
    pub fn refresh_remote_pin_states(&self) {
        for module_worker in &self.module_workers {
            module_worker.refresh_pin_states();
        }
    }

    /// Returns true if any module worker has an active session.
    pub fn has_remote_session(&self) -> bool {
        self.module_workers.iter().any(|module_worker| !module_worker.logged_in().is_empty())
    }

    /// Returns true if a module worker has an active session on this token.
    pub fn has_remote_session_on(&self, token: &TokenInfo) -> bool {
        self.module_worker_of(token)
            .is_some_and(|module_worker| module_worker.logged_in().iter().any(|other| is_same_token(other, token)))
    }

    /// Returns true if an operation or session is active in this process.
    pub fn is_in_use(&self) -> bool {
        self.operations.load(Ordering::SeqCst) > 0 || !self.tokens.active_sessions().is_empty()
    }
}

fn follow(inner: &Weak<Inner>, module_worker: &ModuleWorker) {
    loop {
        let followed = module_worker.follow(|module_worker, update| {
            if let Some(inner) = inner.upgrade() {
                inner.handle_update(module_worker, update);
            }
        });
        let Some(inner) = inner.upgrade() else { return };
        inner.handle_exit(module_worker);
        if !followed {
            module_worker.note_given_up();
            return;
        }
        drop(inner);
        std::thread::sleep(RETRY_DELAY);
    }
}
