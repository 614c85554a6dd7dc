//! One life of the worker: started, listened to, ended.

use std::env;
use std::ffi::OsString;
use std::net::Shutdown;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::Sender;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::questions::Questions;
use super::{BrokerError, spawn};
use crate::agent::handed;
use crate::agent::link::{Asked, FromWorker, read_frame};
use crate::token::check::this_program;

/// How glibc's allocator is set for the worker (`mallopt(3)`, "GNU C library tunables"), where the user has not set it.
///
/// - Heaps: by default it makes one for nearly each of a thousand connections' threads. With two, four connections wait
///   for each other in the module's allocations.
/// - Thresholds: by default both grow with the largest block that was given back, so that after one large request some
///   hundred MiB of later ones stay with the process. Set, they stay what they are.
/// - Stacks of threads that have ended: by default 40 MiB of them are kept for later ones.
const ALLOCATOR: [(&str, &str); 4] = [
    ("MALLOC_ARENA_MAX", "4"),
    ("MALLOC_MMAP_THRESHOLD_", "131072"),
    ("MALLOC_TRIM_THRESHOLD_", "131072"),
    ("GLIBC_TUNABLES", "glibc.pthread.stack_cache_size=2097152"),
];

/// How long a worker may take to take an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What happens to the broker.
#[derive(Debug)]
pub(super) enum News {
    /// It shall end.
    Signal(i32),
    /// A worker accepts connections.
    Ready {
        /// its process id
        worker: u32,
        /// how it is shut in
        sandbox: String,
    },
    /// A worker has ended.
    Gone {
        /// its process id
        worker: u32,
        /// how
        status: ExitStatus,
    },
}

/// A worker that was started.
#[derive(Debug)]
pub(super) struct RunningWorker {
    id: u32,
    process: OwnedFd,
    link: UnixStream,
}

impl RunningWorker {
    /// Starts it: this very program again, the link as its stdin, and these sockets over the link.
    pub(super) fn start(
        arguments: &[OsString],
        sockets: &[BorrowedFd<'_>],
        questions: &Questions,
        news: Sender<News>,
    ) -> Result<Self, BrokerError> {
        let failed = || BrokerError::system("start the agent's worker");
        let (link, theirs) = UnixStream::pair().map_err(failed())?;
        let mut command = Command::new(this_program());
        command.args(arguments).stdin(Stdio::from(OwnedFd::from(theirs)));
        // What is meant for this process only. And a group of its own: Ctrl-C at a terminal is the broker's business.
        for variable in ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "NOTIFY_SOCKET"] {
            command.env_remove(variable);
        }
        for (name, value) in ALLOCATOR.iter().filter(|(name, _)| env::var_os(name).is_none()) {
            command.env(name, value);
        }
        let child = command.process_group(0).spawn().map_err(failed())?;
        let id = child.id();
        let process =
            pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).map_err(|error| failed()(error.into()))?;
        // A worker that has ended already says so at the other end of the link.
        let _ = handed::give(&link, sockets);
        let ours = link.try_clone().map_err(failed())?;
        // A worker that does not read its answers does not get them.
        ours.set_write_timeout(Some(PATIENCE)).map_err(failed())?;
        let questions = questions.of_another_link();
        spawn("link", move || listen(ours, child, &questions, &news))?;
        Ok(Self { id, process, link })
    }

    /// Its process id.
    pub(super) fn id(&self) -> u32 {
        self.id
    }

    /// Ends the link: a worker that is well logs off and ends.
    pub(super) fn hang_up(&self) {
        // It may have done so itself.
        let _ = self.link.shutdown(Shutdown::Both);
    }

    /// Ends it at once.
    pub(super) fn kill(&self) {
        // It may have ended meanwhile.
        let _ = pidfd_send_signal(&self.process, Signal::KILL);
    }
}

/// Takes what the worker says until it ends.
fn listen(mut link: UnixStream, mut child: Child, questions: &Questions, news: &Sender<News>) {
    let worker = child.id();
    loop {
        match read_frame(&mut link) {
            Ok((FromWorker::Ready { sandbox }, _)) => {
                let _ = news.send(News::Ready { worker, sandbox });
            }
            Ok((FromWorker::Withdrawn { number }, _)) => questions.withdraw(number),
            Ok((FromWorker::DialogEnded { dialog }, _)) => questions.end_dialog(dialog),
            Ok((FromWorker::Question { number, what: Asked::Check(request) }, secret)) => {
                questions.check(number, request, secret, &link);
            }
            Ok((FromWorker::Question { number, what }, _)) => questions.take(number, what, &link),
            Err(error) => {
                tracing::debug!(%error, worker, "the link ended");
                break;
            }
        }
    }
    questions.withdraw_all();
    // The broker hangs up when it ends and kills it if need be; a worker that hung up itself has no reason to live on.
    if let Ok(status) = child.wait() {
        // Nobody listens when the broker ends.
        let _ = news.send(News::Gone { worker, status });
    }
}
