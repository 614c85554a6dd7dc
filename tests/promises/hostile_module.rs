//! A malicious module does no harm in the agent: from its load on, the kernel denies each of its
//! attempts. The same module in a command, which is not sandboxed, succeeds with all of them.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::process::{Command, Stdio};

use crate::support::agent::{Agent, LIST, probe};
use crate::support::faulty_module::FaultyModule;
use crate::support::foreign_programs::skipped;
use crate::support::machine::Machine;

/// Its attempts, and the version of the kernel's Landlock that can deny each.
const ATTEMPTS: [(&str, u32); 8] = [
    ("a program", 1),
    ("another process's name", 1),
    ("its parent's environment", 1),
    ("a private file", 1),
    ("a terminal", 1),
    ("a file of its own", 1),
    ("a connection", 4),
    ("a signal", 6),
];

/// The result of each attempt, at loading and at the module's first call.
fn outcomes(machine: &Machine) -> BTreeSet<(String, String, String)> {
    let text = machine.read_text("escapes");
    let parts = |line: &str| {
        let mut parts = line.splitn(3, ": ").map(str::to_owned);
        Some((parts.next()?, parts.next()?, parts.next()?))
    };
    text.lines().map(|line| parts(line).unwrap_or_else(|| panic!("{line}"))).collect()
}

fn expected_outcomes(outcome: &str, capable: impl Fn(u32) -> bool) -> BTreeSet<(String, String, String)> {
    let attempts = ATTEMPTS.into_iter().filter(|(_, version)| capable(*version));
    attempts
        .flat_map(|(what, _)| ["loading", "C_Initialize"].map(|when| (when.into(), what.into(), outcome.into())))
        .collect()
}

#[test]
fn a_hostile_module_is_sandboxed_before_it_is_loaded() {
    let mut machine = Machine::new();
    let faulty = FaultyModule::wrap_module_of(&mut machine);
    machine.set_environment("FAULTY_ESCAPES", &machine.file("escapes").display().to_string());
    machine.write("home/private", "private");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    // It exits when its stdin closes, at the latest at the end of this test.
    #[allow(clippy::zombie_processes, reason = "where there is no Landlock, nobody waits for it")]
    let mut other = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    // A new module is also tried in a sandboxed process.
    machine.tokenkeep(&["tokens"]).ok();
    faulty.set_faults(&format!("escape {} {}", listener.local_addr().unwrap().port(), other.id()));

    // Only the sandbox denies the attempts.
    machine.write("escapes", "");
    machine.tokenkeep(&["tokens"]).ok();
    assert_eq!(outcomes(&machine), expected_outcomes("done", |_| true));

    machine.write("escapes", "");
    let allow = ["escapes", "counts"].map(|file| format!("{:?}", machine.write(file, "").display().to_string()));
    let written = machine.read_text("config/tokenkeep/agent.toml");
    machine.write("config/tokenkeep/agent.toml", format!("{written}\nallow = [{}]\n", allow.join(", ")));
    let agent = Agent::start(&machine, &[]);
    let mut stream = std::os::unix::net::UnixStream::connect(agent.ssh_socket()).unwrap();
    assert_eq!(probe(&mut stream).unwrap(), LIST, "{}", agent.log());
    let log = agent.log();
    let version = log
        .split("sandbox=\"Landlock ")
        .nth(1)
        .and_then(|rest| rest.split(|character: char| !character.is_ascii_digit()).next()?.parse::<u32>().ok());
    let Some(version) = version else {
        assert!(log.contains("not sandboxed"), "{log}");
        return skipped("this kernel has no Landlock");
    };
    let capable = |needed: u32| needed <= version;
    let found: BTreeSet<_> = outcomes(&machine)
        .into_iter()
        .filter(|(_, what, _)| ATTEMPTS.iter().any(|(known, needed)| known == what && capable(*needed)))
        .collect();
    assert_eq!(found, expected_outcomes("denied", capable), "{log}");
    if version < 6 {
        skipped("this kernel's Landlock knows no signals, or no connections");
    }
    drop(other.stdin.take());
    other.wait().unwrap();
}
