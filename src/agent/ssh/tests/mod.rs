//! The SSH endpoint with software keys, and client messages for tests. `ssh-keygen` and `ssh-agent`
//! serve as references.

mod answers;
mod corpus;
mod foreign_bytes;
mod host_keys;

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Mutex;

use base64::prelude::{BASE64_STANDARD, Engine};
use tempfile::TempDir;

use super::connection::SshConnection;
use super::key_blob::write_blob;
use super::keystore::{KeyProvider, ListedKey};
use super::smartcard::Constraints;
use super::wire::Writer;
use super::{AgentError, ClientConnection, PeerProcess, Requester, SshError};
use crate::keyset::Purpose;
use crate::pki::test_support::SoftwareKey;
use crate::token::{KeyAlgorithm, Pin, Signature, SignatureHash};

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

/// Software keys that record their calls.
#[derive(Default)]
pub(super) struct SoftwareKeys {
    pub keys: Vec<SoftwareKey>,
    pub asked: RefCell<Vec<String>>,
    pub purposes: RefCell<Vec<Purpose>>,
    locked_with: Mutex<Option<Vec<u8>>>,
    /// The number of key lookups.
    pub found: Cell<usize>,
}

impl SoftwareKeys {
    pub fn new(keys: &[&SoftwareKey]) -> Self {
        Self { keys: keys.iter().map(|key| (*key).clone()).collect(), ..Self::default() }
    }

    fn note(&self, what: impl Into<String>) {
        self.asked.borrow_mut().push(what.into());
    }
}

impl KeyProvider for SoftwareKeys {
    type Key = SoftwareKey;

    fn list(&self, each: &mut dyn FnMut(ListedKey<'_>)) {
        for key in self.keys.iter().filter(|_| !self.is_locked()) {
            each(ListedKey { spki_der: &key.public_key_der(), comment: "default user@example.org" });
        }
    }

    fn find(&self, spki_der: &[u8]) -> Option<SoftwareKey> {
        self.found.set(self.found.get() + 1);
        self.keys.iter().find(|key| key.public_key_der() == spki_der).cloned()
    }

    fn algorithm(key: &SoftwareKey) -> KeyAlgorithm {
        KeyAlgorithm::of_public_key(&key.public_key_der()).unwrap()
    }

    fn sign(
        &self,
        key: &SoftwareKey,
        hash: SignatureHash,
        data: &[u8],
        purpose: &Purpose,
        _requester: &Requester,
    ) -> Result<Signature, AgentError> {
        if self.is_locked() {
            return Err(AgentError::Locked { operation: "sign" });
        }
        self.purposes.borrow_mut().push(purpose.clone());
        Ok(key.sign_hashed(hash, data))
    }

    fn log_in(
        &self,
        provider: &str,
        pin: Option<Pin>,
        constraints: Constraints,
        _requester: &Requester,
    ) -> Result<(), SshError> {
        let pin = pin.map(|pin| pin.as_str().to_owned());
        let Constraints { lifetime, confirm } = constraints;
        self.note(format!("log in {provider} {pin:?} {lifetime:?} {confirm}"));
        Ok(())
    }

    fn log_off(&self, provider: &str) -> Result<(), SshError> {
        self.note(format!("log off {provider}"));
        Ok(())
    }

    fn log_off_from(&self, key: &SoftwareKey) -> Result<(), AgentError> {
        self.note(format!("log off from {}", Self::algorithm(key)));
        Ok(())
    }

    fn log_off_from_all(&self) -> Result<(), AgentError> {
        self.note("log off from all");
        Ok(())
    }

    fn is_locked(&self) -> bool {
        self.locked_with.lock().unwrap().is_some()
    }

    fn lock(&self, pass_phrase: &[u8]) -> Result<(), AgentError> {
        *self.locked_with.lock().unwrap() = Some(pass_phrase.to_vec());
        Ok(())
    }

    fn unlock(&self, pass_phrase: &[u8]) -> Result<(), AgentError> {
        let mut with = self.locked_with.lock().unwrap();
        if with.as_deref() != Some(pass_phrase) {
            return Err(AgentError::WrongPassPhrase);
        }
        *with = None;
        Ok(())
    }
}

pub(super) fn connection(keys: &SoftwareKeys) -> SshConnection<'_, SoftwareKeys> {
    let peer = PeerProcess { pid: 4711, uid: 0 };
    SshConnection::new(keys, Requester { peer, client: ClientConnection::default() })
}

/// The answer to one message.
pub(super) fn answer(connection: &mut SshConnection<'_, SoftwareKeys>, message: &[u8]) -> Vec<u8> {
    let mut answer = Vec::new();
    connection.answer(message, &mut answer);
    answer
}

/// The answer of a new connection.
pub(super) fn first_answer(keys: &SoftwareKeys, message: &[u8]) -> Vec<u8> {
    answer(&mut connection(keys), message)
}
