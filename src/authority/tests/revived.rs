//! Whoever writes to the database revives nothing: rows are put back in the running and in the stopped authority's, and the
//! log decides. The log itself is changed, cut and stripped of its seals: then nothing starts.

use super::support::*;
use crate::authority::AuthorityError;
use crate::cmp::PkiFailureInfo;
use crate::letter::Letter;
use crate::statement::Operation;
use crate::token::test_support::{PIN, pin};

const USER: &str = "user@example.org";

/// Changes rows of the database of a running authority, or of a stopped one that is started again then.
type Tamper = fn(&mut Office, &str);

const RUNNING: Tamper = |office, sql| office.tamper_running(sql);
const STOPPED: Tamper = Office::tamper;

/// A new enrollment with this letter is refused: why.
fn refused(office: &Office, letter: &Letter) -> String {
    let request = Person::new().request(letter, USUAL, now());
    let (reasons, text) = refusal(&request, &office.post(&request, now()).bytes, &letter.temporary_key);
    assert!(reasons.contains(PkiFailureInfo::NOT_AUTHORIZED), "{text}");
    text
}

#[test]
fn no_row_revives_a_letter() {
    let mut office = Office::new();
    let administrator = office.administrator();
    let voided = office.letter_for(&administrator, USER);
    let used = office.letter_for(&administrator, USER);
    Person::new().enroll(&office, &used, now());
    for tamper in [RUNNING, STOPPED] {
        tamper(&mut office, "UPDATE temporary_keys SET state = 'unused', transaction_id = NULL, message_hash = NULL");
        tamper(&mut office, "UPDATE transactions SET state = 'unconfirmed', reply = NULL");
        for letter in [&voided, &used, &office.letter] {
            assert!(refused(&office, letter).contains("used already"));
        }
        // Not even where the row says that its own transaction goes on.
        tamper(&mut office, "UPDATE temporary_keys SET state = 'claimed'");
        assert!(refused(&office, &used).contains("used already"));
    }
    // A letter that the log has as good is good.
    Person::new().enroll(&office, &office.letter_for(&administrator, USER), now());
}

#[test]
fn no_row_lets_an_ended_enrollment_go_on() {
    let mut office = Office::new();
    let letter = office.letter.clone();
    let person = Person::new();
    let request = person.request(&letter, USUAL, now());
    let reply = office.post(&request, now()).bytes;
    assert_eq!(office.authority().sweep(later(60)).unwrap(), 1, "nobody confirmed");
    for tamper in [RUNNING, STOPPED] {
        let rows = "UPDATE temporary_keys SET state = 'claimed'; UPDATE certificates SET state = 'issued' WHERE user_id \
                    IS NOT NULL; UPDATE transactions SET state = 'answered', confirm_until = 4102444800";
        tamper(&mut office, rows);
        let confirmation = Person::confirmation(&letter, &request, &reply, None, now());
        let (_, text) = refusal(&confirmation, &office.post(&confirmation, now()).bytes, &letter.temporary_key);
        assert!(text.contains("given up"), "{text}");
        assert_eq!(office.authority().sweep(later(60 * 24 * 365 * 100)).unwrap(), 0, "nor is it ended once more");
    }
    // The letter is good again: the log says so, and the row must not say less.
    office.tamper("UPDATE temporary_keys SET state = 'unused'; UPDATE transactions SET state = 'unconfirmed'");
    person.enroll(&office, &letter, now());
}

#[test]
fn no_row_revives_a_certificate() {
    let mut office = Office::new();
    let old = office.administrator();
    let again = office.letter_for(&old, ADMINISTRATOR);
    let new = Person::new();
    new.enroll(&office, &again, now());
    let found = |office: &Office| office.authority().search_certificates(ADMINISTRATOR, now()).unwrap();
    let current = found(&office);
    assert_eq!(current.len(), 1);
    for tamper in [RUNNING, STOPPED] {
        tamper(&mut office, "UPDATE certificates SET state = 'current', ended_at = NULL WHERE state = 'superseded'");
        let reason = office.state(&old, Operation::List, now()).unwrap_err();
        assert!(reason.contains("not current"), "{reason}");
        office.state(&new, Operation::List, now()).unwrap();
        assert_eq!(found(&office), current, "the search, and so the letters that are encrypted");
    }
    // Revoked: the key that ordered a recovery has ended, whatever its row says.
    let letter = office.recovery_letter_for(&new, ADMINISTRATOR, true);
    for tamper in [RUNNING, STOPPED] {
        tamper(&mut office, "UPDATE certificates SET state = 'current', ended_at = NULL WHERE state = 'revoked'");
        assert!(office.state(&new, Operation::List, now()).unwrap_err().contains("not current"));
        assert_eq!(found(&office), Vec::<Vec<u8>>::new());
        assert!(refused(&office, &letter).contains("revoked"));
    }
}

#[test]
fn a_row_of_somebody_elses_shows_nothing_in_the_search() {
    let mut office = Office::new();
    let administrator = office.administrator();
    Person::new().enroll(&office, &office.letter_for(&administrator, USER), now());
    let found = |office: &Office| office.authority().search_certificates(USER, now()).unwrap().len();
    assert_eq!(found(&office), 1);
    office.tamper("UPDATE users SET name = 'Mallory' WHERE email LIKE 'user%'");
    assert_eq!(found(&office), 0, "the user's seal is broken");
}

#[test]
fn a_log_that_was_changed_does_not_start() {
    let mut office = Office::new();
    let administrator = office.administrator();
    office.letter_for(&administrator, USER);
    let database = office.configuration.database();
    let backup = database.with_extension("backup");
    let number = |event: &str| format!("(SELECT min(number) FROM audit WHERE event = '{event}')");
    let taken = number("statement.taken");
    let cases = [
        (format!("UPDATE audit SET detail = '{{}}' WHERE number = {taken}"), "does not fit"),
        (format!("DELETE FROM audit WHERE number = {taken}"), "is missing"),
        ("DELETE FROM audit WHERE number = 1".into(), "is missing"),
        (format!("UPDATE audit SET mac = NULL WHERE number = {taken}"), "has no MAC"),
        ("UPDATE audit SET mac = NULL".into(), "has no MAC"),
        (format!("UPDATE audit SET mac = zeroblob(32) WHERE number = {taken}"), "has a MAC that does not fit"),
        ("UPDATE audit SET mac = (SELECT mac FROM audit WHERE number = 2) WHERE number = 3".into(), "has a MAC that"),
        ("DELETE FROM statements".into(), "is not in the database any more"),
        ("UPDATE statements SET message = CAST(message || x'00' AS BLOB)".into(), "names a"),
        ("DELETE FROM certificates WHERE kind = 'tls'".into(), "is not in the database any more"),
        (
            "UPDATE certificates SET certificate = (SELECT certificate FROM certificates WHERE kind = 'ca') \
             WHERE kind = 'response'"
                .into(),
            "names another certificate",
        ),
    ];
    for (sql, expected) in cases {
        office.close();
        std::fs::copy(&database, &backup).unwrap();
        let error = office.tamper_and_fail(&sql);
        let text = error.to_string();
        assert!(matches!(error, AuthorityError::Log { .. }), "{sql}: {text}");
        assert!(text.contains(expected) && text.contains("restore"), "{sql}: {text}");
        for extra in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{extra}", database.display()));
        }
        std::fs::rename(&backup, &database).unwrap();
    }
    office.open(now());
    office.check_log();
}

#[test]
fn a_log_that_is_changed_while_it_is_written_is_not_gone_on_with() {
    let office = Office::new();
    let administrator = office.administrator();
    office.tamper_running("DELETE FROM audit WHERE number = (SELECT max(number) FROM audit)");
    let reason = office.state(&administrator, Operation::List, now()).unwrap_err();
    assert!(reason.contains("see its log"), "{reason}");
}

#[test]
fn a_log_that_an_older_version_wrote_is_sealed_once() {
    let mut office = Office::new();
    office.administrator();
    office.close();
    let module = softhsm_module();
    let token =
        module.open(&module.tokens().unwrap().into_iter().find(|token| is_of(&office, token)).unwrap()).unwrap();
    token.log_in(&pin(PIN)).unwrap();
    assert!(token.delete_data("tokenkeep-authority-log", "sealed log", true).unwrap());
    drop(token);
    office.tamper("UPDATE audit SET mac = NULL");
    office.check_log();
    assert!(matches!(office.tamper_and_fail("UPDATE audit SET mac = NULL"), AuthorityError::Log { number: 1, .. }));
}

fn softhsm_module() -> crate::token::Module {
    crate::token::test_support::softhsm()
}

fn is_of(office: &Office, token: &crate::token::TokenInfo) -> bool {
    token.label == office.configuration.token.label
}
