//! Both ends of the link in one process.

use std::sync::Arc;
use std::thread;

use std::os::unix::net::UnixListener;

use super::*;
use crate::agent::{Usage, UsagePurpose};
use crate::token::test_support::a_card;

/// A worker's end; the test is the supervisor.
fn pair() -> (Arc<Link>, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let writer = Mutex::new(ours.try_clone().unwrap());
    let link = Arc::new(Link { reader: ours, writer, pending: Mutex::default(), changed: Condvar::new() });
    link.start_reader().unwrap();
    (link, theirs)
}

fn with_question<T>(ask: impl FnOnce(&Question<'_>) -> T) -> T {
    with_question_of(ClientConnection::default(), ask)
}

fn with_question_of<T>(client: ClientConnection, ask: impl FnOnce(&Question<'_>) -> T) -> T {
    let usage = Usage { peer: PeerProcess { pid: 7, uid: 0 }, purpose: UsagePurpose::LogIn, client };
    ask(&Question::without_a_keyset(&usage, &a_card()))
}

fn next(supervisor: &mut UnixStream) -> (u64, WorkerQuestion) {
    match read_frame(supervisor).unwrap().0 {
        WorkerMessage::Question { number, question } => (number, question),
        other => panic!("{other:?}"),
    }
}

#[test]
fn concurrent_questions_get_their_own_answers() {
    let (link, mut supervisor) = pair();
    let asked: Vec<_> = (0..8)
        .map(|pid| {
            let link = link.clone();
            thread::spawn(move || (pid, link.program(PeerProcess { pid, uid: 0 })))
        })
        .collect();
    let mut open: Vec<_> = (0..8).map(|_| next(&mut supervisor)).collect();
    open.reverse();
    for (number, question) in open {
        let WorkerQuestion::Program(pid) = question else { panic!("{question:?}") };
        let answer = SupervisorAnswer::Program(Some(format!("program {pid}")));
        write_frame(&mut supervisor, &SupervisorMessage { number, answer }, b"").unwrap();
    }
    for asked in asked {
        let (pid, answer) = asked.join().unwrap();
        assert_eq!(answer.unwrap(), format!("program {pid}"));
    }
}

#[test]
fn a_pin_arrives_outside_the_json() {
    let (link, mut supervisor) = pair();
    let asking = thread::spawn(move || with_question(|question| link.pin(question)));
    let (number, question) = next(&mut supervisor);
    assert!(matches!(question, WorkerQuestion::Pin { text, dialog: 5 } if text.pid == 7));
    let answer = SupervisorAnswer::Pin { attended: true };
    write_frame(&mut supervisor, &SupervisorMessage { number, answer }, "gehe\"im\\4711".as_bytes()).unwrap();
    let pin = asking.join().unwrap().unwrap();
    assert!(pin.as_str() == "gehe\"im\\4711" && pin.is_attended());
    let (link, mut supervisor) = pair();
    let asking = thread::spawn(move || with_question(|question| link.pin(question)));
    let (number, _) = next(&mut supervisor);
    let answer = SupervisorAnswer::Pin { attended: false };
    write_frame(&mut supervisor, &SupervisorMessage { number, answer }, b"from-a-file").unwrap();
    let pin = asking.join().unwrap().unwrap();
    assert!(pin.as_str() == "from-a-file" && !pin.is_attended(), "no person typed it");
    let mut frame = Vec::new();
    write_frame(
        &mut frame,
        &SupervisorMessage { number: 1, answer: SupervisorAnswer::Pin { attended: true } },
        b"geheim-4711",
    )
    .unwrap();
    assert!(frame.ends_with(b"}geheim-4711"), "{}", String::from_utf8_lossy(&frame));
}

#[test]
fn each_reason_for_no_pin_arrives_as_itself() {
    for (answer, expected) in [
        (SupervisorAnswer::No, NoPin::Declined),
        (SupervisorAnswer::Cancelled, NoPin::Cancelled),
        (SupervisorAnswer::Unavailable("no way to ask".into()), NoPin::Unavailable("no way to ask".into())),
    ] {
        let (link, mut supervisor) = pair();
        let asking = thread::spawn(move || with_question(|question| link.pin(question)));
        let (number, _) = next(&mut supervisor);
        write_frame(&mut supervisor, &SupervisorMessage { number, answer }, b"").unwrap();
        assert_eq!(asking.join().unwrap().unwrap_err(), expected);
    }
}

#[test]
fn only_yes_confirms() {
    for (answer, expected) in [
        (SupervisorAnswer::Yes, true),
        (SupervisorAnswer::No, false),
        (SupervisorAnswer::Cancelled, false),
        (SupervisorAnswer::Pin { attended: false }, false),
        (SupervisorAnswer::Program(Some("yes".into())), false),
        (SupervisorAnswer::Unavailable(String::new()), false),
    ] {
        let (link, mut supervisor) = pair();
        let asking = thread::spawn(move || with_question(|question| link.confirm(question)));
        let (number, question) = next(&mut supervisor);
        assert!(matches!(question, WorkerQuestion::Confirmation(_)));
        let shown = format!("{answer:?}");
        write_frame(&mut supervisor, &SupervisorMessage { number, answer }, b"1234").unwrap();
        assert_eq!(asking.join().unwrap().is_ok(), expected, "{shown}");
    }
}

#[test]
fn waiting_threads_are_freed_when_the_supervisor_exits() {
    let (link, mut supervisor) = pair();
    let waiting = link.clone();
    let asking = thread::spawn(move || with_question(|question| waiting.pin(question)));
    next(&mut supervisor);
    drop(supervisor);
    assert!(matches!(asking.join().unwrap(), Err(NoPin::Unavailable(_))));
    assert!(matches!(with_question(|question| link.confirm(question)), Err(NoPin::Unavailable(_))));
}

#[test]
fn a_question_is_withdrawn_when_its_client_hangs_up() {
    let (link, mut supervisor) = pair();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let client = ClientConnection::of(&Arc::new(ours));
    let asking = {
        let (link, client) = (link.clone(), client.clone());
        thread::spawn(move || with_question_of(client, |question| link.pin(question)))
    };
    let (number, _) = next(&mut supervisor);
    drop(theirs);
    match read_frame(&mut supervisor).unwrap().0 {
        WorkerMessage::Withdrawn { number: withdrawn } => assert_eq!(withdrawn, number),
        other => panic!("{other:?}"),
    }
    assert_eq!(asking.join().unwrap().unwrap_err(), NoPin::Withdrawn);
    // A late answer is dropped, and the next question is not even sent.
    write_frame(
        &mut supervisor,
        &SupervisorMessage { number, answer: SupervisorAnswer::Pin { attended: true } },
        b"geheim-4711",
    )
    .unwrap();
    assert_eq!(with_question_of(client, |question| link.confirm(question)).unwrap_err(), NoPin::Withdrawn);
    supervisor.set_nonblocking(true).unwrap();
    assert_eq!(supervisor.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
}

#[test]
fn oversized_frames_are_neither_sent_nor_received() {
    let mut sent = Vec::new();
    assert!(write_frame(&mut sent, &"x".repeat(MAX_HEAD_BYTES), b"").is_err());
    assert!(write_frame(&mut sent, &"x", &[b'1'; Pin::MAX_BYTES + 1]).is_err());
    assert!(sent.is_empty());
    for lengths in [[u32::MAX, 0], [2, u32::MAX], [u32::try_from(MAX_HEAD_BYTES).unwrap() + 1, 0]] {
        let frame = [&lengths[0].to_be_bytes()[..], &lengths[1].to_be_bytes(), b"\"\""].concat();
        let error = read_frame::<String>(&mut &frame[..]).unwrap_err();
        // Rejected by its length, not because bytes are missing.
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{lengths:?}");
    }
}

#[test]
fn a_truncated_frame_is_an_error() {
    let mut frame = Vec::new();
    write_frame(&mut frame, &"head", b"secret").unwrap();
    let (head, secret): (String, _) = read_frame(&mut &frame[..]).unwrap();
    assert_eq!((head.as_str(), secret.as_slice()), ("head", &b"secret"[..]));
    for length in 0..frame.len() {
        assert!(read_frame::<String>(&mut &frame[..length]).is_err(), "{length}");
    }
}

#[test]
fn the_listeners_are_passed_over_the_link() {
    let directory = tempfile::tempdir().unwrap();
    let listeners = ["ssh", "api"].map(|name| UnixListener::bind(directory.path().join(name)).unwrap());
    let (ours, theirs) = UnixStream::pair().unwrap();
    fd_passing::send_fds(&ours, &[listeners[0].as_fd(), listeners[1].as_fd()]).unwrap();
    let received: Vec<_> = fd_passing::receive_fds(&theirs).unwrap().into_iter().map(UnixListener::from).collect();
    for (name, listener) in ["ssh", "api"].iter().zip(&received) {
        let address = listener.local_addr().unwrap();
        assert_eq!(address.as_pathname().unwrap(), directory.path().join(name));
    }
    write_frame(&mut &ours, &"no listeners", b"").unwrap();
    assert!(fd_passing::receive_fds(&theirs).is_err());
}
