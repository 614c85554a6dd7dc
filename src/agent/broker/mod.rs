//! The broker: what a person starts as `tokenkeep agent`. It holds the sockets, says which program asks, asks the person,
//! and keeps one worker running.
//!
//! It must never load a PKCS#11 module, never read what a client sends, and never keep a PIN: one goes from the person
//! straight into the link. It ends on SIGTERM, SIGINT and SIGHUP, and with it the worker, which logs off first.

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

/// How long the worker may take to log off when the agent ends.
const LOGGING_OFF: Duration = Duration::from_secs(3);

/// A worker that ran so long has not died of its start.
const SETTLED: Duration = Duration::from_mins(1);

/// How often a worker may end in a row before it is given up.
const TIRES: u32 = 12;

/// The first pause before a worker is started again, and the longest; it doubles.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(10));

/// What is said to a worker that is started in the place of one that has served.
pub const AGAIN: &str = "--again";

/// What the broker is started with.
pub struct Setup {
    /// where the sockets lie
    pub directory: Directory,
    /// the listeners for SSH and for the API, if systemd has made them
    pub inherited: [Option<UnixListener>; 2],
    /// the command line of the worker, without the program
    pub worker: Vec<OsString>,
    /// the modules that the workers load
    pub modules: Vec<PathBuf>,
    /// the command line of each module's own worker, in the order in which the worker's names the modules
    pub annexes: Vec<AnnexSetup>,
    /// how the person is asked
    pub person: Prompting,
    /// the file that names the keysets that are hidden on this machine
    pub hidden: Option<PathBuf>,
}

/// What whoever started the agent may want to know when it is ready.
#[derive(Clone, Debug)]
pub struct Open {
    /// the SSH agent's socket
    pub ssh: Option<PathBuf>,
    /// the API's socket
    pub api: Option<PathBuf>,
    /// how the worker is shut in
    pub sandbox: String,
}

/// Serves until a signal ends it; `announce` is called once, when connections are accepted for the first time.
///
/// # Errors
/// [`BrokerError`]: another agent runs, the sockets cannot be made, or no worker can be kept running.
pub fn run(setup: Setup, announce: impl FnOnce(&Open)) -> Result<(), BrokerError> {
    let (sender, news) = channel();
    watch_signals(sender.clone())?;
    rustix::thread::set_no_new_privs(true)
        .map_err(|error| BrokerError::System { operation: "give up new privileges", source: error.into() })?;
    let claim = setup.directory.claim()?;
    let [ssh, api] = setup.inherited;
    let sockets = [socket(&claim, Door::Ssh, ssh)?, socket(&claim, Door::Api, api)?];
    // Whoever starts an agent may have typed the wrong PINs before: they no longer count against its prompts.
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
                            // This process loads no libraries.
                            MappedCode::of_this_process().give_back();
                        }
                    }
                    News::Gone { worker: id, status } if id == worker.id() => break status,
                    News::Ready { worker: id, sandbox } => {
                        tracing::info!(worker = id, sandbox, "a module's worker has its module");
                    }
                    News::Gone { worker: id, status } => annexes.note_end(id, status),
                }
            };
            // Who serves next is another one, and begins with no log-in anywhere.
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
                "the agent's worker ended ({status}): all connections are closed, and PINs are asked for again; starting \
                 another one"
            );
            if let Some(News::Signal(signal)) = within(all_news, pause, |news| matches!(news, News::Signal(_))) {
                say_end(signal);
                return Ok(());
            }
        }
    }

    /// `again`: one has served before; what its modules have become since is no reason to end the agent.
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
    tracing::info!(signal, "ending");
    notify(&[NotifyState::Stopping]);
}

/// How long nothing is done after so many failures in a row.
fn pause_after(failures: u32) -> Duration {
    let (first, longest) = PAUSES;
    first.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1))).min(longest)
}

/// Has these workers log off, and ends those that do not; the signal that came meanwhile.
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
                        tracing::warn!(worker, "a worker did not end well: {status}");
                    }
                    left.retain(|one| one.id() != worker);
                }
                Some(News::Signal(signal)) => signaled = Some(signal),
                Some(News::Ready { .. }) => {}
                None => break,
            }
        }
        for worker in left.iter().filter(|_| !is_last) {
            tracing::warn!(worker = worker.id(), "a worker does not end by itself: killed");
            worker.kill();
        }
    }
    signaled
}

/// Waits, until then if it is said; the sender is never dropped before the receiver.
fn next(news: &Receiver<News>, until: Option<Instant>) -> Option<News> {
    let Some(until) = until else { return Some(news.recv().unwrap_or(News::Signal(SIGTERM))) };
    match news.recv_timeout(until.saturating_duration_since(Instant::now())) {
        Ok(news) => Some(news),
        Err(RecvTimeoutError::Timeout) => None,
        Err(RecvTimeoutError::Disconnected) => Some(News::Signal(SIGTERM)),
    }
}

/// The first news of this kind within the time; others are dropped.
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

/// Starts a thread whose stack need not be large.
fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), BrokerError> {
    let thread = std::thread::Builder::new().name(name.to_owned()).stack_size(256 * 1024);
    thread.spawn(work).map(drop).map_err(BrokerError::system("start a thread"))
}

/// Tells the service manager, where there is one.
fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "cannot tell the service manager");
    }
}

/// Where the worker's side of things fails in this process, too.
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
