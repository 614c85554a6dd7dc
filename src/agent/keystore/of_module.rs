//! Prompts for an operation of a module worker: only for tokens of its own module.

use std::path::Path;

use crate::keyset::{FoundKeyset, NoPin, Notice, Person, PinRequest, SecurityOfficer, Step};
use crate::token::{Pin, PinRule, TokenInfo};

/// The person whom a module worker's operation asks for PINs. A module that has taken over its
/// worker may ask for any token's PIN.
pub(super) struct OfModule<'a> {
    pub person: &'a mut dyn Person,
    pub module: &'a Path,
}

impl OfModule<'_> {
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

impl Person for OfModule<'_> {
    fn pin(&mut self, request: PinRequest<'_>) -> Result<Pin, NoPin> {
        if let PinRequest::Existing { token, .. } | PinRequest::Resumed { token } = request {
            self.refuse_another(token)?;
        }
        self.person.pin(request)
    }

    fn risks_last_try(&mut self, token: &TokenInfo) -> Result<(), NoPin> {
        self.refuse_another(token)?;
        self.person.risks_last_try(token)
    }

    fn concerns(&mut self, keyset: &FoundKeyset) {
        self.person.concerns(keyset);
    }

    fn confirm(&mut self, operation: &str, keyset: &FoundKeyset) -> Result<(), NoPin> {
        self.refuse_another(&keyset.token)?;
        self.person.confirm(operation, keyset)
    }

    fn security_officer(&mut self) -> Option<&mut dyn SecurityOfficer> {
        Some(self)
    }

    fn progress(&mut self, step: Step) {
        self.person.progress(step);
    }

    fn notice(&mut self, notice: Notice) {
        self.person.notice(notice);
    }
}

impl OfModule<'_> {
    fn officer(&mut self, token: &TokenInfo) -> Result<&mut dyn SecurityOfficer, NoPin> {
        self.refuse_another(token)?;
        let nobody = || NoPin::Unavailable("no SO PIN is available here".to_owned());
        self.person.security_officer().ok_or_else(nobody)
    }
}

impl SecurityOfficer for OfModule<'_> {
    fn risks_last_try(&mut self, token: &TokenInfo) -> Result<(), NoPin> {
        self.officer(token)?.risks_last_try(token)
    }

    fn so_pin(&mut self, token: &TokenInfo) -> Result<Pin, NoPin> {
        self.officer(token)?.so_pin(token)
    }

    fn new_pin(&mut self, token: &TokenInfo, rule: PinRule) -> Result<Pin, NoPin> {
        self.officer(token)?.new_pin(token, rule)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::PinState;

    /// Supplies a PIN for each question and counts the questions.
    #[derive(Default)]
    struct Giving(usize);

    impl Person for Giving {
        fn pin(&mut self, _: PinRequest<'_>) -> Result<Pin, NoPin> {
            self.0 += 1;
            Ok(Pin::new("12345678".to_owned()).unwrap())
        }

        fn risks_last_try(&mut self, _: &TokenInfo) -> Result<(), NoPin> {
            self.0 += 1;
            Ok(())
        }

        fn security_officer(&mut self) -> Option<&mut dyn SecurityOfficer> {
            Some(self)
        }
    }

    impl SecurityOfficer for Giving {
        fn risks_last_try(&mut self, _: &TokenInfo) -> Result<(), NoPin> {
            self.0 += 1;
            Ok(())
        }

        fn so_pin(&mut self, _: &TokenInfo) -> Result<Pin, NoPin> {
            Person::pin(self, PinRequest::New { label: "x", rule: None })
        }

        fn new_pin(&mut self, _: &TokenInfo, _: PinRule) -> Result<Pin, NoPin> {
            Person::pin(self, PinRequest::New { label: "x", rule: None })
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
            not_text: Vec::new(),
        }
    }

    /// Everything that a module worker can ask the person about one token.
    fn asked(person: &mut OfModule<'_>, token: &TokenInfo) -> Vec<bool> {
        let mut given = vec![
            person.pin(PinRequest::Existing { operation: "sign", token }).is_ok(),
            person.pin(PinRequest::Resumed { token }).is_ok(),
            Person::risks_last_try(person, token).is_ok(),
        ];
        let officer = person.security_officer().unwrap();
        given.extend([
            officer.risks_last_try(token).is_ok(),
            officer.so_pin(token).is_ok(),
            officer.new_pin(token, PinRule { min: 4, max: 8 }).is_ok(),
        ]);
        given
    }

    #[test]
    fn nobody_gives_an_annex_what_belongs_to_another_modules_token() {
        let mut giving = Giving::default();
        let mut person = OfModule { person: &mut giving, module: Path::new("/own.so") };
        assert_eq!(asked(&mut person, &token("/another.so")), [false; 6]);
        assert_eq!(giving.0, 0, "the person was asked all the same");
        let mut person = OfModule { person: &mut giving, module: Path::new("/own.so") };
        assert_eq!(asked(&mut person, &token("/own.so")), [true; 6]);
    }
}
