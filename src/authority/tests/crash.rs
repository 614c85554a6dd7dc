//! Kills the authority between any two steps: after the restart the same message gets a consistent
//! reply.
//!
//! The killed process is this test program, started again as a child that runs only [`child`].

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, ExitStatus};

use super::support::*;
use crate::authority::{Authority, CRASH_POINTS, init};
use crate::cmp::{PkiBody, PkiFailureInfo};
use crate::letter::Letter;
use crate::statement::{Answer, Operation, Way};
use crate::store::{CertificateKind, CertificateState};
use crate::token::test_support::{PIN, pin};

const DIRECTORY: &str = "TOKENKEEP_TEST_AUTHORITY";
const ACT: &str = "TOKENKEEP_TEST_ACT";
const SIGKILL: i32 = 9;

/// The child process: opens the authority in the directory and answers the message in the file
/// `message`. Does nothing in a normal test run.
#[test]
fn child() {
    let Ok(directory) = std::env::var(DIRECTORY) else { return };
    let directory = Path::new(&directory);
    let configuration = load(directory);
    let message = || std::fs::read(directory.join("message")).unwrap();
    let open = || Authority::open(configuration.clone(), &pin(PIN), now()).unwrap();
    match std::env::var(ACT).unwrap().as_str() {
        "init" => {
            let letter = init(&configuration, pin(PIN), None, ADMINISTRATOR, now()).unwrap();
            std::fs::write(directory.join("letter"), &*letter.to_text()).unwrap();
        }
        "cmp" => drop(open().answer_cmp(&message(), [192, 0, 2, 1].into(), now())),
        "statement" => drop(open().answer_statement(&message(), Way::File, now())),
        "sweep" => drop(open().sweep(later(60))),
        other => panic!("no such operation: {other}"),
    }
}

/// Runs an operation in a child process on the authority in `directory`, which is killed at
/// `point`.
fn run_child(directory: &Path, act: &str, point: Option<&str>) -> ExitStatus {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "authority::tests::crash::child", "--test-threads", "1", "-q"]);
    command.env(DIRECTORY, directory).env(ACT, act).env_remove("TOKENKEEP_CRASH_AT");
    if let Some(point) = point {
        command.env("TOKENKEEP_CRASH_AT", point);
    }
    let output = command.output().unwrap();
    let said = || format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(point.is_some() || output.status.success(), "{}", said());
    output.status
}

/// Runs a child that is killed at `point` while it works on `message`, then opens the authority
/// again.
fn killed(office: &mut Office, act: &str, message: &[u8], point: &str) {
    std::fs::write(office.directory().join("message"), message).unwrap();
    office.close();
    let status = run_child(office.directory(), act, Some(point));
    assert_eq!(status.signal(), Some(SIGKILL), "{point} was not reached");
    office.open(now());
}

fn points(prefix: &str) -> impl Iterator<Item = &'static str> {
    CRASH_POINTS.iter().copied().filter(move |point| point.starts_with(prefix))
}

#[test]
fn every_crash_point_is_in_the_list_once_and_in_the_code() {
    let mut found = BTreeSet::new();
    let mut rooms = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src/authority")];
    while let Some(room) = rooms.pop() {
        for entry in std::fs::read_dir(room).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                rooms.push(path);
            } else {
                let text = std::fs::read_to_string(path).unwrap();
                let names = text.split("at(\"authority.").skip(1).filter_map(|rest| rest.split('"').next());
                found.extend(names.map(|name| format!("authority.{name}")));
            }
        }
    }
    assert_eq!(CRASH_POINTS.iter().map(ToString::to_string).collect::<BTreeSet<_>>(), found);
    assert_eq!(CRASH_POINTS.len(), found.len());
}

#[test]
fn a_request_killed_at_any_step_gets_a_fitting_reply_after_the_restart() {
    let mut office = Office::new();
    let administrator = office.administrator();
    let person = Person::new();
    // Two certificates are issued, and each of their steps is a crash point.
    let issuing =
        ["authority.enroll.after_intent:2", "authority.enroll.after_signature:2", "authority.enroll.after_issued:2"];
    let all = points("authority.enroll.").filter(|point| *point != "authority.enroll.after_abandon");
    for point in all.chain(issuing) {
        let letter = office.letter_for(&administrator, "user@example.org");
        let request = person.request(&letter, USUAL, now());
        killed(&mut office, "cmp", &request, point);
        finish(&office, &person, &letter, &request, point);
    }
    office.check_log();
}

#[test]
fn a_key_lost_before_it_was_archived_is_never_delivered() {
    let mut office = Office::new();
    let administrator = office.administrator();
    let person = Person::new();
    let letter = office.letter_for(&administrator, "user@example.org");
    let request = person.request(&letter, USUAL, now());
    killed(&mut office, "cmp", &request, "authority.enroll.before_archive");
    killed(&mut office, "cmp", &request, "authority.enroll.after_abandon");
    finish(&office, &person, &letter, &request, "after_abandon");
    let user = office.authority().store.user_by_email("user@example.org").unwrap().unwrap();
    let certificates = office.authority().store.certificates_of_user(&user.id).unwrap();
    let given_up = certificates.iter().filter(|record| record.state == CertificateState::Abandoned).count();
    assert_eq!((certificates.len(), given_up), (3, 1));
}

#[test]
fn a_recovery_killed_at_any_step_delivers_the_history_after_the_restart() {
    let mut office = Office::new();
    let administrator = office.administrator();
    let person = Person::new();
    let mut history = person.enroll(&office, &office.letter_for(&administrator, "user@example.org"), now());
    for (minute, point) in ["authority.enroll.after_issued", "authority.enroll.after_archive"].into_iter().enumerate() {
        let letter = office.recovery_letter_for(&administrator, "user@example.org", true);
        let request = person.request(&letter, USUAL, now());
        killed(&mut office, "cmp", &request, point);
        let at = later(i64::try_from(minute).unwrap() + 1);
        let reply = office.post(&request, at).bytes;
        let delivered = person.install(&letter, &request, &reply);
        assert_eq!(delivered[..history.len()], history[..], "{point}");
        assert_eq!(delivered.len(), history.len() + 1, "plus a new current key");
        Person::confirm(&office, &letter, &request, &reply, at);
        history = delivered;
    }
}

#[test]
fn a_confirmation_killed_at_any_step_is_answered_after_the_restart() {
    let mut office = Office::new();
    let administrator = office.administrator();
    let person = Person::new();
    for point in points("authority.confirm.") {
        let letter = office.letter_for(&administrator, "user@example.org");
        let request = person.request(&letter, USUAL, now());
        let reply = office.post(&request, now()).bytes;
        let confirmation = Person::confirmation(&letter, &request, &reply, None, now());
        killed(&mut office, "cmp", &confirmation, point);
        let answer = proven(&confirmation, &office.post(&confirmation, now()).bytes, &letter.temporary_key);
        assert!(matches!(answer.body(), PkiBody::PkiConf(_)), "{point}");
    }
    let found = office.authority().search_certificates("user@example.org", now()).unwrap();
    assert_eq!(found.len(), 1, "one current encryption certificate");
}

/// An attacker with write access to the database and a letter: the CA signs only what was decided.
#[test]
fn what_will_be_signed_is_not_read_from_the_database() {
    let (own, wanted) = ("mallo@example.org", ADMINISTRATOR);
    assert_eq!(own.len(), wanted.len(), "the DER must stay well-formed");
    let exchanged = format!(
        "SET tbs = CAST(replace(tbs, CAST('{own}' AS BLOB), CAST('{wanted}' AS BLOB)) AS BLOB) WHERE kind = 'signing'"
    );
    let mut office = Office::new();
    let administrator = office.administrator();
    let person = Person::new();

    let letter = office.letter_for(&administrator, own);
    let request = person.request(&letter, USUAL, now());
    killed(&mut office, "cmp", &request, "authority.enroll.after_intent");
    office.tamper(&format!("UPDATE certificates {exchanged}"));
    assert_eq!(
        refusal(&request, &office.post(&request, now()).bytes, &letter.temporary_key).0,
        PkiFailureInfo::SYSTEM_FAILURE
    );

    let letter = office.letter_for(&administrator, own);
    office.tamper(&format!(
        "CREATE TRIGGER exchange AFTER INSERT ON certificates BEGIN UPDATE certificates {exchanged}; END"
    ));
    let request = person.request(&letter, USUAL, now());
    let reply = proven(&request, &office.post(&request, now()).bytes, &letter.temporary_key);
    assert_eq!(parts(&reply).0.emails(), [own]);
}

#[test]
fn a_sweep_that_was_killed_is_finished_by_the_next() {
    let mut office = Office::new();
    let administrator = office.administrator();
    let person = Person::new();
    for email in ["a@example.org", "b@example.org"] {
        let letter = office.letter_for(&administrator, email);
        office.post(&person.request(&letter, USUAL, now()), now());
    }
    killed(&mut office, "sweep", b"", "authority.sweep.after_end");
    assert_eq!(office.authority().sweep(later(60)).unwrap(), 1);
}

#[test]
fn a_statement_killed_at_any_step_counts_once_and_the_next_one_works() {
    let mut office = Office::new();
    let by = office.administrator();
    let person = Person::new();
    person.enroll(&office, &office.letter_for(&by, "user@example.org"), now());
    for (number, point) in points("authority.statement.").enumerate() {
        let recover = || Operation::Recover { email: "user@example.org".into(), lost: true, valid_for_seconds: None };
        // As a file, which any run of the authority may answer.
        let statement = office.statement(Way::File, &by, recover(), [u8::try_from(number).unwrap(); 16], now());
        let signed = by.sign(&statement, now());
        killed(&mut office, "statement", signed.as_der(), point);
        let again = office.post_statement_by(Way::File, signed.as_der(), now()).answer;
        assert!(matches!(again, Answer::Refused(_)), "{point}");
        by.letter_in(office.state(&by, recover(), now()).unwrap());
    }
}

#[test]
fn an_init_killed_at_any_step_is_finished_by_the_same_call() {
    let keys = [4, 7].map(|key| format!("authority.init.after_key:{key}"));
    let all = points("authority.init.").chain(points("authority.own.")).map(str::to_owned).chain(keys);
    for point in all {
        let directory = tempfile::tempdir().unwrap();
        let configuration = configuration(directory.path());
        let status = run_child(directory.path(), "init", Some(&point));
        assert_eq!(status.signal(), Some(SIGKILL), "{point} was not reached");
        run_child(directory.path(), "init", None);
        let letter = std::fs::read_to_string(directory.path().join("letter")).unwrap();
        let letter = Letter::parse(&letter).unwrap();

        std::fs::write(directory.path().join("message"), question(&letter, &[], now())).unwrap();
        run_child(directory.path(), "cmp", None);
        let state: Vec<_> = std::fs::read_dir(&configuration.state).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert!(state.iter().all(|name| name.to_string_lossy().starts_with("authority.db")), "{point}: {state:?}");
    }
}

fn finish(office: &Office, person: &Person, letter: &Letter, request: &[u8], point: &str) {
    let reply = office.post(request, now()).bytes;
    assert_eq!(office.post(request, now()).bytes, reply, "{point}");
    let certificates = person.install(letter, request, &reply);
    assert_eq!(certificates.len(), 1, "{point}");
    assert!(office.authority().store.archived_key(certificates[0].fingerprint().as_bytes()).unwrap().is_some());
    assert!(matches!(Person::confirm(office, letter, request, &reply, now()).body(), PkiBody::PkiConf(_)));

    let user = office.authority().store.user_by_email("user@example.org").unwrap().unwrap();
    let certificates = office.authority().store.certificates_of_user(&user.id).unwrap();
    for kind in [CertificateKind::Signing, CertificateKind::Encryption] {
        let current = certificates.iter().filter(|c| c.intent.kind == kind && c.state == CertificateState::Current);
        assert_eq!(current.count(), 1, "{point}: one current {kind} certificate");
    }
    let open = certificates
        .iter()
        .filter(|certificate| matches!(certificate.state, CertificateState::Intended | CertificateState::Issued));
    assert_eq!(open.count(), 0, "{point}: no transaction is open");
}

#[test]
fn a_client_that_need_not_confirm_keeps_what_it_got() {
    let mut office = Office::new();
    let (person, letter) = (Person::new(), office.letter.clone());
    let wish = Wish { encryption: false, implicit_confirm: true, level: None };
    let request = person.request(&letter, wish, now());
    killed(&mut office, "cmp", &request, "authority.enroll.after_reply");
    let reply = office.post(&request, now()).bytes;
    let (signing, _) = parts(&proven(&request, &reply, &letter.temporary_key));
    office.authority().sweep(later(60)).unwrap();
    let record = office.authority().certificate(&signing.serial().to_string()).unwrap().unwrap();
    assert_eq!(record.state, CertificateState::Current);
}
