//! The tokens behind a PKCS#11 module: lists and opens them.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use super::module::Module;
use super::presence::Presence;
use super::slot_info::pin_length_range;
use super::token::Pkcs11Token;
use crate::token::check;
use crate::token::owner_lock::{OWNER_TIMEOUT, OwnerLock, is_used_by_authority};
use crate::token::{TokenError, TokenId, TokenInfo, untrusted_file_reason};

/// A module and the tokens that this process has opened through it. Loading the same file again
/// returns the same one.
#[derive(Clone, Debug)]
pub struct Pkcs11Source {
    module: Module,
    // A token is opened once in a process.
    open: Arc<Mutex<HashMap<TokenId, WeakOpenToken>>>,
}

/// A token that this process has opened, as long as something uses it.
#[derive(Debug)]
struct WeakOpenToken {
    token: Weak<Pkcs11Token>,
    // Alive until the sessions are closed. `token` ends before that.
    in_use: Weak<()>,
}

impl WeakOpenToken {
    fn of(token: &Arc<Pkcs11Token>) -> Self {
        Self { token: Arc::downgrade(token), in_use: Arc::downgrade(token.in_use()) }
    }

    fn token(&self) -> Option<Arc<Pkcs11Token>> {
        self.token.upgrade()
    }

    /// Whether sessions of the token may be open or closing.
    fn has_sessions(&self) -> bool {
        self.token().map_or(self.in_use.strong_count() > 0, |token| !token.is_closed())
    }
}

/// All loaded modules. A process may call `C_Initialize` of a module only once.
static LOADED: Mutex<Vec<Pkcs11Source>> = Mutex::new(Vec::new());

impl Pkcs11Source {
    /// Loads and initializes the module, once per process.
    pub(in crate::token) fn load(path: &Path) -> Result<Self, TokenError> {
        let unusable = |reason: String, remedy: String| TokenError::Source { path: path.to_owned(), reason, remedy };
        let canonical = path
            .canonicalize()
            .map_err(|error| unusable(error.to_string(), "name another one with --module, or install it".to_owned()))?;
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(source) = loaded.iter().find(|source| source.module.path() == canonical) {
            return Ok(source.clone());
        }
        if let Some(reason) = untrusted_file_reason(&canonical) {
            let (reason, remedy) = reason.rsplit_once("; ").unwrap_or((&reason, "leave it out"));
            return Err(unusable(reason.to_owned(), remedy.to_owned()));
        }
        check::refuse_crashing_module(&canonical)?;
        let source = Self { module: Module::initialized(canonical)?, open: Arc::default() };
        loaded.push(source.clone());
        Ok(source)
    }

    /// The module.
    pub(in crate::token) fn module(&self) -> &Module {
        &self.module
    }

    /// Whether an authority owns this token now, in another process or in this one. It neither
    /// waits nor opens the token.
    pub(in crate::token) fn is_used_by_authority(&self, token: &TokenInfo) -> bool {
        is_used_by_authority(self.module.path(), &token.name())
    }

    /// Restarts the module (`C_Finalize`, `C_Initialize`), so that it sees tokens made by other
    /// processes. Does nothing while this process has a token of the module open, because that
    /// would end its sessions. Returns whether it restarted the module.
    pub(super) fn restart_if_unused(&self) -> Result<bool, TokenError> {
        let mut open = self.open_tokens();
        // A token that was removed has no sessions, but its owner lock is this process's as long as
        // something uses it: without its entry it could not be opened again.
        open.retain(|_, opened| opened.token().is_some() || opened.has_sessions());
        if open.values().any(WeakOpenToken::has_sessions) {
            return Ok(false);
        }
        self.module.restart().map(|()| true)
    }

    /// Opens the token and takes ownership. Waits up to 5 s while another process owns it; the
    /// error then names that owner. A token that is already open in this process is returned again.
    /// If it was removed or initialized again since, it is opened again and is not logged in.
    pub(in crate::token) fn open(&self, token: &TokenInfo) -> Result<Arc<Pkcs11Token>, TokenError> {
        self.open_within(token, OWNER_TIMEOUT)
    }

    /// Like [`Pkcs11Source::open`], with this timeout: for listing all tokens, some of which other
    /// processes own.
    pub(in crate::token) fn open_within(
        &self,
        token: &TokenInfo,
        timeout: Duration,
    ) -> Result<Arc<Pkcs11Token>, TokenError> {
        let operation = "open the token";
        let (mut open, owner) = loop {
            let open = self.open_tokens();
            let Some(opened) = open.get(&token.id()).and_then(WeakOpenToken::token) else {
                // A lock file is named for a serial number. Another token with the same one (the
                // token before it was initialized again, for example) shares the lock.
                let others = open.values().filter_map(WeakOpenToken::token);
                let owner =
                    others.map(|other| other.owner()).find(|owner| owner.is_of(self.module.path(), &token.name()));
                let acquire = || OwnerLock::acquire_within(self.module.path(), &token.name(), timeout).map(Arc::new);
                break (open, owner.map_or_else(acquire, Ok)?);
            };
            // This process holds the lock already.
            if opened.is_gone() {
                break (open, opened.owner());
            }
            // This may wait for an operation to end; let other threads open other tokens meanwhile.
            drop(open);
            if Presence::of(&opened).is_present() {
                return Ok(opened);
            }
        };
        let opened = self.open_owned(operation, token, owner)?;
        open.insert(opened.info().id(), WeakOpenToken::of(&opened));
        Ok(opened)
    }

    /// Opens the token in a child of its owner, which waits for the child.
    pub(super) fn open_in_child(&self, token: &TokenInfo) -> Result<Arc<Pkcs11Token>, TokenError> {
        self.open_owned("open the token", token, Arc::new(OwnerLock::held_by_parent()))
    }

    fn open_owned(
        &self,
        operation: &'static str,
        token: &TokenInfo,
        owner: Arc<OwnerLock>,
    ) -> Result<Arc<Pkcs11Token>, TokenError> {
        let (slot, info) = self.module.slot_of(operation, token)?;
        let _call = self.module.calls().begin();
        Pkcs11Token::new(self.module.clone(), slot, self.module.token_info(slot, &info), pin_length_range(&info), owner)
            .map(Arc::new)
            .map_err(|error| self.module.explain(operation, &token.name(), &error, || token.pin_state))
    }

    /// Whether this process has the token open.
    pub(super) fn has_open(&self, token: &TokenInfo) -> bool {
        self.open_tokens().get(&token.id()).is_some_and(|opened| opened.token.strong_count() > 0)
    }

    fn open_tokens(&self) -> MutexGuard<'_, HashMap<TokenId, WeakOpenToken>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::test_support::{open_token, softhsm};

    #[test]
    fn a_module_restarts_only_after_dropped_tokens_close_sessions() {
        let token = Arc::clone(open_token(&softhsm()).pkcs11());
        let opened = WeakOpenToken::of(&token);
        let being_closed = Arc::clone(token.in_use());
        assert!(opened.has_sessions());
        drop(token);
        assert!(opened.token().is_none() && opened.has_sessions());
        drop(being_closed);
        assert!(!opened.has_sessions());
    }
}
