//! The supervisor: the process that a user starts as `tokenkeep agent`. It holds the sockets,
//! identifies the client programs, prompts the person, and keeps one worker running.
//!
//! It must never load a PKCS#11 module, never read what a client sends, and never keep a PIN: a PIN
//! goes from the prompt straight into the link. It exits on SIGTERM, SIGINT and SIGHUP; the worker
//! logs off first and exits with it.

mod annexes;
mod error;
mod programs;
mod questions;
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

pub use annexes::AnnexSetup;
pub use error::BrokerError;
pub use questions::Prompting;

use super::MappedCode;
use super::sockets::{Claim, Directory, Door, Socket};
use crate::token;
use annexes::Annexes;
use questions::Questions;
use running_worker::{News, RunningWorker};

/// Time that the workers get to log off when the agent exits.
const LOGGING_OFF: Duration = Duration::from_secs(3);

/// A worker that ran at least this long did not fail during startup.
const SETTLED: Duration = Duration::from_mins(1);

/// Number of consecutive failures after which a worker is not restarted.
const TIRES: u32 = 12;

/// First and longest delay before a worker is restarted; the delay doubles each time.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(10));

/// Argument of a worker that replaces an earlier one.
pub const AGAIN: &str = "--again";

/// The supervisor's configuration.
pub struct Setup {
    /// the directory of the sockets
    pub directory: Directory,
    /// the listeners for SSH and for the API that systemd passed, if any
    pub inherited: [Option<UnixListener>; 2],
    /// arguments of the worker, without the program
    pub worker: Vec<OsString>,
    /// the PKCS#11 modules that the workers load
    pub modules: Vec<PathBuf>,
    /// arguments of each module worker, in the order in which the worker's arguments name the
    /// modules
    pub annexes: Vec<AnnexSetup>,
    /// how to prompt the person
    pub person: Prompting,
    /// the file that lists the keysets hidden on this machine
    pub hidden: Option<PathBuf>,
}

/// What the program that started the agent is told when the agent is ready.
#[derive(Clone, Debug)]
pub struct Open {
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
/// [`BrokerError`]: another agent is running, the sockets cannot be created, or no worker stays up.
pub fn run(setup: Setup, announce: impl FnOnce(&Open)) -> Result<(), BrokerError> {
    let (sender, news) = channel();
    watch_signals(sender.clone())?;
    rustix::thread::set_no_new_privs(true)
        .map_err(|error| BrokerError::System { operation: "set no_new_privs", source: error.into() })?;
    let claim = setup.directory.claim()?;
    let [ssh, api] = setup.inherited;
    let sockets = [socket(&claim, Door::Ssh, ssh)?, socket(&claim, Door::Api, api)?];
    // A user who restarts the agent may have typed wrong PINs before: do not count them for its
    // prompts.
    token::forget_wrong_pins_in_a_row();
    let questions = Questions::answered_by(setup.person)?.about_modules(&setup.modules);
    let questions = questions.hiding_what_is_in(setup.hidden);
    let broker = Broker { sockets, worker: setup.worker, annexes: setup.annexes, questions, sender };
    broker.serve(&news, announce)
}

fn socket(claim: &Claim, door: Door, inherited: Option<UnixListener>) -> Result<Socket, BrokerError> {
    inherited.map_or_else(|| claim.bind(door), |listener| Ok(Socket::inherited(listener)))
}

struct Broker {
    sockets: [Socket; 2],
    worker: Vec<OsString>,
    annexes: Vec<AnnexSetup>,
    questions: Questions,
    sender: Sender<News>,
}

impl Broker {
    fn serve(&self, all_news: &Receiver<News>, announce: impl FnOnce(&Open)) -> Result<(), BrokerError> {
        let mut announce = Some(announce);
        let mut failures = 0;
        loop {
            let started = Instant::now();
            let mut annexes = Annexes::begin(&self.annexes, &self.questions, &self.sender)?;
            let worker = self.start_worker(&annexes, announce.is_none())?;
            let status = loop {
                let Some(news) = next(all_news, annexes.next_start()) else {
                    annexes.start_those_due();
                    continue;
                };
                match news {
                    News::Signal(signal) => {
                        say_end(signal);
                        end(&annexes.and(&worker), all_news);
                        return Ok(());
                    }
                    News::Ready { worker: id, sandbox } if id == worker.id() => {
                        tracing::info!(worker = id, sandbox, "the worker accepts connections");
                        if let Some(announce) = announce.take() {
                            announce(&self.open(sandbox));
                            notify(&[NotifyState::Ready]);
                            // This process loads no further libraries.
                            MappedCode::of_this_process().give_back();
                        }
                    }
                    News::Gone { worker: id, status } if id == worker.id() => break status,
                    News::Ready { worker: id, sandbox } => {
                        tracing::info!(worker = id, sandbox, "a module worker is ready");
                    }
                    News::Gone { worker: id, status } => annexes.note_end(id, status),
                }
            };
            // The next worker begins without any session, so the module workers restart, too.
            if let Some(signal) = end(&annexes.running(), all_news) {
                say_end(signal);
                return Ok(());
            }
            if announce.is_some() {
                return Err(BrokerError::Worker { status });
            }
            failures = if started.elapsed() > SETTLED { 1 } else { failures + 1 };
            if failures >= TIRES {
                return Err(BrokerError::WorkerKeepsEnding { times: failures, status });
            }
            let pause = pause_after(failures);
            tracing::warn!(
                "the worker exited ({status}): all connections are closed, and PINs must be entered again; \
                 restarting it"
            );
            if let Some(News::Signal(signal)) = within(all_news, pause, |news| matches!(news, News::Signal(_))) {
                say_end(signal);
                return Ok(());
            }
        }
    }

    /// `again` is true for a replacement: it must not end the agent because its modules have failed
    /// since.
    fn start_worker(&self, annexes: &Annexes<'_>, again: bool) -> Result<RunningWorker, BrokerError> {
        let [ssh, api] = &self.sockets;
        let doors = [ssh.listener.as_fd(), api.listener.as_fd()];
        let sockets: Vec<_> = doors.into_iter().chain(annexes.corridors()).collect();
        let mut arguments = self.worker.clone();
        arguments.extend(again.then(|| AGAIN.into()));
        RunningWorker::start(&arguments, &sockets, &self.questions, self.sender.clone())
    }

    fn open(&self, sandbox: String) -> Open {
        let [ssh, api] = &self.sockets;
        Open { ssh: ssh.path(), api: api.path(), sandbox }
    }
}

fn say_end(signal: i32) {
    tracing::info!(signal, "shutting down");
    notify(&[NotifyState::Stopping]);
}

/// Delay after this many consecutive failures.
fn pause_after(failures: u32) -> Duration {
    let (first, longest) = PAUSES;
    first.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1))).min(longest)
}

/// Tells these workers to log off and kills those that do not exit in time. Returns a signal that
/// arrived meanwhile.
fn end(workers: &[&RunningWorker], news: &Receiver<News>) -> Option<i32> {
    let mut signaled = None;
    for worker in workers {
        worker.hang_up();
    }
    let mut left: Vec<&RunningWorker> = workers.to_vec();
    for is_last in [false, true] {
        let until = Instant::now() + LOGGING_OFF;
        while !left.is_empty() {
            match within(news, until.saturating_duration_since(Instant::now()), |_| true) {
                Some(News::Gone { worker, status }) => {
                    if !status.success() {
                        tracing::warn!(worker, "a worker exited with an error: {status}");
                    }
                    left.retain(|one| one.id() != worker);
                }
                Some(News::Signal(signal)) => signaled = Some(signal),
                Some(News::Ready { .. }) => {}
                None => break,
            }
        }
        for worker in left.iter().filter(|_| !is_last) {
            tracing::warn!(worker = worker.id(), "a worker did not exit in time: killed");
            worker.kill();
        }
    }
    signaled
}

/// Waits for the next event, at most until the given instant. The sender outlives the receiver.
fn next(news: &Receiver<News>, until: Option<Instant>) -> Option<News> {
    let Some(until) = until else { return Some(news.recv().unwrap_or(News::Signal(SIGTERM))) };
    match news.recv_timeout(until.saturating_duration_since(Instant::now())) {
        Ok(news) => Some(news),
        Err(RecvTimeoutError::Timeout) => None,
        Err(RecvTimeoutError::Disconnected) => Some(News::Signal(SIGTERM)),
    }
}

/// The first wanted event within the time; drops other events.
fn within(news: &Receiver<News>, time: Duration, wanted: impl Fn(&News) -> bool) -> Option<News> {
    let end = Instant::now() + time;
    loop {
        match news.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(found) if wanted(&found) => return Some(found),
            Ok(_) => {}
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return None,
        }
    }
}

fn watch_signals(sender: Sender<News>) -> Result<(), BrokerError> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).map_err(BrokerError::system("watch for signals"))?;
    spawn("signals", move || {
        for signal in signals.forever() {
            if sender.send(News::Signal(signal)).is_err() {
                break;
            }
        }
    })
}

/// Starts a thread with a small stack.
fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), BrokerError> {
    let thread = std::thread::Builder::new().name(name.to_owned()).stack_size(256 * 1024);
    thread.spawn(work).map(drop).map_err(BrokerError::system("start a thread"))
}

/// Notifies the service manager, if there is one.
fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "cannot notify the service manager");
    }
}

/// The error for a thread of this process that has exited.
fn broken_pipe(operation: &'static str) -> BrokerError {
    BrokerError::System { operation, source: io::ErrorKind::BrokenPipe.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_dies_once_is_back_at_once_and_one_that_dies_always_is_given_up() {
        assert_eq!(pause_after(1), Duration::from_millis(50));
        assert_eq!(pause_after(2), Duration::from_millis(100));
        let all: Vec<_> = (1..TIRES).map(pause_after).collect();
        assert!(all.is_sorted() && all.last() == Some(&PAUSES.1), "{all:?}");
        assert_eq!(pause_after(u32::MAX), PAUSES.1);
    }

    #[test]
    fn news_that_were_not_waited_for_do_not_end_the_wait() {
        let (sender, news) = channel();
        for signal in [SIGHUP, SIGTERM] {
            sender.send(News::Signal(signal)).unwrap();
        }
        let is_term = |news: &News| matches!(news, News::Signal(SIGTERM));
        assert!(within(&news, Duration::from_secs(5), is_term).is_some());
        assert!(within(&news, Duration::from_millis(10), is_term).is_none());
    }
}
