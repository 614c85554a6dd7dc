//! The start and end of sessions, and their events.

use super::*;
use crate::keyset::ops::{DeleteKeyset, ListTokens, SignContent, SignStatement};
use crate::keyset::{ErrorKind, KeysetError, LogPolicy, NoPin, OperationObserver, Prompt, PromptReply, UserPrompter};
use crate::statement::AdminOperation;
use crate::transport::{Transport, TransportError};

const HALF_AN_HOUR: SignedDuration = SignedDuration::from_mins(30);

fn logged_in(name: &str, level: SecurityLevel) -> Fixture {
    let fixture = fixture(&[(name, level)]);
    fixture.person.set_answers([ScriptedAnswer::Pin(PIN)]);
    fixture.keystore.log_in(&fixture.choice(name), None, &requester()).unwrap();
    assert!(fixture.has_active_session(name));
    fixture.person.asked();
    fixture
}

#[test]
fn log_off_ends_a_session() {
    let fixture = logged_in("l", SecurityLevel::Low);
    let events = fixture.keystore.events();
    fixture.sign("l", "one").unwrap();
    assert_eq!(fixture.keystore.log_off(None).unwrap(), 1);
    assert!(!fixture.has_active_session("l"));
    let ended: Vec<_> = published_events(&events);
    assert!(matches!(&ended[..], [Event::LoggedOff { reason: LogOffReason::Requested, .. }]), "{ended:?}");
    fixture.person.set_answers([ScriptedAnswer::Pin(PIN)]);
    fixture.sign("l", "two").unwrap();
    assert_eq!(fixture.person.asked(), ["pin two l low"]);
    assert_eq!(fixture.keystore.log_off(None).unwrap(), 1);
    assert_eq!(fixture.keystore.log_off(None).unwrap(), 0);
}

#[test]
fn logging_off_one_token_leaves_the_others() {
    let fixture = fixture(&[("a", SecurityLevel::Low), ("b", SecurityLevel::Low)]);
    fixture.person.set_answers([ScriptedAnswer::Pin(PIN), ScriptedAnswer::Pin(PIN)]);
    fixture.sign("a", "one").unwrap();
    fixture.sign("b", "one").unwrap();
    let selector = TokenSelector::SerialOrLabel(fixture.identity("a").keyset.token.serial.clone());
    assert_eq!(fixture.keystore.log_off(Some(&selector)).unwrap(), 1);
    assert!(!fixture.has_active_session("a") && fixture.has_active_session("b"));
    fixture.sign("b", "two").unwrap();
    let nobody = TokenSelector::SerialOrLabel("no such token".to_owned());
    assert_eq!(fixture.keystore.log_off(Some(&nobody)).unwrap_err().kind(), ErrorKind::Absent);
}

#[test]
fn idle_sessions_end_and_used_ones_continue() {
    let fixture = logged_in("l", SecurityLevel::Low);
    let events = fixture.keystore.events();
    for _ in 0..3 {
        fixture.clock.pass(HALF_AN_HOUR - SignedDuration::from_secs(1));
        fixture.sign("l", "use").unwrap();
        fixture.poll();
    }
    assert!(fixture.has_active_session("l"));
    fixture.clock.pass(HALF_AN_HOUR);
    fixture.poll();
    assert!(!fixture.has_active_session("l"));
    let ended = published_events(&events);
    assert!(matches!(&ended[..], [Event::LoggedOff { reason: LogOffReason::Idle, .. }]), "{ended:?}");
}

#[test]
fn sleep_ends_every_session() {
    for level in [SecurityLevel::Low, SecurityLevel::Medium] {
        let fixture = logged_in("x", level);
        fixture.clock.pass(SignedDuration::from_secs(60));
        fixture.poll();
        assert!(fixture.has_active_session("x"), "time alone is no sleep");
        fixture.clock.sleep(SignedDuration::from_secs(60));
        fixture.poll();
        assert!(!fixture.has_active_session("x"));
    }
}

#[test]
fn locking_hides_keys_and_ends_sessions() {
    let fixture = logged_in("l", SecurityLevel::Low);
    let identity = fixture.identity("l");
    let events = fixture.keystore.events();
    fixture.keystore.lock(b"pass phrase").unwrap();
    assert!(fixture.keystore.identities().is_empty());
    assert!(fixture.keystore.find(&identity.spki).is_none());
    let sign = || {
        fixture.keystore.use_key(
            SignData { identity: &identity, hash: SignatureHash::Sha256, data: b"", purpose: &ssh_signature("one") },
            &requester(),
        )
    };
    assert!(matches!(sign(), Err(AgentError::Locked { .. })));
    assert!(matches!(
        fixture.keystore.log_in(&fixture.choice("l"), None, &requester()),
        Err(AgentError::Locked { .. })
    ));
    assert!(matches!(fixture.keystore.tokens(), Err(AgentError::Locked { .. })));
    assert!(matches!(fixture.keystore.keysets(), Err(AgentError::Locked { .. })));
    assert!(matches!(fixture.keystore.unlock(b"another"), Err(AgentError::WrongPassPhrase)));
    assert!(matches!(sign(), Err(AgentError::Locked { .. })));
    fixture.keystore.unlock(b"pass phrase").unwrap();
    assert!(!fixture.has_active_session("l"), "the session outlived the lock");
    let published = published_events(&events);
    assert!(
        matches!(
            &published[..],
            [Event::LoggedOff { reason: LogOffReason::Locked, .. }, Event::Locked, Event::Unlocked]
        ),
        "{published:?}"
    );
    assert_eq!(fixture.person.asked(), [""; 0]);
}

#[test]
fn a_pin_typed_while_the_keystore_locks_opens_nothing() {
    for level in [SecurityLevel::High, SecurityLevel::Low] {
        let fixture = Arc::new(fixture(&[("x", level)]));
        fixture.person.set_answers([ScriptedAnswer::Pin(PIN)]);
        fixture.identity("x");
        let gate = fixture.person.answer_gate();
        let at = Arc::clone(&fixture);
        let typing = std::thread::spawn(move || at.sign("x", "one"));
        fixture.person.until_asked();
        fixture.keystore.lock(b"pass phrase").unwrap();
        drop(gate);
        let refused = typing.join().unwrap().unwrap_err();
        assert!(matches!(refused, AgentError::Locked { .. }), "{refused}");
        fixture.keystore.unlock(b"pass phrase").unwrap();
        assert!(!fixture.has_active_session("x"));
    }
}

#[test]
fn a_supplied_pin_is_verified_despite_an_active_session() {
    let fixture = logged_in("l", SecurityLevel::Low);
    let token = TokenSelector::SerialOrLabel(fixture.identity("l").keyset.token.serial.clone());
    let wrong = fixture.keystore.log_in_with(&token, pin("00000000"), None, &requester()).map(|_| ());
    is_wrong_pin(&wrong);
    assert!(!fixture.has_active_session("l"), "a wrong PIN left the session active");
    fixture.keystore.log_in_with(&token, pin(PIN), None, &requester()).unwrap();
    assert!(fixture.has_active_session("l"));
    assert_eq!(fixture.person.asked(), [""; 0]);
    fixture.keystore.log_in(&fixture.choice("l"), None, &requester()).unwrap();
    assert_eq!(fixture.person.asked(), [""; 0], "the person was asked again in an active session");
}

/// Fails the test if anything is sent.
pub struct NoTransport;

impl Transport for NoTransport {
    fn cmp(&self, _message: &[u8]) -> Result<Vec<u8>, TransportError> {
        panic!("nothing is sent")
    }

    fn ca_certificate(&self) -> Result<Vec<u8>, TransportError> {
        panic!("nothing is sent")
    }

    fn search_certificates(&self, _email: &str) -> Result<Vec<Vec<u8>>, TransportError> {
        panic!("nothing is sent")
    }

    fn instance(&self) -> Result<Vec<u8>, TransportError> {
        panic!("nothing is sent")
    }

    fn statement(&self, _statement: &[u8]) -> Result<Vec<u8>, TransportError> {
        panic!("nothing is sent")
    }
}

fn run_operation<O: Operation>(
    fixture: &Fixture,
    operation: O,
    command: &mut dyn UserPrompter,
) -> Result<Outcome<O::Output>, AgentError> {
    let file = || Some(tempfile::tempfile().unwrap());
    let mut attachments = Attachments { input: file(), output: file(), ..Attachments::default() };
    fixture.keystore.run_operation(operation, command, &NoTransport, &mut attachments, &requester())
}

#[test]
fn operations_use_the_session_and_medium_is_confirmed() {
    let fixture = fixture(&[("h", SecurityLevel::High), ("m", SecurityLevel::Medium), ("l", SecurityLevel::Low)]);
    let sign = |name: &str| SignContent { keyset: fixture.choice(name), detached: false };
    let mut command = Script::with(PIN);
    for name in ["h", "m", "l"] {
        run_operation(&fixture, sign(name), &mut command).unwrap();
    }
    assert_eq!(command.asked, ["existing to sign"; 3], "the command is asked for PINs");
    assert!(fixture.has_active_session("m") && fixture.has_active_session("l") && !fixture.has_active_session("h"));
    command.asked.clear();
    run_operation(&fixture, sign("l"), &mut command).unwrap();
    fixture.person.set_answers([ScriptedAnswer::Yes, ScriptedAnswer::No]);
    run_operation(&fixture, sign("m"), &mut command).unwrap();
    assert!(run_operation(&fixture, sign("m"), &mut command).unwrap_err().is_cancelled());
    assert_eq!(fixture.person.asked(), ["confirm sign m medium"; 2]);
    assert_eq!(command.asked, [""; 0]);
    run_operation(&fixture, sign("h"), &mut command).unwrap();
    assert_eq!(command.asked, ["existing to sign"]);
}

#[test]
fn the_agent_prompts_for_uses_when_the_command_cannot() {
    let fixture = fixture(&[("h", SecurityLevel::High), ("l", SecurityLevel::Low)]);
    let nobody_here = || Script::without(NoPin::NotInteractive("no terminal".to_owned()));
    let sign = |name: &str, mut command: Script| {
        let operation = SignContent { keyset: fixture.choice(name), detached: false };
        run_operation(&fixture, operation, &mut command).map(drop)
    };
    fixture.person.set_answers([
        ScriptedAnswer::Pin(PIN),
        ScriptedAnswer::No,
        ScriptedAnswer::Unavailable,
        ScriptedAnswer::Pin(PIN),
    ]);
    sign("h", nobody_here()).unwrap();
    assert!(sign("h", nobody_here()).unwrap_err().is_cancelled());
    let away = sign("h", nobody_here()).unwrap_err().to_string();
    assert!(away.contains("no terminal; the agent cannot ask either: nobody is there"), "{away}");
    sign("l", nobody_here()).unwrap();
    sign("l", Script::with(PIN)).unwrap();
    assert_eq!(
        fixture.person.asked(),
        ["pin sign h high", "pin sign h high", "pin sign h high", "pin sign l low"],
        "once each"
    );
    // A command that can ask a person decides itself.
    for no in [NoPin::Cancelled, NoPin::LastTry, NoPin::Unavailable("no file".to_owned())] {
        sign("h", Script::without(no)).unwrap_err();
    }
    // Operations that no other program may request stay with the command.
    let delete = DeleteKeyset { keyset: fixture.choice("l") };
    let refused = run_operation(&fixture, delete, &mut nobody_here()).unwrap_err().to_string();
    assert!(refused.contains("no terminal") && !refused.contains("agent"), "{refused}");
    let list = SignStatement {
        keyset: fixture.choice("h"),
        command: AdminOperation::List { after: None, limit: None },
        log_policy: LogPolicy::Accept,
    };
    run_operation(&fixture, list, &mut nobody_here()).unwrap_err();
    assert_eq!(fixture.person.asked(), [""; 0]);
}

#[test]
fn deleting_needs_the_pin_despite_a_session_and_shows_at_once() {
    let fixture = logged_in("l", SecurityLevel::Low);
    let events = fixture.keystore.events();
    let delete = || DeleteKeyset { keyset: fixture.choice("l") };
    let mut cancelled = Script::without(NoPin::Cancelled);
    assert!(run_operation(&fixture, delete(), &mut cancelled).unwrap_err().is_cancelled());
    assert_eq!(fixture.keystore.identities().len(), 1);
    let mut command = Script::with(PIN);
    run_operation(&fixture, delete(), &mut command).unwrap();
    assert_eq!(command.asked, ["existing to delete the keyset"]);
    assert!(fixture.keystore.identities().is_empty());
    assert!(published_events(&events).iter().any(|event| matches!(event, Event::Changed(_))));
}

#[test]
fn a_statement_needs_the_pin_despite_an_active_session() {
    let fixture = logged_in("l", SecurityLevel::Low);
    let email = "user@example.org";
    let state = || SignStatement {
        keyset: fixture.choice("l"),
        command: AdminOperation::Recover { email: email.to_owned(), lost: true, valid_for_seconds: None },
        log_policy: LogPolicy::Accept,
    };
    let mut nobody = Script::without(NoPin::Cancelled);
    assert!(run_operation(&fixture, state(), &mut nobody).unwrap_err().is_cancelled());
    let mut command = Script::with(PIN);
    run_operation(&fixture, state(), &mut command).unwrap();
    assert_eq!(command.asked, ["existing to sign the command"]);
    assert!(fixture.has_active_session("l"), "the session must stay active");
}

#[test]
fn a_session_ends_at_the_lifetime_given_with_the_pin() {
    let fixture = logged_in("l", SecurityLevel::Low);
    let token = fixture.identity("l").keyset.token.clone();
    fixture.keystore.sessions.limit(&token, Duration::from_secs(3));
    fixture.keystore.sessions.limit(&token, Duration::from_mins(10));
    fixture.clock.pass(SignedDuration::from_secs(2));
    fixture.poll();
    assert!(fixture.has_active_session("l"));
    fixture.clock.pass(SignedDuration::from_secs(2));
    fixture.poll();
    assert!(!fixture.has_active_session("l"), "the limit was extended");
}

/// Locks the keystore before it returns the PIN.
struct Locking<'a>(&'a Fixture);

impl UserPrompter for Locking<'_> {
    fn ask(&mut self, _prompt: &Prompt) -> Result<PromptReply, NoPin> {
        self.0.keystore.lock(b"pass phrase").unwrap();
        Ok(PromptReply::Pin { pin: pin(PIN), may_retry: false })
    }
}

impl OperationObserver for Locking<'_> {}

#[test]
fn a_lock_stops_a_running_operation() {
    let fixture = fixture(&[("h", SecurityLevel::High)]);
    let operation = SignContent { keyset: fixture.choice("h"), detached: false };
    let refused = run_operation(&fixture, operation, &mut Locking(&fixture)).unwrap_err();
    assert!(refused.to_string().contains("locked"), "{refused}");
    fixture.keystore.unlock(b"pass phrase").unwrap();
}

#[test]
fn a_log_off_also_ends_a_login_being_verified() {
    let fixture = fixture_on_one_token(&[("l", SecurityLevel::Low), ("h", SecurityLevel::High)]);
    for round in 0..40 {
        fixture.person.set_answers([ScriptedAnswer::Pin(PIN), ScriptedAnswer::Pin(PIN)]);
        fixture.sign("l", "one").unwrap();
        std::thread::scope(|scope| {
            // It may fail, because a log-off ends running uses.
            let high = scope.spawn(|| fixture.sign("h", "two"));
            std::thread::sleep(Duration::from_micros(round * 50));
            fixture.keystore.log_off(None).unwrap();
            drop(high.join());
        });
        assert!(!fixture.has_active_session("l"), "a log-off was missed");
        fixture.person.asked();
    }
}

#[test]
fn an_operation_with_an_absent_keyset_reports_it() {
    let fixture = logged_in("l", SecurityLevel::Low);
    let operation = SignContent { keyset: fixture.choice("z"), detached: false };
    let absent = run_operation(&fixture, operation, &mut Script::with(PIN)).unwrap_err();
    assert!(matches!(absent, AgentError::Keyset(KeysetError::NoSuchKeyset { .. })), "{absent}");
    fixture.keystore.lock(b"x").unwrap();
    let locked = run_operation(&fixture, ListTokens, &mut Script::with(PIN)).unwrap_err();
    assert!(matches!(locked, AgentError::Locked { .. }), "{locked}");
}
