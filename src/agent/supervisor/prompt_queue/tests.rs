//! Tests with scripts as the person, over a link whose other end is the test.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::ipc::IpcMessage;
use crate::keyset::Purpose;
use crate::token::test_support::a_card;
use crate::token::{TokenInfo, WhichPin};

/// A question for the PIN of the token with this label.
fn pin(label: &str, dialog: u64) -> WorkerCall {
    let token = TokenInfo { label: label.to_owned(), ..a_card() };
    ask(Prompt::Pin { purpose: Purpose::LogIn, token, keyset: None, was_wrong: false }, dialog)
}

/// A question whether to risk the last try of the token with this label.
fn confirmation(label: &str) -> WorkerCall {
    let token = TokenInfo { label: label.to_owned(), ..a_card() };
    ask(Prompt::LastTry { purpose: Purpose::LogIn, token, keyset: None, which: WhichPin::User }, 1)
}

fn ask(prompt: Prompt, dialog: u64) -> WorkerCall {
    let question = Question { prompt, pid: own(), last_try: false, was_repeated: false, dialog };
    WorkerCall::Ask(Box::new(question))
}

fn own() -> i32 {
    i32::try_from(std::process::id()).unwrap()
}

/// A queue that asks a script, and the worker's end of the link.
fn asked_by(script: &str) -> (tempfile::TempDir, PromptQueue, UnixStream, UnixStream) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("prompter");
    fs::write(&path, format!("#!/bin/sh\ncd {}\n{script}\n", directory.path().display())).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    let method = format!("command:{}", path.display()).parse().unwrap();
    let environment = PromptEnvironment::new([("PATH".into(), std::env::var_os("PATH").unwrap())]);
    let questions = PromptQueue::start_queue(PromptConfig { method, environment }).unwrap();
    let (ours, theirs) = UnixStream::pair().unwrap();
    (directory, questions, ours, theirs)
}

/// The next reply: the number of its call, and its payload.
fn next(worker: &UnixStream) -> (u64, SupervisorReply, Zeroizing<Vec<u8>>) {
    let frame = ipc::receive::<SupervisorMessage>(worker).unwrap();
    match frame.message {
        IpcMessage::Reply { number, reply } => (number, reply, frame.payload),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_prompt_names_the_program_and_returns_the_pin() {
    let (directory, questions, ours, theirs) = asked_by("cat > question; echo geheim-4711");
    questions.take(3, pin("a card", 1), Zeroizing::default(), &ours);
    let (number, answer, secret) = next(&theirs);
    assert!(
        matches!(answer, SupervisorReply::Prompt(PromptAnswer::Pin { attended: false, may_retry: false }))
            && number == 3,
        "a program gave it: {answer:?}"
    );
    assert_eq!(secret.as_slice(), b"geheim-4711");
    let question = fs::read_to_string(directory.path().join("question")).unwrap();
    assert!(question.contains("the PIN of the token \"a card\"") && question.contains("To log in"), "{question}");
    assert!(question.contains("Asked by: /") && question.contains(&format!("(process {}", own())), "{question}");
}

#[test]
fn one_person_is_asked_one_question_at_a_time_in_order() {
    // Fails if another question is open; records the order.
    let script = "mkdir busy || exit 9; sed -n 2p >> order; sleep 0.05; rmdir busy; echo yes";
    let (directory, questions, ours, theirs) = asked_by(script);
    for number in 1..=5 {
        questions.take(number, confirmation(&format!("question {number}")), Zeroizing::default(), &ours);
    }
    // Names of programs do not wait for the person.
    questions.take(6, WorkerCall::Program(own()), Zeroizing::default(), &ours);
    let answers: Vec<_> = (0..6).map(|_| next(&theirs)).collect();
    assert_eq!(answers[0].0, 6);
    assert!(matches!(&answers[0].1, SupervisorReply::Program(Some(_))));
    for (position, (number, answer, _)) in answers.iter().skip(1).enumerate() {
        assert_eq!(*number, position as u64 + 1);
        assert!(matches!(answer, SupervisorReply::Prompt(PromptAnswer::Yes)), "{answer:?}");
    }
    let order = fs::read_to_string(directory.path().join("order")).unwrap();
    let asked: Vec<_> = order.lines().map(|line| line.rsplit_once(' ').unwrap().1).collect();
    assert_eq!(asked, ["1\"", "2\"", "3\"", "4\"", "5\""]);
}

/// The dialog of one use stays open until the use ends. The PIN is the process id of the pinentry.
#[test]
fn one_pinentry_serves_one_use_and_ends_with_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pinentry");
    let body = "echo OK\nwhile IFS= read -r line; do case \"$line\" in GETPIN) printf 'D %s\\nOK\\n' $$ ;; \
                *) echo OK ;; esac; done";
    fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    let variables = [("PATH", std::env::var_os("PATH").unwrap()), ("DISPLAY", ":99".into())];
    let environment = PromptEnvironment::new(variables.map(|(name, value)| (name.into(), value)));
    let method = PromptMethod::Pinentry(Some(path));
    let questions = PromptQueue::start_queue(PromptConfig { method, environment }).unwrap();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let asked = |number, dialog| {
        questions.take(number, pin("a card", dialog), Zeroizing::default(), &ours);
        let (_, answer, secret) = next(&theirs);
        assert!(matches!(answer, SupervisorReply::Prompt(PromptAnswer::Pin { may_retry: true, .. })), "{answer:?}");
        String::from_utf8(secret.to_vec()).unwrap()
    };
    let (first, again, another) = (asked(1, 7), asked(2, 7), asked(3, 8));
    assert!(first == again && first != another, "{first} {again} {another}");
    let ends = |process: &str| {
        let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while Path::new("/proc").join(process).exists() {
            assert!(std::time::Instant::now() < end, "{process} is still running");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    };
    questions.end_dialog(7);
    ends(&first);
    assert!(Path::new("/proc").join(&another).exists(), "the other use's dialog was ended, too");
    assert_ne!(asked(4, 7), first);
    questions.withdraw_all();
    ends(&another);
    assert!(questions.link_state.dialogs().is_empty());
}

#[test]
fn questions_of_a_dead_worker_are_not_asked() {
    let (directory, questions, ours, theirs) = asked_by("sed -n 2p >> order; sleep 0.1; echo yes");
    questions.take(1, confirmation("first"), Zeroizing::default(), &ours);
    questions.take(2, confirmation("second"), Zeroizing::default(), &ours);
    drop(theirs);
    let (new, theirs) = UnixStream::pair().unwrap();
    questions.take(3, confirmation("third"), Zeroizing::default(), &new);
    let (number, ..) = next(&theirs);
    assert_eq!(number, 3);
    let order = fs::read_to_string(directory.path().join("order")).unwrap();
    assert!(!order.contains("second") && order.contains("third"), "{order}");
}

#[test]
fn declined_and_unavailable_are_different_answers() {
    let (_directory, questions, ours, theirs) = asked_by("exit 1");
    questions.take(1, pin("a card", 1), Zeroizing::default(), &ours);
    questions.take(2, confirmation("Yes?"), Zeroizing::default(), &ours);
    let (_, answer, secret) = next(&theirs);
    assert!(
        matches!(answer, SupervisorReply::Prompt(PromptAnswer::No(NoPin::Cancelled))) && secret.is_empty(),
        "{answer:?}"
    );
    let (_, answer, secret) = next(&theirs);
    assert!(
        matches!(answer, SupervisorReply::Prompt(PromptAnswer::No(NoPin::Declined))) && secret.is_empty(),
        "{answer:?}"
    );
    let method = PromptMethod::Terminal(Some("/nowhere/tty".into()));
    let environment = PromptEnvironment::new([]);
    let questions = PromptQueue::start_queue(PromptConfig { method, environment }).unwrap();
    questions.take(1, pin("a card", 1), Zeroizing::default(), &ours);
    let (_, answer, _) = next(&theirs);
    let SupervisorReply::Prompt(PromptAnswer::No(NoPin::Unavailable(reason))) = answer else { panic!("{answer:?}") };
    assert!(reason.contains("/nowhere/tty"), "{reason}");
}

#[test]
fn an_upgraded_module_is_accepted_and_a_foreign_one_is_not() {
    let (directory, questions, ..) = asked_by("exit 1");
    let at = |name: &str| directory.path().canonicalize().unwrap().join(name);
    for name in ["module.so.1", "module.so.2", "another.so"] {
        fs::write(at(name), "a module").unwrap();
    }
    std::os::unix::fs::symlink(at("module.so.1"), at("module.so")).unwrap();
    let questions = questions.with_modules(&[at("module.so")]);
    assert!(questions.is_known(&at("module.so.1")) && !questions.is_known(&at("module.so.2")));
    fs::remove_file(at("module.so")).unwrap();
    std::os::unix::fs::symlink(at("module.so.2"), at("module.so")).unwrap();
    // Workers started before the upgrade use one file, later workers the other.
    assert!(questions.is_known(&at("module.so.1")) && questions.is_known(&at("module.so.2")));
    assert!(!questions.is_known(&at("another.so")));
}
