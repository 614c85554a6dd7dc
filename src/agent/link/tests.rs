//! Both ends of the link in one process.

use std::io::Read;
use std::sync::Arc;
use std::thread;

use super::*;
use crate::keyset::{Prompt, Purpose};
use crate::token::test_support::a_card;

/// A worker's end; the test is the supervisor.
fn pair() -> (Arc<Link>, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let link = Arc::new(Link::over(ours).unwrap());
    link.start_reader().unwrap();
    (link, theirs)
}

fn ask(link: &Link) -> Result<PromptReply, NoPin> {
    ask_for(link, &ClientConnection::default())
}

fn ask_for(link: &Link, client: &ClientConnection) -> Result<PromptReply, NoPin> {
    let prompt = Prompt::Pin { purpose: Purpose::LogIn, token: a_card(), keyset: None, was_wrong: false };
    let question = Question { prompt, pid: 7, last_try: false, was_repeated: false, dialog: 5 };
    link.ask_person(question, client)
}

/// The PIN, and whether it may be asked for again.
fn pin_of(reply: Result<PromptReply, NoPin>) -> (Pin, bool) {
    match reply.unwrap() {
        PromptReply::Pin { pin, may_retry } => (pin, may_retry),
        PromptReply::Yes => panic!("yes is no PIN"),
    }
}

fn next(supervisor: &UnixStream) -> (u64, WorkerCall) {
    match ipc::receive::<WorkerMessage>(supervisor).unwrap().message {
        IpcMessage::Call { number, call } => (number, call),
        other => panic!("{other:?}"),
    }
}

fn no(reason: NoPin) -> SupervisorReply {
    SupervisorReply::Prompt(PromptAnswer::No(reason))
}

fn reply(supervisor: &UnixStream, number: u64, reply: SupervisorReply, payload: &[u8]) {
    ipc::send(supervisor, &SupervisorMessage::Reply { number, reply }, payload, &[]).unwrap();
}

#[test]
fn concurrent_questions_get_their_own_answers() {
    let (link, supervisor) = pair();
    let asked: Vec<_> = (0..8)
        .map(|pid| {
            let link = link.clone();
            thread::spawn(move || (pid, link.program(PeerProcess { pid, uid: 0 })))
        })
        .collect();
    let mut open: Vec<_> = (0..8).map(|_| next(&supervisor)).collect();
    open.reverse();
    for (number, question) in open {
        let WorkerCall::Program(pid) = question else { panic!("{question:?}") };
        let answer = SupervisorReply::Program(Some(format!("program {pid}")));
        reply(&supervisor, number, answer, b"");
    }
    for asked in asked {
        let (pid, answer) = asked.join().unwrap();
        assert_eq!(answer.unwrap(), format!("program {pid}"));
    }
}

#[test]
fn a_pin_arrives_outside_the_json() {
    let (link, supervisor) = pair();
    let asking = thread::spawn(move || ask(&link));
    let (number, question) = next(&supervisor);
    assert!(matches!(question, WorkerCall::Ask(question) if question.pid == 7 && question.dialog == 5));
    let answer = SupervisorReply::Prompt(PromptAnswer::Pin { attended: true, may_retry: true });
    reply(&supervisor, number, answer, "gehe\"im\\4711".as_bytes());
    let (pin, may_retry) = pin_of(asking.join().unwrap());
    assert!(pin.as_str() == "gehe\"im\\4711" && pin.is_attended() && may_retry);
    let (link, supervisor) = pair();
    let asking = thread::spawn(move || ask(&link));
    let (number, _) = next(&supervisor);
    let answer = SupervisorReply::Prompt(PromptAnswer::Pin { attended: false, may_retry: false });
    reply(&supervisor, number, answer, b"from-a-file");
    let (pin, may_retry) = pin_of(asking.join().unwrap());
    assert!(pin.as_str() == "from-a-file" && !pin.is_attended() && !may_retry, "no person typed it");
}

#[test]
fn each_reason_for_no_pin_arrives_as_itself() {
    for (answer, expected) in [
        (no(NoPin::Declined), NoPin::Declined),
        (no(NoPin::Cancelled), NoPin::Cancelled),
        (no(NoPin::Unavailable("no terminal".into())), NoPin::Unavailable("no terminal".into())),
        (SupervisorReply::Unavailable("no way to ask".into()), NoPin::Unavailable("no way to ask".into())),
    ] {
        let (link, supervisor) = pair();
        let asking = thread::spawn(move || ask(&link));
        let (number, _) = next(&supervisor);
        reply(&supervisor, number, answer, b"");
        assert_eq!(asking.join().unwrap().unwrap_err(), expected);
    }
}

#[test]
fn only_yes_confirms() {
    for (answer, expected) in [
        (SupervisorReply::Prompt(PromptAnswer::Yes), true),
        (no(NoPin::Declined), false),
        (no(NoPin::Cancelled), false),
        (SupervisorReply::Prompt(PromptAnswer::Pin { attended: false, may_retry: false }), false),
        (SupervisorReply::Program(Some("yes".into())), false),
        (SupervisorReply::Unavailable(String::new()), false),
    ] {
        let (link, supervisor) = pair();
        let asking = thread::spawn(move || ask(&link));
        let (number, question) = next(&supervisor);
        assert!(matches!(question, WorkerCall::Ask(_)));
        let shown = format!("{answer:?}");
        reply(&supervisor, number, answer, b"1234");
        let confirmed = matches!(asking.join().unwrap(), Ok(PromptReply::Yes));
        assert_eq!(confirmed, expected, "{shown}");
    }
}

#[test]
fn waiting_threads_are_freed_when_the_supervisor_exits() {
    let (link, supervisor) = pair();
    let waiting = link.clone();
    let asking = thread::spawn(move || ask(&waiting));
    next(&supervisor);
    drop(supervisor);
    assert!(matches!(asking.join().unwrap(), Err(NoPin::Unavailable(_))));
    assert!(matches!(ask(&link), Err(NoPin::Unavailable(_))));
}

#[test]
fn a_question_is_withdrawn_when_its_client_hangs_up() {
    let (link, supervisor) = pair();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let client = ClientConnection::of(&Arc::new(ours));
    let asking = {
        let (link, client) = (link.clone(), client.clone());
        thread::spawn(move || ask_for(&link, &client))
    };
    let (number, _) = next(&supervisor);
    drop(theirs);
    match ipc::receive::<WorkerMessage>(&supervisor).unwrap().message {
        IpcMessage::Withdrawn { number: withdrawn } => assert_eq!(withdrawn, number),
        other => panic!("{other:?}"),
    }
    assert_eq!(asking.join().unwrap().unwrap_err(), NoPin::Withdrawn);
    // A late answer is dropped, and the next question is not even sent.
    reply(
        &supervisor,
        number,
        SupervisorReply::Prompt(PromptAnswer::Pin { attended: true, may_retry: true }),
        b"geheim-4711",
    );
    assert_eq!(ask_for(&link, &client).unwrap_err(), NoPin::Withdrawn);
    supervisor.set_nonblocking(true).unwrap();
    assert_eq!((&supervisor).read(&mut [0]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
}
