//! Kills the authority between any two steps: after the restart the same message gets a consistent
//! reply.
//!
//! The killed process is this test program, started again as a child that runs only [`child`].

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, ExitStatus};

use super::support::*;
use crate::authority::{Authority, CRASH_POINTS};
use crate::cmp::{PkiBody, PkiFailureInfo};
use crate::letter::Letter;
use crate::statement::{AdminOperation, StatementAnswer, StatementChannel};
use crate::store::{CertificateKind, CertificateState};
use crate::token::test_support::{PIN, pin};

const DIRECTORY: &str = "TOKENKEEP_TEST_AUTHORITY";
const ACTION: &str = "TOKENKEEP_TEST_ACTION";
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
    match std::env::var(ACTION).unwrap().as_str() {
        "init" => {
            let letter = init(&configuration, &pin(PIN), ADMINISTRATOR, now()).unwrap();
            std::fs::write(directory.join("letter"), &*letter.to_text()).unwrap();
        }
        "cmp" => drop(open().answer_cmp(&message(), [192, 0, 2, 1].into(), now())),
        "statement" => drop(open().answer_statement(&message(), StatementChannel::File, now())),
        "sweep" => drop(open().sweep(later(60))),
        other => panic!("no such operation: {other}"),
    }
}

/// Runs an operation in a child process on the authority in `directory`, which is killed at
/// `point`.
fn run_child(directory: &Path, action: &str, point: Option<&str>) -> ExitStatus {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "authority::tests::crash::child", "--test-threads", "1", "-q"]);
    command.env(DIRECTORY, directory).env(ACTION, action).env_remove("TOKENKEEP_CRASH_AT");
    if let Some(point) = point {
        command.env("TOKENKEEP_CRASH_AT", point);
    }
    let output = command.output().unwrap();
    let ended_as_expected = point.map_or(output.status.success(), |_| output.status.signal() == Some(SIGKILL));
    let [stdout, stderr] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    assert!(ended_as_expected, "{action} at {point:?} ended with {}:\n{stdout}{stderr}", output.status);
    output.status
}

/// Runs a child that is killed at `point` while it works on `message`, then opens the authority
/// again.
fn killed(fixture: &mut AuthorityFixture, action: &str, message: &[u8], point: &str) {
    std::fs::write(fixture.directory().join("message"), message).unwrap();
    fixture.close();
    let status = run_child(fixture.directory(), action, Some(point));
    assert_eq!(status.signal(), Some(SIGKILL), "{point} was not reached");
    fixture.open(now());
}

fn points(prefix: &str) -> impl Iterator<Item = &'static str> {
    CRASH_POINTS.iter().copied().filter(move |point| point.starts_with(prefix))
}

#[test]
fn every_crash_point_is_in_the_list_once_and_in_the_code() {
    let mut found = BTreeSet::new();
    let mut directories = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src/authority")];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else {
                let text = std::fs::read_to_string(path).unwrap();
                let names = text.split("crash_point(\"authority.").skip(1).filter_map(|rest| rest.split('"').next());
                found.extend(names.map(|name| format!("authority.{name}")));
            }
        }
    }
    assert_eq!(CRASH_POINTS.iter().map(ToString::to_string).collect::<BTreeSet<_>>(), found);
    assert_eq!(CRASH_POINTS.len(), found.len());
}

#[test]
fn a_request_killed_at_any_step_gets_its_reply_after_restart() {
    let mut fixture = AuthorityFixture::new();
    let administrator = fixture.administrator();
    let client = TestClient::new();
    // Two certificates are issued, and each of their steps is a crash point.
    let issuing =
        ["authority.enroll.after_intent:2", "authority.enroll.after_signature:2", "authority.enroll.after_issued:2"];
    let all = points("authority.enroll.").filter(|point| *point != "authority.enroll.after_abandon");
    for point in all.chain(issuing) {
        let letter = fixture.letter_for(&administrator, "user@example.org");
        let request = client.request(&letter, DEFAULT_OPTIONS, now());
        killed(&mut fixture, "cmp", &request, point);
        finish(&fixture, &client, &letter, &request, point);
    }
    fixture.check_log();
}

#[test]
fn a_key_lost_before_archiving_is_never_delivered() {
    let mut fixture = AuthorityFixture::new();
    let administrator = fixture.administrator();
    let client = TestClient::new();
    let letter = fixture.letter_for(&administrator, "user@example.org");
    let request = client.request(&letter, DEFAULT_OPTIONS, now());
    killed(&mut fixture, "cmp", &request, "authority.enroll.before_archive");
    killed(&mut fixture, "cmp", &request, "authority.enroll.after_abandon");
    finish(&fixture, &client, &letter, &request, "after_abandon");
    let user = fixture.authority().records.store.user_by_email("user@example.org").unwrap().unwrap();
    let certificates = fixture.authority().records.store.certificates_of_user(&user.id).unwrap();
    let given_up = certificates.iter().filter(|record| record.state == CertificateState::Abandoned).count();
    assert_eq!((certificates.len(), given_up), (3, 1));
}

#[test]
fn a_recovery_killed_at_any_step_completes_after_restart() {
    let mut fixture = AuthorityFixture::new();
    let administrator = fixture.administrator();
    let client = TestClient::new();
    let mut history = client.enroll(&fixture, &fixture.letter_for(&administrator, "user@example.org"), now());
    for (minute, point) in ["authority.enroll.after_issued", "authority.enroll.after_archive"].into_iter().enumerate() {
        let letter = fixture.recovery_letter_for(&administrator, "user@example.org", true);
        let request = client.request(&letter, DEFAULT_OPTIONS, now());
        killed(&mut fixture, "cmp", &request, point);
        let at = later(i64::try_from(minute).unwrap() + 1);
        let reply = fixture.post(&request, at).bytes;
        let delivered = client.install(&letter, &request, &reply);
        assert_eq!(delivered[..history.len()], history[..], "{point}");
        assert_eq!(delivered.len(), history.len() + 1, "plus a new current key");
        TestClient::confirm(&fixture, &letter, &request, &reply, at);
        history = delivered;
    }
}

#[test]
fn a_confirmation_killed_at_any_step_completes_after_restart() {
    let mut fixture = AuthorityFixture::new();
    let administrator = fixture.administrator();
    let client = TestClient::new();
    for point in points("authority.confirm.") {
        let letter = fixture.letter_for(&administrator, "user@example.org");
        let request = client.request(&letter, DEFAULT_OPTIONS, now());
        let reply = fixture.post(&request, now()).bytes;
        let confirmation = TestClient::confirmation(&letter, &request, &reply, None, now());
        killed(&mut fixture, "cmp", &confirmation, point);
        let answer = proven(&confirmation, &fixture.post(&confirmation, now()).bytes, &letter.temporary_key);
        assert!(matches!(answer.body(), PkiBody::PkiConf(_)), "{point}");
    }
    let found = fixture.authority().search_certificates("user@example.org", now()).unwrap();
    assert_eq!(found.len(), 1, "one current encryption certificate");
}

/// An attacker with write access to the database and a letter: the CA signs only what was decided.
#[test]
fn certificate_content_is_not_read_from_the_database() {
    let (own, wanted) = ("mallo@example.org", ADMINISTRATOR);
    assert_eq!(own.len(), wanted.len(), "the DER must stay well-formed");
    let exchanged = format!(
        "SET tbs = CAST(replace(tbs, CAST('{own}' AS BLOB), CAST('{wanted}' AS BLOB)) AS BLOB) WHERE kind = 'signing'"
    );
    let mut fixture = AuthorityFixture::new();
    let administrator = fixture.administrator();
    let client = TestClient::new();

    let letter = fixture.letter_for(&administrator, own);
    let request = client.request(&letter, DEFAULT_OPTIONS, now());
    killed(&mut fixture, "cmp", &request, "authority.enroll.after_intent");
    fixture.tamper(&format!("UPDATE certificates {exchanged}"));
    assert_eq!(
        refusal(&request, &fixture.post(&request, now()).bytes, &letter.temporary_key).0,
        PkiFailureInfo::SYSTEM_FAILURE
    );

    let letter = fixture.letter_for(&administrator, own);
    fixture.tamper(&format!(
        "CREATE TRIGGER exchange AFTER INSERT ON certificates BEGIN UPDATE certificates {exchanged}; END"
    ));
    let request = client.request(&letter, DEFAULT_OPTIONS, now());
    let reply = proven(&request, &fixture.post(&request, now()).bytes, &letter.temporary_key);
    assert_eq!(parts(&reply).0.emails(), [own]);
}

#[test]
fn a_sweep_that_was_killed_is_finished_by_the_next() {
    let mut fixture = AuthorityFixture::new();
    let administrator = fixture.administrator();
    let client = TestClient::new();
    for email in ["a@example.org", "b@example.org"] {
        let letter = fixture.letter_for(&administrator, email);
        fixture.post(&client.request(&letter, DEFAULT_OPTIONS, now()), now());
    }
    killed(&mut fixture, "sweep", b"", "authority.sweep.after_end");
    assert_eq!(fixture.authority().sweep(later(60)).unwrap(), 1);
}

#[test]
fn a_statement_killed_at_any_step_is_executed_at_most_once() {
    let mut fixture = AuthorityFixture::new();
    let by = fixture.administrator();
    let client = TestClient::new();
    client.enroll(&fixture, &fixture.letter_for(&by, "user@example.org"), now());
    for (number, point) in points("authority.statement.").enumerate() {
        let recover =
            || AdminOperation::Recover { email: "user@example.org".into(), lost: true, valid_for_seconds: None };
        // The statement is a file, which any run of the authority may answer.
        let statement =
            fixture.statement(StatementChannel::File, &by, recover(), [u8::try_from(number).unwrap(); 16], now());
        let signed = by.sign(&statement, now());
        killed(&mut fixture, "statement", signed.as_der(), point);
        let again = fixture.post_statement_by(StatementChannel::File, signed.as_der(), now()).answer;
        assert!(matches!(again, StatementAnswer::Refused(_)), "{point}");
        by.letter_in(fixture.state(&by, recover(), now()).unwrap());
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

fn finish(fixture: &AuthorityFixture, client: &TestClient, letter: &Letter, request: &[u8], point: &str) {
    let reply = fixture.post(request, now()).bytes;
    assert_eq!(fixture.post(request, now()).bytes, reply, "{point}");
    let certificates = client.install(letter, request, &reply);
    assert_eq!(certificates.len(), 1, "{point}");
    assert!(
        fixture.authority().records.store.archived_key(certificates[0].fingerprint().as_bytes()).unwrap().is_some()
    );
    assert!(matches!(TestClient::confirm(fixture, letter, request, &reply, now()).body(), PkiBody::PkiConf(_)));

    let user = fixture.authority().records.store.user_by_email("user@example.org").unwrap().unwrap();
    let certificates = fixture.authority().records.store.certificates_of_user(&user.id).unwrap();
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
fn a_client_without_confirmation_keeps_its_certificates() {
    let mut fixture = AuthorityFixture::new();
    let (client, letter) = (TestClient::new(), fixture.letter.clone());
    let options = RequestOptions { encryption: false, implicit_confirm: true, level: None };
    let request = client.request(&letter, options, now());
    killed(&mut fixture, "cmp", &request, "authority.enroll.after_reply");
    let reply = fixture.post(&request, now()).bytes;
    let (signing, _) = parts(&proven(&request, &reply, &letter.temporary_key));
    fixture.authority().sweep(later(60)).unwrap();
    let record = fixture.authority().records.certificate(&signing.serial().to_string()).unwrap().unwrap();
    assert_eq!(record.state, CertificateState::Current);
}
