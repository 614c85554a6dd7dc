//! Security levels through the running agent, with `ssh-keygen` as the program that uses keys:
//! which prompts appear, what they say, in which order, and what one wrong PIN costs, counted at
//! the token.

use std::process::Child;

use crate::support::agent::Agent;
use crate::support::authority::Authority;
use crate::support::deployment::Deployment;
use crate::support::faulty_module::FaultyModule;
use crate::support::machine::{Machine, TokenKind};
use crate::support::prompted_user::PromptedUser;
use crate::support::shared_authority::TestUser;

const PIN: &str = TestUser::PIN;
const WRONG: &str = TestUser::WRONG_PIN;

fn start_prompted_user(keysets: &[(&str, &str)]) -> PromptedUser {
    let mut prompted = PromptedUser::with(TokenKind::SoftHsm, keysets);
    prompted.start("");
    prompted
}

/// As above, with a count of every call that takes a PIN.
fn start_with_call_count(keysets: &[(&str, &str)]) -> (PromptedUser, FaultyModule) {
    let (mut prompted, faulty, allow) = start_with_faults(keysets);
    prompted.start(&allow);
    (prompted, faulty)
}

/// As above, with this line in `agent.toml` before the agent starts.
fn start_with_faults(keysets: &[(&str, &str)]) -> (PromptedUser, FaultyModule, String) {
    let mut prompted = PromptedUser::with(TokenKind::SoftHsm, keysets);
    let faulty = FaultyModule::wrap_module_of(&mut prompted.user.machine);
    let allow = format!("allow = [\"{}\"]", prompted.user.machine.path().display());
    (prompted, faulty, allow)
}

#[test]
fn level_high_prompts_for_every_use_and_states_its_purpose() {
    let prompted = start_prompted_user(&[("strict", "high")]);
    prompted.set_answers(&[PIN, PIN]);
    assert!(prompted.signs("strict", "one"));
    assert!(prompted.signs("strict", "two"));
    let questions = prompted.questions();
    assert_eq!(questions.len(), 2, "{questions:?}");
    let serial = serial_of(&prompted, "strict");
    for (question, file) in questions.iter().zip(["one", "two"]) {
        assert!(question.starts_with("pin\n"), "{question}");
        for part in ["ssh-keygen", &format!("namespace-of-{file}"), "strict", "level high", &serial] {
            assert!(question.contains(part), "{part} is missing:\n{question}");
        }
    }
}

fn serial_of(prompted: &PromptedUser, label: &str) -> String {
    let tokens = prompted.user.tokenkeep(&["token", "list", "--json"]).ok().json();
    let all = tokens.as_array().unwrap();
    all.iter().find(|token| token["label"] == label).unwrap()["serial"].as_str().unwrap().to_owned()
}

#[test]
fn concurrent_uses_get_one_prompt_each_in_order() {
    let prompted = start_prompted_user(&[("strict", "high")]);
    prompted.offered_keys();
    prompted.set_answers(&["no", PIN]);
    let hold = prompted.hold_prompts();
    let first = prompted.begin_signing("strict", "first");
    prompted.wait_for_questions(1);
    let second = prompted.begin_signing("strict", "second");
    // Only the missing prompt shows that the second request waits.
    std::thread::sleep(std::time::Duration::from_millis(500));
    drop(hold);
    assert!(!prompted.finish_signing(first, "first"), "its person said no");
    assert!(prompted.finish_signing(second, "second"));
    let questions = prompted.questions();
    assert_eq!(questions.len(), 2, "{questions:?}");
    assert!(questions[0].contains("namespace-of-first") && questions[1].contains("namespace-of-second"));
}

#[test]
fn level_medium_asks_for_the_pin_once_and_then_a_confirmation() {
    let prompted = start_prompted_user(&[("middle", "medium")]);
    prompted.set_answers(&[PIN, "yes", "no", "yes"]);
    assert!(prompted.signs("middle", "one"));
    assert!(prompted.signs("middle", "two"));
    assert!(!prompted.signs("middle", "three"), "the person said no");
    assert!(prompted.signs("middle", "four"));
    let questions = prompted.questions();
    let kinds: Vec<_> = questions.iter().map(|question| question.lines().next().unwrap()).collect();
    assert_eq!(kinds, ["pin", "confirm", "confirm", "confirm"]);
    assert!(questions[1].contains("namespace-of-two") && questions[1].contains("ssh-keygen"), "{}", questions[1]);
}

#[test]
fn level_low_asks_for_the_pin_once_until_log_off() {
    let prompted = start_prompted_user(&[("easy", "low")]);
    prompted.set_answers(&[PIN, PIN]);
    for file in ["one", "two", "three"] {
        assert!(prompted.signs("easy", file));
    }
    assert_eq!(prompted.question_kinds(), ["pin"]);
    prompted.ssh("ssh-add", &["-D"], b"").ok();
    assert!(prompted.signs("easy", "four"));
    assert_eq!(prompted.question_kinds(), ["pin"]);
}

#[test]
fn commands_use_the_active_session_and_the_agent_confirms() {
    let prompted = start_prompted_user(&[("strict", "high"), ("middle", "medium"), ("easy", "low")]);
    let machine = &prompted.user.machine;
    machine.write("message.txt", "a message\n");
    let sign = |keyset: &str, pin: &str| {
        let source = format!("file:{pin}");
        let line = ["sign", "--keyset", keyset, "--pin-source", &source, "--in", "message.txt", "--out", "signed.p7m"];
        let _ = std::fs::remove_file(machine.file("signed.p7m"));
        prompted.user.tokenkeep(&line)
    };
    // The command must supply the PIN. Where no PIN is needed, none is tried: a wrong one is
    // harmless.
    sign("easy", "pin").ok();
    sign("easy", "wrong.pin").ok();
    assert!(prompted.signs("easy", "one"), "the session did not outlive the command");
    sign("middle", "pin").ok();
    prompted.set_answers(&["yes", "no"]);
    sign("middle", "wrong.pin").ok();
    sign("middle", "pin").fails_with(4).says("declined");
    assert!(!machine.file("signed.p7m").exists());
    let questions = prompted.questions();
    assert_eq!(questions.len(), 2, "{questions:?}");
    for question in &questions {
        assert!(question.starts_with("confirm\n") && question.contains("middle"), "{question}");
    }
    sign("strict", "pin").ok();
    sign("strict", "wrong.pin").fails_with(4).says("wrong");
    assert_eq!(prompted.question_kinds(), [""; 0]);
}

#[test]
fn an_idle_session_ends() {
    let mut prompted = PromptedUser::with(TokenKind::SoftHsm, &[("easy", "low")]);
    prompted.start("idle_timeout = \"2s\"");
    prompted.set_answers(&[PIN, PIN]);
    assert!(prompted.signs("easy", "one"));
    assert!(prompted.signs("easy", "two"));
    assert_eq!(prompted.question_kinds(), ["pin"]);
    std::thread::sleep(std::time::Duration::from_secs(5));
    assert!(prompted.signs("easy", "three"));
    assert_eq!(prompted.question_kinds(), ["pin"]);
}

#[test]
fn fifty_clients_behind_one_wrong_pin_cost_one_try() {
    for level in ["low", "medium"] {
        let (prompted, faulty) = start_with_call_count(&[("shared", level)]);
        prompted.offered_keys();
        prompted.set_answers(&[WRONG]);
        let hold = prompted.hold_prompts();
        let begin =
            |number: usize| (prompted.begin_signing("shared", &format!("file{number}")), format!("file{number}"));
        let mut clients: Vec<(Child, String)> = vec![begin(0)];
        prompted.wait_for_questions(1);
        clients.extend((1..50).map(begin));
        std::thread::sleep(std::time::Duration::from_secs(2));
        faulty.reset_calls();
        drop(hold);
        for (client, file) in clients {
            assert!(!prompted.finish_signing(client, &file), "{file} was signed");
        }
        assert_eq!(prompted.question_kinds(), ["pin"], "one prompt");
        assert_eq!(faulty.calls(), ["C_Login user CKR_PIN_INCORRECT"], "one try");
        // The right PIN works, and the wrong one has no later effect.
        prompted.set_answers(&[PIN]);
        assert!(prompted.signs("shared", "afterwards"));
    }
}

#[test]
fn a_wrong_pin_costs_one_try_at_every_level_and_no_pin_none() {
    for level in ["high", "medium", "low"] {
        let (prompted, faulty) = start_with_call_count(&[("x", level)]);
        prompted.set_answers(&["no"]);
        assert!(!prompted.signs("x", "cancelled"));
        assert_eq!(faulty.calls(), [""; 0], "{level}: a prompt that was cancelled cost something");
        prompted.set_answers(&[WRONG]);
        assert!(!prompted.signs("x", "wrong"));
        assert_eq!(faulty.wrong_tries(), 1, "{level}: {:?}", faulty.calls());
        assert_eq!(faulty.calls().len(), 1, "{level}: {:?}", faulty.calls());
        assert_eq!(prompted.question_kinds(), ["pin", "pin"], "{level}");
    }
}

#[test]
fn declining_the_last_try_after_a_warning_tries_nothing() {
    let (mut prompted, faulty, allow) = start_with_faults(&[("x", "low")]);
    prompted.start_typed(&allow);
    prompted.offered_keys();
    faulty.set_faults("flags FINAL_TRY\n");
    prompted.set_answers(&["no"]);
    assert!(!prompted.signs("x", "one"));
    let questions = prompted.questions();
    assert_eq!(questions.len(), 1, "{questions:?}");
    assert!(questions[0].starts_with("confirm\n") && questions[0].contains("locks"), "{}", questions[0]);
    assert_eq!(faulty.calls(), [""; 0]);
    prompted.set_answers(&["yes", PIN]);
    assert!(prompted.signs("x", "two"));
    assert_eq!(prompted.question_kinds(), ["confirm", "pin"]);
    assert_eq!(faulty.calls(), ["C_Login user CKR_OK"]);
    // The agent does not even ask for a locked PIN.
    prompted.ssh("ssh-add", &["-D"], b"").ok();
    faulty.set_faults("flags LOCKED\n");
    assert!(!prompted.signs("x", "three"));
    assert_eq!(prompted.question_kinds(), [""; 0]);
}

#[test]
fn the_log_contains_no_pin() {
    let prompted = start_prompted_user(&[("x", "low")]);
    prompted.set_answers(&[WRONG, PIN]);
    assert!(!prompted.signs("x", "one"));
    assert!(prompted.signs("x", "two"));
    let log = prompted.agent().log();
    assert!(!log.contains(PIN) && !log.contains(WRONG), "{log}");
}

#[test]
fn a_statement_needs_the_pin_despite_an_active_session() {
    let machine = Machine::new();
    let mut authority = Authority::init(&machine);
    authority.serve(&machine);
    machine.write_secret("admin.pin", Deployment::ADMIN_PIN);
    machine.write_secret("wrong.pin", WRONG);
    let enroll = ["enroll", "--letter", "admin.letter", "--keyset", "admin", "--level", "low", "--new-token"];
    machine.tokenkeep(&[&enroll[..], &["--new-pin-source", "file:admin.pin"]].concat()).ok();
    machine.write("message.txt", "a message\n");
    Agent::configure_with_pin_in(&machine, "admin.pin", "");
    let _agent = Agent::start(&machine, &[]);

    // The first signature prompts and begins the session, the second uses it.
    for _ in 0..2 {
        machine.tokenkeep_without_terminal(&["sign", "message.txt", "--out", "signed.p7m"]).ok();
        machine.run("rm", &["signed.p7m"], b"").ok();
    }
    let questions = machine.read_text("questions");
    assert_eq!(questions.matches("---").count(), 1, "{questions}");

    let list = ["admin", "list", "--keyset", "admin"];
    machine.tokenkeep_without_terminal(&list).fails_with(4).says("there is no terminal");
    machine.tokenkeep(&[&list[..], &["--pin-source", "file:wrong.pin"]].concat()).fails_with(4).says("wrong");
    machine.tokenkeep(&[&list[..], &["--pin-source", "file:admin.pin"]].concat()).ok().says("admin@example.org");
    assert_eq!(machine.read_text("questions"), questions, "the agent's prompter gave the PIN");
}
