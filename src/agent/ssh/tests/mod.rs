//! The SSH endpoint on a keystore with `SoftHSM`, and client messages for tests. `ssh-keygen` and
//! `ssh-agent` serve as references.

mod answers;
mod corpus;
mod foreign_bytes;
mod host_keys;

use std::ops::Deref;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};

use base64::prelude::{BASE64_STANDARD, Engine};
use tempfile::TempDir;

use super::connection::SshConnection;
use super::key_blob::write_blob;
use super::wire::Writer;
use super::{ClientConnection, Keystore, PeerProcess, Requester};
use crate::agent::keystore::tests::{Fixture, authority, open, requester};
use crate::agent::{Link, Settings, SystemClock};
use crate::keyset::tests::Wallet;
use crate::keyset::{Purpose, TokenSelector, Tokens};
use crate::pki::test_support::SoftwareKey;
use crate::token::test_support::pin;
use crate::token::{SecurityLevel, TokenInfo};

/// A login to sign, as in RFC 4252 §7 unless a test changes a field.
#[derive(Clone, Debug)]
pub(super) struct TestUserAuth {
    pub session_id: Vec<u8>,
    pub message: u8,
    pub user: String,
    pub service: &'static str,
    /// none: the method that matches `host_key`
    pub method: Option<&'static str>,
    pub has_signature: u8,
    pub algorithm: &'static str,
    pub key_blob: Vec<u8>,
    pub host_key: Option<Vec<u8>>,
}

impl Default for TestUserAuth {
    fn default() -> Self {
        Self {
            session_id: vec![0x5e; 32],
            message: 50,
            user: "user".into(),
            service: "ssh-connection",
            method: None,
            has_signature: 1,
            algorithm: "ecdsa-sha2-nistp256",
            key_blob: b"a key".to_vec(),
            host_key: None,
        }
    }
}

impl TestUserAuth {
    /// For a P-256 key.
    pub fn with(key: &SoftwareKey) -> Self {
        Self { key_blob: blob_of(&key.public_key_der()), ..Self::default() }
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        let usual = if self.host_key.is_some() { "publickey-hostbound-v00@openssh.com" } else { "publickey" };
        written(|writer| {
            writer.string(&self.session_id);
            writer.byte(self.message);
            writer.string(self.user.as_bytes());
            writer.string(self.service.as_bytes());
            writer.string(self.method.unwrap_or(usual).as_bytes());
            writer.byte(self.has_signature);
            writer.string(self.algorithm.as_bytes());
            writer.string(&self.key_blob);
            if let Some(host_key) = &self.host_key {
                writer.string(host_key);
            }
        })
    }
}

/// Builds an SSHSIG blob to sign.
pub(super) fn sshsig(namespace: &str, reserved: &[u8], hash_name: &str, hash: &[u8]) -> Vec<u8> {
    written(|writer| {
        writer.bytes(b"SSHSIG");
        writer.string(namespace.as_bytes());
        writer.string(reserved);
        writer.string(hash_name.as_bytes());
        writer.string(hash);
    })
}

pub(super) fn written(write: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(&mut Writer::new(&mut bytes));
    bytes
}

pub(super) fn blob_of(spki_der: &[u8]) -> Vec<u8> {
    written(|writer| write_blob(spki_der, writer).unwrap())
}

/// Builds a request to sign.
pub(super) fn sign_request(key_blob: &[u8], data: &[u8], flags: u32) -> Vec<u8> {
    written(|writer| {
        writer.byte(13);
        writer.string(key_blob);
        writer.string(data);
        writer.uint32(flags);
    })
}

/// A key in OpenSSH's files.
pub(super) struct KeyFile {
    directory: TempDir,
}

impl KeyFile {
    pub fn of(key: &SoftwareKey) -> Self {
        let file = Self { directory: tempfile::tempdir().unwrap() };
        let path = file.path("key");
        key.write_pem(&path);
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&path, mode).unwrap();
        std::fs::write(file.path("key.pub"), file.run("ssh-keygen", &["-y", "-f", "key"])).unwrap();
        file
    }

    /// Uses a CA key of this type; the default is Ed25519.
    pub fn with_authority(self, kind: &[&str]) -> Self {
        self.run("ssh-keygen", &[&["-q", "-N", "", "-f", "ca", "-t"], kind].concat());
        self
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn blob(&self) -> Vec<u8> {
        self.blob_in("key.pub")
    }

    /// A certificate of the key, made by `ssh-keygen -s`.
    pub fn certificate(&self, options: &[&str]) -> Vec<u8> {
        if !self.path("ca").exists() {
            self.run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", "ca"]);
        }
        let line = ["-q", "-s", "ca", "-I", "id", "-n", "user"];
        self.run("ssh-keygen", &[&line, options, &["key.pub"]].concat());
        self.blob_in("key-cert.pub")
    }

    fn blob_in(&self, name: &str) -> Vec<u8> {
        let text = std::fs::read_to_string(self.path(name)).unwrap();
        BASE64_STANDARD.decode(text.split(' ').nth(1).unwrap().trim()).unwrap()
    }

    pub fn run(&self, program: &str, arguments: &[&str]) -> Vec<u8> {
        let mut command = Command::new(program);
        let output = command.args(arguments).current_dir(self.directory.path()).stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }
}

/// The PIN of the token, as in the recordings of `tests/corpus/ssh`.
pub(super) const PIN: &str = "a-pass-phrase";

/// A keystore on one token with three keysets of level Medium, each with a key of the corpus. A
/// person gives the PIN or a confirmation for every use, and so each use shows its purpose.
pub(super) struct SshFixture {
    pub agent: Fixture,
    pub token: TokenInfo,
    pub p256: SoftwareKey,
    pub p384: SoftwareKey,
    pub rsa: SoftwareKey,
}

/// The one fixture, for one test at a time.
pub(super) struct SharedFixture(MutexGuard<'static, Option<SshFixture>>);

impl SshFixture {
    fn new() -> Self {
        let [p256, p384, rsa] = ["p256", "p384", "rsa"].map(|name| {
            let file = corpus().join(format!("cms/keys/{name}.key"));
            SoftwareKey::from_pem(&std::fs::read(file).unwrap())
        });
        let wallet = Wallet::new();
        let keys = [("p256", &p256), ("p384", &p384), ("rsa", &rsa)];
        let token = wallet.import(authority(), PIN, SecurityLevel::Medium, &keys);
        let agent = open(wallet);
        agent.person.set_usual_pin(PIN);
        Self { agent, token, p256, p384, rsa }
    }

    /// Without a session and without a recorded question.
    pub fn shared() -> SharedFixture {
        static SHARED: Mutex<Option<SshFixture>> = Mutex::new(None);
        let mut shared = SHARED.lock().unwrap_or_else(|poisoned| {
            // A failed test may have left anything behind.
            SHARED.clear_poison();
            let mut shared = poisoned.into_inner();
            *shared = None;
            shared
        });
        let fixture = shared.get_or_insert_with(Self::new);
        fixture.agent.keystore.log_off(None).unwrap();
        fixture.agent.person.asked();
        fixture.agent.person.purposes();
        SharedFixture(shared)
    }

    pub fn keystore(&self) -> &Arc<Keystore> {
        &self.agent.keystore
    }

    /// The purposes of the uses since the last call.
    pub fn purposes(&self) -> Vec<Purpose> {
        self.agent.person.asked();
        self.agent.person.purposes()
    }

    pub fn log_in(&self) {
        let token = TokenSelector::SerialOrLabel(self.token.serial.clone());
        self.keystore().log_in_with(&token, pin(PIN), None, &requester()).unwrap();
        assert_eq!(self.agent.session_count(), 1);
    }

    /// Fails if a person was asked, or a session is not as expected.
    #[track_caller]
    pub fn assert_untouched(&self, session_count: usize) {
        assert_eq!(self.agent.person.asked(), [""; 0]);
        assert_eq!(self.agent.session_count(), session_count);
    }
}

impl Deref for SharedFixture {
    type Target = SshFixture;

    fn deref(&self) -> &SshFixture {
        self.0.as_ref().unwrap()
    }
}

pub(super) fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus")
}

/// A keystore that has no token and can ask nobody.
pub(super) fn without_tokens() -> Keystore {
    let link = Arc::new(Link::over(UnixStream::pair().unwrap().0).unwrap());
    Keystore::new(Tokens::new(Vec::new()), link, Settings::default(), Arc::new(SystemClock))
}

pub(super) fn connection(keystore: &Keystore) -> SshConnection<'_> {
    let peer = PeerProcess { pid: 4711, uid: 0 };
    SshConnection::new(keystore, Requester { peer, client: ClientConnection::default() })
}

/// The answer to one message.
pub(super) fn answer(connection: &mut SshConnection<'_>, message: &[u8]) -> Vec<u8> {
    let mut answer = Vec::new();
    connection.answer(message, &mut answer);
    answer
}

/// The answer of a new connection.
pub(super) fn first_answer(keystore: &Keystore, message: &[u8]) -> Vec<u8> {
    answer(&mut connection(keystore), message)
}

/// A request to log in to (20, 26) or off (21) the token of this provider.
pub(super) fn smartcard(kind: u8, provider: &str, pin: &str, constraints: &[u8]) -> Vec<u8> {
    written(|message| {
        message.byte(kind);
        message.string(provider.as_bytes());
        message.string(pin.as_bytes());
        message.bytes(constraints);
    })
}

/// A request to lock (22) or unlock (23).
pub(super) fn with_phrase(kind: u8, phrase: &[u8]) -> Vec<u8> {
    written(|message| {
        message.byte(kind);
        message.string(phrase);
    })
}

/// A request to remove a key.
pub(super) fn remove(key: &SoftwareKey) -> Vec<u8> {
    written(|message| {
        message.byte(18);
        message.string(&blob_of(&key.public_key_der()));
    })
}
