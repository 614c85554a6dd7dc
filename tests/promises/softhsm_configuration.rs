//! A SoftHSM that cannot start says `CKR_GENERAL_ERROR`. A person is told what is wrong with its configuration, and what
//! to type, also where there is nothing but the program.

use std::fs;

use crate::support::machine::Machine;

#[test]
fn whatever_is_wrong_with_softhsms_configuration_is_told_with_what_to_type() {
    let mut machine = Machine::new();
    let tokens = machine.file("absent-tokens").display().to_string();
    let conf = machine.write("other.conf", format!("directories.tokendir = {tokens}\n")).display().to_string();
    let told = |machine: &Machine, what: &str| {
        let output = machine.tokenkeep(&["tokens"]).fails_with(3).says(what);
        output.does_not_say("GENERAL_ERROR").does_not_say("softhsm-setup").err()
    };
    machine.set_environment("SOFTHSM2_CONF", &conf);
    let remedy = format!("`mkdir -p -m 700 {tokens}`");
    assert!(told(&machine, "absent-tokens").contains(&remedy));
    machine.shell(remedy.trim_matches('`')).ok();
    machine.tokenkeep(&["tokens"]).ok().says("No token");

    machine.set_environment("SOFTHSM2_CONF", "/no/such/softhsm2.conf");
    told(&machine, "/no/such/softhsm2.conf (SOFTHSM2_CONF) cannot be read");
    machine.set_environment("SOFTHSM2_CONF", "");
    let said = told(&machine, "SOFTHSM2_CONF is set to nothing");
    // What it says to type helps.
    let command = said.split('`').nth(1).unwrap_or_else(|| panic!("no command: {said}"));
    machine.shell(command).ok();
    machine.unset_environment("SOFTHSM2_CONF");
    machine.tokenkeep(&["tokens"]).ok().says("No token");
    assert!(fs::metadata(machine.file("home/.local/share/softhsm")).unwrap().is_dir());
}
