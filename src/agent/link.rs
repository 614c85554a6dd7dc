//! The link between the agent's two processes: a socket pair on which the worker asks and the broker answers.
//!
//! It goes in frames ([`super::frame`]). Every question has a number, so that many can be open at once. When either process
//! ends, the link does; a worker without a broker ends, too.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::broker::BrokerError;
use super::client_connection::LOOK;
use super::wording::Words;
use super::{Asks, ClientConnection, Peer, Question, frame, handed};
use crate::keyset::{KeysetOnToken, NoPin};
use crate::token::Pin;
use crate::token::check::{CheckOutcome, CheckRequest, CheckRunner};

/// The longest JSON of a frame, bytes. A question has a few lines of text, or names what should be on a token.
const LONGEST_HEAD: usize = 1024 * 1024;

/// What the worker tells the broker.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum FromWorker {
    /// It accepts connections.
    Ready {
        /// how it is shut in
        sandbox: String,
    },
    /// It does not want to know it any more: whoever asked has gone.
    Withdrawn {
        /// which question
        number: u64,
    },
    /// The use for which this dialog asked is over, and with it the dialog.
    DialogEnded {
        /// which one
        dialog: u64,
    },
    /// It wants to know something.
    Question {
        /// counts up
        number: u64,
        /// what
        what: Asked,
    },
}

/// What the worker may want to know.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Asked {
    /// the PIN of a token
    Pin {
        /// the question
        words: Words,
        /// all questions of one use have this number: the same dialog asks them
        dialog: u64,
    },
    /// a new PIN for a token
    NewPin(Words),
    /// yes or no
    Confirmation(Words),
    /// the name of the program with this process id
    Program(i32),
    /// how a person would be asked now
    Prompter,
    /// whether a person types each PIN, so that they can be asked again after a wrong one, in this dialog if it is open
    WhetherTyped {
        /// the dialog that asked
        dialog: u64,
    },
    /// the keysets that are hidden on this machine: their file is the user's, and the worker reads none of these
    HiddenKeysets,
    /// what a process with a module of its own says; the PIN that it needs is the frame's secret
    Check(CheckRequest),
}

/// What the broker tells the worker: the answer to a question.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct FromBroker {
    /// which question
    pub(super) number: u64,
    /// the answer
    pub(super) answer: Answer,
}

/// The answer to a question.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    /// the PIN is the frame's secret
    Pin {
        /// did a person type it for this?
        attended: bool,
    },
    /// yes
    Yes,
    /// no
    No,
    /// the person cancelled
    Cancelled,
    /// whoever wanted to know has gone
    Withdrawn,
    /// nobody can be asked
    Unavailable(String),
    /// what is known of a program
    Program(Option<String>),
    /// how a person is asked, or why nobody can be
    Prompter(Result<String, String>),
    /// the keysets that are hidden
    Hidden(Vec<KeysetOnToken>),
    /// what that process has said
    Checked(CheckOutcome),
}

/// The worker's end of the link.
#[derive(Debug)]
pub struct Link {
    reader: UnixStream,
    writer: Mutex<UnixStream>,
    open: Mutex<Open>,
    changed: Condvar,
}

/// An answer, and the secret that came with it.
type Answered = (Answer, Zeroizing<Vec<u8>>);

/// The questions that are not answered yet.
#[derive(Debug, Default)]
struct Open {
    last: u64,
    waiting: HashMap<u64, SyncSender<Answered>>,
    ended: bool,
}

impl Link {
    /// The link that the broker has made this process's stdin, and what the broker hands over first: sockets.
    ///
    /// # Errors
    /// [`BrokerError::Link`] when nobody, or no broker, has started this process.
    pub fn of_stdin() -> Result<(Self, Vec<OwnedFd>), BrokerError> {
        let foreign = |_| BrokerError::Link("the worker is started by `tokenkeep agent`, and not by hand".to_owned());
        let stdin = io::stdin().as_fd().try_clone_to_owned().map_err(foreign)?;
        let stream = UnixStream::from(stdin);
        let sockets = handed::take(&stream).map_err(foreign)?;
        let writer = Mutex::new(stream.try_clone().map_err(BrokerError::system("copy a descriptor"))?);
        Ok((Self { reader: stream, writer, open: Mutex::default(), changed: Condvar::new() }, sockets))
    }

    /// Says that connections are accepted.
    pub(super) fn ready(&self, sandbox: String) -> io::Result<()> {
        self.tell(&FromWorker::Ready { sandbox }, b"")
    }

    /// Hands answers to whoever waits for them, in a thread of its own.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn listen(self: &Arc<Self>) -> Result<(), BrokerError> {
        let link = Arc::clone(self);
        let thread = std::thread::Builder::new().name("link".to_owned()).stack_size(256 * 1024);
        thread.spawn(move || link.read_answers()).map(drop).map_err(BrokerError::system("start a thread"))
    }

    /// Waits until the broker ends.
    pub(super) fn wait_for_its_end(&self) {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.changed.wait_while(open, |open| !open.ended).unwrap_or_else(PoisonError::into_inner));
    }

    fn read_answers(&self) {
        let mut reader = &self.reader;
        while let Ok((FromBroker { number, answer }, secret)) = read_frame(&mut reader) {
            let waiting = self.open.lock().unwrap_or_else(PoisonError::into_inner).waiting.remove(&number);
            if let Some(waiting) = waiting {
                // Whoever asked may have gone.
                let _ = waiting.send((answer, secret));
            }
        }
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.ended = true;
        // Those who wait see that nobody answers any more.
        open.waiting.clear();
        self.changed.notify_all();
    }

    fn tell(&self, message: &FromWorker, secret: &[u8]) -> io::Result<()> {
        write_frame(&mut *self.writer.lock().unwrap_or_else(PoisonError::into_inner), message, secret)
    }

    /// Asks, as long as somebody waits for the answer.
    fn ask(&self, what: Asked, client: &ClientConnection) -> Option<Answered> {
        self.ask_with(what, b"", client)
    }

    /// The same; a PIN that is needed for it goes along.
    fn ask_with(&self, what: Asked, secret: &[u8], client: &ClientConnection) -> Option<Answered> {
        let withdrawn = || Some((Answer::Withdrawn, Zeroizing::default()));
        if client.has_hung_up() {
            return withdrawn();
        }
        let (sender, answer) = sync_channel(1);
        let number = {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            if open.ended {
                return None;
            }
            open.last += 1;
            let number = open.last;
            open.waiting.insert(number, sender);
            number
        };
        if self.tell(&FromWorker::Question { number, what }, secret).is_err() {
            self.open.lock().unwrap_or_else(PoisonError::into_inner).waiting.remove(&number);
            return None;
        }
        loop {
            let answered = if client.is_known() {
                answer.recv_timeout(LOOK)
            } else {
                answer.recv().map_err(|_| RecvTimeoutError::Disconnected)
            };
            match answered {
                // An answer that came just before the client went is nobody's, too.
                Ok(_) | Err(RecvTimeoutError::Timeout) if client.has_hung_up() => {
                    self.open.lock().unwrap_or_else(PoisonError::into_inner).waiting.remove(&number);
                    self.tell(&FromWorker::Withdrawn { number }, b"").ok()?;
                    return withdrawn();
                }
                Ok(answered) => return Some(answered),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
    }

    fn ask_for_pin(&self, what: Asked, client: &ClientConnection) -> Result<Pin, NoPin> {
        match self.ask(what, client) {
            Some((Answer::Pin { attended }, secret)) => {
                let text = std::str::from_utf8(&secret).map_err(|_| unavailable("the answer is no text"))?;
                let pin = Pin::new(text.to_owned()).map_err(|error| unavailable(&error.to_string()))?;
                Ok(pin.attended_if(attended))
            }
            other => Err(no(other)),
        }
    }
}

impl Asks for Link {
    fn pin(&self, question: &Question<'_>) -> Result<Pin, NoPin> {
        let asked = Asked::Pin { words: Words::for_pin(question), dialog: question.dialog };
        self.ask_for_pin(asked, &question.usage.client)
    }

    fn new_pin(&self, question: &Question<'_>) -> Result<Pin, NoPin> {
        self.ask_for_pin(Asked::NewPin(Words::for_new_pin(question)), &question.usage.client)
    }

    fn confirm(&self, question: &Question<'_>) -> Result<(), NoPin> {
        match self.ask(Asked::Confirmation(Words::for_confirmation(question)), &question.usage.client) {
            Some((Answer::Yes, _)) => Ok(()),
            other => Err(no(other)),
        }
    }

    fn can_ask_again(&self, dialog: u64) -> bool {
        matches!(self.ask(Asked::WhetherTyped { dialog }, &ClientConnection::default()), Some((Answer::Yes, _)))
    }

    fn end_dialog(&self, dialog: u64) {
        // Without a broker there is no dialog.
        let _ = self.tell(&FromWorker::DialogEnded { dialog }, b"");
    }

    fn prompter(&self) -> Result<String, String> {
        match self.ask(Asked::Prompter, &ClientConnection::default()) {
            Some((Answer::Prompter(prompter), _)) => prompter,
            _ => Err("the agent is ending".to_owned()),
        }
    }

    fn hidden_keysets(&self) -> Option<Vec<KeysetOnToken>> {
        match self.ask(Asked::HiddenKeysets, &ClientConnection::default()) {
            Some((Answer::Hidden(hidden), _)) => Some(hidden),
            _ => None,
        }
    }

    fn program(&self, peer: Peer) -> Option<String> {
        match self.ask(Asked::Program(peer.pid), &ClientConnection::default()) {
            Some((Answer::Program(name), _)) => name,
            _ => None,
        }
    }
}

/// The worker can start no program: the broker has the question answered.
impl CheckRunner for Arc<Link> {
    fn run(&self, request: &CheckRequest, pin: Option<&Pin>) -> CheckOutcome {
        let secret = pin.map_or("", Pin::as_str).as_bytes();
        match self.ask_with(Asked::Check(request.clone()), secret, &ClientConnection::default()) {
            Some((Answer::Checked(outcome), _)) => outcome,
            Some((Answer::Unavailable(reason), _)) => CheckOutcome::Unknown(reason),
            _ => CheckOutcome::Unknown("the agent is ending".to_owned()),
        }
    }
}

fn no(answer: Option<Answered>) -> NoPin {
    match answer {
        Some((Answer::No, _)) => NoPin::Declined,
        Some((Answer::Cancelled, _)) => NoPin::Cancelled,
        Some((Answer::Withdrawn, _)) => NoPin::Withdrawn,
        Some((Answer::Unavailable(reason), _)) => NoPin::Unavailable(reason),
        Some(_) => unavailable("the agent's broker answered another question"),
        None => unavailable("the agent is ending"),
    }
}

fn unavailable(reason: &str) -> NoPin {
    NoPin::Unavailable(reason.to_owned())
}

/// Sends a frame of the link.
pub(super) fn write_frame(stream: &mut impl Write, head: &impl Serialize, secret: &[u8]) -> io::Result<()> {
    frame::write(stream, head, secret, LONGEST_HEAD)
}

/// Receives a frame of the link: the head and the secret.
pub(super) fn read_frame<T: DeserializeOwned>(stream: &mut impl Read) -> io::Result<(T, Zeroizing<Vec<u8>>)> {
    frame::read(stream, LONGEST_HEAD)
}

#[cfg(test)]
mod tests;
