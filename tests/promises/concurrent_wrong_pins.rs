//! Wrong PINs from several programs at once, or unattended ones, never lock a token together: right
//! before each try a process that loads the module afresh reads the PIN's state, and unattended
//! tries are counted over all commands.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::support::agent::Agent;
use crate::support::faulty_module::FaultyModule;
use crate::support::machine::{TokenKind, softhsm_module};
use crate::support::output::Output;
use crate::support::prompting::{questions, sign_by_api, write_script};
use crate::support::shared_authority::TestUser;
use crate::support::terminal::Terminal;

const SIGN: [&str; 7] = ["sign", "--keyset", "default", "--in", "message.txt", "--out", "signed.p7m"];

fn user(kind: TokenKind) -> TestUser {
    let user = TestUser::with_keyset_on(kind);
    user.machine.write("message.txt", "a message\n");
    user
}

fn sign(user: &TestUser, pin: &str) -> Output {
    let source = format!("file:{pin}");
    let _ = fs::remove_file(user.machine.file("signed.p7m"));
    user.machine.tokenkeep_without_terminal(&[&SIGN[..], &["--pin-source", &source]].concat())
}

fn pin_state(user: &TestUser) -> String {
    let listed = user.tokenkeep(&["tokens", "--no-agent", "--json"]).ok().json();
    listed[0]["pin_state"].as_str().unwrap().to_owned()
}

/// Another program, with its own module, spends this many tries.
fn spend_tries_elsewhere(user: &TestUser, tries: usize) {
    let module = user.machine.module().display().to_string();
    let line = ["--module", &module, "--token-label", "default", "--login", "--pin", TestUser::WRONG_PIN, "-O"];
    for _ in 0..tries {
        let output = user.machine.run("pkcs11-tool", &line, b"");
        assert_ne!(output.code(), 0, "{output}");
    }
}

#[test]
fn twenty_concurrent_wrong_pins_do_not_lock_the_token() {
    let user = user(TokenKind::Kryoptic);
    let outcomes: Vec<Output> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..20).map(|_| scope.spawn(|| sign(&user, "wrong.pin"))).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let wrong = outcomes.iter().filter(|output| output.err().contains("is wrong")).count();
    assert_eq!(wrong, 3, "{}", outcomes.iter().map(ToString::to_string).collect::<String>());
    assert!(outcomes.iter().all(|output| output.code() != 0));
    sign(&user, "wrong.pin").fails_with(4).says("unattended sources").says("at a prompt");
    // The right PIN in a file is no exception: nothing shows that it is right.
    sign(&user, "pin").fails_with(4).says("nothing was tried");
    assert_eq!(pin_state(&user), "ok");
    let typed = |pin: &str| {
        let _ = fs::remove_file(user.machine.file("signed.p7m"));
        Terminal::tokenkeep(&user.machine, &SIGN).answering_pins(pin).finish().0
    };
    assert_eq!(typed(TestUser::PIN), 0);
    sign(&user, "pin").ok();
}

#[test]
fn unattended_wrong_pins_stop_at_three() {
    let user = user(TokenKind::SoftHsm);
    for _ in 0..3 {
        sign(&user, "wrong.pin").fails_with(4).says("is wrong");
    }
    sign(&user, "wrong.pin").fails_with(4).says("3 wrong PINs").does_not_say("is wrong");
    // The agent uses the same record.
    let agent = Agent::start(&user.machine, &[]);
    sign(&user, "pin").fails_with(4).says("3 wrong PINs");
    drop(agent);
    // A typed PIN, though wrong, shows that a person is present.
    let typed = Terminal::tokenkeep(&user.machine, &SIGN).answering_pins(TestUser::WRONG_PIN).finish().0;
    assert_eq!(typed, 4);
    sign(&user, "pin").ok();

    sign(&user, "wrong.pin").fails_with(4);
    let directory = user.machine.file("runtime/tokenkeep");
    let records = fs::read_dir(directory).unwrap().flatten().map(|entry| entry.path());
    let records: Vec<_> = records.filter(|path| path.to_string_lossy().contains("wrong-pins-")).collect();
    let [record] = &records[..] else { panic!("{records:?}") };
    let serial = user.keyset_info("default")["token"]["serial"].as_str().unwrap().to_owned();
    assert!(!record.to_string_lossy().contains(&serial));
    let text = fs::read_to_string(record).unwrap();
    assert!(!text.contains(&serial) && !text.contains(TestUser::WRONG_PIN), "{text}");
    assert_eq!(fs::metadata(record).unwrap().mode() & 0o777, 0o600);
}

#[test]
fn the_agent_sees_the_tries_of_another_program() {
    let user = user(TokenKind::Kryoptic);
    let body = "echo \"$1\" >> $HERE/asked; case \"$1\" in *'last try'*|*locks*) exit 1 ;; esac; cat $HERE/pin";
    let program = write_script(&user.machine, "askpass", body);
    Agent::configure(&user.machine, &format!("prompter = \"askpass:{program}\""));
    let agent = Agent::start(&user.machine, &[]);
    sign(&user, "pin").ok();
    spend_tries_elsewhere(&user, 9);
    // A person who reads the state sees it, too.
    for command in [&["pin", "status", "--json"][..], &["tokens", "--json"]] {
        let output = user.tokenkeep(command).ok().json();
        assert_eq!(output[0]["pin_state"], "final-try", "{command:?}: {output}");
    }
    // Nobody can be warned: the last try is not spent, whatever the PIN.
    sign(&user, "wrong.pin").fails_with(4).says("one try is left").does_not_say("is wrong");
    // A person is warned, and declines.
    let answer = sign_by_api(&user.machine, &agent).out();
    assert!(answer.contains("\"kind\":\"pin\""), "{answer}");
    let questions = questions(&user.machine);
    assert!(questions.contains("locks"), "{questions}");
    drop(agent);
    assert_eq!(pin_state(&user), "final-try");
    sign(&user, "pin").fails_with(4).says("one try is left");
}

/// A token on another module than the machine's: SoftHSM, with SoftHSM's own tool.
const ANOTHER_TOKEN: [&str; 8] =
    ["--init-token", "--free", "--label", "another", "--so-pin", "12345678", "--pin", "12345678"];

/// Replaces the module as an upgrade does: a process that has loaded it keeps the old file.
fn replace(module: &Path, content: &[u8]) {
    let new = module.with_extension("new");
    fs::write(&new, content).unwrap();
    fs::rename(new, module).unwrap();
}

#[test]
fn the_agent_tries_nothing_if_no_process_can_load_the_module() {
    let user = user(TokenKind::Kryoptic);
    let machine = &user.machine;
    let real = fs::read(machine.module()).unwrap();
    let module = machine.write("module-of-this-machine.so", &real);
    machine.write("config/tokenkeep/agent.toml", format!("modules = [\"{}\"]\n", module.display()));
    let agent = Agent::start(machine, &[]);
    sign(&user, "pin").ok();

    replace(&module, b"no module at all");
    for pin in ["wrong.pin", "pin"] {
        sign(&user, pin).fails_with(1).says("nothing was tried").does_not_say("is wrong");
    }
    user.tokenkeep(&["pin", "status"]).fails_with(1).says("see `tokenkeep doctor`");
    // It reports this, and still lists the keyset.
    let doctor = machine.tokenkeep(&["doctor"]);
    assert!(doctor.out().contains("cannot be read") && doctor.out().contains("default"), "{doctor}");

    // The remaining state is still reported, here that of a token on another module.
    drop(agent);
    replace(&module, &real);
    machine.run("softhsm2-util", &ANOTHER_TOKEN, b"").ok();
    let both = format!("modules = [\"{}\", \"{}\"]\n", module.display(), softhsm_module().display());
    machine.write("config/tokenkeep/agent.toml", both);
    let agent = Agent::start(machine, &[]);
    sign(&user, "pin").ok();
    replace(&module, b"no module at all");
    let status = user.tokenkeep(&["pin", "status"]).ok().says("nothing was tried");
    assert!(status.out().contains("another") && !status.out().contains("default"), "{status}");
    let doctor = machine.tokenkeep(&["doctor"]).fails_with(1);
    let findings = doctor.out();
    let says = |state: &str, token: &str, what: &str| {
        findings.lines().any(|line| line.starts_with(state) && line.contains(token) && line.contains(what))
    };
    assert!(says("WRONG  agent", "\"default\"", "cannot be read") && says("ok", "\"another\"", "PIN ok"), "{doctor}");

    replace(&module, &real);
    assert_eq!(user.tokenkeep(&["pin", "status", "--json"]).ok().json()[0]["pin_state"], "ok");
    drop(agent);
    assert_eq!(pin_state(&user), "ok");
}

#[test]
fn a_module_that_hangs_in_get_info_delays_nothing() {
    let mut user = user(TokenKind::Kryoptic);
    let faulty = FaultyModule::wrap_module_of(&mut user.machine);
    faulty.set_faults("delay C_GetInfo 3600000ms");
    let _agent = Agent::start(&user.machine, &[]);
    user.tokenkeep(&["tokens"]).ok().says("default");
}

#[test]
fn pins_from_a_program_count_as_unattended_in_the_agent() {
    let user = user(TokenKind::SoftHsm);
    // A different PIN each time: nothing about the command shows that the PIN is unattended.
    let program = write_script(&user.machine, "gives", "cat > $HERE/question; echo wrong-$$-000");
    Agent::configure(&user.machine, &format!("prompter = \"command:{program}\""));
    let agent = Agent::start(&user.machine, &[]);
    for _ in 0..3 {
        let answer = sign_by_api(&user.machine, &agent).out();
        assert!(answer.contains("is wrong"), "{answer}");
    }
    let answer = sign_by_api(&user.machine, &agent).out();
    assert!(answer.contains("3 wrong PINs") && answer.contains("unattended sources"), "{answer}");
    // It counts together with the commands' files; a PIN that a person types through the agent
    // resets the count.
    sign(&user, "pin").fails_with(4).says("3 wrong PINs");
    let _ = fs::remove_file(user.machine.file("signed.p7m"));
    assert_eq!(Terminal::tokenkeep(&user.machine, &SIGN).answering_pins(TestUser::PIN).finish().0, 0);
    sign(&user, "pin").ok();
}
