//! A module with `isolate = true` has a worker of its own: its keysets are used like any others, and when it crashes or
//! hangs, no other module's tokens, log-ins and connections are touched by it.

use std::fs;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::agent::{is_alive, wait_for, workers_of};
use crate::support::asked::Asked;
use crate::support::faulty::{self, Faulty};
use crate::support::kryoptic;
use crate::support::machine::TokenKind;
use crate::support::office::Somebody;
use crate::support::output::Output;
use crate::support::ssh::ssh_add;
use crate::support::wire;

const PIN: &str = Somebody::PIN;
const WRONG: &str = Somebody::WRONG_PIN;

/// Somebody with keysets on SoftHSM, whose module is isolated and may have faults, and others on Kryoptic, whose is not.
fn with_both(isolated: &[(&str, &str)], others: &[(&str, &str)]) -> (Asked, Faulty) {
    let (mut asked, faulty) = not_started(isolated, others);
    asked.start(&allowed(&asked));
    (asked, faulty)
}

fn not_started(isolated: &[(&str, &str)], others: &[(&str, &str)]) -> (Asked, Faulty) {
    let mut asked = Asked::with(TokenKind::SoftHsm, isolated);
    let kryoptic = kryoptic::module().display().to_string();
    for (name, level) in others {
        asked.enroll(name, level, &["--module", &kryoptic]);
    }
    let faulty = Faulty::in_front_of(&mut asked.somebody.machine);
    let isolated = format!("{{ path = \"{}\", isolate = true }}", faulty::module().display());
    asked.somebody.machine.write("config/tokenkeep/agent.toml", format!("modules = [\"{kryoptic}\", {isolated}]\n"));
    (asked, faulty)
}

/// The faulty module reads and writes files of its own.
fn allowed(asked: &Asked) -> String {
    format!("allow = [\"{}\"]", asked.somebody.machine.path().display())
}

fn tokenkeep(asked: &Asked, arguments: &[&str]) -> Output {
    asked.somebody.tokenkeep(arguments)
}

fn offers(asked: &Asked, keyset: &str) -> bool {
    asked.offered().contains(&format!(" {keyset} "))
}

/// The worker that has loaded the isolated module.
fn annex(asked: &Asked) -> u32 {
    wait_for("the isolated module's worker", || {
        workers_of(asked.agent().id()).into_iter().find(|id| {
            fs::read(format!("/proc/{id}/cmdline")).is_ok_and(|line| line.split(|byte| *byte == 0).any(|word| word == b"--only"))
        })
    })
}

fn kill(process: u32) {
    kill_process(Pid::from_raw(process.try_into().unwrap()).unwrap(), Signal::KILL).unwrap();
}

#[test]
fn its_keysets_are_listed_and_used_like_any_other() {
    let (asked, _) = with_both(&[("soft", "high"), ("still", "low")], &[("other", "low")]);
    let machine = &asked.somebody.machine;
    for keyset in ["soft", "still", "other"] {
        assert!(offers(&asked, keyset), "{}", asked.agent().log());
        asked.will(&[PIN]);
        assert!(asked.signs(keyset, "one"), "{keyset}: {}", asked.agent().log());
        assert_eq!(asked.asked_for(), ["pin"], "{keyset}");
    }
    // A log-in stands at Low, and none at High.
    assert!(asked.signs("still", "two"));
    assert_eq!(asked.asked_for(), Vec::<String>::new());
    asked.will(&[PIN]);
    assert!(asked.signs("soft", "two"));
    assert_eq!(asked.asked_for(), ["pin"]);

    // Commands go to it through the agent: with its own PIN, its own confirmation, its own refusals.
    tokenkeep(&asked, &["keysets"]).ok().says("soft").says("still").says("other");
    tokenkeep(&asked, &["tokens"]).ok().says("soft").says("other");
    tokenkeep(&asked, &["pin", "status"]).ok().says("soft").says("other");
    machine.write("message.txt", "a message\n");
    let sign = ["sign", "--keyset", "soft", "--pin-source", "file:pin", "--in", "message.txt", "--out", "signed.p7m"];
    tokenkeep(&asked, &sign).ok();
    tokenkeep(&asked, &["verify", "--in", "signed.p7m"]).ok().says("a message");
    let email = format!("soft.{}", asked.somebody.email);
    tokenkeep(&asked, &["encrypt", "--to", &email, "--in", "message.txt", "--out", "secret.p7m"]).ok();
    tokenkeep(&asked, &["decrypt", "--pin-source", "file:pin", "--in", "secret.p7m"]).ok().says("a message");
    machine.write_secret("wrong", WRONG);
    let wrong = ["decrypt", "--pin-source", "file:wrong", "--in", "secret.p7m"];
    assert_eq!(tokenkeep(&asked, &wrong).says("is wrong").code(), 4);
    machine.write_secret("pin2", "another-pin-4711");
    let change = ["pin", "change", "--keyset", "soft", "--pin-source", "file:pin", "--new-pin-source", "file:pin2"];
    tokenkeep(&asked, &change).ok();
    asked.will(&[PIN]);
    assert!(!asked.signs("soft", "three"), "the old PIN is taken");
    asked.will(&["another-pin-4711"]);
    assert!(asked.signs("soft", "three"), "{}", asked.agent().log());
    asked.questions();

    let delete = ["keyset", "delete", "soft", "--pin-source", "file:pin2", "--yes"];
    tokenkeep(&asked, &delete).ok();
    assert!(!offers(&asked, "soft") && offers(&asked, "other"));
}
