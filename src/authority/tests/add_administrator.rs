//! Administrators added with the authority's PIN: effective at once if no other can act, after a
//! day otherwise, and never without notice to the others.

use super::support::*;
use crate::authority::{AdministratorLetter, AuthorityError};
use crate::statement::{AddedAdministrator, AdminOperation, StatementAnswer, StatementChannel};

const NEW: &str = "new@example.org";
const NAME: Option<&str> = Some("New Administrator");

/// The minutes of a day.
const DAY: i64 = 24 * 60;

fn add(fixture: &AuthorityFixture, email: &str, at: jiff::Timestamp) -> AdministratorLetter {
    fixture.authority().add_administrator(email, NAME, at).unwrap()
}

/// The added administrators in the response to this administrator's command.
fn reported_administrators(
    fixture: &AuthorityFixture,
    by: &TestClient,
    at: jiff::Timestamp,
) -> Vec<AddedAdministrator> {
    let mut nonce = [0; 16];
    getrandom::fill(&mut nonce).unwrap();
    let signed = by.sign(
        &fixture.statement(StatementChannel::Online, by, AdminOperation::List { after: None, limit: None }, nonce, at),
        at,
    );
    fixture.post_statement(signed.as_der(), at).added
}

#[test]
fn the_only_active_administrator_has_the_role_at_once() {
    let fixture = AuthorityFixture::new();
    // The first administrator has not enrolled.
    let added = add(&fixture, NEW, now());
    assert_eq!((added.counts_from, added.others.len()), (now(), 0));
    let client = TestClient::new();
    client.enroll(&fixture, &added.letter, now());
    fixture.state(&client, AdminOperation::List { after: None, limit: None }, now()).unwrap();
    assert_eq!(reported_administrators(&fixture, &client, now()), [], "no notice about oneself");
}

#[test]
fn an_administrator_with_an_expired_certificate_gets_a_letter() {
    let mut fixture = AuthorityFixture::new();
    let administrator = fixture.administrator();
    let years_later = later(3 * 366 * DAY);
    fixture.state(&administrator, AdminOperation::List { after: None, limit: None }, years_later).unwrap_err();
    fixture.open_again(years_later);
    let added = fixture.authority().add_administrator(ADMINISTRATOR, None, years_later).unwrap();
    assert_eq!((added.counts_from, added.others.len()), (years_later, 0));
    let again = TestClient::new();
    again.enroll(&fixture, &added.letter, years_later);
    fixture.state(&again, AdminOperation::List { after: None, limit: None }, years_later).unwrap();
}

#[test]
fn with_another_administrator_letter_and_role_count_after_a_day() {
    let fixture = AuthorityFixture::new();
    let first = fixture.administrator();
    let added = add(&fixture, NEW, now());
    assert_eq!(added.counts_from, later(DAY));
    assert_eq!(added.others, [ADMINISTRATOR]);
    // First the letter.
    let client = TestClient::new();
    let early = fixture.post(&client.request(&added.letter, DEFAULT_OPTIONS, now()), later(DAY - 1)).bytes;
    let early = crate::cmp::PkiMessage::from_der(&early).unwrap();
    let crate::cmp::PkiBody::Error(error) = early.body() else { panic!("{}", early.body().name()) };
    assert!(error.status.to_string().contains("good from"), "{}", error.status);
    let role = |at| match fixture.state(&first, AdminOperation::Show { email: NEW.to_owned() }, at).unwrap() {
        StatementAnswer::User(user) => (user.administrator, user.administrator_from),
        other => panic!("{other:?}"),
    };
    let listed = |at| match fixture.state(&first, AdminOperation::List { after: None, limit: None }, at).unwrap() {
        StatementAnswer::Users(users) => {
            let new = users.into_iter().find(|user| user.email == NEW).unwrap();
            (new.administrator, new.administrator_from)
        }
        other => panic!("{other:?}"),
    };
    for (at, expected) in [(later(DAY - 1), (false, Some(later(DAY)))), (later(DAY), (true, None))] {
        assert_eq!((role(at), listed(at)), (expected, expected));
    }
    // Another letter from the first administrator does not bring the role earlier.
    let client = TestClient::new();
    client.enroll(&fixture, &fixture.letter_for_known(&first, NEW), now());
    let refused =
        fixture.state(&client, AdminOperation::List { after: None, limit: None }, later(DAY - 1)).unwrap_err();
    assert!(refused.contains("from") && refused.contains("takes effect only from"), "{refused}");
    fixture.state(&client, AdminOperation::List { after: None, limit: None }, later(DAY)).unwrap();
}

#[test]
fn the_letter_is_good_when_the_day_is_over() {
    let fixture = AuthorityFixture::new();
    fixture.administrator();
    let added = add(&fixture, NEW, now());
    let client = TestClient::new();
    client.enroll(&fixture, &added.letter, later(DAY));
    fixture.state(&client, AdminOperation::List { after: None, limit: None }, later(DAY)).unwrap();
}

#[test]
fn every_response_repeats_the_notice_until_acknowledged() {
    let mut fixture = AuthorityFixture::new();
    let first = fixture.administrator();
    assert_eq!(reported_administrators(&fixture, &first, now()), []);
    let added = add(&fixture, NEW, now());
    for _ in 0..2 {
        let [notice] = &reported_administrators(&fixture, &first, now())[..] else { panic!("no notice") };
        assert_eq!((notice.entry, notice.email.as_str(), notice.at), (added.entry, NEW, now()));
        assert_eq!(notice.counts_from, later(DAY));
        // The notice survives a restart.
        fixture.open_again(now());
    }
    let acknowledge = |entry| AdminOperation::Acknowledge { entry };
    let refused = fixture.state(&first, acknowledge(added.entry + 1), now()).unwrap_err();
    assert!(refused.contains("does not record"), "{refused}");
    assert_eq!(
        fixture.state(&first, acknowledge(added.entry), now()).unwrap(),
        StatementAnswer::Acknowledged(added.entry)
    );
    assert_eq!(reported_administrators(&fixture, &first, now()), []);
    fixture.open_again(now());
    assert_eq!(reported_administrators(&fixture, &first, now()), []);
}

#[test]
fn an_invalid_person_is_refused_and_changes_nothing() {
    let fixture = AuthorityFixture::new();
    fixture.administrator();
    add(&fixture, NEW, now());
    let head = fixture.authority().records.store.audit_head().unwrap();
    let another = "another@example.org";
    for (email, name) in [("no address", NAME), (another, None), (another, Some("a\nb")), (NEW, Some("Renamed"))] {
        let refused = fixture.authority().add_administrator(email, name, now()).unwrap_err();
        assert!(matches!(refused, AuthorityError::NotAdded(_)), "{refused}");
    }
    assert_eq!(fixture.authority().records.store.audit_head().unwrap(), head);
}

#[test]
fn a_role_with_a_changed_time_is_not_valid() {
    let mut fixture = AuthorityFixture::new();
    fixture.administrator();
    let added = add(&fixture, NEW, now());
    fixture.tamper("DELETE FROM grants_to_come");
    let client = TestClient::new();
    client.enroll(&fixture, &added.letter, later(DAY));
    fixture.state(&client, AdminOperation::List { after: None, limit: None }, later(DAY)).unwrap_err();
}

#[test]
fn no_row_hides_an_administrator_to_skip_the_notice_period() {
    let fixture = AuthorityFixture::new();
    fixture.administrator();
    for sql in
        ["DELETE FROM grants", "UPDATE certificates SET state = 'superseded'", "UPDATE users SET name = 'Changed'"]
    {
        fixture.tamper_running(sql);
        let added = add(&fixture, &format!("new{}@example.org", sql.len()), now());
        assert_eq!((added.counts_from, added.others.len()), (later(DAY), 1), "{sql}");
    }
}

#[test]
fn no_clock_makes_the_new_one_count_at_once() {
    let mut fixture = AuthorityFixture::new();
    fixture.administrator();
    // A clock ahead: the other certificate looks expired.
    let years_later = later(3 * 366 * DAY);
    fixture.open_again(years_later);
    let ahead = add(&fixture, NEW, years_later);
    assert_eq!((ahead.counts_from, ahead.others.len()), (later(3 * 366 * DAY + DAY), 1));
    // A clock behind: the day starts with the newest entry of the log.
    let behind = add(&fixture, "newer@example.org", now());
    assert_eq!(behind.counts_from, ahead.counts_from);
}
