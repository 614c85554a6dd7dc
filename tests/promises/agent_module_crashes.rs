//! All modules share the agent's worker. A module that crashes ends the worker, which restarts and
//! names the module; one that keeps crashing, or that crashes while it is loaded, is left out.

use std::time::{Duration, Instant};

use crate::support::agent::{wait_for, workers_of};
use crate::support::faulty_module::{self, FaultyModule};
use crate::support::kryoptic;
use crate::support::machine::TokenKind;
use crate::support::output::Output;
use crate::support::prompted_user::PromptedUser;
use crate::support::shared_authority::TestUser;

const PIN: &str = TestUser::PIN;

/// A user with keysets on SoftHSM, whose module may have faults, and others on Kryoptic. The agent
/// runs.
fn with_two_modules(faulty: &[(&str, &str)], others: &[(&str, &str)]) -> (PromptedUser, FaultyModule) {
    let (mut prompted, module) = not_started(faulty, others);
    prompted.start("");
    (prompted, module)
}

fn not_started(faulty: &[(&str, &str)], others: &[(&str, &str)]) -> (PromptedUser, FaultyModule) {
    let mut prompted = PromptedUser::with(TokenKind::SoftHsm, faulty);
    let kryoptic = kryoptic::module().display().to_string();
    for (name, level) in others {
        prompted.enroll(name, level, &["--module", &kryoptic]);
    }
    let module = FaultyModule::wrap_module_of(&mut prompted.user.machine);
    let both = format!("modules = [\"{kryoptic}\", \"{}\"]\n", faulty_module::module().display());
    let allowed = format!("allow = [\"{}\"]\n", prompted.user.machine.path().display());
    prompted.user.machine.write("config/tokenkeep/agent.toml", format!("{both}{allowed}"));
    (prompted, module)
}

fn tokenkeep(prompted: &PromptedUser, arguments: &[&str]) -> Output {
    prompted.user.tokenkeep(arguments)
}

fn offers(prompted: &PromptedUser, keyset: &str) -> bool {
    prompted.offered_keys().contains(&format!(" {keyset} "))
}

fn worker(prompted: &PromptedUser) -> u32 {
    let workers =
        wait_for("a worker", || Some(workers_of(prompted.agent().id())).filter(|workers| !workers.is_empty()));
    assert_eq!(workers.len(), 1, "one worker serves all modules");
    workers[0]
}

#[test]
fn a_crash_restarts_the_worker_and_names_the_module() {
    for (function, signs_first) in [("C_Login", false), ("C_Sign", true)] {
        let (prompted, faulty) = with_two_modules(&[("soft", "low")], &[("other", "low")]);
        for keyset in ["soft", "other"].into_iter().filter(|keyset| signs_first || *keyset == "other") {
            prompted.set_answers(&[PIN]);
            assert!(prompted.signs(keyset, "one"), "{keyset}: {}", prompted.agent().log());
        }
        prompted.questions();
        let first = worker(&prompted);
        faulty.reset_calls();
        faulty.set_faults(&format!("die {function}\n"));
        if !signs_first {
            prompted.set_answers(&[PIN]);
        }
        assert!(!prompted.signs("soft", "two"), "the module should have crashed");
        let crashed = Instant::now();
        faulty.clear_faults();
        wait_for("another worker", || (worker(&prompted) != first).then_some(()));
        wait_for("its keysets are back", || (offers(&prompted, "soft") && offers(&prompted, "other")).then_some(()));
        assert_eq!(faulty.calls(), [""; 0], "a PIN was tried again");
        // The restart takes a fraction of a second; a machine that tests share is slower.
        assert!(crashed.elapsed() < Duration::from_secs(10), "{:?}", crashed.elapsed());
        let log = prompted.agent().log();
        // The other module may have been polled at that moment.
        let named = log.lines().any(|line| line.contains("while it called ") && line.contains("libfaulty_pkcs11.so"));
        assert!(named, "{log}");
        assert!(!log.contains("is wrong"), "{log}");
        prompted.questions();
        // Every session asks again, and no PIN counts as wrong.
        for keyset in ["soft", "other"] {
            prompted.set_answers(&[PIN]);
            assert!(prompted.signs(keyset, "three"), "{keyset}: {}", prompted.agent().log());
            assert_eq!(prompted.question_kinds(), ["pin"], "{keyset}");
        }
    }
}

#[test]
fn a_module_that_keeps_crashing_is_left_out_until_a_restart() {
    let (mut prompted, faulty) = with_two_modules(&[("soft", "high")], &[("other", "low")]);
    let left_out = "libfaulty_pkcs11.so crashed the worker 3 times in ten minutes: it is left out";
    // A crash while the other module is polled counts for neither.
    for crash in 1..=8 {
        wait_for("its keysets are offered", || offers(&prompted, "soft").then_some(()));
        let before = worker(&prompted);
        faulty.set_faults("die C_Sign\n");
        prompted.set_answers(&[PIN]);
        assert!(!prompted.signs("soft", &format!("crash-{crash}")), "the module should have crashed");
        faulty.clear_faults();
        wait_for("another worker", || (worker(&prompted) != before).then_some(()));
        if prompted.agent().log().contains(left_out) {
            assert!(crash >= 3, "it was left out after {crash}");
            break;
        }
    }
    wait_for("the other module is offered", || offers(&prompted, "other").then_some(()));
    assert!(!offers(&prompted, "soft"), "it is still loaded: {}", prompted.agent().log());
    prompted.questions();
    prompted.set_answers(&[PIN]);
    assert!(prompted.signs("other", "goes-on"), "{}", prompted.agent().log());
    assert!(prompted.agent().log().contains(left_out), "{}", prompted.agent().log());
    tokenkeep(&prompted, &["keysets"]).ok().says("other").says("three times").says("doctor");
    prompted.user.machine.write("one", "one");
    let sign = ["sign", "--pin-source", "file:pin", "--in", "one", "--out", "one.p7m"];
    tokenkeep(&prompted, &[&sign[..], &["--keyset", "soft"]].concat()).fails_with(3).says("three times");
    // The keyset that is left does not stand in for one that may be meant.
    tokenkeep(&prompted, &sign).fails_with(3).says("three times").says("name the keyset, token or module");
    tokenkeep(&prompted, &["pin", "status"]).ok().says("other").says("three times");
    let letter = prompted.letter("new", "low");
    let enroll = ["enroll", "--letter", &letter, "--keyset", "new", "--new-token", "--new-pin-source", "file:pin"];
    tokenkeep(&prompted, &enroll).says("three times").fails_with(3);
    let unblock = ["pin", "unblock", "--so-pin-source", "file:pin", "--new-pin-source", "file:pin"];
    tokenkeep(&prompted, &unblock).fails_with(3).says("three times");
    tokenkeep(&prompted, &[&sign[..], &["--keyset", "other"]].concat()).ok();
    // The next agent tries again.
    prompted.restart();
    assert!(offers(&prompted, "soft") && offers(&prompted, "other"));
}

#[test]
fn a_module_that_crashes_while_loading_is_named_and_left_out() {
    let (mut prompted, faulty) = not_started(&[("soft", "low")], &[("other", "low")]);
    faulty.set_faults("die C_Initialize\n");
    prompted.start("");
    assert!(offers(&prompted, "other") && !offers(&prompted, "soft"));
    prompted.set_answers(&[PIN]);
    assert!(prompted.signs("other", "one"), "{}", prompted.agent().log());
    tokenkeep(&prompted, &["keysets"]).ok().says("other");
    // The module was tried in a separate process, and is not loaded.
    let log = prompted.agent().log();
    assert!(log.contains("libfaulty_pkcs11.so: it ends the program that loads it"), "{log}");
}

#[test]
fn a_module_that_hangs_delays_no_other() {
    let (prompted, faulty) = with_two_modules(&[("soft", "low")], &[("other", "low")]);
    for keyset in ["soft", "other"] {
        prompted.set_answers(&[PIN]);
        assert!(prompted.signs(keyset, "one"));
    }
    faulty.set_faults("delay C_Sign 100000ms\n");
    let began = Instant::now();
    let mut hanging = prompted.begin_signing("soft", "two");
    for file in ["two-of-other", "three-of-other"] {
        assert!(prompted.signs("other", file), "{}", prompted.agent().log());
    }
    tokenkeep(&prompted, &["keysets"]).ok().says("other");
    assert!(began.elapsed() < Duration::from_mins(1), "the other module waited: {:?}", began.elapsed());
    assert!(hanging.try_wait().unwrap().is_none(), "it was to hang");
    hanging.kill().unwrap();
    hanging.wait().unwrap();
    assert!(prompted.signs("other", "four"), "{}", prompted.agent().log());
}

#[test]
fn isolate_in_agent_toml_is_ignored_with_a_warning() {
    let (mut prompted, _) = not_started(&[("soft", "low")], &[("other", "low")]);
    let configuration = prompted.user.machine.read_text("config/tokenkeep/agent.toml");
    let module = format!("\"{}\"", faulty_module::module().display());
    let isolated = configuration.replace(&module, &format!("{{ path = {module}, isolate = true }}"));
    prompted.user.machine.write("config/tokenkeep/agent.toml", isolated);
    prompted.start("");
    assert!(offers(&prompted, "soft") && offers(&prompted, "other"));
    worker(&prompted);
    let log = prompted.agent().log();
    assert!(log.contains("`isolate` has no effect on the module") && log.contains("libfaulty_pkcs11.so"), "{log}");
}

#[test]
fn a_new_token_needs_a_module_if_several_can_make_one() {
    let (prompted, _) = with_two_modules(&[("soft", "low")], &[("other", "low")]);
    let path = faulty_module::module().display().to_string();
    let letter = prompted.user.machine.file("one").display().to_string();
    let issue =
        ["issue", &format!("one.{}", prompted.user.email), "--name", "Example, Somebody", "--letter-out", &letter];
    prompted.user.authority.admin(&issue).ok();
    let enroll = |name: &str, more: &str| {
        let line = ["enroll", "--letter", "one", "--keyset", name, "--level", "high", "--new-pin-source", "file:pin"];
        tokenkeep(&prompted, &[&line[..], &[more]].concat())
    };
    let anywhere = enroll("new", "--new-token");
    anywhere.says("cannot tell which module").says("libfaulty_pkcs11.so").says("kryoptic").fails_with(5);
    // A name that the other module has is taken, and the letter is still valid.
    enroll("other", &format!("--new-token={path}")).says("taken").fails_with(5);
    enroll("new", &format!("--new-token={path}")).ok();
    assert!(offers(&prompted, "new"), "{}", prompted.agent().log());
}

#[test]
fn the_same_name_in_two_modules_is_refused_with_both_tokens() {
    let (mut prompted, faulty) = not_started(&[("same", "low")], &[]);
    let kryoptic = kryoptic::module().display().to_string();
    prompted.user.machine.write("m", "a message\n");
    // With another address, since the authority knows this one already.
    let letter = prompted.user.machine.file("b.letter").display().to_string();
    let issue = ["issue", &format!("b.{}", prompted.user.email), "--name", "B", "--letter-out", &letter];
    prompted.user.authority.admin(&issue).ok();
    let enroll = ["enroll", "--letter", "b.letter", "--keyset", "same", "--level", "low", "--module", &kryoptic];
    tokenkeep(&prompted, &[&enroll[..], &["--new-token", "--new-pin-source", "file:pin"]].concat()).ok();
    prompted.start("");
    let sign = ["sign", "--keyset", "same", "--pin-source", "file:pin", "--in", "m"];
    let both =
        || tokenkeep(&prompted, &["keysets"]).ok().out().lines().filter(|line| line.starts_with("same ")).count() == 2;
    wait_for("the keysets of both modules are listed", || both().then_some(()));
    tokenkeep(&prompted, &sign).says("cannot tell which keyset is meant").says("--token SERIAL").fails_with(5);
    assert!(faulty.calls().is_empty(), "a PIN was tried");
}
