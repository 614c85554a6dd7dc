//! The worker's questions and their answers: names of programs at once, questions to the person one at a time, in order.

use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use super::{BrokerError, broken_pipe, programs, spawn};
use crate::agent::link::{Answer, Asked, FromBroker, write_frame};
use crate::agent::wording::Words;
use crate::keyset::NoPin;
use crate::token::Pin;

/// Whoever speaks to the person. Called for one question at a time.
pub trait AsksPerson: Send {
    /// Asks for the PIN that a token has.
    fn pin(&mut self, question: &Words) -> Result<Pin, NoPin>;

    /// Asks for yes or no; false is no.
    fn confirm(&mut self, question: &Words) -> Result<bool, NoPin>;
}

/// Takes questions and sends the answers. Clones share one queue.
#[derive(Clone)]
pub(super) struct Questions {
    queue: Sender<Waiting>,
    /// Answers come from several threads: one frame at a time.
    writing: Arc<Mutex<()>>,
}

struct Waiting {
    number: u64,
    what: Asked,
    link: UnixStream,
}

impl Questions {
    /// Starts whoever asks the person.
    pub(super) fn answered_by(mut person: Box<dyn AsksPerson>) -> Result<Self, BrokerError> {
        let (queue, waiting): (_, Receiver<Waiting>) = channel();
        let writing = Arc::new(Mutex::new(()));
        let questions = Self { queue, writing: writing.clone() };
        spawn("prompter", move || {
            for Waiting { number, what, link } in waiting {
                let (answer, pin) = ask(person.as_mut(), what);
                tell(&writing, &link, number, answer, pin.as_ref());
            }
        })?;
        Ok(questions)
    }

    /// Takes a question that came over this link; the answer goes there.
    pub(super) fn take(&self, number: u64, what: Asked, link: &UnixStream) {
        let taken = link.try_clone().map_err(BrokerError::system("copy a descriptor")).and_then(|link| match what {
            // Reading about a process can hang as long as that process does.
            Asked::Program(pid) => {
                let writing = self.writing.clone();
                spawn("program", move || {
                    tell(&writing, &link, number, Answer::Program(programs::describe(pid)), None);
                })
            }
            what => self.queue.send(Waiting { number, what, link }).map_err(|_| broken_pipe("ask the person")),
        });
        if let Err(error) = taken {
            tell(&self.writing, link, number, Answer::Unavailable(error.to_string()), None);
        }
    }
}

fn tell(writing: &Mutex<()>, mut link: &UnixStream, number: u64, answer: Answer, pin: Option<&Pin>) {
    let _one_at_a_time = writing.lock().unwrap_or_else(PoisonError::into_inner);
    let secret = pin.map_or("", Pin::as_str).as_bytes();
    // The worker that asked may be gone.
    if let Err(error) = write_frame(&mut link, &FromBroker { number, answer }, secret) {
        tracing::debug!(%error, "an answer came too late");
    }
}

fn ask(person: &mut dyn AsksPerson, what: Asked) -> (Answer, Option<Pin>) {
    let answer = match what {
        Asked::Pin(words) => match person.pin(&with_program(words)) {
            Ok(pin) => return (Answer::Pin, Some(pin)),
            Err(reason) => no(reason),
        },
        Asked::Confirmation(words) => match person.confirm(&with_program(words)) {
            Ok(true) => Answer::Yes,
            Ok(false) => Answer::Cancelled,
            Err(reason) => no(reason),
        },
        Asked::Program(pid) => Answer::Program(programs::describe(pid)),
    };
    (answer, None)
}

fn no(reason: NoPin) -> Answer {
    match reason {
        NoPin::Cancelled => Answer::Cancelled,
        other => Answer::Unavailable(other.to_string()),
    }
}

/// With the program that asks in the first line.
fn with_program(mut words: Words) -> Words {
    let program = programs::describe(words.pid).unwrap_or_else(|| format!("a program unknown (process {})", words.pid));
    words.lines.insert(0, format!("Asked by: {program}"));
    words
}
