//! The agent as a child process on a test machine: starts it, waits for it, and ends it by process
//! ID.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::machine::Machine;
use super::output::Output;

/// Timeout of every wait, far longer than needed.
pub const TIMEOUT: Duration = Duration::from_secs(30);

/// The message type of an SSH agent's list of keys (`SSH_AGENT_IDENTITIES_ANSWER`).
pub const LIST: u8 = 12;

/// Polls until the closure returns a value; fails the test after [`TIMEOUT`].
#[track_caller]
pub fn wait_for<T>(what: &str, mut poll: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + TIMEOUT;
    loop {
        if let Some(found) = poll() {
            return found;
        }
        assert!(Instant::now() < end, "timeout: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A running agent. It logs to the machine's file `agent.log`, and is killed when dropped.
///
/// The worker is sandboxed: files of a test that a module writes (such as the counts of the faulty
/// module) must be named in `agent.toml`, which [`Agent::configure`] does.
pub struct Agent {
    child: Child,
    log: PathBuf,
    // Length of the log of earlier agents, in bytes.
    said_before: usize,
    directory: PathBuf,
}

impl Agent {
    /// Writes `agent.toml` with the machine's module and these lines, such as `prompter =
    /// "command:/…"`.
    pub fn configure(machine: &Machine, lines: &str) {
        let text = format!("modules = [\"{}\"]\n{lines}\n", machine.module().display());
        machine.write("config/tokenkeep/agent.toml", text);
    }

    /// Configures a prompter command that prints the first line of this file as the PIN and
    /// confirms everything. It appends the questions to the machine's file `questions`.
    pub fn configure_with_pin_in(machine: &Machine, file: &str, more: &str) {
        let script = format!(
            "#!/bin/sh\nread -r what\n{{ echo \"$what\"; cat; echo; echo ---; }} >> {questions}\n\
             case $what in confirm) echo yes ;; *) cat {pin} ;; esac\n",
            questions = machine.file("questions").display(),
            pin = machine.file(file).display(),
        );
        let path = machine.write("bin/prompter", script);
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        Self::configure(machine, &format!("prompter = \"command:{}\"\n{more}", path.display()));
    }

    /// Starts `tokenkeep agent -v` with these options, and waits until it accepts connections.
    pub fn start(machine: &Machine, options: &[&str]) -> Self {
        let mut agent = Self::spawn(machine, options);
        agent.wait_until_ready(machine);
        agent
    }

    /// Like [`Self::start`], without waiting.
    pub fn spawn(machine: &Machine, options: &[&str]) -> Self {
        let log = machine.file("agent.log");
        let said_before = fs::read(&log).map_or(0, |said| said.len());
        let child = machine.start_tokenkeep(&[&["agent", "-v"], options].concat(), "agent.log", &[]);
        Self { child, log, said_before, directory: machine.file("runtime/tokenkeep/agent") }
    }

    fn wait_until_ready(&mut self, machine: &Machine) {
        let id = self.id();
        wait_for("the agent serves", || {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("the agent ended: {status}\n{}", self.log());
            }
            // Its line on stdout follows its log.
            let running = fs::read_to_string(machine.file("runtime/tokenkeep/agent/lock")).unwrap_or_default();
            let said = fs::read(&self.log).unwrap_or_default();
            let said = String::from_utf8_lossy(said.get(self.said_before..).unwrap_or_default());
            (running == format!("process {id}") && said.contains("Serving SSH on")).then_some(())
        });
    }

    /// The supervisor's process ID.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The worker's process ID; waits until there is one.
    pub fn worker(&self) -> u32 {
        wait_for("a worker", || workers_of(self.id()).first().copied())
    }

    /// The log so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// The socket of the SSH endpoint.
    pub fn ssh_socket(&self) -> PathBuf {
        self.directory.join("ssh.sock")
    }

    /// The socket of the API endpoint.
    pub fn api_socket(&self) -> PathBuf {
        self.directory.join("api.sock")
    }

    /// Sends a signal to the supervisor.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.id().try_into().unwrap()).unwrap(), signal).unwrap();
    }

    /// Sends SIGTERM and waits for the exit.
    pub fn stop(mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// Waits for the exit.
    pub fn wait(&mut self) -> ExitStatus {
        wait_for("the agent ends", || self.child.try_wait().unwrap())
    }

    /// Sends SIGKILL to the supervisor.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Stops a background agent when dropped.
pub struct BackgroundAgent<'a>(pub &'a Machine);

impl Drop for BackgroundAgent<'_> {
    fn drop(&mut self) {
        self.0.tokenkeep(&["agent", "stop"]);
    }
}

/// The worker processes that this process has started.
pub fn workers_of(id: u32) -> Vec<u32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{id}/task")) else { return Vec::new() };
    let children = threads.flatten().filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    let all: Vec<u32> =
        children.flat_map(|all| all.split_whitespace().filter_map(|id| id.parse().ok()).collect::<Vec<_>>()).collect();
    let is_worker = |id: &u32| {
        fs::read(format!("/proc/{id}/cmdline"))
            .is_ok_and(|line| line.split(|byte| *byte == 0).any(|word| word == b"agent-worker"))
    };
    all.into_iter().filter(is_worker).collect()
}

/// Requests the keys of an SSH agent. Returns the type of its response; 12 is the list.
pub fn probe(stream: &mut UnixStream) -> std::io::Result<u8> {
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.write_all(&[0, 0, 0, 1, 11])?;
    let mut head = [0; 5];
    stream.read_exact(&mut head)?;
    let mut rest = vec![0; u32::from_be_bytes(head[..4].try_into().unwrap()) as usize - 1];
    stream.read_exact(&mut rest)?;
    Ok(head[4])
}

/// Starts an agent that must refuse to start. An agent that serves is killed after 20 s, and the
/// test fails.
pub fn fail_to_start(machine: &Machine, arguments: &[&str]) -> Output {
    machine.run("timeout", &[&["20", "tokenkeep", "agent"], arguments].concat(), b"")
}

/// Whether the process is alive.
pub fn is_alive(id: u32) -> bool {
    // A zombie counts as dead.
    fs::read_to_string(format!("/proc/{id}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}
