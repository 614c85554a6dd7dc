//! A deployment, from which most tests start: a serving authority with an enrolled first
//! administrator.

use super::authority::Authority;
use super::machine::{Machine, TokenKind};
use super::output::Output;
use super::proxy::Proxy;

/// A machine with a serving authority and the administrator `admin@example.org` in keyset `admin`.
pub struct Deployment {
    // Before the machine: the authority must end before its directory is removed.
    pub authority: Authority,
    pub machine: Machine,
}

impl Deployment {
    /// The administrator's PIN, in the file `admin.pin`.
    pub const ADMIN_PIN: &str = "admin-0815";

    pub fn begin() -> Self {
        Self::begin_on(Machine::new())
    }

    pub fn begin_with(kind: TokenKind) -> Self {
        Self::begin_on(Machine::with(kind))
    }

    /// With another algorithm for users' encryption keys than the P-256 of most tests: `p384`,
    /// `rsa-2048`, `rsa-3072` …
    pub fn begin_with_encryption_keys(kind: &str) -> Self {
        Self::begin_with_keys(TokenKind::SoftHsm, "p256", kind)
    }

    /// With these algorithms for users' signing and encryption keys.
    pub fn begin_with_keys(kind: TokenKind, signing: &str, encryption: &str) -> Self {
        Self::begin_with_ca_and_keys(kind, "p256", signing, encryption)
    }

    /// With this algorithm for the CA key, too.
    pub fn begin_with_ca_and_keys(kind: TokenKind, ca: &str, signing: &str, encryption: &str) -> Self {
        let machine = Machine::with(kind);
        let authority = Authority::init_with(&machine, &format!("[ca]\nkey = \"{ca}\"\n"));
        Authority::restrict_key_kind(&machine, "signing", signing);
        Authority::restrict_key_kind(&machine, "encryption", encryption);
        Self::begin_at(machine, authority)
    }

    pub fn begin_on(machine: Machine) -> Self {
        let authority = Authority::init(&machine);
        Self::begin_at(machine, authority)
    }

    fn begin_at(machine: Machine, mut authority: Authority) -> Self {
        authority.serve(&machine);
        machine.write_secret("admin.pin", Self::ADMIN_PIN);
        let deployment = Self { authority, machine };
        deployment.enroll_new("admin.letter", "admin", "admin.pin").ok();
        deployment
    }

    pub fn tokenkeep(&self, arguments: &[&str]) -> Output {
        self.machine.tokenkeep(arguments)
    }

    /// Runs `admin issue` for this address; writes the letter.
    pub fn issue(&self, email: &str, letter: &str) -> Output {
        self.admin(&["issue", email, "--name", "Example, User", "--letter-out", letter])
    }

    /// Runs `admin recover` for this address; writes the letter.
    pub fn recover(&self, email: &str, letter: &str) -> Output {
        self.admin(&["recover", email, "--letter-out", letter])
    }

    /// Runs an administrator's command, with keyset and PIN.
    pub fn admin(&self, arguments: &[&str]) -> Output {
        let mut all = vec!["admin"];
        all.extend(arguments);
        all.extend(["--keyset", "admin", "--pin-source", "file:admin.pin"]);
        self.tokenkeep(&all)
    }

    /// Runs `enroll` into a new token whose PIN is in the file `pin`, at level High.
    pub fn enroll_new(&self, letter: &str, keyset: &str, pin: &str) -> Output {
        self.tokenkeep(&enroll_new_arguments(letter, keyset, &format!("file:{pin}")))
    }

    /// Like [`Self::enroll_new`], through a proxy.
    pub fn enroll_new_through(&self, proxy: &Proxy, letter: &str, keyset: &str, pin: &str) -> Output {
        let (url, source) = (proxy.url(), format!("file:{pin}"));
        let mut arguments = enroll_new_arguments(letter, keyset, &source).to_vec();
        arguments.extend(["--authority", url.as_str()]);
        self.tokenkeep(&arguments)
    }

    /// Enrolls a user with keyset `default` and the PIN [`Self::USER_PIN`] in the file `pin1`.
    pub fn enroll_user(&self) {
        self.machine.write_secret("pin1", Self::USER_PIN);
        self.issue("user@example.org", "user.letter").ok();
        self.enroll_new("user.letter", "default", "pin1").ok();
    }

    /// The user's first PIN, in the file `pin1`.
    pub const USER_PIN: &str = "user-123456";
}

fn enroll_new_arguments<'a>(letter: &'a str, keyset: &'a str, source: &'a str) -> [&'a str; 10] {
    ["enroll", "--letter", letter, "--keyset", keyset, "--level", "high", "--new-token", "--new-pin-source", source]
}
