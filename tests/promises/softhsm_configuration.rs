//! A SoftHSM that cannot start returns `CKR_GENERAL_ERROR`. The error names the fault of its
//! configuration and the command that fixes it, also with only the program installed.

use std::fs;

use crate::support::foreign_programs::skipped;
use crate::support::machine::Machine;

#[test]
fn each_softhsm_configuration_problem_names_its_command() {
    let mut machine = Machine::new();
    let tokens = machine.file("absent-tokens").display().to_string();
    let conf = machine.write("other.conf", format!("directories.tokendir = {tokens}\n")).display().to_string();
    let assert_cause = |machine: &Machine, what: &str| {
        let output = machine.tokenkeep(&["tokens"]).fails_with(3).says(what);
        output.does_not_say("GENERAL_ERROR").does_not_say("softhsm-setup").err()
    };
    machine.set_environment("SOFTHSM2_CONF", &conf);
    let remedy = format!("`mkdir -p -m 700 {tokens}`");
    assert!(assert_cause(&machine, "absent-tokens").contains(&remedy));
    machine.shell(remedy.trim_matches('`')).ok();
    machine.tokenkeep(&["tokens"]).ok().says("No token");

    machine.set_environment("SOFTHSM2_CONF", "/no/such/softhsm2.conf");
    assert_cause(&machine, "/no/such/softhsm2.conf (SOFTHSM2_CONF) cannot be read");
    machine.set_environment("SOFTHSM2_CONF", "");
    let output = assert_cause(&machine, "SOFTHSM2_CONF is empty");
    // The suggested command helps.
    let command = output.split('`').nth(1).unwrap_or_else(|| panic!("no command: {output}"));
    machine.shell(command).ok();
    machine.unset_environment("SOFTHSM2_CONF");
    machine.tokenkeep(&["tokens"]).ok().says("No token");
    assert!(fs::metadata(machine.file("home/.local/share/softhsm2/tokens")).unwrap().is_dir());

    // An existing file is not overwritten; then another suggestion helps.
    let own = machine.file("home/.config/softhsm2/softhsm2.conf");
    fs::write(&own, format!("directories.tokendir = {tokens}\n")).unwrap();
    machine.set_environment("SOFTHSM2_CONF", "/no/such/softhsm2.conf");
    assert!(assert_cause(&machine, "cannot be read").contains("`unset SOFTHSM2_CONF` lets SoftHSM use"));
    assert_ne!(machine.shell(command).code(), 0);
    assert_eq!(fs::read_to_string(&own).unwrap(), format!("directories.tokendir = {tokens}\n"));
}

#[test]
fn a_token_that_softhsm_silently_ignores_is_named() {
    let mut machine = Machine::new();
    let new = ["--init-token", "--free", "--label", "one", "--so-pin", "12345678", "--pin", "12345678"];
    machine.run("softhsm2-util", &new, b"").ok();
    machine.tokenkeep(&["tokens"]).ok().says("one").does_not_say("warning");
    let token = fs::read_dir(machine.file("tokens")).unwrap().flatten().next().unwrap().path();
    let whole = fs::read(token.join("token.object")).unwrap();
    fs::write(token.join("token.object"), "").unwrap();
    let (directory, why) = (token.display().to_string(), "its token.object is empty");
    machine.tokenkeep(&["tokens"]).ok().says("No token").says(&directory).says(why).says("backup");
    machine.tokenkeep(&["doctor"]).fails_with(1).says(&directory).says(why).says("backup");
    fs::write(token.join("token.object"), whole).unwrap();
    machine.tokenkeep(&["tokens"]).ok().says("one").does_not_say("warning");

    // A configuration without the directory makes SoftHSM use another one.
    let conf = machine.write("silent.conf", "log.level = ERROR\n").display().to_string();
    machine.set_environment("SOFTHSM2_CONF", &conf);
    machine.tokenkeep(&["tokens"]).says("no directories.tokendir").says("directories.tokendir = DIRECTORY");
    machine.tokenkeep(&["doctor"]).fails_with(1).says("no directories.tokendir");
}

/// In a separate mount namespace, so that no privilege is needed.
#[test]
fn doctor_reports_a_full_file_system() {
    let machine = Machine::new();
    let script =
        "mount -t tmpfs -o size=600k tmpfs tokens && { head -c 600k /dev/zero > tokens/fill; tokenkeep doctor; }";
    let output = machine.run("unshare", &["--map-root-user", "--mount", "sh", "-c", script], b"");
    if output.out().is_empty() {
        return skipped("a full disk: unshare can make no mount namespace");
    }
    output.fails_with(1).says("nothing more can be stored").says("0 KiB free").says("free space there");
}
