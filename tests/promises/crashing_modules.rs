//! A module that crashes, exits or asserts while it loads does not take a command with it: the
//! command names it and uses the others, and `doctor` names it and the reason. The same holds for a
//! SoftHSM token that was copied beside itself, and for a running agent. A module that others can
//! write to is not loaded, and an agent.toml that they can write to is not used.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::support::agent::{Agent, wait_for};
use crate::support::faulty_module::{self, FaultyModule};
use crate::support::kryoptic;
use crate::support::machine::{Machine, softhsm_module};
use crate::support::output::Output;

/// Creates a token named `one` on SoftHSM, with SoftHSM's own tool.
fn make_token(machine: &Machine) {
    let new = ["--init-token", "--free", "--label", "one", "--so-pin", "12345678", "--pin", "12345678"];
    machine.run("softhsm2-util", &new, b"").ok();
}

fn configure_modules(machine: &Machine, all: &[&Path]) {
    let all: Vec<String> = all.iter().map(|path| format!("{:?}", path.display().to_string())).collect();
    machine.write("config/tokenkeep/agent.toml", format!("modules = [{}]\n", all.join(", ")));
}

/// A truncated download of a module.
fn truncated_module(machine: &Machine) -> PathBuf {
    let whole = fs::read(softhsm_module()).unwrap();
    machine.write("cut.so", &whole[..2000])
}

/// Copies the token's directory beside it, as a user may do for a backup.
fn copy_the_token(machine: &Machine) -> PathBuf {
    let tokens = machine.file("tokens");
    let token = fs::read_dir(&tokens).unwrap().flatten().next().unwrap().path();
    let copy = tokens.join("00000000-0000-0000-0000-000000000001");
    let made = machine.file("copy");
    machine.run("cp", &["-r", token.to_str().unwrap(), made.to_str().unwrap()], b"").ok();
    fs::rename(made, &copy).unwrap();
    copy
}

#[track_caller]
fn assert_names(output: Output, module: &str, why: &str) -> Output {
    output.says(module).says("ends the program that loads it").says(why)
}

#[test]
fn a_crashing_module_is_named_and_the_others_are_used() {
    let mut machine = Machine::new();
    make_token(&machine);
    let cut = truncated_module(&machine);
    configure_modules(&machine, &[machine.module(), &cut]);
    assert_names(machine.tokenkeep(&["tokens"]).ok(), "cut.so", "signal").says("one");
    let json = machine.tokenkeep(&["tokens", "--json"]).ok();
    assert_eq!(json.json()[0]["label"], "one");
    assert_names(json, "cut.so", "\"warning\"");
    assert_names(machine.tokenkeep(&["doctor"]).fails_with(1), "cut.so", "WRONG").says("agent.toml");

    // A module that dies at its first call is recorded, and tried again if its configuration
    // changes.
    let faulty = FaultyModule::wrap_module_of(&mut machine);
    faulty.set_faults("die C_Initialize");
    configure_modules(&machine, &[&softhsm_module(), faulty_module::module()]);
    assert_names(machine.tokenkeep(&["tokens"]).ok(), "libfaulty_pkcs11.so", "SIGABRT").says("one");
    faulty.clear_faults();
    machine.tokenkeep(&["tokens"]).ok().says("ends the program that loads it");
    let configuration = machine.read_text("softhsm2.conf");
    machine.write("softhsm2.conf", format!("{configuration}# changed\n"));
    machine.tokenkeep(&["tokens"]).ok().does_not_say("ends the program that loads it");
    // Or when `doctor` checks it.
    faulty.set_faults("die C_Initialize");
    machine.write("softhsm2.conf", configuration);
    machine.tokenkeep(&["tokens"]).ok().says("ends the program that loads it");
    faulty.clear_faults();
    machine.tokenkeep(&["tokens"]).ok().says("ends the program that loads it");
    machine.tokenkeep(&["doctor"]).does_not_say("ends the program that loads it");
    machine.tokenkeep(&["tokens"]).ok().does_not_say("ends the program that loads it");

    // As the only module it is an error, and the agent does not start; with another module the
    // agent serves that one.
    configure_modules(&machine, &[&cut]);
    assert_names(machine.tokenkeep(&["tokens"]).fails_with(3), "cut.so", "error");
    assert_names(crate::support::agent::fail_to_start(&machine, &[]).fails_with(3), "cut.so", "error");
    configure_modules(&machine, &[&softhsm_module(), &cut]);
    let agent = Agent::start(&machine, &[]);
    assert!(agent.log().contains("cut.so"), "{}", agent.log());
    assert_names(machine.tokenkeep(&["keysets"]).ok(), "cut.so", "warning");
    machine.tokenkeep(&["tokens"]).ok().says("one");
}

#[test]
fn a_copied_token_directory_is_named_as_the_cause() {
    let machine = Machine::new();
    make_token(&machine);
    let agent = Agent::start(&machine, &[]);
    machine.tokenkeep(&["tokens"]).ok().says("one");
    let copy = copy_the_token(&machine);
    let name = copy.display().to_string();
    // A command without the agent; the agent continues, and reports why it does not search for new
    // tokens.
    for command in [&["tokens", "--no-agent"][..], &["keysets", "--no-agent"]] {
        assert_names(machine.tokenkeep(command).fails_with(3), "libsofthsm2.so", &name);
    }
    let json = machine.tokenkeep(&["tokens", "--no-agent", "--json"]).fails_with(3);
    let error: serde_json::Value = serde_json::from_slice(&json.stderr).unwrap();
    assert!(error["error"]["message"].as_str().unwrap().contains("libsofthsm2.so"), "{json}");
    assert_names(machine.tokenkeep(&["doctor"]).fails_with(1), "libsofthsm2.so", &name);
    let worker = agent.worker();
    wait_for("the agent names the module", || {
        machine.tokenkeep(&["tokens"]).ok().says("one");
        agent.log().contains("ends the program that loads it").then_some(())
    });
    assert_eq!(agent.worker(), worker, "{}", agent.log());

    // A worker that starts with this module serves without it, and with it again once the copy is
    // gone.
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(worker.try_into().unwrap()).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    wait_for("another worker", || {
        let listed = machine.tokenkeep(&["keysets"]);
        (listed.code() == 0 && listed.err().contains("libsofthsm2.so")).then_some(())
    });
    fs::remove_dir_all(copy).unwrap();
    wait_for("the token is there again", || machine.tokenkeep(&["tokens"]).out().contains("one").then_some(()));
    machine.tokenkeep(&["tokens", "--no-agent"]).ok().says("one");
}

#[test]
fn files_that_others_can_write_are_not_loaded() {
    let machine = Machine::new();
    make_token(&machine);
    let module = machine.write("module.so", fs::read(kryoptic::module()).unwrap());
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    configure_modules(&machine, &[machine.module(), &module]);
    machine.tokenkeep(&["tokens"]).ok().does_not_say("others can write");
    // Group write access matters only if another user may be in the group.
    mode(&module, 0o666);
    let output = machine.tokenkeep(&["tokens"]).ok().says("module.so").says("others can write to it").says("one");
    assert!(output.err().contains("chmod go-w"), "{output}");
    machine.tokenkeep(&["doctor"]).fails_with(1).says("others can write to it");
    mode(&module, 0o644);
    mode(machine.path(), 0o777);
    machine.tokenkeep(&["tokens"]).ok().says("others can write to its directory");
    mode(machine.path(), 0o700);
    machine.tokenkeep(&["tokens"]).ok().does_not_say("others can write");

    let configuration = machine.file("config/tokenkeep/agent.toml");
    mode(&configuration, 0o646);
    for command in [&["tokens"][..], &["agent"]] {
        machine.tokenkeep(command).fails_with(2).says("agent.toml").says("chmod go-w");
    }
    machine.tokenkeep(&["doctor"]).fails_with(1).says("agent.toml").says("others can write");
}
