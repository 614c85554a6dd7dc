//! A loaded PKCS#11 module and the tokens in its slots.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak};
use std::time::Duration;

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, Result as CkResult, RvError};
use cryptoki::slot::{Slot, TokenInfo as CkTokenInfo};

use super::call_counts::{CallCount, Calling};
use super::fresh_process::start_remedy;
use super::raw::RawFunctions;
use super::responsiveness::ModuleState;
use super::return_values;
use super::so_pin::pin_states_of;
use super::token::OpenToken;
use super::token_info::{NonUtf8Name, TokenInfo, pin_length_range};
use crate::token::check;
use crate::token::owner_lock::{OWNER_TIMEOUT, OwnerLock};
use crate::token::{
    SoftHsmConfiguration, SoftHsmProblem, Token, TokenError, TokenId, TokenName, untrusted_file_reason,
};

/// The label of an emptied token: one that [`Module::discard_token`] initialized again, without a
/// PIN or objects. The next new token reuses it.
pub(super) const EMPTY_LABEL: &str = "tokenkeep empty";

/// A loaded PKCS#11 module. It stays loaded until the process exits; loading the same file again
/// returns the same module.
#[derive(Clone, Debug)]
pub struct Module {
    inner: Arc<LoadedModule>,
}

#[derive(Debug)]
struct LoadedModule {
    path: PathBuf,
    pkcs11: Pkcs11,
    raw: RawFunctions,
    // A token is opened once in a process.
    open: Mutex<HashMap<TokenId, WeakOpenToken>>,
    // Held shared by calls without an open token, exclusively while the module is restarted.
    running: RwLock<()>,
    // SoftHSM adds a free slot during a slot list call after the last one became a token. Two
    // concurrent calls add two slots with the same number and abort the process.
    listing: Mutex<()>,
    calls: CallCount,
    // The module was finalized and could not be initialized again, so every call to it fails.
    stopped: AtomicBool,
    module_state: ModuleState,
}

/// A token that this process has opened, as long as something uses it.
#[derive(Debug)]
struct WeakOpenToken {
    token: Weak<OpenToken>,
    // Alive until the sessions are closed. `token` ends before that.
    in_use: Weak<()>,
}

impl WeakOpenToken {
    fn of(token: &Token) -> Self {
        Self { token: Arc::downgrade(token.share()), in_use: Arc::downgrade(token.in_use()) }
    }

    fn token(&self) -> Option<Token> {
        self.token.upgrade().map(Token::from_shared)
    }

    /// Whether sessions of the token may be open or closing.
    fn has_sessions(&self) -> bool {
        self.token().map_or(self.in_use.strong_count() > 0, |token| !token.is_closed())
    }
}

/// A slot and the information of its token.
type SlotWithToken = (Slot, CkTokenInfo);

/// All loaded modules. A process may call `C_Initialize` of a module only once.
static LOADED: Mutex<Vec<Module>> = Mutex::new(Vec::new());

impl Module {
    /// Loads and initializes the module, once per process.
    pub fn load(path: &Path) -> Result<Self, TokenError> {
        let unusable = |reason: String, remedy: String| TokenError::Module { path: path.to_owned(), reason, remedy };
        let canonical = path
            .canonicalize()
            .map_err(|error| unusable(error.to_string(), "name another one with --module, or install it".to_owned()))?;
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(module) = loaded.iter().find(|module| module.inner.path == canonical) {
            return Ok(module.clone());
        }
        if let Some(reason) = untrusted_file_reason(&canonical) {
            let (reason, remedy) = reason.rsplit_once("; ").unwrap_or((&reason, "leave it out"));
            return Err(unusable(reason.to_owned(), remedy.to_owned()));
        }
        check::refuse_crashing_module(&canonical)?;
        let not_a_module =
            |error: Error| unusable(error.to_string(), "it must be the shared library of a PKCS#11 module".to_owned());
        let calls = CallCount::of(&canonical);
        let _loading = calls.begin();
        let pkcs11 = Pkcs11::new(&canonical).map_err(not_a_module)?;
        let raw = RawFunctions::load(&canonical).map_err(not_a_module)?;
        initialize(&pkcs11).map_err(|error| match softhsm_problem(&canonical) {
            Some(SoftHsmProblem { what, remedy }) => unusable(what, remedy),
            None => unusable(error.to_string(), start_remedy(&canonical)),
        })?;
        let inner = LoadedModule {
            path: canonical,
            pkcs11,
            raw,
            open: Mutex::default(),
            running: RwLock::new(()),
            listing: Mutex::default(),
            calls,
            stopped: AtomicBool::new(false),
            module_state: ModuleState::default(),
        };
        let module = Self { inner: Arc::new(inner) };
        loaded.push(module.clone());
        Ok(module)
    }

    /// The file of the module.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// All present initialized tokens, except emptied ones.
    pub fn tokens(&self) -> Result<Vec<TokenInfo>, TokenError> {
        let (slots, listed) = self.read_slots()?;
        let in_use = |info: &CkTokenInfo| info.token_initialized() && info.label().trim_end() != EMPTY_LABEL;
        let tokens: Vec<TokenInfo> =
            slots.iter().filter(|(_, info)| in_use(info)).map(|(slot, info)| self.token_info(*slot, info)).collect();
        self.module_state().note_seen(Some(listed).filter(|listed| listed.len() == slots.len()), &tokens);
        Ok(tokens)
    }

    /// Whether the module has card readers, and so notices insertions and removals itself. A module
    /// with software slots only (SoftHSM, Kryoptic) sees tokens of other processes only after
    /// [`Module::rescan`].
    pub fn has_readers(&self) -> Result<bool, TokenError> {
        if self.module_state().has_readers() {
            return Ok(true);
        }
        let _running = self.running();
        let slots = self.all_slots().map_err(|error| self.start_error(&error))?;
        let is_reader = |slot: &Slot| {
            self.inner.pkcs11.get_slot_info(*slot).is_ok_and(|info| info.hardware_slot() || info.removable_device())
        };
        // A module without any slot may wait for a reader.
        let has = slots.is_empty() || slots.iter().any(is_reader);
        self.module_state().note_readers(has);
        Ok(has)
    }

    /// Restarts the module (`C_Finalize`, `C_Initialize`), so that it sees tokens made by other
    /// processes. Does nothing while this process has a token of the module open, because that
    /// would end its sessions. Returns whether it restarted the module.
    pub fn rescan(&self) -> Result<bool, TokenError> {
        let mut open = self.open_tokens();
        let _stopped = self.stopping();
        open.retain(|_, opened| opened.has_sessions());
        if !open.is_empty() {
            return Ok(false);
        }
        // A changed configuration may make the module end the process that initializes it.
        check::refuse_crashing_module(self.path())?;
        // A module that failed to initialize before cannot be finalized either: initialize it
        // anyway.
        let ended = self.inner.pkcs11.clone().finalize();
        let result = match call_initialize(&self.inner.pkcs11) {
            // It was not finalized and is initialized as before.
            Err(error) if return_values::is(&error, RvError::CryptokiAlreadyInitialized) => ended,
            started => started,
        };
        self.inner.stopped.store(result.is_err(), Ordering::SeqCst);
        result.map_err(|error| self.start_error(&error))?;
        Ok(true)
    }

    /// Whether [`Module::rescan`] finalized the module and could not initialize it again. The
    /// missing part (its configuration, its token directory) may be back by now.
    pub fn is_stopped(&self) -> bool {
        self.inner.stopped.load(Ordering::SeqCst)
    }

    /// Finalizes the module in a process that no longer needs it.
    pub(in crate::token) fn stop(&self) -> Result<(), TokenError> {
        let _stopped = self.stopping();
        self.inner.pkcs11.clone().finalize().map_err(|error| self.start_error(&error))
    }

    /// Opens the token and takes ownership. Waits up to 5 s while another process owns it; the
    /// error then names that owner. A token that is already open in this process is returned again.
    /// If it was removed or initialized again since, it is opened again and is not logged in.
    pub fn open(&self, token: &TokenInfo) -> Result<Token, TokenError> {
        self.open_within(token, OWNER_TIMEOUT)
    }

    /// Like [`Module::open`], with this timeout: for listing all tokens, some of which other
    /// processes own.
    pub fn open_within(&self, token: &TokenInfo, timeout: Duration) -> Result<Token, TokenError> {
        let operation = "open the token";
        let (mut open, owner) = loop {
            let open = self.open_tokens();
            let Some(opened) = open.get(&token.id()).and_then(WeakOpenToken::token) else {
                // A lock file is named for a serial number. Another token with the same one (the
                // token before it was initialized again, for example) shares the lock.
                let others = open.values().filter_map(WeakOpenToken::token);
                let owner = others.map(|other| other.owner()).find(|owner| owner.is_of(self.path(), &token.name()));
                let acquire = || OwnerLock::acquire_within(self.path(), &token.name(), timeout).map(Arc::new);
                break (open, owner.map_or_else(acquire, Ok)?);
            };
            // This process holds the lock already.
            if opened.is_gone() {
                break (open, opened.owner());
            }
            // This may wait for an operation to end; let other threads open other tokens meanwhile.
            drop(open);
            if opened.is_present() {
                return Ok(opened);
            }
        };
        let opened = self.open_owned(operation, token, owner)?;
        open.insert(opened.info().id(), WeakOpenToken::of(&opened));
        Ok(opened)
    }

    /// Opens the token in a child of its owner, which waits for the child.
    pub(in crate::token) fn open_in_child(&self, token: &TokenInfo) -> Result<Token, TokenError> {
        self.open_owned("open the token", token, Arc::new(OwnerLock::held_by_parent()))
    }

    fn open_owned(
        &self,
        operation: &'static str,
        token: &TokenInfo,
        owner: Arc<OwnerLock>,
    ) -> Result<Token, TokenError> {
        let (slot, info) = self.slot_of(operation, token)?;
        let _call = self.calls().begin();
        Token::new(self.clone(), slot, self.token_info(slot, &info), pin_length_range(&info), owner)
            .map_err(|error| self.explain(operation, &token.name(), &error, || token.pin_state))
    }

    /// Whether this process has the token open.
    pub(super) fn has_open(&self, token: &TokenInfo) -> bool {
        self.open_tokens().get(&token.id()).is_some_and(|opened| opened.token.strong_count() > 0)
    }

    fn open_tokens(&self) -> MutexGuard<'_, HashMap<TokenId, WeakOpenToken>> {
        self.inner.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn token_info(&self, slot: Slot, info: &CkTokenInfo) -> TokenInfo {
        let text = |text: &str| text.trim_end().to_owned();
        let [label, serial] = [info.label(), info.serial_number()].map(text);
        let [manufacturer, model] = [info.manufacturer_id(), info.model()].map(text);
        let is_text = |text: &String| !text.contains(char::REPLACEMENT_CHARACTER);
        let non_utf8_names = if [&label, &serial, &manufacturer, &model].into_iter().all(is_text) {
            Vec::new()
        } else {
            let names = self.inner.raw.token_names(slot).into_iter().flatten();
            let names = names.filter(|(_, bytes)| std::str::from_utf8(bytes).is_err());
            names.map(|(attribute, bytes)| NonUtf8Name { attribute: attribute.to_owned(), bytes }).collect()
        };
        TokenInfo {
            label,
            serial,
            manufacturer,
            model,
            module: self.path().to_owned(),
            pin_state: pin_states_of(info).pin,
            write_protected: info.write_protected(),
            non_utf8_names,
        }
    }

    pub(super) fn pkcs11(&self) -> &Pkcs11 {
        &self.inner.pkcs11
    }

    pub(super) fn raw(&self) -> &RawFunctions {
        &self.inner.raw
    }

    /// The current description of the token in a slot.
    pub(super) fn read_token_info(&self, slot: Slot) -> CkResult<CkTokenInfo> {
        let _call = self.inner.calls.begin();
        return_values::retry_transient(|| self.inner.pkcs11.get_token_info(slot))
    }

    /// The slots with a token, initialized or not, and the information of each token.
    pub(super) fn slots(&self) -> Result<Vec<SlotWithToken>, TokenError> {
        Ok(self.read_slots()?.0)
    }

    /// Like `slots`, with all slots that hold a token, including unreadable ones.
    fn read_slots(&self) -> Result<(Vec<SlotWithToken>, Vec<Slot>), TokenError> {
        let _running = self.running();
        let slots = self.list_slots()?;
        // A token that is removed between the two calls is skipped.
        let found =
            slots.iter().filter_map(|slot| self.read_token_info(*slot).ok().map(|info| (*slot, info))).collect();
        if self.module_state().has_readers() {
            // OpenSC does not list a card to which another program is connected exclusively. Asked
            // for that slot, it returns CKR_DEVICE_ERROR.
            let all = self.all_slots().unwrap_or_default();
            let is_taken = |slot: &Slot| {
                !slots.contains(slot)
                    && self.read_token_info(*slot).is_err_and(|error| return_values::is(&error, RvError::DeviceError))
            };
            self.module_state().note_blocked_card(all.iter().any(is_taken));
        }
        Ok((found, slots))
    }

    pub(super) fn list_slots(&self) -> Result<Vec<Slot>, TokenError> {
        let failed = |error: Error| TokenError::Module {
            path: self.path().to_owned(),
            reason: error.to_string(),
            remedy: "check that its configuration still exists".to_owned(),
        };
        let _alone = self.inner.listing.lock().unwrap_or_else(PoisonError::into_inner);
        return_values::retry_transient(|| self.inner.pkcs11.get_slots_with_token()).map_err(failed)
    }

    /// All slots, including those without a token.
    pub(super) fn all_slots(&self) -> CkResult<Vec<Slot>> {
        let _alone = self.inner.listing.lock().unwrap_or_else(PoisonError::into_inner);
        return_values::retry_transient(|| self.inner.pkcs11.get_all_slots())
    }

    /// Prevents a restart of the module while a call without an open token holds this guard.
    pub(super) fn running(&self) -> Calling<RwLockReadGuard<'_, ()>> {
        Calling::under(self.inner.running.read().unwrap_or_else(PoisonError::into_inner), self.inner.calls)
    }

    /// Held while the module is finalized and initialized.
    fn stopping(&self) -> Calling<RwLockWriteGuard<'_, ()>> {
        Calling::under(self.inner.running.write().unwrap_or_else(PoisonError::into_inner), self.inner.calls)
    }

    /// The count of calls to this module.
    pub(super) fn calls(&self) -> CallCount {
        self.inner.calls
    }

    pub(super) fn module_state(&self) -> &ModuleState {
        &self.inner.module_state
    }

    pub(super) fn token_in(&self, slot: Slot) -> Result<TokenInfo, TokenError> {
        let slots = self.slots()?;
        let found = slots.iter().find(|(other, _)| *other == slot);
        found.map(|(_, info)| self.token_info(slot, info)).ok_or_else(|| TokenError::Absent {
            operation: "read the slot",
            token: TokenName { label: "new".to_owned(), serial: "unknown".to_owned() },
        })
    }

    pub(super) fn slot_of(
        &self,
        operation: &'static str,
        token: &TokenInfo,
    ) -> Result<(Slot, CkTokenInfo), TokenError> {
        self.slots()?
            .into_iter()
            .find(|(slot, info)| info.token_initialized() && self.token_info(*slot, info).id() == token.id())
            .ok_or_else(|| TokenError::Absent { operation, token: token.name() })
    }
}

/// Initializes the module, unless another part of this process has.
fn initialize(pkcs11: &Pkcs11) -> CkResult<()> {
    match call_initialize(pkcs11) {
        Err(error) if return_values::is(&error, RvError::CryptokiAlreadyInitialized) => Ok(()),
        result => result,
    }
}

/// Calls `C_Initialize`.
fn call_initialize(pkcs11: &Pkcs11) -> CkResult<()> {
    pkcs11.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK))
}

/// The reason why SoftHSM does not initialize, which it does not report itself. `None` for other
/// modules and for a valid configuration.
fn softhsm_problem(path: &Path) -> Option<SoftHsmProblem> {
    let is_softhsm = path.to_string_lossy().contains("softhsm");
    is_softhsm.then(|| SoftHsmConfiguration::of_this_process().err()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::test_support::{open_token, softhsm};

    #[test]
    fn a_module_restarts_only_after_dropped_tokens_close_sessions() {
        let token = open_token(&softhsm());
        let opened = WeakOpenToken::of(&token);
        let being_closed = Arc::clone(token.in_use());
        assert!(opened.has_sessions());
        drop(token);
        assert!(opened.token().is_none() && opened.has_sessions());
        drop(being_closed);
        assert!(!opened.has_sessions());
    }
}
