//! Statements: authorization, results, and the verifiability of the log.

use serde_json::json;

use super::support::*;
use crate::authority::token_keys::MAC_COUNT;
use crate::authority::{UnsignedError, audit};
use crate::pki::Fingerprint;
use crate::statement::{AdminOperation, Statement, StatementAnswer, StatementChannel};

pub(super) fn issue(email: &str, name: Option<&str>) -> AdminOperation {
    AdminOperation::Issue { email: email.into(), name: name.map(Into::into), levels: None, valid_for_seconds: None }
}

fn show(email: &str) -> AdminOperation {
    AdminOperation::Show { email: email.into() }
}

#[test]
fn an_administrator_issues_lists_and_shows() {
    let fixture = AuthorityFixture::new();
    let administrator = fixture.administrator();
    let letter = fixture.letter_for(&administrator, "User@example.org");
    assert_eq!(letter.email, "User@example.org");
    assert_eq!(&letter.ca_fingerprint, Fingerprint::of(fixture.authority().ca_certificate()).as_bytes());
    assert_eq!(letter.http_url, "http://127.0.0.1:8829");

    let StatementAnswer::Users(users) =
        fixture.state(&administrator, AdminOperation::List { after: None, limit: None }, now()).unwrap()
    else {
        panic!()
    };
    assert_eq!(users.len(), 2);
    assert!(users[0].administrator && users[0].enrolled && users[0].letter_expires.is_none());
    assert!(!users[1].administrator && !users[1].enrolled && users[1].letter_expires.is_some());

    let show = AdminOperation::Show { email: "user@EXAMPLE.org".into() };
    let StatementAnswer::User(user) = fixture.state(&administrator, show, now()).unwrap() else { panic!() };
    assert_eq!((user.letters.len(), user.certificates.len(), user.archived_keys), (1, 0, 0));
    TestClient::new().enroll(&fixture, &letter, now());
    let show = AdminOperation::Show { email: "user@example.org".into() };
    let StatementAnswer::User(user) = fixture.state(&administrator, show, now()).unwrap() else { panic!() };
    assert_eq!((user.letters[0].state.as_str(), user.certificates.len(), user.archived_keys), ("used", 2, 1));
}

#[test]
fn the_list_is_paged_and_omits_records_with_a_broken_seal() {
    let mut fixture = AuthorityFixture::new();
    let administrator = fixture.administrator();
    for name in ["a", "b", "c", "d"] {
        fixture.letter_for(&administrator, &format!("{name}@example.org"));
    }
    let page = |fixture: &AuthorityFixture, after: Option<&str>, limit| {
        let operation = AdminOperation::List { after: after.map(Into::into), limit };
        let (users, next) = match fixture.state(&administrator, operation, now()).unwrap() {
            StatementAnswer::Users(users) => (users, None),
            StatementAnswer::UserPage { users, next } => (users, Some(next)),
            other => panic!("{other:?}"),
        };
        (users.into_iter().map(|user| user.email).collect::<Vec<_>>(), next)
    };
    let names = |names: &[&str]| names.iter().map(|name| format!("{name}@example.org")).collect::<Vec<_>>();
    assert_eq!(page(&fixture, None, Some(2)), (names(&["a", "admin"]), Some(ADMINISTRATOR.to_owned())));
    assert_eq!(
        page(&fixture, Some("Admin@example.org"), Some(2)),
        (names(&["b", "c"]), Some("c@example.org".to_owned()))
    );
    assert_eq!(page(&fixture, Some("c@example.org"), Some(2)), (names(&["d"]), None));
    assert_eq!(page(&fixture, None, None), (names(&["a", "admin", "b", "c", "d"]), None));

    fixture.tamper(
        "UPDATE users SET name = 'Mallory' WHERE email LIKE 'b@%'; \
         UPDATE temporary_keys SET expires_at = expires_at + 1 \
         WHERE user_id = (SELECT id FROM users WHERE email LIKE 'c@%'); \
         INSERT INTO grants SELECT id, 'administrator', 0, (SELECT mac FROM grants) FROM users WHERE email LIKE 'd@%'; \
         UPDATE certificates SET user_id = (SELECT id FROM users WHERE email LIKE 'd@%') WHERE kind = 'encryption'",
    );
    assert_eq!(page(&fixture, None, None), (names(&["a", "admin", "c", "d"]), None));
    let user = |email: &str| match fixture.state(&administrator, show(email), now()).unwrap() {
        StatementAnswer::User(user) => user,
        other => panic!("{other:?}"),
    };
    assert!(user("c@example.org").letters.is_empty());
    let shown = user("d@example.org");
    assert!(!shown.administrator && shown.certificates.is_empty() && shown.archived_keys == 0, "{shown:?}");
    assert!(fixture.state(&administrator, show("b@example.org"), now()).is_err());
}

#[test]
fn a_known_user_is_not_renamed_in_passing() {
    let fixture = AuthorityFixture::new();
    let administrator = fixture.administrator();
    fixture.state(&administrator, issue("user@example.org", Some("Old Name")), now()).unwrap();
    let refused = fixture.state(&administrator, issue("USER@example.org", Some("New Name")), now()).unwrap_err();
    assert!(refused.contains("\"Old Name\"") && refused.contains("--name"), "{refused}");
    let StatementAnswer::User(user) = fixture.state(&administrator, show("user@example.org"), now()).unwrap() else {
        panic!()
    };
    assert_eq!((user.name.as_str(), user.letters.len()), ("Old Name", 1), "the refused letter voids nothing");
    assert_eq!(user.letters[0].state, "unused");
    for name in [None, Some("Old Name"), Some(" Old Name ")] {
        let answer = fixture.state(&administrator, issue("user@example.org", name), now()).unwrap();
        let letter = administrator.letter_in(answer);
        assert_eq!(letter.user_name, "Old Name");
    }
    // The first administrator has only an address, and gets a name once.
    let answer = fixture.state(&administrator, issue(ADMINISTRATOR, Some("A Name")), now()).unwrap();
    let letter = administrator.letter_in(answer);
    assert_eq!(letter.user_name, "A Name");
    assert!(
        fixture.state(&administrator, issue(ADMINISTRATOR, Some("Another")), now()).unwrap_err().contains("A Name")
    );
}

#[test]
fn an_impossible_operation_is_refused_with_the_reason() {
    let fixture = AuthorityFixture::new();
    let administrator = fixture.administrator();
    let recover = |email: &str| AdminOperation::Recover { email: email.into(), lost: false, valid_for_seconds: None };
    fixture.letter_for(&administrator, "new@example.org");
    let long = AdminOperation::Issue {
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
        (AdminOperation::Show { email: "nobody@example.org".into() }, "user nobody@example.org not found"),
        (long, "at most a year"),
    ] {
        let reason = fixture.state(&administrator, operation, now()).unwrap_err();
        assert!(reason.contains(word), "{reason}");
    }
}

#[test]
fn only_a_current_administrator_is_accepted() {
    let fixture = AuthorityFixture::new();
    let administrator = fixture.administrator();
    let user = TestClient::new();
    user.enroll(&fixture, &fixture.letter_for(&administrator, "user@example.org"), now());
    let of_user = fixture.state(&user, AdminOperation::List { after: None, limit: None }, now()).unwrap_err();

    let again = fixture.letter_for(&administrator, ADMINISTRATOR);
    let new = TestClient::new();
    new.enroll(&fixture, &again, now());
    let of_old = fixture.state(&administrator, AdminOperation::List { after: None, limit: None }, now()).unwrap_err();
    assert_eq!(of_user, of_old, "the same refusal for everyone who is not an administrator");
    fixture.state(&new, AdminOperation::List { after: None, limit: None }, now()).unwrap();
}

#[test]
fn a_statement_is_accepted_once_by_one_authority_for_minutes() {
    let fixture = AuthorityFixture::new();
    let by = fixture.administrator();
    let sign = |authority| {
        let own =
            fixture.statement(StatementChannel::Online, &by, issue("user@example.org", Some("User")), [5; 16], now());
        by.sign(&Statement { authority, ..own }, now())
    };
    let own = sign(Fingerprint::of(fixture.authority().ca_certificate()));
    let foreign = sign(Fingerprint::of(b"another"));
    let refused = |der: &[u8], at| fixture.answer_of(StatementChannel::Online, der, at).unwrap_err();
    assert!(refused(foreign.as_der(), now()).contains("another authority"));
    assert!(refused(own.as_der(), later(16)).contains("until"));
    assert!(refused(b"no statement", now()).contains("cannot"));
    assert!(matches!(fixture.post_statement(own.as_der(), now()).answer, StatementAnswer::EncryptedLetter(_)));
    assert!(refused(own.as_der(), now()).contains("already used"));
}

#[test]
fn a_statement_of_a_stranger_costs_no_token_operation() {
    let fixture = AuthorityFixture::new();
    let by = fixture.administrator();
    let statement = fixture.statement(
        StatementChannel::Online,
        &by,
        AdminOperation::List { after: None, limit: None },
        [5; 16],
        now(),
    );
    let signed = statement.sign(&by.enrollment.signer(by.signing_key()), &by.certificate(), now()).unwrap();
    let mut changed = signed.as_der().to_vec();
    *changed.last_mut().unwrap() ^= 1;
    // The administrator of another authority: a valid signature under a foreign certificate.
    let other_authority = AuthorityFixture::new();
    let stranger = other_authority.administrator();
    let foreign = statement.sign(&stranger.enrollment.signer(stranger.signing_key()), &stranger.certificate(), now());
    for message in [b"hello", &changed[..], foreign.unwrap().as_der()] {
        let before = MAC_COUNT.get();
        let answer = fixture.authority().answer_statement(message, StatementChannel::Online, now());
        assert!(matches!(answer, Err(UnsignedError::Unverified(_))), "{answer:?}");
        assert_eq!(MAC_COUNT.get(), before);
    }
    fixture.post_statement(signed.as_der(), now());
}

#[test]
fn a_letter_is_encrypted_to_the_certificate_in_the_statement() {
    let fixture = AuthorityFixture::new();
    let by = fixture.administrator();
    for (channel, at) in [(StatementChannel::Online, now()), (StatementChannel::File, later(7 * 24 * 60))] {
        let answer = fixture.state_by(channel, &by, issue("user@example.org", Some("User")), at).unwrap();
        let StatementAnswer::EncryptedLetter(cms) = &answer else { panic!("{answer:?}") };
        assert!(!cms.windows(9).any(|window| window == b"Reference"));
        assert_eq!(by.letter_in(answer).reference, fixture.newest_letter("user@example.org").reference);
        let list = fixture.state_by(channel, &by, AdminOperation::List { after: None, limit: None }, at).unwrap();
        assert!(matches!(list, StatementAnswer::Users(_)), "{list:?}");
    }
}

#[test]
fn a_letter_is_encrypted_only_to_a_current_own_certificate() {
    let mut fixture = AuthorityFixture::new();
    let by = fixture.administrator();
    let user = TestClient::new();
    user.enroll(&fixture, &fixture.letter_for(&by, "user@example.org"), now());
    let earlier = fixture.letter_for(&by, "other@example.org");
    let refused = |fixture: &AuthorityFixture, reader: Fingerprint, nonce: u8| {
        let operation = issue("other@example.org", None);
        let statement = fixture.statement(StatementChannel::Online, &by, operation, [nonce; 16], now());
        match fixture
            .post_statement(by.sign(&statement.with_encryption_certificate(Some(reader)), now()).as_der(), now())
            .answer
        {
            StatementAnswer::Refused(reason) => {
                assert!(reason.contains("not a current encryption certificate"), "{reason}");
            }
            other => panic!("{other:?}"),
        }
    };
    refused(&fixture, user.encryption_certificate().fingerprint(), 1);
    refused(&fixture, by.certificate().fingerprint(), 2);
    refused(&fixture, Fingerprint::of(b"unknown"), 3);
    // Another user's row, assigned to the administrator: the CA's signature names the owner.
    fixture.tamper(
        "UPDATE certificates SET user_id = (SELECT user_id FROM grants) WHERE kind = 'encryption' AND user_id IN \
         (SELECT id FROM users WHERE email = 'user@example.org')",
    );
    refused(&fixture, user.encryption_certificate().fingerprint(), 4);
    TestClient::new().enroll(&fixture, &earlier, now());
    // No row ends a certificate that is current according to the log.
    fixture.tamper("UPDATE certificates SET state = 'superseded' WHERE kind = 'encryption'");
    fixture.state(&by, issue("other@example.org", None), now()).unwrap();
}

#[test]
fn a_used_statement_without_its_row_stays_used() {
    let fixture = AuthorityFixture::new();
    let by = fixture.administrator();
    let letters = |fixture: &AuthorityFixture| {
        let user = fixture.authority().records.store.user_by_email("user@example.org").unwrap().unwrap();
        fixture.authority().records.store.temporary_keys_of(&user.id).unwrap().len()
    };
    let statement =
        fixture.statement(StatementChannel::Online, &by, issue("user@example.org", Some("User")), [1; 16], now());
    let signed = by.sign(&statement, now());
    assert!(matches!(fixture.post_statement(signed.as_der(), now()).answer, StatementAnswer::EncryptedLetter(_)));
    let refused = |der: &[u8]| match fixture.post_statement(der, now()).answer {
        StatementAnswer::Refused(reason) => reason,
        other => panic!("{other:?}"),
    };
    // Another statement with a used nonce is refused.
    let other = fixture.statement(StatementChannel::Online, &by, show("user@example.org"), [1; 16], now());
    assert!(refused(by.sign(&other, now()).as_der()).contains("already used"));
    fixture.forget_statements();
    assert!(refused(signed.as_der()).contains("already used"));
    // A second signature does not make a new statement.
    assert!(refused(by.sign(&statement, now()).as_der()).contains("already used"));
    assert_eq!(letters(&fixture), 1);
}

#[test]
fn a_statement_is_for_the_run_of_the_authority_that_it_names() {
    let mut fixture = AuthorityFixture::new();
    let by = fixture.administrator();
    let statement = fixture.statement(
        StatementChannel::Online,
        &by,
        AdminOperation::List { after: None, limit: None },
        [1; 16],
        now(),
    );
    let signed = by.sign(&statement, now());
    fixture.tamper("SELECT 1");
    let before = fixture.authority().records.store.audit_head().unwrap();
    let StatementAnswer::Refused(reason) = fixture.post_statement(signed.as_der(), now()).answer else {
        panic!("taken")
    };
    assert!(reason.contains("restarted") && reason.contains("again"), "{reason}");
    assert_eq!(fixture.authority().records.store.audit_head().unwrap(), before);
    fixture.state(&by, AdminOperation::List { after: None, limit: None }, now()).unwrap();
}

#[test]
fn its_administrator_can_fetch_a_letter_until_used_or_expired() {
    let mut fixture = AuthorityFixture::new();
    let by = fixture.administrator();
    let letter = |which: &str| AdminOperation::Letter { letter: which.to_owned() };
    let ordered = fixture.letter_for(&by, "user@example.org");
    for which in ["user@example.org", ordered.reference.as_str()] {
        let again = by.letter_in(fixture.state(&by, letter(which), now()).unwrap());
        assert_eq!(again.to_text(), ordered.to_text());
    }
    let minutes = 14 * 24 * 60;
    assert!(
        fixture.state(&by, letter("user@example.org"), later(minutes + 1)).unwrap_err().contains("no unused letter")
    );
    assert!(
        fixture.state(&by, letter(ordered.reference.as_str()), later(minutes + 1)).unwrap_err().contains("expired")
    );
    for (which, why) in
        [("nobody@example.org", "user nobody@example.org not found"), ("E000000000", "letter E000000000 not found")]
    {
        assert!(fixture.state(&by, letter(which), now()).unwrap_err().contains(why));
    }

    // Another administrator does not get it, even if the rows name them.
    let other = TestClient::new();
    other.enroll(&fixture, &fixture.letter_for(&by, "other@example.org"), now());
    let user = fixture.authority().records.store.user_by_email("other@example.org").unwrap().unwrap();
    let mut grant = crate::store::GrantRecord {
        user_id: user.id.clone(),
        role: crate::store::Role::Administrator,
        granted_at: now(),
        counts_from: None,
        mac: [0; 32],
    };
    grant.mac = fixture.authority().records.sealer.seal_grant(&grant, &user).unwrap();
    fixture.tamper(&format!(
        "INSERT INTO grants VALUES ('{}', 'administrator', {}, X'{}')",
        user.id,
        grant.granted_at.as_second(),
        hex::encode(grant.mac)
    ));
    // A role that the log does not record is not valid, even with a valid seal.
    assert!(fixture.state(&other, letter("user@example.org"), now()).unwrap_err().contains("not an administrator"));
    let detail = json!({ "user": user.id, "role": "administrator" });
    fixture.authority().records.store.record(audit::entry(now(), "role.granted", &detail)).unwrap();
    let refused = fixture.state(&other, letter("user@example.org"), now()).unwrap_err();
    assert!(refused.contains("another administrator"), "{refused}");
    fixture.tamper(&format!("UPDATE statements SET administrator = '{}' WHERE operation = 'issue'", user.id));
    assert!(fixture.state(&other, letter("user@example.org"), now()).is_err());
    fixture.tamper("UPDATE statements SET administrator = (SELECT id FROM users WHERE email LIKE 'admin%')");

    // A used letter cannot be fetched.
    TestClient::new().enroll(&fixture, &ordered, now());
    assert!(fixture.state(&by, letter(ordered.reference.as_str()), now()).unwrap_err().contains("used"));
    assert!(fixture.state(&by, letter("user@example.org"), now()).unwrap_err().contains("no unused letter"));
    // The first administrator's cannot be fetched either, whatever its row says.
    fixture.tamper("UPDATE temporary_keys SET state = 'unused' WHERE statement IS NULL");
    assert!(fixture.state(&by, letter(ADMINISTRATOR), now()).unwrap_err().contains("no unused letter"));
    // An unused letter that no statement ordered cannot be fetched either.
    fixture.authority().add_administrator("new@example.org", Some("New Administrator"), now()).unwrap();
    assert!(fixture.state(&by, letter("new@example.org"), now()).unwrap_err().contains("no administrator ordered"));
}

#[test]
fn by_file_a_statement_counts_once_in_14_days_and_never_online() {
    let fixture = AuthorityFixture::new();
    let by = fixture.administrator();
    let authority = Fingerprint::of(fixture.authority().ca_certificate());
    let sign = |nonce| {
        by.sign(
            &Statement::for_file(authority, AdminOperation::List { after: None, limit: None }, [nonce; 16], now()),
            now(),
        )
    };
    let refused = |channel, der: &[u8], at| fixture.answer_of(channel, der, at).unwrap_err();
    let (one, other) = (sign(1), sign(2));
    assert!(refused(StatementChannel::Online, one.as_der(), now()).contains("authority answer"));
    let days = |days: i64| later(days * 24 * 60);
    assert!(matches!(
        fixture.post_statement_by(StatementChannel::File, one.as_der(), days(1)).answer,
        StatementAnswer::Users(_)
    ));
    assert!(
        refused(StatementChannel::File, one.as_der(), days(13)).contains("already used"),
        "its nonce is remembered"
    );
    assert!(refused(StatementChannel::File, other.as_der(), days(14)).contains("until"));
}

#[test]
fn a_recovery_that_was_stated_by_file_is_delivered() {
    let fixture = AuthorityFixture::new();
    let by = fixture.administrator();
    let user = TestClient::new();
    user.enroll(&fixture, &fixture.letter_for(&by, "user@example.org"), now());
    let recover = AdminOperation::Recover { email: "user@example.org".into(), lost: false, valid_for_seconds: None };
    fixture.state_by(StatementChannel::File, &by, recover, later(60)).unwrap();
    let letter = fixture.newest_letter("user@example.org");
    assert_eq!(letter.purpose(), crate::letter::LetterPurpose::Recover);
    assert_eq!(TestClient::new().enroll(&fixture, &letter, later(120)).len(), 1);
}

#[test]
fn a_role_or_a_user_made_in_the_database_is_worth_nothing() {
    let mut fixture = AuthorityFixture::new();
    let administrator = fixture.administrator();
    let user = TestClient::new();
    user.enroll(&fixture, &fixture.letter_for(&administrator, "user@example.org"), now());
    fixture.tamper(
        "INSERT INTO grants SELECT id, 'administrator', 0, (SELECT mac FROM grants) FROM users \
         WHERE email LIKE 'user%'",
    );
    let reason = fixture.state(&user, AdminOperation::List { after: None, limit: None }, now()).unwrap_err();
    assert!(reason.contains("not an administrator"), "{reason}");
    fixture.state(&administrator, AdminOperation::List { after: None, limit: None }, now()).unwrap();
    fixture.tamper(
        "UPDATE certificates SET user_id = (SELECT user_id FROM grants g JOIN users u ON u.id = g.user_id \
         WHERE u.email LIKE 'admin%') WHERE kind = 'signing'",
    );
    let reason = fixture.state(&user, AdminOperation::List { after: None, limit: None }, now()).unwrap_err();
    assert!(reason.contains("not an administrator"), "{reason}");
    fixture.tamper("UPDATE users SET email_key = 'x', email = 'x' WHERE email LIKE 'admin%'");
    fixture.state(&administrator, AdminOperation::List { after: None, limit: None }, now()).unwrap_err();
}
