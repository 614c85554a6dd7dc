//! Statements: who may speak, what they get, and that the log can be checked.

use super::support::*;
use crate::pki::Fingerprint;
use crate::statement::{Answer, LogPosition, LogVerdict, Operation, Response, Statement, Way};
use crate::store::AuditCheck;

fn issue(email: &str, name: Option<&str>) -> Operation {
    Operation::Issue { email: email.into(), name: name.map(Into::into), levels: None, valid_for_seconds: None }
}

fn show(email: &str) -> Operation {
    Operation::Show { email: email.into() }
}

#[test]
fn an_administrator_issues_lists_and_shows() {
    let office = Office::new();
    let administrator = office.administrator();
    let letter = office.letter_for(&administrator, "User@example.org");
    assert_eq!(letter.email, "User@example.org");
    assert_eq!(&letter.ca_fingerprint, Fingerprint::of(office.authority().ca_certificate()).as_bytes());
    assert_eq!(letter.http_url, "http://127.0.0.1:8829");

    let Answer::Users(users) = office.state(&administrator, Operation::List, now()).unwrap() else { panic!() };
    assert_eq!(users.len(), 2);
    assert!(users[0].administrator && users[0].enrolled && users[0].letter_expires.is_none());
    assert!(!users[1].administrator && !users[1].enrolled && users[1].letter_expires.is_some());

    let show = Operation::Show { email: "user@EXAMPLE.org".into() };
    let Answer::User(user) = office.state(&administrator, show, now()).unwrap() else { panic!() };
    assert_eq!((user.letters.len(), user.certificates.len(), user.archived_keys), (1, 0, 0));
    Person::new().enroll(&office, &letter, now());
    let show = Operation::Show { email: "user@example.org".into() };
    let Answer::User(user) = office.state(&administrator, show, now()).unwrap() else { panic!() };
    assert_eq!((user.letters[0].state.as_str(), user.certificates.len(), user.archived_keys), ("used", 2, 1));
}

#[test]
fn a_known_user_is_not_renamed_in_passing() {
    let office = Office::new();
    let administrator = office.administrator();
    office.state(&administrator, issue("user@example.org", Some("Old Name")), now()).unwrap();
    let refused = office.state(&administrator, issue("USER@example.org", Some("New Name")), now()).unwrap_err();
    assert!(refused.contains("\"Old Name\"") && refused.contains("--name"), "{refused}");
    let Answer::User(user) = office.state(&administrator, show("user@example.org"), now()).unwrap() else { panic!() };
    assert_eq!((user.name.as_str(), user.letters.len()), ("Old Name", 1), "the refused letter voids nothing");
    assert_eq!(user.letters[0].state, "unused");
    for name in [None, Some("Old Name"), Some(" Old Name ")] {
        let letter = letter_in(office.state(&administrator, issue("user@example.org", name), now()).unwrap());
        assert_eq!(letter.user_name, "Old Name");
    }
    // The first administrator has no name but the address, and gets one once.
    let letter = letter_in(office.state(&administrator, issue(ADMINISTRATOR, Some("A Name")), now()).unwrap());
    assert_eq!(letter.user_name, "A Name");
    assert!(office.state(&administrator, issue(ADMINISTRATOR, Some("Another")), now()).unwrap_err().contains("A Name"));
}

#[test]
fn what_cannot_be_done_is_refused_with_the_reason() {
    let office = Office::new();
    let administrator = office.administrator();
    let recover = |email: &str| Operation::Recover { email: email.into(), lost: false, valid_for_seconds: None };
    office.letter_for(&administrator, "new@example.org");
    let long = Operation::Issue {
        email: "a@example.org".into(),
        name: Some("A".into()),
        levels: None,
        valid_for_seconds: Some(u64::MAX),
    };
    for (operation, word) in [
        (issue("nobody@example.org", None), "--name"),
        (issue("no address", Some("X")), "e-mail"),
        (issue("a@example.org", Some("a\nb")), "control"),
        (recover("nobody@example.org"), "no user"),
        (recover("new@example.org"), "no archived keys"),
        (Operation::Show { email: "nobody@example.org".into() }, "no user"),
        (long, "a year at most"),
    ] {
        let reason = office.state(&administrator, operation, now()).unwrap_err();
        assert!(reason.contains(word), "{reason}");
    }
}

#[test]
fn nobody_but_a_current_administrator_is_heard() {
    let office = Office::new();
    let administrator = office.administrator();
    let user = Person::new();
    user.enroll(&office, &office.letter_for(&administrator, "user@example.org"), now());
    let of_user = office.state(&user, Operation::List, now()).unwrap_err();

    let again = office.letter_for(&administrator, ADMINISTRATOR);
    let new = Person::new();
    new.enroll(&office, &again, now());
    let of_old = office.state(&administrator, Operation::List, now()).unwrap_err();
    assert_eq!(of_user, of_old, "one answer for all who are none");
    office.state(&new, Operation::List, now()).unwrap();
}

#[test]
fn a_statement_counts_once_for_one_authority_and_for_some_minutes() {
    let office = Office::new();
    let by = office.administrator();
    let sign = |authority| {
        let statement = Statement::new(authority, issue("user@example.org", Some("User")), [5; 16], now());
        statement.sign(&by.ceremony.signer(by.signing_key()), &by.certificate(), now()).unwrap()
    };
    let own = sign(Fingerprint::of(office.authority().ca_certificate()));
    let foreign = sign(Fingerprint::of(b"another"));
    let refused = |der: &[u8], at| match office.post_statement(der, at).answer {
        Answer::Refused(reason) => reason,
        other => panic!("not refused: {other:?}"),
    };
    assert!(refused(foreign.as_der(), now()).contains("another authority"));
    assert!(refused(own.as_der(), later(16)).contains("until"));
    assert!(refused(b"no statement", now()).contains("cannot"));
    assert!(matches!(office.post_statement(own.as_der(), now()).answer, Answer::Letter(_)));
    assert!(refused(own.as_der(), now()).contains("before"));
}

#[test]
fn by_file_a_letter_is_encrypted_to_the_administrator_and_nothing_else_is() {
    let office = Office::new();
    let by = office.administrator();
    let issue = || issue("user@example.org", Some("User"));
    let answer = office.state_by(Way::File, &by, issue(), later(7 * 24 * 60)).unwrap();
    let Answer::EncryptedLetter(cms) = answer else { panic!("{answer:?}") };
    let message = crate::smime::EncryptedMessage::parse(&crate::smime::Message::read(&cms).unwrap()).unwrap();
    let own = office.authority().search_certificates(ADMINISTRATOR, now()).unwrap();
    let own = crate::pki::Certificate::from_der(&own[0]).unwrap();
    assert!(message.recipients().len() == 1 && message.recipients()[0].is(&own));
    assert!(!cms.windows(9).any(|window| window == b"Reference"));
    let list = office.state_by(Way::File, &by, Operation::List, now()).unwrap();
    assert!(matches!(list, Answer::Users(_)), "{list:?}");
}

#[test]
fn by_file_a_statement_counts_once_in_14_days_and_never_online() {
    let office = Office::new();
    let by = office.administrator();
    let authority = Fingerprint::of(office.authority().ca_certificate());
    let sign = |nonce| {
        let statement = Statement::by(Way::File, authority, Operation::List, [nonce; 16], now());
        statement.sign(&by.ceremony.signer(by.signing_key()), &by.certificate(), now()).unwrap()
    };
    let refused = |way, der: &[u8], at| match office.post_statement_by(way, der, at).answer {
        Answer::Refused(reason) => reason,
        other => panic!("not refused: {other:?}"),
    };
    let (one, other) = (sign(1), sign(2));
    assert!(refused(Way::Online, one.as_der(), now()).contains("authority answer"));
    let days = |days: i64| later(days * 24 * 60);
    assert!(matches!(office.post_statement_by(Way::File, one.as_der(), days(1)).answer, Answer::Users(_)));
    assert!(refused(Way::File, one.as_der(), days(13)).contains("before"), "its nonce is kept");
    assert!(refused(Way::File, other.as_der(), days(14)).contains("until"));
}

#[test]
fn a_letter_by_file_that_its_administrator_could_not_open_is_not_made() {
    let mut office = Office::new();
    let by = office.administrator();
    let earlier = office.letter_for(&by, "user@example.org");
    office.tamper("UPDATE certificates SET state = 'superseded' WHERE kind = 'encryption'");
    let reason = office.state_by(Way::File, &by, issue("user@example.org", None), now()).unwrap_err();
    assert!(reason.contains("no current encryption certificate"), "{reason}");
    Person::new().enroll(&office, &earlier, now());
}

#[test]
fn a_recovery_that_was_stated_by_file_is_delivered() {
    let office = Office::new();
    let by = office.administrator();
    let user = Person::new();
    user.enroll(&office, &office.letter_for(&by, "user@example.org"), now());
    let recover = Operation::Recover { email: "user@example.org".into(), lost: false, valid_for_seconds: None };
    office.state_by(Way::File, &by, recover, later(60)).unwrap();
    // Its letter, as the authority wrote it before it was encrypted.
    let user = office.authority().store.user_by_email("user@example.org").unwrap().unwrap();
    let records = office.authority().store.temporary_keys_of(&user.id).unwrap();
    let record = records.iter().find(|record| record.reference.starts_with('R')).unwrap();
    let letter = office.authority().letter(record, &user).unwrap();
    assert_eq!(Person::new().enroll(&office, &letter, later(120)).len(), 1);
}

#[test]
fn a_role_or_a_user_made_in_the_database_is_worth_nothing() {
    let mut office = Office::new();
    let administrator = office.administrator();
    let user = Person::new();
    user.enroll(&office, &office.letter_for(&administrator, "user@example.org"), now());
    office.tamper("INSERT INTO grants SELECT id, 'administrator', 0, (SELECT mac FROM grants) FROM users WHERE email LIKE 'user%'");
    let reason = office.state(&user, Operation::List, now()).unwrap_err();
    assert!(reason.contains("log"), "{reason}");
    office.state(&administrator, Operation::List, now()).unwrap();
    office.tamper(
        "UPDATE certificates SET user_id = (SELECT user_id FROM grants g JOIN users u ON u.id = g.user_id WHERE u.email LIKE 'admin%') WHERE kind = 'signing'",
    );
    let reason = office.state(&user, Operation::List, now()).unwrap_err();
    assert!(reason.contains("no administrator"), "{reason}");
    office.tamper("UPDATE users SET email_key = 'x', email = 'x' WHERE email LIKE 'admin%'");
    office.state(&administrator, Operation::List, now()).unwrap_err();
}

#[test]
fn a_checkpoint_is_the_logs_and_the_log_is_whole() {
    let office = Office::new();
    let by = office.administrator();
    let authority = Fingerprint::of(office.authority().ca_certificate());
    let statement = Statement::new(authority, Operation::List, [5; 16], now());
    let signed = statement.sign(&by.ceremony.signer(by.signing_key()), &by.certificate(), now()).unwrap();
    let checkpoint = office.post_statement(signed.as_der(), now()).checkpoint;
    let head = office.authority().store.audit_head().unwrap();
    assert_eq!((checkpoint.sequence, checkpoint.head), (head.number, head.hash));
    assert!(matches!(office.authority().store.check_audit().unwrap(), AuditCheck::Whole(_)));
    assert_eq!(checkpoint.key, office.authority().keys.audit.public_key_der());
    checkpoint.verify(authority).unwrap();
    assert!(checkpoint.verify(Fingerprint::of(b"another")).is_err());
}

/// States something, knowing this of the log.
fn state_knowing(office: &Office, by: &Person, nonce: u8, known: Option<LogPosition>) -> Response {
    let authority = Fingerprint::of(office.authority().ca_certificate());
    let statement = Statement::new(authority, issue("user@example.org", Some("User")), [nonce; 16], now());
    let key = by.ceremony.signer(by.signing_key());
    let signed = statement.knowing(known).sign(&key, &by.certificate(), now()).unwrap();
    office.post_statement(signed.as_der(), now())
}

#[test]
fn a_statement_that_knows_another_log_is_refused_before_anything_is_done() {
    let mut office = Office::new();
    let by = office.administrator();
    let first = state_knowing(&office, &by, 1, None);
    assert_eq!(first.known_log, None);
    let second = state_knowing(&office, &by, 2, Some(first.checkpoint.position()));
    assert_eq!(second.known_log, Some(LogVerdict::Continued));
    assert!(matches!(second.answer, Answer::Letter(_)), "{second:?}");

    let refused = |office: &Office, nonce: u8, known: LogPosition| {
        let before = office.authority().store.audit_head().unwrap();
        let response = state_knowing(office, &by, nonce, Some(known));
        assert_eq!(response.known_log, Some(LogVerdict::Contradicted));
        assert!(
            matches!(&response.answer, Answer::Refused(reason) if reason.contains("nothing was done")),
            "{response:?}"
        );
        assert_eq!(office.authority().store.audit_head().unwrap(), before);
    };
    let newest = second.checkpoint.position();
    refused(&office, 3, LogPosition { head: [7; 32], ..newest });
    refused(&office, 3, LogPosition { sequence: newest.sequence + 1, ..newest });
    // Its nonce is still good.
    assert_eq!(state_knowing(&office, &by, 3, Some(newest)).known_log, Some(LogVerdict::Continued));
    let newest = state_knowing(&office, &by, 4, None).checkpoint.position();
    office.tamper(&format!("DELETE FROM audit WHERE number = {}", newest.sequence));
    refused(&office, 5, newest);
    // Grown past it again.
    for nonce in 6..9 {
        state_knowing(&office, &by, nonce, None);
    }
    refused(&office, 9, newest);
}

#[test]
fn who_is_refused_unheard_learns_nothing_of_the_log() {
    let office = Office::new();
    let administrator = office.administrator();
    let user = Person::new();
    user.enroll(&office, &office.letter_for(&administrator, "user@example.org"), now());
    let newest = state_knowing(&office, &administrator, 1, None).checkpoint.position();
    for known in [newest, LogPosition { head: [7; 32], ..newest }] {
        assert_eq!(state_knowing(&office, &user, 2, Some(known)).known_log, None);
    }
}
