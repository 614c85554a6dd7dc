//! The client side, in the main worker: the last inventory of a module worker, and requests to it.

use std::io::ErrorKind;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use super::pins::PinsSeen;
use super::wire::{Failed, LONGEST, News, Reply, Request, Seen};
use crate::agent::act::Choice;
use crate::agent::{AgentError, LogOff, Peer, Usage, frame, handed};
use crate::keyset::{self, Elsewhere, FoundKeyset, KeysetError, NoPin, TokenTrouble};
use crate::token::{Pin, Signature, SignatureHash, TokenInfo};

/// Timeout for requests that block other clients. A module worker that has just started loads its
/// module first.
const PATIENCE: Duration = Duration::from_secs(3);

/// Timeout if it starts a process to read its tokens' PIN states, which may take half a minute.
const PATIENCE_WITH_PINS: Duration = Duration::from_secs(40);

/// Time after a timeout in which a module worker is not asked again for a listing.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(10);

/// Maximum number of idle connections kept for later signatures.
const KEPT: usize = 16;

/// A module worker, as the main worker sees it.
#[derive(Debug)]
pub struct Annex {
    module: PathBuf,
    corridor: UnixStream,
    seen: RwLock<Told>,
    pins: Mutex<PinsSeen>,
    idle: Mutex<Vec<UnixStream>>,
    // The time of its last timeout.
    silent: Mutex<Option<Instant>>,
    // The number of exits: an inventory from before an exit is not used after it.
    ended: AtomicU64,
    // True once an oversized inventory was logged.
    said_too_much: AtomicBool,
}

#[derive(Debug)]
enum Told {
    /// No inventory yet: the worker is starting.
    Nothing,
    This(Arc<Seen>),
    /// The worker exited and is being restarted.
    Ended,
    /// The worker keeps exiting and is not restarted.
    GivenUp,
}

impl Annex {
    /// For this module (a canonical path), with the main worker's end of its fd channel.
    pub fn new(module: PathBuf, corridor: UnixStream) -> Self {
        Self {
            module,
            corridor,
            seen: RwLock::new(Told::Nothing),
            pins: Mutex::default(),
            idle: Mutex::default(),
            silent: Mutex::default(),
            ended: AtomicU64::new(0),
            said_too_much: AtomicBool::new(false),
        }
    }

    /// Returns true if the token belongs to this module.
    pub fn has(&self, token: &TokenInfo) -> bool {
        self.module == token.module
    }

    /// Receives updates until the module worker exits. Returns false if it will not be restarted.
    pub(in crate::agent) fn follow(&self, mut told: impl FnMut(&Self, News)) -> bool {
        let mut stream = match self.new_connection() {
            Ok(stream) => stream,
            // The supervisor closed the fd channel; other errors are temporary.
            Err(error) => return !matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset),
        };
        let watch = Request::Watch {};
        if frame::write(&mut stream, &watch, b"", LONGEST).is_ok() {
            loop {
                match frame::read::<News>(&mut stream, watch.longest_answer()) {
                    Ok((News { seen, log_in }, _)) => {
                        let log_in = log_in.and_then(|change| change.of_module(&self.module));
                        told(self, News { seen, log_in });
                    }
                    Err(error) => {
                        self.say_if_too_long(&error);
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
    pub(in crate::agent) fn note(&self, seen: Seen) {
        let mut seen = self.bounded(seen);
        *self.silent() = None;
        let mut pins = self.pins();
        pins.correct(&mut seen.tokens);
        *self.seen.write().unwrap_or_else(PoisonError::into_inner) = Told::This(Arc::new(seen));
    }

    /// Stores only the PIN states; the rest of this inventory is as old as reading them took.
    pub(super) fn note_pins(&self, read: Seen) {
        let read = self.bounded(read);
        *self.silent() = None;
        let mut pins = self.pins();
        if let Told::This(seen) = &mut *self.seen.write().unwrap_or_else(PoisonError::into_inner) {
            pins.take(&read.tokens, &mut Arc::make_mut(seen).tokens);
        }
    }

    fn bounded(&self, seen: Seen) -> Seen {
        let locked = seen.locked;
        seen.of_module(&self.module).bounded().unwrap_or_else(|what| {
            self.say_too_much(&what);
            let message = format!(
                "cannot list the tokens of the module {}: its worker reported {what}; remove the module from \
                 agent.toml if you do not trust it",
                self.module.display()
            );
            Seen::nothing(keyset::ErrorKind::Refused, message, locked)
        })
    }

    /// Discards the inventory after an exit. Returns the tokens whose sessions ended with the
    /// worker.
    pub(in crate::agent) fn note_end(&self) -> Vec<TokenInfo> {
        self.ended.fetch_add(1, Ordering::SeqCst);
        self.idle().clear();
        let mut pins = self.pins();
        *pins = PinsSeen::default();
        let told = std::mem::replace(&mut *self.seen.write().unwrap_or_else(PoisonError::into_inner), Told::Ended);
        match told {
            Told::This(seen) => seen.logged_in.clone(),
            Told::Nothing | Told::Ended | Told::GivenUp => Vec::new(),
        }
    }

    /// Records that the worker will not be restarted.
    pub(in crate::agent) fn note_given_up(&self) {
        *self.seen.write().unwrap_or_else(PoisonError::into_inner) = Told::GivenUp;
    }

    /// Returns true if an inventory is known.
    pub(in crate::agent) fn is_there(&self) -> bool {
        self.told().is_some()
    }

    /// Requests an inventory. `again` requests a new search first, with `true` also of modules with
    /// readers.
    pub(in crate::agent) fn look(&self, again: Option<bool>) {
        self.look_for(PATIENCE, &Request::Look { again, pins: false }, Self::note);
    }

    /// Requests an inventory and then the current PIN states, for a listing of tokens.
    pub(in crate::agent) fn look_at_pins(&self) {
        // A worker that does not respond at all delays this by the shorter timeout only.
        self.look(None);
        self.look_for(PATIENCE_WITH_PINS, &Request::Look { again: None, pins: true }, Self::note_pins);
    }

    fn look_for(&self, patience: Duration, request: &Request, note: impl FnOnce(&Self, Seen)) {
        // A restarted worker sends its inventory itself.
        if matches!(*self.seen.read().unwrap_or_else(PoisonError::into_inner), Told::Ended | Told::GivenUp) {
            return;
        }
        // After a timeout, do not delay every listing.
        if self.silent().is_some_and(|since| since.elapsed() < TRY_AGAIN_AFTER) {
            return;
        }
        let ended = self.ended.load(Ordering::SeqCst);
        match self.ask_within(patience, "list the tokens", request) {
            Ok(Reply::Told(seen)) if ended == self.ended.load(Ordering::SeqCst) => note(self, seen),
            Ok(_) => {}
            Err(error) => tracing::warn!("{error}"),
        }
    }

    /// The tokens with an active session.
    pub(in crate::agent) fn logged_in(&self) -> Vec<TokenInfo> {
        self.told().map(|seen| seen.logged_in.clone()).unwrap_or_default()
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
        let request = Request::Sign { spki: spki.into(), hash, data: data.into(), usage: usage.clone() };
        match self.ask(operation, &request)? {
            Reply::Signature(signature) => Ok(Signature::from_bytes(signature.into_vec())),
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
        let request = Request::LogIn { keyset: Choice::of(keyset), usage: usage.clone(), attended };
        let pin = pin.map_or("", Pin::as_str);
        let mut stream = self.connect("log in")?;
        frame::write(&mut stream, &request, pin.as_bytes(), LONGEST).map_err(|_| self.ended("log in"))?;
        self.read_for("log in", &mut stream, &request)?;
        self.forget_pin(&keyset.token);
        self.look(None);
        Ok(())
    }

    /// Records a correct PIN for this token, which makes the PIN state read before out of date.
    pub(in crate::agent) fn note_right_pin(&self, token: &TokenInfo) {
        if self.forget_pin(token) {
            self.look(None);
        }
    }

    /// Discards the PIN state read before; returns true if there was one. The next inventory
    /// supplies it.
    pub(in crate::agent) fn forget_pin(&self, token: &TokenInfo) -> bool {
        self.pins().forget(token)
    }

    /// Limits a session to `longest` from now.
    pub(in crate::agent) fn bound_log_in(&self, token: &TokenInfo, longest: Duration) {
        let request = Request::Bound { token: token.clone(), seconds: longest.as_secs() };
        or_say(self.ask_soon("limit the session", &request));
    }

    /// Ends the session on this token, or all; returns the number ended.
    pub(in crate::agent) fn log_off(&self, token: Option<&TokenInfo>, why: LogOff) -> usize {
        if self.told().is_none() {
            return 0;
        }
        let reply = self.ask_soon("log off", &Request::LogOff { token: token.cloned(), why });
        let ended = or_say(reply).map_or(0, |reply| if let Reply::Ended(count) = reply { count } else { 0 });
        self.look(None);
        ended
    }

    /// Locks the module worker, which stops its operations; or unlocks it.
    pub(in crate::agent) fn lock(&self, locked: bool) {
        // A worker that exited or does not respond is locked when it sends its next inventory.
        if self.told().is_some_and(|seen| seen.locked != locked) {
            or_say(self.ask_soon("lock the agent", &Request::Lock { locked }));
            self.look(None);
        }
    }

    /// Returns true if the module can create a token.
    ///
    /// # Errors
    /// The module worker does not reply, or cannot list its tokens.
    pub(in crate::agent) fn has_room(&self) -> Result<bool, AgentError> {
        self.tokens()?;
        Ok(matches!(self.ask_soon("check for a free slot", &Request::Room {})?, Reply::Room(true)))
    }

    /// A connection for operations in the agent's HTTP API, on behalf of this peer.
    ///
    /// # Errors
    /// The fd channel is closed because the worker is not restarted.
    pub(in crate::agent) fn door(&self, peer: Peer) -> Result<UnixStream, AgentError> {
        const OPERATION: &str = "reach the module worker";
        let mut stream = self.connect(OPERATION)?;
        frame::write(&mut stream, &Request::Serve { peer }, b"", LONGEST).map_err(|_| self.ended(OPERATION))?;
        Ok(stream)
    }

    /// The error for a worker that exited before it replied.
    pub(in crate::agent) fn ended(&self, operation: &'static str) -> AgentError {
        AgentError::WorkerEnded { operation, module: self.module.clone() }
    }

    /// Logs an oversized inventory once.
    fn say_too_much(&self, what: &str) {
        if !self.said_too_much.swap(true, Ordering::Relaxed) {
            tracing::warn!(module = %self.module.display(), "a module worker reported {what}: rejected");
        }
    }

    fn say_if_too_long(&self, error: &std::io::Error) {
        if error.kind() == ErrorKind::InvalidData {
            self.say_too_much("a reply that is too long or malformed");
        }
    }

    fn told(&self) -> Option<Arc<Seen>> {
        match &*self.seen.read().unwrap_or_else(PoisonError::into_inner) {
            Told::This(seen) => Some(Arc::clone(seen)),
            Told::Nothing | Told::Ended | Told::GivenUp => None,
        }
    }

    fn pins(&self) -> MutexGuard<'_, PinsSeen> {
        self.pins.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn silent(&self) -> MutexGuard<'_, Option<Instant>> {
        self.silent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn idle(&self) -> MutexGuard<'_, Vec<UnixStream>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connect(&self, operation: &'static str) -> Result<UnixStream, AgentError> {
        self.new_connection().map_err(|error| AgentError::System {
            operation,
            reason: format!("the worker of the module {} is not running ({error})", self.module.display()),
        })
    }

    /// Opens a connection. While the module worker restarts, the connection waits in the fd
    /// channel.
    fn new_connection(&self) -> std::io::Result<UnixStream> {
        let (ours, theirs) = UnixStream::pair()?;
        handed::give(&self.corridor, &[theirs.as_fd()])?;
        Ok(ours)
    }

    /// Sends a request and waits as long as a person may take to answer.
    fn ask(&self, operation: &'static str, request: &Request) -> Result<Reply, AgentError> {
        let kept = self.idle().pop();
        let (mut stream, is_new) = match kept {
            Some(stream) => (stream, false),
            None => (self.connect(operation)?, true),
        };
        match frame::write(&mut stream, request, b"", LONGEST) {
            Ok(()) => {}
            // The connection belonged to the previous worker, which read nothing of this request.
            Err(error) if !is_new && error.kind() == ErrorKind::BrokenPipe => {
                stream = self.connect(operation)?;
                frame::write(&mut stream, request, b"", LONGEST).map_err(|_| self.ended(operation))?;
            }
            Err(_) => return Err(self.ended(operation)),
        }
        let reply = self.read_for(operation, &mut stream, request);
        let mut idle = self.idle();
        // If the client stopped waiting, this connection's reply is still to come: drop it.
        if !matches!(reply, Err(AgentError::WorkerEnded { .. } | AgentError::Keyset(KeysetError::NoPin { .. })))
            && idle.len() < KEPT
        {
            idle.push(stream);
        }
        drop(idle);
        reply
    }

    /// Sends a request that needs no person.
    fn ask_soon(&self, operation: &'static str, request: &Request) -> Result<Reply, AgentError> {
        self.ask_within(PATIENCE, operation, request)
    }

    fn ask_within(&self, patience: Duration, operation: &'static str, request: &Request) -> Result<Reply, AgentError> {
        let mut stream = self.connect(operation)?;
        // Setting the timeout cannot fail on an open socket.
        let _ = stream.set_read_timeout(Some(patience));
        frame::write(&mut stream, request, b"", LONGEST).map_err(|_| self.ended(operation))?;
        self.read(operation, &mut stream, request)
    }

    /// Reads the reply while the client waits for it.
    fn read_for(
        &self,
        operation: &'static str,
        stream: &mut UnixStream,
        request: &Request,
    ) -> Result<Reply, AgentError> {
        if let Request::Sign { usage, .. } | Request::LogIn { usage, .. } = request
            && !usage.client.waits_for(stream)
        {
            // The module worker sees this and withdraws its prompt.
            let _ = stream.shutdown(Shutdown::Both);
            return Err(KeysetError::NoPin { operation, token: None, reason: NoPin::Withdrawn }.into());
        }
        self.read(operation, stream, request)
    }

    fn read(&self, operation: &'static str, stream: &mut UnixStream, request: &Request) -> Result<Reply, AgentError> {
        match frame::read::<Reply>(stream, request.longest_answer()) {
            Ok((Reply::Failed(Failed { kind, message }), _)) => Err(KeysetError::Told { kind, message }.into()),
            Ok((reply, _)) => Ok(reply),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                *self.silent() = Some(Instant::now());
                let reason = format!("the worker of the module {} does not respond", self.module.display());
                Err(AgentError::System { operation, reason })
            }
            Err(error) => {
                self.say_if_too_long(&error);
                Err(self.ended(operation))
            }
        }
    }
}

fn or_say(reply: Result<Reply, AgentError>) -> Option<Reply> {
    reply.inspect_err(|error| tracing::warn!("{error}")).ok()
}

impl Elsewhere for Annex {
    fn module(&self) -> &Path {
        &self.module
    }

    fn tokens(&self) -> Result<Vec<TokenInfo>, KeysetError> {
        let why = match &*self.seen.read().unwrap_or_else(PoisonError::into_inner) {
            Told::This(seen) => return seen.tokens(),
            Told::Nothing | Told::Ended => "its worker is starting; try again in a moment",
            Told::GivenUp => {
                "its worker keeps exiting and is not restarted; check the module with `tokenkeep doctor`, then restart \
                 the agent (`tokenkeep agent stop`)"
            }
        };
        let message = format!("cannot list the tokens of the module {}: {why}", self.module.display());
        Err(KeysetError::Told { kind: keyset::ErrorKind::Absent, message })
    }

    fn keysets(&self) -> (Vec<FoundKeyset>, Vec<TokenTrouble>) {
        self.told().map(|seen| seen.keysets()).unwrap_or_default()
    }
}
