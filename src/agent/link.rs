//! The link between the agent's two processes: a socket pair on which the worker asks and the
//! supervisor answers.
//!
//! Messages are frames ([`super::frame`]). Each question has a number, so that several can wait for
//! their answers at a time. The link closes when either process exits; a worker without a
//! supervisor exits, too.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::client_connection::POLL_INTERVAL;
use super::prompt_text::PromptText;
use super::supervisor::AgentProcessError;
use super::{ClientConnection, PeerProcess, PromptBackend, Question, fd_passing, frame};
use crate::keyset::{KeysetRef, NoPin};
use crate::token::Pin;
use crate::token::check::{CheckOutcome, CheckRequest, CheckRunner};

/// Maximum length of a frame's JSON in bytes. A question has a few lines of text, or lists the
/// objects that a token should have.
const MAX_HEAD_BYTES: usize = 1024 * 1024;

/// A message from the worker to the supervisor.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum WorkerMessage {
    /// The worker accepts connections.
    Ready {
        /// how it is sandboxed
        sandbox: String,
    },
    /// The question is withdrawn, because the client disconnected.
    Withdrawn {
        /// the question's number
        number: u64,
    },
    /// The use that this dialog asked for has ended; the dialog can close.
    DialogEnded {
        /// the dialog's number
        dialog: u64,
    },
    Question {
        /// increasing
        number: u64,
        question: WorkerQuestion,
    },
}

/// A question of the worker.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum WorkerQuestion {
    /// the PIN of a token
    Pin {
        /// the text to show
        text: PromptText,
        /// the dialog's number; all questions for one use of a key have the same dialog
        dialog: u64,
    },
    Confirmation(PromptText),
    /// the name of the program with this process id
    Program(i32),
    /// the present prompt method
    Prompter,
    /// whether the worker may ask again after a wrong PIN: yes if a person typed it, because a
    /// program would give the same PIN again
    CanAskAgain {
        /// the number of the dialog that asked for the PIN; the answer is yes if it is still open
        dialog: u64,
    },
    /// the keysets hidden on this machine; the worker cannot read their file in the user's home
    HiddenKeysets,
    /// the result of a check in a new process ([`crate::token::check`]); the frame's secret is the
    /// PIN for it, if it needs one
    Check(CheckRequest),
}

/// A message from the supervisor to the worker: the answer to a question.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SupervisorMessage {
    /// the question's number
    pub(super) number: u64,
    pub(super) answer: SupervisorAnswer,
}

/// The answer to a question.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum SupervisorAnswer {
    /// the PIN is the frame's secret
    Pin {
        /// true if a person typed it for this use
        attended: bool,
    },
    /// the person confirmed
    Yes,
    /// the person declined
    No,
    /// the person cancelled
    Cancelled,
    /// the client disconnected
    Withdrawn,
    /// no prompt is possible, with the reason
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

/// An answer and its secret.
type AnswerWithSecret = (SupervisorAnswer, Zeroizing<Vec<u8>>);

/// The unanswered questions.
#[derive(Debug, Default)]
struct PendingQuestions {
    last_number: u64,
    waiting: HashMap<u64, SyncSender<AnswerWithSecret>>,
    // The supervisor has exited: no answer will come.
    is_closed: bool,
}

impl Link {
    /// Takes the link from this process's stdin, and the sockets that the supervisor sends first.
    ///
    /// # Errors
    /// [`AgentProcessError::Link`] if the supervisor did not start this process.
    pub fn from_stdin() -> Result<(Self, Vec<OwnedFd>), AgentProcessError> {
        let not_started_by_agent =
            |_| AgentProcessError::Link("only `tokenkeep agent` can start the worker".to_owned());
        let stdin = io::stdin().as_fd().try_clone_to_owned().map_err(not_started_by_agent)?;
        let stream = UnixStream::from(stdin);
        let sockets = fd_passing::receive_fds(&stream).map_err(not_started_by_agent)?;
        let writer = Mutex::new(stream.try_clone().map_err(AgentProcessError::system("copy a descriptor"))?);
        Ok((Self { reader: stream, writer, pending: Mutex::default(), changed: Condvar::new() }, sockets))
    }

    /// Reports that connections are accepted.
    pub(super) fn ready(&self, sandbox: String) -> io::Result<()> {
        self.send(&WorkerMessage::Ready { sandbox }, b"")
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
        let mut reader = &self.reader;
        while let Ok((SupervisorMessage { number, answer }, secret)) = read_frame(&mut reader) {
            let waiting = self.pending.lock().unwrap_or_else(PoisonError::into_inner).waiting.remove(&number);
            if let Some(waiting) = waiting {
                // The thread that asked may have given up.
                let _ = waiting.send((answer, secret));
            }
        }
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        pending.is_closed = true;
        // Dropping the senders wakes the threads that wait.
        pending.waiting.clear();
        self.changed.notify_all();
    }

    fn send(&self, message: &WorkerMessage, secret: &[u8]) -> io::Result<()> {
        write_frame(&mut *self.writer.lock().unwrap_or_else(PoisonError::into_inner), message, secret)
    }

    /// Sends a question and waits for the answer while the client is connected.
    fn ask(&self, question: WorkerQuestion, client: &ClientConnection) -> Option<AnswerWithSecret> {
        self.ask_with_secret(question, b"", client)
    }

    /// Sends a question with a secret, the PIN that it needs.
    fn ask_with_secret(
        &self,
        question: WorkerQuestion,
        secret: &[u8],
        client: &ClientConnection,
    ) -> Option<AnswerWithSecret> {
        let withdrawn = || Some((SupervisorAnswer::Withdrawn, Zeroizing::default()));
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
        if self.send(&WorkerMessage::Question { number, question }, secret).is_err() {
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
                    self.send(&WorkerMessage::Withdrawn { number }, b"").ok()?;
                    return withdrawn();
                }
                Ok(answered) => return Some(answered),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
    }

    fn ask_for_pin(&self, question: WorkerQuestion, client: &ClientConnection) -> Result<Pin, NoPin> {
        match self.ask(question, client) {
            Some((SupervisorAnswer::Pin { attended }, secret)) => {
                let text = std::str::from_utf8(&secret).map_err(|_| unavailable("the answer is not UTF-8"))?;
                let pin = Pin::new(text.to_owned()).map_err(|error| unavailable(&error.to_string()))?;
                Ok(pin.attended_if(attended))
            }
            other => Err(no_pin(other)),
        }
    }
}

impl PromptBackend for Link {
    fn pin(&self, question: &Question<'_>) -> Result<Pin, NoPin> {
        let worker_question = WorkerQuestion::Pin { text: PromptText::for_pin(question), dialog: question.dialog };
        self.ask_for_pin(worker_question, &question.usage.client)
    }

    fn confirm(&self, question: &Question<'_>) -> Result<(), NoPin> {
        match self.ask(WorkerQuestion::Confirmation(PromptText::for_confirmation(question)), &question.usage.client) {
            Some((SupervisorAnswer::Yes, _)) => Ok(()),
            other => Err(no_pin(other)),
        }
    }

    fn can_ask_again(&self, dialog: u64) -> bool {
        matches!(
            self.ask(WorkerQuestion::CanAskAgain { dialog }, &ClientConnection::default()),
            Some((SupervisorAnswer::Yes, _))
        )
    }

    fn end_dialog(&self, dialog: u64) {
        // Without a supervisor there is no dialog.
        let _ = self.send(&WorkerMessage::DialogEnded { dialog }, b"");
    }

    fn prompter(&self) -> Result<String, String> {
        match self.ask(WorkerQuestion::Prompter, &ClientConnection::default()) {
            Some((SupervisorAnswer::Prompter(prompter), _)) => prompter,
            _ => Err("the agent is shutting down".to_owned()),
        }
    }

    fn hidden_keysets(&self) -> Option<Vec<KeysetRef>> {
        match self.ask(WorkerQuestion::HiddenKeysets, &ClientConnection::default()) {
            Some((SupervisorAnswer::Hidden(hidden), _)) => Some(hidden),
            _ => None,
        }
    }

    fn program(&self, peer: PeerProcess) -> Option<String> {
        match self.ask(WorkerQuestion::Program(peer.pid), &ClientConnection::default()) {
            Some((SupervisorAnswer::Program(name), _)) => name,
            _ => None,
        }
    }
}

/// The worker cannot start programs; the supervisor runs the check process.
impl CheckRunner for Arc<Link> {
    fn run(&self, request: &CheckRequest, pin: Option<&Pin>) -> CheckOutcome {
        let secret = pin.map_or("", Pin::as_str).as_bytes();
        match self.ask_with_secret(WorkerQuestion::Check(request.clone()), secret, &ClientConnection::default()) {
            Some((SupervisorAnswer::Checked(outcome), _)) => outcome,
            Some((SupervisorAnswer::Unavailable(reason), _)) => CheckOutcome::Unknown(reason),
            _ => CheckOutcome::Unknown("the agent is shutting down".to_owned()),
        }
    }
}

fn no_pin(answer: Option<AnswerWithSecret>) -> NoPin {
    match answer {
        Some((SupervisorAnswer::No, _)) => NoPin::Declined,
        Some((SupervisorAnswer::Cancelled, _)) => NoPin::Cancelled,
        Some((SupervisorAnswer::Withdrawn, _)) => NoPin::Withdrawn,
        Some((SupervisorAnswer::Unavailable(reason), _)) => NoPin::Unavailable(reason),
        Some(_) => unavailable("the supervisor answered a different question"),
        None => unavailable("the agent is shutting down"),
    }
}

fn unavailable(reason: &str) -> NoPin {
    NoPin::Unavailable(reason.to_owned())
}

/// Sends a frame on the link.
pub(super) fn write_frame(stream: &mut impl Write, head: &impl Serialize, secret: &[u8]) -> io::Result<()> {
    frame::write(stream, head, secret, MAX_HEAD_BYTES)
}

/// Receives a frame from the link: its head and its secret.
pub(super) fn read_frame<T: DeserializeOwned>(stream: &mut impl Read) -> io::Result<(T, Zeroizing<Vec<u8>>)> {
    frame::read(stream, MAX_HEAD_BYTES)
}

#[cfg(test)]
mod tests;
