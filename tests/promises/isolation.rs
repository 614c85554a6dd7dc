//! A module with `isolate = true` has its own worker: its keysets are used like any others, and if
//! it crashes or hangs, the tokens, sessions and connections of other modules are not affected.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::process::{Pid, Signal, kill_process};

use crate::support::agent::{is_alive, wait_for, workers_of};
use crate::support::faulty_module::{self, FaultyModule};
use crate::support::kryoptic;
use crate::support::machine::{TokenKind, run};
use crate::support::output::Output;
use crate::support::prompted_user::PromptedUser;
use crate::support::shared_authority::TestUser;

const PIN: &str = TestUser::PIN;
const WRONG: &str = TestUser::WRONG_PIN;

/// A user with keysets on SoftHSM, whose module is isolated and may have faults, and with others on
/// Kryoptic, whose module is not.
fn start_both(isolated: &[(&str, &str)], others: &[(&str, &str)]) -> (PromptedUser, FaultyModule) {
    let (mut prompted, faulty) = prepare_both(isolated, others);
    prompted.start(&file_permissions(&prompted));
    (prompted, faulty)
}

fn prepare_both(isolated: &[(&str, &str)], others: &[(&str, &str)]) -> (PromptedUser, FaultyModule) {
    let mut prompted = PromptedUser::with(TokenKind::SoftHsm, isolated);
    let kryoptic = kryoptic::module().display().to_string();
    for (name, level) in others {
        prompted.enroll(name, level, &["--module", &kryoptic]);
    }
    let faulty = FaultyModule::wrap_module_of(&mut prompted.user.machine);
    let isolated = format!("{{ path = \"{}\", isolate = true }}", faulty_module::module().display());
    prompted.user.machine.write("config/tokenkeep/agent.toml", format!("modules = [\"{kryoptic}\", {isolated}]\n"));
    (prompted, faulty)
}

/// The line that allows the faulty module to use its own files.
fn file_permissions(prompted: &PromptedUser) -> String {
    format!("allow = [\"{}\"]", prompted.user.machine.path().display())
}

fn tokenkeep(prompted: &PromptedUser, arguments: &[&str]) -> Output {
    prompted.user.tokenkeep(arguments)
}

fn offers(prompted: &PromptedUser, keyset: &str) -> bool {
    prompted.offered_keys().contains(&format!(" {keyset} "))
}

/// The module worker that has loaded the isolated module.
fn module_worker(prompted: &PromptedUser) -> u32 {
    wait_for("the isolated module's worker", || {
        workers_of(prompted.agent().id()).into_iter().find(|id| {
            fs::read(format!("/proc/{id}/cmdline"))
                .is_ok_and(|line| line.split(|byte| *byte == 0).any(|word| word == b"--only"))
        })
    })
}

/// Runs `ssh-add`, which gets this input at its own prompt.
fn ssh_add(prompted: &PromptedUser, typed: &str, arguments: &[&str]) -> Output {
    let machine = &prompted.user.machine;
    let askpass = machine.write("bin/askpass", format!("#!/bin/sh\necho '{typed}'\n"));
    fs::set_permissions(&askpass, fs::Permissions::from_mode(0o700)).unwrap();
    let mut command = machine.command("ssh-add");
    command.args(arguments).env("SSH_AUTH_SOCK", prompted.agent().ssh_socket());
    command.env("SSH_ASKPASS", askpass).env("SSH_ASKPASS_REQUIRE", "force");
    run(command, b"")
}

/// Runs curl on the agent's API; returns the response body.
fn curl(prompted: &PromptedUser, path: &str, body: Option<&str>) -> String {
    let socket = prompted.agent().api_socket().display().to_string();
    let url = format!("http://agent{path}");
    let mut line = vec!["-s", "-S", "--max-time", "60", "--unix-socket", &socket, &url];
    line.extend(body.iter().flat_map(|body| ["-H", "Content-Type: application/json", "--data-binary", body]));
    prompted.user.machine.run("curl", &line, b"").ok().out()
}

fn kill(process: u32) {
    kill_process(Pid::from_raw(process.try_into().unwrap()).unwrap(), Signal::KILL).unwrap();
}

#[test]
fn keysets_of_an_isolated_module_are_used_like_any_other() {
    let (prompted, _) = start_both(&[("soft", "high"), ("still", "low")], &[("other", "low")]);
    let machine = &prompted.user.machine;
    for keyset in ["soft", "still", "other"] {
        assert!(offers(&prompted, keyset), "{}", prompted.agent().log());
        prompted.set_answers(&[PIN]);
        assert!(prompted.signs(keyset, "one"), "{keyset}: {}", prompted.agent().log());
        assert_eq!(prompted.question_kinds(), ["pin"], "{keyset}");
    }
    // A session is active at low, and none at high.
    assert!(prompted.signs("still", "two"));
    assert_eq!(prompted.question_kinds(), Vec::<String>::new());
    prompted.set_answers(&[PIN]);
    assert!(prompted.signs("soft", "two"));
    assert_eq!(prompted.question_kinds(), ["pin"]);

    // Commands reach it through the agent: with its own PIN, its own confirmation, its own
    // refusals.
    tokenkeep(&prompted, &["keysets"]).ok().says("soft").says("still").says("other");
    tokenkeep(&prompted, &["tokens"]).ok().says("soft").says("other");
    tokenkeep(&prompted, &["pin", "status"]).ok().says("soft").says("other");
    machine.write("message.txt", "a message\n");
    let sign = ["sign", "--keyset", "soft", "--pin-source", "file:pin", "--in", "message.txt", "--out", "signed.p7m"];
    tokenkeep(&prompted, &sign).ok();
    tokenkeep(&prompted, &["verify", "--in", "signed.p7m"]).ok().says("a message");
    let email = prompted.address("soft");
    tokenkeep(&prompted, &["encrypt", "--to", &email, "--in", "message.txt", "--out", "secret.p7m"]).ok();
    tokenkeep(&prompted, &["decrypt", "--pin-source", "file:pin", "--in", "secret.p7m"]).ok().says("a message");
    machine.write_secret("wrong", WRONG);
    let wrong = ["decrypt", "--pin-source", "file:wrong", "--in", "secret.p7m"];
    assert_eq!(tokenkeep(&prompted, &wrong).says("is wrong").code(), 4);
    machine.write_secret("pin2", "another-pin-4711");
    let change = ["pin", "change", "--keyset", "soft", "--pin-source", "file:pin", "--new-pin-source", "file:pin2"];
    tokenkeep(&prompted, &change).ok();
    prompted.set_answers(&[PIN]);
    assert!(!prompted.signs("soft", "three"), "the old PIN is taken");
    prompted.set_answers(&["another-pin-4711"]);
    assert!(prompted.signs("soft", "three"), "{}", prompted.agent().log());
    prompted.questions();

    let delete = ["keyset", "delete", "soft", "--pin-source", "file:pin2", "--yes"];
    tokenkeep(&prompted, &delete).ok();
    assert!(!offers(&prompted, "soft") && offers(&prompted, "other"));
}

#[test]
fn enrollment_and_the_api_reach_an_isolated_module() {
    let (prompted, _) = start_both(&[("soft", "low")], &[("other", "low")]);
    let machine = &prompted.user.machine;
    // A new token in this module, and the same keyset enrolled again.
    let path = faulty_module::module().display().to_string();
    let issue = |letter: &str| {
        let email = format!("new.{letter}.{}", prompted.user.email);
        let letter = machine.file(letter).display().to_string();
        let line = ["issue", &email, "--name", "Example, Somebody", "--letter-out", &letter];
        prompted.user.authority.admin(&line).ok();
    };
    issue("one");
    let enroll = ["enroll", "--letter", "one", "--keyset", "new", "--level", "high", "--new-pin-source", "file:pin"];
    let anywhere = tokenkeep(&prompted, &[&enroll[..], &["--new-token"]].concat());
    anywhere.says("cannot tell which module").says("libfaulty_pkcs11.so").says("kryoptic").fails_with(5);
    tokenkeep(&prompted, &[&enroll[..], &[&format!("--new-token={path}")]].concat()).ok();
    assert!(offers(&prompted, "new"), "{}", prompted.agent().log());
    let again = ["enroll", "--letter", "one", "--keyset", "new", "--pin-source", "file:pin"];
    assert_eq!(tokenkeep(&prompted, &again).code(), 5, "the letter is used");
    // A name that the other module has is taken, and the letter is still valid.
    issue("two");
    let taken = |name: &'static str| {
        let line = ["enroll", "--letter", "two", "--keyset", name, "--level", "high", "--new-pin-source", "file:pin"];
        tokenkeep(&prompted, &[&line[..], &[&format!("--new-token={path}")]].concat())
    };
    taken("other").says("taken").fails_with(5);
    taken("another").ok();

    assert!(curl(&prompted, "/v1/keysets", None).contains("\"soft\""));
    let public = curl(&prompted, "/v1/public-keys", None);
    assert!(public.contains("\"soft\"") && public.contains("\"new\"") && public.contains("\"other\""), "{public}");
    prompted.set_answers(&[PIN]);
    let signed = curl(&prompted, "/v1/sign", Some("{\"keyset\":\"soft\",\"content\":\"aGVsbG8=\"}"));
    let signed: serde_json::Value = serde_json::from_str(&signed).unwrap();
    let signed = STANDARD.decode(signed["cms"].as_str().unwrap_or_else(|| panic!("{signed}"))).unwrap();
    machine.write("signed.der", signed);
    machine
        .run("openssl", &["cms", "-verify", "-noverify", "-inform", "DER", "-in", "signed.der"], b"")
        .ok()
        .says("hello");
    assert_eq!(prompted.question_kinds(), ["pin"]);
    assert!(curl(&prompted, "/v1/tokens", None).contains("\"logged_in\":true"));
    let log_off = curl(&prompted, "/v1/log-off", Some("{}"));
    assert_eq!(log_off, "{\"ended\":1}");
    assert!(!curl(&prompted, "/v1/tokens", None).contains("\"logged_in\":true"));

    // Decryption at level high: the agent's own prompter asks, and names the keyset.
    machine.write("message.txt", "a message\n");
    tokenkeep(
        &prompted,
        &[
            "encrypt",
            "--to",
            &format!("new.one.{}", prompted.user.email),
            "--in",
            "message.txt",
            "--out",
            "m.der",
            "--format",
            "der",
        ],
    )
    .ok();
    let message = STANDARD.encode(machine.read("m.der"));
    prompted.set_answers(&[PIN]);
    let opened = curl(&prompted, "/v1/decrypt", Some(&format!("{{\"message\":\"{message}\"}}")));
    assert!(opened.contains(&STANDARD.encode("a message")[..8]), "{opened}");
    let questions = prompted.questions();
    assert!(questions.len() == 1 && questions[0].contains("Keyset: new (level high)"), "{questions:?}");
}

#[test]
fn a_module_crash_ends_only_its_own_sessions() {
    let (prompted, faulty) = start_both(&[("soft", "low")], &[("other", "low")]);
    for keyset in ["soft", "other"] {
        prompted.set_answers(&[PIN]);
        assert!(prompted.signs(keyset, "one"), "{keyset}: {}", prompted.agent().log());
    }
    prompted.questions();
    let (first, workers) = (module_worker(&prompted), workers_of(prompted.agent().id()));
    assert_eq!(workers.len(), 2);
    // A connection that stays open, and has asked for a key of the other module before.
    let mut events = prompted.user.machine.command("curl");
    let socket = prompted.agent().api_socket();
    events.args(["-s", "-N", "--max-time", "60", "--unix-socket"]).arg(socket).arg("http://agent/v1/events");
    let mut events = events.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(events.stdout.take().unwrap()).lines().map_while(Result::ok);
    lines.find(|line| line == ": listening").unwrap();

    faulty.set_faults("die C_Sign\n");
    assert!(!prompted.signs("soft", "two"), "the module did not crash");
    let log = prompted.agent().log();
    assert!(log.contains("the worker of the module") && !log.contains("is wrong"), "{log}");
    // While the worker is down: a request for its keyset, or for no named keyset, is refused, and
    // no session ends.
    faulty.set_faults("die C_Initialize\n");
    wait_for("the keyset is no longer offered", || (!offers(&prompted, "soft")).then_some(()));
    prompted.user.machine.write("m", "a message\n");
    for named in [&["--keyset", "soft"][..], &[]] {
        let sign = [&["sign", "--pin-source", "file:pin", "--in", "m", "--out", "m.p7m"][..], named].concat();
        tokenkeep(&prompted, &sign).says("its worker is starting").fails_with(3);
    }
    assert!(prompted.signs("other", "one-more"), "{}", prompted.agent().log());
    faulty.clear_faults();
    let second = wait_for("another worker", || Some(module_worker(&prompted)).filter(|second| *second != first));
    assert!(!is_alive(first) && workers.iter().all(|id| *id == first || is_alive(*id)), "{second}: {workers:?}");
    // The other module's session is still active; this module asks again, and both continue.
    assert!(prompted.signs("other", "two"), "{}", prompted.agent().log());
    assert_eq!(prompted.question_kinds(), Vec::<String>::new(), "a session of the other module has ended");
    wait_for("its keysets are back", || offers(&prompted, "soft").then_some(()));
    prompted.set_answers(&[PIN]);
    assert!(prompted.signs("soft", "three"), "{}", prompted.agent().log());
    assert_eq!(prompted.question_kinds(), ["pin"]);
    assert_eq!(faulty.wrong_tries(), 0);

    // A listener on the earlier connection has received the event.
    let mut seen_lines = Vec::new();
    for wanted in ["event: logged-off", "event: removed", "event: inserted", "event: logged-in"] {
        let found = lines.find(|line| {
            seen_lines.push(line.clone());
            line == wanted
        });
        assert!(found.is_some(), "{wanted} is missing: {seen_lines:?}");
    }
    events.kill().unwrap();
    events.wait().unwrap();
}

#[test]
fn requests_during_a_restart_are_served_by_the_next_worker() {
    let (prompted, faulty) = start_both(&[("soft", "high")], &[]);
    assert!(offers(&prompted, "soft"));
    let first = module_worker(&prompted);
    prompted.set_answers(&[PIN]);
    let hold = prompted.hold_prompts();
    let signing = prompted.begin_signing("soft", "during");
    prompted.wait_for_questions(1);
    kill(first);
    wait_for("another worker", || Some(module_worker(&prompted)).filter(|second| *second != first));
    drop(hold);
    assert!(!prompted.finish_signing(signing, "during"), "it was signed without a PIN for the new worker");
    // A PIN typed for the first use is discarded: it was not tried.
    assert_eq!(faulty.calls(), Vec::<String>::new());
    wait_for("its keysets are back", || offers(&prompted, "soft").then_some(()));
    prompted.set_answers(&[PIN]);
    assert!(prompted.signs("soft", "afterwards"), "{}", prompted.agent().log());
}

#[test]
fn a_hung_isolated_module_delays_no_other() {
    let (prompted, faulty) = start_both(&[("soft", "low")], &[("other", "low")]);
    for keyset in ["soft", "other"] {
        prompted.set_answers(&[PIN]);
        assert!(prompted.signs(keyset, "one"));
    }
    faulty.set_faults("delay C_Sign 100000ms\n");
    let mut hanging = prompted.begin_signing("soft", "two");
    for file in ["two-of-other", "three-of-other"] {
        assert!(prompted.signs("other", file), "{}", prompted.agent().log());
    }
    tokenkeep(&prompted, &["keysets"]).ok().says("other");
    assert!(hanging.try_wait().unwrap().is_none(), "it was to hang");
    kill(module_worker(&prompted));
    assert!(!prompted.finish_signing(hanging, "two"));
    assert!(prompted.signs("other", "four"));
}

#[test]
fn the_agent_serves_without_a_module_that_crashes_at_startup() {
    let (mut prompted, faulty) = prepare_both(&[("soft", "low")], &[("other", "low")]);
    faulty.set_faults("die C_Initialize\n");
    let file_permissions = file_permissions(&prompted);
    prompted.start(&file_permissions);
    assert!(offers(&prompted, "other") && !offers(&prompted, "soft"));
    prompted.set_answers(&[PIN]);
    assert!(prompted.signs("other", "one"), "{}", prompted.agent().log());
    tokenkeep(&prompted, &["keysets"]).ok().says("other");
    // The module was tried in a separate process, and is not loaded.
    let log = prompted.agent().log();
    assert!(log.contains("libfaulty_pkcs11.so: it ends the program that loads it"), "{log}");
    // A changed module or configuration is tried again, also by an agent at its start.
    faulty.clear_faults();
}

#[test]
fn a_prompt_names_the_program_and_its_purpose() {
    let (prompted, _) = start_both(&[("soft", "medium")], &[]);
    prompted.set_answers(&[PIN, "yes", "no"]);
    assert!(prompted.signs("soft", "one"));
    assert!(prompted.signs("soft", "two"));
    assert!(!prompted.signs("soft", "three"), "the person said no");
    let questions = prompted.questions();
    let kinds: Vec<_> = questions.iter().filter_map(|question| question.lines().next()).collect();
    assert_eq!(kinds, ["pin", "confirm", "confirm"]);
    for (question, file) in questions.iter().zip(["one", "two", "three"]) {
        for part in ["ssh-keygen", &format!("\"namespace-of-{file}\""), "Keyset: soft (level medium)"] {
            assert!(question.contains(part), "{part}: {question}");
        }
    }
    // The same holds for a command without a terminal.
    tokenkeep(&prompted, &["agent", "log-off"]).ok();
    prompted.set_answers(&[PIN]);
    let sign = ["sign", "--keyset", "soft", "--in", "one", "--out", "one.p7m"];
    prompted.user.machine.tokenkeep_without_terminal(&sign).ok();
    let [question] = &prompted.questions()[..] else { panic!("one question") };
    for part in ["pin\n", "tokenkeep sign --keyset soft", "To sign content", "Keyset: soft (level medium)"] {
        assert!(question.contains(part), "{part}: {question}");
    }
}

#[test]
fn lock_and_log_off_reach_module_workers() {
    let (prompted, _) = start_both(&[("soft", "low")], &[("other", "low")]);
    let sign_both = |file: &str| ["soft", "other"].map(|keyset| prompted.signs(keyset, &format!("{file}-{keyset}")));
    prompted.set_answers(&[PIN, PIN]);
    assert_eq!(sign_both("one"), [true, true]);
    prompted.questions();
    // Locking ends sessions, hides the keys, and refuses operations; a waiting prompt gets no
    // result.
    ssh_add(&prompted, "a pass phrase", &["-x"]).ok();
    assert!(!offers(&prompted, "soft") && !offers(&prompted, "other"));
    assert_eq!(sign_both("two"), [false, false]);
    tokenkeep(&prompted, &["keysets"]).says("is locked").fails_with(5);
    assert_ne!(ssh_add(&prompted, "another", &["-X"]).code(), 0);
    ssh_add(&prompted, "a pass phrase", &["-X"]).ok();
    // Also during a use.
    prompted.set_answers(&[PIN]);
    let hold = prompted.hold_prompts();
    let signing = prompted.begin_signing("soft", "during");
    prompted.wait_for_questions(1);
    ssh_add(&prompted, "a pass phrase", &["-x"]).ok();
    drop(hold);
    assert!(!prompted.finish_signing(signing, "during"), "it was locked, and signed");
    prompted.questions();
    ssh_add(&prompted, "a pass phrase", &["-X"]).ok();
    assert_eq!(prompted.question_kinds(), Vec::<String>::new());
    prompted.set_answers(&[PIN, PIN]);
    assert_eq!(sign_both("three"), [true, true]);
    assert_eq!(prompted.question_kinds(), ["pin", "pin"], "a session outlived the lock");
    // ssh-add -D, agent log-off.
    for line in [&["ssh-add", "-D"][..], &["tokenkeep", "agent", "log-off"]] {
        prompted.ssh(line[0], &line[1..], b"").ok();
        prompted.set_answers(&[PIN, PIN]);
        assert_eq!(sign_both("four"), [true, true]);
        assert_eq!(prompted.question_kinds(), ["pin", "pin"], "{line:?}");
    }
    // A PIN from ssh-add, for a limited time.
    prompted.ssh("ssh-add", &["-D"], b"").ok();
    ssh_add(&prompted, PIN, &["-s", "soft", "-t", "1"]).ok();
    wait_for("its time is over", || {
        let tokens = curl(&prompted, "/v1/tokens", None);
        (!tokens.contains("\"logged_in\":true")).then_some(())
    });
    let wrong = ssh_add(&prompted, WRONG, &["-s", "soft"]);
    assert_ne!(wrong.code(), 0);
}

#[test]
fn the_same_name_in_two_modules_is_refused_with_both_tokens() {
    let (mut prompted, faulty) = prepare_both(&[("same", "low")], &[]);
    let kryoptic = kryoptic::module().display().to_string();
    prompted.user.machine.write("m", "a message\n");
    // With another address, since the authority knows this one already.
    let letter = prompted.user.machine.file("b.letter").display().to_string();
    let issue = ["issue", &format!("b.{}", prompted.user.email), "--name", "B", "--letter-out", &letter];
    prompted.user.authority.admin(&issue).ok();
    let enroll = ["enroll", "--letter", "b.letter", "--keyset", "same", "--level", "low", "--module", &kryoptic];
    tokenkeep(&prompted, &[&enroll[..], &["--new-token", "--new-pin-source", "file:pin"]].concat()).ok();
    let file_permissions = file_permissions(&prompted);
    prompted.start(&file_permissions);
    let sign = ["sign", "--keyset", "same", "--pin-source", "file:pin", "--in", "m"];
    let both =
        || tokenkeep(&prompted, &["keysets"]).ok().out().lines().filter(|line| line.starts_with("same ")).count() == 2;
    wait_for("both modules have reported their tokens", || both().then_some(()));
    tokenkeep(&prompted, &sign).says("cannot tell which keyset is meant").says("--token SERIAL").fails_with(5);
    assert!(faulty.calls().is_empty(), "a PIN was tried");
}

/// A module worker trusts its client, the worker, so no other process may reach it.
#[test]
fn only_the_worker_can_reach_a_module_worker() {
    let (prompted, _) = start_both(&[("soft", "low")], &[]);
    assert!(offers(&prompted, "soft"));
    let id = module_worker(&prompted);
    let sockets = fs::read_to_string("/proc/net/unix").unwrap();
    let own: Vec<String> = fs::read_dir(format!("/proc/{id}/fd"))
        .unwrap()
        .filter_map(|entry| fs::read_link(entry.unwrap().path()).ok()?.to_str().map(str::to_owned))
        .filter_map(|link| link.strip_prefix("socket:[")?.strip_suffix(']').map(str::to_owned))
        .collect();
    assert!(own.len() >= 2, "the link and the fd channel: {own:?}");
    for line in sockets.lines().skip(1) {
        // Num RefCount Protocol Flags Type St Inode Path
        let fields: Vec<&str> = line.split_whitespace().collect();
        if own.iter().any(|inode| Some(&inode.as_str()) == fields.get(6)) {
            assert_eq!(fields.get(7), None, "it has a name: {line}");
            assert_ne!(fields[3], "00010000", "it listens: {line}");
        }
    }
    assert!(prompted.agent().log().matches("the worker accepts connections").count() == 1);
    // It is sandboxed like the worker.
    let log = prompted.agent().log();
    assert!(log.contains("a module worker is ready"), "{log}");
}
