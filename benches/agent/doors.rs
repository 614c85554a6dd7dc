//! Through the agent, as another program's process: keysets of a real enrollment at level Low, RSA-2048 and P-256.

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::AuthPin;

use crate::measure::{Contender, Plan, measure};
use crate::peers;
use crate::ssh;
use crate::stage::run_on;
use crate::support::machine::{TokenKind, softhsm_module};
use crate::support::story::Story;
use crate::{THREADS, api, raw};

/// The token that both keysets are on.
const LABEL: &str = "elliptic";
const PIN: &str = Story::USER_PIN;

/// Enrolls, starts the agent, and runs this program beside it.
pub fn set_up_and_run() {
    let mut story = Story::begin_with_keys(TokenKind::SoftHsm, "p256", "rsa-2048");
    story.machine.write_secret("pin1", PIN);
    story.issue("elliptic@example.org", "elliptic.letter").ok();
    let new = ["--level", "low", "--new-token", "--new-pin-source", "file:pin1"];
    story.tokenkeep(&[&["enroll", "--letter", "elliptic.letter", "--keyset", LABEL], &new[..]].concat()).ok();
    // What a signing key is, the authority's profile says.
    let profile = story.machine.read_text("profiles/signing.toml").replace("\"p256\"", "\"rsa-2048\"");
    story.machine.write("profiles/signing.toml", profile);
    story.authority.kill();
    story.authority.serve(&story.machine);
    story.issue("rsa@example.org", "rsa.letter").ok();
    let there = ["--level", "low", "--token", LABEL, "--pin-source", "file:pin1"];
    story.tokenkeep(&[&["enroll", "--letter", "rsa.letter", "--keyset", "rsa"], &there[..]].concat()).ok();
    story.authority.kill();

    let socket = story.machine.file("runtime/tokenkeep/agent/ssh.sock");
    let mut agent = story.machine.tokenkeep_command(&["agent"]);
    let agent = Ended(agent.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap());
    wait_for(&socket);
    story.machine.set_environment(AGENT, &socket.display().to_string());
    let p11_kit = peers::p11_kit_server(&mut story.machine, LABEL);
    run_on(&story.machine, "doors");
    drop((agent, p11_kit));
}

/// Where the agent's socket is, in the process that measures.
const AGENT: &str = "BENCH_AGENT_SOCKET";

/// A process that ends with this.
pub struct Ended(pub Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let id = rustix::process::Pid::from_child(&self.0);
        let _ = rustix::process::kill_process(id, rustix::process::Signal::TERM);
        let _ = self.0.wait();
    }
}

/// Waits until somebody listens there.
pub fn wait_for(socket: &Path) {
    let end = Instant::now() + Duration::from_secs(20);
    while std::os::unix::net::UnixStream::connect(socket).is_err() {
        assert!(Instant::now() < end, "nobody listens at {}", socket.display());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The keysets' token, seen by this process without the agent.
pub struct Token {
    pkcs11: Pkcs11,
    slot: Slot,
    // Keeps the log-in.
    session: Session,
}

impl Token {
    /// Logs in.
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

    /// The signing key of this kind.
    pub fn signing(&self, elliptic: bool) -> raw::Signing {
        let kind = if elliptic { KeyType::EC } else { KeyType::RSA };
        let template = [
            Attribute::Class(ObjectClass::PRIVATE_KEY),
            Attribute::Token(true),
            Attribute::Sign(true),
            Attribute::KeyType(kind),
        ];
        let handle = self.session.find_objects(&template).unwrap()[0];
        let attributes = self.session.get_attributes(handle, &[AttributeType::Id]).unwrap();
        let [Attribute::Id(id)] = attributes.as_slice() else { panic!("a key without CKA_ID") };
        raw::Signing::new(self.pkcs11.clone(), self.slot, id.clone(), elliptic)
    }
}

pub fn measure_all(plan: &Plan) {
    let token = Token::open(&softhsm_module());
    let agent = PathBuf::from(std::env::var_os(AGENT).unwrap());
    let mut connection = ssh::Connection::open(&agent);
    assert!(connection.log_in(LABEL, PIN), "the agent did not log in");
    let keys = connection.keys();
    let ssh_agent = peers::SshAgent::start(PIN);
    let p11_kit = peers::p11_kit_client().map(|module| Token::open(&module));
    let kinds = [("RSA-2048", "ssh-rsa", "rsa", false), ("P-256", "ecdsa-sha2-nistp256", LABEL, true)];
    for (name, kind, keyset, elliptic) in kinds {
        let raw = token.signing(elliptic);
        let key = keys.iter().find(|key| key.kind() == kind && key.comment.starts_with(keyset)).expect(kind);
        let through_agent = ssh::Signing::new(&agent, key);
        let mut contenders: Vec<(&str, Box<dyn Contender>)> =
            vec![("raw", Box::new(raw)), ("agent-ssh", Box::new(through_agent))];
        contenders.push(("agent-api", Box::new(api::Signing::new(&agent.with_file_name("api.sock"), keyset))));
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
}
