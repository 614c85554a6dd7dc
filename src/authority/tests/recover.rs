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
fn enrolled_twice(fixture: &AuthorityFixture) -> (TestClient, Vec<Certificate>) {
    let administrator = fixture.administrator();
    let mut history = Vec::new();
    for at in [now(), later(1)] {
        history.extend(TestClient::new().enroll(fixture, &fixture.letter_for(&administrator, USER), at));
    }
    (administrator, history)
}

#[test]
fn a_recovery_delivers_every_key_and_only_a_new_signing_key() {
    let fixture = AuthorityFixture::new();
    let (administrator, history) = enrolled_twice(&fixture);
    let letter = fixture.recovery_letter_for(&administrator, USER, false);
    assert_eq!(letter.purpose(), crate::letter::LetterPurpose::Recover);
    let client = TestClient::new();
    let recovered = client.enroll(&fixture, &letter, later(2));
    assert_eq!(ders(&recovered), ders(&history), "oldest first");
    assert_eq!(
        fixture.authority().search_certificates(USER, later(2)).unwrap(),
        [history[1].as_der()],
        "still current"
    );
    assert_eq!(client.certificate().emails(), [USER]);
}

#[test]
fn a_new_issue_delivers_no_history() {
    let fixture = AuthorityFixture::new();
    let (administrator, history) = enrolled_twice(&fixture);
    let third = TestClient::new().enroll(&fixture, &fixture.letter_for(&administrator, USER), later(2));
    assert_eq!(third.len(), 1);
    assert!(!ders(&history).contains(&third[0].as_der()));
}

#[test]
fn a_lost_token_is_revoked_and_recovery_adds_a_new_key() {
    let fixture = AuthorityFixture::new();
    let (administrator, history) = enrolled_twice(&fixture);
    let letter = fixture.recovery_letter_for(&administrator, USER, true);
    assert!(fixture.authority().search_certificates(USER, later(2)).unwrap().is_empty(), "nobody encrypts to it now");
    let recovered = TestClient::new().enroll(&fixture, &letter, later(2));
    assert_eq!(ders(&recovered[..2]), ders(&history));
    assert_eq!(recovered.len(), 3);
    assert_eq!(fixture.authority().search_certificates(USER, later(2)).unwrap(), [recovered[2].as_der()]);
    let record = fixture.authority().records.store.certificate(&history[1].serial().to_string()).unwrap().unwrap();
    assert_eq!(record.state, CertificateState::Revoked);
    assert_eq!(record.end_reason.as_deref(), Some("keyCompromise"));
}

#[test]
fn a_recovery_ordered_with_a_revoked_key_makes_nothing() {
    let fixture = AuthorityFixture::new();
    let (administrator, _) = enrolled_twice(&fixture);
    let letter = fixture.recovery_letter_for(&administrator, USER, false);
    let question = question(&letter, &[], later(1));
    proven(&question, &fixture.post(&question, later(1)).bytes, &letter.temporary_key);
    fixture.recovery_letter_for(&administrator, ADMINISTRATOR, true);
    let krr = TestClient::new().request(&letter, DEFAULT_OPTIONS, later(2));
    for message in [question, krr] {
        let (reasons, text) = refusal(&message, &fixture.post(&message, later(2)).bytes, &letter.temporary_key);
        assert!(reasons.contains(PkiFailureInfo::NOT_AUTHORIZED) && text.contains("revoked in the meantime"), "{text}");
    }
    let record = fixture.authority().records.store.temporary_key(letter.reference.as_str()).unwrap().unwrap();
    assert_eq!(record.state, TemporaryKeyState::Unused);
}

#[test]
fn unconfirmed_certificates_are_not_in_the_history() {
    let fixture = AuthorityFixture::new();
    let (administrator, history) = enrolled_twice(&fixture);
    let letter = fixture.letter_for(&administrator, USER);
    let client = TestClient::new();
    fixture.post(&client.request(&letter, DEFAULT_OPTIONS, later(2)), later(2));
    fixture.authority().sweep(later(30)).unwrap();
    let letter = fixture.recovery_letter_for(&administrator, USER, false);
    assert_eq!(ders(&TestClient::new().enroll(&fixture, &letter, later(31))), ders(&history));
}

#[test]
fn ir_with_a_recovery_letter_and_krr_without_key_are_refused() {
    let fixture = AuthorityFixture::new();
    let (administrator, _) = enrolled_twice(&fixture);
    let letter = fixture.recovery_letter_for(&administrator, USER, false);
    let client = TestClient::new();
    let ir = protect(client.draft_of(&letter, DEFAULT_OPTIONS, now()).ir(), &letter.temporary_key);
    let (reasons, text) = refusal(&ir, &fixture.post(&ir, now()).bytes, &letter.temporary_key);
    assert!(reasons.contains(PkiFailureInfo::BAD_REQUEST) && text.contains("begins with E"), "{text}");
    let bare = client.request(&letter, RequestOptions { encryption: false, ..DEFAULT_OPTIONS }, now());
    let (reasons, _) = refusal(&bare, &fixture.post(&bare, now()).bytes, &letter.temporary_key);
    assert!(reasons.contains(PkiFailureInfo::BAD_REQUEST));
    client.enroll(&fixture, &letter, now());
}

#[test]
fn a_changed_archive_record_or_approval_stops_delivery() {
    let mut fixture = AuthorityFixture::new();
    let (administrator, _) = enrolled_twice(&fixture);
    let other = "other@example.org";
    TestClient::new().enroll(&fixture, &fixture.letter_for(&administrator, other), now());
    let letter = fixture.recovery_letter_for(&administrator, other, false);
    let of = |email: &str| format!("(SELECT id FROM users WHERE email = '{email}')");
    let victims = format!("(SELECT wrapped FROM key_archive WHERE user_id = {} LIMIT 1)", of(USER));
    let blob = format!("UPDATE key_archive SET wrapped = {victims} WHERE user_id = {}", of(other));
    let row = format!(
        "UPDATE key_archive SET user_id = {}; UPDATE certificates SET user_id = {} WHERE kind = 'encryption'",
        of(other),
        of(other)
    );
    let hole = "DELETE FROM key_archive".to_owned();
    let database = fixture.configuration.database();
    let backup = database.with_extension("backup");
    let approval = "DELETE FROM statements".to_owned();
    let another = "UPDATE statements SET message = (SELECT message FROM statements WHERE operation = 'issue') \
                   WHERE operation = 'recover'";
    for tampering in [blob, row, hole, approval, another.to_owned()] {
        fixture.close();
        std::fs::copy(&database, &backup).unwrap();
        fixture.open(now());
        fixture.tamper_running(&tampering);
        let request = TestClient::new().request(&letter, DEFAULT_OPTIONS, now());
        let (reasons, text) = refusal(&request, &fixture.post(&request, now()).bytes, &letter.temporary_key);
        assert!(reasons.contains(PkiFailureInfo::SYSTEM_FAILURE), "{tampering}: {text}");
        assert!(!text.contains("archive"), "details belong only in the log: {text}");
        fixture.close();
        for extra in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{extra}", database.display()));
        }
        std::fs::rename(&backup, &database).unwrap();
    }
    fixture.open(now());
    assert_eq!(TestClient::new().enroll(&fixture, &letter, now()).len(), 1, "with the right records it works");
}
