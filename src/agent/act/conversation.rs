//! The agent's end of an act's wire: lines to the command, answers from it, and whether it is still there.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::super::wiped::WipedBuffer;
use super::{Asked, Bytes, Errand, Line, Reply, ReplyTo};
use crate::carrier::{Carrier, CarrierError};
use crate::keyset::{NoPin, Notice, Person, PinRequest, SecurityOfficer, Step};
use crate::token::{Pin, PinRule, TokenInfo};

/// How long a command may take to answer: others wait for the token meanwhile. Its errands to an authority end sooner.
const PATIENCE: Duration = Duration::from_mins(5);

/// An act's conversation with the command that asked for it. The stream's other direction carries nothing more: when it
/// ends, the command is gone.
#[derive(Debug)]
pub struct Conversation {
    stream: Arc<UnixStream>,
    /// how long the command has for each answer
    patience: Duration,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// how many questions and errands there were
    number: u32,
    /// Is the last of them not answered?
    open: bool,
    reply: Option<Reply>,
    /// why it is not waited for any more
    gone: Option<NoPin>,
}

impl Conversation {
    /// Over the connection that brought the request. A thread of its own notices when the command goes away.
    ///
    /// # Errors
    /// The connection cannot be doubled, or no thread started.
    pub fn over(stream: Arc<UnixStream>) -> io::Result<Arc<Self>> {
        Self::with_patience(stream, PATIENCE)
    }

    fn with_patience(stream: Arc<UnixStream>, patience: Duration) -> io::Result<Arc<Self>> {
        let mut watched = stream.try_clone()?;
        // One that does not even read what it is asked is not waited for, either.
        stream.set_write_timeout(Some(patience))?;
        let conversation = Arc::new(Self { stream, patience, state: Mutex::default(), changed: Condvar::new() });
        let here = Arc::clone(&conversation);
        thread::Builder::new().name("act-watch".to_owned()).stack_size(64 * 1024).spawn(move || {
            let mut byte = [0; 1];
            loop {
                match watched.read(&mut byte) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    // Whatever comes now is nothing that this protocol has.
                    _ => break here.went(NoPin::Withdrawn),
                }
            }
        })?;
        Ok(conversation)
    }

    /// Takes the command's answer to the question that is open.
    ///
    /// # Errors
    /// What is wrong with it, as a sentence.
    pub fn answer(&self, answer: ReplyTo) -> Result<(), &'static str> {
        let mut state = self.state();
        if state.gone.is_some() {
            return Err("the command that asked for this act is gone");
        }
        if !state.open || state.number != answer.number {
            return Err("no question of this number is open");
        }
        state.open = false;
        state.reply = Some(answer.reply);
        self.changed.notify_all();
        Ok(())
    }

    /// Says the last line and ends the connection.
    pub fn end(&self, line: &Line) {
        self.say(line);
        // The watching thread ends with it.
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// Is the command still there?
    pub fn is_open(&self) -> bool {
        self.state().gone.is_none()
    }

    /// Says a line.
    pub fn say(&self, line: &Line) {
        // Questions and answers can hold secrets: what they were written in is wiped.
        let mut text = WipedBuffer::with_capacity(512);
        let written = serde_json::to_writer(&mut text, line).map_err(io::Error::from).and_then(|()| {
            text.write_all(b"\n")?;
            (&*self.stream).write_all(text.as_slice())
        });
        if written.is_err() {
            self.went(NoPin::Withdrawn);
        }
    }

    /// Asks, and waits for the answer; why there is none when the command is gone, or did not answer in time.
    fn ask(&self, line: impl FnOnce(u32) -> Line) -> Result<Reply, NoPin> {
        let number = {
            let mut state = self.state();
            if let Some(why) = &state.gone {
                return Err(why.clone());
            }
            state.number += 1;
            state.open = true;
            state.reply = None;
            state.number
        };
        self.say(&line(number));
        let mut state = self.state();
        let asked = Instant::now();
        loop {
            // An answer that came before the command went is one that it gave; but nobody waits for what comes of it.
            if let Some(why) = &state.gone {
                return Err(why.clone());
            }
            if let Some(reply) = state.reply.take() {
                return Ok(reply);
            }
            let left = self.patience.saturating_sub(asked.elapsed());
            if left.is_zero() {
                drop(state);
                self.went(NoPin::Cancelled);
                return Err(NoPin::Cancelled);
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn went(&self, why: NoPin) {
        let mut state = self.state();
        state.gone.get_or_insert(why);
        state.reply = None;
        self.changed.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The command as the [`Person`] of an act.
#[derive(Debug)]
pub struct RemotePerson<'a>(pub &'a Conversation);

impl RemotePerson<'_> {
    fn pin_for(&self, question: Asked) -> Result<Pin, NoPin> {
        match self.0.ask(|number| Line::Ask { number, question }) {
            Ok(Reply::Pin(pin)) => taken(pin),
            Ok(Reply::UnattendedPin(pin)) => taken(pin).map(Pin::unattended),
            Ok(Reply::No(reason)) => Err(reason),
            Ok(_) => Err(unfitting()),
            Err(gone) => Err(gone),
        }
    }

    fn yes(&self, question: Asked) -> Result<(), NoPin> {
        match self.0.ask(|number| Line::Ask { number, question }) {
            Ok(Reply::Yes {}) => Ok(()),
            Ok(Reply::No(reason)) => Err(reason),
            Ok(_) => Err(unfitting()),
            Err(gone) => Err(gone),
        }
    }
}

impl Person for RemotePerson<'_> {
    fn pin(&mut self, request: PinRequest<'_>) -> Result<Pin, NoPin> {
        self.pin_for(request.into())
    }

    fn risks_last_try(&mut self, token: &TokenInfo) -> Result<(), NoPin> {
        self.yes(Asked::LastTry { token: token.clone() })
    }

    fn security_officer(&mut self) -> Option<&mut dyn SecurityOfficer> {
        Some(self)
    }

    fn progress(&mut self, step: Step) {
        self.0.say(&Line::Progress(step));
    }

    fn notice(&mut self, notice: Notice) {
        self.0.say(&Line::Notice(notice));
    }
}

impl SecurityOfficer for RemotePerson<'_> {
    fn risks_last_try(&mut self, token: &TokenInfo) -> Result<(), NoPin> {
        self.yes(Asked::LastSoTry { token: token.clone() })
    }

    fn so_pin(&mut self, token: &TokenInfo) -> Result<Pin, NoPin> {
        self.pin_for(Asked::SoPin { token: token.clone() })
    }

    fn new_pin(&mut self, token: &TokenInfo, rule: PinRule) -> Result<Pin, NoPin> {
        self.pin_for(Asked::NewInstead { token: token.clone(), rule })
    }
}

fn taken(pin: Bytes) -> Result<Pin, NoPin> {
    let no_pin = || NoPin::Unavailable("the command's answer is no PIN".to_owned());
    let mut text = pin.into_text().ok_or_else(no_pin)?;
    Pin::new(std::mem::take(&mut *text)).map_err(|error| NoPin::Unavailable(error.to_string()))
}

fn unfitting() -> NoPin {
    NoPin::Unavailable("the command's answer does not fit the question".to_owned())
}

/// The command as the [`Carrier`] of an act.
#[derive(Debug)]
pub struct RemoteCarrier<'a>(pub &'a Conversation);

impl RemoteCarrier<'_> {
    fn bring(&self, errand: Errand) -> Result<Reply, CarrierError> {
        match self.0.ask(|number| Line::Carry { number, errand }) {
            Ok(Reply::NotCarried(error)) => Err(error),
            Ok(reply) => Ok(reply),
            // As when the command is killed: the request may have arrived, and the same letter goes on with it.
            Err(_) => Err(CarrierError::Unreachable {
                url: "the other end of the command's connection".to_owned(),
                reason: "the command is gone".to_owned(),
            }),
        }
    }

    fn bytes(&self, errand: Errand) -> Result<Vec<u8>, CarrierError> {
        match self.bring(errand)? {
            Reply::Carried(bytes) => Ok(bytes.into_vec()),
            _ => Err(not_an_answer()),
        }
    }
}

impl Carrier for RemoteCarrier<'_> {
    fn cmp(&self, message: &[u8]) -> Result<Vec<u8>, CarrierError> {
        self.bytes(Errand::Cmp(message.into()))
    }

    fn ca_certificate(&self) -> Result<Vec<u8>, CarrierError> {
        self.bytes(Errand::CaCertificate {})
    }

    fn search_certificates(&self, email: &str) -> Result<Vec<Vec<u8>>, CarrierError> {
        match self.bring(Errand::SearchCertificates(email.to_owned()))? {
            Reply::Certificates(found) => Ok(found.into_iter().map(Bytes::into_vec).collect()),
            _ => Err(not_an_answer()),
        }
    }

    fn instance(&self) -> Result<Vec<u8>, CarrierError> {
        self.bytes(Errand::Instance {})
    }

    fn statement(&self, statement: &[u8]) -> Result<Vec<u8>, CarrierError> {
        self.bytes(Errand::Statement(statement.into()))
    }
}

/// Interrupted and not refused: a letter is not given back for what only this wire has got wrong.
fn not_an_answer() -> CarrierError {
    CarrierError::Unreachable {
        url: "the other end of the command's connection".to_owned(),
        reason: "the command's answer does not fit the errand".to_owned(),
    }
}

#[cfg(test)]
mod tests;
