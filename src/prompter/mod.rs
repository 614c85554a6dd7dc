//! Asks a person: for a PIN, for a new PIN, for yes or no. Besides `cli`, the only room that speaks to one.
//!
//! A PIN comes from where `--pin-source` says: the terminal without echo, a file, a descriptor, a systemd credential;
//! never from an argument and never from the environment. One call gives one PIN for one act. A person who presses
//! Ctrl-C, ends the input or types nothing has cancelled, and that is told apart from everything else. This room must
//! never keep a PIN, never ask a token, never guess or fill in an answer, and never take silence for a yes.

mod source;
mod terminal;

use std::io;
use std::path::PathBuf;

use crate::token::{Pin, PinError};

pub use source::PinSource;
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
}

impl Prompter {
    /// A prompter that takes PINs from `pin` and new PINs from `new_pin`, and asks at `/dev/tty`.
    pub fn new(pin: PinSource, new_pin: PinSource) -> Self {
        Self { pin, new_pin, credentials: None, descriptors: None, terminal: PathBuf::from("/dev/tty") }
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

    /// Whether a person types the PIN, at a terminal that is there: else a token's last try is not taken.
    pub fn attended(&self) -> bool {
        self.pin == PinSource::Prompt && Terminal::open(&self.terminal).is_ok()
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

    /// A new PIN; at the terminal it is typed twice, and asked for again when the two differ.
    ///
    /// # Errors
    /// [`PrompterError::Cancelled`], [`PrompterError::Differ`], and what is wrong with the source.
    pub fn new_pin(&self, what: &str) -> Result<Pin, PrompterError> {
        if self.new_pin != PinSource::Prompt {
            return self.read(&self.new_pin);
        }
        for _ in 0..NEW_PIN_ROUNDS {
            let first = self.typed(&format!("New PIN for {what}"), what)?;
            let second = self.typed("The new PIN again", what)?;
            if first.as_str() == second.as_str() {
                return Ok(second);
            }
            self.say("The two differ.");
        }
        Err(PrompterError::Differ)
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
            Err(source) => Err(PrompterError::Terminal { source }),
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
            Ok(_) => Err(PrompterError::Cancelled { what: format!("the PIN of {what}") }),
            Err(source) => Err(PrompterError::Terminal { source }),
        }
    }

    fn open(&self, act: &'static str) -> Result<Terminal, PrompterError> {
        Terminal::open(&self.terminal).map_err(|source| PrompterError::NoTerminal { act, source })
    }
}

/// Why there is no answer. No message contains a PIN.
#[derive(Debug, thiserror::Error)]
pub enum PrompterError {
    /// The person did not want to: Ctrl-C, end of input, or nothing typed. Nothing was tried.
    #[error("cannot go on without {what}: cancelled")]
    Cancelled {
        /// What was asked for.
        what: String,
    },
    /// The two entries of a new PIN differed each time.
    #[error("cannot set a new PIN: the two entries differed {NEW_PIN_ROUNDS} times")]
    Differ,
    /// There is no terminal to ask at.
    #[error(
        "cannot {act}: there is no terminal ({source}); give a source, e.g. --pin-source file:PATH (for a new PIN \
         --new-pin-source)"
    )]
    NoTerminal {
        /// What was to be asked.
        act: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The terminal failed while it was asked.
    #[error("cannot read from the terminal: {source}")]
    Terminal {
        /// What the system said.
        source: io::Error,
    },
    /// `--pin-source` names nothing we know.
    #[error("cannot take a PIN from {given:?}: a source is prompt, file:PATH, fd:N or credential:NAME")]
    UnknownSource {
        /// The kind of source that was given (what stands before the colon).
        given: String,
    },
    /// Others can read the file.
    #[error("cannot take the PIN from {}: others can read it; remedy: chmod 600 {}", path.display(), path.display())]
    ReadableByOthers {
        /// The file.
        path: PathBuf,
    },
    /// The source cannot be read, or holds no PIN.
    #[error("cannot take the PIN from {place}: {reason}")]
    Source {
        /// The source as it was given.
        place: String,
        /// Why.
        reason: String,
    },
    /// What was given is no PIN.
    #[error("cannot use that PIN: {0}")]
    NotAPin(#[from] PinError),
}

impl PrompterError {
    /// Whether the person cancelled.
    pub fn is_cancelled(&self) -> bool {
        matches!(self, Self::Cancelled { .. })
    }
}

/// Text from elsewhere (a token's label, a path) as a person's terminal may show it: no control characters, which
/// could move the cursor over what was said before, nothing that breaks or reorders the line, and nothing that is there
/// but not seen, which makes two different names look the same.
pub fn showable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() || changes_the_line(c) { '\u{fffd}' } else { c }).collect()
}

/// Zero-width characters and marks of direction, line and paragraph separators, embeddings and isolates, the byte order mark.
fn changes_the_line(c: char) -> bool {
    matches!(c,
        '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests;
