//! A malicious module: tries what a module can do in the process that loads it, and records the
//! results.
//!
//! It acts when the library is loaded, which is the earliest opportunity of a module, and in
//! `C_Initialize`.

use std::io::{ErrorKind, Result, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::PathBuf;
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};

/// Runs while the library is loaded, before `dlopen` returns.
#[used]
#[unsafe(link_section = ".init_array")]
static LOAD_HANDLER: extern "C" fn() = run_at_load;

extern "C" fn run_at_load() {
    attempt("loading");
}

/// Executes the rule `escape PORT PROCESS`, if present. Writes one line per attempt to the file
/// named by `FAULTY_ESCAPES`.
pub(super) fn attempt(when: &str) {
    let Some(file) = std::env::var_os("FAULTY_ESCAPES") else { return };
    let rules = std::env::var_os("FAULTY_CONTROL").and_then(|path| std::fs::read_to_string(path).ok());
    let rules = rules.unwrap_or_default();
    let Some(numbers) = rules.lines().find_map(|rule| rule.strip_prefix("escape ")) else { return };
    let Some((port, process)) = numbers.split_once(' ') else { std::process::abort() };
    let (Ok(port), Ok(process)) = (port.parse::<u16>(), process.parse::<i32>()) else { std::process::abort() };
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let parent = rustix::process::getppid().map_or(0, |parent| parent.as_raw_nonzero().get());
    let attempts = [
        ("a program", Command::new("/bin/true").status().map(drop)),
        ("another process's name", std::fs::read("/proc/1/comm").map(drop)),
        ("its parent's environment", std::fs::read(format!("/proc/{parent}/environ")).map(drop)),
        ("a private file", std::fs::read(home.join("private")).map(drop)),
        ("a terminal", std::fs::OpenOptions::new().read(true).write(true).open("/dev/ptmx").map(drop)),
        ("a file of its own", std::fs::write(std::env::temp_dir().join("escaped"), "")),
        ("a connection", TcpStream::connect((Ipv4Addr::LOCALHOST, port)).map(drop)),
        ("a signal", signal(process)),
    ];
    let lines: Vec<_> =
        attempts.iter().map(|(what, result)| format!("{when}: {what}: {}\n", outcome(result))).collect();
    let file = std::fs::OpenOptions::new().append(true).open(file);
    // A missing line would falsify the results.
    if file.and_then(|mut file| file.write_all(lines.concat().as_bytes())).is_err() {
        std::process::abort();
    }
}

/// Sends a harmless signal.
fn signal(process: i32) -> Result<()> {
    let process = Pid::from_raw(process).ok_or(ErrorKind::InvalidInput)?;
    Ok(kill_process(process, Signal::CONT)?)
}

fn outcome(result: &Result<()>) -> String {
    match result {
        Ok(()) => "done".to_owned(),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => "denied".to_owned(),
        Err(error) => format!("failed: {error}"),
    }
}
