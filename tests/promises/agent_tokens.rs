//! Tokens that appear and disappear under a running agent: removed during a signature, put back,
//! created by another program, held by one, reinitialized behind its back, locked by wrong PINs,
//! and a module that crashes. None of these requires a restart of the agent, and none is reported
//! as a wrong PIN.

use std::fs;
use std::time::{Duration, Instant};

use base64::Engine as _;

use crate::support::agent::{is_alive, wait_for};
use crate::support::asked::Asked;
use crate::support::faulty::Faulty;
use crate::support::following::Following;
use crate::support::machine::TokenKind;
use crate::support::office::Somebody;
use crate::support::terminal::Terminal;

const PIN: &str = Somebody::PIN;
const WRONG: &str = Somebody::WRONG_PIN;

pub fn with_faults(keysets: &[(&str, &str)]) -> (Asked, Faulty) {
    let mut asked = Asked::with(TokenKind::SoftHsm, keysets);
    let faulty = Faulty::in_front_of(&mut asked.somebody.machine);
    let machine = asked.somebody.machine.path().display().to_string();
    asked.start(&format!("allow = [\"{machine}\"]"));
    (asked, faulty)
}

pub fn offers(asked: &Asked, keyset: &str) -> bool {
    asked.offered().contains(&format!(" {keyset} "))
}

#[test]
fn a_token_that_is_removed_during_a_signature_is_said_to_be_gone_and_its_pin_is_not_blamed() {
    for level in ["low", "medium", "high"] {
        let (asked, faulty) = with_faults(&[("x", level)]);
        asked.will(&[PIN]);
        assert!(asked.signs("x", "before"));
        asked.questions();
        faulty.does("remove C_Sign\n");
        asked.will(if level == "medium" { &["yes"] } else { &[PIN] });
        assert!(!asked.signs("x", "during"));
        let log = asked.agent().log();
        assert!(log.contains("is not present"), "{level}: {log}");
        assert!(!log.contains("is wrong") && faulty.wrong_tries() == 0, "{level}: {log}");
        assert!(!offers(&asked, "x"), "{level}: it is offered all the same");
        // After reinsertion the token is listed, and its session has ended.
        faulty.behaves();
        wait_for("the token is seen again", || offers(&asked, "x").then_some(()));
        asked.questions();
        asked.will(&[PIN]);
        assert!(asked.signs("x", "afterwards"), "{level}: {}", asked.agent().log());
        assert_eq!(asked.asked_for(), ["pin"], "{level}: the log-in outlived the removal");
    }
}

#[test]
fn a_token_directory_that_was_away_for_a_while_is_used_again() {
    let mut asked = Asked::with(TokenKind::SoftHsm, &[("x", "low")]);
    asked.start("");
    asked.will(&[PIN]);
    assert!(asked.signs("x", "before"));
    let (here, away) = (asked.somebody.machine.file("tokens"), asked.somebody.machine.file("tokens.away"));
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
fn a_token_that_is_removed_while_it_reads_is_gone_for_a_command_and_for_the_api() {
    for level in ["low", "high"] {
        let (asked, faulty) = with_faults(&[("x", level)]);
        let machine = &asked.somebody.machine;
        let email = asked.address("x");
        asked.somebody.tokenkeep_with_input(&["encrypt", "--to", &email, "--out", "secret.p7m"], "a secret\n").ok();
        let message = base64::engine::general_purpose::STANDARD.encode(machine.read("secret.p7m"));
        machine.write("request", serde_json::json!({ "message": message, "keyset": "x" }).to_string());
        let command = || {
            let read =
                ["decrypt", "--keyset", "x", "--pin-source", "file:pin", "--in", "secret.p7m", "--out", "read.txt"];
            asked.somebody.tokenkeep(&read)
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
            faulty.does(rule);
            command().fails_with(3).says("is not present").does_not_say("wrong").does_not_say("does not open");
            assert!(!machine.file("read.txt").exists());
            faulty.behaves();
            wait_for("the token is seen again", || offers(&asked, "x").then_some(()));
            command().ok();
            assert_eq!(machine.read_text("read.txt"), "a secret\n");
            fs::remove_file(machine.file("read.txt")).unwrap();

            faulty.does(rule);
            let (status, answer) = api();
            assert_eq!((status.as_str(), &answer["error"]["kind"]), ("404", &"absent".into()), "{level}: {answer}");
            assert!(answer["error"]["message"].as_str().unwrap().contains("is not present"), "{answer}");
            faulty.behaves();
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
    faulty.does("C_OpenSession CKR_SESSION_COUNT\ndelay C_Sign 300ms\n");
    let files = ["one", "two", "three", "four", "five"];
    let signing = files.map(|file| (asked.begin_signing("x", file), file));
    for (client, file) in signing {
        assert!(asked.has_signed(client, file), "{file}: {}", asked.agent().log());
    }
    // Without any session the request fails, with a message.
    asked.ssh("ssh-add", &["-D"], b"").ok();
    faulty.behaves();
    asked.will(&[PIN]);
    assert!(asked.signs("x", "with-a-pin-again"));
    faulty.does("C_OpenSession CKR_SESSION_COUNT\n");
    assert!(!asked.signs("x", "none"));
    let log = asked.agent().log();
    assert!(log.contains("CKR_SESSION_COUNT"), "{log}");
    faulty.behaves();
    assert!(asked.signs("x", "afterwards"), "{}", asked.agent().log());
}

#[test]
fn an_agent_whose_token_does_not_answer_ends_all_the_same() {
    let (mut asked, faulty) = with_faults(&[("x", "low")]);
    asked.will(&[PIN]);
    assert!(asked.signs("x", "before"));
    // Longer than any time-out, this test's included.
    faulty.does("delay C_Logout 600000ms\n");
    let worker = asked.agent().worker();
    let machine = &asked.somebody.machine;
    machine.tokenkeep(&["agent", "stop"]).ok();
    wait_for("it has ended", || (!is_alive(worker)).then_some(()));
    let log = asked.agent().log();
    assert!(log.contains("does not respond: exiting without logging off"), "{log}");
    assert!(asked.agent_mut().wait().success());
}

#[test]
fn a_token_that_is_pulled_out_between_two_uses_asks_for_its_pin_again() {
    let (asked, faulty) = with_faults(&[("x", "low")]);
    asked.will(&[PIN, PIN]);
    assert!(asked.signs("x", "before"));
    faulty.does("removed\n");
    wait_for("the token is gone", || (!offers(&asked, "x")).then_some(()));
    faulty.behaves();
    wait_for("the token is back", || offers(&asked, "x").then_some(()));
    assert!(asked.signs("x", "afterwards"));
    assert_eq!(asked.asked_for(), ["pin", "pin"]);
    assert_eq!(faulty.wrong_tries(), 0);
}

#[test]
fn who_listens_is_told_what_happens_to_a_token_in_its_order() {
    let (asked, faulty) = with_faults(&[("x", "low")]);
    assert!(offers(&asked, "x"), "it has looked for the first time");
    let mut events = Following::events(&asked.somebody.machine, asked.agent());
    asked.will(&[PIN]);
    assert!(asked.signs("x", "before"));
    let serial = asked.somebody.machine.listed_token("x").serial;
    let is_x = |data: &serde_json::Value| data["token"] == serde_json::json!({ "label": "x", "serial": serial });
    assert!(is_x(&events.event("logged-in")));
    faulty.does("removed\n");
    let over = events.event("logged-off");
    assert!(is_x(&over) && over["why"] == "removed", "{over}");
    assert!(is_x(&events.event("removed")));
    faulty.behaves();
    assert!(is_x(&events.event("inserted")));
}

#[test]
fn a_token_that_another_program_has_made_is_seen_without_a_restart() {
    let mut asked = Asked::with(TokenKind::SoftHsm, &[("first", "low")]);
    asked.start("");
    assert!(offers(&asked, "first"));
    // In another process, without the agent: SoftHSM does not notify the agent's module.
    asked.enroll("second", "low", &["--no-agent"]);
    wait_for("the new token is seen", || offers(&asked, "second").then_some(()));
    asked.will(&[PIN]);
    assert!(asked.signs("second", "one"));
}

#[test]
fn a_keyset_that_is_named_is_found_on_a_new_token_though_somebody_is_logged_in() {
    let mut asked = Asked::with(TokenKind::SoftHsm, &[("first", "low")]);
    asked.somebody.machine.write("message.txt", "a message\n");
    asked.start("");
    asked.will(&[PIN]);
    assert!(asked.signs("first", "one"));
    asked.enroll("second", "low", &["--no-agent"]);
    assert!(!offers(&asked, "second"), "to see it would have ended the log-in");
    assert!(asked.signs("first", "two"));
    assert_eq!(asked.asked_for(), ["pin"]);
    let sign = ["sign", "--keyset", "second", "--pin-source", "file:pin", "--in", "message.txt", "--out", "signed.p7m"];
    asked.somebody.tokenkeep(&sign).ok();
    assert!(asked.agent().log().contains("to look for a missing keyset; sessions end"), "{}", asked.agent().log());
    asked.will(&[PIN]);
    assert!(asked.signs("first", "three"));
    assert_eq!(asked.asked_for(), ["pin"], "what ended is asked for again");
}

#[test]
fn a_token_that_another_program_holds_is_named_with_its_holder_and_seen_when_it_is_let_go() {
    let mut asked = Asked::with(TokenKind::SoftHsm, &[("x", "low")]);
    asked.somebody.machine.write("message.txt", "a message\n");
    // A command that waits at its PIN prompt owns the token.
    let sign = ["sign", "--keyset", "x", "--in", "message.txt", "--out", "signed.p7m"];
    let mut terminal = Terminal::tokenkeep(&asked.somebody.machine, &sign);
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
fn a_module_that_crashes_takes_no_key_with_it() {
    let (asked, faulty) = with_faults(&[("x", "low")]);
    asked.will(&[PIN, PIN]);
    assert!(asked.signs("x", "before"));
    let worker = asked.agent().worker();
    faulty.does("die C_Sign\n");
    assert!(!asked.signs("x", "during"));
    faulty.behaves();
    wait_for("another worker", || Some(asked.agent().worker()).filter(|id| *id != worker));
    wait_for("the key is offered", || offers(&asked, "x").then_some(()));
    assert!(asked.signs("x", "afterwards"));
    assert_eq!(asked.asked_for(), ["pin", "pin"], "the log-in died with the worker");
    assert_eq!(faulty.wrong_tries(), 0);
}

#[test]
fn a_module_that_hangs_keeps_nobody_waiting_for_others_and_is_loaded_anew_when_no_log_in_is_lost_by_it() {
    let mut asked = Asked::with(TokenKind::SoftHsm, &[("x", "low")]);
    let faulty = Faulty::beside(&mut asked.somebody.machine);
    let machine = asked.somebody.machine.path().display().to_string();
    asked.start(&format!("allow = [\"{machine}\"]"));
    asked.will(&[PIN, PIN]);
    assert!(asked.signs("x", "before"));
    let worker = asked.agent().worker();
    let silence = || asked.somebody.tokenkeep(&["tokens"]).ok().says("x").err().contains("does not answer");
    assert!(!silence());
    faulty.does("delay C_GetSlotList 3600000ms\n");
    wait_for("it is said", || silence().then_some(()));
    assert!(offers(&asked, "x") && asked.signs("x", "meanwhile"));
    assert_eq!(asked.asked_for(), ["pin"], "a log-in to another module's token is over");
    assert_eq!(asked.agent().worker(), worker, "with it a log-in would have ended");
    faulty.behaves();
    asked.ssh("ssh-add", &["-D"], b"").ok();
    wait_for("another worker", || Some(asked.agent().worker()).filter(|id| *id != worker));
    wait_for("the key is offered", || offers(&asked, "x").then_some(()));
    assert!(!silence());
    assert!(asked.signs("x", "afterwards"));
    let log = asked.agent().log();
    assert!(log.contains("no longer responds"), "{log}");
}

#[test]
fn a_token_that_is_made_anew_behind_its_back_keeps_neither_log_in_nor_keys() {
    let mut asked = Asked::with(TokenKind::SoftHsm, &[]);
    asked.somebody.machine.write_secret("so.pin", "so-pin-1234");
    asked.enroll("x", "low", &["--so-pin-source", "file:so.pin"]);
    asked.start("");
    asked.will(&[PIN]);
    assert!(asked.signs("x", "before"));
    let anew = ["--init-token", "--token", "x", "--label", "another", "--so-pin", "so-pin-1234", "--pin", PIN];
    asked.somebody.machine.run("softhsm2-util", &anew, b"").ok();
    wait_for("it is noticed", || (!offers(&asked, "x")).then_some(()));
    assert!(!asked.signs("x", "afterwards"));
    assert_eq!(asked.asked_for(), ["pin"], "a PIN was asked for in vain");
}

#[test]
fn a_token_that_is_made_anew_as_it_was_named_keeps_neither_log_in_nor_keys_either() {
    for pin in [PIN, Somebody::OTHER_PIN] {
        let mut asked = Asked::with(TokenKind::SoftHsm, &[("other", "low")]);
        asked.somebody.machine.write_secret("so.pin", "so-pin-1234");
        asked.enroll("x", "low", &["--so-pin-source", "file:so.pin"]);
        asked.somebody.machine.write("message.txt", "a message\n");
        asked.start("");
        asked.will(&[PIN, PIN]);
        assert!(asked.signs("x", "before") && asked.signs("other", "before"));
        asked.questions();
        let before = asked.somebody.machine.listed_token("x");
        let anew = ["--init-token", "--token", "x", "--label", "x", "--so-pin", "so-pin-1234", "--pin", pin];
        asked.somebody.machine.run("softhsm2-util", &anew, b"").ok();
        assert_eq!(asked.somebody.machine.listed_token("x").serial, before.serial, "it is to look as it did");
        wait_for("it is noticed", || (!offers(&asked, "x")).then_some(()));
        let log = asked.agent().log();
        assert!(log.contains(&format!("{}) was reinitialized or changed by another program", before.serial)), "{log}");
        assert!(!asked.signs("x", "afterwards"), "a copy of its key was used");
        let sign = ["sign", "--keyset", "x", "--pin-source", "file:pin", "--in", "message.txt", "--out", "signed.p7m"];
        asked.somebody.tokenkeep(&sign).fails_with(3).says("cannot find the keyset").does_not_say("wrong");
        assert_eq!(asked.asked_for(), [""; 0], "a PIN was asked for in vain");
        assert!(!asked.somebody.machine.listed_token("x").count_is_low());
        // The token is usable again, with its present PIN.
        asked.somebody.machine.write_secret("pin", pin);
        let letter = asked.letter("y", "low");
        let enroll = ["enroll", "--letter", &letter, "--keyset", "y", "--level", "low", "--token", &before.serial];
        asked.somebody.tokenkeep(&[&enroll[..], &["--pin-source", "file:pin"]].concat()).ok();
        asked.will(&[pin]);
        assert!(asked.signs("y", "anew"), "{}", asked.agent().log());
    }
}

#[test]
fn a_token_that_locks_says_so_after_a_warning_and_takes_no_more_pins() {
    let mut asked = Asked::with(TokenKind::Kryoptic, &[]);
    asked.somebody.machine.write("message.txt", "a message\n");
    asked.somebody.machine.write_secret("so.pin", "so-pin-1234");
    asked.enroll("x", "low", &["--so-pin-source", "file:so.pin"]);
    // Nine wrong PINs without the agent: Kryoptic locks at the tenth.
    for _ in 0..9 {
        assert!(!asked.somebody.machine.pin_is_right("x", WRONG));
    }
    asked.start_typed("");
    assert!(offers(&asked, "x"), "it has looked for the first time");
    let mut events = Following::events(&asked.somebody.machine, asked.agent());
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
    asked.somebody.tokenkeep(&unblock).ok();
    asked.will(&[Somebody::OTHER_PIN]);
    wait_for("the new PIN is asked for", || asked.signs("x", "again").then_some(()));
}
