//! The supervisor: the process that a user starts as `tokenkeep agent`. It holds the sockets,
//! identifies the client programs, prompts the person, and keeps one worker running.
//!
//! It must never load a PKCS#11 module, never read what a client sends, and never keep a PIN: a PIN
//! goes from the prompt straight into the link. It exits on SIGTERM, SIGINT and SIGHUP; the worker
//! logs off first and exits with it.

mod module_crashes;
mod programs;
mod prompt_queue;
mod running_worker;

use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use sd_notify::NotifyState;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

pub use prompt_queue::PromptConfig;

use super::process_error::AgentProcessError;
use super::sockets::{Endpoint, InstanceLock, Socket, SocketDirectory};
use crate::token;
use module_crashes::ModuleCrashes;
use prompt_queue::PromptQueue;
use running_worker::{RunningWorker, SupervisorEvent};

/// Time that the worker gets to log off when the agent exits.
const LOG_OFF_TIMEOUT: Duration = Duration::from_secs(3);

/// A worker that ran at least this long did not fail during startup.
const STABLE_AFTER: Duration = Duration::from_mins(1);

/// Number of consecutive failures after which a worker is not restarted.
const MAX_FAILURES: u32 = 12;

/// First and longest delay before a worker is restarted; the delay doubles each time.
const RESTART_DELAYS: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(10));

/// Argument before each module that a worker must not load.
pub const WITHOUT_FLAG: &str = "--without";

/// Argument of a worker that replaces an earlier one.
pub const RESTARTED_FLAG: &str = "--again";

/// The supervisor's configuration.
pub struct SupervisorConfig {
    /// the directory of the sockets
    pub directory: SocketDirectory,
    /// the listeners for SSH and for the API that systemd passed, if any
    pub inherited: [Option<UnixListener>; 2],
    /// arguments of the worker, without the program
    pub worker: Vec<OsString>,
    /// the PKCS#11 modules that the worker loads
    pub modules: Vec<PathBuf>,
    /// how to prompt the person
    pub person: PromptConfig,
    /// the file that lists the keysets hidden on this machine
    pub hidden: Option<PathBuf>,
}

/// The report to the program that started the agent, sent when the agent is ready.
#[derive(Clone, Debug)]
pub struct StartupReport {
    /// path of the SSH agent's socket
    pub ssh: Option<PathBuf>,
    /// path of the API's socket
    pub api: Option<PathBuf>,
    /// how the worker is sandboxed
    pub sandbox: String,
}

/// Serves until a signal arrives; calls `announce` once, when connections are accepted for the
/// first time.
///
/// # Errors
/// [`AgentProcessError`]: another agent is running, the sockets cannot be created, or no worker
/// stays up.
pub fn run(setup: SupervisorConfig, announce: impl FnOnce(&StartupReport)) -> Result<(), AgentProcessError> {
    let (sender, events) = channel();
    watch_signals(sender.clone())?;
    rustix::thread::set_no_new_privs(true)
        .map_err(|error| AgentProcessError::System { operation: "set no_new_privs", source: error.into() })?;
    let instance_lock = setup.directory.lock_instance()?;
    let [ssh, api] = setup.inherited;
    let sockets = [socket(&instance_lock, Endpoint::Ssh, ssh)?, socket(&instance_lock, Endpoint::Api, api)?];
    // A user who restarts the agent may have typed wrong PINs before: do not count them for its
    // prompts.
    token::forget_wrong_pins_in_a_row();
    let questions = PromptQueue::start_queue(setup.person)?.with_modules(&setup.modules);
    let questions = questions.with_hidden_list(setup.hidden);
    let crashes = ModuleCrashes::of(setup.modules);
    let supervisor = Supervisor { sockets, worker: setup.worker, crashes, questions, sender };
    supervisor.serve(&events, announce)
}

fn socket(
    instance_lock: &InstanceLock,
    endpoint: Endpoint,
    inherited: Option<UnixListener>,
) -> Result<Socket, AgentProcessError> {
    inherited.map_or_else(|| instance_lock.bind(endpoint), |listener| Ok(Socket::inherited(listener)))
}

struct Supervisor {
    sockets: [Socket; 2],
    worker: Vec<OsString>,
    crashes: ModuleCrashes,
    questions: PromptQueue,
    sender: Sender<SupervisorEvent>,
}

impl Supervisor {
    fn serve(
        mut self,
        events: &Receiver<SupervisorEvent>,
        announce: impl FnOnce(&StartupReport),
    ) -> Result<(), AgentProcessError> {
        let mut announce = Some(announce);
        let mut failures = 0;
        loop {
            let started = Instant::now();
            let worker = self.start_worker(announce.is_none())?;
            let status = loop {
                // The sender outlives the receiver.
                match events.recv().unwrap_or(SupervisorEvent::Signal(SIGTERM)) {
                    SupervisorEvent::Signal(signal) => {
                        log_shutdown(signal);
                        end(&worker, events);
                        return Ok(());
                    }
                    SupervisorEvent::Ready { worker: id, sandbox } => {
                        tracing::info!(worker = id, sandbox, "the worker accepts connections");
                        if let Some(announce) = announce.take() {
                            announce(&self.open(sandbox));
                            notify(&[NotifyState::Ready]);
                        }
                    }
                    SupervisorEvent::Exited { status, .. } => break status,
                }
            };
            let called = self.crashes.note_exit(status);
            if announce.is_some() {
                return Err(AgentProcessError::Worker { status, called });
            }
            failures = if started.elapsed() > STABLE_AFTER { 1 } else { failures + 1 };
            if failures >= MAX_FAILURES {
                return Err(AgentProcessError::WorkerCrashLoop { times: failures, status, called });
            }
            tracing::warn!(
                "the worker exited ({status}{called}): all connections are closed, and PINs must be entered again; \
                 restarting it"
            );
            if let Some(SupervisorEvent::Signal(signal)) =
                wait_for(events, restart_delay(failures), |event| matches!(event, SupervisorEvent::Signal(_)))
            {
                log_shutdown(signal);
                return Ok(());
            }
        }
    }

    /// `again` is true for a replacement: it must not end the agent because its modules have failed
    /// since.
    fn start_worker(&mut self, again: bool) -> Result<RunningWorker, AgentProcessError> {
        let calls = self.crashes.begin_run();
        let [ssh, api] = &self.sockets;
        let listeners = [ssh.listener.as_fd(), api.listener.as_fd()];
        let sockets: Vec<_> = listeners.into_iter().chain(calls.as_ref().map(AsFd::as_fd)).collect();
        let mut arguments = self.worker.clone();
        arguments.extend(self.crashes.left_out().flat_map(|module| [WITHOUT_FLAG.into(), module.into()]));
        arguments.extend(again.then(|| RESTARTED_FLAG.into()));
        RunningWorker::start(&arguments, &sockets, &self.questions, self.sender.clone())
    }

    fn open(&self, sandbox: String) -> StartupReport {
        let [ssh, api] = &self.sockets;
        StartupReport { ssh: ssh.path(), api: api.path(), sandbox }
    }
}

fn log_shutdown(signal: i32) {
    tracing::info!(signal, "shutting down");
    notify(&[NotifyState::Stopping]);
}

/// Delay after this many consecutive failures.
fn restart_delay(failures: u32) -> Duration {
    let (first, longest) = RESTART_DELAYS;
    first.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1))).min(longest)
}

/// Tells the worker to log off, and kills it if it does not exit in time.
fn end(worker: &RunningWorker, events: &Receiver<SupervisorEvent>) {
    worker.close_link();
    let is_exit = |event: &SupervisorEvent| matches!(event, SupervisorEvent::Exited { .. });
    let mut exited = wait_for(events, LOG_OFF_TIMEOUT, is_exit);
    if exited.is_none() {
        tracing::warn!(worker = worker.id(), "the worker did not exit in time: killed");
        worker.kill();
        exited = wait_for(events, LOG_OFF_TIMEOUT, is_exit);
    }
    if let Some(SupervisorEvent::Exited { worker, status }) = exited
        && !status.success()
    {
        tracing::warn!(worker, "the worker exited with an error: {status}");
    }
}

/// The first wanted event within the time; drops other events.
fn wait_for(
    events: &Receiver<SupervisorEvent>,
    time: Duration,
    wanted: impl Fn(&SupervisorEvent) -> bool,
) -> Option<SupervisorEvent> {
    let end = Instant::now() + time;
    loop {
        match events.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(found) if wanted(&found) => return Some(found),
            Ok(_) => {}
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return None,
        }
    }
}

fn watch_signals(sender: Sender<SupervisorEvent>) -> Result<(), AgentProcessError> {
    let mut signals =
        Signals::new([SIGTERM, SIGINT, SIGHUP]).map_err(AgentProcessError::system("watch for signals"))?;
    spawn("signals", move || {
        for signal in signals.forever() {
            if sender.send(SupervisorEvent::Signal(signal)).is_err() {
                break;
            }
        }
    })
}

/// Starts a thread with a small stack.
fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), AgentProcessError> {
    let thread = std::thread::Builder::new().name(name.to_owned()).stack_size(256 * 1024);
    thread.spawn(work).map(drop).map_err(AgentProcessError::system("start a thread"))
}

/// Notifies the service manager, if there is one.
fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "cannot notify the service manager");
    }
}

/// The error for a thread of this process that has exited.
fn broken_pipe(operation: &'static str) -> AgentProcessError {
    AgentProcessError::System { operation, source: io::ErrorKind::BrokenPipe.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_restart_at_once_until_they_keep_failing() {
        assert_eq!(restart_delay(1), Duration::from_millis(50));
        assert_eq!(restart_delay(2), Duration::from_millis(100));
        let all: Vec<_> = (1..MAX_FAILURES).map(restart_delay).collect();
        assert!(all.is_sorted() && all.last() == Some(&RESTART_DELAYS.1), "{all:?}");
        assert_eq!(restart_delay(u32::MAX), RESTART_DELAYS.1);
    }

    #[test]
    fn other_events_do_not_end_the_wait() {
        let (sender, events) = channel();
        for signal in [SIGHUP, SIGTERM] {
            sender.send(SupervisorEvent::Signal(signal)).unwrap();
        }
        let is_term = |events: &SupervisorEvent| matches!(events, SupervisorEvent::Signal(SIGTERM));
        assert!(wait_for(&events, Duration::from_secs(5), is_term).is_some());
        assert!(wait_for(&events, Duration::from_millis(10), is_term).is_none());
    }
}
