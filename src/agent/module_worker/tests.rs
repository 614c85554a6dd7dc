//! A compromised module worker at the other end of the fd channel: what is accepted from it is
//! limited.

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;

use super::wire::{ModuleWorkerReply, ModuleWorkerRequest};
use super::{Inventory, ModuleWorker, SessionChange, StateUpdate};
use crate::agent::client::{AgentClient, ClientError};
use crate::agent::keystore::AgentPrompter;
use crate::agent::operation::{NoTransport, OperationRequest, WireKeysetChoice};
use crate::agent::{
    AgentError, ClientConnection, LogOffReason, PeerProcess, PromptBackend, Question, Usage, UsagePurpose, fd_passing,
    frame,
};
use crate::keyset::{AuthorityAddress, ErrorKind, FoundKeyset, KeysetStatus, NoPin, RemoteTokens};
use crate::token::{Pin, PinState, SecurityLevel, SignatureHash, StoredCertificate, TokenInfo};

const MODULE: &str = "/own.so";
const MEBIBYTE: usize = 1024 * 1024;

fn token(number: usize, label: &str) -> TokenInfo {
    TokenInfo {
        label: label.into(),
        serial: number.to_string(),
        manufacturer: String::new(),
        model: String::new(),
        module: "/another.so".into(),
        pin_state: PinState::Ok,
        write_protected: false,
        non_utf8_names: Vec::new(),
    }
}

fn keyset(keys: usize, certificate_length: usize) -> FoundKeyset {
    let text = || "http://127.0.0.1/".to_owned();
    FoundKeyset {
        name: "invented".parse().unwrap(),
        level: SecurityLevel::Low,
        authority: AuthorityAddress { name: "Example".to_owned(), http: text(), https: text() },
        status: KeysetStatus::Enrolled,
        token: token(0, "card"),
        signing: None,
        encryption: vec![vec![7].into(); keys],
        authority_certificate: None,
        certificates: vec![StoredCertificate {
            id: vec![7].into(),
            label: String::new(),
            der: vec![0; certificate_length],
        }],
    }
}

fn inventory(tokens: usize, keysets: Vec<FoundKeyset>) -> Inventory {
    Inventory::new(
        Ok((0..tokens).map(|number| token(number, "card")).collect()),
        Vec::new(),
        false,
        (keysets, Vec::new()),
    )
}

/// A module worker that handles each connection with `answer`.
fn module_worker(answer: impl Fn(UnixStream) + Send + 'static) -> ModuleWorker {
    let (ours, theirs) = UnixStream::pair().unwrap();
    thread::spawn(move || {
        while let Ok(sockets) = fd_passing::receive_fds(&theirs) {
            for socket in sockets {
                answer(socket.into());
            }
        }
    });
    ModuleWorker::new(MODULE.into(), ours)
}

/// A module worker that replies with this JSON to every request.
fn saying(json: Vec<u8>) -> ModuleWorker {
    module_worker(move |mut stream| {
        let _ = frame::read::<ModuleWorkerRequest>(&mut stream, MEBIBYTE);
        let length = u32::try_from(json.len()).unwrap().to_be_bytes();
        // The client may have closed the connection.
        let _ = stream.write_all(&[&length[..], &[0; 4], &json].concat());
    })
}

fn reporting(inventory: Inventory) -> ModuleWorker {
    saying(serde_json::to_vec(&ModuleWorkerReply::Inventory(inventory)).unwrap())
}

/// Returns what `operation` logs in this thread.
fn logged(operation: impl FnOnce()) -> String {
    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);
    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let written = Written::default();
    let writer = written.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    tracing::subscriber::with_default(subscriber, operation);
    let bytes = written.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn the_report_of_an_honest_module_worker_is_accepted() {
    let module_worker = reporting(inventory(256, vec![keyset(15, 1500); 512]));
    let log = logged(|| module_worker.refresh(None));
    assert_eq!(module_worker.tokens().unwrap().len(), 256);
    assert_eq!(module_worker.keysets().0.len(), 512);
    assert_eq!(log, "");
}

#[test]
fn a_fresh_pin_state_survives_an_older_inventory() {
    let saying = |state: PinState| {
        let tokens = vec![TokenInfo { pin_state: state, ..token(0, "card") }];
        Inventory::new(Ok(tokens), Vec::new(), false, (Vec::new(), Vec::new()))
    };
    let module_worker = module_worker(move |mut stream| {
        let Ok((ModuleWorkerRequest::ReadInventory { pin_states, .. }, _)) =
            frame::read::<ModuleWorkerRequest>(&mut stream, MEBIBYTE)
        else {
            return;
        };
        let reply = ModuleWorkerReply::Inventory(saying(if pin_states { PinState::FinalTry } else { PinState::Ok }));
        let _ = frame::write(&mut stream, &reply, b"", MEBIBYTE);
    });
    let state = || module_worker.tokens().unwrap()[0].pin_state;
    module_worker.refresh(None);
    assert_eq!(state(), PinState::Ok);
    for _ in 0..2 {
        module_worker.refresh_pin_states();
        assert_eq!(state(), PinState::FinalTry);
    }
    module_worker.refresh(None);
    assert_eq!(state(), PinState::FinalTry, "another client's look");
    module_worker.note(saying(PinState::Ok));
    assert_eq!(state(), PinState::FinalTry, "its news");
    // A failed reading of the PIN states changes nothing.
    module_worker.note_pins(Inventory::new(Ok(Vec::new()), Vec::new(), false, (Vec::new(), Vec::new())));
    assert_eq!(state(), PinState::FinalTry, "a look that failed");
    // A correct PIN was entered.
    module_worker.note_right_pin(&token(0, "card"));
    assert_eq!(state(), PinState::Ok);
    module_worker.refresh_pin_states();
    assert_eq!(state(), PinState::FinalTry);
    // A restarted module worker has loaded the module.
    module_worker.note_end();
    module_worker.note(saying(PinState::Ok));
    assert_eq!(state(), PinState::Ok);
}

#[test]
fn an_oversized_inventory_is_rejected_and_logged_once() {
    let many = || inventory(257, Vec::new());
    let mut everywhere = inventory(1, Vec::new());
    everywhere.logged_in = vec![token(0, "card"); 257];
    let wordy = || Inventory::new(Ok(vec![token(0, &"x".repeat(129))]), Vec::new(), false, (Vec::new(), Vec::new()));
    for (lie, what) in [
        (many(), "257 tokens"),
        (everywhere, "257 sessions"),
        (inventory(1, vec![keyset(0, 1); 513]), "513 keysets"),
        (inventory(1, vec![keyset(8 * 1024, 1)]), "8193 keys and certificates"),
        (wordy(), "longer than 128 bytes"),
    ] {
        let module_worker = reporting(lie);
        let log = logged(|| {
            module_worker.refresh(None);
            module_worker.refresh(None);
            module_worker.note(many());
        });
        assert_eq!(log.matches(": rejected").count(), 1, "{log}");
        assert!(log.contains(what), "{log}");
        let error = module_worker.tokens().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused);
        assert!(error.to_string().contains("257 tokens") && error.to_string().contains("agent.toml"), "{error}");
        assert!(module_worker.keysets().0.is_empty() && module_worker.logged_in().is_empty());
        // A valid inventory is accepted again.
        module_worker.note(inventory(1, vec![keyset(1, 1)]));
        assert_eq!((module_worker.tokens().unwrap().len(), module_worker.keysets().0.len()), (1, 1));
    }
}

#[test]
fn an_oversized_answer_is_not_read() {
    let module_worker = reporting(inventory(1, vec![keyset(0, 4 * MEBIBYTE)]));
    let log = logged(|| (0..3).for_each(|_| module_worker.refresh(None)));
    assert_eq!(log.matches(": rejected").count(), 1, "{log}");
    assert!(module_worker.tokens().is_err());

    let module_worker = saying(serde_json::to_vec(&ModuleWorkerReply::Signature(vec![0; 64 * 1024].into())).unwrap());
    let purpose = UsagePurpose::SignContent { sha256: [0; 32], subject: None };
    let usage = Usage { peer: PeerProcess { pid: 1, uid: 1 }, purpose, client: ClientConnection::default() };
    let refused = module_worker.sign(b"key", SignatureHash::Sha256, b"data", &usage).unwrap_err();
    assert!(matches!(refused, AgentError::WorkerEnded { .. }), "{refused}");
}

/// Answers no question.
struct NoPromptBackend;

impl PromptBackend for NoPromptBackend {
    fn pin(&self, _: &Question<'_>) -> Result<Pin, NoPin> {
        Err(NoPin::Cancelled)
    }

    fn confirm(&self, _: &Question<'_>) -> Result<(), NoPin> {
        Err(NoPin::Cancelled)
    }

    fn program(&self, _: PeerProcess) -> Option<String> {
        None
    }
}

#[test]
fn an_endless_event_line_is_not_read_to_its_end() {
    let module_worker = module_worker(|mut stream| {
        let _ = frame::read::<ModuleWorkerRequest>(&mut stream, MEBIBYTE);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        while stream.write_all(&[b' '; 8 * 1024]).is_ok() {}
    });
    let peer = PeerProcess { pid: 1, uid: 1 };
    let usage = Usage { peer, purpose: UsagePurpose::LogIn, client: ClientConnection::default() };
    let request = OperationRequest::ChangePin { keyset: WireKeysetChoice::default() };
    let agent = AgentClient::in_module_worker(Arc::new(module_worker), peer);
    let ended =
        agent.run_operation(&request, &mut AgentPrompter::new(&NoPromptBackend, &usage), &NoTransport).unwrap_err();
    assert!(matches!(ended, ClientError::Ended { .. }), "{ended}");
}

#[test]
fn a_login_event_is_attributed_to_its_own_module() {
    let changes = vec![
        SessionChange::Started(token(1, "card")),
        SessionChange::Ended(token(2, "card"), LogOffReason::Idle),
        SessionChange::Started(token(3, &"x".repeat(129))),
    ];
    let all = module_worker(move |mut stream| {
        let _ = frame::read::<ModuleWorkerRequest>(&mut stream, MEBIBYTE);
        for change in &changes {
            let change = serde_json::from_value(serde_json::to_value(change).unwrap()).unwrap();
            let update = StateUpdate { inventory: inventory(1, Vec::new()), session_change: Some(change) };
            frame::write(&mut stream, &update, b"", MEBIBYTE).unwrap();
        }
    });
    let mut changes = Vec::new();
    assert!(all.follow(|_, update| changes.push(update.session_change)));
    let [Some(SessionChange::Started(one)), Some(SessionChange::Ended(two, LogOffReason::Idle)), None] = &changes[..]
    else {
        panic!("{changes:?}");
    };
    assert!([one, two].iter().all(|token| token.module == Path::new(MODULE)), "{changes:?}");
}
