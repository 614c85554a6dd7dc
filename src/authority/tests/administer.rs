//! Statements: authorization, results, and the verifiability of the log.

use serde_json::json;

use super::support::*;
use crate::authority::token_keys::MACS;
use crate::authority::{NoResponse, audit};
use crate::pki::Fingerprint;
use crate::statement::{Answer, LogPosition, LogVerdict, Operation, Response, Statement, Way};

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
fn the_list_comes_in_pages_and_shows_nothing_whose_seal_is_broken() {
    let mut office = Office::new();
    let administrator = office.administrator();
    for name in ["a", "b", "c", "d"] {
        office.letter_for(&administrator, &format!("{name}@example.org"));
    }
    let page = |office: &Office, after: Option<&str>, limit| {
        let operation = Operation::ListPage { after: after.map(Into::into), limit };
        let (users, next) = match office.state(&administrator, operation, now()).unwrap() {
            Answer::Users(users) => (users, None),
            Answer::UserPage { users, next } => (users, Some(next)),
            other => panic!("{other:?}"),
        };
        (users.into_iter().map(|user| user.email).collect::<Vec<_>>(), next)
    };
    let names = |names: &[&str]| names.iter().map(|name| format!("{name}@example.org")).collect::<Vec<_>>();
    assert_eq!(page(&office, None, Some(2)), (names(&["a", "admin"]), Some(ADMINISTRATOR.to_owned())));
    assert_eq!(
        page(&office, Some("Admin@example.org"), Some(2)),
        (names(&["b", "c"]), Some("c@example.org".to_owned()))
    );
    assert_eq!(page(&office, Some("c@example.org"), Some(2)), (names(&["d"]), None));
    assert_eq!(page(&office, None, None), (names(&["a", "admin", "b", "c", "d"]), None));

    office.tamper(
        "UPDATE users SET name = 'Mallory' WHERE email LIKE 'b@%'; UPDATE temporary_keys SET expires_at = expires_at + 1 \
         WHERE user_id = (SELECT id FROM users WHERE email LIKE 'c@%'); INSERT INTO grants SELECT id, 'administrator', 0, \
         (SELECT mac FROM grants) FROM users WHERE email LIKE 'd@%'; UPDATE certificates SET user_id = (SELECT id FROM \
         users WHERE email LIKE 'd@%') WHERE kind = 'encryption'",
    );
    assert_eq!(page(&office, None, None), (names(&["a", "admin", "c", "d"]), None));
    let user = |email: &str| match office.state(&administrator, show(email), now()).unwrap() {
        Answer::User(user) => user,
        other => panic!("{other:?}"),
    };
    assert!(user("c@example.org").letters.is_empty());
    let shown = user("d@example.org");
    assert!(!shown.administrator && shown.certificates.is_empty() && shown.archived_keys == 0, "{shown:?}");
    assert!(office.state(&administrator, show("b@example.org"), now()).is_err());
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
        let answer = office.state(&administrator, issue("user@example.org", name), now()).unwrap();
        let letter = administrator.letter_in(answer);
        assert_eq!(letter.user_name, "Old Name");
    }
    // The first administrator has only an address, and gets a name once.
    let answer = office.state(&administrator, issue(ADMINISTRATOR, Some("A Name")), now()).unwrap();
    let letter = administrator.letter_in(answer);
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
        (recover("nobody@example.org"), "user nobody@example.org not found"),
        (recover("new@example.org"), "no archived keys"),
        (Operation::Show { email: "nobody@example.org".into() }, "user nobody@example.org not found"),
        (long, "at most a year"),
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
    assert_eq!(of_user, of_old, "the same refusal for everyone who is not an administrator");
    office.state(&new, Operation::List, now()).unwrap();
}

#[test]
fn a_statement_counts_once_for_one_authority_and_for_some_minutes() {
    let office = Office::new();
    let by = office.administrator();
    let sign = |authority| {
        let own = office.statement(Way::Online, &by, issue("user@example.org", Some("User")), [5; 16], now());
        by.sign(&Statement { authority, ..own }, now())
    };
    let own = sign(Fingerprint::of(office.authority().ca_certificate()));
    let foreign = sign(Fingerprint::of(b"another"));
    let refused = |der: &[u8], at| office.answer_of(Way::Online, der, at).unwrap_err();
    assert!(refused(foreign.as_der(), now()).contains("another authority"));
    assert!(refused(own.as_der(), later(16)).contains("until"));
    assert!(refused(b"no statement", now()).contains("cannot"));
    assert!(matches!(office.post_statement(own.as_der(), now()).answer, Answer::EncryptedLetter(_)));
    assert!(refused(own.as_der(), now()).contains("already used"));
}

#[test]
fn what_nobody_here_has_signed_costs_the_token_nothing() {
    let office = Office::new();
    let by = office.administrator();
    let statement = office.statement(Way::Online, &by, Operation::List, [5; 16], now());
    let signed = statement.sign(&by.ceremony.signer(by.signing_key()), &by.certificate(), now()).unwrap();
    let mut changed = signed.as_der().to_vec();
    *changed.last_mut().unwrap() ^= 1;
    // The administrator of another authority: a valid signature under a foreign certificate.
    let elsewhere = Office::new();
    let stranger = elsewhere.administrator();
    let foreign = statement.sign(&stranger.ceremony.signer(stranger.signing_key()), &stranger.certificate(), now());
    for message in [b"hello", &changed[..], foreign.unwrap().as_der()] {
        let before = MACS.get();
        let answer = office.authority().answer_statement(message, Way::Online, now());
        assert!(matches!(answer, Err(NoResponse::Unverified(_))), "{answer:?}");
        assert_eq!(MACS.get(), before);
    }
    office.post_statement(signed.as_der(), now());
}

#[test]
fn a_letter_is_encrypted_to_the_certificate_that_its_administrator_names() {
    let office = Office::new();
    let by = office.administrator();
    for (way, at) in [(Way::Online, now()), (Way::File, later(7 * 24 * 60))] {
        let answer = office.state_by(way, &by, issue("user@example.org", Some("User")), at).unwrap();
        let Answer::EncryptedLetter(cms) = &answer else { panic!("{answer:?}") };
        assert!(!cms.windows(9).any(|window| window == b"Reference"));
        assert_eq!(by.letter_in(answer).reference, office.newest_letter("user@example.org").reference);
        let list = office.state_by(way, &by, Operation::List, at).unwrap();
        assert!(matches!(list, Answer::Users(_)), "{list:?}");
    }
}

#[test]
fn a_letter_goes_to_no_certificate_but_a_current_one_of_its_administrator() {
    let mut office = Office::new();
    let by = office.administrator();
    let user = Person::new();
    user.enroll(&office, &office.letter_for(&by, "user@example.org"), now());
    let earlier = office.letter_for(&by, "other@example.org");
    let refused = |office: &Office, reader: Fingerprint, nonce: u8| {
        let operation = issue("other@example.org", None);
        let statement = office.statement(Way::Online, &by, operation, [nonce; 16], now());
        match office.post_statement(by.sign(&statement.encrypted_to(Some(reader)), now()).as_der(), now()).answer {
            Answer::Refused(reason) => assert!(reason.contains("not a current encryption certificate"), "{reason}"),
            other => panic!("{other:?}"),
        }
    };
    refused(&office, user.encryption_certificate().fingerprint(), 1);
    refused(&office, by.certificate().fingerprint(), 2);
    refused(&office, Fingerprint::of(b"unknown"), 3);
    // Another user's row, assigned to the administrator: the CA's signature names the owner.
    office.tamper(
        "UPDATE certificates SET user_id = (SELECT user_id FROM grants) WHERE kind = 'encryption' AND user_id IN \
         (SELECT id FROM users WHERE email = 'user@example.org')",
    );
    refused(&office, user.encryption_certificate().fingerprint(), 4);
    Person::new().enroll(&office, &earlier, now());
    // No row ends a certificate that is current according to the log.
    office.tamper("UPDATE certificates SET state = 'superseded' WHERE kind = 'encryption'");
    office.state(&by, issue("other@example.org", None), now()).unwrap();
}

#[test]
fn a_used_statement_is_used_though_its_row_is_gone() {
    let office = Office::new();
    let by = office.administrator();
    let letters = |office: &Office| {
        let user = office.authority().store.user_by_email("user@example.org").unwrap().unwrap();
        office.authority().store.temporary_keys_of(&user.id).unwrap().len()
    };
    let statement = office.statement(Way::Online, &by, issue("user@example.org", Some("User")), [1; 16], now());
    let signed = by.sign(&statement, now());
    assert!(matches!(office.post_statement(signed.as_der(), now()).answer, Answer::EncryptedLetter(_)));
    let refused = |der: &[u8]| match office.post_statement(der, now()).answer {
        Answer::Refused(reason) => reason,
        other => panic!("{other:?}"),
    };
    // Another statement with a used nonce is refused.
    let other = office.statement(Way::Online, &by, show("user@example.org"), [1; 16], now());
    assert!(refused(by.sign(&other, now()).as_der()).contains("already used"));
    office.forget_statements();
    assert!(refused(signed.as_der()).contains("already used"));
    // A second signature does not make a new statement.
    assert!(refused(by.sign(&statement, now()).as_der()).contains("already used"));
    assert_eq!(letters(&office), 1);
}

#[test]
fn a_statement_is_for_the_run_of_the_authority_that_it_names() {
    let mut office = Office::new();
    let by = office.administrator();
    let statement = office.statement(Way::Online, &by, Operation::List, [1; 16], now());
    let signed = by.sign(&statement, now());
    office.tamper("SELECT 1");
    let before = office.authority().store.audit_head().unwrap();
    let Answer::Refused(reason) = office.post_statement(signed.as_der(), now()).answer else { panic!("taken") };
    assert!(reason.contains("restarted") && reason.contains("again"), "{reason}");
    assert_eq!(office.authority().store.audit_head().unwrap(), before);
    office.state(&by, Operation::List, now()).unwrap();
}

#[test]
fn a_letter_is_fetched_again_by_the_one_who_ordered_it_until_it_is_used_or_expires() {
    let mut office = Office::new();
    let by = office.administrator();
    let letter = |which: &str| Operation::Letter { letter: which.to_owned() };
    let ordered = office.letter_for(&by, "user@example.org");
    for which in ["user@example.org", ordered.reference.as_str()] {
        let again = by.letter_in(office.state(&by, letter(which), now()).unwrap());
        assert_eq!(again.to_text(), ordered.to_text());
    }
    let minutes = 14 * 24 * 60;
    assert!(
        office.state(&by, letter("user@example.org"), later(minutes + 1)).unwrap_err().contains("no unused letter")
    );
    assert!(office.state(&by, letter(ordered.reference.as_str()), later(minutes + 1)).unwrap_err().contains("expired"));
    for (which, why) in
        [("nobody@example.org", "user nobody@example.org not found"), ("E000000000", "letter E000000000 not found")]
    {
        assert!(office.state(&by, letter(which), now()).unwrap_err().contains(why));
    }

    // Another administrator does not get it, even if the rows name them.
    let other = Person::new();
    other.enroll(&office, &office.letter_for(&by, "other@example.org"), now());
    let user = office.authority().store.user_by_email("other@example.org").unwrap().unwrap();
    let mut grant = crate::store::GrantRecord {
        user_id: user.id.clone(),
        role: crate::store::Role::Administrator,
        granted_at: now(),
        counts_from: None,
        mac: [0; 32],
    };
    grant.mac = office.authority().sealer.seal_grant(&grant, &user).unwrap();
    office.tamper(&format!(
        "INSERT INTO grants VALUES ('{}', 'administrator', {}, X'{}')",
        user.id,
        grant.granted_at.as_second(),
        hex::encode(grant.mac)
    ));
    // A role that the log does not record is not valid, even with a valid seal.
    assert!(office.state(&other, letter("user@example.org"), now()).unwrap_err().contains("not an administrator"));
    let detail = json!({ "user": user.id, "role": "administrator" });
    office.authority().store.record(audit::entry(now(), "role.granted", &detail)).unwrap();
    let refused = office.state(&other, letter("user@example.org"), now()).unwrap_err();
    assert!(refused.contains("another administrator"), "{refused}");
    office.tamper(&format!("UPDATE statements SET administrator = '{}' WHERE operation = 'issue'", user.id));
    assert!(office.state(&other, letter("user@example.org"), now()).is_err());
    office.tamper("UPDATE statements SET administrator = (SELECT id FROM users WHERE email LIKE 'admin%')");

    // A used letter cannot be fetched.
    Person::new().enroll(&office, &ordered, now());
    assert!(office.state(&by, letter(ordered.reference.as_str()), now()).unwrap_err().contains("used"));
    assert!(office.state(&by, letter("user@example.org"), now()).unwrap_err().contains("no unused letter"));
    // Nor can the first administrator's, whatever its row says.
    office.tamper("UPDATE temporary_keys SET state = 'unused' WHERE statement IS NULL");
    assert!(office.state(&by, letter(ADMINISTRATOR), now()).unwrap_err().contains("no unused letter"));
    // Nor can an unused letter that no statement ordered.
    office.authority().add_administrator("new@example.org", Some("New Administrator"), now()).unwrap();
    assert!(office.state(&by, letter("new@example.org"), now()).unwrap_err().contains("no administrator ordered"));
}

#[test]
fn by_file_a_statement_counts_once_in_14_days_and_never_online() {
    let office = Office::new();
    let by = office.administrator();
    let authority = Fingerprint::of(office.authority().ca_certificate());
    let sign = |nonce| by.sign(&Statement::by_file(authority, Operation::List, [nonce; 16], now()), now());
    let refused = |way, der: &[u8], at| office.answer_of(way, der, at).unwrap_err();
    let (one, other) = (sign(1), sign(2));
    assert!(refused(Way::Online, one.as_der(), now()).contains("authority answer"));
    let days = |days: i64| later(days * 24 * 60);
    assert!(matches!(office.post_statement_by(Way::File, one.as_der(), days(1)).answer, Answer::Users(_)));
    assert!(refused(Way::File, one.as_der(), days(13)).contains("already used"), "its nonce is remembered");
    assert!(refused(Way::File, other.as_der(), days(14)).contains("until"));
}

#[test]
fn a_recovery_that_was_stated_by_file_is_delivered() {
    let office = Office::new();
    let by = office.administrator();
    let user = Person::new();
    user.enroll(&office, &office.letter_for(&by, "user@example.org"), now());
    let recover = Operation::Recover { email: "user@example.org".into(), lost: false, valid_for_seconds: None };
    office.state_by(Way::File, &by, recover, later(60)).unwrap();
    let letter = office.newest_letter("user@example.org");
    assert_eq!(letter.purpose(), crate::letter::Purpose::Recover);
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
    assert!(reason.contains("not an administrator"), "{reason}");
    office.state(&administrator, Operation::List, now()).unwrap();
    office.tamper(
        "UPDATE certificates SET user_id = (SELECT user_id FROM grants g JOIN users u ON u.id = g.user_id WHERE u.email LIKE 'admin%') WHERE kind = 'signing'",
    );
    let reason = office.state(&user, Operation::List, now()).unwrap_err();
    assert!(reason.contains("not an administrator"), "{reason}");
    office.tamper("UPDATE users SET email_key = 'x', email = 'x' WHERE email LIKE 'admin%'");
    office.state(&administrator, Operation::List, now()).unwrap_err();
}

#[test]
fn a_checkpoint_is_the_logs_and_the_log_is_whole() {
    let office = Office::new();
    let by = office.administrator();
    let authority = Fingerprint::of(office.authority().ca_certificate());
    let signed = by.sign(&office.statement(Way::Online, &by, Operation::List, [5; 16], now()), now());
    let checkpoint = office.post_statement(signed.as_der(), now()).checkpoint;
    let head = office.authority().store.audit_head().unwrap();
    assert_eq!((checkpoint.sequence, checkpoint.head), (head.number, head.hash));
    office.check_log();
    assert_eq!(checkpoint.key, office.authority().keys.audit.public_key_der());
    checkpoint.verify(authority).unwrap();
    assert!(checkpoint.verify(Fingerprint::of(b"another")).is_err());
}

/// Sends a statement that names this log position.
fn state_knowing(office: &Office, by: &Person, nonce: u8, known: Option<LogPosition>) -> Response {
    let statement = office.statement(Way::Online, by, issue("user@example.org", Some("User")), [nonce; 16], now());
    let signed = by.sign(&statement.knowing(known), now());
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
    assert!(matches!(second.answer, Answer::EncryptedLetter(_)), "{second:?}");

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
    // The nonce is still unused.
    assert_eq!(state_knowing(&office, &by, 3, Some(newest)).known_log, Some(LogVerdict::Continued));
    let newest = state_knowing(&office, &by, 4, None).checkpoint.position();
    office.tamper(&format!("DELETE FROM audit WHERE number = {}", newest.sequence));
    refused(&office, 5, newest);
    // The log grows beyond the known position again.
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
