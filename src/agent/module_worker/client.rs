//! The client side, in the main worker: the last inventory of a module worker, and requests to it.

use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use super::pins::KnownPinStates;
use super::requests::ANSWER_TIMEOUT;
use super::wire::{Inventory, MAX_REQUEST_BYTES, ModuleWorkerReply, ModuleWorkerRequest, StateUpdate};
use crate::agent::operation::WireKeysetChoice;
use crate::agent::{AgentError, LogOffReason, PeerProcess, Usage, frame};
use crate::keyset::{self, FoundKeyset, KeysetError, RemoteTokens, UnreadableToken};
use crate::token::{Pin, Signature, SignatureHash, TokenInfo};

/// Timeout if it starts a process to read its tokens' PIN states, which may take half a minute.
const PIN_STATES_TIMEOUT: Duration = Duration::from_secs(40);

/// Time after a timeout in which a module worker is not asked again for a listing.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// A module worker, as the main worker sees it.
#[derive(Debug)]
pub struct ModuleWorker {
    pub(super) module: PathBuf,
    pub(super) fd_channel: UnixStream,
    inventory: RwLock<InventoryState>,
    pins: Mutex<KnownPinStates>,
    idle: Mutex<Vec<UnixStream>>,
    // The time of its last timeout.
    unresponsive_since: Mutex<Option<Instant>>,
    // The number of exits: an inventory from before an exit is not used after it.
    ended: AtomicU64,
    // True once an oversized inventory was logged.
    has_logged_excess: AtomicBool,
}

#[derive(Debug)]
enum InventoryState {
    /// No inventory yet: the worker is starting.
    Nothing,
    This(Arc<Inventory>),
    /// The worker exited and is being restarted.
    Ended,
    /// The worker keeps exiting and is not restarted.
    GivenUp,
}

impl ModuleWorker {
    /// For this module (a canonical path), with the main worker's end of its fd channel.
    pub fn new(module: PathBuf, fd_channel: UnixStream) -> Self {
        Self {
            module,
            fd_channel,
            inventory: RwLock::new(InventoryState::Nothing),
            pins: Mutex::default(),
            idle: Mutex::default(),
            unresponsive_since: Mutex::default(),
            ended: AtomicU64::new(0),
            has_logged_excess: AtomicBool::new(false),
        }
    }

    /// Returns true if the token belongs to this module.
    pub fn has(&self, token: &TokenInfo) -> bool {
        self.module == token.module
    }

    /// Receives updates until the module worker exits. Returns false if it will not be restarted.
    pub(in crate::agent) fn follow(&self, mut handle: impl FnMut(&Self, StateUpdate)) -> bool {
        let mut stream = match self.open_connection() {
            Ok(stream) => stream,
            // The supervisor closed the fd channel; other errors are temporary.
            Err(error) => return !matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset),
        };
        let watch = ModuleWorkerRequest::Watch {};
        if frame::write(&mut stream, &watch, b"", MAX_REQUEST_BYTES).is_ok() {
            loop {
                match frame::read::<StateUpdate>(&mut stream, watch.max_reply_bytes()) {
                    Ok((StateUpdate { inventory, session_change }, _)) => {
                        let session_change = session_change.and_then(|change| change.attributed_to(&self.module));
                        handle(self, StateUpdate { inventory, session_change });
                    }
                    Err(error) => {
                        self.log_if_too_long(&error);
                        break;
                    }
                }
            }
        }
        true
    }

    /// Stores an inventory, with all tokens attributed to this module: a worker cannot report
    /// another module's tokens. An oversized inventory is rejected entirely, because a part must
    /// not pass for the whole.
    pub(in crate::agent) fn note(&self, inventory: Inventory) {
        let mut inventory = self.limited(inventory);
        *self.unresponsive_since() = None;
        let mut pins = self.pins();
        pins.correct(&mut inventory.tokens);
        *self.inventory.write().unwrap_or_else(PoisonError::into_inner) = InventoryState::This(Arc::new(inventory));
    }

    /// Stores only the PIN states; the rest of this inventory is as old as reading them took.
    pub(super) fn note_pins(&self, read: Inventory) {
        let read = self.limited(read);
        *self.unresponsive_since() = None;
        let mut pins = self.pins();
        if let InventoryState::This(inventory) = &mut *self.inventory.write().unwrap_or_else(PoisonError::into_inner) {
            pins.take(&read.tokens, &mut Arc::make_mut(inventory).tokens);
        }
    }

    fn limited(&self, inventory: Inventory) -> Inventory {
        let locked = inventory.locked;
        inventory.attributed_to(&self.module).within_limits().unwrap_or_else(|excess| {
            self.log_excess(&excess);
            let message = format!(
                "cannot list the tokens of the module {}: its worker reported {excess}; remove the module from \
                 agent.toml if you do not trust it",
                self.module.display()
            );
            Inventory::without_tokens(keyset::ErrorKind::Refused, message, locked)
        })
    }

    /// Discards the inventory after an exit. Returns the tokens whose sessions ended with the
    /// worker.
    pub(in crate::agent) fn note_end(&self) -> Vec<TokenInfo> {
        self.ended.fetch_add(1, Ordering::SeqCst);
        self.idle().clear();
        let mut pins = self.pins();
        *pins = KnownPinStates::default();
        let last = std::mem::replace(
            &mut *self.inventory.write().unwrap_or_else(PoisonError::into_inner),
            InventoryState::Ended,
        );
        match last {
            InventoryState::This(inventory) => inventory.logged_in.clone(),
            InventoryState::Nothing | InventoryState::Ended | InventoryState::GivenUp => Vec::new(),
        }
    }

    /// Records that the worker will not be restarted.
    pub(in crate::agent) fn note_given_up(&self) {
        *self.inventory.write().unwrap_or_else(PoisonError::into_inner) = InventoryState::GivenUp;
    }

    /// Returns true if an inventory is known.
    pub(in crate::agent) fn has_inventory(&self) -> bool {
        self.current_inventory().is_some()
    }

    /// Requests an inventory. `rescan` is that of
    /// [`ModuleWorkerRequest::ReadInventory`].
    pub(in crate::agent) fn refresh(&self, rescan: Option<bool>) {
        self.request_inventory(
            ANSWER_TIMEOUT,
            &ModuleWorkerRequest::ReadInventory { rescan, pin_states: false },
            Self::note,
        );
    }

    /// Requests an inventory and then the current PIN states, for a listing of tokens.
    pub(in crate::agent) fn refresh_pin_states(&self) {
        // A worker that does not respond at all delays this by the shorter timeout only.
        self.refresh(None);
        self.request_inventory(
            PIN_STATES_TIMEOUT,
            &ModuleWorkerRequest::ReadInventory { rescan: None, pin_states: true },
            Self::note_pins,
        );
    }

    fn request_inventory(&self, timeout: Duration, request: &ModuleWorkerRequest, note: impl FnOnce(&Self, Inventory)) {
        // A restarted worker sends its inventory itself.
        if matches!(
            *self.inventory.read().unwrap_or_else(PoisonError::into_inner),
            InventoryState::Ended | InventoryState::GivenUp
        ) {
            return;
        }
        // After a timeout, do not delay every listing.
        if self.unresponsive_since().is_some_and(|since| since.elapsed() < RETRY_AFTER) {
            return;
        }
        let ended = self.ended.load(Ordering::SeqCst);
        match self.ask_within(timeout, "list the tokens", request) {
            Ok(ModuleWorkerReply::Inventory(inventory)) if ended == self.ended.load(Ordering::SeqCst) => {
                note(self, inventory);
            }
            Ok(_) => {}
            Err(error) => tracing::warn!("{error}"),
        }
    }

    /// The tokens with an active session.
    pub(in crate::agent) fn logged_in(&self) -> Vec<TokenInfo> {
        self.current_inventory().map(|inventory| inventory.logged_in.clone()).unwrap_or_default()
    }

    /// Signs as the key's level requires.
    pub(in crate::agent) fn sign(
        &self,
        spki: &[u8],
        hash: SignatureHash,
        data: &[u8],
        usage: &Usage,
    ) -> Result<Signature, AgentError> {
        let operation = usage.purpose.operation();
        let request = ModuleWorkerRequest::Sign { spki: spki.into(), hash, data: data.into(), usage: usage.clone() };
        match self.ask(operation, &request)? {
            ModuleWorkerReply::Signature(signature) => Ok(Signature::from_bytes(signature.into_vec())),
            _ => Err(self.ended(operation)),
        }
    }

    /// Logs in for a keyset, with the given PIN or one that the module worker asks for.
    pub(in crate::agent) fn log_in(
        &self,
        keyset: &FoundKeyset,
        pin: Option<&Pin>,
        usage: &Usage,
    ) -> Result<(), AgentError> {
        let attended = pin.is_none_or(Pin::is_attended);
        let request =
            ModuleWorkerRequest::LogIn { keyset: WireKeysetChoice::of(keyset), usage: usage.clone(), attended };
        let pin = pin.map_or("", Pin::as_str);
        let mut stream = self.connect("log in")?;
        frame::write(&mut stream, &request, pin.as_bytes(), MAX_REQUEST_BYTES).map_err(|_| self.ended("log in"))?;
        self.read_for("log in", &mut stream, &request)?;
        self.forget_pin(&keyset.token);
        self.refresh(None);
        Ok(())
    }

    /// Records a correct PIN for this token, which makes the PIN state read before out of date.
    pub(in crate::agent) fn note_right_pin(&self, token: &TokenInfo) {
        if self.forget_pin(token) {
            self.refresh(None);
        }
    }

    /// Discards the PIN state read before; returns true if there was one. The next inventory
    /// supplies it.
    pub(in crate::agent) fn forget_pin(&self, token: &TokenInfo) -> bool {
        self.pins().forget(token)
    }

    /// Limits a session to `longest` from now.
    pub(in crate::agent) fn limit_session(&self, token: &TokenInfo, longest: Duration) {
        let request = ModuleWorkerRequest::LimitSession { token: token.clone(), seconds: longest.as_secs() };
        ok_or_log(self.ask_soon("limit the session", &request));
    }

    /// Ends the session on this token, or all; returns the number ended.
    pub(in crate::agent) fn log_off(&self, token: Option<&TokenInfo>, reason: LogOffReason) -> usize {
        if self.current_inventory().is_none() {
            return 0;
        }
        let reply = self.ask_soon("log off", &ModuleWorkerRequest::LogOff { token: token.cloned(), reason });
        let ended =
            ok_or_log(reply).map_or(0, |reply| if let ModuleWorkerReply::Ended(count) = reply { count } else { 0 });
        self.refresh(None);
        ended
    }

    /// Locks the module worker, which stops its operations; or unlocks it.
    pub(in crate::agent) fn lock(&self, locked: bool) {
        // A worker that exited or does not respond is locked when it sends its next inventory.
        if self.current_inventory().is_some_and(|inventory| inventory.locked != locked) {
            ok_or_log(self.ask_soon("lock the agent", &ModuleWorkerRequest::Lock { locked }));
            self.refresh(None);
        }
    }

    /// Returns true if the module can create a token.
    ///
    /// # Errors
    /// The module worker does not reply, or cannot list its tokens.
    pub(in crate::agent) fn has_free_slot(&self) -> Result<bool, AgentError> {
        self.tokens()?;
        Ok(matches!(
            self.ask_soon("check for a free slot", &ModuleWorkerRequest::FreeSlot {})?,
            ModuleWorkerReply::FreeSlot(true)
        ))
    }

    /// A connection for operations in the agent's HTTP API, on behalf of this peer.
    ///
    /// # Errors
    /// The fd channel is closed because the worker is not restarted.
    pub(in crate::agent) fn connect_api(&self, peer: PeerProcess) -> Result<UnixStream, AgentError> {
        const OPERATION: &str = "reach the module worker";
        let mut stream = self.connect(OPERATION)?;
        frame::write(&mut stream, &ModuleWorkerRequest::Serve { peer }, b"", MAX_REQUEST_BYTES)
            .map_err(|_| self.ended(OPERATION))?;
        Ok(stream)
    }

    /// The error for a worker that exited before it replied.
    pub(in crate::agent) fn ended(&self, operation: &'static str) -> AgentError {
        AgentError::WorkerEnded { operation, module: self.module.clone() }
    }

    /// Logs an oversized inventory once.
    fn log_excess(&self, excess: &str) {
        if !self.has_logged_excess.swap(true, Ordering::Relaxed) {
            tracing::warn!(module = %self.module.display(), "a module worker reported {excess}: rejected");
        }
    }

    pub(super) fn log_if_too_long(&self, error: &std::io::Error) {
        if error.kind() == ErrorKind::InvalidData {
            self.log_excess("a reply that is too long or malformed");
        }
    }

    fn current_inventory(&self) -> Option<Arc<Inventory>> {
        match &*self.inventory.read().unwrap_or_else(PoisonError::into_inner) {
            InventoryState::This(inventory) => Some(Arc::clone(inventory)),
            InventoryState::Nothing | InventoryState::Ended | InventoryState::GivenUp => None,
        }
    }

    fn pins(&self) -> MutexGuard<'_, KnownPinStates> {
        self.pins.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn unresponsive_since(&self) -> MutexGuard<'_, Option<Instant>> {
        self.unresponsive_since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn idle(&self) -> MutexGuard<'_, Vec<UnixStream>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn ok_or_log(reply: Result<ModuleWorkerReply, AgentError>) -> Option<ModuleWorkerReply> {
    reply.inspect_err(|error| tracing::warn!("{error}")).ok()
}

impl RemoteTokens for ModuleWorker {
    fn module(&self) -> &Path {
        &self.module
    }

    fn tokens(&self) -> Result<Vec<TokenInfo>, KeysetError> {
        let reason = match &*self.inventory.read().unwrap_or_else(PoisonError::into_inner) {
            InventoryState::This(inventory) => return inventory.tokens(),
            InventoryState::Nothing | InventoryState::Ended => "its worker is starting; try again in a moment",
            InventoryState::GivenUp => {
                "its worker keeps exiting and is not restarted; check the module with `tokenkeep doctor`, then restart \
                 the agent (`tokenkeep agent stop`)"
            }
        };
        let message = format!("cannot list the tokens of the module {}: {reason}", self.module.display());
        Err(KeysetError::Remote { kind: keyset::ErrorKind::Absent, message })
    }

    fn keysets(&self) -> (Vec<FoundKeyset>, Vec<UnreadableToken>) {
        self.current_inventory().map(|inventory| inventory.keysets()).unwrap_or_default()
    }
}
