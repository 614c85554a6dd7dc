//! One authority shared by many tests: the first test that needs it starts it, and it ends with the
//! test run. Each test uses its own machine and users, and leaves the authority unchanged.

use std::fs;
use std::io::Write;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::deployment::Deployment;
use super::machine::{Machine, TokenKind};
use super::output::Output;
use super::proxy::Proxy;
use super::terminal::Terminal;

/// The shared authority and its administrator's session. For tests that only enroll at the
/// authority.
pub struct SharedAuthority {
    /// One administrator with one token: one command at a time.
    deployment: Mutex<Deployment>,
    http_address: String,
    https_address: String,
}

impl SharedAuthority {
    /// The shared authority; starts it if needed.
    pub fn get() -> &'static Self {
        static SHARED: OnceLock<SharedAuthority> = OnceLock::new();
        SHARED.get_or_init(Self::open)
    }

    fn open() -> Self {
        // RSA, because tests with their own authority use curves.
        let deployment = Deployment::begin_with_encryption_keys("rsa-2048");
        end_with_test_run(&deployment);
        Self {
            http_address: deployment.authority.http_address(),
            https_address: deployment.authority.https_address(),
            deployment: Mutex::new(deployment),
        }
    }

    fn admin_session(&self) -> MutexGuard<'_, Deployment> {
        // A failure in another test does not matter here.
        self.deployment.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Host and port of the HTTP listener (enrollment).
    pub fn http_address(&self) -> &str {
        &self.http_address
    }

    pub fn http_url(&self) -> String {
        format!("http://{}", self.http_address)
    }

    pub fn https_url(&self) -> String {
        format!("https://{}", self.https_address)
    }

    /// Runs an administrator's command.
    pub fn admin(&self, arguments: &[&str]) -> Output {
        self.admin_session().admin(arguments)
    }

    /// Runs an administrator's command at a terminal; its exit code and what the terminal shows.
    pub fn admin_at_a_terminal(&self, arguments: &[&str]) -> (i32, String) {
        let session = self.admin_session();
        let source = ["--keyset", "admin", "--pin-source", "file:admin.pin"];
        Terminal::tokenkeep(&session.machine, &[&["admin"], arguments, &source].concat()).finish()
    }

    /// The authority's log so far.
    pub fn log(&self) -> String {
        super::authority::Authority::log(&self.admin_session().machine)
    }
}

/// Ends a shared deployment with the test run: the running authority and its machine.
pub fn end_with_test_run(deployment: &Deployment) {
    CleanupProcess::get().send_line(&format!("end {}", deployment.authority.process_id().unwrap()));
    remove_with_test_run(&deployment.machine);
}

/// Removes a shared machine at the end of the test run.
pub fn remove_with_test_run(machine: &Machine) {
    if std::env::var_os("TOKENKEEP_TEST_KEEP").is_none() {
        CleanupProcess::get().send_line(&format!("remove {}", machine.path().display()));
    }
}

/// Cleans up when this process ends in any way, because statics in a test binary are never dropped.
/// A shell reads the process IDs to kill and the directories to remove, and acts when its stdin is
/// closed.
struct CleanupProcess(Mutex<ChildStdin>);

impl CleanupProcess {
    const SCRIPT: &str = r#"trap '' INT TERM HUP
        while read -r what rest; do
            case $what in end) ends="$ends $rest" ;; remove) removes="$removes $rest" ;; esac
        done
        for id in $ends; do grep -q tokenkeep "/proc/$id/cmdline" && kill -9 "$id"; done
        for directory in $removes; do rm -rf "$directory"; done"#;

    #[allow(clippy::zombie_processes, reason = "it outlives this process by a moment")]
    fn get() -> &'static Self {
        static CLEANUP: OnceLock<CleanupProcess> = OnceLock::new();
        CLEANUP.get_or_init(|| {
            let mut shell = Command::new("sh");
            shell.args(["-c", Self::SCRIPT]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
            let mut shell = shell.spawn().unwrap();
            Self(Mutex::new(shell.stdin.take().unwrap()))
        })
    }

    fn send_line(&self, line: &str) {
        writeln!(self.0.lock().unwrap(), "{line}").unwrap();
    }
}

/// A user with their own machine and tokens, whom the authority knows (or will know) by a unique
/// email address.
pub struct TestUser {
    pub machine: Machine,
    pub email: String,
    pub authority: &'static SharedAuthority,
}

impl TestUser {
    /// The PIN in the file `pin`.
    pub const PIN: &str = "somebody-1234";
    /// The PIN in the file `other.pin`.
    pub const OTHER_PIN: &str = "another-56789";
    /// A PIN in the file `wrong.pin`, which no token has.
    pub const WRONG_PIN: &str = "wrong-000000";

    pub fn new() -> Self {
        Self::with(TokenKind::SoftHsm)
    }

    pub fn with(kind: TokenKind) -> Self {
        Self::on_machine(Machine::with(kind))
    }

    /// A new user on this machine, unknown to the authority.
    pub fn on_machine(machine: Machine) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        for (name, pin) in [("pin", Self::PIN), ("other.pin", Self::OTHER_PIN), ("wrong.pin", Self::WRONG_PIN)] {
            machine.write_secret(name, pin);
        }
        let email = format!("somebody{}@example.org", NEXT.fetch_add(1, Ordering::Relaxed));
        Self { machine, email, authority: SharedAuthority::get() }
    }

    /// A user with the keyset `default` on a token of that name. All users made this way are one
    /// person to the authority and have the same keys; a test that asks the authority for something
    /// uses [`Self::enrolled`].
    pub fn with_keyset() -> Self {
        Self::with_keyset_on(TokenKind::SoftHsm)
    }

    pub fn with_keyset_on(kind: TokenKind) -> Self {
        static SOFTHSM: OnceLock<TestUser> = OnceLock::new();
        static KRYOPTIC: OnceLock<TestUser> = OnceLock::new();
        let original = match kind {
            TokenKind::SoftHsm => &SOFTHSM,
            TokenKind::Kryoptic => &KRYOPTIC,
        };
        let original = original.get_or_init(|| {
            let user = Self::enrolled_with(kind);
            remove_with_test_run(&user.machine);
            fs::remove_file(user.machine.file("first.letter")).unwrap();
            user
        });
        Self { machine: original.machine.copy(), email: original.email.clone(), authority: original.authority }
    }

    /// A unique user with the keyset `default` on a token of that name.
    pub fn enrolled() -> Self {
        Self::enrolled_with(TokenKind::SoftHsm)
    }

    pub fn enrolled_with(kind: TokenKind) -> Self {
        let user = Self::with(kind);
        user.issue("first.letter");
        user.enroll_new("first.letter", "default").ok();
        user
    }

    /// Has the authority issue a letter into this machine's file `letter`.
    pub fn issue(&self, letter: &str) {
        self.issue_with(letter, &[]).ok();
    }

    /// Like [`Self::issue`], with more options.
    pub fn issue_with(&self, letter: &str, more: &[&str]) -> Output {
        self.write_letter("issue", letter, &[&["--name", "Example, Somebody"], more].concat())
    }

    /// Has the authority issue a recovery letter.
    pub fn recover(&self, letter: &str) {
        self.write_letter("recover", letter, &[]).ok();
    }

    fn write_letter(&self, what: &str, letter: &str, more: &[&str]) -> Output {
        let path = self.machine.file(letter).display().to_string();
        let arguments = [&[what, self.email.as_str(), "--letter-out", path.as_str()], more].concat();
        self.authority.admin(&arguments)
    }

    pub fn tokenkeep(&self, arguments: &[&str]) -> Output {
        self.machine.tokenkeep(arguments)
    }

    /// Runs `enroll` into a new token, with the PIN in `pin`, at level High.
    pub fn enroll_new(&self, letter: &str, keyset: &str) -> Output {
        self.enroll_new_with(letter, keyset, &[])
    }

    /// Like [`Self::enroll_new`], with more options.
    pub fn enroll_new_with(&self, letter: &str, keyset: &str, more: &[&str]) -> Output {
        let arguments = ["enroll", "--letter", letter, "--keyset", keyset, "--level", "high"];
        let rest = ["--new-token", "--new-pin-source", "file:pin"];
        self.tokenkeep(&[&arguments[..], &rest, more].concat())
    }

    /// Re-enrolls `default` with the PIN in this file.
    pub fn re_enroll(&self, letter: &str, pin: &str, more: &[&str]) -> Output {
        let source = format!("file:{pin}");
        self.tokenkeep(&[&re_enroll_arguments(letter)[..], &["--pin-source", source.as_str()], more].concat())
    }

    /// A proxy between this machine and the authority.
    pub fn start_proxy(&self) -> Proxy {
        Proxy::forwarding(self.authority.http_address())
    }

    /// The information about a keyset that needs no PIN; it changes with a re-enrollment.
    pub fn keyset_info(&self, keyset: &str) -> serde_json::Value {
        self.tokenkeep(&["keyset", "show", keyset, "--json"]).ok().json()
    }

    /// Signs with a keyset; fails the test unless that succeeds and `verify` accepts the signature.
    #[track_caller]
    pub fn signs_with(&self, keyset: &str, pin: &str) {
        let source = format!("file:{pin}");
        let text = "a message\n";
        self.machine.write("to-sign.txt", text);
        let out = ["--in", "to-sign.txt", "--out", "signed.p7m"];
        self.tokenkeep(&[&["sign", "--keyset", keyset, "--pin-source", source.as_str()], &out[..]].concat()).ok();
        self.tokenkeep(&["verify", "--in", "signed.p7m", "--out", "verified.txt"]).ok();
        assert_eq!(self.machine.read_text("verified.txt").replace("\r\n", "\n"), text);
        for file in ["signed.p7m", "verified.txt"] {
            fs::remove_file(self.machine.file(file)).unwrap();
        }
    }

    /// Encrypts to this user by their email address.
    pub fn encrypt(&self, text: &str, out: &str) {
        self.tokenkeep_with_input(&["encrypt", "--to", &self.email, "--out", out], text).ok();
    }

    /// Decrypts a message with a keyset.
    #[track_caller]
    pub fn decrypt(&self, keyset: &str, pin: &str, message: &str) -> String {
        let source = format!("file:{pin}");
        let arguments = ["decrypt", "--keyset", keyset, "--pin-source", &source, "--in", message, "--out", "-"];
        self.tokenkeep(&arguments).ok().out()
    }

    pub fn tokenkeep_with_input(&self, arguments: &[&str], input: &str) -> Output {
        self.machine.tokenkeep_with_input(arguments, input.as_bytes())
    }
}

/// `enroll` into the keyset `default`, without a PIN source.
pub fn re_enroll_arguments(letter: &str) -> [&str; 7] {
    ["enroll", "--letter", letter, "--keyset", "default", "--level", "high"]
}

/// Waits for the clock's next second, so that later certificates are newer than earlier ones. The
/// newest keyset of a person is determined by the date in its certificate, in whole seconds; with
/// equal dates it is undetermined.
pub fn wait_until_certificates_are_newer() {
    let second = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let now = second();
    while second() == now {
        thread::sleep(Duration::from_millis(20));
    }
}
