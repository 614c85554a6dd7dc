//! The link between the agent's two processes: a socket pair on which the worker calls and the
//! supervisor replies, in frames of [`crate::ipc`].
//!
//! Several calls can be open at a time. The link closes when either process exits; a worker without
//! a supervisor exits, too.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::client_connection::POLL_INTERVAL;
use super::process_error::AgentProcessError;
use super::prompt_answer::PromptAnswer;
use super::{ClientConnection, PeerProcess, Question};
use crate::ipc::{self, Frame, IpcMessage, ReplyWithPayload};
use crate::keyset::{KeysetRef, NoPin, PromptReply};
use crate::token::Pin;
use crate::token::check::{CheckOutcome, CheckRequest, CheckRunner};

/// A message of the worker.
pub(super) type WorkerMessage = IpcMessage<WorkerCall, ()>;

/// A message of the supervisor.
pub(super) type SupervisorMessage = IpcMessage<SupervisorCall, SupervisorReply>;

/// A call of the supervisor.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum SupervisorCall {
    /// Start: the files are the listeners for SSH and for the API, and the memory file of the calls
    /// to modules, if there is one. No reply.
    Start,
}

/// A call of the worker.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum WorkerCall {
    /// The worker accepts connections. No reply.
    Ready {
        /// how it is sandboxed
        sandbox: String,
    },
    /// The use that this dialog asked for has ended; the dialog can close. No reply.
    DialogEnded {
        /// the dialog's number
        dialog: u64,
    },
    /// a question to the person
    Ask(Box<Question>),
    /// the name of the program with this process id
    Program(i32),
    /// the present prompt method
    Prompter,
    /// the keysets hidden on this machine; the worker cannot read their file in the user's home
    HiddenKeysets,
    /// the result of a check in a new process ([`crate::token::check`]); the frame's payload is the
    /// PIN for it, if it needs one
    Check(CheckRequest),
}

/// The supervisor's reply.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum SupervisorReply {
    Prompt(PromptAnswer),
    /// the question cannot be answered, with the reason
    Unavailable(String),
    /// the program's description, if known
    Program(Option<String>),
    /// the prompt method, or why there is none
    Prompter(Result<String, String>),
    Hidden(Vec<KeysetRef>),
    /// the result of the check process
    Checked(CheckOutcome),
}

/// The worker's end of the link.
#[derive(Debug)]
pub struct Link {
    reader: UnixStream,
    writer: Mutex<UnixStream>,
    pending: Mutex<PendingQuestions>,
    changed: Condvar,
}

/// The unanswered questions.
#[derive(Debug, Default)]
struct PendingQuestions {
    last_number: u64,
    waiting: HashMap<u64, SyncSender<ReplyWithPayload<SupervisorReply>>>,
    // The supervisor has exited: no answer will come.
    is_closed: bool,
}

impl Link {
    /// Takes the link from this process's stdin, and the sockets that the supervisor sends first.
    ///
    /// # Errors
    /// [`AgentProcessError::Link`] if the supervisor did not start this process.
    pub fn from_stdin() -> Result<(Self, Vec<OwnedFd>), AgentProcessError> {
        let not_started_by_agent = || AgentProcessError::Link("only `tokenkeep agent` can start the worker".to_owned());
        let stdin = io::stdin().as_fd().try_clone_to_owned().map_err(|_| not_started_by_agent())?;
        let stream = UnixStream::from(stdin);
        let started = ipc::receive::<SupervisorMessage>(&stream);
        let Ok(Frame { message: IpcMessage::Notify(SupervisorCall::Start), files, .. }) = started else {
            return Err(not_started_by_agent());
        };
        Ok((Self::over(stream).map_err(AgentProcessError::system("copy a descriptor"))?, files))
    }

    /// A link over this stream.
    ///
    /// # Errors
    /// The descriptor cannot be copied.
    pub fn over(reader: UnixStream) -> io::Result<Self> {
        let writer = Mutex::new(reader.try_clone()?);
        Ok(Self { reader, writer, pending: Mutex::default(), changed: Condvar::new() })
    }

    /// Reports that connections are accepted.
    pub(super) fn ready(&self, sandbox: String) -> io::Result<()> {
        self.send(&IpcMessage::Notify(WorkerCall::Ready { sandbox }), b"").map_err(io::Error::other)
    }

    /// Starts a thread that delivers answers to the threads that asked.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start_reader(self: &Arc<Self>) -> Result<(), AgentProcessError> {
        let link = Arc::clone(self);
        let thread = std::thread::Builder::new().name("link".to_owned()).stack_size(256 * 1024);
        thread.spawn(move || link.read_answers()).map(drop).map_err(AgentProcessError::system("start a thread"))
    }

    /// Waits until the supervisor exits.
    pub(super) fn wait_until_closed(&self) {
        let pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.changed.wait_while(pending, |pending| !pending.is_closed).unwrap_or_else(PoisonError::into_inner));
    }

    fn read_answers(&self) {
        while let Ok(Frame { message, payload, .. }) = ipc::receive::<SupervisorMessage>(&self.reader) {
            let IpcMessage::Reply { number, reply } = message else { continue };
            let waiting = self.pending.lock().unwrap_or_else(PoisonError::into_inner).waiting.remove(&number);
            if let Some(waiting) = waiting {
                // The thread that asked may have given up.
                let _ = waiting.send((reply, payload));
            }
        }
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        pending.is_closed = true;
        // Dropping the senders wakes the threads that wait.
        pending.waiting.clear();
        self.changed.notify_all();
    }

    fn send(&self, message: &WorkerMessage, payload: &[u8]) -> Result<(), ipc::IpcError> {
        ipc::send(&self.writer.lock().unwrap_or_else(PoisonError::into_inner), message, payload, &[])
    }

    /// Sends a question and waits for the answer while the client is connected.
    fn ask(&self, call: WorkerCall, client: &ClientConnection) -> Option<ReplyWithPayload<SupervisorReply>> {
        self.ask_with_secret(call, b"", client)
    }

    /// Sends a question with a secret, the PIN that it needs.
    fn ask_with_secret(
        &self,
        call: WorkerCall,
        secret: &[u8],
        client: &ClientConnection,
    ) -> Option<ReplyWithPayload<SupervisorReply>> {
        let withdrawn = || Some((SupervisorReply::Prompt(PromptAnswer::No(NoPin::Withdrawn)), Zeroizing::default()));
        if client.has_hung_up() {
            return withdrawn();
        }
        let (sender, answer) = sync_channel(1);
        let number = {
            let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
            if pending.is_closed {
                return None;
            }
            pending.last_number += 1;
            let number = pending.last_number;
            pending.waiting.insert(number, sender);
            number
        };
        if self.send(&IpcMessage::Call { number, call }, secret).is_err() {
            self.pending.lock().unwrap_or_else(PoisonError::into_inner).waiting.remove(&number);
            return None;
        }
        loop {
            let answered = if client.is_known() {
                answer.recv_timeout(POLL_INTERVAL)
            } else {
                answer.recv().map_err(|_| RecvTimeoutError::Disconnected)
            };
            match answered {
                // An answer that arrives as the client disconnects is dropped, too.
                Ok(_) | Err(RecvTimeoutError::Timeout) if client.has_hung_up() => {
                    self.pending.lock().unwrap_or_else(PoisonError::into_inner).waiting.remove(&number);
                    self.send(&IpcMessage::Withdrawn { number }, b"").ok()?;
                    return withdrawn();
                }
                Ok(answered) => return Some(answered),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
    }

    /// Asks the person one question about one use, while the client is connected.
    ///
    /// # Errors
    /// No PIN, or no confirmation. [`NoPin::Declined`] if the person declined.
    pub fn ask_person(&self, question: Question, client: &ClientConnection) -> Result<PromptReply, NoPin> {
        match self.ask(WorkerCall::Ask(Box::new(question)), client) {
            Some((SupervisorReply::Prompt(answer), secret)) => answer.into_reply(&secret),
            Some((SupervisorReply::Unavailable(reason), _)) => Err(NoPin::Unavailable(reason)),
            Some(_) => Err(NoPin::Unavailable("the supervisor answered a different question".to_owned())),
            None => Err(NoPin::Unavailable("the agent is shutting down".to_owned())),
        }
    }

    /// Closes the dialog of a use that has ended ([`Question::dialog`]).
    pub fn end_dialog(&self, dialog: u64) {
        // Without a supervisor there is no dialog.
        let _ = self.send(&IpcMessage::Notify(WorkerCall::DialogEnded { dialog }), b"");
    }

    /// Describes the prompt method in one line.
    ///
    /// # Errors
    /// Why there is none, with the remedy.
    pub fn prompter(&self) -> Result<String, String> {
        match self.ask(WorkerCall::Prompter, &ClientConnection::default()) {
            Some((SupervisorReply::Prompter(prompter), _)) => prompter,
            _ => Err("the agent is shutting down".to_owned()),
        }
    }

    /// The keysets hidden on this machine now; `None` if unknown.
    pub fn hidden_keysets(&self) -> Option<Vec<KeysetRef>> {
        match self.ask(WorkerCall::HiddenKeysets, &ClientConnection::default()) {
            Some((SupervisorReply::Hidden(hidden), _)) => Some(hidden),
            _ => None,
        }
    }

    /// Describes the program behind a peer, if known. It is only advice for a person.
    pub fn program(&self, peer: PeerProcess) -> Option<String> {
        match self.ask(WorkerCall::Program(peer.pid), &ClientConnection::default()) {
            Some((SupervisorReply::Program(name), _)) => name,
            _ => None,
        }
    }
}

/// The worker cannot start programs; the supervisor runs the check process.
impl CheckRunner for Arc<Link> {
    fn run(&self, request: &CheckRequest, pin: Option<&Pin>) -> CheckOutcome {
        let secret = pin.map_or("", Pin::as_str).as_bytes();
        match self.ask_with_secret(WorkerCall::Check(request.clone()), secret, &ClientConnection::default()) {
            Some((SupervisorReply::Checked(outcome), _)) => outcome,
            Some((SupervisorReply::Unavailable(reason), _)) => CheckOutcome::Unknown(reason),
            _ => CheckOutcome::Unknown("the agent is shutting down".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests;
