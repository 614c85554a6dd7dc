//! One authority for many tests: begun by the first that asks, ended with the test run. Each test comes with a machine
//! and people of its own, and leaves the authority as it found it.

use std::fs;
use std::io::Write;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::machine::{Machine, TokenKind};
use super::output::Output;
use super::proxy::Proxy;
use super::story::Story;

/// The authority and its administrator's desk. For tests that do nothing to the authority but enroll at it.
pub struct Office {
    /// One administrator, one token: one command at a time.
    desk: Mutex<Story>,
    http_address: String,
    https_address: String,
}

impl Office {
    /// The office, opened when it is not yet.
    pub fn get() -> &'static Self {
        static OFFICE: OnceLock<Office> = OnceLock::new();
        OFFICE.get_or_init(Self::open)
    }

    fn open() -> Self {
        // RSA, for the tests of a story's own have curves.
        let story = Story::begin_with_encryption_keys("rsa-2048");
        end_at_the_end(&story);
        Self {
            http_address: story.authority.http_address(),
            https_address: story.authority.https_address(),
            desk: Mutex::new(story),
        }
    }

    fn desk(&self) -> MutexGuard<'_, Story> {
        // Another test's failure is not ours.
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Host and port of the door for enrollment.
    pub fn http_address(&self) -> &str {
        &self.http_address
    }

    pub fn http_url(&self) -> String {
        format!("http://{}", self.http_address)
    }

    pub fn https_url(&self) -> String {
        format!("https://{}", self.https_address)
    }

    /// An administrator's command at the desk.
    pub fn admin(&self, arguments: &[&str]) -> Output {
        self.desk().admin(arguments)
    }

    /// What the authority has said until now.
    pub fn log(&self) -> String {
        super::authority::Authority::log(&self.desk().machine)
    }
}

/// Has a story that several tests share end with the test run: its authority, as it runs now, and its machine.
pub fn end_at_the_end(story: &Story) {
    Leash::get().says(&format!("end {}", story.authority.process_id().unwrap()));
    clear_up_at_the_end(&story.machine);
}

/// Has a machine that several tests share removed with the test run.
pub fn clear_up_at_the_end(machine: &Machine) {
    if std::env::var_os("TOKENKEEP_TEST_KEEP").is_none() {
        Leash::get().says(&format!("remove {}", machine.path().display()));
    }
}

/// Tidies up when this process ends, however it ends: what is static in a test binary is never dropped. It is a shell
/// that reads process ids to end and directories to remove, and acts when its stdin ends.
struct Leash(Mutex<ChildStdin>);

impl Leash {
    const SCRIPT: &str = r#"trap '' INT TERM HUP
        while read -r what rest; do
            case $what in end) ends="$ends $rest" ;; remove) removes="$removes $rest" ;; esac
        done
        for id in $ends; do grep -q tokenkeep "/proc/$id/cmdline" && kill -9 "$id"; done
        for directory in $removes; do rm -rf "$directory"; done"#;

    #[allow(clippy::zombie_processes, reason = "it outlives this process by a moment")]
    fn get() -> &'static Self {
        static LEASH: OnceLock<Leash> = OnceLock::new();
        LEASH.get_or_init(|| {
            let mut shell = Command::new("sh");
            shell.args(["-c", Self::SCRIPT]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
            let mut shell = shell.spawn().unwrap();
            Self(Mutex::new(shell.stdin.take().unwrap()))
        })
    }

    fn says(&self, line: &str) {
        writeln!(self.0.lock().unwrap(), "{line}").unwrap();
    }
}

/// Somebody with a machine and tokens of their own, whom the office knows (or will) by an e-mail address of their own.
pub struct Somebody {
    pub machine: Machine,
    pub email: String,
    pub office: &'static Office,
}

impl Somebody {
    /// The PIN in the file `pin`.
    pub const PIN: &str = "somebody-1234";
    /// The PIN in the file `other.pin`.
    pub const OTHER_PIN: &str = "another-56789";
    /// A PIN in the file `wrong.pin`; no token has it.
    pub const WRONG_PIN: &str = "wrong-000000";

    pub fn new() -> Self {
        Self::with(TokenKind::SoftHsm)
    }

    pub fn with(kind: TokenKind) -> Self {
        Self::at(Machine::with(kind))
    }

    /// Somebody whom the office does not know, at this machine.
    pub fn at(machine: Machine) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        for (name, pin) in [("pin", Self::PIN), ("other.pin", Self::OTHER_PIN), ("wrong.pin", Self::WRONG_PIN)] {
            machine.write_secret(name, pin);
        }
        let email = format!("somebody{}@example.org", NEXT.fetch_add(1, Ordering::Relaxed));
        Self { machine, email, office: Office::get() }
    }

    /// One who has the keyset `default` on a token of that name. To the office all who are made so are one person, and
    /// their keys are the same: who asks it for something takes [`Self::enrolled`].
    pub fn with_keyset() -> Self {
        Self::with_keyset_on(TokenKind::SoftHsm)
    }

    pub fn with_keyset_on(kind: TokenKind) -> Self {
        static SOFTHSM: OnceLock<Somebody> = OnceLock::new();
        static KRYOPTIC: OnceLock<Somebody> = OnceLock::new();
        let original = match kind {
            TokenKind::SoftHsm => &SOFTHSM,
            TokenKind::Kryoptic => &KRYOPTIC,
        };
        let original = original.get_or_init(|| {
            let somebody = Self::enrolled_with(kind);
            clear_up_at_the_end(&somebody.machine);
            fs::remove_file(somebody.machine.file("first.letter")).unwrap();
            somebody
        });
        Self { machine: original.machine.copy(), email: original.email.clone(), office: original.office }
    }

    /// Somebody with the keyset `default` on a token of that name, whom nobody else is.
    pub fn enrolled() -> Self {
        Self::enrolled_with(TokenKind::SoftHsm)
    }

    pub fn enrolled_with(kind: TokenKind) -> Self {
        let somebody = Self::with(kind);
        somebody.issue("first.letter");
        somebody.enroll_new("first.letter", "default").ok();
        somebody
    }

    /// Has the office issue a letter; it is in this machine's file `letter`.
    pub fn issue(&self, letter: &str) {
        self.issue_with(letter, &[]).ok();
    }

    /// The same with more options.
    pub fn issue_with(&self, letter: &str, more: &[&str]) -> Output {
        self.ask("issue", letter, &[&["--name", "Example, Somebody"], more].concat())
    }

    /// Has the office write a recovery letter.
    pub fn recover(&self, letter: &str) {
        self.ask("recover", letter, &[]).ok();
    }

    fn ask(&self, what: &str, letter: &str, more: &[&str]) -> Output {
        let path = self.machine.file(letter).display().to_string();
        let arguments = [&[what, self.email.as_str(), "--letter-out", path.as_str()], more].concat();
        self.office.admin(&arguments)
    }

    pub fn tokenkeep(&self, arguments: &[&str]) -> Output {
        self.machine.tokenkeep(arguments)
    }

    /// `enroll` into a token that is to be made, with the PIN in `pin`, at level High.
    pub fn enroll_new(&self, letter: &str, keyset: &str) -> Output {
        self.enroll_new_with(letter, keyset, &[])
    }

    /// The same with more options.
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

    /// Somebody on the wire between this machine and the office.
    pub fn wire(&self) -> Proxy {
        Proxy::listening(self.office.http_address())
    }

    /// What a person can see of a keyset without a PIN; changes when it is re-enrolled.
    pub fn shown(&self, keyset: &str) -> serde_json::Value {
        self.tokenkeep(&["keyset", "show", keyset, "--json"]).ok().json()
    }

    /// Signs with a keyset; fails the test unless that works and `verify` agrees.
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

    /// Encrypts to this person by their e-mail address.
    pub fn encrypts(&self, text: &str, out: &str) {
        self.tokenkeep_with_input(&["encrypt", "--to", &self.email, "--out", out], text).ok();
    }

    /// What a keyset reads in a message.
    #[track_caller]
    pub fn reads(&self, keyset: &str, pin: &str, message: &str) -> String {
        let source = format!("file:{pin}");
        let arguments = ["decrypt", "--keyset", keyset, "--pin-source", &source, "--in", message, "--out", "-"];
        self.tokenkeep(&arguments).ok().out()
    }

    pub fn tokenkeep_with_input(&self, arguments: &[&str], input: &str) -> Output {
        self.machine.tokenkeep_with_input(arguments, input.as_bytes())
    }
}

/// `enroll` into the keyset `default`, the PIN's source still to be said.
pub fn re_enroll_arguments(letter: &str) -> [&str; 7] {
    ["enroll", "--letter", letter, "--keyset", "default", "--level", "high"]
}

/// Waits for the clock's next second, so that what is certified from now on is newer than what was before. The newest of
/// one person's keysets is known by the date in its certificate, which has whole seconds; of two with one date none is.
pub fn wait_until_certificates_are_newer() {
    let second = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let now = second();
    while second() == now {
        thread::sleep(Duration::from_millis(20));
    }
}
