//! How the agent starts: from a shell's startup line, from systemd's sockets, and the errors if it
//! cannot start.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::agent::{
    Agent, BackgroundAgent, LIST, TIMEOUT, fail_to_start, is_alive, probe, wait_for, workers_of,
};
use crate::support::foreign_programs::{present, skipped};
use crate::support::machine::Machine;
use crate::support::process_guard::ProcessGuard;
use crate::support::ssh::ssh_add;

#[test]
fn a_module_that_cannot_be_loaded_is_reported_at_startup() {
    let machine = Machine::new();
    Agent::configure(&machine, "");
    machine.write("config/tokenkeep/agent.toml", "modules = [\"/nowhere/module.so\"]\n");
    let expected = machine.tokenkeep(&["tokens"]).code();
    fail_to_start(&machine, &[]).fails_with(expected).says("/nowhere/module.so");
    fail_to_start(&machine, &["--env"]).fails_with(expected).does_not_say("SSH_AUTH_SOCK");
    assert!(!machine.file("runtime/tokenkeep/agent/ssh.sock").exists());
}

#[test]
fn a_shell_finds_the_agent_with_one_startup_line() {
    let machine = Machine::new();
    let _ended = BackgroundAgent(&machine);
    let line = "eval \"$(tokenkeep agent --env)\" && ssh-add -l; echo \"ssh-add $?\"; \
                curl -s -o /dev/null --unix-socket \"$TOKENKEEP_AGENT_API\" http://localhost/v1/tokens && \
                echo reached; eval \"$(tokenkeep agent --env)\" && tokenkeep agent status";
    let output = machine.shell(line).ok().says("no identities").says("ssh-add 1").says("reached").says("(live)");
    let process = output
        .out()
        .lines()
        .find_map(|line| line.strip_prefix("An agent runs (process ")?.strip_suffix(").").map(str::to_owned));
    let process: u32 = process.unwrap().parse().unwrap();
    // It outlives the shell, in its own session, and keeps none of the shell's descriptors open.
    assert!(is_alive(process));
    machine.shell("eval \"$(tokenkeep agent --env)\"; ssh-add -l").says("no identities");
    assert_eq!(machine.tokenkeep(&["agent", "status", "--json"]).ok().json()["process"], process, "there is one only");
    machine.tokenkeep(&["agent", "stop"]).ok();
    wait_for("it ends", || (!is_alive(process)).then_some(()));
    let json = machine.tokenkeep(&["agent", "--env", "--json"]).ok().json();
    assert_eq!(json["SSH_AUTH_SOCK"], machine.file("runtime/tokenkeep/agent/ssh.sock").to_str().unwrap());
}

#[test]
fn the_status_of_a_locked_agent_says_how_to_unlock_it() {
    let mut machine = Machine::new();
    Agent::configure(&machine, "");
    let agent = Agent::start(&machine, &[]);
    machine.set_environment("SSH_AUTH_SOCK", agent.ssh_socket().to_str().unwrap());
    let is_locked = || machine.tokenkeep(&["agent", "status", "--json"]).ok().json()["locked"].clone();
    machine.tokenkeep(&["agent", "status"]).ok().says("An agent runs").does_not_say("locked");
    assert_eq!(is_locked(), false);
    ssh_add(&machine, "a pass phrase", &["-x"]).ok();
    machine.tokenkeep(&["agent", "status"]).ok().says("(live)").says("locked").says("ssh-add -X");
    assert_eq!(is_locked(), true);
    ssh_add(&machine, "a pass phrase", &["-X"]).ok();
    machine.tokenkeep(&["agent", "status"]).ok().does_not_say("locked");
    assert!(agent.stop().success());
    let stopped = machine.tokenkeep(&["agent", "status", "--json"]);
    assert!(stopped.code() == 3 && stopped.json()["locked"].is_null(), "{stopped}");
}

/// Creates sockets and passes them as systemd does.
const ACTIVATE: &str = r#"
import os, socket, sys
names, paths, program = sys.argv[1], sys.argv[2].split(":"), sys.argv[3:]
sockets = []
for path in paths:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    os.chmod(path, 0o600)
    listener.listen()
    sockets.append(os.dup(listener.detach()))
saved = [os.dup2(fd, 100 + i) for i, fd in enumerate(sockets)]
for i, fd in enumerate(saved):
    os.dup2(fd, 3 + i)
os.closerange(3 + len(saved), 200)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(saved)), LISTEN_FDNAMES=names)
os.execvp(program[0], program)
"#;

/// Creates the directory for the sockets, with mode 0700.
fn agent_directory(machine: &Machine) -> PathBuf {
    let directory = machine.file("runtime/tokenkeep/agent");
    for path in [directory.parent().unwrap(), &directory] {
        fs::create_dir_all(path).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).unwrap();
    }
    directory
}

/// Starts the agent with sockets that another process created.
fn start_activated(machine: &Machine, names: &str, notify: Option<&Path>) -> Child {
    let directory = agent_directory(machine);
    machine.write("activate.py", ACTIVATE);
    let paths = format!("{0}/ssh.sock:{0}/api.sock", directory.display());
    let log = fs::File::create(machine.file("activated.log")).unwrap();
    let mut command = machine.command("python3");
    command.args(["activate.py", names, &paths, env!("CARGO_BIN_EXE_tokenkeep"), "agent", "-v"]);
    if let Some(notify) = notify {
        command.env("NOTIFY_SOCKET", notify);
    }
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
}

#[test]
fn sockets_from_systemd_are_used_and_kept() {
    let machine = Machine::new();
    for names in ["ssh:api", "tokenkeep-agent.socket:tokenkeep-agent.socket"] {
        let notify = machine.file("notify");
        let manager = UnixDatagram::bind(&notify).unwrap();
        manager.set_read_timeout(Some(TIMEOUT)).unwrap();
        let mut child = start_activated(&machine, names, Some(&notify));
        let mut notification = [0; 200];
        let length = manager.recv(&mut notification).unwrap();
        assert_eq!(std::str::from_utf8(&notification[..length]).unwrap().trim(), "READY=1");
        let socket = machine.file("runtime/tokenkeep/agent/ssh.sock");
        let before = fs::metadata(&socket).unwrap().ino();
        assert_eq!(probe(&mut UnixStream::connect(&socket).unwrap()).unwrap(), LIST);
        // The supervisor's variables do not reach the worker.
        let worker = workers_of(child.id())[0];
        // (Only root can read them: the worker is not dumpable.)
        let environment = fs::read(format!("/proc/{worker}/environ")).unwrap_or_default();
        let environment = String::from_utf8_lossy(&environment);
        assert_eq!(environment.is_empty(), !rustix::process::geteuid().is_root());
        assert!(!environment.contains("LISTEN_") && !environment.contains("NOTIFY_SOCKET"), "{environment}");
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        assert!(child.wait().unwrap().success(), "{}", machine.read_text("activated.log"));
        let length = manager.recv(&mut notification).unwrap();
        assert_eq!(std::str::from_utf8(&notification[..length]).unwrap().trim(), "STOPPING=1");
        assert_eq!(fs::metadata(&socket).unwrap().ino(), before, "systemd's socket is systemd's");
        for name in ["runtime/tokenkeep/agent/ssh.sock", "runtime/tokenkeep/agent/api.sock", "notify"] {
            fs::remove_file(machine.file(name)).unwrap();
        }
    }
}

#[test]
fn systemd_socket_activate_passes_the_sockets() {
    if !present("systemd-socket-activate") {
        return;
    }
    let machine = Machine::new();
    let directory = agent_directory(&machine);
    let [ssh, api] = ["ssh.sock", "api.sock"].map(|name| directory.join(name).display().to_string());
    let log = fs::File::create(machine.file("activated.log")).unwrap();
    let mut command = machine.command("systemd-socket-activate");
    // The activated agent gets few environment variables by default.
    for name in ["XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "SOFTHSM2_CONF"] {
        command.args(["-E", name]);
    }
    command.args(["-l", &ssh, "-l", &api, env!("CARGO_BIN_EXE_tokenkeep"), "agent", "-v"]);
    let child = command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
    let mut child = ProcessGuard(child);
    for socket in [&ssh, &api] {
        wait_for("a socket", || Path::new(socket).exists().then_some(()));
        // A unit sets the mode with `SocketMode`.
        fs::set_permissions(socket, fs::Permissions::from_mode(0o600)).unwrap();
    }
    // The socket listens, and nothing runs before the first connection; the agent then is this very
    // process.
    let mut asking = wait_for("the socket listens", || UnixStream::connect(&ssh).ok());
    assert_eq!(probe(&mut asking).unwrap(), LIST, "{}", machine.read_text("activated.log"));
    let tokens = ["-sS", "--unix-socket", &api, "http://agent/v1/tokens"];
    machine.run("curl", &tokens, b"").ok().says("\"tokens\":[]");
    assert_eq!(machine.tokenkeep(&["agent", "status", "--json"]).ok().json()["process"], child.0.id());
    kill_process(Pid::from_child(&child.0), Signal::TERM).unwrap();
    assert!(child.0.wait().unwrap().success(), "{}", machine.read_text("activated.log"));
    assert!(Path::new(&ssh).exists() && Path::new(&api).exists(), "they are not the agent's to remove");
}

#[test]
fn an_inherited_socket_without_a_known_name_is_refused() {
    let machine = Machine::new();
    let mut child = start_activated(&machine, "api:api", None);
    assert_eq!(wait_for("it ends", || child.try_wait().unwrap()).code(), Some(2));
    assert!(machine.read_text("activated.log").contains("cannot identify the passed socket"));
}

#[test]
fn systemd_accepts_the_agents_units() {
    let machine = Machine::new();
    let there = Command::new("systemd-analyze").arg("--version").stdout(Stdio::null()).status();
    if !there.is_ok_and(|status| status.success()) {
        return skipped("systemd-analyze is not installed");
    }
    let mut names = Vec::new();
    for name in ["tokenkeep-agent.service", "tokenkeep-agent.socket"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/systemd").join(name);
        let text = fs::read_to_string(path).unwrap();
        // systemd checks that the program exists.
        machine.write(name, text.replace("/usr/bin/tokenkeep", env!("CARGO_BIN_EXE_tokenkeep")));
        names.push(machine.file(name).display().to_string());
    }
    let verify = ["verify", "--user", &names[0], &names[1]];
    let output = machine.run("systemd-analyze", &verify, b"").ok();
    assert_eq!(output.err(), "");
    // The check reports faults.
    let broken = machine.read_text("tokenkeep-agent.service").replace("Restart=on-failure", "Restart=sometimes");
    machine.write("tokenkeep-agent.service", broken);
    machine.run("systemd-analyze", &verify, b"").says("sometimes");
}

#[test]
fn worker_commands_are_not_user_commands() {
    let machine = Machine::new();
    machine.tokenkeep(&["agent-worker"]).fails_with(1).says("only `tokenkeep agent` can start the worker");
    for arguments in [&["--help"][..], &["completions", "bash"], &["completions", "zsh"], &["man"]] {
        machine.tokenkeep(arguments).ok().does_not_say("agent-worker");
    }
}
