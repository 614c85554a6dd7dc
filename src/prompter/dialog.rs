//! A usable prompt method: chosen once, then used for any number of prompts, one at a time.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use zeroize::Zeroizing;

use super::askpass::Askpass;
use super::assuan::AssuanClient;
use super::command::PromptCommand;
use super::deadline::REQUESTER_GONE;
use super::pinentry::{Pinentry, into_pin};
use super::prompt_request::PromptRequest;
use super::terminal::{Terminal, TerminalInput};
use super::{PinSource, PromptEnvironment, PromptMethod, PrompterError};
use crate::token::Pin;

/// Prompts the user with one method. Callers must prompt one after the other: concurrent dialogs on
/// one terminal would read each other's input.
pub struct Dialog {
    backend: DialogBackend,
    environment: PromptEnvironment,
    /// a pinentry that has returned a PIN and still runs
    open_client: Option<AssuanClient>,
}

enum DialogBackend {
    Pinentry(Pinentry),
    Askpass(Askpass),
    Terminal(PathBuf),
    Descriptor(u32),
    PromptCommand(PromptCommand),
}

impl Dialog {
    /// Selects a usable method without prompting.
    ///
    /// # Errors
    /// Fails immediately, with a remedy: [`PrompterError::NoMethod`] if `auto` finds no method,
    /// [`PrompterError::MethodUnavailable`] if the given method is unusable.
    pub fn choose(method: &PromptMethod, environment: &PromptEnvironment) -> Result<Self, PrompterError> {
        // A program or terminal configured by path may use `$GPG_TTY`: its owner knows its
        // requirements.
        let is_named = matches!(
            method,
            PromptMethod::Pinentry(Some(_))
                | PromptMethod::Askpass(Some(_))
                | PromptMethod::Terminal(Some(_))
                | PromptMethod::Command(_)
        );
        let environment = &if is_named { environment.clone() } else { environment.clone().without_gpg_tty() };
        let backend = match method {
            PromptMethod::Auto => return Self::choose_automatically(environment),
            PromptMethod::Pinentry(path) => Pinentry::find(path.as_deref(), environment).map(DialogBackend::Pinentry),
            PromptMethod::Askpass(path) => Askpass::find(path.as_deref(), environment).map(DialogBackend::Askpass),
            PromptMethod::Terminal(path) => terminal(path.as_deref().unwrap_or(environment.terminal())),
            PromptMethod::Descriptor(number) => descriptor(*number, environment),
            PromptMethod::Command(words) => PromptCommand::find(words, environment).map(DialogBackend::PromptCommand),
        };
        let closed = |reason| PrompterError::MethodUnavailable { method: method.to_string(), reason };
        Ok(Self::new(backend.map_err(closed)?, environment))
    }

    fn new(backend: DialogBackend, environment: &PromptEnvironment) -> Self {
        Self { backend, environment: environment.clone(), open_client: None }
    }

    fn choose_automatically(environment: &PromptEnvironment) -> Result<Self, PrompterError> {
        let mut reasons = Vec::new();
        for (name, method) in [
            ("pinentry", &|| window(environment)),
            ("askpass", &|| Askpass::find(None, environment).map(DialogBackend::Askpass)),
            ("terminal", &|| terminal(environment.terminal())),
        ] as [(&str, &dyn Fn() -> Result<DialogBackend, String>); 3]
        {
            match method() {
                Ok(backend) => return Ok(Self::new(backend, environment)),
                Err(reason) => reasons.push(format!("{name}: {reason}")),
            }
        }
        Err(PrompterError::NoMethod { reasons: reasons.join("; ") })
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
                Ok(handle) => self.environment = self.environment.with_requester(handle),
                Err(Errno::SRCH) => return Err(PrompterError::Withdrawn { what: "an answer".to_owned() }),
                Err(_) => {}
            }
        }
        Ok(self)
    }

    /// Binds the prompts to a pipe: when its other end closes, the prompt is withdrawn.
    #[must_use]
    pub fn until_closed(mut self, pipe: OwnedFd) -> Self {
        self.environment = self.environment.with_requester(pipe);
        self
    }

    /// Asks for the present PIN.
    ///
    /// # Errors
    /// [`PrompterError::is_cancelled`] if the user cancelled or did not answer in time; otherwise
    /// an error of the method.
    pub fn pin(&self, ask: &PromptRequest) -> Result<Pin, PrompterError> {
        match &self.backend {
            DialogBackend::Pinentry(pinentry) => pinentry.pin(ask, &self.environment),
            DialogBackend::Askpass(askpass) => askpass.pin(ask, &self.environment),
            DialogBackend::PromptCommand(command) => command.pin(ask, &self.environment),
            DialogBackend::Descriptor(number) => self.next_line(*number, ask),
            DialogBackend::Terminal(path) => {
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
    /// Errors as for [`Dialog::pin`].
    pub fn pin_and_keep_open(&mut self, ask: &PromptRequest) -> Result<Pin, PrompterError> {
        let DialogBackend::Pinentry(pinentry) = &self.backend else { return self.pin(ask) };
        let (pin, assuan_client) = pinentry.pin_and_keep_open(self.open_client.take(), ask, &self.environment)?;
        self.open_client = Some(assuan_client);
        Ok(pin)
    }

    /// Returns whether a pinentry still runs and can prompt again in the same place.
    pub fn is_reusable(&self) -> bool {
        match (&self.backend, &self.open_client) {
            (DialogBackend::Pinentry(pinentry), Some(assuan_client)) => pinentry.is_reusable(assuan_client),
            _ => false,
        }
    }

    /// Removes all requesters, so that the next prompt can be for others.
    #[must_use]
    pub fn without_requesters(mut self) -> Self {
        self.environment = self.environment.without_requesters();
        self
    }

    /// Asks for yes or no.
    ///
    /// # Errors
    /// Errors as for [`Dialog::pin`]; [`PrompterError::PinsOnly`] for a descriptor. An error never
    /// counts as yes.
    pub fn confirm(&self, ask: &PromptRequest) -> Result<bool, PrompterError> {
        match &self.backend {
            DialogBackend::Pinentry(pinentry) => pinentry.confirm(ask, &self.environment),
            DialogBackend::Askpass(askpass) => askpass.confirm(ask, &self.environment),
            DialogBackend::PromptCommand(command) => command.confirm(ask, &self.environment),
            DialogBackend::Descriptor(_) => Err(PrompterError::PinsOnly { method: self.describe() }),
            DialogBackend::Terminal(path) => {
                let mut terminal = self.terminal(path, ask)?;
                match terminal.ask_visibly(&format!("{} [y/N] ", ask.prompt())) {
                    Ok(TerminalInput::Text(text)) => Ok(matches!(text.trim().to_lowercase().as_str(), "y" | "yes")),
                    Ok(TerminalInput::Cancelled | TerminalInput::Interrupted) => {
                        Err(PrompterError::Cancelled { what: ask.what() })
                    }
                    Err(error) => Err(self.broke(error, ask)),
                }
            }
        }
    }

    /// Returns whether a user types each answer. A descriptor or a command may return the same PIN
    /// repeatedly.
    pub fn is_typed_into(&self) -> bool {
        matches!(self.backend, DialogBackend::Pinentry(_) | DialogBackend::Askpass(_) | DialogBackend::Terminal(_))
    }

    /// Describes the method in one line, for display.
    pub fn describe(&self) -> String {
        super::showable(&match &self.backend {
            DialogBackend::Pinentry(pinentry) => pinentry.describe(),
            DialogBackend::Askpass(askpass) => askpass.describe(),
            DialogBackend::Terminal(path) => format!("terminal {}", path.display()),
            DialogBackend::Descriptor(number) => format!("descriptor {number}"),
            DialogBackend::PromptCommand(command) => command.describe(),
        })
    }

    fn next_line(&self, number: u32, ask: &PromptRequest) -> Result<Pin, PrompterError> {
        let deadline = self.environment.deadline();
        PinSource::Descriptor(number).read_within(None, self.environment.descriptors(), deadline).map_err(|error| {
            match error {
                PrompterError::NobodyAnswered { .. } => self.no_answer(ask),
                PrompterError::Withdrawn { .. } => PrompterError::Withdrawn { what: ask.what() },
                other => other,
            }
        })
    }

    /// Opens the terminal and shows the text.
    fn terminal(&self, path: &Path, ask: &PromptRequest) -> Result<Terminal, PrompterError> {
        let closed = |error: io::Error| PrompterError::MethodUnavailable {
            method: format!("terminal:{}", path.display()),
            reason: error.to_string(),
        };
        let mut terminal = Terminal::open_to_ask(path).map_err(closed)?.within(self.environment.deadline());
        for line in ask.text().iter().chain(&ask.warning()) {
            terminal.say(line).map_err(|error| self.broke(error, ask))?;
        }
        Ok(terminal)
    }

    fn typed(
        &self,
        terminal: &mut Terminal,
        prompt: &str,
        ask: &PromptRequest,
    ) -> Result<Zeroizing<String>, PrompterError> {
        match terminal.ask_without_echo(&format!("{prompt}: ")) {
            Ok(TerminalInput::Text(text)) if !text.is_empty() => Ok(text),
            Ok(_) => Err(PrompterError::Cancelled { what: ask.what() }),
            Err(error) => Err(self.broke(error, ask)),
        }
    }

    fn broke(&self, source: io::Error, ask: &PromptRequest) -> PrompterError {
        match source.kind() {
            io::ErrorKind::TimedOut => self.no_answer(ask),
            REQUESTER_GONE => PrompterError::Withdrawn { what: ask.what() },
            _ => PrompterError::Terminal { source },
        }
    }

    fn no_answer(&self, ask: &PromptRequest) -> PrompterError {
        PrompterError::NobodyAnswered { what: ask.what(), waited: self.environment.timeout() }
    }
}

impl fmt::Debug for Dialog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Dialog").field(&self.describe()).finish()
    }
}

/// Finds a pinentry with a window. Without a display, `auto` uses the terminal directly.
fn window(environment: &PromptEnvironment) -> Result<DialogBackend, String> {
    if !environment.has_display() {
        return Err("neither DISPLAY nor WAYLAND_DISPLAY is set".to_owned());
    }
    Pinentry::find(None, environment).map(DialogBackend::Pinentry)
}

fn terminal(path: &Path) -> Result<DialogBackend, String> {
    let open = Terminal::open_to_ask(path).map(|_| DialogBackend::Terminal(path.to_owned()));
    open.map_err(|error| format!("cannot prompt at {}: {error}", path.display()))
}

fn descriptor(number: u32, environment: &PromptEnvironment) -> Result<DialogBackend, String> {
    let open = match environment.descriptors() {
        Some(open) => open.contains(&number),
        None => Path::new(&format!("/dev/fd/{number}")).exists(),
    };
    if open {
        Ok(DialogBackend::Descriptor(number))
    } else {
        Err("it was not open when this program was started".to_owned())
    }
}

#[cfg(test)]
mod tests;
