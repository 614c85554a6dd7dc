//! A way to a person that is open: chosen once, asked as often as needed, one question at a time.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use zeroize::Zeroizing;

use super::ask::Ask;
use super::askpass::Askpass;
use super::assuan::Conversation;
use super::command::Command;
use super::deadline::GONE;
use super::pinentry::{Pinentry, into_pin};
use super::terminal::{Answer, Terminal};
use super::{Environment, NEW_PIN_ROUNDS, PinSource, PrompterError, Way};
use crate::token::Pin;

/// Asks a person by one way. Who has several questions asks one after the other: two dialogs at once would take each
/// other's answers.
pub struct Dialog {
    by: By,
    environment: Environment,
    /// a pinentry that has given a PIN, and can be asked again
    kept: Option<Conversation>,
}

enum By {
    Pinentry(Pinentry),
    Askpass(Askpass),
    Terminal(PathBuf),
    Descriptor(u32),
    Command(Command),
}

impl Dialog {
    /// Finds a way that is open, without asking anything.
    ///
    /// # Errors
    /// At once, with the remedy: [`PrompterError::NoWay`] when `auto` finds none, [`PrompterError::WayClosed`] when the way
    /// that was named is not open.
    pub fn choose(way: &Way, environment: &Environment) -> Result<Self, PrompterError> {
        // Where the program or the terminal is named, the one who named it knows what it needs.
        let is_named =
            matches!(way, Way::Pinentry(Some(_)) | Way::Askpass(Some(_)) | Way::Terminal(Some(_)) | Way::Command(_));
        let environment = &if is_named { environment.clone() } else { environment.clone().without_gpg_tty() };
        let by = match way {
            Way::Auto => return Self::first_open(environment),
            Way::Pinentry(path) => Pinentry::find(path.as_deref(), environment).map(By::Pinentry),
            Way::Askpass(path) => Askpass::find(path.as_deref(), environment).map(By::Askpass),
            Way::Terminal(path) => terminal(path.as_deref().unwrap_or(environment.terminal())),
            Way::Descriptor(number) => descriptor(*number, environment),
            Way::Command(words) => Command::find(words, environment).map(By::Command),
        };
        let closed = |reason| PrompterError::WayClosed { way: way.to_string(), reason };
        Ok(Self::new(by.map_err(closed)?, environment))
    }

    fn new(by: By, environment: &Environment) -> Self {
        Self { by, environment: environment.clone(), kept: None }
    }

    fn first_open(environment: &Environment) -> Result<Self, PrompterError> {
        let mut reasons = Vec::new();
        for (name, way) in [
            ("pinentry", &|| window(environment)),
            ("askpass", &|| Askpass::find(None, environment).map(By::Askpass)),
            ("terminal", &|| terminal(environment.terminal())),
        ] as [(&str, &dyn Fn() -> Result<By, String>); 3]
        {
            match way() {
                Ok(by) => return Ok(Self::new(by, environment)),
                Err(reason) => reasons.push(format!("{name}: {reason}")),
            }
        }
        Err(PrompterError::NoWay { reasons: reasons.join("; ") })
    }

    /// For the process that wants the answer: when it ends (Ctrl-C at ssh), the question is withdrawn, which counts as
    /// cancelled. A process whose number says nothing here is not watched.
    ///
    /// # Errors
    /// [`PrompterError::Withdrawn`] if it has ended already.
    pub fn for_process(mut self, process: i32) -> Result<Self, PrompterError> {
        // Negative numbers are nobody's, and 0 is a process that this one cannot see.
        if let Some(process) = (process > 0).then(|| Pid::from_raw(process)).flatten() {
            match pidfd_open(process, PidfdFlags::empty()) {
                Ok(handle) => self.environment = self.environment.with_asker(handle),
                Err(Errno::SRCH) => return Err(PrompterError::Withdrawn { what: "an answer".to_owned() }),
                Err(_) => {}
            }
        }
        Ok(self)
    }

    /// As long as the other end of this pipe is open: when it is closed, the question is withdrawn.
    #[must_use]
    pub fn until_closed(mut self, pipe: OwnedFd) -> Self {
        self.environment = self.environment.with_asker(pipe);
        self
    }

    /// A PIN that exists.
    ///
    /// # Errors
    /// [`PrompterError::is_cancelled`] when the person did not want to or did not answer in time, and what is wrong with the way.
    pub fn pin(&self, ask: &Ask) -> Result<Pin, PrompterError> {
        match &self.by {
            By::Pinentry(pinentry) => pinentry.pin(ask, &self.environment),
            By::Askpass(askpass) => askpass.pin(ask, &self.environment),
            By::Command(command) => command.pin(ask, &self.environment),
            By::Descriptor(number) => self.next_line(*number, ask),
            By::Terminal(path) => {
                let mut terminal = self.terminal(path, ask)?;
                into_pin(self.typed(&mut terminal, &ask.prompt(), ask)?.as_bytes())
            }
        }
    }

    /// A PIN that exists, as [`Dialog::pin`]. A pinentry that gives it goes on running, and is the one that asks the next
    /// time, until this is dropped: whoever has typed a wrong one stays in the same dialog.
    ///
    /// # Errors
    /// As [`Dialog::pin`].
    pub fn pin_keeping(&mut self, ask: &Ask) -> Result<Pin, PrompterError> {
        let By::Pinentry(pinentry) = &self.by else { return self.pin(ask) };
        let (pin, conversation) = pinentry.pin_keeping(self.kept.take(), ask, &self.environment)?;
        self.kept = Some(conversation);
        Ok(pin)
    }

    /// Is there a pinentry that runs on, and can it ask where it did?
    pub fn can_go_on(&self) -> bool {
        match (&self.by, &self.kept) {
            (By::Pinentry(pinentry), Some(conversation)) => pinentry.goes_on(conversation),
            _ => false,
        }
    }

    /// For whoever will want the next answer, and no longer for those who wanted the last.
    #[must_use]
    pub fn for_nobody(mut self) -> Self {
        self.environment = self.environment.without_askers();
        self
    }

    /// A new PIN: where a person types it, twice; asked for again when the two differ.
    ///
    /// # Errors
    /// As [`Dialog::pin`], and [`PrompterError::Differ`].
    pub fn new_pin(&self, ask: &Ask) -> Result<Pin, PrompterError> {
        match &self.by {
            By::Pinentry(pinentry) => pinentry.new_pin(ask, &self.environment),
            By::Askpass(askpass) => askpass.new_pin(ask, &self.environment),
            By::Command(command) => command.new_pin(ask, &self.environment),
            By::Descriptor(number) => self.next_line(*number, ask),
            By::Terminal(path) => {
                let mut terminal = self.terminal(path, ask)?;
                for _ in 0..NEW_PIN_ROUNDS {
                    let first = self.typed(&mut terminal, &ask.prompt(), ask)?;
                    if first == self.typed(&mut terminal, "Once more", ask)? {
                        return into_pin(first.as_bytes());
                    }
                    terminal.say("The two differ.").map_err(|source| self.broke(source, ask))?;
                }
                Err(PrompterError::Differ)
            }
        }
    }

    /// Yes or no.
    ///
    /// # Errors
    /// As [`Dialog::pin`]; [`PrompterError::PinsOnly`] for a descriptor. An error is no yes.
    pub fn confirm(&self, ask: &Ask) -> Result<bool, PrompterError> {
        match &self.by {
            By::Pinentry(pinentry) => pinentry.confirm(ask, &self.environment),
            By::Askpass(askpass) => askpass.confirm(ask, &self.environment),
            By::Command(command) => command.confirm(ask, &self.environment),
            By::Descriptor(_) => Err(PrompterError::PinsOnly { way: self.describe() }),
            By::Terminal(path) => {
                let mut terminal = self.terminal(path, ask)?;
                match terminal.ask_visibly(&format!("{} [y/N] ", ask.prompt())) {
                    Ok(Answer::Text(text)) => Ok(matches!(text.trim().to_lowercase().as_str(), "y" | "yes")),
                    Ok(Answer::Cancelled | Answer::Interrupted) => Err(PrompterError::Cancelled { what: ask.what() }),
                    Err(error) => Err(self.broke(error, ask)),
                }
            }
        }
    }

    /// Does a person type the answer there, each time? A descriptor and a command of the user's own may give the same again.
    pub fn is_typed_into(&self) -> bool {
        matches!(self.by, By::Pinentry(_) | By::Askpass(_) | By::Terminal(_))
    }

    /// How a person is asked, in a line for people.
    pub fn describe(&self) -> String {
        super::showable(&match &self.by {
            By::Pinentry(pinentry) => pinentry.describe(),
            By::Askpass(askpass) => askpass.describe(),
            By::Terminal(path) => format!("terminal {}", path.display()),
            By::Descriptor(number) => format!("descriptor {number}"),
            By::Command(command) => command.describe(),
        })
    }

    fn next_line(&self, number: u32, ask: &Ask) -> Result<Pin, PrompterError> {
        let deadline = self.environment.deadline();
        PinSource::Descriptor(number).read_within(None, self.environment.descriptors(), deadline).map_err(|error| {
            match error {
                PrompterError::NobodyAnswered { .. } => self.nobody(ask),
                PrompterError::Withdrawn { .. } => PrompterError::Withdrawn { what: ask.what() },
                other => other,
            }
        })
    }

    /// The terminal, with the question shown.
    fn terminal(&self, path: &Path, ask: &Ask) -> Result<Terminal, PrompterError> {
        let closed = |error: io::Error| PrompterError::WayClosed {
            way: format!("terminal:{}", path.display()),
            reason: error.to_string(),
        };
        let mut terminal = Terminal::open_to_ask(path).map_err(closed)?.within(self.environment.deadline());
        for line in ask.text().iter().chain(&ask.warning()) {
            terminal.say(line).map_err(|error| self.broke(error, ask))?;
        }
        Ok(terminal)
    }

    fn typed(&self, terminal: &mut Terminal, prompt: &str, ask: &Ask) -> Result<Zeroizing<String>, PrompterError> {
        match terminal.ask_without_echo(&format!("{prompt}: ")) {
            Ok(Answer::Text(text)) if !text.is_empty() => Ok(text),
            Ok(_) => Err(PrompterError::Cancelled { what: ask.what() }),
            Err(error) => Err(self.broke(error, ask)),
        }
    }

    fn broke(&self, source: io::Error, ask: &Ask) -> PrompterError {
        match source.kind() {
            io::ErrorKind::TimedOut => self.nobody(ask),
            GONE => PrompterError::Withdrawn { what: ask.what() },
            _ => PrompterError::Terminal { source },
        }
    }

    fn nobody(&self, ask: &Ask) -> PrompterError {
        PrompterError::NobodyAnswered { what: ask.what(), waited: self.environment.patience() }
    }
}

impl fmt::Debug for Dialog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Dialog").field(&self.describe()).finish()
    }
}

/// A window. Where none can be opened, the terminal is asked at without a pinentry.
fn window(environment: &Environment) -> Result<By, String> {
    if !environment.has_display() {
        return Err("there is no DISPLAY and no WAYLAND_DISPLAY to open a window on".to_owned());
    }
    Pinentry::find(None, environment).map(By::Pinentry)
}

fn terminal(path: &Path) -> Result<By, String> {
    let open = Terminal::open_to_ask(path).map(|_| By::Terminal(path.to_owned()));
    open.map_err(|error| format!("{} cannot be asked at: {error}", path.display()))
}

fn descriptor(number: u32, environment: &Environment) -> Result<By, String> {
    let open = match environment.descriptors() {
        Some(open) => open.contains(&number),
        None => Path::new(&format!("/dev/fd/{number}")).exists(),
    };
    if open { Ok(By::Descriptor(number)) } else { Err("it was not open when this program was started".to_owned()) }
}

#[cfg(test)]
mod tests;
