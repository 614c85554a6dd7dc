//! A usable prompt method: chosen once, then used for any number of prompts, one at a time.

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

/// Prompts the user with one method. Callers must prompt one after the other: concurrent dialogs on
/// one terminal would read each other's input.
pub struct Dialog {
    by: By,
    environment: Environment,
    /// a pinentry that has returned a PIN and still runs
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
    /// Selects a usable method without prompting.
    ///
    /// # Errors
    /// Fails immediately, with a remedy: [`PrompterError::NoWay`] if `auto` finds no method,
    /// [`PrompterError::WayClosed`] if the given method is unusable.
    pub fn choose(way: &Way, environment: &Environment) -> Result<Self, PrompterError> {
        // A program or terminal configured by path may use `$GPG_TTY`: its owner knows its
        // requirements.
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

    /// Binds the prompts to the requesting process: when it exits (Ctrl-C at ssh), the prompt is
    /// withdrawn, which counts as cancelled. A process ID that is not visible here is ignored.
    ///
    /// # Errors
    /// [`PrompterError::Withdrawn`] if the process has already exited.
    pub fn for_process(mut self, process: i32) -> Result<Self, PrompterError> {
        // Negative IDs are invalid, and 0 denotes a process outside this PID namespace.
        if let Some(process) = (process > 0).then(|| Pid::from_raw(process)).flatten() {
            match pidfd_open(process, PidfdFlags::empty()) {
                Ok(handle) => self.environment = self.environment.with_asker(handle),
                Err(Errno::SRCH) => return Err(PrompterError::Withdrawn { what: "an answer".to_owned() }),
                Err(_) => {}
            }
        }
        Ok(self)
    }

    /// Binds the prompts to a pipe: when its other end closes, the prompt is withdrawn.
    #[must_use]
    pub fn until_closed(mut self, pipe: OwnedFd) -> Self {
        self.environment = self.environment.with_asker(pipe);
        self
    }

    /// Asks for the present PIN.
    ///
    /// # Errors
    /// [`PrompterError::is_cancelled`] if the user cancelled or did not answer in time; otherwise
    /// an error of the method.
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

    /// Asks for the present PIN, as [`Dialog::pin`]. A pinentry keeps running until this value is
    /// dropped and shows the next prompt too, so that a user who typed a wrong PIN stays in the
    /// same dialog.
    ///
    /// # Errors
    /// As [`Dialog::pin`].
    pub fn pin_keeping(&mut self, ask: &Ask) -> Result<Pin, PrompterError> {
        let By::Pinentry(pinentry) = &self.by else { return self.pin(ask) };
        let (pin, conversation) = pinentry.pin_keeping(self.kept.take(), ask, &self.environment)?;
        self.kept = Some(conversation);
        Ok(pin)
    }

    /// Returns whether a pinentry still runs and can prompt again in the same place.
    pub fn can_go_on(&self) -> bool {
        match (&self.by, &self.kept) {
            (By::Pinentry(pinentry), Some(conversation)) => pinentry.goes_on(conversation),
            _ => false,
        }
    }

    /// Removes all requesters, so that the next prompt can be for others.
    #[must_use]
    pub fn for_nobody(mut self) -> Self {
        self.environment = self.environment.without_askers();
        self
    }

    /// Asks for a new PIN. A user types it twice, and is asked again if the two differ.
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
                    terminal.say("The two entries differ.").map_err(|source| self.broke(source, ask))?;
                }
                Err(PrompterError::Differ)
            }
        }
    }

    /// Asks for yes or no.
    ///
    /// # Errors
    /// As [`Dialog::pin`]; [`PrompterError::PinsOnly`] for a descriptor. An error never counts as
    /// yes.
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

    /// Returns whether a user types each answer. A descriptor or a command may return the same PIN
    /// repeatedly.
    pub fn is_typed_into(&self) -> bool {
        matches!(self.by, By::Pinentry(_) | By::Askpass(_) | By::Terminal(_))
    }

    /// Describes the method in one line, for display.
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

    /// Opens the terminal and shows the text.
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

/// Finds a pinentry with a window. Without a display, `auto` uses the terminal directly.
fn window(environment: &Environment) -> Result<By, String> {
    if !environment.has_display() {
        return Err("neither DISPLAY nor WAYLAND_DISPLAY is set".to_owned());
    }
    Pinentry::find(None, environment).map(By::Pinentry)
}

fn terminal(path: &Path) -> Result<By, String> {
    let open = Terminal::open_to_ask(path).map(|_| By::Terminal(path.to_owned()));
    open.map_err(|error| format!("cannot prompt at {}: {error}", path.display()))
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
