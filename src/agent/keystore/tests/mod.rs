//! Tests of the keystore with SoftHSM in this process and a scripted person.

mod forged_index;
mod levels;
mod presence;
mod sessions;

use std::collections::VecDeque;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use sessions::NoTransport;

use super::presence::Poller;
use super::*;
use crate::agent::Question;
use crate::agent::link::{SupervisorMessage, SupervisorReply, WorkerCall, WorkerMessage};
use crate::agent::prompt_answer::PromptAnswer;
use crate::agent::{ClientConnection, PeerProcess};
use crate::ipc::{self, IpcMessage};
use crate::keyset::ops::DeleteKeyset;
use crate::keyset::tests::authority_double::AuthorityDouble;
use crate::keyset::tests::{Script, Wallet, enrolled, run};
use crate::keyset::{NoPin, Prompt, Purpose};
use crate::letter::{Letter, LetterPurpose};
use crate::token::test_support::{PIN, pin};
use crate::token::{SecurityLevel, SignatureHash, TokenError};

/// A person's scripted answer to one question.
pub enum ScriptedAnswer {
    Pin(&'static str),
    Yes,
    No,
    Unavailable,
}

/// A supervisor that answers from a script and records every question.
pub struct ScriptedPrompter {
    /// the worker's end of the link
    pub link: Arc<Link>,
    script: Arc<PromptScript>,
}

#[derive(Default)]
struct PromptScript {
    answers: Mutex<VecDeque<ScriptedAnswer>>,
    // Answers every question that the script does not, with this PIN or with yes.
    usual_pin: OnceLock<&'static str>,
    asked: Mutex<Vec<String>>,
    purposes: Mutex<Vec<Purpose>>,
    answer_gate: Mutex<()>,
    waiting: Mutex<usize>,
}

impl ScriptedPrompter {
    pub fn new() -> Self {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let link = Arc::new(Link::over(ours).unwrap());
        link.start_reader().unwrap();
        let script = Arc::new(PromptScript::default());
        let serving = Arc::clone(&script);
        std::thread::spawn(move || serving.serve(&Arc::new(theirs)));
        Self { link, script }
    }

    pub fn set_answers(&self, answers: impl IntoIterator<Item = ScriptedAnswer>) {
        self.script.answers.lock().unwrap().extend(answers);
    }

    /// From now on, answers every question for which there is no scripted answer.
    pub fn set_usual_pin(&self, pin: &'static str) {
        self.script.usual_pin.set(pin).unwrap();
    }

    /// The purposes of the questions since the last call.
    pub fn purposes(&self) -> Vec<Purpose> {
        std::mem::take(&mut self.script.purposes.lock().unwrap())
    }

    /// Keeps questions open while it is held.
    pub fn answer_gate(&self) -> MutexGuard<'_, ()> {
        self.script.answer_gate.lock().unwrap()
    }

    /// The questions since the last call.
    pub fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.script.asked.lock().unwrap())
    }

    /// Waits until a question is open.
    pub fn until_asked(&self) {
        until("no question was asked", || *self.script.waiting.lock().unwrap() > 0);
    }
}

impl PromptScript {
    fn serve(self: Arc<Self>, worker: &Arc<UnixStream>) {
        while let Ok(frame) = ipc::receive::<WorkerMessage>(worker) {
            let IpcMessage::Call { number, call } = frame.message else { continue };
            let (script, worker) = (Arc::clone(&self), Arc::clone(worker));
            // A held question must not hold up the next one.
            std::thread::spawn(move || {
                let (reply, pin) = match call {
                    WorkerCall::Ask(question) => script.answer(&question),
                    _ => (SupervisorReply::Unavailable("not in the script".to_owned()), ""),
                };
                // The test may have ended.
                let _ = ipc::send(&worker, &SupervisorMessage::Reply { number, reply }, pin.as_bytes(), &[]);
            });
        }
    }

    fn answer(&self, question: &Question) -> (SupervisorReply, &'static str) {
        let (kind, last_try) = match &question.prompt {
            Prompt::Pin { .. } | Prompt::ResumedPin { .. } => ("pin", question.last_try),
            Prompt::LastTry { .. } => ("confirm", true),
            _ => ("confirm", false),
        };
        let purpose = match question.prompt.purpose().unwrap() {
            Purpose::SshSignature { namespace, .. } => namespace.clone(),
            other => other.operation().to_owned(),
        };
        let keyset = question.prompt.keyset().map(|keyset| {
            let name = keyset.name.as_str().chars().last().unwrap();
            format!(" {name} {}", keyset.level)
        });
        let last_try = if last_try { " last try" } else { "" };
        self.asked.lock().unwrap().push(format!("{kind} {purpose}{}{last_try}", keyset.unwrap_or_default()));
        self.purposes.lock().unwrap().push(question.prompt.purpose().unwrap().clone());
        *self.waiting.lock().unwrap() += 1;
        drop(self.answer_gate.lock().unwrap());
        *self.waiting.lock().unwrap() -= 1;
        // The use fails, and with it the test.
        let unfit = |reason: &str| (SupervisorReply::Unavailable(reason.to_owned()), "");
        let usual =
            self.usual_pin.get().map(|pin| if kind == "pin" { ScriptedAnswer::Pin(pin) } else { ScriptedAnswer::Yes });
        let Some(answer) = self.answers.lock().unwrap().pop_front().or(usual) else {
            return unfit("asked once too often");
        };
        match (answer, kind) {
            (ScriptedAnswer::Pin(pin), "pin") => {
                (SupervisorReply::Prompt(PromptAnswer::Pin { attended: true, may_retry: false }), pin)
            }
            (ScriptedAnswer::Yes, "confirm") => (SupervisorReply::Prompt(PromptAnswer::Yes), ""),
            (ScriptedAnswer::No, "pin") => (SupervisorReply::Prompt(PromptAnswer::No(NoPin::Cancelled)), ""),
            (ScriptedAnswer::No, _) => (SupervisorReply::Prompt(PromptAnswer::No(NoPin::Declined)), ""),
            (ScriptedAnswer::Unavailable, _) => unfit("nobody is there"),
            (ScriptedAnswer::Pin(_) | ScriptedAnswer::Yes, _) => unfit("the answer does not fit the question"),
        }
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
    pub keystore: Arc<Keystore>,
    poller: Mutex<Poller>,
    pub person: Arc<ScriptedPrompter>,
    pub clock: Arc<FakeClock>,
}

pub fn authority() -> &'static AuthorityDouble {
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
    let (person, fake_clock) = (Arc::new(ScriptedPrompter::new()), Arc::new(FakeClock::default()));
    let clock: Arc<dyn Clock> = Arc::clone(&fake_clock) as Arc<dyn Clock>;
    let poller = Mutex::new(Poller::new(&*clock));
    let link = Arc::clone(&person.link);
    let keystore = Arc::new(Keystore::new(wallet.tokens.clone(), link, Settings::default(), clock));
    Fixture { wallet, keystore, poller, person, clock: fake_clock }
}

impl Fixture {
    /// Polls once, as the polling thread does.
    pub fn poll(&self) {
        self.poller.lock().unwrap().poll(&self.keystore, false);
    }

    /// Deletes a keyset with its keys.
    pub fn delete(&self, name: &str) {
        let requester = requester();
        self.person.set_answers([ScriptedAnswer::Pin(PIN)]);
        let mut person = AgentPrompter::new(&self.keystore.link, &requester);
        let operation = DeleteKeyset { keyset: KeysetChoice::exactly(&self.identity(name).keyset) };
        let mut attachments = Attachments::default();
        self.keystore.run_operation(operation, &mut person, &NoTransport, &mut attachments, &requester).unwrap();
    }

    pub fn session_count(&self) -> usize {
        self.keystore.tokens.active_sessions().len()
    }

    pub fn identity(&self, name: &str) -> Arc<SigningIdentity> {
        let name = self.wallet.name(name);
        self.keystore.identities().into_iter().find(|identity| identity.keyset.name == name).expect("no such identity")
    }

    /// Signs with this keyset; fails the test if the signature is invalid.
    pub fn sign(&self, name: &str, namespace: &str) -> Result<(), AgentError> {
        let identity = self.identity(name);
        let data = namespace.as_bytes();
        let hash = SignatureHash::usual_for(identity.algorithm);
        let purpose = &ssh_signature(namespace);
        let key_use = SignData { identity: &identity, hash, data, purpose };
        let signature = self.keystore.use_key(key_use, &requester())?;
        let algorithm = identity.algorithm.signature_algorithm();
        crate::pki::signature::verify("the test", &identity.spki, &algorithm, data, signature.as_bytes()).unwrap();
        Ok(())
    }

    pub fn has_active_session(&self, name: &str) -> bool {
        let token = self.identity(name).keyset.token.clone();
        let states = self.keystore.tokens().unwrap();
        states.iter().any(|state| state.info.id() == token.id() && state.logged_in)
    }

    pub fn choice(&self, name: &str) -> KeysetChoice {
        KeysetChoice { name: Some(self.wallet.name(name)), ..KeysetChoice::default() }
    }
}

pub fn ssh_signature(namespace: &str) -> Purpose {
    let hash = ("sha512".to_owned(), vec![1, 2, 3]);
    Purpose::SshSignature { namespace: namespace.to_owned(), hash, forwarded_by: None }
}

pub fn requester() -> Requester {
    Requester { peer: PeerProcess { pid: 1, uid: 1 }, client: ClientConnection::default() }
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
    let wrong = matches!(result, Err(AgentError::Keyset(KeysetError::Token(TokenError::PinIncorrect { .. }))));
    assert!(wrong, "{result:?}");
}

pub fn published_events(events: &EventReceiver) -> Vec<Event> {
    std::iter::from_fn(|| events.next(Duration::ZERO)).collect()
}
