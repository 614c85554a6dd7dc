//! Tests of the keystore with SoftHSM in this process and a scripted person.

mod forged_index;
mod levels;
mod presence;
mod sessions;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::*;
use crate::agent::{ClientConnection, PeerProcess, Question, UsagePurpose};
use crate::keyset::NoPin;
use crate::keyset::tests::authority_double::AuthorityDouble;
use crate::keyset::tests::{Script, Wallet, enrolled, run};
use crate::letter::{Letter, LetterPurpose};
use crate::token::test_support::{PIN, pin};
use crate::token::{SecurityLevel, TokenError};

/// A person's scripted answer to one question.
pub enum ScriptedAnswer {
    Pin(&'static str),
    Yes,
    No,
    Unavailable,
}

/// Answers from a script and records every question.
#[derive(Default)]
pub struct ScriptedPrompter {
    answers: Mutex<VecDeque<ScriptedAnswer>>,
    asked: Mutex<Vec<String>>,
    // A test holds it to keep a question open.
    pub answer_gate: Mutex<()>,
    waiting: Mutex<usize>,
}

impl ScriptedPrompter {
    pub fn set_answers(&self, answers: impl IntoIterator<Item = ScriptedAnswer>) {
        self.answers.lock().unwrap().extend(answers);
    }

    /// The questions since the last call.
    pub fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }

    /// Waits until a question is open.
    pub fn until_asked(&self) {
        until("no question was asked", || *self.waiting.lock().unwrap() > 0);
    }

    fn answer(&self, kind: &str, question: &Question<'_>) -> ScriptedAnswer {
        let purpose = match &question.usage.purpose {
            UsagePurpose::SshSignature { namespace, .. } => namespace.clone(),
            other => other.operation().to_owned(),
        };
        let keyset = question.keyset.map(|(name, level)| {
            let name = name.as_str().chars().last().unwrap();
            format!(" {name} {level}")
        });
        let last_try = if question.last_try { " last try" } else { "" };
        self.asked.lock().unwrap().push(format!("{kind} {purpose}{}{last_try}", keyset.unwrap_or_default()));
        *self.waiting.lock().unwrap() += 1;
        drop(self.answer_gate.lock().unwrap());
        *self.waiting.lock().unwrap() -= 1;
        self.answers.lock().unwrap().pop_front().expect("asked once too often")
    }
}

impl PromptBackend for ScriptedPrompter {
    fn pin(&self, question: &Question<'_>) -> Result<Pin, NoPin> {
        match self.answer("pin", question) {
            ScriptedAnswer::Pin(text) => Ok(pin(text)),
            ScriptedAnswer::No => Err(NoPin::Cancelled),
            ScriptedAnswer::Unavailable => Err(NoPin::Unavailable("nobody is there".to_owned())),
            ScriptedAnswer::Yes => panic!("yes is no PIN"),
        }
    }

    fn confirm(&self, question: &Question<'_>) -> Result<(), NoPin> {
        match self.answer("confirm", question) {
            ScriptedAnswer::Yes => Ok(()),
            ScriptedAnswer::No => Err(NoPin::Declined),
            ScriptedAnswer::Unavailable => Err(NoPin::Unavailable("nobody is there".to_owned())),
            ScriptedAnswer::Pin(_) => panic!("a PIN is no confirmation"),
        }
    }

    fn program(&self, _peer: PeerProcess) -> Option<String> {
        None
    }
}

/// A clock that tests advance.
#[derive(Default)]
pub struct FakeClock {
    awake: AtomicI64,
    time_asleep: AtomicI64,
}

impl FakeClock {
    pub fn pass(&self, time: SignedDuration) {
        self.awake.fetch_add(time.as_secs(), Ordering::SeqCst);
    }

    pub fn sleep(&self, time: SignedDuration) {
        self.time_asleep.fetch_add(time.as_secs(), Ordering::SeqCst);
    }
}

impl Clock for FakeClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn awake(&self) -> Duration {
        Duration::from_secs(self.awake.load(Ordering::SeqCst).unsigned_abs())
    }

    fn elapsed(&self) -> Duration {
        self.awake() + Duration::from_secs(self.time_asleep.load(Ordering::SeqCst).unsigned_abs())
    }
}

/// A user's tokens and the keystore on them.
pub struct Fixture {
    pub wallet: Wallet,
    pub keystore: Keystore,
    pub person: Arc<ScriptedPrompter>,
    pub clock: Arc<FakeClock>,
}

fn authority() -> &'static AuthorityDouble {
    static AUTHORITY: OnceLock<AuthorityDouble> = OnceLock::new();
    AUTHORITY.get_or_init(AuthorityDouble::new)
}

/// Creates keysets with these names (one letter each) and levels, each on its own token with
/// [`PIN`].
pub fn fixture(keysets: &[(&str, SecurityLevel)]) -> Fixture {
    let wallet = Wallet::new();
    for (name, level) in keysets {
        let options = keyset::EnrollOptions { level: Some(*level), ..wallet.on_new_token(name) };
        enrolled(run(authority(), &wallet, &letter(), &options, &mut Script::with(PIN)));
    }
    open(wallet)
}

/// Creates the keysets on one token.
pub fn fixture_on_one_token(keysets: &[(&str, SecurityLevel)]) -> Fixture {
    let wallet = Wallet::new();
    let token = wallet.token("t");
    for (name, level) in keysets {
        let options = keyset::EnrollOptions { level: Some(*level), ..wallet.onto(&token, name) };
        enrolled(run(authority(), &wallet, &letter(), &options, &mut Script::with(PIN)));
    }
    open(wallet)
}

pub fn letter() -> Letter {
    let levels = vec![SecurityLevel::High, SecurityLevel::Medium, SecurityLevel::Low];
    Letter { levels, ..authority().letter(LetterPurpose::Enroll) }
}

pub fn open(wallet: Wallet) -> Fixture {
    let (person, fake_clock) = (Arc::new(ScriptedPrompter::default()), Arc::new(FakeClock::default()));
    let prompt_backend: Arc<dyn PromptBackend> = Arc::clone(&person) as Arc<dyn PromptBackend>;
    let clock: Arc<dyn Clock> = Arc::clone(&fake_clock) as Arc<dyn Clock>;
    let keystore = Keystore::new(wallet.tokens.clone(), prompt_backend, Settings::default(), clock);
    Fixture { wallet, keystore, person, clock: fake_clock }
}

impl Fixture {
    pub fn identity(&self, name: &str) -> Arc<SigningIdentity> {
        let name = self.wallet.name(name);
        self.keystore.identities().into_iter().find(|identity| identity.keyset.name == name).expect("no such identity")
    }

    /// Signs with this keyset; fails the test if the signature is invalid.
    pub fn sign(&self, name: &str, namespace: &str) -> Result<(), AgentError> {
        let identity = self.identity(name);
        let data = namespace.as_bytes();
        let hash = SignatureHash::usual_for(identity.algorithm);
        let signature = self.keystore.sign(&identity, hash, data, &usage(namespace))?;
        let algorithm = identity.algorithm.signature_algorithm();
        crate::pki::signature::verify("the test", &identity.spki, &algorithm, data, signature.as_bytes()).unwrap();
        Ok(())
    }

    pub fn has_active_session(&self, name: &str) -> bool {
        let token = self.identity(name).keyset.token.clone();
        let states = self.keystore.tokens().unwrap();
        states.iter().any(|state| is_same_token(&state.info, &token) && state.logged_in)
    }

    pub fn choice(&self, name: &str) -> KeysetChoice {
        KeysetChoice { name: Some(self.wallet.name(name)), ..KeysetChoice::default() }
    }
}

pub fn usage(namespace: &str) -> Usage {
    let hash = ("sha512".to_owned(), vec![1, 2, 3]);
    Usage {
        peer: PeerProcess { pid: 1, uid: 1 },
        purpose: UsagePurpose::SshSignature { namespace: namespace.to_owned(), hash, forwarded_by: None },
        client: ClientConnection::default(),
    }
}

pub fn until(otherwise: &str, mut happened: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_mins(1);
    while !happened() {
        assert!(std::time::Instant::now() < deadline, "{otherwise}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[track_caller]
pub fn is_wrong_pin(result: &Result<(), AgentError>) {
    let wrong = matches!(result, Err(AgentError::Keyset(keyset::KeysetError::Token(TokenError::PinIncorrect { .. }))));
    assert!(wrong, "{result:?}");
}

pub fn published_events(events: &EventReceiver) -> Vec<Event> {
    std::iter::from_fn(|| events.next(Duration::ZERO)).collect()
}
