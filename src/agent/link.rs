//! The link between the agent's two processes: a socket pair on which the worker asks and the broker answers.
//!
//! A frame is two lengths (four bytes each, big endian), that many bytes of JSON, and that many bytes of a secret: a PIN is
//! never inside the JSON, whose reader keeps copies. Every question has a number, so that many can be open at once. Both
//! lengths are bounded. When either process ends, the link does; a worker without a broker ends, too.

use std::collections::HashMap;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::broker::BrokerError;
use super::wording::Words;
use super::{Asks, Peer, Question};
use crate::keyset::NoPin;
use crate::token::Pin;

/// The longest JSON of a frame, bytes. A question has a few lines of text.
const LONGEST_HEAD: usize = 64 * 1024;

/// The longest secret of a frame, bytes.
const LONGEST_SECRET: usize = Pin::MAX_BYTES;

/// What the worker tells the broker.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum FromWorker {
    /// It accepts connections.
    Ready {
        /// how it is shut in
        sandbox: String,
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
    Pin(Words),
    /// a new PIN for a token
    NewPin(Words),
    /// yes or no
    Confirmation(Words),
    /// the name of the program with this process id
    Program(i32),
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
    Pin,
    /// yes
    Yes,
    /// the person cancelled, or said no
    Cancelled,
    /// nobody can be asked
    Unavailable(String),
    /// what is known of a program
    Program(Option<String>),
}

/// The worker's end of the link.
#[derive(Debug)]
pub struct Link {
    reader: UnixStream,
    writer: Mutex<UnixStream>,
    open: Mutex<Open>,
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
    /// The link that the broker has made this process's stdin, and the two listeners (SSH, API) that come over it first.
    ///
    /// # Errors
    /// [`BrokerError::Link`] when nobody, or no broker, has started this process.
    pub fn of_stdin() -> Result<(Self, [UnixListener; 2]), BrokerError> {
        let foreign = |_| BrokerError::Link("the worker is started by `tokenkeep agent`, and not by hand".to_owned());
        let stdin = io::stdin().as_fd().try_clone_to_owned().map_err(foreign)?;
        let stream = UnixStream::from(stdin);
        let listeners = receive_listeners(&stream).map_err(foreign)?;
        let writer = Mutex::new(stream.try_clone().map_err(BrokerError::system("copy a descriptor"))?);
        Ok((Self { reader: stream, writer, open: Mutex::default() }, listeners))
    }

    /// Says that connections are accepted.
    pub(super) fn ready(&self, sandbox: String) -> io::Result<()> {
        self.tell(&FromWorker::Ready { sandbox })
    }

    /// Hands answers to whoever waits for them, until the broker ends.
    pub(super) fn read_answers(&self) {
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
    }

    fn tell(&self, message: &FromWorker) -> io::Result<()> {
        write_frame(&mut *self.writer.lock().unwrap_or_else(PoisonError::into_inner), message, b"")
    }

    fn ask(&self, what: Asked) -> Option<Answered> {
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
        self.tell(&FromWorker::Question { number, what }).ok()?;
        answer.recv().ok()
    }

    fn ask_for_pin(&self, what: Asked) -> Result<Pin, NoPin> {
        match self.ask(what) {
            Some((Answer::Pin, secret)) => {
                let text = std::str::from_utf8(&secret).map_err(|_| unavailable("the answer is no text"))?;
                Pin::new(text.to_owned()).map_err(|error| unavailable(&error.to_string()))
            }
            other => Err(no(other)),
        }
    }
}

impl Asks for Link {
    fn pin(&self, question: &Question<'_>) -> Result<Pin, NoPin> {
        self.ask_for_pin(Asked::Pin(Words::for_pin(question)))
    }

    fn new_pin(&self, question: &Question<'_>) -> Result<Pin, NoPin> {
        self.ask_for_pin(Asked::NewPin(Words::for_new_pin(question)))
    }

    fn confirm(&self, question: &Question<'_>) -> Result<(), NoPin> {
        match self.ask(Asked::Confirmation(Words::for_confirmation(question))) {
            Some((Answer::Yes, _)) => Ok(()),
            other => Err(no(other)),
        }
    }

    fn program(&self, peer: Peer) -> Option<String> {
        match self.ask(Asked::Program(peer.pid)) {
            Some((Answer::Program(name), _)) => name,
            _ => None,
        }
    }
}

fn no(answer: Option<Answered>) -> NoPin {
    match answer {
        Some((Answer::Cancelled, _)) => NoPin::Cancelled,
        Some((Answer::Unavailable(reason), _)) => NoPin::Unavailable(reason),
        Some(_) => unavailable("the agent's broker answered another question"),
        None => unavailable("the agent is ending"),
    }
}

fn unavailable(reason: &str) -> NoPin {
    NoPin::Unavailable(reason.to_owned())
}

/// Sends a frame.
pub(super) fn write_frame(stream: &mut impl Write, head: &impl Serialize, secret: &[u8]) -> io::Result<()> {
    let head = serde_json::to_vec(head)?;
    if head.len() > LONGEST_HEAD || secret.len() > LONGEST_SECRET {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // Made whole in one piece: it does not grow, so that no copy of the secret is left behind.
    let mut frame = Zeroizing::new(Vec::with_capacity(8 + head.len() + secret.len()));
    for part in [&head[..], secret] {
        frame.extend_from_slice(&u32::try_from(part.len()).map_err(|_| io::ErrorKind::InvalidInput)?.to_be_bytes());
    }
    frame.extend_from_slice(&head);
    frame.extend_from_slice(secret);
    stream.write_all(&frame)
}

/// Receives a frame: the head and the secret.
pub(super) fn read_frame<T: DeserializeOwned>(stream: &mut impl Read) -> io::Result<(T, Zeroizing<Vec<u8>>)> {
    let head = read_length(stream, LONGEST_HEAD)?;
    let secret = read_length(stream, LONGEST_SECRET)?;
    let mut bytes = vec![0; head];
    stream.read_exact(&mut bytes)?;
    let mut rest = Zeroizing::new(vec![0; secret]);
    stream.read_exact(&mut rest)?;
    Ok((serde_json::from_slice(&bytes)?, rest))
}

fn read_length(stream: &mut impl Read, longest: usize) -> io::Result<usize> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    usize::try_from(u32::from_be_bytes(length))
        .ok()
        .filter(|length| *length <= longest)
        .ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Hands the two listeners (SSH, API) over.
pub(super) fn send_listeners(stream: &UnixStream, listeners: [&UnixListener; 2]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let descriptors = listeners.map(AsFd::as_fd);
    if !ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    sendmsg(stream, &[IoSlice::new(b"L")], &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(())
}

fn receive_listeners(stream: &UnixStream) -> io::Result<[UnixListener; 2]> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    recvmsg(stream, &mut [IoSliceMut::new(&mut byte)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    let received: Vec<OwnedFd> = ancillary
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        })
        .flatten()
        .collect();
    let received: [OwnedFd; 2] = received.try_into().map_err(|_| io::ErrorKind::InvalidData)?;
    Ok(received.map(UnixListener::from))
}

#[cfg(test)]
mod tests;
