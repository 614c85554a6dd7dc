//! The keystore service as a child process on a machine: started, waited for, ended by its id.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::machine::Machine;
use super::output::Output;

/// How long anything may take; far more than it does.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The type of an SSH agent's answer with its keys.
pub const LIST: u8 = 12;

/// Waits until this gives something; fails the test after [`PATIENCE`].
#[track_caller]
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A running agent. What it says is in the machine's file `agent.log`. Ended when dropped.
///
/// The worker is shut in: files of a test's own that a module is to write (a control file's counts) must be named in
/// `agent.toml`, which [`Agent::configure`] does.
pub struct Agent {
    child: Child,
    log: PathBuf,
    // What agents before this one have said.
    said_before: usize,
    directory: PathBuf,
}

impl Agent {
    /// Writes `agent.toml`: the machine's module, and these lines, e.g. `prompter = "command:/…"`.
    pub fn configure(machine: &Machine, lines: &str) {
        let text = format!("modules = [\"{}\"]\n{lines}\n", machine.module().display());
        machine.write("config/tokenkeep/agent.toml", text);
    }

    /// Has PINs given by a command that prints this file's first line and says yes to every confirmation. What it is asked
    /// is appended to the machine's file `questions`.
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

    /// `tokenkeep agent -v` with these options, until it accepts connections.
    pub fn start(machine: &Machine, options: &[&str]) -> Self {
        let mut agent = Self::begin(machine, options);
        agent.wait_until_ready(machine);
        agent
    }

    /// The same, not waited for.
    pub fn begin(machine: &Machine, options: &[&str]) -> Self {
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
            // Its line on stdout comes after its log's.
            let running = fs::read_to_string(machine.file("runtime/tokenkeep/agent/lock")).unwrap_or_default();
            let said = fs::read(&self.log).unwrap_or_default();
            let said = String::from_utf8_lossy(said.get(self.said_before..).unwrap_or_default());
            (running == format!("process {id}") && said.contains("Serving SSH on")).then_some(())
        });
    }

    /// The broker's process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The worker's process id, as soon as it has one.
    pub fn worker(&self) -> u32 {
        wait_for("a worker", || workers_of(self.id()).first().copied())
    }

    /// What it has said until now.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// The SSH agent's socket.
    pub fn ssh_socket(&self) -> PathBuf {
        self.directory.join("ssh.sock")
    }

    /// The API's socket.
    pub fn api_socket(&self) -> PathBuf {
        self.directory.join("api.sock")
    }

    /// A signal to the broker.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.id().try_into().unwrap()).unwrap(), signal).unwrap();
    }

    /// SIGTERM, and waits for its orderly end.
    pub fn stop(mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// Waits until it has ended.
    pub fn wait(&mut self) -> ExitStatus {
        wait_for("the agent ends", || self.child.try_wait().unwrap())
    }

    /// SIGKILL to the broker.
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

/// Ends an agent in the background, however the test ends.
pub struct InTheBackground<'a>(pub &'a Machine);

impl Drop for InTheBackground<'_> {
    fn drop(&mut self) {
        self.0.tokenkeep(&["agent", "stop"]);
    }
}

/// The processes that a process has started, its agent's workers among them.
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

/// Asks an SSH agent for its keys; the type of its answer, if it answers. 12 is the list.
pub fn knock(stream: &mut UnixStream) -> std::io::Result<u8> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(&[0, 0, 0, 1, 11])?;
    let mut head = [0; 5];
    stream.read_exact(&mut head)?;
    let mut rest = vec![0; u32::from_be_bytes(head[..4].try_into().unwrap()) as usize - 1];
    stream.read_exact(&mut rest)?;
    Ok(head[4])
}

/// Starts an agent that must not come to stand: were it to serve, it would be ended, and the test fails.
pub fn refused(machine: &Machine, arguments: &[&str]) -> Output {
    machine.run("timeout", &[&["20", "tokenkeep", "agent"], arguments].concat(), b"")
}

/// Does the process live?
pub fn is_alive(id: u32) -> bool {
    // One that ended and that its new parent has not noticed yet is no process any more.
    fs::read_to_string(format!("/proc/{id}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}
