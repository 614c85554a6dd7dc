//! One run of a worker process: started, followed, ended.

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

use super::prompt_queue::PromptQueue;
use super::spawn;
use crate::agent::link::{SupervisorCall, SupervisorMessage, WorkerCall, WorkerMessage};
use crate::agent::process_error::AgentProcessError;
use crate::ipc::{self, Frame, IpcMessage};
use crate::token::check::this_program;

/// Settings of glibc's allocator for the worker (`mallopt(3)`, "GNU C library tunables"), unless
/// the user has set them.
///
/// - Thresholds: by default both grow with the largest freed block, so that after one large request
///   some hundred MiB of later ones stay with the process. Fixed thresholds do not grow.
/// - Stacks of exited threads: by default glibc keeps 40 MiB of them for reuse.
const ALLOCATOR: [(&str, &str); 3] = [
    ("MALLOC_MMAP_THRESHOLD_", "131072"),
    ("MALLOC_TRIM_THRESHOLD_", "131072"),
    ("GLIBC_TUNABLES", "glibc.pthread.stack_cache_size=2097152"),
];

/// Time that a worker may take to accept an answer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// An event for the supervisor.
#[derive(Debug)]
pub(super) enum SupervisorEvent {
    /// The supervisor must exit.
    Signal(i32),
    /// A worker accepts connections.
    Ready {
        /// its process id
        worker: u32,
        /// how it is sandboxed
        sandbox: String,
    },
    /// A worker exited.
    Exited {
        /// its process id
        worker: u32,
        status: ExitStatus,
    },
}

/// A worker process.
#[derive(Debug)]
pub(super) struct RunningWorker {
    id: u32,
    process: OwnedFd,
    link: UnixStream,
}

impl RunningWorker {
    /// Starts the worker: the same program, with the link as stdin; passes these sockets over the
    /// link.
    pub(super) fn start(
        arguments: &[OsString],
        sockets: &[BorrowedFd<'_>],
        questions: &PromptQueue,
        events: Sender<SupervisorEvent>,
    ) -> Result<Self, AgentProcessError> {
        let failed = || AgentProcessError::system("start the worker");
        let (link, theirs) = UnixStream::pair().map_err(failed())?;
        let mut command = Command::new(this_program());
        command.args(arguments).stdin(Stdio::from(OwnedFd::from(theirs)));
        // These variables are for this process only. The process group keeps Ctrl-C at a terminal
        // from the worker: the supervisor handles it.
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
        // If the worker has exited already, the link's end reports it.
        let _ = ipc::send(&link, &SupervisorMessage::Notify(SupervisorCall::Start), b"", sockets);
        let ours = link.try_clone().map_err(failed())?;
        // A worker that does not read its answers loses them.
        ours.set_write_timeout(Some(WRITE_TIMEOUT)).map_err(failed())?;
        let questions = questions.for_new_link();
        spawn("link", move || listen(&ours, child, &questions, &events))?;
        Ok(Self { id, process, link })
    }

    /// The process id.
    pub(super) fn id(&self) -> u32 {
        self.id
    }

    /// Closes the link; a working worker then logs off and exits.
    pub(super) fn close_link(&self) {
        // The worker may have closed it first.
        let _ = self.link.shutdown(Shutdown::Both);
    }

    /// Kills the worker.
    pub(super) fn kill(&self) {
        // It may have exited meanwhile.
        let _ = pidfd_send_signal(&self.process, Signal::KILL);
    }
}

/// Handles the worker's messages until it exits.
fn listen(link: &UnixStream, mut child: Child, questions: &PromptQueue, events: &Sender<SupervisorEvent>) {
    let worker = child.id();
    loop {
        let Frame { message, payload, .. } = match ipc::receive::<WorkerMessage>(link) {
            Ok(frame) => frame,
            Err(error) => {
                tracing::debug!(%error, worker, "the link to a worker closed");
                break;
            }
        };
        match message {
            IpcMessage::Notify(WorkerCall::Ready { sandbox }) => {
                let _ = events.send(SupervisorEvent::Ready { worker, sandbox });
            }
            IpcMessage::Notify(WorkerCall::DialogEnded { dialog }) => questions.end_dialog(dialog),
            IpcMessage::Call { number, call } => questions.take(number, call, payload, link),
            IpcMessage::Withdrawn { number } => questions.withdraw(number),
            // The supervisor waits for no reply, and a worker sends nothing else.
            IpcMessage::Notify(_) | IpcMessage::Reply { .. } => {}
        }
    }
    questions.withdraw_all();
    // The supervisor hangs up when it exits, and kills the worker if necessary; a worker that
    // closed the link itself is about to exit.
    if let Ok(status) = child.wait() {
        // Nobody receives this when the supervisor exits.
        let _ = events.send(SupervisorEvent::Exited { worker, status });
    }
}
