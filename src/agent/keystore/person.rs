//! The person behind a use, as the acts of keysets know one: by the way that the agent has to them.

use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::keyset::{FoundKeyset, NoPin, Notice, Person, PinRequest, SecurityOfficer};
use crate::token::{KeysetName, Pin, SecurityLevel, TokenInfo};

use super::super::{Asks, Purpose, Question, Usage};
use super::pass_phrase::PassPhraseLock;

/// Asked through the agent's own prompter, and told who asks for what.
pub struct AskedPerson<'a> {
    asks: &'a dyn Asks,
    usage: &'a Usage,
    keyset: Option<(KeysetName, SecurityLevel)>,
    // One that was given along (ssh-add -s asks for it itself), for the first question.
    given: Option<Pin>,
    last_try: bool,
    /// what was typed for this use at the prompter
    typed: TypedPins,
    dialog: UseDialog<'a>,
}

/// The dialog that asks for the PIN of one use, and again after a wrong one; it ends with the use.
struct UseDialog<'a> {
    asks: &'a dyn Asks,
    number: u64,
    has_asked: bool,
}

impl<'a> UseDialog<'a> {
    fn new(asks: &'a dyn Asks) -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Self { asks, number: LAST.fetch_add(1, Ordering::Relaxed), has_asked: false }
    }
}

impl Drop for UseDialog<'_> {
    fn drop(&mut self) {
        if self.has_asked {
            self.asks.end_dialog(self.number);
        }
    }
}

/// PINs that were typed for one use: how many, and the last one as a hash under a key of its own, which goes with the use.
#[derive(Default)]
struct TypedPins {
    count: usize,
    last: Option<[Zeroizing<[u8; 32]>; 2]>,
    was_wrong: bool,
    was_repeated: bool,
}

/// The last wrong PIN once more.
struct Repeated;

/// So often a person is asked for the PIN of one use.
const MOST_PINS: usize = 3;

impl TypedPins {
    /// Takes one that was typed; not the same once more: that one was wrong.
    fn take(&mut self, pin: Pin) -> Result<Pin, Repeated> {
        self.was_repeated = false;
        if let Some([key, hash]) = &self.last
            && *hash == hash_of(key, &pin)
        {
            self.count += 1;
            self.was_repeated = true;
            return Err(Repeated);
        }
        let mut key = Zeroizing::new([0; 32]);
        // Without randomness the same one is not recognized, and that it is asked once more is not worth a try.
        let random = getrandom::fill(key.as_mut_slice()).is_ok();
        self.count = if random { self.count + 1 } else { MOST_PINS };
        self.last = random.then(|| {
            let hash = hash_of(&key, &pin);
            [key, hash]
        });
        Ok(pin)
    }
}

fn hash_of(key: &[u8; 32], pin: &Pin) -> Zeroizing<[u8; 32]> {
    Zeroizing::new(Sha256::new().chain_update(key).chain_update(pin.as_str()).finalize().into())
}

impl<'a> AskedPerson<'a> {
    /// For this use.
    pub fn new(asks: &'a dyn Asks, usage: &'a Usage) -> Self {
        let (typed, dialog) = (TypedPins::default(), UseDialog::new(asks));
        Self { asks, usage, keyset: None, given: None, last_try: false, typed, dialog }
    }

    /// With a PIN that was typed elsewhere for this very use.
    pub fn with_pin(asks: &'a dyn Asks, usage: &'a Usage, pin: Pin) -> Self {
        Self { given: Some(pin), ..Self::new(asks, usage) }
    }

    /// Asks until another PIN is typed than the one that was just wrong, as often as a person is asked. A program may have
    /// given it: that is not asked once more for the same.
    fn typed_pin(&mut self, token: &TokenInfo) -> Result<Pin, NoPin> {
        loop {
            let pin = self.asks.pin(&self.question(token))?;
            if let Ok(pin) = self.typed.take(pin) {
                return Ok(pin);
            }
            if self.typed.count >= MOST_PINS || !self.asks.can_ask_again(self.dialog.number) {
                let same = "the same wrong PIN was given again; it was not tried again";
                return Err(NoPin::Unavailable(same.to_owned()));
            }
        }
    }

    fn question<'q>(&'q self, token: &'q TokenInfo) -> Question<'q> {
        Question {
            usage: self.usage,
            keyset: self.keyset.as_ref().map(|(name, level)| (name, *level)),
            token,
            last_try: self.last_try,
            was_wrong: self.typed.was_wrong,
            was_repeated: self.typed.was_repeated,
            dialog: self.dialog.number,
        }
    }
}

impl Person for AskedPerson<'_> {
    fn pin(&mut self, request: PinRequest<'_>) -> Result<Pin, NoPin> {
        match request {
            PinRequest::Existing { token, .. } | PinRequest::Resumed { token } => {
                if let Some(pin) = self.given.take() {
                    return Ok(pin);
                }
                self.dialog.has_asked = true;
                self.typed_pin(token)
            }
            PinRequest::New { .. } | PinRequest::NewSoPin { .. } => Err(NoPin::Unavailable(
                "a new PIN is asked for by the command that sets it: type `tokenkeep` for this".to_owned(),
            )),
        }
    }

    fn is_asked_again(&mut self) -> bool {
        self.typed.was_wrong =
            (1..MOST_PINS).contains(&self.typed.count) && self.asks.can_ask_again(self.dialog.number);
        self.typed.was_wrong
    }

    fn risks_last_try(&mut self, token: &TokenInfo) -> Result<(), NoPin> {
        self.last_try = true;
        self.asks.confirm(&self.question(token))
    }

    fn concerns(&mut self, keyset: &FoundKeyset) {
        self.keyset = Some((keyset.name.clone(), keyset.level));
    }

    fn confirm(&mut self, _operation: &str, keyset: &FoundKeyset) -> Result<(), NoPin> {
        self.asks.confirm(&self.question(&keyset.token))
    }

    fn notice(&mut self, notice: Notice) {
        tracing::warn!("{notice}");
    }
}

/// A command that the agent acts for: it is asked for PINs itself, and the agent's prompter only where the command has no
/// way to a person. A use under a log-in that stands is confirmed through that prompter alone: whoever asks for a use must
/// not be the one who says yes to it.
pub(super) struct Confirmed<'a> {
    command: &'a mut dyn Person,
    by_prompter: AskedPerson<'a>,
    /// Was it the prompter that gave the last PIN?
    is_by_prompter: bool,
    /// An act that began before the keystore was locked goes no further than to its next question.
    locked: &'a PassPhraseLock,
    /// The token that the act was about.
    pub token: Option<TokenInfo>,
}

impl<'a> Confirmed<'a> {
    pub fn new(command: &'a mut dyn Person, asks: &'a dyn Asks, usage: &'a Usage, locked: &'a PassPhraseLock) -> Self {
        Self { command, by_prompter: AskedPerson::new(asks, usage), is_by_prompter: false, locked, token: None }
    }

    fn unless_locked<T>(&self, given: T) -> Result<T, NoPin> {
        if self.locked.is_locked() {
            return Err(NoPin::Unavailable("the agent was locked meanwhile; `ssh-add -X` unlocks it".to_owned()));
        }
        Ok(given)
    }

    /// What the command has said, or, where nobody could be asked there, the person at the agent's prompter. That is so for a
    /// use that the prompt describes whole, and that other programs may ask for, too; for nothing else.
    fn or_by_prompter<T>(
        &mut self,
        said: Result<T, NoPin>,
        ask: impl FnOnce(&mut AskedPerson<'a>) -> Result<T, NoPin>,
    ) -> Result<T, NoPin> {
        let is_a_use = matches!(self.by_prompter.usage.purpose, Purpose::SignContent { .. } | Purpose::Decrypt { .. });
        match said {
            Err(NoPin::NobodyHere(here)) if is_a_use => ask(&mut self.by_prompter).map_err(|there| match there {
                NoPin::Unavailable(there) => NoPin::Unavailable(format!("{here}; nor can the agent ask: {there}")),
                no => no,
            }),
            said => said,
        }
    }
}

/// Whoever typed the command has it, and perhaps a `--pin-source`, and does not see why that is not enough.
fn with_remedy(no_yes: NoPin) -> NoPin {
    match no_yes {
        NoPin::Unavailable(reason) => NoPin::Unavailable(format!(
            "at level medium it is the agent that asks for a yes, by its own prompter: {reason}; or end the agent \
             (`tokenkeep agent stop`), and the command asks for the PIN and opens the token itself"
        )),
        other => other,
    }
}

impl Person for Confirmed<'_> {
    fn pin(&mut self, request: PinRequest<'_>) -> Result<Pin, NoPin> {
        let said = self.command.pin(request);
        self.is_by_prompter = matches!(said, Err(NoPin::NobodyHere(_)));
        let pin = self.or_by_prompter(said, |person| person.pin(request))?;
        self.unless_locked(pin)
    }

    fn is_asked_again(&mut self) -> bool {
        if self.is_by_prompter { self.by_prompter.is_asked_again() } else { self.command.is_asked_again() }
    }

    fn risks_last_try(&mut self, token: &TokenInfo) -> Result<(), NoPin> {
        let said = self.command.risks_last_try(token);
        self.or_by_prompter(said, |person| person.risks_last_try(token))
    }

    fn concerns(&mut self, keyset: &FoundKeyset) {
        self.token = Some(keyset.token.clone());
        self.by_prompter.concerns(keyset);
        self.command.concerns(keyset);
    }

    fn confirm(&mut self, operation: &str, keyset: &FoundKeyset) -> Result<(), NoPin> {
        self.by_prompter.concerns(keyset);
        self.by_prompter.confirm(operation, keyset).map_err(with_remedy)?;
        self.unless_locked(())
    }

    fn security_officer(&mut self) -> Option<&mut dyn SecurityOfficer> {
        self.command.security_officer()
    }

    fn progress(&mut self, step: crate::keyset::Step) {
        self.command.progress(step);
    }

    fn notice(&mut self, notice: Notice) {
        self.command.notice(notice);
    }
}
