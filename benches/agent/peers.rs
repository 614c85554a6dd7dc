//! The existing alternatives, if installed: OpenSSH's agent with its PKCS#11 helper, and p11-kit's
//! server.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::child_process::{ChildGuard, wait_for};
use crate::ssh::{Connection, ListedKey};
use crate::support::machine::{Machine, softhsm_module};

/// The variable in which p11-kit's client finds its server.
const P11_KIT_ADDRESS: &str = "P11_KIT_SERVER_ADDRESS";

/// `ssh-agent` with the token's keys.
pub struct SshAgent {
    pub socket: PathBuf,
    _process: ChildGuard,
}

impl SshAgent {
    /// `None` if it is not installed or does not accept the token.
    pub fn start(pin: &str) -> Option<Self> {
        let socket = std::env::current_dir().unwrap().join("ssh-agent.sock");
        let mut agent = Command::new("ssh-agent");
        agent.args(["-D", "-P", "/usr/lib*/*,/usr/local/lib*/*", "-a"]).arg(&socket);
        let process = ChildGuard(agent.stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()?);
        wait_for(&socket);
        let askpass = std::env::current_dir().unwrap().join("askpass");
        std::fs::write(&askpass, format!("#!/bin/sh\necho '{pin}'\n")).unwrap();
        std::fs::set_permissions(&askpass, std::fs::Permissions::from_mode(0o700)).unwrap();
        let added = Command::new("ssh-add")
            .arg("-s")
            .arg(softhsm_module().canonicalize().unwrap())
            .env("SSH_AUTH_SOCK", &socket)
            .env("SSH_ASKPASS", askpass)
            .env("SSH_ASKPASS_REQUIRE", "force")
            .stdin(Stdio::null())
            .output()
            .ok()?;
        if !added.status.success() {
            println!("# skipping ssh-agent: {}", String::from_utf8_lossy(&added.stderr).trim());
            return None;
        }
        Some(Self { socket, _process: process })
    }

    pub fn keys(&self) -> Vec<ListedKey> {
        Connection::open(&self.socket).keys()
    }
}

/// `p11-kit server` for the token; `None` if it is not installed.
pub fn p11_kit_server(machine: &mut Machine, label: &str) -> Option<ChildGuard> {
    client_module()?;
    let mut server = machine.command("p11-kit");
    let socket = machine.file("runtime/p11-kit.sock");
    server.args(["server", "-f", "-n"]).arg(&socket).arg("--provider").arg(softhsm_module());
    server.arg(format!("pkcs11:token={label}"));
    let process = ChildGuard(server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()?);
    wait_for(&socket);
    machine.set_environment(P11_KIT_ADDRESS, &format!("unix:path={}", socket.display()));
    Some(process)
}

/// The client module of the running server; `None` without a server.
pub fn p11_kit_client() -> Option<PathBuf> {
    std::env::var_os(P11_KIT_ADDRESS)?;
    client_module()
}

fn client_module() -> Option<PathBuf> {
    let places = ["/usr/lib/x86_64-linux-gnu/pkcs11", "/usr/lib/aarch64-linux-gnu/pkcs11", "/usr/lib64/pkcs11"];
    places.map(|place| PathBuf::from(place).join("p11-kit-client.so")).into_iter().find(|module| module.exists())
}
