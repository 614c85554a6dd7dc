//! The start and end of sessions, and their events.

use super::*;
use crate::agent::act::{ActRequest, Choice, OnlineOrFile, Order};
use crate::carrier::{Carrier, CarrierError};
use crate::keyset::{ErrorKind, KeysetError, KnownLog, NoPin, Person, PinRequest};

const HALF_AN_HOUR: SignedDuration = SignedDuration::from_mins(30);

fn logged_in(name: &str, level: SecurityLevel) -> Home {
    let home = home(&[(name, level)]);
    home.person.will([Answer::Pin(PIN)]);
    home.keystore.log_in(&home.choice(name), &usage("login")).unwrap();
    assert!(home.stands(name));
    home.person.asked();
    home
}

#[test]
fn a_log_in_ends_by_log_off() {
    let home = logged_in("l", SecurityLevel::Low);
    let events = home.keystore.events();
    home.sign("l", "one").unwrap();
    assert_eq!(home.keystore.log_off(None).unwrap(), 1);
    assert!(!home.stands("l"));
    let ended: Vec<_> = heard(&events);
    assert!(matches!(&ended[..], [Event::LoggedOff { why: LogOff::Asked, .. }]), "{ended:?}");
    home.person.will([Answer::Pin(PIN)]);
    home.sign("l", "two").unwrap();
    assert_eq!(home.person.asked(), ["pin two l low"]);
    assert_eq!(home.keystore.log_off(None).unwrap(), 1);
    assert_eq!(home.keystore.log_off(None).unwrap(), 0);
}

#[test]
fn logging_off_one_token_leaves_the_others() {
    let home = home(&[("a", SecurityLevel::Low), ("b", SecurityLevel::Low)]);
    home.person.will([Answer::Pin(PIN), Answer::Pin(PIN)]);
    home.sign("a", "one").unwrap();
    home.sign("b", "one").unwrap();
    let selector = TokenSelector::SerialOrLabel(home.identity("a").keyset.token.serial.clone());
    assert_eq!(home.keystore.log_off(Some(&selector)).unwrap(), 1);
    assert!(!home.stands("a") && home.stands("b"));
    home.sign("b", "two").unwrap();
    let nobody = TokenSelector::SerialOrLabel("no such token".to_owned());
    assert_eq!(home.keystore.log_off(Some(&nobody)).unwrap_err().kind(), ErrorKind::Absent);
}

#[test]
fn a_log_in_that_nobody_uses_ends_and_one_that_is_used_does_not() {
    let home = logged_in("l", SecurityLevel::Low);
    let events = home.keystore.events();
    for _ in 0..3 {
        home.hands.pass(HALF_AN_HOUR - SignedDuration::from_secs(1));
        home.sign("l", "use").unwrap();
        home.keystore.inner.look(false);
    }
    assert!(home.stands("l"));
    home.hands.pass(HALF_AN_HOUR);
    home.keystore.inner.look(false);
    assert!(!home.stands("l"));
    let ended = heard(&events);
    assert!(matches!(&ended[..], [Event::LoggedOff { why: LogOff::Idle, .. }]), "{ended:?}");
}

#[test]
fn every_log_in_ends_when_the_machine_sleeps() {
    for level in [SecurityLevel::Low, SecurityLevel::Medium] {
        let home = logged_in("x", level);
        home.hands.pass(SignedDuration::from_secs(60));
        home.keystore.inner.look(false);
        assert!(home.stands("x"), "time alone is no sleep");
        home.hands.sleep(SignedDuration::from_secs(60));
        home.keystore.inner.look(false);
        assert!(!home.stands("x"));
    }
    let home = logged_in("x", SecurityLevel::Low);
    home.keystore.suspend();
    assert!(!home.stands("x"));
}

#[test]
fn locked_there_are_no_keys_and_no_uses_and_afterwards_no_log_in() {
    let home = logged_in("l", SecurityLevel::Low);
    let identity = home.identity("l");
    let events = home.keystore.events();
    home.keystore.lock(b"pass phrase").unwrap();
    assert!(home.keystore.identities().is_empty());
    assert!(home.keystore.find(&identity.spki).is_none());
    let sign = || home.keystore.sign(&identity, SignatureHash::Sha256, b"", &usage("one"));
    assert!(matches!(sign(), Err(AgentError::Locked { .. })));
    assert!(matches!(home.keystore.log_in(&home.choice("l"), &usage("login")), Err(AgentError::Locked { .. })));
    assert!(matches!(home.keystore.tokens(), Err(AgentError::Locked { .. })));
    assert!(matches!(home.keystore.keysets(), Err(AgentError::Locked { .. })));
    assert!(matches!(home.keystore.unlock(b"another"), Err(AgentError::WrongPassPhrase)));
    assert!(matches!(sign(), Err(AgentError::Locked { .. })));
    home.keystore.unlock(b"pass phrase").unwrap();
    assert!(!home.stands("l"), "the session outlived the lock");
    let told = heard(&events);
    assert!(
        matches!(&told[..], [Event::LoggedOff { why: LogOff::Locked, .. }, Event::Locked, Event::Unlocked]),
        "{told:?}"
    );
    assert_eq!(home.person.asked(), [""; 0]);
}

#[test]
fn a_pin_that_was_being_typed_while_the_keystore_was_locked_opens_nothing() {
    for level in [SecurityLevel::High, SecurityLevel::Low] {
        let home = Arc::new(home(&[("x", level)]));
        home.person.will([Answer::Pin(PIN)]);
        home.identity("x");
        let door = home.person.door.lock().unwrap();
        let at = Arc::clone(&home);
        let typing = std::thread::spawn(move || at.sign("x", "one"));
        home.person.until_asked();
        home.keystore.lock(b"pass phrase").unwrap();
        drop(door);
        let refused = typing.join().unwrap().unwrap_err();
        assert!(matches!(refused, AgentError::Locked { .. }), "{refused}");
        home.keystore.unlock(b"pass phrase").unwrap();
        assert!(!home.stands("x"));
    }
}

#[test]
fn a_pin_that_is_given_along_is_verified_even_where_a_log_in_stands() {
    let home = logged_in("l", SecurityLevel::Low);
    let token = TokenSelector::SerialOrLabel(home.identity("l").keyset.token.serial.clone());
    let wrong = home.keystore.log_in_with(&token, pin("00000000"), &usage("login")).map(|_| ());
    is_wrong_pin(&wrong);
    assert!(!home.stands("l"), "a wrong PIN left the session active");
    home.keystore.log_in_with(&token, pin(PIN), &usage("login")).unwrap();
    assert!(home.stands("l"));
    assert_eq!(home.person.asked(), [""; 0]);
    home.keystore.log_in(&home.choice("l"), &usage("login")).unwrap();
    assert_eq!(home.person.asked(), [""; 0], "the person was asked again in an active session");
}

/// Fails the test if anything is sent.
struct NoCarrier;

impl Carrier for NoCarrier {
    fn cmp(&self, _message: &[u8]) -> Result<Vec<u8>, CarrierError> {
        panic!("nothing is sent")
    }

    fn ca_certificate(&self) -> Result<Vec<u8>, CarrierError> {
        panic!("nothing is sent")
    }

    fn search_certificates(&self, _email: &str) -> Result<Vec<Vec<u8>>, CarrierError> {
        panic!("nothing is sent")
    }

    fn instance(&self) -> Result<Vec<u8>, CarrierError> {
        panic!("nothing is sent")
    }

    fn statement(&self, _statement: &[u8]) -> Result<Vec<u8>, CarrierError> {
        panic!("nothing is sent")
    }
}

fn act(home: &Home, request: ActRequest, command: &mut Script) -> Result<ActAnswer, AgentError> {
    home.keystore.act(request, command, &NoCarrier, &usage("act"))
}

fn choice(home: &Home, name: &str) -> Choice {
    Choice::from(&home.choice(name))
}

#[test]
fn acts_run_under_the_log_in_that_stands_and_medium_is_confirmed_by_the_agents_own_prompter() {
    let home = home(&[("h", SecurityLevel::High), ("m", SecurityLevel::Medium), ("l", SecurityLevel::Low)]);
    let sign = |name: &str| ActRequest::Sign {
        keyset: choice(&home, name),
        content: b"text".as_slice().into(),
        detached: false,
    };
    let mut command = Script::with(PIN);
    for name in ["h", "m", "l"] {
        act(&home, sign(name), &mut command).unwrap();
    }
    assert_eq!(command.asked, ["existing to sign"; 3], "the command is asked for PINs");
    assert!(home.stands("m") && home.stands("l") && !home.stands("h"));
    command.asked.clear();
    act(&home, sign("l"), &mut command).unwrap();
    home.person.will([Answer::Yes, Answer::No]);
    act(&home, sign("m"), &mut command).unwrap();
    assert!(act(&home, sign("m"), &mut command).unwrap_err().is_cancelled());
    assert_eq!(home.person.asked(), ["confirm act m medium"; 2]);
    assert_eq!(command.asked, [""; 0]);
    act(&home, sign("h"), &mut command).unwrap();
    assert_eq!(command.asked, ["existing to sign"]);
}

#[test]
fn the_agents_prompter_asks_for_a_use_where_nobody_can_be_asked_at_the_command_and_for_nothing_else() {
    let home = home(&[("h", SecurityLevel::High), ("l", SecurityLevel::Low)]);
    let nobody_here = || Script::without(NoPin::NobodyHere("no terminal".to_owned()));
    let usage = Usage { purpose: Purpose::SignContent { sha256: [7; 32], subject: None }, ..usage("") };
    let sign = |name: &str, mut command: Script| {
        let keyset = choice(&home, name);
        let request = ActRequest::Sign { keyset, content: b"text".as_slice().into(), detached: false };
        home.keystore.act(request, &mut command, &NoCarrier, &usage).map(drop)
    };
    home.person.will([Answer::Pin(PIN), Answer::No, Answer::Away, Answer::Pin(PIN)]);
    sign("h", nobody_here()).unwrap();
    assert!(sign("h", nobody_here()).unwrap_err().is_cancelled());
    let away = sign("h", nobody_here()).unwrap_err().to_string();
    assert!(away.contains("no terminal; the agent cannot ask either: nobody is there"), "{away}");
    sign("l", nobody_here()).unwrap();
    sign("l", Script::with(PIN)).unwrap();
    assert_eq!(
        home.person.asked(),
        ["pin sign h high", "pin sign h high", "pin sign h high", "pin sign l low"],
        "once each"
    );
    // A command that can ask a person decides itself.
    for no in [NoPin::Cancelled, NoPin::LastTry, NoPin::Unavailable("no file".to_owned())] {
        sign("h", Script::without(no)).unwrap_err();
    }
    // Operations that no other program may request stay with the command.
    let delete = ActRequest::DeleteKeyset { keyset: choice(&home, "l") };
    let refused = act(&home, delete, &mut nobody_here()).unwrap_err().to_string();
    assert!(refused.contains("no terminal") && !refused.contains("agent"), "{refused}");
    let purpose = Purpose::Statement { operation: "list".to_owned(), target: None, opens_letter: false };
    let list = ActRequest::Administer {
        keyset: choice(&home, "h"),
        order: Order::List { after: None, limit: None },
        way: OnlineOrFile::File,
        known_log: KnownLog::Accept,
    };
    home.keystore.act(list, &mut nobody_here(), &NoCarrier, &Usage { purpose, ..usage }).unwrap_err();
    assert_eq!(home.person.asked(), [""; 0]);
}

#[test]
fn deleting_asks_for_the_pin_whatever_stands_and_is_seen_at_once() {
    let home = logged_in("l", SecurityLevel::Low);
    let events = home.keystore.events();
    let delete = || ActRequest::DeleteKeyset { keyset: choice(&home, "l") };
    let mut cancelled = Script::without(NoPin::Cancelled);
    assert!(act(&home, delete(), &mut cancelled).unwrap_err().is_cancelled());
    assert_eq!(home.keystore.identities().len(), 1);
    let mut command = Script::with(PIN);
    act(&home, delete(), &mut command).unwrap();
    assert_eq!(command.asked, ["existing to delete the keyset"]);
    assert!(home.keystore.identities().is_empty());
    assert!(heard(&events).iter().any(|event| matches!(event, Event::Changed(_))));
}

#[test]
fn an_administrators_statement_asks_for_the_pin_whatever_stands() {
    let home = logged_in("l", SecurityLevel::Low);
    let state = || ActRequest::Administer {
        keyset: choice(&home, "l"),
        order: Order::Recover { email: "user@example.org".to_owned(), lost: true, valid_for_seconds: None },
        way: OnlineOrFile::File,
        known_log: KnownLog::Accept,
    };
    let mut nobody = Script::without(NoPin::Cancelled);
    assert!(act(&home, state(), &mut nobody).unwrap_err().is_cancelled());
    let mut command = Script::with(PIN);
    act(&home, state(), &mut command).unwrap();
    assert_eq!(command.asked, ["existing to sign the command"]);
    assert!(home.stands("l"), "the session must stay active");
}

#[test]
fn a_log_in_lasts_no_longer_than_the_one_who_gave_the_pin_wanted() {
    let home = logged_in("l", SecurityLevel::Low);
    let token = home.identity("l").keyset.token.clone();
    home.keystore.bound_log_in(&token, Duration::from_secs(3));
    home.keystore.bound_log_in(&token, Duration::from_mins(10));
    home.hands.pass(SignedDuration::from_secs(2));
    home.keystore.inner.look(false);
    assert!(home.stands("l"));
    home.hands.pass(SignedDuration::from_secs(2));
    home.keystore.inner.look(false);
    assert!(!home.stands("l"), "the limit was extended");
}

/// Locks the keystore before it returns the PIN.
struct Locking<'a>(&'a Home);

impl Person for Locking<'_> {
    fn pin(&mut self, _request: PinRequest<'_>) -> Result<Pin, NoPin> {
        self.0.keystore.lock(b"pass phrase").unwrap();
        Ok(pin(PIN))
    }

    fn risks_last_try(&mut self, _token: &TokenInfo) -> Result<(), NoPin> {
        Ok(())
    }
}

#[test]
fn an_act_that_began_before_a_lock_goes_no_further() {
    let home = home(&[("h", SecurityLevel::High)]);
    let request = ActRequest::Sign { keyset: choice(&home, "h"), content: b"text".as_slice().into(), detached: false };
    let refused = home.keystore.act(request, &mut Locking(&home), &NoCarrier, &usage("act")).unwrap_err();
    assert!(refused.to_string().contains("locked"), "{refused}");
    home.keystore.unlock(b"pass phrase").unwrap();
}

#[test]
fn a_log_off_does_not_miss_a_log_in_that_is_just_being_verified() {
    let home = home_on_one_token(&[("l", SecurityLevel::Low), ("h", SecurityLevel::High)]);
    for round in 0..40 {
        home.person.will([Answer::Pin(PIN), Answer::Pin(PIN)]);
        home.sign("l", "one").unwrap();
        std::thread::scope(|scope| {
            // It may fail, because a log-off ends running uses.
            let high = scope.spawn(|| home.sign("h", "two"));
            std::thread::sleep(Duration::from_micros(round * 50));
            home.keystore.log_off(None).unwrap();
            drop(high.join());
        });
        assert!(!home.stands("l"), "a log-off was missed");
        home.person.asked();
    }
}

#[test]
fn an_act_with_a_keyset_that_is_not_there_says_so() {
    let home = logged_in("l", SecurityLevel::Low);
    let request = ActRequest::Sign { keyset: choice(&home, "z"), content: b"".as_slice().into(), detached: false };
    let absent = act(&home, request, &mut Script::with(PIN)).unwrap_err();
    assert!(matches!(absent, AgentError::Keyset(KeysetError::NoSuchKeyset { .. })), "{absent}");
    home.keystore.lock(b"x").unwrap();
    let locked = act(&home, ActRequest::ListTokens {}, &mut Script::with(PIN)).unwrap_err();
    assert!(matches!(locked, AgentError::Locked { .. }), "{locked}");
}
