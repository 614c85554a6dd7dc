//! The agent's memory is private: no other process of the same user, not even its parent, can debug
//! its two processes or read their memory or environment.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Lines, Write};
use std::os::unix::fs::{PermissionsExt, lchown};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use crate::support::agent::{LIST, probe, wait_for, workers_of};
use crate::support::foreign_programs::skipped;
use crate::support::machine::Machine;

/// Starts the given program, and then attacks each process whose number it reads.
const ATTACK_SCRIPT: &str = r#"
import ctypes, os, subprocess, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
ATTACH, DETACH = 16, 17

def attach(process):
    if libc.ptrace(ATTACH, process, None, None) != 0:
        raise OSError(ctypes.get_errno(), "ptrace")
    os.waitpid(process, 0x40000000)
    libc.ptrace(DETACH, process, None, None)

def read(name):
    def attempt(process):
        with open(f"/proc/{process}/{name}", "rb", buffering=0) as file:
            # Of a memory's first page nothing can be read; to open it is all that is needed.
            name == "mem" or file.read(1)
    return attempt

agent = subprocess.Popen(sys.argv[1:], stdout=2, stdin=subprocess.DEVNULL)
other = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
print(agent.pid, other.pid, os.getuid(), flush=True)
for line in sys.stdin:
    for what, attempt in [("debug", attach), ("memory", read("mem")), ("environment", read("environ")),
                      ("maps", read("maps"))]:
        try:
            attempt(int(line))
            print(what, "done", end=";")
        except PermissionError:
            print(what, "denied", end=";")
        except OSError as error:
            print(what, error, end=";")
    print(flush=True)
agent.terminate()
agent.wait()
other.stdin.close()
other.wait()
"#;

/// A process with the rights of any of the user's processes, and the agent's parent.
struct Attacker {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Attacker {
    /// Attacks a process; returns the result of each attempt.
    fn attack(&mut self, process: u32) -> BTreeMap<String, String> {
        writeln!(self.stdin.as_mut().unwrap(), "{process}").unwrap();
        let line = self.lines.next().unwrap().unwrap();
        let outcomes = line.split_terminator(';').map(|outcome| outcome.split_once(' ').unwrap());
        outcomes.map(|(what, outcome)| (what.to_owned(), outcome.to_owned())).collect()
    }
}

impl Drop for Attacker {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let _ = self.child.wait();
    }
}

/// Makes a user the owner of the machine's files.
fn change_owner(path: &Path, uid: u32) {
    lchown(path, Some(uid), Some(uid)).unwrap();
    if path.is_dir() && !path.is_symlink() {
        for entry in fs::read_dir(path).unwrap() {
            change_owner(&entry.unwrap().path(), uid);
        }
    }
}

#[test]
fn no_process_of_the_same_user_reads_the_agents_memory() {
    let machine = Machine::new();
    // Root may read everything, which would prove nothing.
    let nobody = rustix::process::geteuid().is_root().then_some(65534);
    let program = machine.file("bin/own-tokenkeep");
    fs::copy(env!("CARGO_BIN_EXE_tokenkeep"), &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    machine.write("attacker.py", ATTACK_SCRIPT);
    let log = fs::File::create(machine.file("agent.log")).unwrap();
    let mut command = match nobody {
        Some(_) => machine.command("setpriv"),
        None => machine.command("python3"),
    };
    if let Some(uid) = nobody {
        fs::remove_file(machine.file("bin/tokenkeep")).unwrap();
        change_owner(machine.path(), uid);
        let uid = uid.to_string();
        // Root's PATH may contain directories that other users cannot enter.
        command.env("PATH", "/usr/bin:/bin").args(["--reuid", &uid, "--regid", &uid, "--clear-groups", "python3"]);
    }
    command.arg("attacker.py").arg(&program).args(["agent", "-v"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log).spawn().unwrap();
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take().unwrap());
    let mut attacker = Attacker { child, stdin, lines: BufReader::new(stdout).lines() };
    let processes = attacker.lines.next().unwrap().unwrap();
    let processes: Vec<u32> = processes.split(' ').map(|number| number.parse().unwrap()).collect();
    let &[supervisor, other, uid] = processes.as_slice() else { panic!("{processes:?}") };
    assert_ne!(uid, 0);
    wait_for("the agent serves", || machine.read_text("agent.log").contains("Serving SSH on").then_some(()));
    // Run as the user that the agent serves.
    if nobody.is_none() {
        let mut stream = UnixStream::connect(machine.file("runtime/tokenkeep/agent/ssh.sock")).unwrap();
        assert_eq!(probe(&mut stream).unwrap(), LIST);
    }
    let worker = wait_for("a worker", || workers_of(supervisor).first().copied());

    let control = attacker.attack(other);
    for what in ["memory", "environment", "maps"] {
        assert_eq!(control[what], "done", "{control:?}");
    }
    for (name, process) in [("the supervisor", supervisor), ("the worker", worker)] {
        for (what, outcome) in attacker.attack(process) {
            assert_eq!(outcome, "denied", "{name}: {what}");
        }
    }
    if control["debug"] != "done" {
        skipped(&format!("here no process debugs another: {}", control["debug"]));
    }
}
