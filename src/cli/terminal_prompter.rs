//! The person at the command line: asked through the prompter, informed on stderr.

use std::os::unix::net::UnixStream;

use indicatif::ProgressBar;

use super::output::Output;
use super::spinner;
use crate::keyset::{NoPin, Notice, OperationObserver, Prompt, PromptReply, Step, UserPrompter};
use crate::prompter::{Prompter, PrompterError};
use crate::token::{PinState, TokenInfo, WhichPin};

/// A person at a terminal, or the PIN sources that replace one.
pub struct TerminalPrompter<'a> {
    prompter: Prompter,
    /// asked once for the PIN that an interrupted command set as a new one
    resuming: Option<Prompter>,
    /// asked for a new token's SO PIN
    so_prompter: Option<Prompter>,
    /// true if the prompter gives the present SO PIN, and no PIN of the user
    is_security_officer: bool,
    output: &'a Output,
    spinner: Option<ProgressBar>,
}

impl<'a> TerminalPrompter<'a> {
    pub fn new(prompter: Prompter, output: &'a Output) -> Self {
        Self { prompter, resuming: None, so_prompter: None, is_security_officer: false, output, spinner: None }
    }

    /// Asks for the SO PIN of a token, and for a new PIN.
    pub fn for_security_officer(prompter: Prompter, output: &'a Output) -> Self {
        let mut person = Self::new(prompter, output);
        person.is_security_officer = true;
        person
    }

    /// Sets the prompter that gives, once, the PIN that an interrupted command set as a new one.
    #[must_use]
    pub fn resuming(mut self, prompter: Prompter) -> Self {
        self.resuming = Some(prompter);
        self
    }

    /// Sets the prompter that gives a new token's SO PIN, as a new PIN.
    #[must_use]
    pub fn with_so_pin(mut self, prompter: Prompter) -> Self {
        self.so_prompter = Some(prompter);
        self
    }

    /// Sets the connection to the agent that asks. If it becomes readable or closes during a
    /// prompt, the agent has withdrawn the question, and the prompt is closed.
    pub fn ask_while_open(&mut self, connection: &UnixStream) {
        let others = [self.resuming.as_mut(), self.so_prompter.as_mut()].into_iter().flatten();
        for prompter in others.chain([&mut self.prompter]) {
            prompter.ask_while_open(connection);
        }
    }

    /// A PIN source is for one of a token's two PINs, whatever an agent asks for.
    fn refuse_another_pin(&self, prompt: &Prompt) -> Result<(), NoPin> {
        let which = match prompt {
            Prompt::Pin { .. } | Prompt::ResumedPin { .. } => WhichPin::User,
            Prompt::SoPin { .. } => WhichPin::SecurityOfficer,
            Prompt::LastTry { which, .. } => *which,
            Prompt::NewPin { .. } | Prompt::NewSoPin { .. } | Prompt::Use { .. } => return Ok(()),
        };
        if self.is_security_officer == (which == WhichPin::SecurityOfficer) {
            return Ok(());
        }
        Err(NoPin::Unavailable(format!("this command does not ask for the {which}")))
    }

    /// Warns of the last try, and asks whether to go on.
    fn risk_last_try(&self, token: &TokenInfo, which: WhichPin) -> Result<PromptReply, NoPin> {
        if self.prompter.lacks_terminal() {
            return Err(NoPin::NotInteractive(NoPin::LastTry.to_string()));
        }
        if !self.prompter.is_attended() {
            return Err(NoPin::LastTry);
        }
        let consequence = match which {
            WhichPin::User => "the next wrong PIN locks it",
            WhichPin::SecurityOfficer => "the next wrong SO PIN locks it, and this token can never be unblocked",
        };
        match self.prompter.confirm(&format!("{}: {consequence}. Continue?", token.name())) {
            Ok(true) => Ok(PromptReply::Yes),
            Ok(false) => Err(NoPin::Declined),
            Err(error) => Err(no_pin(&error)),
        }
    }

    fn stop_spinning(&mut self) {
        if let Some(spinner) = self.spinner.take() {
            spinner.finish_and_clear();
        }
    }
}

impl UserPrompter for TerminalPrompter<'_> {
    fn ask(&mut self, prompt: &Prompt) -> Result<PromptReply, NoPin> {
        self.stop_spinning();
        self.refuse_another_pin(prompt)?;
        let pin = match prompt {
            // The prompt names the operation: a command to an authority must not look like a mail.
            Prompt::Pin { purpose, token, .. } => {
                self.prompter.pin(&format!("{} to {}", token.name(), purpose.operation()))
            }
            Prompt::ResumedPin { token } => {
                self.resuming.as_ref().unwrap_or(&self.prompter).pin(&token.name().to_string())
            }
            Prompt::NewPin { label, serial, rule } => {
                let serial = serial.as_ref().map(|serial| format!(" (serial {serial})")).unwrap_or_default();
                self.prompter.new_pin(&format!("token {label:?}{serial}"), *rule)
            }
            Prompt::NewSoPin { label } => {
                let prompter = self.so_prompter.as_ref().unwrap_or(&self.prompter);
                prompter.new_pin(&format!("the security officer of token {label:?}"), None)
            }
            Prompt::SoPin { token } => self.prompter.pin(&format!("the security officer of {}", token.name())),
            Prompt::LastTry { token, which, .. } => return self.risk_last_try(token, *which),
            Prompt::Use { .. } => {
                return Err(NoPin::Unavailable("a command asks for the PIN instead of a confirmation".to_owned()));
            }
        };
        match pin {
            Ok(pin) => Ok(PromptReply::Pin { pin, may_retry: false }),
            Err(error) => Err(no_pin(&error)),
        }
    }
}

impl OperationObserver for TerminalPrompter<'_> {
    fn progress(&mut self, step: Step) {
        let label = match step {
            Step::CheckingLetter => "asking the authority about the letter",
            Step::CreatingToken => "creating a new token",
            Step::MakingKeys => "generating keys on the token",
            Step::AwaitingReply => "waiting for the authority's reply",
            Step::InstallingKey { .. } => "installing encryption keys",
            Step::Confirming => "confirming to the authority",
            Step::CleaningUp => "cleaning up",
        };
        // Other output may have removed the spinner.
        self.spinner = self.spinner.take().filter(|spinner| !spinner.is_finished());
        let spinner = self.spinner.get_or_insert_with(|| spinner::spinner(label));
        match step {
            Step::InstallingKey { number, of } => {
                spinner.set_message(format!("installing encryption key {number} of {of}"));
            }
            _ => spinner.set_message(label),
        }
    }

    fn notice(&mut self, notice: Notice) {
        self.stop_spinning();
        match notice {
            Notice::IndexMismatch { .. }
            | Notice::TokenLeft { .. }
            | Notice::SoPinKept { .. }
            | Notice::CheckpointNotKept { .. }
            | Notice::NotReadBack { .. }
            | Notice::AdministratorAdded { .. }
            | Notice::CertificateEnding { .. } => {
                self.output.warning(notice);
            }
            Notice::Resuming { .. } | Notice::RollingBack { .. } | Notice::SharedPin { .. } => self.output.note(notice),
        }
    }
}

impl Drop for TerminalPrompter<'_> {
    fn drop(&mut self) {
        self.stop_spinning();
    }
}

/// The reason for which the prompter gave no PIN.
pub fn no_pin(error: &PrompterError) -> NoPin {
    match error {
        PrompterError::NoTerminal { .. } => NoPin::NotInteractive(error.to_string()),
        PrompterError::Interrupted { .. } => NoPin::Interrupted,
        PrompterError::Withdrawn { .. } => NoPin::Withdrawn,
        error if error.is_cancelled() => NoPin::Cancelled,
        error => NoPin::Unavailable(error.to_string()),
    }
}

/// The state of a PIN, for people.
pub fn pin_state_text(state: PinState) -> &'static str {
    match state {
        PinState::Ok => "ok",
        PinState::CountLow => "low on tries",
        PinState::FinalTry => "last try",
        PinState::Locked => "locked",
        PinState::NotSet => "not set",
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::keyset::Purpose;
    use crate::prompter::PinSource;
    use crate::token::test_support::a_card;

    #[test]
    fn a_pin_source_is_for_one_of_the_two_pins() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("pin");
        std::fs::write(&file, "12345678").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        let prompter = || Prompter::new(PinSource::File(file.clone()), PinSource::File(file.clone()));
        let (output, token) = (Output::new(false), a_card());
        let pin = Prompt::Pin { purpose: Purpose::LogIn, token: token.clone(), keyset: None, was_wrong: false };
        let [last, last_so] = [WhichPin::User, WhichPin::SecurityOfficer].map(|which| Prompt::LastTry {
            purpose: Purpose::LogIn,
            token: token.clone(),
            keyset: None,
            which,
        });
        let so_pin = Prompt::SoPin { token: token.clone() };
        let refusal = |person: &mut TerminalPrompter<'_>, prompt| person.ask(prompt).unwrap_err().to_string();
        let mut user = TerminalPrompter::new(prompter(), &output);
        for prompt in [&so_pin, &last_so] {
            assert!(refusal(&mut user, prompt).contains("does not ask for the SO PIN"));
        }
        let mut officer = TerminalPrompter::for_security_officer(prompter(), &output);
        for prompt in [&pin, &Prompt::ResumedPin { token }, &last] {
            assert!(refusal(&mut officer, prompt).contains("does not ask for the PIN"));
        }
        assert!(user.ask(&pin).is_ok() && officer.ask(&so_pin).is_ok());
    }
}
