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

pub fn prompted_user_with_faults(keysets: &[(&str, &str)]) -> (PromptedUser, FaultyModule) {
    let mut prompted = PromptedUser::with(TokenKind::SoftHsm, keysets);
    let faulty = FaultyModule::wrap_module_of(&mut prompted.user.machine);
    let machine = prompted.user.machine.path().display().to_string();
    prompted.start(&format!("allow = [\"{machine}\"]"));
    (prompted, faulty)
}

pub fn offers(prompted: &PromptedUser, keyset: &str) -> bool {
    prompted.offered_keys().contains(&format!(" {keyset} "))
}

#[test]
fn removal_during_a_signature_is_not_reported_as_a_wrong_pin() {
    for level in ["low", "medium", "high"] {
        let (prompted, faulty) = prompted_user_with_faults(&[("x", level)]);
        prompted.set_answers(&[PIN]);
        assert!(prompted.signs("x", "before"));
        prompted.questions();
        faulty.set_faults("remove C_Sign\n");
        prompted.set_answers(if level == "medium" { &["yes"] } else { &[PIN] });
        assert!(!prompted.signs("x", "during"));
        let log = prompted.agent().log();
        assert!(log.contains("is not present"), "{level}: {log}");
        assert!(!log.contains("is wrong") && faulty.wrong_tries() == 0, "{level}: {log}");
        assert!(!offers(&prompted, "x"), "{level}: it is offered all the same");
        // After reinsertion the token is listed, and its session has ended.
        faulty.clear_faults();
        wait_for("the token is seen again", || offers(&prompted, "x").then_some(()));
        prompted.questions();
        prompted.set_answers(&[PIN]);
        assert!(prompted.signs("x", "afterwards"), "{level}: {}", prompted.agent().log());
        assert_eq!(prompted.question_kinds(), ["pin"], "{level}: the session outlived the removal");
    }
}

#[test]
fn a_token_directory_that_reappears_is_used_again() {
    let mut prompted = PromptedUser::with(TokenKind::SoftHsm, &[("x", "low")]);
    prompted.start("");
    prompted.set_answers(&[PIN]);
    assert!(prompted.signs("x", "before"));
    let (here, away) = (prompted.user.machine.file("tokens"), prompted.user.machine.file("tokens.away"));
    fs::rename(&here, &away).unwrap();
    wait_for("the token is no longer offered", || (!offers(&prompted, "x")).then_some(()));
    // Long enough for more than one restart of the module, which fails without its directory.
    let until = Instant::now() + Duration::from_secs(5);
    while Instant::now() < until {
        assert!(!offers(&prompted, "x"));
    }
    fs::rename(&away, &here).unwrap();
    wait_for("the token is seen again", || offers(&prompted, "x").then_some(()));
    prompted.set_answers(&[PIN]);
    assert!(prompted.signs("x", "afterwards"), "{}", prompted.agent().log());
}

#[test]
fn removal_during_a_read_is_reported_by_command_and_api() {
    for level in ["low", "high"] {
        let (prompted, faulty) = prompted_user_with_faults(&[("x", level)]);
        let machine = &prompted.user.machine;
        let email = prompted.address("x");
        prompted.user.tokenkeep_with_input(&["encrypt", "--to", &email, "--out", "secret.p7m"], "a secret\n").ok();
        let message = base64::engine::general_purpose::STANDARD.encode(machine.read("secret.p7m"));
        machine.write("request", serde_json::json!({ "message": message, "keyset": "x" }).to_string());
        let command = || {
            let read =
                ["decrypt", "--keyset", "x", "--pin-source", "file:pin", "--in", "secret.p7m", "--out", "read.txt"];
            prompted.user.tokenkeep(&read)
        };
        let api = || {
            prompted.set_answers(&[PIN]);
            let socket = prompted.agent().api_socket().display().to_string();
            let fixed = ["-sS", "--unix-socket", &socket, "-w", "\n%{http_code}", "http://agent/v1/decrypt"];
            let body = ["-H", "Content-Type: application/json", "--data-binary", "@request"];
            let answer = machine.run("curl", &[&fixed[..], &body].concat(), b"").ok().out();
            let (body, status) = answer.rsplit_once('\n').unwrap();
            (status.to_owned(), serde_json::from_str::<serde_json::Value>(body).unwrap())
        };
        for rule in ["remove C_DecryptInit", "remove C_Decrypt"] {
            faulty.reset_calls();
            faulty.set_faults(rule);
            command().fails_with(3).says("is not present").does_not_say("wrong").does_not_say("cannot be unwrapped");
            assert!(!machine.file("read.txt").exists());
            faulty.clear_faults();
            wait_for("the token is seen again", || offers(&prompted, "x").then_some(()));
            command().ok();
            assert_eq!(machine.read_text("read.txt"), "a secret\n");
            fs::remove_file(machine.file("read.txt")).unwrap();

            faulty.set_faults(rule);
            let (status, answer) = api();
            assert_eq!((status.as_str(), &answer["error"]["kind"]), ("404", &"absent".into()), "{level}: {answer}");
            assert!(answer["error"]["message"].as_str().unwrap().contains("is not present"), "{answer}");
            faulty.clear_faults();
            wait_for("the token is seen again", || offers(&prompted, "x").then_some(()));
            let (status, answer) = api();
            assert_eq!((status.as_str(), &answer["content"]), ("200", &"YSBzZWNyZXQK".into()), "{level}: {answer}");
            assert_eq!(faulty.wrong_tries(), 0, "{level} {rule}");
        }
    }
}

#[test]
fn a_token_with_few_sessions_signs_for_many_at_once() {
    let (prompted, faulty) = prompted_user_with_faults(&[("x", "low")]);
    prompted.set_answers(&[PIN]);
    assert!(prompted.signs("x", "with-a-pin") && prompted.signs("x", "in-a-session"));
    // No session is available, and all requests arrive while one signs.
    faulty.set_faults("C_OpenSession CKR_SESSION_COUNT\ndelay C_Sign 300ms\n");
    let files = ["one", "two", "three", "four", "five"];
    let signing = files.map(|file| (prompted.begin_signing("x", file), file));
    for (client, file) in signing {
        assert!(prompted.finish_signing(client, file), "{file}: {}", prompted.agent().log());
    }
    // Without any session the request fails, with a message.
    prompted.ssh("ssh-add", &["-D"], b"").ok();
    faulty.clear_faults();
    prompted.set_answers(&[PIN]);
    assert!(prompted.signs("x", "with-a-pin-again"));
    faulty.set_faults("C_OpenSession CKR_SESSION_COUNT\n");
    assert!(!prompted.signs("x", "none"));
    let log = prompted.agent().log();
    assert!(log.contains("CKR_SESSION_COUNT"), "{log}");
    faulty.clear_faults();
    assert!(prompted.signs("x", "afterwards"), "{}", prompted.agent().log());
}

#[test]
fn an_agent_with_a_hung_token_still_exits() {
    let (mut prompted, faulty) = prompted_user_with_faults(&[("x", "low")]);
    prompted.set_answers(&[PIN]);
    assert!(prompted.signs("x", "before"));
    // Longer than any time-out, this test's included.
    faulty.set_faults("delay C_Logout 600000ms\n");
    let worker = prompted.agent().worker();
    let machine = &prompted.user.machine;
    machine.tokenkeep(&["agent", "stop"]).ok();
    wait_for("it has ended", || (!is_alive(worker)).then_some(()));
    let log = prompted.agent().log();
    assert!(log.contains("does not respond: exiting without logging off"), "{log}");
    assert!(prompted.agent_mut().wait().success());
}

#[test]
fn a_token_removed_between_two_uses_needs_its_pin_again() {
    let (prompted, faulty) = prompted_user_with_faults(&[("x", "low")]);
    prompted.set_answers(&[PIN, PIN]);
    assert!(prompted.signs("x", "before"));
    faulty.set_faults("removed\n");
    wait_for("the token is no longer offered", || (!offers(&prompted, "x")).then_some(()));
    faulty.clear_faults();
    wait_for("the token is back", || offers(&prompted, "x").then_some(()));
    assert!(prompted.signs("x", "afterwards"));
    assert_eq!(prompted.question_kinds(), ["pin", "pin"]);
    assert_eq!(faulty.wrong_tries(), 0);
}

#[test]
fn listeners_receive_token_events_in_order() {
    let (prompted, faulty) = prompted_user_with_faults(&[("x", "low")]);
    assert!(offers(&prompted, "x"), "it has looked for the first time");
    let mut events = EventStream::events(&prompted.user.machine, prompted.agent());
    prompted.set_answers(&[PIN]);
    assert!(prompted.signs("x", "before"));
    let serial = prompted.user.machine.listed_token("x").serial;
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
    let mut prompted = PromptedUser::with(TokenKind::SoftHsm, &[("first", "low")]);
    prompted.start("");
    assert!(offers(&prompted, "first"));
    // In another process, without the agent: SoftHSM does not notify the agent's module.
    prompted.enroll("second", "low", &["--no-agent"]);
    wait_for("the new token is seen", || offers(&prompted, "second").then_some(()));
    prompted.set_answers(&[PIN]);
    assert!(prompted.signs("second", "one"));
}

#[test]
fn a_named_keyset_on_a_new_token_is_found_despite_a_session() {
    let mut prompted = PromptedUser::with(TokenKind::SoftHsm, &[("first", "low")]);
    prompted.user.machine.write("message.txt", "a message\n");
    prompted.start("");
    prompted.set_answers(&[PIN]);
    assert!(prompted.signs("first", "one"));
    prompted.enroll("second", "low", &["--no-agent"]);
    assert!(!offers(&prompted, "second"), "a rescan would have ended the session");
    assert!(prompted.signs("first", "two"));
    assert_eq!(prompted.question_kinds(), ["pin"]);
    let sign = ["sign", "--keyset", "second", "--pin-source", "file:pin", "--in", "message.txt", "--out", "signed.p7m"];
    prompted.user.tokenkeep(&sign).ok();
    assert!(
        prompted.agent().log().contains("to look for a missing keyset; sessions end"),
        "{}",
        prompted.agent().log()
    );
    prompted.set_answers(&[PIN]);
    assert!(prompted.signs("first", "three"));
    assert_eq!(prompted.question_kinds(), ["pin"], "what ended is asked for again");
}

#[test]
fn a_token_in_use_names_its_owner_and_is_found_when_released() {
    let mut prompted = PromptedUser::with(TokenKind::SoftHsm, &[("x", "low")]);
    prompted.user.machine.write("message.txt", "a message\n");
    // A command that waits at its PIN prompt owns the token.
    let sign = ["sign", "--keyset", "x", "--in", "message.txt", "--out", "signed.p7m"];
    let mut terminal = Terminal::tokenkeep(&prompted.user.machine, &sign);
    terminal.expect("PIN");
    prompted.start("");
    assert!(!offers(&prompted, "x"));
    let output =
        wait_for("the holder is named", || Some(prompted.agent().log()).filter(|log| log.contains("in use by")));
    assert!(output.contains("tokenkeep"), "{output}");
    terminal.type_line(PIN);
    assert_eq!(terminal.finish().0, 0);
    wait_for("the token is seen", || offers(&prompted, "x").then_some(()));
    prompted.set_answers(&[PIN]);
    assert!(prompted.signs("x", "one"));
}

#[test]
fn a_module_crash_loses_no_key() {
    let (prompted, faulty) = prompted_user_with_faults(&[("x", "low")]);
    prompted.set_answers(&[PIN, PIN]);
    assert!(prompted.signs("x", "before"));
    let worker = prompted.agent().worker();
    faulty.set_faults("die C_Sign\n");
    assert!(!prompted.signs("x", "during"));
    faulty.clear_faults();
    wait_for("another worker", || Some(prompted.agent().worker()).filter(|id| *id != worker));
    wait_for("the key is offered", || offers(&prompted, "x").then_some(()));
    assert!(prompted.signs("x", "afterwards"));
    assert_eq!(prompted.question_kinds(), ["pin", "pin"], "the session ended with the worker");
    assert_eq!(faulty.wrong_tries(), 0);
}

#[test]
fn a_hung_module_delays_no_other_and_is_reloaded_when_idle() {
    let mut prompted = PromptedUser::with(TokenKind::SoftHsm, &[("x", "low")]);
    let faulty = FaultyModule::add_to(&mut prompted.user.machine);
    let machine = prompted.user.machine.path().display().to_string();
    prompted.start(&format!("allow = [\"{machine}\"]"));
    prompted.set_answers(&[PIN, PIN]);
    assert!(prompted.signs("x", "before"));
    let worker = prompted.agent().worker();
    let silence = || prompted.user.tokenkeep(&["tokens"]).ok().says("x").err().contains("does not answer");
    assert!(!silence());
    faulty.set_faults("delay C_GetSlotList 3600000ms\n");
    wait_for("the hung module is reported", || silence().then_some(()));
    assert!(offers(&prompted, "x") && prompted.signs("x", "meanwhile"));
    assert_eq!(prompted.question_kinds(), ["pin"], "a session of another module's token has ended");
    assert_eq!(prompted.agent().worker(), worker, "a restart would have ended a session");
    faulty.clear_faults();
    prompted.ssh("ssh-add", &["-D"], b"").ok();
    wait_for("another worker", || Some(prompted.agent().worker()).filter(|id| *id != worker));
    wait_for("the key is offered", || offers(&prompted, "x").then_some(()));
    assert!(!silence());
    assert!(prompted.signs("x", "afterwards"));
    let log = prompted.agent().log();
    assert!(log.contains("no longer responds"), "{log}");
}

#[test]
fn a_reinitialized_token_keeps_neither_session_nor_keys() {
    let mut prompted = PromptedUser::with(TokenKind::SoftHsm, &[]);
    prompted.user.machine.write_secret("so.pin", "so-pin-1234");
    prompted.enroll("x", "low", &["--so-pin-source", "file:so.pin"]);
    prompted.start("");
    prompted.set_answers(&[PIN]);
    assert!(prompted.signs("x", "before"));
    let reinitialize = ["--init-token", "--token", "x", "--label", "another", "--so-pin", "so-pin-1234", "--pin", PIN];
    prompted.user.machine.run("softhsm2-util", &reinitialize, b"").ok();
    wait_for("it is noticed", || (!offers(&prompted, "x")).then_some(()));
    assert!(!prompted.signs("x", "afterwards"));
    assert_eq!(prompted.question_kinds(), ["pin"], "a PIN was asked for in vain");
}

#[test]
fn a_token_reinitialized_with_its_old_name_keeps_nothing() {
    for pin in [PIN, TestUser::OTHER_PIN] {
        let mut prompted = PromptedUser::with(TokenKind::SoftHsm, &[("other", "low")]);
        prompted.user.machine.write_secret("so.pin", "so-pin-1234");
        prompted.enroll("x", "low", &["--so-pin-source", "file:so.pin"]);
        prompted.user.machine.write("message.txt", "a message\n");
        prompted.start("");
        prompted.set_answers(&[PIN, PIN]);
        assert!(prompted.signs("x", "before") && prompted.signs("other", "before"));
        prompted.questions();
        let before = prompted.user.machine.listed_token("x");
        let reinitialize = ["--init-token", "--token", "x", "--label", "x", "--so-pin", "so-pin-1234", "--pin", pin];
        prompted.user.machine.run("softhsm2-util", &reinitialize, b"").ok();
        assert_eq!(prompted.user.machine.listed_token("x").serial, before.serial, "it is to look as it did");
        wait_for("it is noticed", || (!offers(&prompted, "x")).then_some(()));
        let log = prompted.agent().log();
        assert!(log.contains(&format!("{}) was reinitialized or changed by another program", before.serial)), "{log}");
        assert!(!prompted.signs("x", "afterwards"), "a copy of its key was used");
        let sign = ["sign", "--keyset", "x", "--pin-source", "file:pin", "--in", "message.txt", "--out", "signed.p7m"];
        prompted.user.tokenkeep(&sign).fails_with(3).says("cannot find the keyset").does_not_say("wrong");
        assert_eq!(prompted.question_kinds(), [""; 0], "a PIN was asked for in vain");
        assert!(!prompted.user.machine.listed_token("x").count_is_low());
        // The token is usable again, with its present PIN.
        prompted.user.machine.write_secret("pin", pin);
        let letter = prompted.letter("y", "low");
        let enroll = ["enroll", "--letter", &letter, "--keyset", "y", "--level", "low", "--token", &before.serial];
        prompted.user.tokenkeep(&[&enroll[..], &["--pin-source", "file:pin"]].concat()).ok();
        prompted.set_answers(&[pin]);
        assert!(prompted.signs("y", "anew"), "{}", prompted.agent().log());
    }
}

#[test]
fn the_agent_warns_before_a_token_locks_and_tries_no_pin_after() {
    let mut prompted = PromptedUser::with(TokenKind::Kryoptic, &[]);
    prompted.user.machine.write("message.txt", "a message\n");
    prompted.user.machine.write_secret("so.pin", "so-pin-1234");
    prompted.enroll("x", "low", &["--so-pin-source", "file:so.pin"]);
    // Nine wrong PINs without the agent: Kryoptic locks at the tenth.
    for _ in 0..9 {
        assert!(!prompted.user.machine.pin_is_right("x", WRONG));
    }
    prompted.start_typed("");
    assert!(offers(&prompted, "x"), "it has looked for the first time");
    let mut events = EventStream::events(&prompted.user.machine, prompted.agent());
    prompted.set_answers(&["yes", WRONG]);
    assert!(!prompted.signs("x", "last"));
    assert_eq!(events.event("pin-locked")["token"]["label"], "x");
    let questions = prompted.questions();
    assert_eq!(questions.len(), 2, "{questions:?}");
    assert!(questions[0].starts_with("confirm\n") && questions[0].contains("locks"), "{}", questions[0]);
    assert!(questions[1].starts_with("pin\n") && questions[1].contains("locks"), "{}", questions[1]);
    assert!(!prompted.signs("x", "locked"));
    assert_eq!(prompted.question_kinds(), [""; 0], "a PIN was asked for that cannot be tried");
    let log = prompted.agent().log();
    assert!(log.contains("the PIN of token \"x\"") && log.contains("is locked"), "{log}");
    // The agent releases the token: the holder of the SO PIN sets a new PIN beside it, and the keys
    // are usable again.
    let unblock = ["pin", "unblock", "x", "--so-pin-source", "file:so.pin", "--new-pin-source", "file:other.pin"];
    prompted.user.tokenkeep(&unblock).ok();
    prompted.set_answers(&[TestUser::OTHER_PIN]);
    wait_for("the new PIN is asked for", || prompted.signs("x", "again").then_some(()));
}
