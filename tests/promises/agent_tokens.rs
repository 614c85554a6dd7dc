//! Tokens that appear and disappear under a running agent: removed during a signature, put back,
//! created by another program, held by one, reinitialized behind its back, locked by wrong PINs,
//! and a module that crashes. None of these requires a restart of the agent, and none is reported
//! as a wrong PIN.

use std::fs;
use std::time::{Duration, Instant};

use base64::Engine as _;

use crate::support::agent::{is_alive, wait_for};
use crate::support::event_stream::EventStream;
use crate::support::faulty_module::FaultyModule;
use crate::support::machine::TokenKind;
use crate::support::prompted_user::PromptedUser;
use crate::support::shared_authority::TestUser;
use crate::support::terminal::Terminal;

const PIN: &str = TestUser::PIN;
const WRONG: &str = TestUser::WRONG_PIN;

pub fn with_faults(keysets: &[(&str, &str)]) -> (PromptedUser, FaultyModule) {
    let mut asked = PromptedUser::with(TokenKind::SoftHsm, keysets);
    let faulty = FaultyModule::in_front_of(&mut asked.user.machine);
    let machine = asked.user.machine.path().display().to_string();
    asked.start(&format!("allow = [\"{machine}\"]"));
    (asked, faulty)
}

pub fn offers(asked: &PromptedUser, keyset: &str) -> bool {
    asked.offered().contains(&format!(" {keyset} "))
}

#[test]
fn removal_during_a_signature_is_not_reported_as_a_wrong_pin() {
    for level in ["low", "medium", "high"] {
        let (asked, faulty) = with_faults(&[("x", level)]);
        asked.will(&[PIN]);
        assert!(asked.signs("x", "before"));
        asked.questions();
        faulty.set_faults("remove C_Sign\n");
        asked.will(if level == "medium" { &["yes"] } else { &[PIN] });
        assert!(!asked.signs("x", "during"));
        let log = asked.agent().log();
        assert!(log.contains("is not present"), "{level}: {log}");
        assert!(!log.contains("is wrong") && faulty.wrong_tries() == 0, "{level}: {log}");
        assert!(!offers(&asked, "x"), "{level}: it is offered all the same");
        // After reinsertion the token is listed, and its session has ended.
        faulty.clear_faults();
        wait_for("the token is seen again", || offers(&asked, "x").then_some(()));
        asked.questions();
        asked.will(&[PIN]);
        assert!(asked.signs("x", "afterwards"), "{level}: {}", asked.agent().log());
        assert_eq!(asked.asked_for(), ["pin"], "{level}: the log-in outlived the removal");
    }
}

#[test]
fn a_token_directory_that_reappears_is_used_again() {
    let mut asked = PromptedUser::with(TokenKind::SoftHsm, &[("x", "low")]);
    asked.start("");
    asked.will(&[PIN]);
    assert!(asked.signs("x", "before"));
    let (here, away) = (asked.user.machine.file("tokens"), asked.user.machine.file("tokens.away"));
    fs::rename(&here, &away).unwrap();
    wait_for("the token is gone", || (!offers(&asked, "x")).then_some(()));
    // Long enough for more than one restart of the module, which fails without its directory.
    let until = Instant::now() + Duration::from_secs(5);
    while Instant::now() < until {
        assert!(!offers(&asked, "x"));
    }
    fs::rename(&away, &here).unwrap();
    wait_for("the token is seen again", || offers(&asked, "x").then_some(()));
    asked.will(&[PIN]);
    assert!(asked.signs("x", "afterwards"), "{}", asked.agent().log());
}

#[test]
fn removal_during_a_read_is_reported_by_command_and_api() {
    for level in ["low", "high"] {
        let (asked, faulty) = with_faults(&[("x", level)]);
        let machine = &asked.user.machine;
        let email = asked.address("x");
        asked.user.tokenkeep_with_input(&["encrypt", "--to", &email, "--out", "secret.p7m"], "a secret\n").ok();
        let message = base64::engine::general_purpose::STANDARD.encode(machine.read("secret.p7m"));
        machine.write("request", serde_json::json!({ "message": message, "keyset": "x" }).to_string());
        let command = || {
            let read =
                ["decrypt", "--keyset", "x", "--pin-source", "file:pin", "--in", "secret.p7m", "--out", "read.txt"];
            asked.user.tokenkeep(&read)
        };
        let api = || {
            asked.will(&[PIN]);
            let socket = asked.agent().api_socket().display().to_string();
            let fixed = ["-sS", "--unix-socket", &socket, "-w", "\n%{http_code}", "http://agent/v1/decrypt"];
            let body = ["-H", "Content-Type: application/json", "--data-binary", "@request"];
            let answer = machine.run("curl", &[&fixed[..], &body].concat(), b"").ok().out();
            let (body, status) = answer.rsplit_once('\n').unwrap();
            (status.to_owned(), serde_json::from_str::<serde_json::Value>(body).unwrap())
        };
        for rule in ["remove C_DecryptInit", "remove C_Decrypt"] {
            faulty.forget();
            faulty.set_faults(rule);
            command().fails_with(3).says("is not present").does_not_say("wrong").does_not_say("does not open");
            assert!(!machine.file("read.txt").exists());
            faulty.clear_faults();
            wait_for("the token is seen again", || offers(&asked, "x").then_some(()));
            command().ok();
            assert_eq!(machine.read_text("read.txt"), "a secret\n");
            fs::remove_file(machine.file("read.txt")).unwrap();

            faulty.set_faults(rule);
            let (status, answer) = api();
            assert_eq!((status.as_str(), &answer["error"]["kind"]), ("404", &"absent".into()), "{level}: {answer}");
            assert!(answer["error"]["message"].as_str().unwrap().contains("is not present"), "{answer}");
            faulty.clear_faults();
            wait_for("the token is seen again", || offers(&asked, "x").then_some(()));
            let (status, answer) = api();
            assert_eq!((status.as_str(), &answer["content"]), ("200", &"YSBzZWNyZXQK".into()), "{level}: {answer}");
            assert_eq!(faulty.wrong_tries(), 0, "{level} {rule}");
        }
    }
}

#[test]
fn a_token_with_few_sessions_signs_for_many_at_once() {
    let (asked, faulty) = with_faults(&[("x", "low")]);
    asked.will(&[PIN]);
    assert!(asked.signs("x", "with-a-pin") && asked.signs("x", "under-a-log-in"));
    // No session is available, and all requests arrive while one signs.
    faulty.set_faults("C_OpenSession CKR_SESSION_COUNT\ndelay C_Sign 300ms\n");
    let files = ["one", "two", "three", "four", "five"];
    let signing = files.map(|file| (asked.begin_signing("x", file), file));
    for (client, file) in signing {
        assert!(asked.has_signed(client, file), "{file}: {}", asked.agent().log());
    }
    // Without any session the request fails, with a message.
    asked.ssh("ssh-add", &["-D"], b"").ok();
    faulty.clear_faults();
    asked.will(&[PIN]);
    assert!(asked.signs("x", "with-a-pin-again"));
    faulty.set_faults("C_OpenSession CKR_SESSION_COUNT\n");
    assert!(!asked.signs("x", "none"));
    let log = asked.agent().log();
    assert!(log.contains("CKR_SESSION_COUNT"), "{log}");
    faulty.clear_faults();
    assert!(asked.signs("x", "afterwards"), "{}", asked.agent().log());
}

#[test]
fn an_agent_with_a_hung_token_still_exits() {
    let (mut asked, faulty) = with_faults(&[("x", "low")]);
    asked.will(&[PIN]);
    assert!(asked.signs("x", "before"));
    // Longer than any time-out, this test's included.
    faulty.set_faults("delay C_Logout 600000ms\n");
    let worker = asked.agent().worker();
    let machine = &asked.user.machine;
    machine.tokenkeep(&["agent", "stop"]).ok();
    wait_for("it has ended", || (!is_alive(worker)).then_some(()));
    let log = asked.agent().log();
    assert!(log.contains("does not respond: exiting without logging off"), "{log}");
    assert!(asked.agent_mut().wait().success());
}

#[test]
fn a_token_removed_between_two_uses_needs_its_pin_again() {
    let (asked, faulty) = with_faults(&[("x", "low")]);
    asked.will(&[PIN, PIN]);
    assert!(asked.signs("x", "before"));
    faulty.set_faults("removed\n");
    wait_for("the token is gone", || (!offers(&asked, "x")).then_some(()));
    faulty.clear_faults();
    wait_for("the token is back", || offers(&asked, "x").then_some(()));
    assert!(asked.signs("x", "afterwards"));
    assert_eq!(asked.asked_for(), ["pin", "pin"]);
    assert_eq!(faulty.wrong_tries(), 0);
}

#[test]
fn listeners_receive_token_events_in_order() {
    let (asked, faulty) = with_faults(&[("x", "low")]);
    assert!(offers(&asked, "x"), "it has looked for the first time");
    let mut events = EventStream::events(&asked.user.machine, asked.agent());
    asked.will(&[PIN]);
    assert!(asked.signs("x", "before"));
    let serial = asked.user.machine.listed_token("x").serial;
    let is_x = |data: &serde_json::Value| data["token"] == serde_json::json!({ "label": "x", "serial": serial });
    assert!(is_x(&events.event("logged-in")));
    faulty.set_faults("removed\n");
    let over = events.event("logged-off");
    assert!(is_x(&over) && over["reason"] == "removed", "{over}");
    assert!(is_x(&events.event("removed")));
    faulty.clear_faults();
    assert!(is_x(&events.event("inserted")));
}

#[test]
fn a_token_made_by_another_program_is_found_without_restart() {
    let mut asked = PromptedUser::with(TokenKind::SoftHsm, &[("first", "low")]);
    asked.start("");
    assert!(offers(&asked, "first"));
    // In another process, without the agent: SoftHSM does not notify the agent's module.
    asked.enroll("second", "low", &["--no-agent"]);
    wait_for("the new token is seen", || offers(&asked, "second").then_some(()));
    asked.will(&[PIN]);
    assert!(asked.signs("second", "one"));
}

#[test]
fn a_named_keyset_on_a_new_token_is_found_despite_a_session() {
    let mut asked = PromptedUser::with(TokenKind::SoftHsm, &[("first", "low")]);
    asked.user.machine.write("message.txt", "a message\n");
    asked.start("");
    asked.will(&[PIN]);
    assert!(asked.signs("first", "one"));
    asked.enroll("second", "low", &["--no-agent"]);
    assert!(!offers(&asked, "second"), "to see it would have ended the log-in");
    assert!(asked.signs("first", "two"));
    assert_eq!(asked.asked_for(), ["pin"]);
    let sign = ["sign", "--keyset", "second", "--pin-source", "file:pin", "--in", "message.txt", "--out", "signed.p7m"];
    asked.user.tokenkeep(&sign).ok();
    assert!(asked.agent().log().contains("to look for a missing keyset; sessions end"), "{}", asked.agent().log());
    asked.will(&[PIN]);
    assert!(asked.signs("first", "three"));
    assert_eq!(asked.asked_for(), ["pin"], "what ended is asked for again");
}

#[test]
fn a_token_in_use_names_its_owner_and_is_found_when_released() {
    let mut asked = PromptedUser::with(TokenKind::SoftHsm, &[("x", "low")]);
    asked.user.machine.write("message.txt", "a message\n");
    // A command that waits at its PIN prompt owns the token.
    let sign = ["sign", "--keyset", "x", "--in", "message.txt", "--out", "signed.p7m"];
    let mut terminal = Terminal::tokenkeep(&asked.user.machine, &sign);
    terminal.expect("PIN");
    asked.start("");
    assert!(!offers(&asked, "x"));
    let said = wait_for("the holder is named", || Some(asked.agent().log()).filter(|log| log.contains("in use by")));
    assert!(said.contains("tokenkeep"), "{said}");
    terminal.type_line(PIN);
    assert_eq!(terminal.finish().0, 0);
    wait_for("the token is seen", || offers(&asked, "x").then_some(()));
    asked.will(&[PIN]);
    assert!(asked.signs("x", "one"));
}

#[test]
fn a_module_crash_loses_no_key() {
    let (asked, faulty) = with_faults(&[("x", "low")]);
    asked.will(&[PIN, PIN]);
    assert!(asked.signs("x", "before"));
    let worker = asked.agent().worker();
    faulty.set_faults("die C_Sign\n");
    assert!(!asked.signs("x", "during"));
    faulty.clear_faults();
    wait_for("another worker", || Some(asked.agent().worker()).filter(|id| *id != worker));
    wait_for("the key is offered", || offers(&asked, "x").then_some(()));
    assert!(asked.signs("x", "afterwards"));
    assert_eq!(asked.asked_for(), ["pin", "pin"], "the log-in died with the worker");
    assert_eq!(faulty.wrong_tries(), 0);
}

#[test]
fn a_hung_module_delays_no_other_and_is_reloaded_when_idle() {
    let mut asked = PromptedUser::with(TokenKind::SoftHsm, &[("x", "low")]);
    let faulty = FaultyModule::beside(&mut asked.user.machine);
    let machine = asked.user.machine.path().display().to_string();
    asked.start(&format!("allow = [\"{machine}\"]"));
    asked.will(&[PIN, PIN]);
    assert!(asked.signs("x", "before"));
    let worker = asked.agent().worker();
    let silence = || asked.user.tokenkeep(&["tokens"]).ok().says("x").err().contains("does not answer");
    assert!(!silence());
    faulty.set_faults("delay C_GetSlotList 3600000ms\n");
    wait_for("it is said", || silence().then_some(()));
    assert!(offers(&asked, "x") && asked.signs("x", "meanwhile"));
    assert_eq!(asked.asked_for(), ["pin"], "a log-in to another module's token is over");
    assert_eq!(asked.agent().worker(), worker, "with it a log-in would have ended");
    faulty.clear_faults();
    asked.ssh("ssh-add", &["-D"], b"").ok();
    wait_for("another worker", || Some(asked.agent().worker()).filter(|id| *id != worker));
    wait_for("the key is offered", || offers(&asked, "x").then_some(()));
    assert!(!silence());
    assert!(asked.signs("x", "afterwards"));
    let log = asked.agent().log();
    assert!(log.contains("no longer responds"), "{log}");
}

#[test]
fn a_reinitialized_token_keeps_neither_session_nor_keys() {
    let mut asked = PromptedUser::with(TokenKind::SoftHsm, &[]);
    asked.user.machine.write_secret("so.pin", "so-pin-1234");
    asked.enroll("x", "low", &["--so-pin-source", "file:so.pin"]);
    asked.start("");
    asked.will(&[PIN]);
    assert!(asked.signs("x", "before"));
    let anew = ["--init-token", "--token", "x", "--label", "another", "--so-pin", "so-pin-1234", "--pin", PIN];
    asked.user.machine.run("softhsm2-util", &anew, b"").ok();
    wait_for("it is noticed", || (!offers(&asked, "x")).then_some(()));
    assert!(!asked.signs("x", "afterwards"));
    assert_eq!(asked.asked_for(), ["pin"], "a PIN was asked for in vain");
}

#[test]
fn a_token_reinitialized_with_its_old_name_keeps_nothing() {
    for pin in [PIN, TestUser::OTHER_PIN] {
        let mut asked = PromptedUser::with(TokenKind::SoftHsm, &[("other", "low")]);
        asked.user.machine.write_secret("so.pin", "so-pin-1234");
        asked.enroll("x", "low", &["--so-pin-source", "file:so.pin"]);
        asked.user.machine.write("message.txt", "a message\n");
        asked.start("");
        asked.will(&[PIN, PIN]);
        assert!(asked.signs("x", "before") && asked.signs("other", "before"));
        asked.questions();
        let before = asked.user.machine.listed_token("x");
        let anew = ["--init-token", "--token", "x", "--label", "x", "--so-pin", "so-pin-1234", "--pin", pin];
        asked.user.machine.run("softhsm2-util", &anew, b"").ok();
        assert_eq!(asked.user.machine.listed_token("x").serial, before.serial, "it is to look as it did");
        wait_for("it is noticed", || (!offers(&asked, "x")).then_some(()));
        let log = asked.agent().log();
        assert!(log.contains(&format!("{}) was reinitialized or changed by another program", before.serial)), "{log}");
        assert!(!asked.signs("x", "afterwards"), "a copy of its key was used");
        let sign = ["sign", "--keyset", "x", "--pin-source", "file:pin", "--in", "message.txt", "--out", "signed.p7m"];
        asked.user.tokenkeep(&sign).fails_with(3).says("cannot find the keyset").does_not_say("wrong");
        assert_eq!(asked.asked_for(), [""; 0], "a PIN was asked for in vain");
        assert!(!asked.user.machine.listed_token("x").count_is_low());
        // The token is usable again, with its present PIN.
        asked.user.machine.write_secret("pin", pin);
        let letter = asked.letter("y", "low");
        let enroll = ["enroll", "--letter", &letter, "--keyset", "y", "--level", "low", "--token", &before.serial];
        asked.user.tokenkeep(&[&enroll[..], &["--pin-source", "file:pin"]].concat()).ok();
        asked.will(&[pin]);
        assert!(asked.signs("y", "anew"), "{}", asked.agent().log());
    }
}

#[test]
fn the_agent_warns_before_a_token_locks_and_tries_no_pin_after() {
    let mut asked = PromptedUser::with(TokenKind::Kryoptic, &[]);
    asked.user.machine.write("message.txt", "a message\n");
    asked.user.machine.write_secret("so.pin", "so-pin-1234");
    asked.enroll("x", "low", &["--so-pin-source", "file:so.pin"]);
    // Nine wrong PINs without the agent: Kryoptic locks at the tenth.
    for _ in 0..9 {
        assert!(!asked.user.machine.pin_is_right("x", WRONG));
    }
    asked.start_typed("");
    assert!(offers(&asked, "x"), "it has looked for the first time");
    let mut events = EventStream::events(&asked.user.machine, asked.agent());
    asked.will(&["yes", WRONG]);
    assert!(!asked.signs("x", "last"));
    assert_eq!(events.event("pin-locked")["token"]["label"], "x");
    let questions = asked.questions();
    assert_eq!(questions.len(), 2, "{questions:?}");
    assert!(questions[0].starts_with("confirm\n") && questions[0].contains("locks"), "{}", questions[0]);
    assert!(questions[1].starts_with("pin\n") && questions[1].contains("locks"), "{}", questions[1]);
    assert!(!asked.signs("x", "locked"));
    assert_eq!(asked.asked_for(), [""; 0], "a PIN was asked for that cannot be tried");
    let log = asked.agent().log();
    assert!(log.contains("the PIN of token \"x\"") && log.contains("is locked"), "{log}");
    // The agent releases the token: the holder of the SO PIN sets a new PIN beside it, and the keys
    // are usable again.
    let unblock = ["pin", "unblock", "x", "--so-pin-source", "file:so.pin", "--new-pin-source", "file:other.pin"];
    asked.user.tokenkeep(&unblock).ok();
    asked.will(&[TestUser::OTHER_PIN]);
    wait_for("the new PIN is asked for", || asked.signs("x", "again").then_some(()));
}
