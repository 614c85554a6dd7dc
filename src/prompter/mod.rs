//! Prompts the user for a PIN, a new PIN, or a confirmation. Apart from `cli`, this is the only
//! module that interacts with a user.
//!
//! [`Prompter`] serves commands, whose user is at the terminal. The PIN comes from the source of
//! `--pin-source`: the terminal without echo, a file, a descriptor or a systemd credential; never
//! from an argument or an environment variable. [`Dialog`] serves the agent, whose user may be
//! elsewhere: it starts a program (pinentry, askpass, or a command of the user's), or uses a
//! terminal. One call returns one PIN for one operation. Ctrl-C, a closed window, the end of input,
//! an empty input and a timeout count as cancelled, which is distinct from every other error.
//!
//! This module must never keep a PIN, access a token, guess or complete an answer, or take silence
//! for a yes.

mod askpass;
mod assuan;
mod command;
mod deadline;
mod dialog;
mod environment;
mod error;
mod method;
mod pinentry;
mod prompt_process;
mod prompt_request;
mod source;
mod terminal;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use crate::characters::is_invisible;
use crate::token::{Pin, PinRule};

pub use dialog::Dialog;
pub use environment::PromptEnvironment;
pub use error::PrompterError;
pub use method::PromptMethod;
pub use prompt_request::PromptRequest;
pub use source::PinSource;

use deadline::{Deadline, REQUESTER_GONE};
use terminal::{Terminal, TerminalInput};

/// Number of requests for a new PIN whose two entries differ.
const NEW_PIN_ROUNDS: usize = 3;

/// A command's prompter: one source for present PINs and one for new ones.
#[derive(Debug, Clone)]
pub struct Prompter {
    pin: PinSource,
    new_pin: PinSource,
    credentials: Option<PathBuf>,
    descriptors: Option<Vec<u32>>,
    terminal: PathBuf,
    requester: Option<Arc<OwnedFd>>,
}

impl Prompter {
    /// Takes present PINs from `pin` and new PINs from `new_pin`; prompts at `/dev/tty`.
    pub fn new(pin: PinSource, new_pin: PinSource) -> Self {
        Self {
            pin,
            new_pin,
            credentials: None,
            descriptors: None,
            terminal: PathBuf::from("/dev/tty"),
            requester: None,
        }
    }

    /// Sets the directory of systemd credentials (`$CREDENTIALS_DIRECTORY`).
    #[must_use]
    pub fn with_credentials(mut self, directory: Option<PathBuf>) -> Self {
        self.credentials = directory;
        self
    }

    /// Sets the descriptors that were open at the start of the program. Any other number now
    /// denotes a file of the program or of a module: its content is not a PIN, and would cost a
    /// try.
    #[must_use]
    pub fn with_descriptors(mut self, open: Vec<u32>) -> Self {
        self.descriptors = Some(open);
        self
    }

    /// Replaces `/dev/tty` by another terminal.
    #[must_use]
    pub fn with_terminal(mut self, terminal: impl Into<PathBuf>) -> Self {
        self.terminal = terminal.into();
        self
    }

    /// Sets the connection of the requester: if it becomes readable or closes during a prompt at
    /// the terminal, the prompt is withdrawn ([`PrompterError::Withdrawn`]).
    pub fn ask_while_open(&mut self, connection: impl AsFd) {
        // If the descriptor cannot be duplicated, nothing is watched: a withdrawn prompt then stays
        // open.
        self.requester = connection.as_fd().try_clone_to_owned().ok().map(Arc::new);
    }

    /// Returns whether a user types the PIN at an available terminal; otherwise a token's last try
    /// is not used.
    pub fn is_attended(&self) -> bool {
        self.pin == PinSource::Prompt && Terminal::open(&self.terminal).is_ok()
    }

    /// Returns whether a user would have to type the PIN, but no terminal is available.
    pub fn lacks_terminal(&self) -> bool {
        self.pin == PinSource::Prompt && Terminal::open(&self.terminal).is_err()
    }

    /// Asks for the present PIN; `what` completes "… PIN of", e.g. `token "default" (serial 1234)`.
    ///
    /// # Errors
    /// [`PrompterError::Cancelled`], and errors of the source.
    pub fn pin(&self, what: &str) -> Result<Pin, PrompterError> {
        match &self.pin {
            PinSource::Prompt => self.typed(&format!("PIN of {what}"), what),
            source => self.read(source),
        }
    }

    /// Asks for a new PIN that satisfies `rule`, if given. The terminal shows the rule and asks
    /// twice; it asks again if the PIN violates the rule or the entries differ.
    ///
    /// # Errors
    /// [`PrompterError::Cancelled`], [`PrompterError::Differ`], and errors of the source.
    pub fn new_pin(&self, what: &str, rule: Option<PinRule>) -> Result<Pin, PrompterError> {
        let checked =
            |pin: Pin| rule.map_or(Ok(()), |rule| rule.check(&pin)).map(|()| pin).map_err(PrompterError::NotAPin);
        if self.new_pin != PinSource::Prompt {
            return self.read(&self.new_pin).and_then(checked);
        }
        let rule_text = rule.map(|rule| format!(" ({rule})")).unwrap_or_default();
        let mut last = PrompterError::Differ;
        for _ in 0..NEW_PIN_ROUNDS {
            let first = match self.typed(&format!("New PIN for {what}{rule_text}"), what).and_then(checked) {
                // Report the violation before the second entry.
                Err(error @ PrompterError::NotAPin(_)) => {
                    self.say(&format!("{error}."));
                    last = error;
                    continue;
                }
                typed => typed?,
            };
            let second = self.typed("Repeat the new PIN", what)?;
            if first.as_str() == second.as_str() {
                return Ok(second);
            }
            self.say("The two entries differ.");
            last = PrompterError::Differ;
        }
        Err(last)
    }

    /// Asks for yes or no at the terminal, independently of the PIN sources. Only `y` and `yes`
    /// mean yes.
    ///
    /// # Errors
    /// [`PrompterError::Cancelled`] (Ctrl-C, end of input), [`PrompterError::NoTerminal`].
    pub fn confirm(&self, question: &str) -> Result<bool, PrompterError> {
        let mut terminal = self.open("ask for a confirmation")?;
        match terminal.ask_visibly(&format!("{question} [y/N] ")) {
            Ok(TerminalInput::Text(text)) => Ok(matches!(text.trim().to_lowercase().as_str(), "y" | "yes")),
            Ok(TerminalInput::Cancelled) => Err(PrompterError::Cancelled { what: "the confirmation".to_owned() }),
            Ok(TerminalInput::Interrupted) => Err(PrompterError::Interrupted { what: "the confirmation".to_owned() }),
            Err(source) => Err(broke(source, "the confirmation")),
        }
    }

    /// Shows a line at the terminal, if there is one: a warning before a last try, "touch the
    /// token".
    pub fn say(&self, line: &str) {
        // Without a terminal there is no user to inform.
        let _ = Terminal::open(&self.terminal).and_then(|mut terminal| terminal.say(line));
    }

    fn read(&self, source: &PinSource) -> Result<Pin, PrompterError> {
        source.read(self.credentials.as_deref(), self.descriptors.as_deref())
    }

    fn typed(&self, prompt: &str, what: &str) -> Result<Pin, PrompterError> {
        let mut terminal = self.open("ask for the PIN")?;
        match terminal.ask_without_echo(&format!("{prompt}: ")) {
            Ok(TerminalInput::Text(text)) if !text.is_empty() => Ok(Pin::new(text.as_str().to_owned())?),
            Ok(TerminalInput::Interrupted) => Err(PrompterError::Interrupted { what: format!("the PIN of {what}") }),
            Ok(_) => Err(PrompterError::Cancelled { what: format!("the PIN of {what}") }),
            Err(source) => Err(broke(source, &format!("the PIN of {what}"))),
        }
    }

    fn open(&self, operation: &'static str) -> Result<Terminal, PrompterError> {
        let terminal =
            Terminal::open(&self.terminal).map_err(|source| PrompterError::NoTerminal { operation, source })?;
        Ok(terminal.within(Deadline::default().for_requesters(self.requester.as_slice())))
    }
}

fn broke(source: io::Error, what: &str) -> PrompterError {
    match source.kind() {
        REQUESTER_GONE => PrompterError::Withdrawn { what: what.to_owned() },
        _ => PrompterError::Terminal { source },
    }
}

/// Makes foreign text (a token's label, a path) safe to display: replaces control characters, which
/// could move the cursor over earlier text, characters that break or reorder the line, and
/// invisible ones, which make different names look alike.
pub fn showable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() || is_invisible(c) { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests;
