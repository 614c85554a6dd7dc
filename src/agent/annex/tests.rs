//! A compromised module worker at the other end of the fd channel: what is accepted from it is
//! limited.

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;

use super::wire::{Reply, Request};
use super::{Annex, LogInChange, News, Seen};
use crate::agent::act::{ActRequest, Choice, NoCarrier};
use crate::agent::client::{Agent, ClientError};
use crate::agent::keystore::AskedPerson;
use crate::agent::{AgentError, Asks, ClientConnection, LogOff, Peer, Purpose, Question, Usage, frame, handed};
use crate::keyset::{AuthorityAddress, Elsewhere, ErrorKind, FoundKeyset, NoPin, Standing};
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
        not_text: Vec::new(),
    }
}

fn keyset(keys: usize, certificate_length: usize) -> FoundKeyset {
    let text = || "http://127.0.0.1/".to_owned();
    FoundKeyset {
        name: "invented".parse().unwrap(),
        level: SecurityLevel::Low,
        authority: AuthorityAddress { name: "Example".to_owned(), http: text(), https: text() },
        standing: Standing::Enrolled,
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

fn seen(tokens: usize, keysets: Vec<FoundKeyset>) -> Seen {
    Seen::new(Ok((0..tokens).map(|number| token(number, "card")).collect()), Vec::new(), false, (keysets, Vec::new()))
}

/// A module worker that handles each connection with `answer`.
fn annex(answer: impl Fn(UnixStream) + Send + 'static) -> Annex {
    let (ours, theirs) = UnixStream::pair().unwrap();
    thread::spawn(move || {
        while let Ok(sockets) = handed::take(&theirs) {
            for socket in sockets {
                answer(socket.into());
            }
        }
    });
    Annex::new(MODULE.into(), ours)
}

/// A module worker that replies with this JSON to every request.
fn saying(json: Vec<u8>) -> Annex {
    annex(move |mut stream| {
        let _ = frame::read::<Request>(&mut stream, MEBIBYTE);
        let length = u32::try_from(json.len()).unwrap().to_be_bytes();
        // The client may have closed the connection.
        let _ = stream.write_all(&[&length[..], &[0; 4], &json].concat());
    })
}

fn saying_that_there_is(seen: Seen) -> Annex {
    saying(serde_json::to_vec(&Reply::Told(seen)).unwrap())
}

/// Returns what `act` logs in this thread.
fn logged(act: impl FnOnce()) -> String {
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
    tracing::subscriber::with_default(subscriber, act);
    let bytes = written.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn what_an_honest_annex_tells_is_taken() {
    let annex = saying_that_there_is(seen(256, vec![keyset(15, 1500); 512]));
    let log = logged(|| annex.look(None));
    assert_eq!(annex.tokens().unwrap().len(), 256);
    assert_eq!(annex.keysets().0.len(), 512);
    assert_eq!(log, "");
}

#[test]
fn what_a_pin_was_read_afresh_as_is_not_taken_back_by_what_is_told_by_the_way() {
    let saying = |state: PinState| {
        let tokens = vec![TokenInfo { pin_state: state, ..token(0, "card") }];
        Seen::new(Ok(tokens), Vec::new(), false, (Vec::new(), Vec::new()))
    };
    let annex = annex(move |mut stream| {
        let Ok((Request::Look { pins, .. }, _)) = frame::read::<Request>(&mut stream, MEBIBYTE) else { return };
        let reply = Reply::Told(saying(if pins { PinState::FinalTry } else { PinState::Ok }));
        let _ = frame::write(&mut stream, &reply, b"", MEBIBYTE);
    });
    let state = || annex.tokens().unwrap()[0].pin_state;
    annex.look(None);
    assert_eq!(state(), PinState::Ok);
    for _ in 0..2 {
        annex.look_at_pins();
        assert_eq!(state(), PinState::FinalTry);
    }
    annex.look(None);
    assert_eq!(state(), PinState::FinalTry, "another client's look");
    annex.note(saying(PinState::Ok));
    assert_eq!(state(), PinState::FinalTry, "its news");
    // A failed reading of the PIN states changes nothing.
    annex.note_pins(Seen::new(Ok(Vec::new()), Vec::new(), false, (Vec::new(), Vec::new())));
    assert_eq!(state(), PinState::FinalTry, "a look that failed");
    // A correct PIN was entered.
    annex.note_right_pin(&token(0, "card"));
    assert_eq!(state(), PinState::Ok);
    annex.look_at_pins();
    assert_eq!(state(), PinState::FinalTry);
    // A restarted module worker has loaded the module.
    annex.note_end();
    annex.note(saying(PinState::Ok));
    assert_eq!(state(), PinState::Ok);
}

#[test]
fn more_than_a_module_has_is_not_taken_at_all_and_that_is_said_once() {
    let many = || seen(257, Vec::new());
    let mut everywhere = seen(1, Vec::new());
    everywhere.logged_in = vec![token(0, "card"); 257];
    let wordy = || Seen::new(Ok(vec![token(0, &"x".repeat(129))]), Vec::new(), false, (Vec::new(), Vec::new()));
    for (lie, what) in [
        (many(), "257 tokens"),
        (everywhere, "257 sessions"),
        (seen(1, vec![keyset(0, 1); 513]), "513 keysets"),
        (seen(1, vec![keyset(8 * 1024, 1)]), "8193 keys and certificates"),
        (wordy(), "longer than 128 bytes"),
    ] {
        let annex = saying_that_there_is(lie);
        let log = logged(|| {
            annex.look(None);
            annex.look(None);
            annex.note(many());
        });
        assert_eq!(log.matches(": rejected").count(), 1, "{log}");
        assert!(log.contains(what), "{log}");
        let error = annex.tokens().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused);
        assert!(error.to_string().contains("257 tokens") && error.to_string().contains("agent.toml"), "{error}");
        assert!(annex.keysets().0.is_empty() && annex.logged_in().is_empty());
        // A valid inventory is accepted again.
        annex.note(seen(1, vec![keyset(1, 1)]));
        assert_eq!((annex.tokens().unwrap().len(), annex.keysets().0.len()), (1, 1));
    }
}

#[test]
fn an_answer_that_is_too_long_is_not_read() {
    let annex = saying_that_there_is(seen(1, vec![keyset(0, 4 * MEBIBYTE)]));
    let log = logged(|| (0..3).for_each(|_| annex.look(None)));
    assert_eq!(log.matches(": rejected").count(), 1, "{log}");
    assert!(annex.tokens().is_err());

    let annex = saying(serde_json::to_vec(&Reply::Signature(vec![0; 64 * 1024].into())).unwrap());
    let purpose = Purpose::SignContent { sha256: [0; 32], subject: None };
    let usage = Usage { peer: Peer { pid: 1, uid: 1 }, purpose, client: ClientConnection::default() };
    let refused = annex.sign(b"key", SignatureHash::Sha256, b"data", &usage).unwrap_err();
    assert!(matches!(refused, AgentError::WorkerEnded { .. }), "{refused}");
}

/// Answers no question.
struct Away;

impl Asks for Away {
    fn pin(&self, _: &Question<'_>) -> Result<Pin, NoPin> {
        Err(NoPin::Cancelled)
    }

    fn confirm(&self, _: &Question<'_>) -> Result<(), NoPin> {
        Err(NoPin::Cancelled)
    }

    fn program(&self, _: Peer) -> Option<String> {
        None
    }
}

#[test]
fn a_line_of_an_act_that_has_no_end_is_not_read_to_it() {
    let annex = annex(|mut stream| {
        let _ = frame::read::<Request>(&mut stream, MEBIBYTE);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        while stream.write_all(&[b' '; 8 * 1024]).is_ok() {}
    });
    let peer = Peer { pid: 1, uid: 1 };
    let usage = Usage { peer, purpose: Purpose::LogIn, client: ClientConnection::default() };
    let request = ActRequest::ChangePin { keyset: Choice::default() };
    let agent = Agent::in_annex(Arc::new(annex), peer);
    let ended = agent.act(&request, &mut AskedPerson::new(&Away, &usage), &NoCarrier).unwrap_err();
    assert!(matches!(ended, ClientError::Ended { .. }), "{ended}");
}

#[test]
fn a_log_in_is_told_of_as_one_to_its_own_module() {
    let changes = vec![
        LogInChange::Begun(token(1, "card")),
        LogInChange::Ended(token(2, "card"), LogOff::Idle),
        LogInChange::Begun(token(3, &"x".repeat(129))),
    ];
    let all = annex(move |mut stream| {
        let _ = frame::read::<Request>(&mut stream, MEBIBYTE);
        for change in &changes {
            let change = serde_json::from_value(serde_json::to_value(change).unwrap()).unwrap();
            let news = News { seen: seen(1, Vec::new()), log_in: Some(change) };
            frame::write(&mut stream, &news, b"", MEBIBYTE).unwrap();
        }
    });
    let mut told = Vec::new();
    assert!(all.follow(|_, news| told.push(news.log_in)));
    let [Some(LogInChange::Begun(one)), Some(LogInChange::Ended(two, LogOff::Idle)), None] = &told[..] else {
        panic!("{told:?}");
    };
    assert!([one, two].iter().all(|token| token.module == Path::new(MODULE)), "{told:?}");
}
