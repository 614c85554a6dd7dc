//! An authority as a child process: initialized, served, killed at a crash point, and restarted on
//! the same addresses.

use std::fs;
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use super::machine::Machine;

/// Maximum time until an authority serves.
const TIMEOUT: Duration = Duration::from_mins(1);

/// An authority on a machine. Its files are `authority.toml`, `authority.pin`, `admin.letter` and
/// `state/`; it logs to `authority.log`. It is killed when dropped.
pub struct Authority {
    http_port: u16,
    https_port: u16,
    child: Option<Child>,
}

impl Authority {
    /// The PIN in `authority.pin`.
    pub const PIN: &str = "authority-4711";

    /// Runs `authority init`; the first administrator's letter is `admin.letter`. Does not serve.
    pub fn init(machine: &Machine) -> Self {
        Self::init_with(machine, "")
    }

    /// Like [`Self::init`], with more lines of configuration (top-level keys first, then tables
    /// except `token` and `listen`).
    pub fn init_with(machine: &Machine, configuration: &str) -> Self {
        let authority = Self::prepared_with(machine, configuration);
        machine.tokenkeep(&Self::INIT).ok();
        authority
    }

    /// Prepared for [`Self::INIT`].
    pub fn prepared(machine: &Machine) -> Self {
        Self::prepared_with(machine, "")
    }

    fn prepared_with(machine: &Machine, configuration: &str) -> Self {
        let authority = Self { http_port: free_port(), https_port: free_port(), child: None };
        authority.configure(machine, configuration);
        machine.write_secret("authority.pin", Self::PIN);
        authority
    }

    /// An authority that exists on this machine already.
    pub fn open_existing(machine: &Machine) -> Self {
        let text = machine.read_text("authority.toml");
        let port = |key: &str| {
            let line = text.lines().find(|line| line.starts_with(&format!("{key} = "))).unwrap();
            line.trim_end_matches('"').rsplit(':').next().unwrap().parse().unwrap()
        };
        Self { http_port: port("http"), https_port: port("https"), child: None }
    }

    /// The command that initializes it.
    pub const INIT: [&str; 10] = [
        "authority",
        "init",
        "--config",
        "authority.toml",
        "--new-pin-source",
        "file:authority.pin",
        "--first-administrator",
        "admin@example.org",
        "--letter-out",
        "admin.letter",
    ];

    /// Writes `authority.toml` with `more`, and a copy of the shipped profiles in which users'
    /// encryption keys are P-256. These are generated at once; the shipped RSA-3072 takes a second.
    pub fn configure(&self, machine: &Machine, more: &str) {
        let profiles = "[enrollment]\nprofiles = \"profiles\"\n";
        let more = if more.contains("[enrollment]\n") {
            more.replace("[enrollment]\n", profiles)
        } else {
            format!("{more}\n{profiles}")
        };
        let text = format!(
            "name = \"Example Authority\"\n{more}\n\n[token]\nlabel = \"authority\"\nmodule = \"{}\"\n\n\
             [listen]\nhttp = \"127.0.0.1:{}\"\nhttps = \"127.0.0.1:{}\"\n",
            machine.module().display(),
            self.http_port,
            self.https_port,
        );
        machine.write("authority.toml", text);
        fs::create_dir_all(machine.file("profiles")).unwrap();
        for file in fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/hsm-config/profiles")).unwrap() {
            let file = file.unwrap();
            let mut text = fs::read_to_string(file.path()).unwrap();
            if file.file_name() == "encryption.toml" {
                text = text
                    .replace("[\"rsa-3072\", ", "[\"p256\", \"rsa-3072\", ")
                    .replace(", \"p256\", \"p384\"]", ", \"p384\"]");
            }
            fs::write(machine.file("profiles").join(file.file_name()), text).unwrap();
        }
    }

    /// Restricts the keys of this profile (`signing`, `encryption`) to one algorithm, from the next
    /// start on.
    pub fn restrict_key_kind(machine: &Machine, profile: &str, kind: &str) {
        let profile = format!("profiles/{profile}.toml");
        let text = machine.read_text(&profile);
        let lines = text
            .lines()
            .map(|line| if line.starts_with("keys") { format!("keys = [\"{kind}\"]") } else { line.to_owned() });
        machine.write(&profile, lines.collect::<Vec<_>>().join("\n"));
    }

    /// Runs `authority serve`, and waits until it listens.
    pub fn serve(&mut self, machine: &Machine) {
        self.serve_with(machine, &[]);
    }

    /// Serves in a process that dies at a crash point (`name` or `name:N`).
    pub fn serve_crashing_at(&mut self, machine: &Machine, point: &str) {
        self.serve_with(machine, &[("TOKENKEEP_CRASH_AT", point)]);
    }

    /// Serves with these variables in the environment.
    pub fn serve_with(&mut self, machine: &Machine, environment: &[(&str, &str)]) {
        assert!(self.child.is_none(), "it already serves");
        let arguments =
            ["authority", "serve", "--config", "authority.toml", "--pin-source", "file:authority.pin", "-vv"];
        let said = Self::log(machine).len();
        self.child = Some(machine.start_tokenkeep(&arguments, "authority.log", environment));
        let end = Instant::now() + TIMEOUT;
        // The ports are bound before the token is opened; this line of the log follows.
        while !Self::log(machine)[said..].contains("Serving on") {
            if let Some(status) = self.child.as_mut().unwrap().try_wait().unwrap() {
                self.child = None;
                // Some tests set a crash point in the startup.
                assert_eq!(status.signal(), Some(9), "the authority ended: {status}\n{}", Self::log(machine));
                return;
            }
            assert!(Instant::now() < end, "the authority does not serve\n{}", Self::log(machine));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until the process has crashed.
    pub fn wait_for_crash(&mut self) -> ExitStatus {
        let end = Instant::now() + TIMEOUT;
        loop {
            if let Some(status) = self.child.as_mut().unwrap().try_wait().unwrap() {
                self.child = None;
                return status;
            }
            assert!(Instant::now() < end, "the authority did not crash");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Whether it dies within five seconds, for example after its client reached a crash point.
    pub fn exits_soon(&mut self) -> bool {
        let end = Instant::now() + Duration::from_secs(5);
        while self.is_running() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(20));
        }
        !self.is_running()
    }

    pub fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.try_wait().unwrap().is_none())
    }

    pub fn process_id(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Sends SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Sends SIGTERM and waits for the exit.
    pub fn stop(&mut self) -> ExitStatus {
        let mut child = self.child.take().unwrap();
        let id = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
        child.wait().unwrap()
    }

    /// Host and port of the HTTP listener (enrollment), such as `127.0.0.1:20017`.
    pub fn http_address(&self) -> String {
        format!("127.0.0.1:{}", self.http_port)
    }

    pub fn http_url(&self) -> String {
        format!("http://{}", self.http_address())
    }

    /// Host and port of the HTTPS listener (administration).
    pub fn https_address(&self) -> String {
        format!("127.0.0.1:{}", self.https_port)
    }

    pub fn https_url(&self) -> String {
        format!("https://{}", self.https_address())
    }

    /// The log of all its processes so far.
    pub fn log(machine: &Machine) -> String {
        String::from_utf8_lossy(&fs::read(machine.file("authority.log")).unwrap_or_default()).into_owned()
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A free port that the kernel gives to no outgoing connection, so that a restarted authority can
/// bind it again.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let start = u16::try_from(std::process::id() % 150 * 60).unwrap_or(0);
        let port = 12_000 + (start + step) % 20_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
