//! SSH on a test machine: keysets for the agent, an sshd, and a raw client of the agent protocol.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Stdio};

use super::agent::{Agent, TIMEOUT, wait_for};
use super::deployment::Deployment;
use super::machine::{Machine, run};
use super::output::Output;

/// The PIN of every keyset here, in the file `pin`.
pub const PIN: &str = "user-123456";

/// A machine with enrolled users. Each entry is a keyset's name, which is also the name of its
/// token and the local part of its user's address `@example.org`; its level; and its signing
/// algorithm. The authority has stopped.
pub fn enroll_machine(keysets: &[(&str, &str, &str)]) -> Machine {
    let Deployment { mut authority, machine } = Deployment::begin();
    machine.write_secret("pin", PIN);
    for (name, level, kind) in keysets {
        let text = machine.read_text("profiles/signing.toml");
        let lines = text.lines().map(|line| match line.strip_prefix("keys = ") {
            Some(_) => format!("keys = [\"{kind}\"]"),
            None => line.to_owned(),
        });
        let changed = lines.collect::<Vec<_>>().join("\n") + "\n";
        if changed != text {
            assert!(authority.stop().success());
            machine.write("profiles/signing.toml", changed);
            authority.serve(&machine);
        }
        let (email, letter) = (format!("{name}@example.org"), format!("{name}.letter"));
        let admin = ["--keyset", "admin", "--pin-source", "file:admin.pin"];
        let issue = ["admin", "issue", &email, "--name", "Example, User", "--letter-out", &letter];
        machine.tokenkeep(&[&issue[..], &admin].concat()).ok();
        let enroll = ["enroll", "--letter", &letter, "--keyset", name, "--level", level, "--new-token"];
        machine.tokenkeep(&[&enroll[..], &["--new-pin-source", "file:pin"]].concat()).ok();
    }
    assert!(authority.stop().success());
    machine
}

/// Starts the agent, which gets PINs from the file `pin`, for the clients of this machine. Writes
/// each keyset's public key to a file with the keyset's name.
pub fn start_agent(machine: &mut Machine) -> Agent {
    Agent::configure_with_pin_in(machine, "pin", "");
    let agent = Agent::start(machine, &[]);
    machine.set_environment("SSH_AUTH_SOCK", agent.ssh_socket().to_str().unwrap());
    let _ = fs::remove_file(machine.file("questions"));
    for line in machine.run("ssh-add", &["-L"], b"").ok().out().lines() {
        let name = line.split(' ').nth(2).unwrap();
        machine.write(&format!("{name}.pub"), format!("{line}\n"));
    }
    agent
}

/// The questions since the last call.
pub fn questions(machine: &Machine) -> Vec<String> {
    let path = machine.file("questions");
    let text = fs::read_to_string(&path).unwrap_or_default();
    let _ = fs::remove_file(path);
    text.split_terminator("---\n").map(str::to_owned).collect()
}

/// Runs `ssh-add` with this input at its prompt.
pub fn ssh_add(machine: &Machine, typed: &str, arguments: &[&str]) -> Output {
    let askpass = machine.write("bin/askpass", format!("#!/bin/sh\necho '{typed}'\n"));
    fs::set_permissions(&askpass, fs::Permissions::from_mode(0o700)).unwrap();
    let mut command = machine.command("ssh-add");
    command.args(arguments).env("SSH_ASKPASS", askpass).env("SSH_ASKPASS_REQUIRE", "force");
    run(command, b"")
}

/// Runs `ssh-keygen -Y sign` on the file `message` with a keyset's public key; the signature is in
/// `message.sig`.
pub fn sign_file(machine: &Machine, keyset: &str) -> Output {
    let _ = fs::remove_file(machine.file("message.sig"));
    machine.write("message", "a message\n");
    let line = ["-Y", "sign", "-n", "file", "-f", &format!("{keyset}.pub"), "message"];
    machine.run("ssh-keygen", &line, b"")
}

/// An sshd on a port of its own; the user of this process may log in. It is killed when dropped.
pub struct Sshd {
    child: Child,
    port: u16,
    pub user: String,
}

impl Sshd {
    /// Starts it with a new host key, `host_key`, of a type of `ssh-keygen -t`.
    pub fn start(machine: &Machine, host_key: &[&str]) -> Self {
        machine.run("ssh-keygen", &[&["-q", "-N", "", "-f", "host_key", "-t"], host_key].concat(), b"").ok();
        if rustix::process::geteuid().is_root() {
            // Only root's sshd needs it; under systemd it exists.
            fs::create_dir_all("/run/sshd").unwrap();
        }
        let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        let at = |name: &str| machine.file(name).display().to_string();
        machine.write(
            "sshd_config",
            format!(
                "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nUsePAM no\n\
                 StrictModes no\nPermitRootLogin yes\nPasswordAuthentication no\nLogLevel VERBOSE\n",
                at("host_key"),
                at("authorized_keys")
            ),
        );
        let log = fs::File::create(machine.file("sshd.log")).unwrap();
        let mut command = machine.command("/usr/sbin/sshd");
        command.args(["-D", "-e", "-f", &at("sshd_config")]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let mut child = command.spawn().expect("sshd; ./softhsm-setup.sh installs it");
        wait_for("sshd listens", || {
            assert!(child.try_wait().unwrap().is_none(), "sshd ended: {}", machine.read_text("sshd.log"));
            TcpStream::connect(("127.0.0.1", port)).ok()
        });
        let user = machine.run("id", &["-un"], b"").ok().out().trim().to_owned();
        Self { child, port, user }
    }

    /// The command line that logs in with only the key of a keyset, up to the destination.
    pub fn ssh(&self, machine: &Machine, keyset: &str, options: &[&str]) -> Vec<String> {
        let at = |name: &str| machine.file(name).display().to_string();
        let (key, known) = (at(&format!("{keyset}.pub")), format!("UserKnownHostsFile={}", at("known_hosts")));
        let (port, destination) = (self.port.to_string(), format!("{}@127.0.0.1", self.user));
        let fixed = ["ssh", "-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", &known];
        let choice = ["-o", "IdentitiesOnly=yes", "-i", &key, "-p", &port];
        let all = fixed.iter().chain(&choice).chain(options).copied().chain([destination.as_str()]);
        all.map(str::to_owned).collect()
    }

    /// Logs in and runs a command there.
    pub fn log_in(&self, machine: &Machine, keyset: &str, options: &[&str], command: &str) -> Output {
        let mut line = self.ssh(machine, keyset, options);
        line.push(command.to_owned());
        let arguments: Vec<&str> = line.iter().skip(1).map(String::as_str).collect();
        machine.run("ssh", &arguments, b"")
    }

    /// The host key's fingerprint.
    pub fn fingerprint(machine: &Machine) -> String {
        let shown = machine.run("ssh-keygen", &["-l", "-f", "host_key.pub"], b"").ok().out();
        shown.split(' ').nth(1).unwrap().to_owned()
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// OpenSSH's own agent. It is killed when dropped.
pub struct OrdinaryAgent {
    child: Child,
    pub socket: std::path::PathBuf,
}

impl OrdinaryAgent {
    /// Starts it with these private keys from files.
    pub fn start(machine: &Machine, keys: &[&str]) -> Self {
        let socket = machine.file("ordinary.sock");
        let mut command = machine.command("ssh-agent");
        command.args(["-D", "-a", socket.to_str().unwrap()]).stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.spawn().unwrap();
        let agent = Self { child, socket };
        wait_for("ssh-agent listens", || UnixStream::connect(&agent.socket).ok());
        for key in keys {
            fs::set_permissions(machine.file(key), fs::Permissions::from_mode(0o600)).unwrap();
            let mut command = machine.command("ssh-add");
            command.args(["-q", key]).env("SSH_AUTH_SOCK", &agent.socket);
            run(command, b"").ok();
        }
        agent
    }
}

impl Drop for OrdinaryAgent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A `string` of RFC 4251 §5.
pub fn string(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let bytes = bytes.as_ref();
    [&u32::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}

/// The first `string`, and the rest.
pub fn split_string(bytes: &[u8]) -> (&[u8], &[u8]) {
    let (length, rest) = bytes.split_first_chunk().unwrap();
    rest.split_at(u32::from_be_bytes(*length) as usize)
}

/// A raw client of the agent protocol.
pub struct RawAgentClient(UnixStream);

impl RawAgentClient {
    pub fn connect(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket).unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        Self(stream)
    }

    /// Sends a message; returns the response.
    pub fn request(&mut self, message: &[u8]) -> Vec<u8> {
        self.0.write_all(&string(message)).unwrap();
        let mut length = [0; 4];
        self.0.read_exact(&mut length).unwrap();
        let mut answer = vec![0; u32::from_be_bytes(length) as usize];
        self.0.read_exact(&mut answer).unwrap();
        answer
    }

    /// The signature of a key over these bytes: algorithm name and bytes; `None` if it is refused.
    pub fn sign(&mut self, key_blob: &[u8], data: &[u8], flags: u32) -> Option<(String, Vec<u8>)> {
        let request = [&[13], &string(key_blob)[..], &string(data), &flags.to_be_bytes()].concat();
        let answer = self.request(&request);
        if answer == [5] {
            return None;
        }
        assert_eq!(answer[0], 14, "{answer:?}");
        let (name, signature) = split_string(split_string(&answer[1..]).0);
        Some((String::from_utf8(name.to_vec()).unwrap(), split_string(signature).0.to_vec()))
    }

    /// The first listed key whose comment has this prefix.
    pub fn key(&mut self, comment: &str) -> Vec<u8> {
        let answer = self.request(&[11]);
        let mut rest = &answer[5..];
        while !rest.is_empty() {
            let (blob, more) = split_string(rest);
            let (listed, more) = split_string(more);
            if listed.starts_with(comment.as_bytes()) {
                return blob.to_vec();
            }
            rest = more;
        }
        panic!("no key is listed as {comment}");
    }
}
