//! Every program ends with its own exit code, even if a module's exit handler frees data that
//! threads still use, as SoftHSM's does. No code of a module runs at exit.

use crate::support::agent::{Agent, wait_for};
use crate::support::authority::Authority;
use crate::support::faulty_module::{FaultyModule, module};
use crate::support::machine::Machine;
use crate::support::shared_authority::TestUser;
use crate::support::terminal::Terminal;

use super::agent_tokens::{offers, prompted_user_with_faults};

/// The rule for a module whose exit handler kills the process.
const DIE_AT_EXIT: &str = "die at the end\n";

#[test]
fn commands_end_with_their_own_exit_code() {
    let mut user = TestUser::with_keyset();
    let faulty = FaultyModule::wrap_module_of(&mut user.machine);
    user.machine.write("message.txt", "a message\n");
    faulty.set_faults(DIE_AT_EXIT);
    user.machine.tokenkeep(&["tokens"]).ok().says("default");
    user.signs_with("default", "pin");
    let absent = ["sign", "--keyset", "nobody", "--pin-source", "file:pin", "--in", "message.txt", "--out", "x.p7m"];
    user.machine.tokenkeep(&absent).fails_with(3);
    // Ctrl-C ends the program in the middle of a call.
    faulty.set_faults(&format!("{DIE_AT_EXIT}delay C_Sign 600000ms\n"));
    faulty.reset_calls();
    let sign = ["sign", "--pin-source", "file:pin", "--in", "message.txt", "--out", "never.p7m"];
    let mut terminal = Terminal::tokenkeep(&user.machine, &sign);
    wait_for("it is logged in", || (!faulty.calls().is_empty()).then_some(()));
    terminal.interrupt();
    let (code, shown) = terminal.finish();
    assert_eq!(code, 130, "{shown}");
    assert!(!user.machine.file("never.p7m").exists());
}

#[test]
fn a_stopped_authority_exits_cleanly() {
    let mut machine = Machine::new();
    let mut authority = Authority::init(&machine);
    Agent::configure(&machine, "");
    let real = machine.module().display().to_string();
    let faulty = FaultyModule::wrap_module_of(&mut machine);
    let configuration = machine.read_text("authority.toml");
    assert!(configuration.contains(&real), "{configuration}");
    machine.write("authority.toml", configuration.replace(&real, &module().display().to_string()));
    faulty.set_faults(DIE_AT_EXIT);
    authority.serve(&machine);
    let status = authority.stop();
    assert!(status.success(), "{status}\n{}", Authority::log(&machine));
}

#[test]
fn an_agent_exits_cleanly_during_a_module_call() {
    let (mut prompted, faulty) = prompted_user_with_faults(&[("x", "low")]);
    assert!(offers(&prompted, "x"));
    // The module is polled every second, and does not answer.
    faulty.set_faults(&format!("{DIE_AT_EXIT}delay C_GetSlotList 600000ms\n"));
    wait_for("the hung module is reported", || {
        prompted.user.tokenkeep(&["tokens"]).err().contains("does not answer").then_some(())
    });
    prompted.user.machine.tokenkeep(&["agent", "stop"]).ok();
    assert!(prompted.agent_mut().wait().success());
    let log = prompted.agent().log();
    assert!(!log.contains("a worker exited with an error"), "{log}");
}
