//! The time limits of a command's replies; other clients wait for the token meanwhile.

use std::io::{BufRead, BufReader};
use std::time::Duration;

use super::*;
use crate::keyset::ErrorKind;

/// The agent's end with this timeout, and the command's end.
fn pair(timeout: Duration) -> (Arc<OperationSession>, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    (OperationSession::with_timeout(Arc::new(ours), timeout).unwrap(), theirs)
}

const SHORT: Duration = Duration::from_millis(50);
const LONG: Duration = Duration::from_mins(1);

fn asks(session: &OperationSession) -> Result<Pin, NoPin> {
    ClientPrompter(session).pin(Prompt::NewPin { label: "mine", serial: None, rule: None })
}

#[test]
fn a_command_may_reply_for_five_minutes() {
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let session = OperationSession::start(Arc::new(ours)).unwrap();
    assert_eq!(session.timeout, Duration::from_mins(5));
    assert_eq!(session.stream.write_timeout().unwrap(), Some(Duration::from_mins(5)));
}

#[test]
fn a_timeout_cancels_the_operation_once() {
    let (session, theirs) = pair(SHORT);
    assert_eq!(asks(&session).unwrap_err(), NoPin::Cancelled);
    assert!(!session.is_open());
    // Later questions and network requests fail at once, and late replies are rejected.
    for _ in 0..100 {
        assert_eq!(asks(&session).unwrap_err(), NoPin::Cancelled);
        assert!(ClientTransport(&session).ca_certificate().is_err());
    }
    assert!(session.answer(ClientReply { number: 1, reply: ReplyValue::Pin(b"12345678"[..].into()) }).is_err());
    session.end(&OperationEvent::Failed { kind: ErrorKind::Pin, message: "cancelled".to_owned() });
    let asked: Vec<String> = BufReader::new(theirs).lines().map(Result::unwrap).collect();
    assert_eq!(asked.len(), 2, "one question and the end: {asked:?}");
}

#[test]
fn a_reply_to_another_question_extends_no_timeout() {
    let (session, _theirs) = pair(SHORT);
    let done = std::sync::atomic::AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                let _ = session.answer(ClientReply { number: 99, reply: ReplyValue::Yes {} });
                thread::yield_now();
            }
        });
        assert_eq!(asks(&session).unwrap_err(), NoPin::Cancelled);
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn a_client_that_does_not_read_is_not_waited_for() {
    let (session, theirs) = pair(SHORT);
    // More than a socket buffers.
    let network_request = ClientTransport(&session).cmp(&vec![0; 16 * 1024 * 1024]);
    assert!(network_request.is_err() && !session.is_open());
    drop(theirs);
}

#[test]
fn a_disconnect_withdraws_the_question_at_once() {
    let (session, theirs) = pair(LONG);
    thread::scope(|scope| {
        let asking = scope.spawn(|| asks(&session));
        let mut line = String::new();
        BufReader::new(&theirs).read_line(&mut line).unwrap();
        assert!(line.contains("ask"), "{line}");
        theirs.shutdown(Shutdown::Both).unwrap();
        let began = Instant::now();
        assert_eq!(asking.join().unwrap().unwrap_err(), NoPin::Withdrawn);
        assert!(began.elapsed() < LONG);
    });
}
