//! Security levels through the running agent, with `ssh-keygen` as the program that uses keys:
//! which prompts appear, what they say, in which order, and what one wrong PIN costs, counted at
//! the token.

use std::process::Child;

use crate::support::faulty_module::FaultyModule;
use crate::support::machine::TokenKind;
use crate::support::prompted_user::PromptedUser;
use crate::support::shared_authority::TestUser;

const PIN: &str = TestUser::PIN;
const WRONG: &str = TestUser::WRONG_PIN;

fn asked(keysets: &[(&str, &str)]) -> PromptedUser {
    let mut asked = PromptedUser::with(TokenKind::SoftHsm, keysets);
    asked.start("");
    asked
}

/// As above, with a count of every call that takes a PIN.
fn counted(keysets: &[(&str, &str)]) -> (PromptedUser, FaultyModule) {
    let (mut asked, faulty, allow) = with_faults(keysets);
    asked.start(&allow);
    (asked, faulty)
}

/// As above, with this line in `agent.toml` before the agent starts.
fn with_faults(keysets: &[(&str, &str)]) -> (PromptedUser, FaultyModule, String) {
    let mut asked = PromptedUser::with(TokenKind::SoftHsm, keysets);
    let faulty = FaultyModule::in_front_of(&mut asked.user.machine);
    let allow = format!("allow = [\"{}\"]", asked.user.machine.path().display());
    (asked, faulty, allow)
}

#[test]
fn level_high_prompts_for_every_use_and_states_its_purpose() {
    let asked = asked(&[("strict", "high")]);
    asked.will(&[PIN, PIN]);
    assert!(asked.signs("strict", "one"));
    assert!(asked.signs("strict", "two"));
    let questions = asked.questions();
    assert_eq!(questions.len(), 2, "{questions:?}");
    let serial = serial_of(&asked, "strict");
    for (question, file) in questions.iter().zip(["one", "two"]) {
        assert!(question.starts_with("pin\n"), "{question}");
        for part in ["ssh-keygen", &format!("namespace-of-{file}"), "strict", "level high", &serial] {
            assert!(question.contains(part), "{part} is missing:\n{question}");
        }
    }
}

fn serial_of(asked: &PromptedUser, label: &str) -> String {
    let tokens = asked.user.tokenkeep(&["token", "list", "--json"]).ok().json();
    let all = tokens.as_array().or_else(|| tokens["tokens"].as_array()).unwrap();
    all.iter().find(|token| token["label"] == label).unwrap()["serial"].as_str().unwrap().to_owned()
}

#[test]
fn concurrent_uses_get_one_prompt_each_in_order() {
    let asked = asked(&[("strict", "high")]);
    asked.offered();
    asked.will(&["no", PIN]);
    let hold = asked.hold();
    let first = asked.begin_signing("strict", "first");
    asked.until_asked(1);
    let second = asked.begin_signing("strict", "second");
    // Only the missing prompt shows that the second request waits.
    std::thread::sleep(std::time::Duration::from_millis(500));
    drop(hold);
    assert!(!asked.has_signed(first, "first"), "its person said no");
    assert!(asked.has_signed(second, "second"));
    let questions = asked.questions();
    assert_eq!(questions.len(), 2, "{questions:?}");
    assert!(questions[0].contains("namespace-of-first") && questions[1].contains("namespace-of-second"));
}

#[test]
fn level_medium_asks_for_the_pin_once_and_then_a_confirmation() {
    let asked = asked(&[("middle", "medium")]);
    asked.will(&[PIN, "yes", "no", "yes"]);
    assert!(asked.signs("middle", "one"));
    assert!(asked.signs("middle", "two"));
    assert!(!asked.signs("middle", "three"), "the person said no");
    assert!(asked.signs("middle", "four"));
    let questions = asked.questions();
    let kinds: Vec<_> = questions.iter().map(|question| question.lines().next().unwrap()).collect();
    assert_eq!(kinds, ["pin", "confirm", "confirm", "confirm"]);
    assert!(questions[1].contains("namespace-of-two") && questions[1].contains("ssh-keygen"), "{}", questions[1]);
}

#[test]
fn level_low_asks_for_the_pin_once_until_log_off() {
    let asked = asked(&[("easy", "low")]);
    asked.will(&[PIN, PIN]);
    for file in ["one", "two", "three"] {
        assert!(asked.signs("easy", file));
    }
    assert_eq!(asked.asked_for(), ["pin"]);
    asked.ssh("ssh-add", &["-D"], b"").ok();
    assert!(asked.signs("easy", "four"));
    assert_eq!(asked.asked_for(), ["pin"]);
}

#[test]
fn commands_use_the_active_session_and_the_agent_confirms() {
    let asked = asked(&[("strict", "high"), ("middle", "medium"), ("easy", "low")]);
    let machine = &asked.user.machine;
    machine.write("message.txt", "a message\n");
    let sign = |keyset: &str, pin: &str| {
        let source = format!("file:{pin}");
        let line = ["sign", "--keyset", keyset, "--pin-source", &source, "--in", "message.txt", "--out", "signed.p7m"];
        let _ = std::fs::remove_file(machine.file("signed.p7m"));
        asked.user.tokenkeep(&line)
    };
    // The command must supply the PIN. Where no PIN is needed, none is tried: a wrong one is
    // harmless.
    sign("easy", "pin").ok();
    sign("easy", "wrong.pin").ok();
    assert!(asked.signs("easy", "one"), "the log-in is not the command's own");
    sign("middle", "pin").ok();
    asked.will(&["yes", "no"]);
    sign("middle", "wrong.pin").ok();
    sign("middle", "pin").fails_with(4).says("declined");
    assert!(!machine.file("signed.p7m").exists());
    let questions = asked.questions();
    assert_eq!(questions.len(), 2, "{questions:?}");
    for question in &questions {
        assert!(question.starts_with("confirm\n") && question.contains("middle"), "{question}");
    }
    sign("strict", "pin").ok();
    sign("strict", "wrong.pin").fails_with(4).says("wrong");
    assert_eq!(asked.asked_for(), [""; 0]);
}

#[test]
fn an_idle_session_ends() {
    let mut asked = PromptedUser::with(TokenKind::SoftHsm, &[("easy", "low")]);
    asked.start("idle_timeout = \"2s\"");
    asked.will(&[PIN, PIN]);
    assert!(asked.signs("easy", "one"));
    assert!(asked.signs("easy", "two"));
    assert_eq!(asked.asked_for(), ["pin"]);
    std::thread::sleep(std::time::Duration::from_secs(5));
    assert!(asked.signs("easy", "three"));
    assert_eq!(asked.asked_for(), ["pin"]);
}

#[test]
fn fifty_clients_behind_one_wrong_pin_cost_one_try() {
    for level in ["low", "medium"] {
        let (asked, faulty) = counted(&[("shared", level)]);
        asked.offered();
        asked.will(&[WRONG]);
        let hold = asked.hold();
        let begin = |number: usize| (asked.begin_signing("shared", &format!("file{number}")), format!("file{number}"));
        let mut clients: Vec<(Child, String)> = vec![begin(0)];
        asked.until_asked(1);
        clients.extend((1..50).map(begin));
        std::thread::sleep(std::time::Duration::from_secs(2));
        faulty.forget();
        drop(hold);
        for (client, file) in clients {
            assert!(!asked.has_signed(client, &file), "{file} was signed");
        }
        assert_eq!(asked.asked_for(), ["pin"], "one prompt");
        assert_eq!(faulty.calls(), ["C_Login user CKR_PIN_INCORRECT"], "one try");
        // The right PIN works, and the wrong one has no later effect.
        asked.will(&[PIN]);
        assert!(asked.signs("shared", "afterwards"));
    }
}

#[test]
fn a_wrong_pin_costs_one_try_at_every_level_and_no_pin_none() {
    for level in ["high", "medium", "low"] {
        let (asked, faulty) = counted(&[("x", level)]);
        asked.will(&["no"]);
        assert!(!asked.signs("x", "cancelled"));
        assert_eq!(faulty.calls(), [""; 0], "{level}: a prompt that was cancelled cost something");
        asked.will(&[WRONG]);
        assert!(!asked.signs("x", "wrong"));
        assert_eq!(faulty.wrong_tries(), 1, "{level}: {:?}", faulty.calls());
        assert_eq!(faulty.calls().len(), 1, "{level}: {:?}", faulty.calls());
        assert_eq!(asked.asked_for(), ["pin", "pin"], "{level}");
    }
}

#[test]
fn declining_the_last_try_after_a_warning_tries_nothing() {
    let (mut asked, faulty, allow) = with_faults(&[("x", "low")]);
    asked.start_typed(&allow);
    asked.offered();
    faulty.set_faults("flags FINAL_TRY\n");
    asked.will(&["no"]);
    assert!(!asked.signs("x", "one"));
    let questions = asked.questions();
    assert_eq!(questions.len(), 1, "{questions:?}");
    assert!(questions[0].starts_with("confirm\n") && questions[0].contains("locks"), "{}", questions[0]);
    assert_eq!(faulty.calls(), [""; 0]);
    asked.will(&["yes", PIN]);
    assert!(asked.signs("x", "two"));
    assert_eq!(asked.asked_for(), ["confirm", "pin"]);
    assert_eq!(faulty.calls(), ["C_Login user CKR_OK"]);
    // The agent does not even ask for a locked PIN.
    asked.ssh("ssh-add", &["-D"], b"").ok();
    faulty.set_faults("flags LOCKED\n");
    assert!(!asked.signs("x", "three"));
    assert_eq!(asked.asked_for(), [""; 0]);
}

#[test]
fn the_log_contains_no_pin() {
    let asked = asked(&[("x", "low")]);
    asked.will(&[WRONG, PIN]);
    assert!(!asked.signs("x", "one"));
    assert!(asked.signs("x", "two"));
    let log = asked.agent().log();
    assert!(!log.contains(PIN) && !log.contains(WRONG), "{log}");
}
