//! Rows that say less than the log, or other than it, or are gone: what is delivered, shown and found then.

use super::support::*;
use crate::authority::AuthorityError;
use crate::statement::{Answer, Operation, UserDetails};
use crate::token::SecurityLevel;

const USER: &str = "user@example.org";

fn shown(office: &Office, by: &Person, email: &str) -> UserDetails {
    let show = Operation::Show { email: email.into() };
    let Answer::User(user) = office.state(by, show, now()).unwrap() else { panic!() };
    *user
}

#[test]
fn a_history_with_a_hole_is_not_delivered() {
    let office = Office::new();
    let administrator = office.administrator();
    let mut expected = Vec::new();
    for at in [now(), later(1)] {
        let history = Person::new().enroll(&office, &office.letter_for(&administrator, USER), at);
        expected.extend(history.iter().map(|certificate| certificate.serial().to_string()));
    }
    let user = office.authority().store.user_by_email(USER).unwrap().unwrap();
    let history = || {
        let records = office.authority().history_certificates(&user)?;
        Ok::<_, AuthorityError>(records.into_iter().map(|record| record.intent.serial).collect::<Vec<_>>())
    };
    assert_eq!(history().unwrap(), expected);
    // No column decides what belongs to it.
    office.tamper_running("UPDATE certificates SET confirmed_at = NULL, intended_at = 0, state = 'abandoned'");
    assert_eq!(history().unwrap(), expected, "in the log's order");
    let recover = || Operation::Recover { email: USER.into(), lost: false, valid_for_seconds: None };
    office.tamper_running("CREATE TABLE kept AS SELECT * FROM certificates");
    let first = format!("serial = '{}'", expected[0]);
    for change in [
        format!("DELETE FROM certificates WHERE {first}"),
        format!("UPDATE certificates SET kind = 'signing' WHERE {first}"),
        format!("UPDATE certificates SET user_id = NULL WHERE {first}"),
        format!("UPDATE certificates SET serial = '00' WHERE {first}"),
        format!("UPDATE certificates SET certificate = NULL WHERE {first}"),
        format!("UPDATE certificates SET certificate = (SELECT certificate FROM kept WHERE NOT {first}) WHERE {first}"),
    ] {
        office.tamper_running(&change);
        let error = history().unwrap_err();
        let is_noticed =
            matches!(error, AuthorityError::History { logged: 2, found: 1, .. } | AuthorityError::Tampered(_));
        assert!(is_noticed, "{change}: {error}");
        office.state(&administrator, recover(), now()).unwrap_err();
        office.tamper_running("DELETE FROM certificates; INSERT INTO certificates SELECT * FROM kept");
    }
    office.state(&administrator, recover(), now()).unwrap();
}

#[test]
fn what_is_shown_is_what_the_log_says() {
    let office = Office::new();
    let administrator = office.administrator();
    Person::new().enroll(&office, &office.letter_for(&administrator, USER), now());
    office.letter_for(&administrator, USER);
    let before = shown(&office, &administrator, USER);
    assert_eq!(before.certificates.len(), 2);
    for certificate in &before.certificates {
        assert_eq!((certificate.state.as_str(), certificate.level), ("current", Some(SecurityLevel::High)));
    }
    let states: Vec<&str> = before.letters.iter().map(|letter| letter.state.as_str()).collect();
    assert_eq!(states, ["unused", "used"]);
    let list = || office.state(&administrator, Operation::List, now()).unwrap();
    let listed = list();
    for state in ["superseded", "revoked", "abandoned", "issued"] {
        office.tamper_running(&format!(
            "UPDATE certificates SET state = '{state}', level = 'low', keyset_name = 'forged'"
        ));
        for letter in ["voided", "used", "claimed"] {
            office.tamper_running(&format!("UPDATE temporary_keys SET state = '{letter}'"));
        }
        assert_eq!(shown(&office, &administrator, USER), before, "{state}");
        assert_eq!(list(), listed, "{state}");
        assert_eq!(office.authority().search_certificates(USER, now()).unwrap().len(), 1, "{state}");
    }
    // What is gone is not called "never there".
    office.tamper_running("DELETE FROM grants; DELETE FROM certificates WHERE kind = 'signing' AND level = 'low'");
    let Answer::Users(users) = listed else { panic!() };
    assert!(users.iter().all(|user| user.enrolled) && users.iter().any(|user| user.administrator));
    let user = office.authority().store.user_by_email(USER).unwrap().unwrap();
    assert!(office.authority().ended.has_current(&user.id, crate::store::CertificateKind::Signing));
}

#[test]
fn no_row_makes_a_line_of_its_own() {
    let office = Office::new();
    office.tamper_running("UPDATE users SET email = 'x' || char(10) || 'Everything holds.' || char(27) || '[2J'");
    let record = office.authority().store.users().unwrap().remove(0);
    let error = office.authority().sealer.check_user(record).unwrap_err().to_string();
    assert!(error.contains("Everything holds.") && !error.chars().any(char::is_control), "{error:?}");
}
