//! A loaded PKCS#11 module and its slots.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, Result as CkResult, RvError};
use cryptoki::slot::{Slot, TokenInfo as CkTokenInfo};

use super::call_counts::{CallCount, Calling};
use super::module_state::ModuleState;
use super::raw::RawFunctions;
use super::return_values;
use super::slot_info::pin_states_of;
use crate::token::check;
use crate::token::{NonUtf8Name, SoftHsmConfiguration, SoftHsmProblem, TokenError, TokenInfo, TokenName};

/// The label of an emptied token: one that [`TokenSource::discard_token`] initialized again,
/// without a PIN or objects. The next new token reuses it.
///
/// [`TokenSource::discard_token`]: crate::token::TokenSource::discard_token
pub(super) const EMPTY_LABEL: &str = "tokenkeep empty";

/// A loaded PKCS#11 module. It stays loaded until the process exits.
#[derive(Clone, Debug)]
pub struct Module {
    inner: Arc<LoadedModule>,
}

#[derive(Debug)]
struct LoadedModule {
    path: PathBuf,
    pkcs11: Pkcs11,
    raw: RawFunctions,
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

/// A slot and the information of its token.
type SlotWithToken = (Slot, CkTokenInfo);

impl Module {
    /// Loads and initializes this file, which no other [`Module`] of this process may have loaded.
    pub(super) fn initialized(path: PathBuf) -> Result<Self, TokenError> {
        let unusable = |reason: String, remedy: String| TokenError::Source { path: path.clone(), reason, remedy };
        let not_a_module =
            |error: Error| unusable(error.to_string(), "it must be the shared library of a PKCS#11 module".to_owned());
        let calls = CallCount::of(&path);
        let _loading = calls.begin();
        let pkcs11 = Pkcs11::new(&path).map_err(not_a_module)?;
        let raw = RawFunctions::load(&path).map_err(not_a_module)?;
        initialize(&pkcs11).map_err(|error| match softhsm_problem(&path) {
            Some(SoftHsmProblem { what, remedy }) => unusable(what, remedy),
            None => unusable(error.to_string(), start_remedy(&path)),
        })?;
        let inner = LoadedModule {
            path,
            pkcs11,
            raw,
            running: RwLock::new(()),
            listing: Mutex::default(),
            calls,
            stopped: AtomicBool::new(false),
            module_state: ModuleState::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
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
    /// [`TokenSource::rescan`].
    ///
    /// [`TokenSource::rescan`]: crate::token::TokenSource::rescan
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

    /// Whether [`TokenSource::rescan`] finalized the module and could not initialize it again. The
    /// missing part (its configuration, its token directory) may be back by now.
    ///
    /// [`TokenSource::rescan`]: crate::token::TokenSource::rescan
    pub fn is_stopped(&self) -> bool {
        self.inner.stopped.load(Ordering::SeqCst)
    }

    /// Finalizes the module and initializes it again. No session may be open.
    pub(super) fn restart(&self) -> Result<(), TokenError> {
        let _stopped = self.stopping();
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
        result.map_err(|error| self.start_error(&error))
    }

    fn start_error(&self, error: &Error) -> TokenError {
        TokenError::Source {
            path: self.path().to_owned(),
            reason: error.to_string(),
            remedy: start_remedy(self.path()),
        }
    }

    /// Finalizes the module in a process that no longer needs it.
    pub(in crate::token) fn stop(&self) -> Result<(), TokenError> {
        let _stopped = self.stopping();
        self.inner.pkcs11.clone().finalize().map_err(|error| self.start_error(&error))
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
            source: self.path().to_owned(),
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
        let failed = |error: Error| TokenError::Source {
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

/// The next step when a module cannot be initialized.
fn start_remedy(path: &Path) -> String {
    if path.to_string_lossy().contains("softhsm") {
        "check that SOFTHSM2_CONF names a configuration that you can read, and that its token directory exists"
            .to_owned()
    } else {
        "see the module's own documentation for its configuration".to_owned()
    }
}
