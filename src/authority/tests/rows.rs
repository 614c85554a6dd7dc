//! Rows that are missing, or that say less than the log or contradict it: their effect on delivery,
//! lists and checks.

use super::support::*;
use crate::authority::{Authority, AuthorityError, DatabaseFinding};
use crate::statement::{AdminOperation, StatementAnswer, UserDetails};
use crate::token::SecurityLevel;
use crate::token::test_support::{PIN, pin};

const USER: &str = "user@example.org";
const OTHER: &str = "other@example.org";

fn shown(fixture: &AuthorityFixture, by: &TestClient, email: &str) -> UserDetails {
    let show = AdminOperation::Show { email: email.into() };
    let StatementAnswer::User(user) = fixture.state(by, show, now()).unwrap() else { panic!() };
    *user
}

#[test]
fn an_incomplete_history_is_not_delivered() {
    let fixture = AuthorityFixture::new();
    let administrator = fixture.administrator();
    let mut expected = Vec::new();
    for at in [now(), later(1)] {
        let history = TestClient::new().enroll(&fixture, &fixture.letter_for(&administrator, USER), at);
        expected.extend(history.iter().map(|certificate| certificate.serial().to_string()));
    }
    let user = fixture.authority().records.store.user_by_email(USER).unwrap().unwrap();
    let history = || {
        let records = fixture.authority().records.history_certificates(&user)?;
        Ok::<_, AuthorityError>(records.into_iter().map(|record| record.intent.serial).collect::<Vec<_>>())
    };
    assert_eq!(history().unwrap(), expected);
    // No column decides what belongs to the history.
    fixture.tamper_running("UPDATE certificates SET confirmed_at = NULL, intended_at = 0, state = 'abandoned'");
    assert_eq!(history().unwrap(), expected, "in the log's order");
    let recover = || AdminOperation::Recover { email: USER.into(), lost: false, valid_for_seconds: None };
    fixture.tamper_running("CREATE TABLE kept AS SELECT * FROM certificates");
    let first = format!("serial = '{}'", expected[0]);
    for change in [
        format!("DELETE FROM certificates WHERE {first}"),
        format!("UPDATE certificates SET kind = 'signing' WHERE {first}"),
        format!("UPDATE certificates SET user_id = NULL WHERE {first}"),
        format!("UPDATE certificates SET serial = '00' WHERE {first}"),
        format!("UPDATE certificates SET certificate = NULL WHERE {first}"),
        format!("UPDATE certificates SET certificate = (SELECT certificate FROM kept WHERE NOT {first}) WHERE {first}"),
    ] {
        fixture.tamper_running(&change);
        let error = history().unwrap_err();
        let is_noticed =
            matches!(error, AuthorityError::History { logged: 2, found: 1, .. } | AuthorityError::Tampered(_));
        assert!(is_noticed, "{change}: {error}");
        fixture.state(&administrator, recover(), now()).unwrap_err();
        fixture.tamper_running("DELETE FROM certificates; INSERT INTO certificates SELECT * FROM kept");
    }
    fixture.state(&administrator, recover(), now()).unwrap();
}

#[test]
fn listings_follow_the_log_and_not_the_rows() {
    let fixture = AuthorityFixture::new();
    let administrator = fixture.administrator();
    TestClient::new().enroll(&fixture, &fixture.letter_for(&administrator, USER), now());
    fixture.letter_for(&administrator, USER);
    let before = shown(&fixture, &administrator, USER);
    assert_eq!(before.certificates.len(), 2);
    for certificate in &before.certificates {
        assert_eq!((certificate.state.as_str(), certificate.level), ("current", Some(SecurityLevel::High)));
    }
    let states: Vec<&str> = before.letters.iter().map(|letter| letter.state.as_str()).collect();
    assert_eq!(states, ["unused", "used"]);
    let list = || fixture.state(&administrator, AdminOperation::List { after: None, limit: None }, now()).unwrap();
    let listed = list();
    for state in ["superseded", "revoked", "abandoned", "issued"] {
        fixture.tamper_running(&format!(
            "UPDATE certificates SET state = '{state}', level = 'low', keyset_name = 'forged'"
        ));
        for letter in ["voided", "used", "claimed"] {
            fixture.tamper_running(&format!("UPDATE temporary_keys SET state = '{letter}'"));
        }
        assert_eq!(shown(&fixture, &administrator, USER), before, "{state}");
        assert_eq!(list(), listed, "{state}");
        assert_eq!(fixture.authority().search_certificates(USER, now()).unwrap().len(), 1, "{state}");
    }
    // A user whose certificate row was deleted is still shown as enrolled.
    fixture.tamper_running(&format!(
        "DELETE FROM certificates WHERE kind = 'signing' AND user_id = (SELECT id FROM users WHERE email = '{USER}')"
    ));
    let StatementAnswer::Users(users) = list() else { panic!() };
    let user = users.iter().find(|user| user.email == USER).unwrap();
    assert!(user.enrolled && user.certificate_expires.is_none(), "{user:?}");
    // A role without its row is not effective, but it is shown.
    let second = fixture.authority().add_administrator(OTHER, Some("Other Administrator"), now()).unwrap();
    fixture
        .tamper_running(&format!("DELETE FROM grants WHERE user_id = (SELECT id FROM users WHERE email = '{OTHER}')"));
    let StatementAnswer::Users(users) =
        fixture.state(&administrator, AdminOperation::List { after: None, limit: None }, second.counts_from).unwrap()
    else {
        panic!()
    };
    assert!(users.iter().any(|user| user.email == OTHER && user.administrator), "{users:?}");
}

#[test]
fn a_check_finds_missing_and_reduced_rows() {
    let fixture = AuthorityFixture::new();
    let administrator = fixture.administrator();
    TestClient::new().enroll(&fixture, &fixture.letter_for(&administrator, USER), now());
    for _ in 0..2 {
        fixture.letter_for(&administrator, USER);
    }
    let check = || fixture.authority().check().unwrap();
    let clean = check();
    assert!(clean.findings.is_empty() && clean.log_end_known, "{clean:?}");
    for (sql, expected) in [
        (
            "UPDATE temporary_keys SET state = 'voided' WHERE state = 'unused'",
            "the state voided of its row contradicts the log",
        ),
        (
            "UPDATE certificates SET state = 'superseded' WHERE kind = 'signing'",
            "the state superseded of its row contradicts",
        ),
        (
            "UPDATE certificates SET state = 'revoked' WHERE kind = 'encryption'",
            "the state revoked of its row contradicts",
        ),
        (
            "UPDATE certificates SET state = 'superseded' WHERE kind = 'tls'",
            "the state superseded of its row contradicts",
        ),
        ("UPDATE certificates SET level = 'low'", "whose row differs"),
        ("UPDATE transactions SET state = 'begun'", "the state begun of its row contradicts the log"),
        ("UPDATE transactions SET user_id = 'another'", "its user is not the user of its letter"),
        ("DELETE FROM transactions", "names the transaction"),
        ("DELETE FROM key_archive", "names the archived key of the certificate"),
        ("DELETE FROM grants", "administrator of admin@example.org: recorded in the log, but the row is missing"),
        ("DELETE FROM temporary_keys WHERE state = 'voided'", "names the letter"),
        (
            "INSERT INTO statements SELECT zeroblob(32), zeroblob(16), administrator, operation, received_at, \
             not_after, message FROM statements LIMIT 1",
            ": not in the log",
        ),
        (
            "INSERT INTO audit SELECT -1, at, event, detail, previous_hash, hash, mac FROM audit WHERE number = 1",
            "1 rows have a number that no entry can have",
        ),
        ("CREATE TRIGGER t AFTER UPDATE ON users BEGIN SELECT 1; END", "this program's schema has no trigger t"),
        ("CREATE VIEW v AS SELECT 1", "this program's schema has no view v"),
        ("DROP INDEX certificates_user", "the index certificates_user is missing"),
        ("ALTER TABLE users ADD COLUMN more TEXT", "the table users differs from this program's schema"),
        ("INSERT INTO users SELECT 'u', 'x', 'x', 'x', 0, mac, '' FROM users LIMIT 1", "x: not in the log"),
        ("DELETE FROM users WHERE email LIKE 'user%'", "names the user user@example.org, who is missing"),
        ("UPDATE users SET email_key = CAST(email_key AS BLOB)", "users: the value of email_key has a different type"),
        ("UPDATE users SET created_at = 1 << 62 WHERE id = 'u'", ": unreadable: "),
        (
            "UPDATE temporary_keys SET reference = CAST(reference AS BLOB)",
            "temporary_keys: the value of reference has a different type",
        ),
        (
            "UPDATE certificates SET serial = CAST(serial AS BLOB)",
            "certificates: the value of serial has a different type",
        ),
        (
            "UPDATE audit SET detail = '{}' WHERE number = 5",
            "entry 5 is missing, or does not follow the previous entry",
        ),
    ] {
        let count = |report: &crate::authority::DatabaseCheckReport| {
            report.findings.iter().filter(|finding| finding.what.contains(expected)).count()
        };
        let before = count(&check());
        fixture.tamper_running(sql);
        let report = check();
        assert!(count(&report) > before, "{sql}: {report:#?}");
    }
}

#[test]
fn no_row_adds_a_line_to_an_error() {
    let fixture = AuthorityFixture::new();
    fixture.tamper_running("UPDATE users SET email = 'x' || char(10) || 'No problem was found.' || char(27) || '[2J'");
    let record = fixture.authority().records.store.users().unwrap().remove(0);
    let error = fixture.authority().records.sealer.check_user(record).unwrap_err().to_string();
    assert!(error.contains("No problem was found.") && !error.chars().any(char::is_control), "{error:?}");
}

#[test]
fn a_check_lists_a_missing_table_and_checks_all_others() {
    let mut fixture = AuthorityFixture::new();
    let administrator = fixture.administrator();
    fixture.letter_for(&administrator, USER);
    fixture.close();
    fixture.tamper_running("DROP TABLE key_archive; UPDATE audit SET mac = zeroblob(32) WHERE number = 2");
    fixture.tamper_running("UPDATE users SET name = 'Changed' WHERE email = 'user@example.org'");
    fixture.tamper_running("UPDATE temporary_keys SET key_id = 'text' WHERE rowid = 1");
    let report = Authority::check_stopped(&fixture.configuration, &pin(PIN)).unwrap();
    for (concern, expected) in [
        ("database", "the table key_archive is missing"),
        ("database", "the value of key_id has a different type than the column"),
        ("log", "entry 2 has an invalid MAC"),
        ("log", "check of the rows that it names incomplete"),
        ("archived-key", "check incomplete"),
        ("user", USER),
    ] {
        let is_listed = |finding: &DatabaseFinding| finding.concern == concern && finding.what.contains(expected);
        assert!(report.findings.iter().any(is_listed), "{concern}: {expected}: {report:#?}");
    }
    assert!(report.log_entries > 4 && report.users == 2 && report.certificates == 2, "{report:#?}");
}
