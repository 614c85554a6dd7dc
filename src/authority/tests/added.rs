//! Administrators added with the authority's PIN: effective at once if no other can act, after a
//! day otherwise, and never without notice to the others.

use super::support::*;
use crate::authority::{AdministratorLetter, AuthorityError};
use crate::statement::{AddedAdministrator, Answer, Operation, Way};

const NEW: &str = "new@example.org";
const NAME: Option<&str> = Some("New Administrator");

/// The minutes of a day.
const DAY: i64 = 24 * 60;

fn add(office: &Office, email: &str, at: jiff::Timestamp) -> AdministratorLetter {
    office.authority().add_administrator(email, NAME, at).unwrap()
}

/// The added administrators in the response to this administrator's command.
fn told(office: &Office, by: &Person, at: jiff::Timestamp) -> Vec<AddedAdministrator> {
    let mut nonce = [0; 16];
    getrandom::fill(&mut nonce).unwrap();
    let signed = by.sign(&office.statement(Way::Online, by, Operation::List, nonce, at), at);
    office.post_statement(signed.as_der(), at).added
}

#[test]
fn where_no_administrator_can_act_the_new_one_counts_at_once() {
    let office = Office::new();
    // The first administrator has not enrolled.
    let added = add(&office, NEW, now());
    assert_eq!((added.counts_from, added.others.len()), (now(), 0));
    let person = Person::new();
    person.enroll(&office, &added.letter, now());
    office.state(&person, Operation::List, now()).unwrap();
    assert_eq!(told(&office, &person, now()), [], "no notice about oneself");
}

#[test]
fn an_administrator_whose_certificate_has_expired_gets_a_letter_at_once() {
    let mut office = Office::new();
    let administrator = office.administrator();
    let years_later = later(3 * 366 * DAY);
    office.state(&administrator, Operation::List, years_later).unwrap_err();
    office.open_again(years_later);
    let added = office.authority().add_administrator(ADMINISTRATOR, None, years_later).unwrap();
    assert_eq!((added.counts_from, added.others.len()), (years_later, 0));
    let again = Person::new();
    again.enroll(&office, &added.letter, years_later);
    office.state(&again, Operation::List, years_later).unwrap();
}

#[test]
fn with_another_administrator_letter_and_role_count_after_a_day() {
    let office = Office::new();
    let first = office.administrator();
    let added = add(&office, NEW, now());
    assert_eq!(added.counts_from, later(DAY));
    assert_eq!(added.others, [ADMINISTRATOR]);
    // First the letter.
    let person = Person::new();
    let early = office.post(&person.request(&added.letter, USUAL, now()), later(DAY - 1)).bytes;
    let early = crate::cmp::PkiMessage::from_der(&early).unwrap();
    let crate::cmp::PkiBody::Error(error) = early.body() else { panic!("{}", early.body().name()) };
    assert!(error.status.to_string().contains("good from"), "{}", error.status);
    let role = |at| match office.state(&first, Operation::Show { email: NEW.to_owned() }, at).unwrap() {
        Answer::User(user) => (user.administrator, user.administrator_from),
        other => panic!("{other:?}"),
    };
    let listed = |at| match office.state(&first, Operation::List, at).unwrap() {
        Answer::Users(users) => {
            let new = users.into_iter().find(|user| user.email == NEW).unwrap();
            (new.administrator, new.administrator_from)
        }
        other => panic!("{other:?}"),
    };
    for (at, expected) in [(later(DAY - 1), (false, Some(later(DAY)))), (later(DAY), (true, None))] {
        assert_eq!((role(at), listed(at)), (expected, expected));
    }
    // Another letter from the first administrator does not bring the role earlier.
    let person = Person::new();
    person.enroll(&office, &office.letter_for_known(&first, NEW), now());
    let refused = office.state(&person, Operation::List, later(DAY - 1)).unwrap_err();
    assert!(refused.contains("from") && refused.contains("takes effect only from"), "{refused}");
    office.state(&person, Operation::List, later(DAY)).unwrap();
}

#[test]
fn the_letter_is_good_when_the_day_is_over() {
    let office = Office::new();
    office.administrator();
    let added = add(&office, NEW, now());
    let person = Person::new();
    person.enroll(&office, &added.letter, later(DAY));
    office.state(&person, Operation::List, later(DAY)).unwrap();
}

#[test]
fn the_others_are_told_with_every_answer_until_each_has_acknowledged() {
    let mut office = Office::new();
    let first = office.administrator();
    assert_eq!(told(&office, &first, now()), []);
    let added = add(&office, NEW, now());
    for _ in 0..2 {
        let [news] = &told(&office, &first, now())[..] else { panic!("no notice") };
        assert_eq!((news.entry, news.email.as_str(), news.at), (added.entry, NEW, now()));
        assert_eq!(news.counts_from, later(DAY));
        // The notice survives a restart.
        office.open_again(now());
    }
    let acknowledge = |entry| Operation::Acknowledge { entry };
    let refused = office.state(&first, acknowledge(added.entry + 1), now()).unwrap_err();
    assert!(refused.contains("does not record"), "{refused}");
    assert_eq!(office.state(&first, acknowledge(added.entry), now()).unwrap(), Answer::Acknowledged(added.entry));
    assert_eq!(told(&office, &first, now()), []);
    office.open_again(now());
    assert_eq!(told(&office, &first, now()), []);
}

#[test]
fn what_is_no_person_is_refused_and_changes_nothing() {
    let office = Office::new();
    office.administrator();
    add(&office, NEW, now());
    let head = office.authority().store.audit_head().unwrap();
    let another = "another@example.org";
    for (email, name) in [("no address", NAME), (another, None), (another, Some("a\nb")), (NEW, Some("Renamed"))] {
        let refused = office.authority().add_administrator(email, name, now()).unwrap_err();
        assert!(matches!(refused, AuthorityError::NotAdded(_)), "{refused}");
    }
    assert_eq!(office.authority().store.audit_head().unwrap(), head);
}

#[test]
fn a_role_whose_time_was_changed_in_the_database_is_none() {
    let mut office = Office::new();
    office.administrator();
    let added = add(&office, NEW, now());
    office.tamper("DELETE FROM grants_to_come");
    let person = Person::new();
    person.enroll(&office, &added.letter, later(DAY));
    office.state(&person, Operation::List, later(DAY)).unwrap_err();
}

#[test]
fn no_row_hides_an_administrator_and_makes_the_new_one_count_at_once() {
    let office = Office::new();
    office.administrator();
    for sql in
        ["DELETE FROM grants", "UPDATE certificates SET state = 'superseded'", "UPDATE users SET name = 'Changed'"]
    {
        office.tamper_running(sql);
        let added = add(&office, &format!("new{}@example.org", sql.len()), now());
        assert_eq!((added.counts_from, added.others.len()), (later(DAY), 1), "{sql}");
    }
}

#[test]
fn no_clock_makes_the_new_one_count_at_once() {
    let mut office = Office::new();
    office.administrator();
    // A clock ahead: the other certificate looks expired.
    let years_later = later(3 * 366 * DAY);
    office.open_again(years_later);
    let ahead = add(&office, NEW, years_later);
    assert_eq!((ahead.counts_from, ahead.others.len()), (later(3 * 366 * DAY + DAY), 1));
    // A clock behind: the day starts with the newest entry of the log.
    let behind = add(&office, "newer@example.org", now());
    assert_eq!(behind.counts_from, ahead.counts_from);
}
