//! Recovery: delivers the whole history, only to its owner.

use super::support::*;
use crate::cmp::PkiFailureInfo;
use crate::pki::Certificate;
use crate::store::{CertificateState, TemporaryKeyState};

const USER: &str = "user@example.org";

fn ders(certificates: &[Certificate]) -> Vec<&[u8]> {
    certificates.iter().map(Certificate::as_der).collect()
}

/// An administrator and a user who enrolled twice.
fn enrolled_twice(office: &Office) -> (Person, Vec<Certificate>) {
    let administrator = office.administrator();
    let mut history = Vec::new();
    for at in [now(), later(1)] {
        history.extend(Person::new().enroll(office, &office.letter_for(&administrator, USER), at));
    }
    (administrator, history)
}

#[test]
fn a_recovery_delivers_every_key_and_makes_a_new_signing_key_only() {
    let office = Office::new();
    let (administrator, history) = enrolled_twice(&office);
    let letter = office.recovery_letter_for(&administrator, USER, false);
    assert_eq!(letter.purpose(), crate::letter::Purpose::Recover);
    let person = Person::new();
    let recovered = person.enroll(&office, &letter, later(2));
    assert_eq!(ders(&recovered), ders(&history), "oldest first");
    assert_eq!(office.authority().search_certificates(USER, later(2)).unwrap(), [history[1].as_der()], "still current");
    assert_eq!(person.certificate().emails(), [USER]);
}

#[test]
fn a_new_issue_delivers_no_history() {
    let office = Office::new();
    let (administrator, history) = enrolled_twice(&office);
    let third = Person::new().enroll(&office, &office.letter_for(&administrator, USER), later(2));
    assert_eq!(third.len(), 1);
    assert!(!ders(&history).contains(&third[0].as_der()));
}

#[test]
fn a_lost_token_is_revoked_at_once_and_a_new_current_key_comes_with_the_history() {
    let office = Office::new();
    let (administrator, history) = enrolled_twice(&office);
    let letter = office.recovery_letter_for(&administrator, USER, true);
    assert!(office.authority().search_certificates(USER, later(2)).unwrap().is_empty(), "nobody encrypts to it now");
    let recovered = Person::new().enroll(&office, &letter, later(2));
    assert_eq!(ders(&recovered[..2]), ders(&history));
    assert_eq!(recovered.len(), 3);
    assert_eq!(office.authority().search_certificates(USER, later(2)).unwrap(), [recovered[2].as_der()]);
    let record = office.authority().store.certificate(&history[1].serial().to_string()).unwrap().unwrap();
    assert_eq!(record.state, CertificateState::Revoked);
    assert_eq!(record.end_reason.as_deref(), Some("keyCompromise"));
}

#[test]
fn a_recovery_ordered_with_a_key_since_revoked_is_refused_before_anything_is_made() {
    let office = Office::new();
    let (administrator, _) = enrolled_twice(&office);
    let letter = office.recovery_letter_for(&administrator, USER, false);
    let question = question(&letter, &[], later(1));
    proven(&question, &office.post(&question, later(1)).bytes, &letter.temporary_key);
    office.recovery_letter_for(&administrator, ADMINISTRATOR, true);
    let krr = Person::new().request(&letter, USUAL, later(2));
    for message in [question, krr] {
        let (reasons, text) = refusal(&message, &office.post(&message, later(2)).bytes, &letter.temporary_key);
        assert!(reasons.contains(PkiFailureInfo::NOT_AUTHORIZED) && text.contains("revoked in the meantime"), "{text}");
    }
    let record = office.authority().store.temporary_key(letter.reference.as_str()).unwrap().unwrap();
    assert_eq!(record.state, TemporaryKeyState::Unused);
}

#[test]
fn what_was_never_confirmed_is_not_in_the_history() {
    let office = Office::new();
    let (administrator, history) = enrolled_twice(&office);
    let letter = office.letter_for(&administrator, USER);
    let person = Person::new();
    office.post(&person.request(&letter, USUAL, later(2)), later(2));
    office.authority().sweep(later(30)).unwrap();
    let letter = office.recovery_letter_for(&administrator, USER, false);
    assert_eq!(ders(&Person::new().enroll(&office, &letter, later(31))), ders(&history));
}

#[test]
fn an_ir_with_a_recovery_letter_and_a_krr_without_transport_key_are_refused() {
    let office = Office::new();
    let (administrator, _) = enrolled_twice(&office);
    let letter = office.recovery_letter_for(&administrator, USER, false);
    let person = Person::new();
    let ir = protect(person.draft_of(&letter, USUAL, now()).ir(), &letter.temporary_key);
    let (reasons, text) = refusal(&ir, &office.post(&ir, now()).bytes, &letter.temporary_key);
    assert!(reasons.contains(PkiFailureInfo::BAD_REQUEST) && text.contains("begins with E"), "{text}");
    let bare = person.request(&letter, Wish { encryption: false, ..USUAL }, now());
    let (reasons, _) = refusal(&bare, &office.post(&bare, now()).bytes, &letter.temporary_key);
    assert!(reasons.contains(PkiFailureInfo::BAD_REQUEST));
    person.enroll(&office, &letter, now());
}

#[test]
fn a_changed_archive_or_approval_is_noticed_and_nothing_is_delivered() {
    let mut office = Office::new();
    let (administrator, _) = enrolled_twice(&office);
    let other = "other@example.org";
    Person::new().enroll(&office, &office.letter_for(&administrator, other), now());
    let letter = office.recovery_letter_for(&administrator, other, false);
    let of = |email: &str| format!("(SELECT id FROM users WHERE email = '{email}')");
    let victims = format!("(SELECT wrapped FROM key_archive WHERE user_id = {} LIMIT 1)", of(USER));
    let blob = format!("UPDATE key_archive SET wrapped = {victims} WHERE user_id = {}", of(other));
    let row = format!(
        "UPDATE key_archive SET user_id = {}; UPDATE certificates SET user_id = {} WHERE kind = 'encryption'",
        of(other),
        of(other)
    );
    let hole = "DELETE FROM key_archive".to_owned();
    let database = office.configuration.database();
    let backup = database.with_extension("backup");
    let approval = "DELETE FROM statements".to_owned();
    let another = "UPDATE statements SET message = (SELECT message FROM statements WHERE operation = 'issue') \
                   WHERE operation = 'recover'";
    for tampering in [blob, row, hole, approval, another.to_owned()] {
        office.close();
        std::fs::copy(&database, &backup).unwrap();
        office.open(now());
        office.tamper_running(&tampering);
        let request = Person::new().request(&letter, USUAL, now());
        let (reasons, text) = refusal(&request, &office.post(&request, now()).bytes, &letter.temporary_key);
        assert!(reasons.contains(PkiFailureInfo::SYSTEM_FAILURE), "{tampering}: {text}");
        assert!(!text.contains("archive"), "details belong only in the log: {text}");
        office.close();
        for extra in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{extra}", database.display()));
        }
        std::fs::rename(&backup, &database).unwrap();
    }
    office.open(now());
    assert_eq!(Person::new().enroll(&office, &letter, now()).len(), 1, "with the right records it works");
}
