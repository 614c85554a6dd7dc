//! The [`UserPrompter`] behind a use, asked through the agent's prompter.

use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::keyset::{NoPin, Notice, OperationObserver, Prompt, PromptReply, Purpose, Step, UserPrompter};
use crate::token::{Pin, TokenInfo, WhichPin};

use super::super::{Link, Question, Requester};
use super::pass_phrase::PassPhraseLock;

/// Prompts through the agent's own prompter, with the program that asked for the use.
pub struct AgentPrompter<'a> {
    link: &'a Link,
    requester: &'a Requester,
    // A PIN that the client supplied (`ssh-add -s` asks for it itself), for the first question.
    supplied_pin: Option<Pin>,
    last_try: bool,
    /// the PINs typed at the prompter for this use
    typed: TypedPins,
    dialog: UseDialog<'a>,
}

/// The dialog that asks for the PIN of one use, and again after a wrong one. It ends with the use.
struct UseDialog<'a> {
    link: &'a Link,
    number: u64,
    has_asked: bool,
}

impl<'a> UseDialog<'a> {
    fn new(link: &'a Link) -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Self { link, number: LAST.fetch_add(1, Ordering::Relaxed), has_asked: false }
    }
}

impl Drop for UseDialog<'_> {
    fn drop(&mut self) {
        if self.has_asked {
            self.link.end_dialog(self.number);
        }
    }
}

/// The PINs typed for one use: their number, and a hash of the last one under a random key. Both
/// are dropped with the use.
#[derive(Default)]
struct TypedPins {
    count: usize,
    last: Option<[Zeroizing<[u8; 32]>; 2]>,
    was_repeated: bool,
}

/// The last wrong PIN was typed again.
struct Repeated;

/// Maximum number of PINs that a person is asked for in one use.
const MAX_PIN_ATTEMPTS: usize = 3;

impl TypedPins {
    /// Accepts a typed PIN unless it equals the last one, which was wrong.
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
        // Without randomness a repeated PIN cannot be detected; then ask no more, to spare the
        // token's tries.
        let random = getrandom::fill(key.as_mut_slice()).is_ok();
        self.count = if random { self.count + 1 } else { MAX_PIN_ATTEMPTS };
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

impl<'a> AgentPrompter<'a> {
    /// For this use, without a PIN.
    pub fn new(link: &'a Link, requester: &'a Requester) -> Self {
        let (typed, dialog) = (TypedPins::default(), UseDialog::new(link));
        Self { link, requester, supplied_pin: None, last_try: false, typed, dialog }
    }

    /// With a PIN that was typed elsewhere for this use.
    pub fn with_pin(link: &'a Link, requester: &'a Requester, pin: Pin) -> Self {
        Self { supplied_pin: Some(pin), ..Self::new(link, requester) }
    }

    /// Prompts until the PIN differs from the wrong one, within the limit. A prompter that is a
    /// program would give the same PIN again and is not asked again.
    fn typed_pin(&mut self, prompt: &Prompt) -> Result<PromptReply, NoPin> {
        loop {
            let (pin, may_retry) = match self.ask_person(prompt)? {
                PromptReply::Pin { pin, may_retry } => (pin, may_retry),
                yes @ PromptReply::Yes => return Ok(yes),
            };
            let taken = self.typed.take(pin);
            let may_retry = may_retry && self.typed.count < MAX_PIN_ATTEMPTS;
            if let Ok(pin) = taken {
                return Ok(PromptReply::Pin { pin, may_retry });
            }
            if !may_retry {
                let same = "the same wrong PIN was entered again and was not tried";
                return Err(NoPin::Unavailable(same.to_owned()));
            }
        }
    }

    fn ask_person(&self, prompt: &Prompt) -> Result<PromptReply, NoPin> {
        let question = Question {
            prompt: prompt.clone(),
            pid: self.requester.peer.pid,
            last_try: self.last_try,
            was_repeated: self.typed.was_repeated,
            dialog: self.dialog.number,
        };
        self.link.ask_person(question, &self.requester.client)
    }
}

impl UserPrompter for AgentPrompter<'_> {
    fn ask(&mut self, prompt: &Prompt) -> Result<PromptReply, NoPin> {
        match prompt {
            Prompt::Pin { .. } | Prompt::ResumedPin { .. } => {
                if let Some(pin) = self.supplied_pin.take() {
                    return Ok(PromptReply::Pin { pin, may_retry: false });
                }
                self.dialog.has_asked = true;
                self.typed_pin(prompt)
            }
            Prompt::LastTry { which: WhichPin::User, .. } => {
                self.last_try = true;
                self.ask_person(prompt)
            }
            Prompt::Use { .. } => self.ask_person(prompt),
            Prompt::NewPin { .. } | Prompt::NewSoPin { .. } | Prompt::SoPin { .. } | Prompt::LastTry { .. } => Err(
                NoPin::Unavailable("the agent asks for no new PIN and no SO PIN: use a `tokenkeep` command".to_owned()),
            ),
        }
    }
}

impl OperationObserver for AgentPrompter<'_> {
    fn notice(&mut self, notice: Notice) {
        tracing::warn!("{notice}");
    }
}

/// The command that requested an operation. It supplies PINs; the agent's prompter is used only
/// where the command cannot ask a person. A use in an active session is confirmed through that
/// prompter alone: a client must not confirm its own request.
pub(super) struct ConfirmingPrompter<'a> {
    command: &'a mut dyn UserPrompter,
    prompter: AgentPrompter<'a>,
    /// Locking the keystore stops a running operation at its next question.
    locked: &'a PassPhraseLock,
    /// the token of the operation
    pub token: Option<TokenInfo>,
}

impl<'a> ConfirmingPrompter<'a> {
    pub fn new(
        command: &'a mut dyn UserPrompter,
        link: &'a Link,
        requester: &'a Requester,
        locked: &'a PassPhraseLock,
    ) -> Self {
        let prompter = AgentPrompter::new(link, requester);
        Self { command, prompter, locked, token: None }
    }

    /// Returns the command's answer. If the command cannot ask a person, asks with the agent's
    /// prompter, but only for uses that the prompt describes completely and that other programs may
    /// request, too.
    fn or_ask_prompter(&mut self, reply: Result<PromptReply, NoPin>, prompt: &Prompt) -> Result<PromptReply, NoPin> {
        let is_a_use = matches!(prompt.purpose(), Some(Purpose::SignContent { .. } | Purpose::Decrypt { .. }));
        match reply {
            Err(NoPin::NotInteractive(reason)) if is_a_use => self.prompter.ask(prompt).map_err(|no| match no {
                NoPin::Unavailable(agent_reason) => {
                    NoPin::Unavailable(format!("{reason}; the agent cannot ask either: {agent_reason}"))
                }
                no => no,
            }),
            reply => reply,
        }
    }
}

/// Users who typed the command, perhaps with `--pin-source`, do not see why a PIN is not enough.
fn with_remedy(no_confirmation: NoPin) -> NoPin {
    match no_confirmation {
        NoPin::Unavailable(reason) => NoPin::Unavailable(format!(
            "at level medium the agent asks for the confirmation with its own prompter: {reason}; or stop the agent \
             (`tokenkeep agent stop`), and the command asks for the PIN and opens the token itself"
        )),
        other => other,
    }
}

impl UserPrompter for ConfirmingPrompter<'_> {
    fn ask(&mut self, prompt: &Prompt) -> Result<PromptReply, NoPin> {
        let reply = if matches!(prompt, Prompt::Use { .. }) {
            self.prompter.ask(prompt).map_err(with_remedy)?
        } else {
            let reply = self.command.ask(prompt);
            self.or_ask_prompter(reply, prompt)?
        };
        if self.locked.is_locked() {
            return Err(NoPin::Unavailable(
                "the agent was locked in the meantime; unlock it with `ssh-add -X`".to_owned(),
            ));
        }
        Ok(reply)
    }
}

impl OperationObserver for ConfirmingPrompter<'_> {
    fn token_chosen(&mut self, token: &TokenInfo) {
        self.token = Some(token.clone());
        self.command.token_chosen(token);
    }

    fn progress(&mut self, step: Step) {
        self.command.progress(step);
    }

    fn notice(&mut self, notice: Notice) {
        self.command.notice(notice);
    }
}
