//! Write access to the database revives nothing: rows are restored in a running and a stopped
//! authority, and the log decides. The log itself is altered, truncated and stripped of its seals:
//! then the authority does not start.

use super::support::*;
use crate::authority::AuthorityError;
use crate::authority::log_verifier::OlderEntries;
use crate::cmp::PkiFailureInfo;
use crate::letter::Letter;
use crate::statement::{AdminOperation, LogPosition, LogVerdict, StatementAnswer, StatementChannel};
use crate::token::test_support::{PIN, pin};

const USER: &str = "user@example.org";

/// Changes rows in the database of a running authority, or of a stopped one that is then started
/// again.
type Tamper = fn(&mut AuthorityFixture, &str);

const RUNNING: Tamper = |fixture, sql| fixture.tamper_running(sql);
const STOPPED: Tamper = AuthorityFixture::tamper;

/// Sends a new enrollment with this letter and returns the reason of its refusal.
fn refused(fixture: &AuthorityFixture, letter: &Letter) -> String {
    let request = TestClient::new().request(letter, DEFAULT_OPTIONS, now());
    let (reasons, text) = refusal(&request, &fixture.post(&request, now()).bytes, &letter.temporary_key);
    assert!(reasons.contains(PkiFailureInfo::NOT_AUTHORIZED), "{text}");
    text
}

#[test]
fn no_row_revives_a_letter() {
    let mut fixture = AuthorityFixture::new();
    let administrator = fixture.administrator();
    let voided = fixture.letter_for(&administrator, USER);
    let used = fixture.letter_for(&administrator, USER);
    TestClient::new().enroll(&fixture, &used, now());
    for tamper in [RUNNING, STOPPED] {
        tamper(&mut fixture, "UPDATE temporary_keys SET state = 'unused', transaction_id = NULL, message_hash = NULL");
        tamper(&mut fixture, "UPDATE transactions SET state = 'unconfirmed', reply = NULL");
        let why = ["replaced by a newer one", "already used", "already used"];
        for (letter, why) in [&voided, &used, &fixture.letter].into_iter().zip(why) {
            let text = refused(&fixture, letter);
            assert!(text.contains(why), "{text}");
        }
        // Not even if the row says that its own transaction is open.
        tamper(&mut fixture, "UPDATE temporary_keys SET state = 'claimed'");
        assert!(refused(&fixture, &used).contains("already used"));
    }
    // A letter that is unused according to the log is valid.
    TestClient::new().enroll(&fixture, &fixture.letter_for(&administrator, USER), now());
}

#[test]
fn no_row_lets_an_ended_enrollment_go_on() {
    let mut fixture = AuthorityFixture::new();
    let letter = fixture.letter.clone();
    let client = TestClient::new();
    let request = client.request(&letter, DEFAULT_OPTIONS, now());
    let reply = fixture.post(&request, now()).bytes;
    assert_eq!(fixture.authority().sweep(later(60)).unwrap(), 1, "nobody confirmed");
    for tamper in [RUNNING, STOPPED] {
        let rows = "UPDATE temporary_keys SET state = 'claimed'; UPDATE certificates SET state = 'issued' WHERE \
                    user_id IS NOT NULL; UPDATE transactions SET state = 'answered', confirm_until = 4102444800";
        tamper(&mut fixture, rows);
        let confirmation = TestClient::confirmation(&letter, &request, &reply, None, now());
        let (_, text) = refusal(&confirmation, &fixture.post(&confirmation, now()).bytes, &letter.temporary_key);
        assert!(text.contains("was discarded"), "{text}");
        assert_eq!(fixture.authority().sweep(later(60 * 24 * 365 * 100)).unwrap(), 0, "it does not end twice");
    }
    // The letter is valid again according to the log, whatever its row says.
    fixture.tamper("UPDATE temporary_keys SET state = 'unused'; UPDATE transactions SET state = 'unconfirmed'");
    client.enroll(&fixture, &letter, now());
}

#[test]
fn no_row_revives_a_certificate() {
    let mut fixture = AuthorityFixture::new();
    let old = fixture.administrator();
    let again = fixture.letter_for(&old, ADMINISTRATOR);
    let new = TestClient::new();
    new.enroll(&fixture, &again, now());
    let found = |fixture: &AuthorityFixture| fixture.authority().search_certificates(ADMINISTRATOR, now()).unwrap();
    let current = found(&fixture);
    assert_eq!(current.len(), 1);
    for tamper in [RUNNING, STOPPED] {
        tamper(&mut fixture, "UPDATE certificates SET state = 'current', ended_at = NULL WHERE state = 'superseded'");
        let reason = fixture.state(&old, AdminOperation::List { after: None, limit: None }, now()).unwrap_err();
        assert!(reason.contains("not current"), "{reason}");
        fixture.state(&new, AdminOperation::List { after: None, limit: None }, now()).unwrap();
        assert_eq!(found(&fixture), current, "the search, and so the encryption of letters");
    }
    // A revoked key that ordered a recovery has ended, whatever its row says.
    let letter = fixture.recovery_letter_for(&new, ADMINISTRATOR, true);
    for tamper in [RUNNING, STOPPED] {
        tamper(&mut fixture, "UPDATE certificates SET state = 'current', ended_at = NULL WHERE state = 'revoked'");
        assert!(
            fixture
                .state(&new, AdminOperation::List { after: None, limit: None }, now())
                .unwrap_err()
                .contains("not current")
        );
        assert_eq!(found(&fixture), Vec::<Vec<u8>>::new());
        assert!(refused(&fixture, &letter).contains("revoked"));
    }
    fixture.tamper_running("UPDATE certificates SET state = 'superseded' WHERE kind = 'signing'");
    let rows = |fixture: &AuthorityFixture| fixture.authority().records.store.certificates_after(0, 100).unwrap();
    // The changes accumulate.
    for change in ["user_id = NULL", "serial = '00' || serial", "kind = 'encryption'"] {
        let before = rows(&fixture);
        fixture.tamper_running(&format!("UPDATE certificates SET {change} WHERE kind = 'signing'"));
        assert_ne!(rows(&fixture), before, "{change}");
        assert!(refused(&fixture, &letter).contains("revoked"), "{change}");
    }
}

#[test]
fn a_user_with_a_broken_seal_is_not_found_by_the_search() {
    let mut fixture = AuthorityFixture::new();
    let administrator = fixture.administrator();
    TestClient::new().enroll(&fixture, &fixture.letter_for(&administrator, USER), now());
    let found = |fixture: &AuthorityFixture| fixture.authority().search_certificates(USER, now()).unwrap().len();
    assert_eq!(found(&fixture), 1);
    fixture.tamper("UPDATE users SET name = 'Mallory' WHERE email LIKE 'user%'");
    assert_eq!(found(&fixture), 0, "the user's seal is broken");
}

#[test]
fn a_log_that_was_changed_does_not_start() {
    let mut fixture = AuthorityFixture::new();
    let administrator = fixture.administrator();
    fixture.letter_for(&administrator, USER);
    let database = fixture.configuration.database();
    let backup = database.with_extension("backup");
    let number = |event: &str| format!("(SELECT min(number) FROM audit WHERE event = '{event}')");
    let taken = number("statement.taken");
    let cases = [
        (format!("UPDATE audit SET detail = '{{}}' WHERE number = {taken}"), "does not follow"),
        (format!("DELETE FROM audit WHERE number = {taken}"), "is missing"),
        ("DELETE FROM audit WHERE number = 1".into(), "is missing"),
        (format!("UPDATE audit SET mac = NULL WHERE number = {taken}"), "has no MAC"),
        ("UPDATE audit SET mac = NULL".into(), "has no MAC"),
        (format!("UPDATE audit SET mac = zeroblob(32) WHERE number = {taken}"), "has an invalid MAC"),
        (
            "UPDATE audit SET mac = (SELECT mac FROM audit WHERE number = 2) WHERE number = 3".into(),
            "has an invalid MAC",
        ),
        ("DELETE FROM statements".into(), "is no longer in the database"),
        ("UPDATE statements SET message = CAST(message || x'00' AS BLOB)".into(), "names a"),
        ("DELETE FROM certificates WHERE kind = 'tls'".into(), "is no longer in the database"),
        (
            "UPDATE certificates SET certificate = (SELECT certificate FROM certificates WHERE kind = 'ca') \
             WHERE kind = 'response'"
                .into(),
            "names a different certificate",
        ),
    ];
    for (sql, expected) in cases {
        fixture.close();
        std::fs::copy(&database, &backup).unwrap();
        let error = fixture.tamper_and_fail(&sql);
        let text = error.to_string();
        assert!(matches!(error, AuthorityError::Log { .. }), "{sql}: {text}");
        assert!(text.contains(expected) && text.contains("restore"), "{sql}: {text}");
        for extra in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{extra}", database.display()));
        }
        std::fs::rename(&backup, &database).unwrap();
    }
    fixture.open(now());
    fixture.check_log();
}

#[test]
fn a_log_changed_behind_the_running_authority_stops_writes() {
    let fixture = AuthorityFixture::new();
    let administrator = fixture.administrator();
    let user = TestClient::new();
    user.enroll(&fixture, &fixture.letter_for(&administrator, USER), now());
    let newest = "number = (SELECT max(number) FROM audit)";
    let change = |sql: &str| fixture.tamper_running(&sql.replace("NEWEST", newest));
    change("CREATE TABLE kept AS SELECT * FROM audit");
    let written = fixture.authority().records.store.log_end().unwrap().head;
    for tamper in [
        "DELETE FROM audit WHERE NEWEST",
        "UPDATE audit SET number = 999999, hash = zeroblob(32) WHERE NEWEST",
        "UPDATE audit SET hash = zeroblob(32) WHERE NEWEST",
        "UPDATE audit SET hash = x'00' WHERE NEWEST",
        "UPDATE audit SET number = 'seven' WHERE NEWEST",
        "INSERT INTO audit SELECT number + 1, at, event, detail, hash, zeroblob(32), mac FROM audit WHERE NEWEST",
        "DELETE FROM audit",
    ] {
        change(tamper);
        // A signer who is refused unverified, one who knows no log position, and one who does.
        for (by, known, reason) in [
            (&user, None, "not an administrator"),
            (&administrator, None, "see its log"),
            (&administrator, Some(LogPosition { sequence: written.number, head: written.hash }), "nothing was done"),
        ] {
            let mut nonce = [0; 16];
            getrandom::fill(&mut nonce).unwrap();
            let statement = fixture
                .statement(
                    StatementChannel::Online,
                    by,
                    AdminOperation::List { after: None, limit: None },
                    nonce,
                    now(),
                )
                .with_known_log(known);
            let response = fixture.post_statement(by.sign(&statement, now()).as_der(), now());
            assert!(
                matches!(&response.answer, StatementAnswer::Refused(why) if why.contains(reason)),
                "{tamper}: {response:?}"
            );
            assert_eq!(response.known_log, known.map(|_| LogVerdict::Contradicted), "{tamper}");
            let signed = (response.checkpoint.sequence, response.checkpoint.head);
            assert_eq!(signed, (written.number, written.hash), "a row was signed: {tamper}");
        }
        // A check while it serves reports the log.
        let report = fixture.authority().check().unwrap();
        assert!(report.findings.iter().any(|finding| finding.concern == "log"), "{tamper}: {report:?}");
        change("DELETE FROM audit; INSERT INTO audit SELECT * FROM kept");
    }
    // The restored log is the one that was written.
    fixture.state(&administrator, AdminOperation::List { after: None, limit: None }, now()).unwrap();
}

#[test]
fn older_entries_are_checked_against_the_log_at_startup() {
    let fixture = AuthorityFixture::new();
    fixture.administrator();
    let log = fixture.authority().log_verifier();
    let head = fixture.authority().records.store.audit_head().unwrap();
    let check = || log.check_older(&OlderEntries::up_to(head));
    check().unwrap();
    fixture.tamper_running("CREATE TABLE kept AS SELECT * FROM audit");
    for (sql, entry) in [
        ("DELETE FROM audit", 1),
        ("DELETE FROM audit WHERE number = 3", 3),
        ("UPDATE audit SET detail = '{}' WHERE number = 3", 3),
        ("UPDATE audit SET mac = x'00' WHERE number = 3", 3),
        ("DELETE FROM audit WHERE number = (SELECT max(number) FROM audit)", head.number),
    ] {
        fixture.tamper_running(sql);
        let found = check();
        assert!(matches!(found, Err(AuthorityError::Log { number, .. }) if number == entry), "{sql}: {found:?}");
        fixture.tamper_running("DELETE FROM audit; INSERT INTO audit SELECT * FROM kept");
    }
    check().unwrap();
}

#[test]
fn a_log_that_was_sealed_does_not_pass_for_an_older_versions() {
    let mut fixture = AuthorityFixture::new();
    fixture.administrator();
    fixture.close();
    let module = softhsm_module();
    let token = module
        .open_for_authority(&module.tokens().unwrap().into_iter().find(|token| is_of(&fixture, token)).unwrap())
        .unwrap();
    token.log_in(&pin(PIN)).unwrap();
    assert!(token.delete_data("tokenkeep-authority-log", "sealed log", true).unwrap());
    drop(token);
    let database = fixture.configuration.database();
    let backup = database.with_extension("backup");
    std::fs::copy(&database, &backup).unwrap();
    let sealed = "(SELECT number FROM audit WHERE event = 'log.sealed')";
    for sql in [
        "UPDATE audit SET mac = NULL".to_owned(),
        "UPDATE audit SET mac = NULL WHERE number = (SELECT max(number) FROM audit)".to_owned(),
        format!("UPDATE audit SET mac = NULL WHERE number = {sealed}"),
        format!("UPDATE audit SET mac = NULL WHERE number < {sealed}"),
        format!("DELETE FROM audit WHERE number >= {sealed}; UPDATE audit SET mac = NULL"),
        format!("DELETE FROM audit WHERE number >= {sealed}; UPDATE audit SET mac = NULL WHERE number = 1"),
    ] {
        let error = fixture.tamper_and_fail(&sql).to_string();
        assert!(error.contains("has no MAC, although this log was sealed"), "{sql}: {error}");
        for extra in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{extra}", database.display()));
        }
        std::fs::copy(&backup, &database).unwrap();
    }
    // Only the mark is written again.
    fixture.open(now());
    fixture.check_log();
    assert!(matches!(fixture.tamper_and_fail("UPDATE audit SET mac = NULL"), AuthorityError::Log { number: 1, .. }));
}

fn softhsm_module() -> crate::token::TokenSource {
    crate::token::test_support::softhsm()
}

fn is_of(fixture: &AuthorityFixture, token: &crate::token::TokenInfo) -> bool {
    token.label == fixture.configuration.token.label
}
