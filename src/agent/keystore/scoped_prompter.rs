//! Prompts for an operation of a module worker: only for tokens of its own module.

use std::path::Path;

use crate::keyset::{FoundKeyset, NoPin, Notice, PinRequest, SoPrompter, Step, UserPrompter};
use crate::token::{Pin, PinRule, TokenInfo};

/// The person whom a module worker's operation asks for PINs. A module that has taken over its
/// worker may ask for any token's PIN.
pub(super) struct ScopedPrompter<'a> {
    pub person: &'a mut dyn UserPrompter,
    pub module: &'a Path,
}

impl ScopedPrompter<'_> {
    /// The worker may have loaded its module through another path to the same file.
    fn refuse_another(&self, token: &TokenInfo) -> Result<(), NoPin> {
        if token.module == self.module || token.module.canonicalize().is_ok_and(|path| path == self.module) {
            return Ok(());
        }
        let (module, token) = (self.module.display(), token.name());
        Err(NoPin::Unavailable(format!(
            "the worker of the module {module} asked for the PIN of another module's token, {token}"
        )))
    }
}

impl UserPrompter for ScopedPrompter<'_> {
    fn pin(&mut self, request: PinRequest<'_>) -> Result<Pin, NoPin> {
        if let PinRequest::Existing { token, .. } | PinRequest::Resumed { token } = request {
            self.refuse_another(token)?;
        }
        self.person.pin(request)
    }

    fn confirm_last_try(&mut self, token: &TokenInfo) -> Result<(), NoPin> {
        self.refuse_another(token)?;
        self.person.confirm_last_try(token)
    }

    fn set_keyset(&mut self, keyset: &FoundKeyset) {
        self.person.set_keyset(keyset);
    }

    fn confirm(&mut self, operation: &str, keyset: &FoundKeyset) -> Result<(), NoPin> {
        self.refuse_another(&keyset.token)?;
        self.person.confirm(operation, keyset)
    }

    fn so_prompter(&mut self) -> Option<&mut dyn SoPrompter> {
        Some(self)
    }

    fn progress(&mut self, step: Step) {
        self.person.progress(step);
    }

    fn notice(&mut self, notice: Notice) {
        self.person.notice(notice);
    }
}

impl ScopedPrompter<'_> {
    fn so_prompter_for(&mut self, token: &TokenInfo) -> Result<&mut dyn SoPrompter, NoPin> {
        self.refuse_another(token)?;
        let nobody = || NoPin::Unavailable("no SO PIN is available here".to_owned());
        self.person.so_prompter().ok_or_else(nobody)
    }
}

impl SoPrompter for ScopedPrompter<'_> {
    fn confirm_last_try(&mut self, token: &TokenInfo) -> Result<(), NoPin> {
        self.so_prompter_for(token)?.confirm_last_try(token)
    }

    fn so_pin(&mut self, token: &TokenInfo) -> Result<Pin, NoPin> {
        self.so_prompter_for(token)?.so_pin(token)
    }

    fn new_pin(&mut self, token: &TokenInfo, rule: PinRule) -> Result<Pin, NoPin> {
        self.so_prompter_for(token)?.new_pin(token, rule)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::PinState;

    /// Supplies a PIN for each question and counts the questions.
    #[derive(Default)]
    struct Giving(usize);

    impl UserPrompter for Giving {
        fn pin(&mut self, _: PinRequest<'_>) -> Result<Pin, NoPin> {
            self.0 += 1;
            Ok(Pin::new("12345678".to_owned()).unwrap())
        }

        fn confirm_last_try(&mut self, _: &TokenInfo) -> Result<(), NoPin> {
            self.0 += 1;
            Ok(())
        }

        fn so_prompter(&mut self) -> Option<&mut dyn SoPrompter> {
            Some(self)
        }
    }

    impl SoPrompter for Giving {
        fn confirm_last_try(&mut self, _: &TokenInfo) -> Result<(), NoPin> {
            self.0 += 1;
            Ok(())
        }

        fn so_pin(&mut self, _: &TokenInfo) -> Result<Pin, NoPin> {
            UserPrompter::pin(self, PinRequest::New { label: "x", rule: None })
        }

        fn new_pin(&mut self, _: &TokenInfo, _: PinRule) -> Result<Pin, NoPin> {
            UserPrompter::pin(self, PinRequest::New { label: "x", rule: None })
        }
    }

    fn token(module: &str) -> TokenInfo {
        TokenInfo {
            label: "card".into(),
            serial: "4711".into(),
            manufacturer: String::new(),
            model: String::new(),
            module: module.into(),
            pin_state: PinState::Ok,
            write_protected: false,
            non_utf8_names: Vec::new(),
        }
    }

    /// Everything that a module worker can ask the person about one token.
    fn asked(person: &mut ScopedPrompter<'_>, token: &TokenInfo) -> Vec<bool> {
        let mut given = vec![
            person.pin(PinRequest::Existing { operation: "sign", token }).is_ok(),
            person.pin(PinRequest::Resumed { token }).is_ok(),
            UserPrompter::confirm_last_try(person, token).is_ok(),
        ];
        let so_prompter = person.so_prompter().unwrap();
        given.extend([
            so_prompter.confirm_last_try(token).is_ok(),
            so_prompter.so_pin(token).is_ok(),
            so_prompter.new_pin(token, PinRule { min: 4, max: 8 }).is_ok(),
        ]);
        given
    }

    #[test]
    fn a_module_worker_gets_no_pin_of_another_modules_token() {
        let mut giving = Giving::default();
        let mut person = ScopedPrompter { person: &mut giving, module: Path::new("/own.so") };
        assert_eq!(asked(&mut person, &token("/another.so")), [false; 6]);
        assert_eq!(giving.0, 0, "the person was asked all the same");
        let mut person = ScopedPrompter { person: &mut giving, module: Path::new("/own.so") };
        assert_eq!(asked(&mut person, &token("/own.so")), [true; 6]);
    }
}
