//! A statement is an administrator's order: signed as a statement and as nothing else, accepted
//! once, while it is valid, by the authority that it names. A row in the database alone makes
//! nobody an administrator.

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use tokenkeep::pki::oid::ContentType;
use tokenkeep::pki::{Certificate, Fingerprint};
use tokenkeep::smime::{self, Placement, SigningOptions};
use tokenkeep::statement::{AdminOperation, SignedResponse, SignedStatement, StatementAnswer};
use tokenkeep::transport::Transport;

use crate::support::deployment::Deployment;
use crate::support::envelopes::signed_data_variants;
use crate::support::shared_authority::end_with_test_run;

mod fixture;

use fixture::{ADMINISTRATOR, Content, Fixture, ORDINARY_USER, issue, recover, run_as_signer};

#[test]
fn a_statement_signed_through_sign_is_refused() {
    if run_as_signer() {
        return;
    }
    let fixture = Fixture::get();
    let statement = fixture.statement(issue("signed-through-sign@example.org"));
    let machine = &fixture.deployment.machine;
    // If an administrator signs this text as a mail, the result is no statement.
    machine.write("statement.json", statement.to_string());
    for more in [&[][..], &["--detached"]] {
        let line = ["sign", "--keyset", "admin", "--pin-source", "file:admin.pin", "--in", "statement.json"];
        fixture.deployment.tokenkeep(&[&line[..], &["--out", "signed.p7m"], more].concat()).ok();
        fixture.expect_refused(&machine.read("signed.p7m"), "signed as data, not as a statement");
    }
    // No option selects another type, and the module that signs mail refuses the type.
    for option in ["--content-type", "--econtent-type", "--type", "--statement"] {
        let line = ["sign", "--keyset", "admin", "--pin-source", "file:admin.pin", "--in", "statement.json", option];
        fixture.deployment.tokenkeep(&[&line[..], &["statement"]].concat()).fails_with(2);
    }
    for content_type in [ContentType::STATEMENT, ContentType::STATEMENT_RESPONSE, ContentType::AUDIT_CHECKPOINT] {
        let signing = SigningOptions {
            content_type,
            placement: Placement::Attached,
            certificate: &fixture.ca,
            chain: &[],
            signing_time: Timestamp::now(),
        };
        let key = p256::ecdsa::SigningKey::from_slice(&[7; 32]).unwrap();
        let signed = smime::sign::<_, p256::ecdsa::DerSignature>(b"{}", &signing, &key);
        assert!(matches!(signed, Err(smime::SmimeError::ReservedContentType(_))), "{signed:?}");
    }

    // Only the type matters: the same text, signed as a statement, is accepted.
    let [mail, real] = fixture
        .sign_contents(
            "a_statement_signed_through_sign_is_refused",
            ADMINISTRATOR,
            &[(false, statement.to_string()), (true, statement.to_string())],
        )
        .try_into()
        .unwrap();
    fixture.expect_refused(&mail, "signed as data, not as a statement");
    fixture.expect_accepted(&real);
}

#[test]
fn only_an_administrators_statement_is_accepted() {
    const TEST: &str = "only_an_administrators_statement_is_accepted";
    if run_as_signer() {
        return;
    }
    let fixture = Fixture::get();
    let statement = fixture.statement(AdminOperation::List { after: None, limit: None });
    fixture.expect_refused(&fixture.sign_statement(TEST, ORDINARY_USER, &statement), "not an administrator");
    fixture.deployment.tokenkeep(&["admin", "list", "--keyset", "default", "--pin-source", "file:pin1"]).fails_with(5);
    // A refusal uses nothing up: the administrator's own statement with the same nonce is accepted.
    fixture.expect_accepted(&fixture.sign_statement(TEST, ADMINISTRATOR, &statement));
}

#[test]
fn a_statement_is_accepted_once() {
    const TEST: &str = "a_statement_is_accepted_once";
    if run_as_signer() {
        return;
    }
    let mut fixture = Fixture::get();
    let statement = fixture.statement(AdminOperation::List { after: None, limit: None });
    let mut of_its_nonce = fixture.statement(issue("replayed@example.org"));
    of_its_nonce["nonce"] = statement["nonce"].clone();
    let contents = [&statement, &of_its_nonce].map(|statement| (true, statement.to_string()));
    let [signed, other] = fixture.sign_contents(TEST, ADMINISTRATOR, &contents).try_into().unwrap();
    fixture.expect_accepted(&signed);
    fixture.expect_refused(&signed, "was already used");
    fixture.expect_refused(&other, "was already used");
    // Nor after its row is removed. Without the row the log names a missing statement, and the
    // authority does not start again.
    fixture.database("CREATE TABLE kept AS SELECT * FROM statements; DELETE FROM statements");
    fixture.expect_refused(&signed, "was already used");
    fixture.database("INSERT INTO statements SELECT * FROM kept");
    // Nor after a restart of the authority, which has another instance number then.
    let Fixture { deployment: Deployment { authority, machine }, .. } = &mut *fixture;
    authority.kill();
    authority.serve(machine);
    end_with_test_run(&fixture.deployment);
    for (how, again) in signed_data_variants(&signed) {
        fixture.assert_not_accepted(&again, how);
    }
    fixture.expect_refused(&signed, "restarted");
    fixture.expect_refused(&other, "restarted");
    let (before, unused) = (
        fixture.statement(AdminOperation::List { after: None, limit: None }),
        fixture.statement(AdminOperation::List { after: None, limit: None }),
    );
    let mut before = before;
    before["instance"] = json!("00112233445566778899aabbccddeeff");
    let contents = [before, unused].map(|statement| (true, statement.to_string()));
    let [before, unused] = fixture.sign_contents(TEST, ADMINISTRATOR, &contents).try_into().unwrap();
    fixture.expect_refused(&before, "run the command again");
    fixture.expect_accepted(&unused);
}

#[test]
fn only_its_administrator_reads_a_letter_over_the_network() {
    const TEST: &str = "only_its_administrator_reads_a_letter_over_the_network";
    if run_as_signer() {
        return;
    }
    let fixture = Fixture::get();
    // A person who posts another's statement gets nothing readable.
    let statement = fixture.statement(issue("posted@example.org"));
    let posted = fixture.sign_statement(TEST, ADMINISTRATOR, &statement);
    let response = fixture.transport.statement(&posted).unwrap();
    let letter = fixture.deployment.admin(&["letter", "posted@example.org", "--json"]).ok().json();
    for secret in ["temporary_key", "reference"] {
        let secret = letter[secret].as_str().unwrap().as_bytes();
        assert!(!response.windows(secret.len()).any(|window| window == secret));
    }
    let digest = SignedStatement::parse(&posted).unwrap().digest();
    let answer = SignedResponse::from_der(response).verify(&fixture.ca, digest, Timestamp::now()).unwrap().answer;
    let StatementAnswer::EncryptedLetter(cms) = answer else { panic!("{answer:?}") };
    let message = smime::EncryptedMessage::parse(&smime::Message::read(&cms).unwrap()).unwrap();
    assert_eq!(message.recipients().len(), 1);
    assert!(message.recipients()[0].is(&fixture.administrators_encryption_certificate()));
    // OpenSSL sees the same recipient, and the administrator's keyset decrypts it.
    fixture.deployment.machine.write("letter.p7m", &cms);
    let shown = ["cms", "-cmsout", "-print", "-inform", "DER", "-in", "letter.p7m"];
    fixture
        .deployment
        .machine
        .run("openssl", &shown, b"")
        .ok()
        .says("envelopedData")
        .does_not_say("posted@example.org");
    let line = ["decrypt", "--keyset", "admin", "--pin-source", "file:admin.pin", "--in", "letter.p7m", "--out", "-"];
    let opened = fixture.deployment.tokenkeep(&line).ok().out();
    assert!(opened.contains(letter["reference"].as_str().unwrap()), "{opened}");

    // The letter is not encrypted to another person's certificate, although an administrator signed
    // that.
    let mut altered = fixture.statement(issue("posted@example.org"));
    let users = Certificate::from_der(&fixture.transport.search_certificates("user@example.org").unwrap()[0]).unwrap();
    altered["encryption_certificate"] = json!(users.fingerprint());
    let altered = fixture.sign_statement(TEST, ADMINISTRATOR, &altered);
    fixture.expect_refused(&altered, "not a current encryption certificate");
}

#[test]
fn a_letter_is_fetched_again_until_it_is_used() {
    let fixture = Fixture::get();
    let deployment = &fixture.deployment;
    deployment.issue("fetched@example.org", "fetched.letter").ok();
    let reference = deployment.admin(&["letter", "fetched@example.org", "--json"]).ok().json()["reference"].clone();
    let reference = reference.as_str().unwrap();
    deployment.admin(&["letter", reference, "--letter-out", "again.letter"]).ok().says("again.letter");
    assert_eq!(deployment.machine.read("again.letter"), deployment.machine.read("fetched.letter"));
    deployment.admin(&["letter", "no reference"]).fails_with(2).says("admin show");
    deployment.admin(&["letter", "nobody@example.org"]).fails_with(5).says("user nobody@example.org not found");
    // As a file, too.
    deployment.admin(&["letter", reference, "--statement-out", "fetch.statement"]).ok();
    let line = ["authority", "answer", "--config", "authority.toml", "--pin-source", "file:no-such-file"];
    deployment.tokenkeep(&[&line[..], &["--in", "fetch.statement", "--out", "fetch.response"]].concat()).ok();
    let open = ["open", "fetch.response", "--statement", "fetch.statement", "--letter-out", "third.letter"];
    deployment.admin(&open).ok();
    assert_eq!(deployment.machine.read("third.letter"), deployment.machine.read("fetched.letter"));
    // A newer letter voids it.
    deployment.admin(&["issue", "fetched@example.org", "--letter-out", "newer.letter"]).ok();
    deployment.admin(&["letter", reference]).fails_with(5).says("voided");
}

#[test]
fn a_used_statement_stays_used_whatever_its_row_and_envelope() {
    const TEST: &str = "a_used_statement_stays_used_whatever_its_row_and_envelope";
    const LETTERS: &str = "SELECT count(*), sum(state = 'unused') FROM temporary_keys";
    if run_as_signer() {
        return;
    }
    let fixture = Fixture::get();
    let statements = [issue("twice@example.org"), recover("user@example.org")].map(|order| fixture.statement(order));
    let contents = statements.map(|statement| (true, statement.to_string()));
    for signed in fixture.sign_contents(TEST, ADMINISTRATOR, &contents) {
        fixture.expect_accepted(&signed);
        let before = fixture.query(LETTERS);
        fixture.database("CREATE TABLE apart AS SELECT * FROM statements; DELETE FROM statements");
        fixture.expect_refused(&signed, "was already used");
        for (how, other) in signed_data_variants(&signed) {
            fixture.assert_not_accepted(&other, how);
        }
        assert_eq!(fixture.query(LETTERS), before, "a letter was made, or voided");
        assert_eq!(
            fixture.query("SELECT count(*) FROM statements WHERE operation IN ('issue', 'recover')").trim(),
            "0"
        );
        // The authority that several tests share would not start again without them.
        fixture.database("INSERT OR REPLACE INTO statements SELECT * FROM apart; DROP TABLE apart");
    }
}

#[test]
fn a_statement_is_accepted_only_while_it_is_valid() {
    const TEST: &str = "a_statement_is_accepted_only_while_it_is_valid";
    if run_as_signer() {
        return;
    }
    let fixture = Fixture::get();
    let after = |minutes: i64| Timestamp::now() + SignedDuration::from_mins(minutes);
    let over = fixture.statement_at(AdminOperation::List { after: None, limit: None }, after(-11));
    let to_come = fixture.statement_at(AdminOperation::List { after: None, limit: None }, after(5));
    let begin = to_come["not_before"].as_str().unwrap().chars().take("2026-12-01T12:00:00".len()).collect::<String>();
    let mut long = fixture.statement(AdminOperation::List { after: None, limit: None });
    long["not_after"] = json!(after(13).to_string());
    let mut just = fixture.statement(AdminOperation::List { after: None, limit: None });
    just["not_after"] = json!(after(11).to_string());
    let statements = [over, to_come, long, just].map(|statement| (true, statement.to_string()));
    let [over, to_come, long, just] = fixture.sign_contents(TEST, ADMINISTRATOR, &statements).try_into().unwrap();
    fixture.expect_refused(&over, "it was valid until");
    fixture.expect_refused(&to_come, &format!("it is not valid before {begin}Z; compare the clocks"));
    fixture.expect_refused(&long, "longer than 15 minutes");
    fixture.expect_accepted(&just);
}

#[test]
fn a_statement_is_accepted_only_by_the_authority_it_names() {
    const TEST: &str = "a_statement_is_accepted_only_by_the_authority_it_names";
    if run_as_signer() {
        return;
    }
    let fixture = Fixture::get();
    let mut altered = fixture.statement(AdminOperation::List { after: None, limit: None });
    altered["authority"] = json!(Fingerprint::from_bytes([7; 32]));
    fixture.expect_refused(&fixture.sign_statement(TEST, ADMINISTRATOR, &altered), "another authority");
}

#[test]
fn repeated_and_unknown_members_of_a_statement_are_refused() {
    const TEST: &str = "repeated_and_unknown_members_of_a_statement_are_refused";
    if run_as_signer() {
        return;
    }
    let fixture = Fixture::get();
    let good = fixture.statement(issue("one@example.org")).to_string();
    let target = r#""target":"one@example.org""#;
    let wrong = [
        (target, r#""target":"two@example.org","target":"one@example.org""#, "duplicate field"),
        (target, r#""target":"one@example.org","approved":true"#, "unknown field"),
        (r#""name":"#, r#""name":"Example, Two","name":"#, "duplicate field"),
        (r#""name":"#, r#""administrator":true,"name":"#, "unknown field"),
        (r#""operation":"issue""#, r#""operation":"appoint""#, "unknown operation"),
        (r#""version":3"#, r#""version":4"#, "version"),
        (r#","instance":"#, r#","instance":null,"instance":"#, "invalid type"),
        (r#","encryption_certificate":"#, r#","encryption":"#, "unknown field"),
    ];
    let mut contents: Vec<Content> = Vec::new();
    for (old, new, _) in wrong {
        assert_eq!(good.matches(old).count(), 1, "{old} in {good}");
        contents.push((true, good.replace(old, new)));
    }
    contents.push((true, format!("{good} {good}")));
    contents.push((true, good));
    let mut signed = fixture.sign_contents(TEST, ADMINISTRATOR, &contents);
    let good = signed.pop().unwrap();
    fixture.expect_refused(&signed.pop().unwrap(), "invalid form");
    for (signed, (_, new, reason)) in signed.iter().zip(wrong) {
        let StatementAnswer::Refused(text) = fixture.send(signed) else { panic!("taken: {new}") };
        assert!(text.contains("invalid form") && text.contains(reason), "{new}: {text}");
    }
    fixture.expect_accepted(&good);
}

#[test]
fn an_administrator_row_forged_in_the_database_has_no_effect() {
    const TEST: &str = "an_administrator_row_forged_in_the_database_has_no_effect";
    const USER: &str = "(SELECT id FROM users WHERE email = 'user@example.org')";
    const ADMIN: &str = "(SELECT id FROM users WHERE email = 'admin@example.org')";
    if run_as_signer() {
        return;
    }
    let fixture = Fixture::get();
    let contents: Vec<Content> =
        (0..6).map(|_| (true, fixture.statement(issue("not-believed@example.org")).to_string())).collect();
    let mut statements = fixture.sign_contents(TEST, ORDINARY_USER, &contents).into_iter();
    let mut not_believed = |how: &str| {
        let answer = fixture.send(&statements.next().unwrap());
        assert!(matches!(answer, StatementAnswer::Refused(_)), "{how}: {answer:?}");
    };
    not_believed("as it is");

    // A role with a MAC of zeros, a role with the administrator's MAC, and the administrator's row
    // moved to another user.
    for seal in ["zeroblob(32)".to_owned(), format!("(SELECT mac FROM grants WHERE user_id = {ADMIN})")] {
        fixture.database(&format!(
            "INSERT INTO grants (user_id, role, granted_at, mac)
             SELECT {USER}, role, granted_at, {seal} FROM grants WHERE user_id = {ADMIN}"
        ));
        not_believed(&seal);
        fixture.database(&format!("DELETE FROM grants WHERE user_id = {USER}"));
    }
    fixture.database(&format!("UPDATE grants SET user_id = {USER} WHERE user_id = {ADMIN}"));
    not_believed("the row moved");
    fixture.database(&format!("UPDATE grants SET user_id = {ADMIN} WHERE user_id = {USER}"));

    // The user's certificate assigned to the administrator, and the user renamed to the
    // administrator.
    fixture.database(&format!(
        "CREATE TABLE moved AS SELECT serial FROM certificates WHERE user_id = {USER} AND kind = 'signing';
         UPDATE certificates SET user_id = {ADMIN} WHERE serial IN (SELECT serial FROM moved)"
    ));
    not_believed("the certificate moved");
    fixture.database(
        "UPDATE users SET email = 'nobody@example.org', email_key = 'nobody@example.org'
         WHERE email = 'admin@example.org';
         UPDATE users SET email = 'admin@example.org', email_key = 'admin@example.org'
         WHERE email = 'user@example.org'",
    );
    not_believed("the name moved");
    fixture.database(
        "UPDATE users SET email = 'user@example.org', email_key = 'user@example.org' WHERE email = 'admin@example.org';
         UPDATE users SET email = 'admin@example.org', email_key = 'admin@example.org'
         WHERE email = 'nobody@example.org'",
    );
    fixture.database(&format!(
        "UPDATE certificates SET user_id = {USER} WHERE serial IN (SELECT serial FROM moved);
         DROP TABLE moved"
    ));

    // Everything is restored, and the administrator is accepted.
    let statement = fixture.statement(AdminOperation::List { after: None, limit: None });
    fixture.expect_accepted(&fixture.sign_statement(TEST, ADMINISTRATOR, &statement));
}
