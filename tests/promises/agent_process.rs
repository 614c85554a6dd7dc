//! The agent's two processes: who owns the sockets, what happens when one process dies, and what
//! the processes cost.

use std::fs;
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};

use crate::support::agent::{Agent, LIST, fail_to_start, is_alive, probe, wait_for};
use crate::support::faulty_module::{self, FaultyModule};
use crate::support::foreign_programs::skipped;
use crate::support::machine::{Machine, TokenKind, run};
use crate::support::output::Output;
use crate::support::shared_authority::TestUser;
use crate::support::ssh::sign_file;
use crate::support::terminal::Terminal;

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

fn kill(id: u32) {
    kill_process(Pid::from_raw(id.try_into().unwrap()).unwrap(), Signal::KILL).unwrap();
}

/// Lists the keys on a new connection.
#[track_caller]
fn assert_lists_keys(agent: &Agent) {
    let mut stream = UnixStream::connect(agent.ssh_socket()).unwrap();
    assert_eq!(probe(&mut stream).unwrap(), LIST, "{}", agent.log());
}

#[test]
fn the_sockets_are_private_and_removed_at_exit() {
    let machine = Machine::new();
    let agent = Agent::start(&machine, &[]);
    let own = rustix::process::geteuid().as_raw();
    for path in [machine.file("runtime/tokenkeep"), machine.file("runtime/tokenkeep/agent")] {
        assert_eq!((mode(&path), fs::metadata(&path).unwrap().uid()), (0o700, own), "{}", path.display());
    }
    let sockets = [agent.ssh_socket(), agent.api_socket()];
    for path in &sockets {
        let found = fs::symlink_metadata(path).unwrap();
        assert!(found.file_type().is_socket());
        assert_eq!((found.mode() & 0o7777, found.uid()), (0o600, own), "{}", path.display());
    }
    assert_lists_keys(&agent);
    machine.tokenkeep(&["agent", "status"]).ok().says(&format!("process {}", agent.id())).says("(live)");
    let worker = agent.worker();
    assert!(agent.stop().success());
    assert!(sockets.iter().all(|path| !path.exists()));
    assert!(!is_alive(worker), "its worker lives on");
    assert_eq!(machine.tokenkeep(&["agent", "status"]).says("No agent runs").code(), 3);
}

#[test]
fn every_terminating_signal_ends_the_agent_in_order() {
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let machine = Machine::new();
        let mut agent = Agent::start(&machine, &[]);
        let worker = agent.worker();
        agent.signal(signal);
        assert!(agent.wait().success(), "{signal:?}: {}", agent.log());
        assert!(!is_alive(worker) && !agent.ssh_socket().exists(), "{signal:?}");
    }
}

/// In a container that was entered from outside, session, process group and client have the number
/// 0, which is no process.
#[test]
fn the_agent_serves_and_prompts_across_pid_namespaces() {
    let mut user = TestUser::with_keyset();
    Agent::configure(&user.machine, "prompter = \"terminal\"");
    let unshare = if rustix::process::geteuid().is_root() { "unshare" } else { "unshare --user --map-current-user" };
    let line = format!("{unshare} --pid --fork --kill-child tokenkeep agent");
    let mut terminal = Terminal::shell(&user.machine, &line);
    terminal.expect("Serving SSH on");
    let socket = user.machine.file("runtime/tokenkeep/agent/ssh.sock");
    user.machine.set_environment("SSH_AUTH_SOCK", &socket.display().to_string());
    let machine = &user.machine;
    let offered = machine.run("ssh-add", &["-L"], b"").ok().out();
    machine.write("default.pub", offered);
    std::thread::scope(|scope| {
        let signing = scope.spawn(|| sign_file(machine, "default"));
        terminal.expect("Asked by: an unknown program").expect("PIN:").type_line(TestUser::PIN);
        signing.join().unwrap().ok();
    });
    assert!(machine.file("message.sig").exists());
    terminal.interrupt().expect("Stopped.");
}

/// Connects, sends a request that both endpoints answer at once (at least with an error), and
/// prints the result.
const CONNECT_SCRIPT: &str = r#"
import socket, sys
stream = socket.socket(socket.AF_UNIX)
stream.settimeout(10)
try:
    stream.connect(sys.argv[1])
except PermissionError:
    sys.exit(print("not connected"))
print("connected")
try:
    stream.sendall(b"\0\0\0\1\13\r\n\r\n")
    answer = stream.recv(100)
except (BrokenPipeError, ConnectionResetError):
    answer = b""
print(answer or "hung up")
"#;

#[test]
fn another_user_is_refused() {
    if !rustix::process::geteuid().is_root() {
        return skipped("only root can become another user");
    }
    let machine = Machine::new();
    let agent = Agent::start(&machine, &[]);
    let as_nobody = |socket: &Path| {
        let mut command = Command::new("setpriv");
        // Root's PATH may contain directories that other users cannot enter.
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).env("PATH", "/usr/bin:/bin");
        command.args(["python3", "-c", CONNECT_SCRIPT]);
        command.arg(socket);
        run(command, b"").ok().out()
    };
    // The mode of the directory alone keeps others out.
    for name in ["", "runtime", "runtime/tokenkeep"] {
        fs::set_permissions(machine.file(name), fs::Permissions::from_mode(0o711)).unwrap();
    }
    assert_eq!(as_nobody(&agent.api_socket()), "not connected\n");
    // Directory and sockets are open to all: the kernel still reports the peer's user.
    fs::set_permissions(machine.file("runtime/tokenkeep/agent"), fs::Permissions::from_mode(0o777)).unwrap();
    for socket in [agent.api_socket(), agent.ssh_socket()] {
        fs::set_permissions(&socket, fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!(as_nobody(&socket), "connected\nhung up\n");
    }
    wait_for("the refusal is logged", || agent.log().contains("connection from another user's process").then_some(()));
    assert_lists_keys(&agent);
}

#[test]
fn a_stale_socket_is_replaced_and_workers_end_with_supervisor() {
    let machine = Machine::new();
    let mut agent = Agent::start(&machine, &[]);
    let worker = agent.worker();
    let mut connection = UnixStream::connect(agent.ssh_socket()).unwrap();
    assert_eq!(probe(&mut connection).unwrap(), LIST);
    agent.kill();
    wait_for("the worker ends", || (!is_alive(worker)).then_some(()));
    assert!(probe(&mut connection).is_err(), "a process still serves");
    assert!(agent.ssh_socket().exists() && agent.api_socket().exists(), "as after a kill");
    assert_eq!(machine.tokenkeep(&["agent", "status"]).says("(stale)").code(), 3);
    let agent = Agent::start(&machine, &[]);
    assert_lists_keys(&agent);
}

#[test]
fn a_second_agent_names_the_running_one() {
    let machine = Machine::new();
    let agent = Agent::start(&machine, &[]);
    let before = fs::metadata(agent.ssh_socket()).unwrap().ino();
    fail_to_start(&machine, &[]).fails_with(5).says(&format!("process {}", agent.id()));
    assert_eq!(fs::metadata(agent.ssh_socket()).unwrap().ino(), before);
    assert_lists_keys(&agent);
}

#[test]
fn a_socket_that_another_program_listens_on_is_never_taken_over() {
    let machine = Machine::new();
    machine.tokenkeep(&["agent", "stop"]).fails_with(3).says("cannot find a running agent");
    machine.tokenkeep(&["agent", "log-off"]).fails_with(3).says("cannot find a running agent");
    Agent::start(&machine, &[]).stop();
    let path = machine.file("runtime/tokenkeep/agent/ssh.sock");
    let foreign_listener = UnixListener::bind(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    fail_to_start(&machine, &[]).fails_with(1).says("another program listens on it");
    let mut stream = UnixStream::connect(&path).unwrap();
    drop(foreign_listener);
    assert!(stream.read(&mut [0]).is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset));
}

#[test]
fn a_directory_that_others_can_use_is_refused() {
    let machine = Machine::new();
    Agent::start(&machine, &[]).stop();
    for name in ["runtime/tokenkeep/agent", "runtime/tokenkeep"] {
        fs::set_permissions(machine.file(name), fs::Permissions::from_mode(0o755)).unwrap();
        fail_to_start(&machine, &[]).fails_with(1).says("mode 755").says(name);
        fail_to_start(&machine, &["--env"]).fails_with(1).says("mode 755").does_not_say("SSH_AUTH_SOCK");
        fs::set_permissions(machine.file(name), fs::Permissions::from_mode(0o700)).unwrap();
    }
    Agent::start(&machine, &[]);
}

#[test]
fn a_worker_that_dies_is_replaced_and_its_connections_are_reset() {
    let machine = Machine::new();
    let agent = Agent::start(&machine, &[]);
    for round in 0..3 {
        let worker = agent.worker();
        let mut old = UnixStream::connect(agent.ssh_socket()).unwrap();
        assert_eq!(probe(&mut old).unwrap(), LIST);
        kill(worker);
        assert!(probe(&mut old).is_err(), "somebody went on serving");
        // A client that connects in between waits for the next worker.
        assert_lists_keys(&agent);
        assert_ne!(agent.worker(), worker, "round {round}");
    }
    assert_eq!(agent.log().matches("all connections are closed").count(), 3, "{}", agent.log());
    assert!(agent.stop().success());
}

#[test]
fn neither_process_dumps_core_or_gains_privileges() {
    let machine = Machine::new();
    let agent = Agent::start(&machine, &[]);
    for id in [agent.id(), agent.worker()] {
        let limits = fs::read_to_string(format!("/proc/{id}/limits")).unwrap();
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"], "{core}");
        let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap();
        assert!(status.contains("NoNewPrivs:\t1"), "{status}");
    }
    // An aborting worker leaves no core dump, whatever the limit of the agent's parent was.
    kill_process(Pid::from_raw(agent.worker().try_into().unwrap()).unwrap(), Signal::ABORT).unwrap();
    wait_for("the refusal is logged", || agent.log().contains("SIGABRT").then_some(()));
    assert!(!agent.log().contains("core dumped"), "{}", agent.log());
    assert_lists_keys(&agent);
}

#[test]
fn the_agent_reports_how_its_worker_is_sandboxed() {
    let machine = Machine::new();
    let agent = Agent::start(&machine, &[]);
    let log = agent.log();
    if log.contains("not sandboxed") {
        return skipped("this kernel has no Landlock");
    }
    assert!(log.contains("sandbox=\"Landlock "), "{log}");
}

#[test]
fn a_thousand_connections_are_served_at_once() {
    let wanted = 1_100;
    let limit = getrlimit(Resource::Nofile);
    if limit.maximum.is_some_and(|maximum| maximum < wanted + 100) {
        return skipped("this user may not open 1,200 files");
    }
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).unwrap();
    let machine = Machine::new();
    let agent = Agent::start(&machine, &[]);
    let mut open: Vec<_> = (0..wanted).map(|_| UnixStream::connect(agent.ssh_socket()).unwrap()).collect();
    for (number, stream) in open.iter_mut().enumerate() {
        assert_eq!(probe(stream).unwrap(), LIST, "connection {number}");
    }
    // Each connection is still open after the last one was served.
    for stream in &mut open {
        assert_eq!(probe(stream).unwrap(), LIST);
    }
    drop(open);
    assert_lists_keys(&agent);
}

/// The value of this line of a process's `status` (proc(5)), in KiB.
fn memory_kib(id: u32, line: &str) -> u32 {
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let memory_kib = status.lines().find_map(|other| other.strip_prefix(line)).unwrap();
    memory_kib.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn an_idle_agent_has_little_memory_of_its_own() {
    let machine = Machine::new();
    let agent = Agent::start(&machine, &[]);
    assert_lists_keys(&agent);
    // Private memory only. The target, 4 MiB, is that of an optimized build (docs/BENCHMARKS.md).
    // An unoptimized one has 5.3 MiB: the linker writes addresses into more pages.
    let (supervisor, worker) = (memory_kib(agent.id(), "RssAnon:"), memory_kib(agent.worker(), "RssAnon:"));
    assert!(supervisor + worker < 6 * 1024, "{supervisor} KiB and {worker} KiB");
}

#[test]
fn an_idle_agent_takes_no_time() {
    let machine = Machine::new();
    let agent = Agent::start(&machine, &[]);
    assert_lists_keys(&agent);
    let processes = [agent.id(), agent.worker()];
    let ticks = || -> u64 {
        processes
            .iter()
            .map(|id| {
                let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
                let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
                fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
            })
            .sum()
    };
    let before = ticks();
    std::thread::sleep(Duration::from_secs(3));
    let spent = ticks() - before;
    // A tick is 10 ms: this is less than one percent of one core, in an unoptimized build.
    assert!(spent <= 3, "{spent} ticks in 3 s");
}

/// Runs a program with the agent's SSH socket in its environment, and waits for its end.
fn run_with_agent(machine: &Machine, agent: &Agent, program: &str, arguments: &[&str], input: &[u8]) -> Output {
    let mut command = machine.command(program);
    command.args(arguments).env("SSH_AUTH_SOCK", agent.ssh_socket());
    run(command, input)
}

#[test]
fn the_supervisor_prompts_for_its_worker() {
    for kind in [TokenKind::SoftHsm, TokenKind::Kryoptic] {
        let user = TestUser::with_keyset_on(kind);
        let machine = &user.machine;
        Agent::configure_with_pin_in(machine, "pin", "");
        let agent = Agent::start(machine, &[]);
        let listed = run_with_agent(machine, &agent, "ssh-add", &["-L"], b"").ok().out();
        machine.write("key.pub", listed.lines().next().unwrap());
        let sign = ["-Y", "sign", "-n", "file", "-f", "key.pub"];
        let signed = run_with_agent(machine, &agent, "ssh-keygen", &sign, b"a message").ok().out();
        assert!(signed.contains("BEGIN SSH SIGNATURE"), "{signed}");
        machine.write("signature", &signed);
        let check = ["-Y", "check-novalidate", "-n", "file", "-s", "signature"];
        machine.run("ssh-keygen", &check, b"a message").ok();
        machine.run("ssh-keygen", &check, b"another message").fails_with(255);
        let asked = machine.read_text("questions");
        // Level high: one prompt for each use. The worker cannot read the program's name.
        assert_eq!(asked.matches("---").count(), 1, "{asked}");
        for part in
            ["pin\n", "Asked by: /usr/bin/ssh-keygen (process ", "-Y sign", "To sign in the namespace", "default"]
        {
            assert!(asked.contains(part), "{part} is missing: {asked}");
        }
        assert!(agent.stop().success());
    }
}

#[test]
fn a_worker_crash_during_a_prompt_costs_no_try() {
    let mut user = TestUser::with_keyset();
    let faulty = FaultyModule::wrap_module_of(&mut user.machine);
    let machine = &user.machine;
    Agent::configure_with_pin_in(machine, "pin", &format!("allow = [\"{}\"]", machine.path().display()));
    let configuration = machine.read_text("config/tokenkeep/agent.toml");
    let (real, ours) = (machine.module().display().to_string(), faulty_module::module().display().to_string());
    machine.write("config/tokenkeep/agent.toml", configuration.replace(&real, &ours));
    // The first prompt stays open until the file `answered` exists.
    let script = machine.read_text("bin/prompter");
    let waiting = "while [ ! -e answered ]; do sleep 0.02; done\n";
    let at = script.find("case $what").unwrap();
    let script = format!("{}cd {}\n{waiting}{}", &script[..at], machine.path().display(), &script[at..]);
    machine.write("bin/prompter", script);
    let agent = Agent::start(machine, &[]);
    let listed = run_with_agent(machine, &agent, "ssh-add", &["-L"], b"").ok().out();
    machine.write("key.pub", listed.lines().next().unwrap());
    let sign = ["-Y", "sign", "-n", "file", "-f", "key.pub"];
    std::thread::scope(|scope| {
        let first = scope.spawn(|| run_with_agent(machine, &agent, "ssh-keygen", &sign, b"a message"));
        let has_asked = || fs::read_to_string(machine.file("questions")).is_ok_and(|asked| asked.contains("---"));
        wait_for("the person is asked", || has_asked().then_some(()));
        kill(agent.worker());
        let output = first.join().unwrap();
        assert_ne!(output.code(), 0, "nobody had answered\n{output}");
        assert_eq!(faulty.calls(), [""; 0], "a PIN was tried");
        machine.write("answered", "");
    });
    run_with_agent(machine, &agent, "ssh-keygen", &sign, b"a message").ok().says("BEGIN SSH SIGNATURE");
    assert_eq!(machine.read_text("questions").matches("---").count(), 2);
}
