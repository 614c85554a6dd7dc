//! Asks a person: for a PIN, for a new PIN, for yes or no. Besides `cli`, the only room that speaks to one.
//!
//! [`Prompter`] is for a command, whose person sits before it: a PIN comes from where `--pin-source` says: the terminal
//! without echo, a file, a descriptor, a systemd credential; never from an argument and never from the environment.
//! [`Dialog`] is for a service, whose person is somewhere: it starts a program that asks (pinentry, askpass, a command of
//! the user's own), or asks at a terminal. One call gives one PIN for one act. A person who presses Ctrl-C, closes the
//! window, ends the input, types nothing or does not answer in time has cancelled, and that is told apart from everything
//! else. This room must never keep a PIN, never ask a token, never guess or fill in an answer, and never take silence for
//! a yes.

mod ask;
mod askpass;
mod assuan;
mod child;
mod command;
mod deadline;
mod dialog;
mod environment;
mod error;
mod pinentry;
mod source;
mod terminal;
mod way;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use crate::characters::is_invisible;
use crate::token::{Pin, PinRule};

pub use ask::Ask;
pub use dialog::Dialog;
pub use environment::Environment;
pub use error::PrompterError;
pub use source::PinSource;
pub use way::Way;

use deadline::{Deadline, GONE};
use terminal::{Answer, Terminal};

/// How often a new PIN is asked for when the two entries differ, before it is given up.
const NEW_PIN_ROUNDS: usize = 3;

/// Where the answers come from: one source for PINs that exist, one for new ones.
#[derive(Debug, Clone)]
pub struct Prompter {
    pin: PinSource,
    new_pin: PinSource,
    credentials: Option<PathBuf>,
    descriptors: Option<Vec<u32>>,
    terminal: PathBuf,
    asker: Option<Arc<OwnedFd>>,
}

impl Prompter {
    /// A prompter that takes PINs from `pin` and new PINs from `new_pin`, and asks at `/dev/tty`.
    pub fn new(pin: PinSource, new_pin: PinSource) -> Self {
        Self { pin, new_pin, credentials: None, descriptors: None, terminal: PathBuf::from("/dev/tty"), asker: None }
    }

    /// With the directory in which systemd put the credentials (`$CREDENTIALS_DIRECTORY`).
    #[must_use]
    pub fn with_credentials(mut self, directory: Option<PathBuf>) -> Self {
        self.credentials = directory;
        self
    }

    /// With the descriptors that were open when the program was started. Any other number is by now a file of the
    /// program's own or of a module's: what is read there is nobody's PIN, and would cost a try.
    #[must_use]
    pub fn with_descriptors(mut self, open: Vec<u32>) -> Self {
        self.descriptors = Some(open);
        self
    }

    /// With another terminal than `/dev/tty`.
    #[must_use]
    pub fn with_terminal(mut self, terminal: impl Into<PathBuf>) -> Self {
        self.terminal = terminal.into();
        self
    }

    /// Whoever wants the answers is at the other end of this connection: when it can be read or ends while somebody is asked
    /// at the terminal, the question is withdrawn ([`PrompterError::Withdrawn`]).
    pub fn ask_while_open(&mut self, connection: impl AsFd) {
        // Without a second handle nothing is watched, and the answer comes too late as it did before.
        self.asker = connection.as_fd().try_clone_to_owned().ok().map(Arc::new);
    }

    /// Whether a person types the PIN, at a terminal that is there: else a token's last try is not taken.
    pub fn attended(&self) -> bool {
        self.pin == PinSource::Prompt && Terminal::open(&self.terminal).is_ok()
    }

    /// Whether a person would have to type the PIN, and there is no terminal to type it at.
    pub fn lacks_terminal(&self) -> bool {
        self.pin == PinSource::Prompt && Terminal::open(&self.terminal).is_err()
    }

    /// A PIN that exists; `what` completes "… PIN of", e.g. `token "default" (serial 1234)`.
    ///
    /// # Errors
    /// [`PrompterError::Cancelled`], and what is wrong with the source.
    pub fn pin(&self, what: &str) -> Result<Pin, PrompterError> {
        match &self.pin {
            PinSource::Prompt => self.typed(&format!("PIN of {what}"), what),
            source => self.read(source),
        }
    }

    /// A new PIN, which has to keep to this rule, where one is known; at the terminal the rule is said, the PIN is typed
    /// twice, and asked for again when it does not keep to it, or the two differ.
    ///
    /// # Errors
    /// [`PrompterError::Cancelled`], [`PrompterError::Differ`], and what is wrong with the source.
    pub fn new_pin(&self, what: &str, rule: Option<PinRule>) -> Result<Pin, PrompterError> {
        let kept =
            |pin: Pin| rule.map_or(Ok(()), |rule| rule.check(&pin)).map(|()| pin).map_err(PrompterError::NotAPin);
        if self.new_pin != PinSource::Prompt {
            return self.read(&self.new_pin).and_then(kept);
        }
        let said = rule.map(|rule| format!(" ({rule})")).unwrap_or_default();
        let mut last = PrompterError::Differ;
        for _ in 0..NEW_PIN_ROUNDS {
            let first = match self.typed(&format!("New PIN for {what}{said}"), what).and_then(kept) {
                // Said at once, and not after it was typed twice.
                Err(error @ PrompterError::NotAPin(_)) => {
                    self.say(&format!("{error}."));
                    last = error;
                    continue;
                }
                typed => typed?,
            };
            let second = self.typed("The new PIN again", what)?;
            if first.as_str() == second.as_str() {
                return Ok(second);
            }
            self.say("The two differ.");
            last = PrompterError::Differ;
        }
        Err(last)
    }

    /// Asks for yes or no at the terminal, whatever the PIN sources are. Only `y` and `yes` are a yes.
    ///
    /// # Errors
    /// [`PrompterError::Cancelled`] (Ctrl-C, end of input), [`PrompterError::NoTerminal`].
    pub fn confirm(&self, question: &str) -> Result<bool, PrompterError> {
        let mut terminal = self.open("ask for a confirmation")?;
        match terminal.ask_visibly(&format!("{question} [y/N] ")) {
            Ok(Answer::Text(text)) => Ok(matches!(text.trim().to_lowercase().as_str(), "y" | "yes")),
            Ok(Answer::Cancelled) => Err(PrompterError::Cancelled { what: "the confirmation".to_owned() }),
            Ok(Answer::Interrupted) => Err(PrompterError::Interrupted { what: "the confirmation".to_owned() }),
            Err(source) => Err(broke(source, "the confirmation")),
        }
    }

    /// Shows a line at the terminal if there is one: a warning before a last try, "touch the token".
    pub fn say(&self, line: &str) {
        // Whoever cannot be told is not there; nothing depends on it.
        let _ = Terminal::open(&self.terminal).and_then(|mut terminal| terminal.say(line));
    }

    fn read(&self, source: &PinSource) -> Result<Pin, PrompterError> {
        source.read(self.credentials.as_deref(), self.descriptors.as_deref())
    }

    fn typed(&self, prompt: &str, what: &str) -> Result<Pin, PrompterError> {
        let mut terminal = self.open("ask for the PIN")?;
        match terminal.ask_without_echo(&format!("{prompt}: ")) {
            Ok(Answer::Text(text)) if !text.is_empty() => Ok(Pin::new(text.as_str().to_owned())?),
            Ok(Answer::Interrupted) => Err(PrompterError::Interrupted { what: format!("the PIN of {what}") }),
            Ok(_) => Err(PrompterError::Cancelled { what: format!("the PIN of {what}") }),
            Err(source) => Err(broke(source, &format!("the PIN of {what}"))),
        }
    }

    fn open(&self, act: &'static str) -> Result<Terminal, PrompterError> {
        let terminal = Terminal::open(&self.terminal).map_err(|source| PrompterError::NoTerminal { act, source })?;
        Ok(terminal.within(Deadline::default().for_askers(self.asker.as_slice())))
    }
}

fn broke(source: io::Error, what: &str) -> PrompterError {
    match source.kind() {
        GONE => PrompterError::Withdrawn { what: what.to_owned() },
        _ => PrompterError::Terminal { source },
    }
}

/// Text from elsewhere (a token's label, a path) as a person's terminal may show it: no control characters, which
/// could move the cursor over what was said before, nothing that breaks or reorders the line, and nothing that is there
/// but not seen, which makes two different names look the same.
pub fn showable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() || is_invisible(c) { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests;
