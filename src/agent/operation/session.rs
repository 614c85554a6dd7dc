//! The agent's side of an operation's connection: sends events to the command, receives its
//! replies, and notices when it disconnects.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::super::wiped_buffer::WipedBuffer;
use super::{Bytes, ClientQuestion, ClientReply, NetworkRequest, OperationEvent, ReplyValue};
use crate::keyset::{NoPin, Notice, Prompt, PromptReply, Step, UserPrompter};
use crate::token::Pin;
use crate::transport::{Transport, TransportError};

/// Maximum time a command may take to reply, because others wait for the token. Its network
/// requests time out sooner.
const REPLY_TIMEOUT: Duration = Duration::from_mins(5);

/// An operation's session with the command that requested it. The command sends nothing more on
/// this stream; the stream's end means that the command has exited.
#[derive(Debug)]
pub struct OperationSession {
    stream: Arc<UnixStream>,
    /// time limit for each reply
    timeout: Duration,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// number of questions and network requests so far
    number: u32,
    /// true until the last one has a reply
    open: bool,
    reply: Option<ReplyValue>,
    /// the reason, once the session has ended
    ended: Option<NoPin>,
}

impl OperationSession {
    /// Uses the connection that brought the request. A thread notices when the command disconnects.
    ///
    /// # Errors
    /// The connection cannot be duplicated, or no thread can be started.
    pub fn start(stream: Arc<UnixStream>) -> io::Result<Arc<Self>> {
        Self::with_timeout(stream, REPLY_TIMEOUT)
    }

    fn with_timeout(stream: Arc<UnixStream>, timeout: Duration) -> io::Result<Arc<Self>> {
        let mut watched = stream.try_clone()?;
        // A command that does not read its questions times out, too.
        stream.set_write_timeout(Some(timeout))?;
        let session = Arc::new(Self { stream, timeout, state: Mutex::default(), changed: Condvar::new() });
        let own = Arc::clone(&session);
        thread::Builder::new().name("op-watch".to_owned()).stack_size(64 * 1024).spawn(move || {
            let mut byte = [0; 1];
            loop {
                match watched.read(&mut byte) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    // The end of the stream, or bytes that the protocol does not allow.
                    _ => break own.mark_ended(NoPin::Withdrawn),
                }
            }
        })?;
        Ok(session)
    }

    /// Takes the command's reply to the open question.
    ///
    /// # Errors
    /// The reason for which the reply was rejected.
    pub fn answer(&self, answer: ClientReply) -> Result<(), &'static str> {
        let mut state = self.state();
        if state.ended.is_some() {
            return Err("the command that started this operation has exited");
        }
        if !state.open || state.number != answer.number {
            return Err("no question with this number is open");
        }
        state.open = false;
        state.reply = Some(answer.reply);
        self.changed.notify_all();
        Ok(())
    }

    /// Sends the last event and closes the connection.
    pub fn end(&self, line: &OperationEvent) {
        self.send_event(line);
        // This also ends the watching thread.
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// Returns true while the command is connected.
    pub fn is_open(&self) -> bool {
        self.state().ended.is_none()
    }

    /// Sends an event as one line of JSON.
    pub fn send_event(&self, line: &OperationEvent) {
        // Events can hold secrets, so the buffer is wiped.
        let mut text = WipedBuffer::with_capacity(512);
        let written = serde_json::to_writer(&mut text, line).map_err(io::Error::from).and_then(|()| {
            text.write_all(b"\n")?;
            (&*self.stream).write_all(text.as_slice())
        });
        if written.is_err() {
            self.mark_ended(NoPin::Withdrawn);
        }
    }

    /// Sends a question or network request and waits for the reply. Fails if the command
    /// disconnects or does not reply in time.
    fn ask(&self, line: impl FnOnce(u32) -> OperationEvent) -> Result<ReplyValue, NoPin> {
        let number = {
            let mut state = self.state();
            if let Some(reason) = &state.ended {
                return Err(reason.clone());
            }
            state.number += 1;
            state.open = true;
            state.reply = None;
            state.number
        };
        self.send_event(&line(number));
        let mut state = self.state();
        let asked = Instant::now();
        loop {
            // A reply that came before the command disconnected is valid, but nobody waits for the
            // result.
            if let Some(reason) = &state.ended {
                return Err(reason.clone());
            }
            if let Some(reply) = state.reply.take() {
                return Ok(reply);
            }
            let left = self.timeout.saturating_sub(asked.elapsed());
            if left.is_zero() {
                drop(state);
                self.mark_ended(NoPin::Cancelled);
                return Err(NoPin::Cancelled);
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn mark_ended(&self, reason: NoPin) {
        let mut state = self.state();
        state.ended.get_or_insert(reason);
        state.reply = None;
        self.changed.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The command as an operation's [`UserPrompter`].
#[derive(Debug)]
pub struct ClientPrompter<'a>(pub &'a OperationSession);

impl UserPrompter for ClientPrompter<'_> {
    fn ask(&mut self, prompt: Prompt<'_>) -> Result<PromptReply, NoPin> {
        let own_use = || NoPin::Unavailable("a command cannot confirm its own request".to_owned());
        let question = ClientQuestion::of(prompt).ok_or_else(own_use)?;
        match self.0.ask(|number| OperationEvent::Ask { number, question }) {
            Ok(ReplyValue::Pin(pin)) => parse_pin(pin).map(PromptReply::Pin),
            Ok(ReplyValue::UnattendedPin(pin)) => parse_pin(pin).map(Pin::unattended).map(PromptReply::Pin),
            Ok(ReplyValue::Yes {}) => Ok(PromptReply::Yes),
            Ok(ReplyValue::No(reason)) | Err(reason) => Err(reason),
            Ok(_) => Err(unexpected_reply()),
        }
    }

    fn progress(&mut self, step: Step) {
        self.0.send_event(&OperationEvent::Progress(step));
    }

    fn notice(&mut self, notice: Notice) {
        self.0.send_event(&OperationEvent::Notice(notice));
    }
}

fn parse_pin(pin: Bytes) -> Result<Pin, NoPin> {
    let no_pin = || NoPin::Unavailable("the command's reply is not a PIN".to_owned());
    let mut text = pin.into_text().ok_or_else(no_pin)?;
    Pin::new(std::mem::take(&mut *text)).map_err(|error| NoPin::Unavailable(error.to_string()))
}

fn unexpected_reply() -> NoPin {
    NoPin::Unavailable("the command's reply does not match the question".to_owned())
}

/// The command as an operation's [`Transport`].
#[derive(Debug)]
pub struct ClientTransport<'a>(pub &'a OperationSession);

impl ClientTransport<'_> {
    fn send_request(&self, request: NetworkRequest) -> Result<ReplyValue, TransportError> {
        match self.0.ask(|number| OperationEvent::NetworkRequest { number, request }) {
            Ok(ReplyValue::NetworkFailed(error)) => Err(error),
            Ok(reply) => Ok(reply),
            // As when the command is killed: the request may have arrived, and the same letter
            // resumes it.
            Err(_) => Err(TransportError::Unreachable {
                url: "the other end of the command's connection".to_owned(),
                reason: "the command has exited".to_owned(),
            }),
        }
    }

    fn bytes(&self, request: NetworkRequest) -> Result<Vec<u8>, TransportError> {
        match self.send_request(request)? {
            ReplyValue::NetworkReply(bytes) => Ok(bytes.into_vec()),
            _ => Err(unexpected_network_reply()),
        }
    }
}

impl Transport for ClientTransport<'_> {
    fn cmp(&self, message: &[u8]) -> Result<Vec<u8>, TransportError> {
        self.bytes(NetworkRequest::Cmp(message.into()))
    }

    fn ca_certificate(&self) -> Result<Vec<u8>, TransportError> {
        self.bytes(NetworkRequest::CaCertificate {})
    }

    fn search_certificates(&self, email: &str) -> Result<Vec<Vec<u8>>, TransportError> {
        match self.send_request(NetworkRequest::SearchCertificates(email.to_owned()))? {
            ReplyValue::Certificates(found) => Ok(found.into_iter().map(Bytes::into_vec).collect()),
            _ => Err(unexpected_network_reply()),
        }
    }

    fn instance(&self) -> Result<Vec<u8>, TransportError> {
        self.bytes(NetworkRequest::Instance {})
    }

    fn statement(&self, statement: &[u8]) -> Result<Vec<u8>, TransportError> {
        self.bytes(NetworkRequest::Statement(statement.into()))
    }
}

/// Reported as an interruption, not a refusal: an error of this protocol must not discard a letter.
fn unexpected_network_reply() -> TransportError {
    TransportError::Unreachable {
        url: "the other end of the command's connection".to_owned(),
        reason: "the command's reply does not match the network request".to_owned(),
    }
}

#[cfg(test)]
mod tests;
