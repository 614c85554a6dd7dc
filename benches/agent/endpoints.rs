//! Through the agent, as another process: keysets of a real enrollment at level Low, RSA-2048 and
//! P-256.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::AuthPin;
use p256::elliptic_curve::sec1::ToSec1Point;

use crate::bench_token::{KeyInput, encrypted_to, run_on};
use crate::child_process::{ChildGuard, wait_for};
use crate::direct::MESSAGE;
use crate::measure::{Contender, Plan, measure};
use crate::memory::{self, Processes};
use crate::peers;
use crate::ssh;
use crate::support::deployment::Deployment;
use crate::support::machine::{TokenKind, softhsm_module};
use crate::{THREADS, api, raw};

/// The label of the token with both keysets.
const LABEL: &str = "elliptic";
const PIN: &str = Deployment::USER_PIN;

/// Enrolls, starts the agent, and runs this program again as its client.
pub fn set_up_and_run() {
    let mut deployment = Deployment::begin_with_keys(TokenKind::SoftHsm, "p256", "p256");
    deployment.machine.write_secret("pin1", PIN);
    deployment.issue("elliptic@example.org", "elliptic.letter").ok();
    let new = ["--level", "low", "--new-token", "--new-pin-source", "file:pin1"];
    deployment.tokenkeep(&[&["enroll", "--letter", "elliptic.letter", "--keyset", LABEL], &new[..]].concat()).ok();
    // The authority's profiles determine the key algorithms.
    for profile in ["profiles/signing.toml", "profiles/encryption.toml"] {
        let text = deployment.machine.read_text(profile).replace("\"p256\"", "\"rsa-2048\"");
        deployment.machine.write(profile, text);
    }
    deployment.authority.kill();
    deployment.authority.serve(&deployment.machine);
    deployment.issue("rsa@example.org", "rsa.letter").ok();
    let there = ["--level", "low", "--token", LABEL, "--pin-source", "file:pin1"];
    deployment.tokenkeep(&[&["enroll", "--letter", "rsa.letter", "--keyset", "rsa"], &there[..]].concat()).ok();
    deployment.machine.write("content", MESSAGE);
    for keyset in [LABEL, "rsa"] {
        let (to, out) = (format!("{keyset}@example.org"), format!("{keyset}.p7m"));
        deployment.tokenkeep(&["encrypt", "--to", &to, "--not-to-self", "--in", "content", "--out", &out]).ok();
    }
    deployment.authority.kill();

    let socket = deployment.machine.file("runtime/tokenkeep/agent/ssh.sock");
    let mut agent = deployment.machine.tokenkeep_command(&["agent"]);
    let agent = ChildGuard(agent.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap());
    wait_for(&socket);
    deployment.machine.set_environment(AGENT, &socket.display().to_string());
    let p11_kit = peers::p11_kit_server(&mut deployment.machine, LABEL);
    run_on(&deployment.machine, "endpoints");
    drop((agent, p11_kit));
}

/// The variable with the agent's socket, for the measuring process.
const AGENT: &str = "BENCH_AGENT_SOCKET";

/// The keysets' token, used by this process without the agent.
pub struct Token {
    pkcs11: Pkcs11,
    slot: Slot,
    // Keeps the login.
    session: Session,
}

impl Token {
    /// Opens the token and logs in.
    pub fn open(module: &Path) -> Self {
        let pkcs11 = Pkcs11::new(module).unwrap();
        pkcs11.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)).unwrap();
        let label = |slot: &Slot| pkcs11.get_token_info(*slot).unwrap().label().trim_end().to_owned();
        let slots = pkcs11.get_slots_with_initialized_token().unwrap();
        let slot = slots.into_iter().find(|slot| label(slot) == LABEL).unwrap();
        let session = pkcs11.open_rw_session(slot).unwrap();
        session.login(UserType::User, Some(&AuthPin::new(PIN.into()))).unwrap();
        Self { pkcs11, slot, session }
    }

    /// The signing key of this algorithm.
    pub fn signing(&self, elliptic: bool) -> raw::Signing {
        let handle = self.key(elliptic, Attribute::Sign(true));
        raw::Signing::new(self.pkcs11.clone(), self.slot, self.bytes(handle, AttributeType::Id), elliptic)
    }

    /// The key of this algorithm that decrypts or agrees.
    pub fn reading(&self, elliptic: bool) -> raw::Reading {
        let handle = self.key(elliptic, if elliptic { Attribute::Derive(true) } else { Attribute::Decrypt(true) });
        let key_input = if elliptic {
            KeyInput::Point(p256::AffinePoint::GENERATOR.to_sec1_point(false).as_bytes().to_vec())
        } else {
            let number = |kind| rsa::BoxedUint::from_be_slice_vartime(&self.bytes(handle, kind));
            let public = rsa::RsaPublicKey::new(number(AttributeType::Modulus), number(AttributeType::PublicExponent));
            KeyInput::Ciphertext(encrypted_to(&public.unwrap()))
        };
        raw::Reading::new(self.pkcs11.clone(), self.slot, self.bytes(handle, AttributeType::Id), key_input)
    }

    fn key(&self, elliptic: bool, does: Attribute) -> ObjectHandle {
        let kind = if elliptic { KeyType::EC } else { KeyType::RSA };
        let template =
            [Attribute::Class(ObjectClass::PRIVATE_KEY), Attribute::Token(true), Attribute::KeyType(kind), does];
        self.session.find_objects(&template).unwrap()[0]
    }

    fn bytes(&self, key: ObjectHandle, kind: AttributeType) -> Vec<u8> {
        match self.session.get_attributes(key, &[kind]).unwrap().remove(0) {
            Attribute::Id(bytes) | Attribute::Modulus(bytes) | Attribute::PublicExponent(bytes) => bytes,
            other => panic!("{other:?}"),
        }
    }
}

pub fn measure_all(plan: &Plan) {
    let token = Token::open(&softhsm_module());
    let agent = PathBuf::from(std::env::var_os(AGENT).unwrap());
    let api = agent.with_file_name("api.sock");
    let mut connection = ssh::Connection::open(&agent);
    assert!(connection.log_in(LABEL, PIN), "the agent did not log in");
    let keys = connection.keys();
    if let Some(signatures) = memory::signatures() {
        let key = keys.iter().find(|key| key.comment.starts_with(LABEL)).unwrap();
        let agent_processes = Processes::of(agent.parent().unwrap());
        agent_processes.watch("P-256", "agent-ssh", &ssh::Signing::new(&agent, key), signatures);
        agent_processes.watch("P-256", "agent-api", &api::ApiClient::to_sign(&api, LABEL), signatures);
        return;
    }
    let ssh_agent = peers::SshAgent::start(PIN);
    let p11_kit = peers::p11_kit_client().map(|module| Token::open(&module));
    let kinds = [("RSA-2048", "ssh-rsa", "rsa", false), ("P-256", "ecdsa-sha2-nistp256", LABEL, true)];
    for (name, kind, keyset, elliptic) in kinds {
        let raw = token.signing(elliptic);
        let key = keys.iter().find(|key| key.kind() == kind && key.comment.starts_with(keyset)).expect(kind);
        let through_agent = ssh::Signing::new(&agent, key);
        let mut contenders: Vec<(&str, Box<dyn Contender>)> =
            vec![("raw", Box::new(raw)), ("agent-ssh", Box::new(through_agent))];
        contenders.push(("agent-api", Box::new(api::ApiClient::to_sign(&api, keyset))));
        if let Some(peer) = &ssh_agent {
            assert!(peer.keys().iter().any(|other| other.blob == key.blob), "ssh-agent has another key");
            contenders.push(("peer ssh-agent", Box::new(ssh::Signing::new(&peer.socket, key))));
        }
        if let Some(peer) = &p11_kit {
            contenders.push(("peer p11-kit", Box::new(peer.signing(elliptic))));
        }
        let contenders: Vec<(&str, &dyn Contender)> =
            contenders.iter().map(|(who, contender)| (*who, &**contender)).collect();
        for threads in THREADS {
            measure(plan, name, threads, &contenders);
        }
    }
    for (name, keyset, elliptic) in [("RSA-2048-decrypt", "rsa", false), ("P-256-ecdh", LABEL, true)] {
        let raw = token.reading(elliptic);
        let message = std::fs::read(format!("{keyset}.p7m")).unwrap();
        let through_agent = api::ApiClient::to_decrypt(&api, keyset, &message, &MESSAGE);
        for threads in THREADS {
            measure(plan, name, threads, &[("raw", &raw), ("agent-api", &through_agent)]);
        }
    }
}
