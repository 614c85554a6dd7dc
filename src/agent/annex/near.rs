//! The worker's end: what an annex has told last, and what it is asked.

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

/// How long an annex may take for what others wait for, too. One that has just been started loads its module first.
const PATIENCE: Duration = Duration::from_secs(3);

/// The same where it has a process of its own look at its tokens, which may take half a minute.
const PATIENCE_WITH_PINS: Duration = Duration::from_secs(40);

/// One that did not answer is not waited for again before this.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(10);

/// Connections that are kept for the next signature.
const KEPT: usize = 16;

/// An annex, as the worker sees it.
#[derive(Debug)]
pub struct Annex {
    module: PathBuf,
    corridor: UnixStream,
    seen: RwLock<Told>,
    pins: Mutex<PinsSeen>,
    idle: Mutex<Vec<UnixStream>>,
    // When it did not answer what others wait for.
    silent: Mutex<Option<Instant>>,
    // How many have ended: what one has told is not believed of the next.
    ended: AtomicU64,
    // Was it said that it tells more than is taken?
    said_too_much: AtomicBool,
}

#[derive(Debug)]
enum Told {
    /// Nothing yet: it is being started.
    Nothing,
    This(Arc<Seen>),
    /// It has ended; another one is being started.
    Ended,
    /// It has ended again and again; no other one is started.
    GivenUp,
}

impl Annex {
    /// The annex for this module (a path without links), at the other end of this corridor.
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

    /// Does it have the tokens of this module?
    pub fn has(&self, token: &TokenInfo) -> bool {
        self.module == token.module
    }

    /// Follows what changes, until the annex ends. Says whether there will be another one.
    pub(in crate::agent) fn follow(&self, mut told: impl FnMut(&Self, News)) -> bool {
        let mut stream = match self.new_connection() {
            Ok(stream) => stream,
            // The broker has closed the corridor; anything else is only for now.
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

    /// Takes what it has told, as of its own module: it cannot speak for another's tokens. What is too much is not taken at
    /// all: a part of it must not pass for the whole.
    pub(in crate::agent) fn note(&self, seen: Seen) {
        let mut seen = self.bounded(seen);
        *self.silent() = None;
        let mut pins = self.pins();
        pins.correct(&mut seen.tokens);
        *self.seen.write().unwrap_or_else(PoisonError::into_inner) = Told::This(Arc::new(seen));
    }

    /// Takes only what its tokens say of their PINs: what else it tells with that is as old as the look took.
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
                "cannot list the tokens of the module {}: its worker tells of {what}; take it out of agent.toml if it is \
                 not what it should be",
                self.module.display()
            );
            Seen::nothing(keyset::ErrorKind::Refused, message, locked)
        })
    }

    /// Forgets what it has told: it has ended. The log-ins that are over with it.
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

    /// No other one is started.
    pub(in crate::agent) fn note_given_up(&self) {
        *self.seen.write().unwrap_or_else(PoisonError::into_inner) = Told::GivenUp;
    }

    /// Is it known what is there?
    pub(in crate::agent) fn is_there(&self) -> bool {
        self.told().is_some()
    }

    /// Has it tell what is there; `again`: after having looked anew, also through readers if so.
    pub(in crate::agent) fn look(&self, again: Option<bool>) {
        self.look_for(PATIENCE, &Request::Look { again, pins: false }, Self::note);
    }

    /// The same, with what its tokens say of their PINs now: for whoever lists tokens.
    pub(in crate::agent) fn look_at_pins(&self) {
        // One that does not answer at all is waited for no longer than by others.
        self.look(None);
        self.look_for(PATIENCE_WITH_PINS, &Request::Look { again: None, pins: true }, Self::note_pins);
    }

    fn look_for(&self, patience: Duration, request: &Request, note: impl FnOnce(&Self, Seen)) {
        // One that has ended tells by itself when there is another one.
        if matches!(*self.seen.read().unwrap_or_else(PoisonError::into_inner), Told::Ended | Told::GivenUp) {
            return;
        }
        // Nor is one that did not answer just now waited for by everybody who lists.
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

    /// The tokens to which a log-in stands.
    pub(in crate::agent) fn logged_in(&self) -> Vec<TokenInfo> {
        self.told().map(|seen| seen.logged_in.clone()).unwrap_or_default()
    }

    /// Signs as the key's level wants it.
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

    /// Logs in for a keyset, with the PIN that somebody has typed for it, else one that the annex asks for.
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

    /// A PIN of this token was right: what was read of it before is out of date.
    pub(in crate::agent) fn note_right_pin(&self, token: &TokenInfo) {
        if self.forget_pin(token) {
            self.look(None);
        }
    }

    /// The same where it tells what is there next. Says whether anything was read before.
    pub(in crate::agent) fn forget_pin(&self, token: &TokenInfo) -> bool {
        self.pins().forget(token)
    }

    /// Lets a log-in stand no longer than this.
    pub(in crate::agent) fn bound_log_in(&self, token: &TokenInfo, longest: Duration) {
        let request = Request::Bound { token: token.clone(), seconds: longest.as_secs() };
        or_say(self.ask_soon("end a log-in in time", &request));
    }

    /// Ends the log-in to this token, or all; says how many ended.
    pub(in crate::agent) fn log_off(&self, token: Option<&TokenInfo>, why: LogOff) -> usize {
        if self.told().is_none() {
            return 0;
        }
        let reply = self.ask_soon("log off", &Request::LogOff { token: token.cloned(), why });
        let ended = or_say(reply).map_or(0, |reply| if let Reply::Ended(count) = reply { count } else { 0 });
        self.look(None);
        ended
    }

    /// Locks it, so that nothing is done there and an act that goes on stops; or unlocks it.
    pub(in crate::agent) fn lock(&self, locked: bool) {
        // One that has ended, or does not answer now, is told when it tells of itself.
        if self.told().is_some_and(|seen| seen.locked != locked) {
            or_say(self.ask_soon("lock the agent", &Request::Lock { locked }));
            self.look(None);
        }
    }

    /// Can a token be made there?
    ///
    /// # Errors
    /// It does not say.
    pub(in crate::agent) fn has_room(&self) -> Result<bool, AgentError> {
        self.tokens()?;
        Ok(matches!(self.ask_soon("look for room for a token", &Request::Room {})?, Reply::Room(true)))
    }

    /// A connection on which acts are asked for as at the agent's own API, for this peer.
    ///
    /// # Errors
    /// The annex is given up.
    pub(in crate::agent) fn door(&self, peer: Peer) -> Result<UnixStream, AgentError> {
        const OPERATION: &str = "reach the module's worker";
        let mut stream = self.connect(OPERATION)?;
        frame::write(&mut stream, &Request::Serve { peer }, b"", LONGEST).map_err(|_| self.ended(OPERATION))?;
        Ok(stream)
    }

    /// It has ended before it answered.
    pub(in crate::agent) fn ended(&self, operation: &'static str) -> AgentError {
        AgentError::WorkerEnded { operation, module: self.module.clone() }
    }

    /// In the log, once.
    fn say_too_much(&self, what: &str) {
        if !self.said_too_much.swap(true, Ordering::Relaxed) {
            tracing::warn!(module = %self.module.display(), "a module's worker tells of {what}: nothing of it is taken");
        }
    }

    fn say_if_too_long(&self, error: &std::io::Error) {
        if error.kind() == ErrorKind::InvalidData {
            self.say_too_much("more bytes than an answer may have, or what is none");
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
            reason: format!("the worker of the module {} does not run ({error})", self.module.display()),
        })
    }

    /// A new connection. While the annex is started anew it waits in the corridor.
    fn new_connection(&self) -> std::io::Result<UnixStream> {
        let (ours, theirs) = UnixStream::pair()?;
        handed::give(&self.corridor, &[theirs.as_fd()])?;
        Ok(ours)
    }

    /// Asks, and waits as long as a person may take to answer.
    fn ask(&self, operation: &'static str, request: &Request) -> Result<Reply, AgentError> {
        let kept = self.idle().pop();
        let (mut stream, is_new) = match kept {
            Some(stream) => (stream, false),
            None => (self.connect(operation)?, true),
        };
        match frame::write(&mut stream, request, b"", LONGEST) {
            Ok(()) => {}
            // Of the annex before this one: nothing of the request has been read.
            Err(error) if !is_new && error.kind() == ErrorKind::BrokenPipe => {
                stream = self.connect(operation)?;
                frame::write(&mut stream, request, b"", LONGEST).map_err(|_| self.ended(operation))?;
            }
            Err(_) => return Err(self.ended(operation)),
        }
        let reply = self.read_for(operation, &mut stream, request);
        let mut idle = self.idle();
        // One that a client was waited for no longer has its answer still to come.
        if !matches!(reply, Err(AgentError::WorkerEnded { .. } | AgentError::Keyset(KeysetError::NoPin { .. })))
            && idle.len() < KEPT
        {
            idle.push(stream);
        }
        drop(idle);
        reply
    }

    /// Asks for what an annex answers without a person.
    fn ask_soon(&self, operation: &'static str, request: &Request) -> Result<Reply, AgentError> {
        self.ask_within(PATIENCE, operation, request)
    }

    fn ask_within(&self, patience: Duration, operation: &'static str, request: &Request) -> Result<Reply, AgentError> {
        let mut stream = self.connect(operation)?;
        // A socket takes it as long as it is open.
        let _ = stream.set_read_timeout(Some(patience));
        frame::write(&mut stream, request, b"", LONGEST).map_err(|_| self.ended(operation))?;
        self.read(operation, &mut stream, request)
    }

    /// Reads the reply as long as the client waits for it.
    fn read_for(
        &self,
        operation: &'static str,
        stream: &mut UnixStream,
        request: &Request,
    ) -> Result<Reply, AgentError> {
        if let Request::Sign { usage, .. } | Request::LogIn { usage, .. } = request
            && !usage.client.waits_for(stream)
        {
            // The annex sees it, and asks nobody any more.
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
                let reason = format!("the worker of the module {} does not answer", self.module.display());
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
            Told::Nothing | Told::Ended => "its worker is being started; try again in a moment",
            Told::GivenUp => {
                "its worker has ended again and again and is given up; `tokenkeep doctor` looks at the module, and \
                 `tokenkeep agent stop` lets the agent start anew"
            }
        };
        let message = format!("cannot list the tokens of the module {}: {why}", self.module.display());
        Err(KeysetError::Told { kind: keyset::ErrorKind::Absent, message })
    }

    fn keysets(&self) -> (Vec<FoundKeyset>, Vec<TokenTrouble>) {
        self.told().map(|seen| seen.keysets()).unwrap_or_default()
    }
}
