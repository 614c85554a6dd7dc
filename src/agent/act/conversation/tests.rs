//! How long a command may leave its operation waiting; others wait for the token meanwhile.

use std::io::{BufRead, BufReader};
use std::time::Duration;

use super::*;
use crate::keyset::ErrorKind;

/// The agent's end with this timeout, and the command's end.
fn pair(patience: Duration) -> (Arc<Conversation>, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    (Conversation::with_patience(Arc::new(ours), patience).unwrap(), theirs)
}

const SHORT: Duration = Duration::from_millis(50);
const LONG: Duration = Duration::from_mins(1);

fn asks(conversation: &Conversation) -> Result<Pin, NoPin> {
    RemotePerson(conversation).pin(PinRequest::New { label: "mine", rule: None })
}

#[test]
fn a_command_has_five_minutes_for_an_answer() {
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let conversation = Conversation::over(Arc::new(ours)).unwrap();
    assert_eq!(conversation.patience, Duration::from_mins(5));
    assert_eq!(conversation.stream.write_timeout().unwrap(), Some(Duration::from_mins(5)));
}

#[test]
fn whoever_does_not_answer_has_cancelled_and_is_waited_for_once() {
    let (conversation, theirs) = pair(SHORT);
    assert_eq!(asks(&conversation).unwrap_err(), NoPin::Cancelled);
    assert!(!conversation.is_open());
    // Later questions and network requests fail at once, and late replies are rejected.
    for _ in 0..100 {
        assert_eq!(asks(&conversation).unwrap_err(), NoPin::Cancelled);
        assert!(RemoteCarrier(&conversation).ca_certificate().is_err());
    }
    assert!(conversation.answer(ReplyTo { number: 1, reply: Reply::Pin(b"12345678"[..].into()) }).is_err());
    conversation.end(&Line::Failed { kind: ErrorKind::Pin, message: "cancelled".to_owned() });
    let asked: Vec<String> = BufReader::new(theirs).lines().map(Result::unwrap).collect();
    assert_eq!(asked.len(), 2, "one question and the end: {asked:?}");
}

#[test]
fn an_answer_to_another_question_gives_no_more_time() {
    let (conversation, _theirs) = pair(SHORT);
    let done = std::sync::atomic::AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                let _ = conversation.answer(ReplyTo { number: 99, reply: Reply::Yes {} });
                thread::yield_now();
            }
        });
        assert_eq!(asks(&conversation).unwrap_err(), NoPin::Cancelled);
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn whoever_does_not_read_is_not_waited_for_either() {
    let (conversation, theirs) = pair(SHORT);
    // More than a socket buffers.
    let errand = RemoteCarrier(&conversation).cmp(&vec![0; 16 * 1024 * 1024]);
    assert!(errand.is_err() && !conversation.is_open());
    drop(theirs);
}

#[test]
fn whoever_goes_takes_the_question_along_at_once() {
    let (conversation, theirs) = pair(LONG);
    thread::scope(|scope| {
        let asking = scope.spawn(|| asks(&conversation));
        let mut line = String::new();
        BufReader::new(&theirs).read_line(&mut line).unwrap();
        assert!(line.contains("ask"), "{line}");
        theirs.shutdown(Shutdown::Both).unwrap();
        let began = Instant::now();
        assert_eq!(asking.join().unwrap().unwrap_err(), NoPin::Withdrawn);
        assert!(began.elapsed() < LONG);
    });
}
