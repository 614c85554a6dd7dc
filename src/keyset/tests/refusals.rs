//! Refusals: by a rule before any PIN prompt, by the PIN before anything is sent, by the letter
//! before anything is created.

use super::authority_double::unreachable;
use super::*;
use crate::keyset::signing::refuse_expired_administrator;
use crate::letter::TemporaryKey;

/// Requires a refusal before any prompt and before anything was sent.
#[track_caller]
fn at_once(
    double: &AuthorityDouble,
    wallet: &Wallet,
    letter: &Letter,
    options: &EnrollOptions,
    kind: ErrorKind,
) -> String {
    let mut nobody = Script::without(NoPin::Cancelled);
    let not = not_enrolled(run(double, wallet, letter, options, &mut nobody));
    assert!(nobody.asked.is_empty(), "a PIN was asked: {not}");
    assert!(double.seen().is_empty(), "something was sent: {not}");
    assert_eq!(not.kind(), kind, "{not}");
    not.to_string()
}

#[test]
fn rules_are_reported_before_any_prompt_for_a_pin() {
    let double = AuthorityDouble::new();
    let wallet = somebody(&double);
    let letter = double.letter(LetterPurpose::Enroll);

    let text = at_once(&double, &wallet, &letter, &wallet.on_new_token("a"), ErrorKind::Refused);
    assert!(text.contains("taken") && text.contains("--new-token"), "{text}");
    let recovery = double.letter(LetterPurpose::Recover);
    at_once(&double, &wallet, &recovery, &wallet.again("a"), ErrorKind::Refused);
    let low = EnrollOptions { level: Some(SecurityLevel::Low), ..wallet.again("a") };
    let text = at_once(&double, &wallet, &letter, &low, ErrorKind::Refused);
    assert!(text.contains("high, medium"), "{text}");
    let medium = EnrollOptions { level: Some(SecurityLevel::Medium), ..wallet.again("a") };
    at_once(&double, &wallet, &letter, &medium, ErrorKind::Refused);
    let text = at_once(&double, &wallet, &letter, &wallet.again("z"), ErrorKind::Absent);
    assert!(text.contains("--new-token") && text.contains(wallet.name("a").as_str()), "{text}");
    let nowhere = EnrollOptions { token: Some("nowhere".parse().unwrap()), ..wallet.again("z") };
    at_once(&double, &wallet, &letter, &nowhere, ErrorKind::Absent);
    let remote = Letter { ca_fingerprint: [7; 32], ..letter.clone() };
    let text = at_once(&double, &wallet, &remote, &wallet.again("a"), ErrorKind::Refused);
    assert!(text.contains("another authority"), "{text}");

    // The letter was not used up.
    enrolled(run(&double, &wallet, &letter, &wallet.again("a"), &mut Script::with(PIN)));
}

#[test]
fn another_persons_letter_replaces_no_keyset() {
    let double = AuthorityDouble::new();
    let wallet = somebody(&double);
    let other = Letter { email: "other@example.org".into(), ..double.letter(LetterPurpose::Enroll) };
    let text = at_once(&double, &wallet, &other, &wallet.again("a"), ErrorKind::Refused);
    for part in ["it belongs to Example, User <user@example.org>", "<other@example.org>", "--replace-person"] {
        assert!(text.contains(part), "{text}");
    }
    // A different name or letter case is still the same person.
    let renamed = Letter {
        user_name: "Renamed".into(),
        email: "User@Example.ORG".into(),
        ..double.letter(LetterPurpose::Enroll)
    };
    enrolled(run(&double, &wallet, &renamed, &wallet.again("a"), &mut Script::with(PIN)));
}

#[test]
fn a_forged_index_does_not_admit_another_person() {
    let double = AuthorityDouble::new();
    let wallet = somebody(&double);
    let token = wallet.keyset("a").token;
    // Without the PIN, delete the certificates, so that the holder is unknown.
    let public = index::public_indexes(&wallet.tokens.open(&token).unwrap()).unwrap().0.remove(0);
    let mut value = serde_json::to_value(&public).unwrap();
    value["revision"] = 1_000.into();
    value["keyset"]["keys"]["signing"] = "00".into();
    value["keyset"]["keys"]["encryption"] = serde_json::json!([]);
    let pin_session = wallet.tokens.open(&token).unwrap().unlock(pin(PIN)).unwrap();
    let bytes = serde_json::to_vec(&value).unwrap();
    pin_session.token().put_data(index::APPLICATION, wallet.name("a").as_str(), &bytes, false).unwrap();
    drop(pin_session);
    double.seen();
    let other = Letter { email: "other@example.org".into(), ..double.letter(LetterPurpose::Enroll) };
    let not = not_enrolled(run(&double, &wallet, &other, &wallet.again("a"), &mut Script::with(PIN)));
    assert!(
        matches!(not.reason, NotEnrolledReason::Refused(_)) && not.to_string().contains("--replace-person"),
        "{not}"
    );
    assert!(double.seen().is_empty(), "{not}");
}

#[test]
fn keys_without_a_readable_certificate_are_not_replaced() {
    let double = AuthorityDouble::new();
    let wallet = somebody(&double);
    let found = wallet.keyset("a");
    let pin_session = wallet.tokens.open(&found.token).unwrap().unlock(pin(PIN)).unwrap();
    for id in found.signing.iter().chain(&found.encryption) {
        pin_session.token().delete_certificate(found.certificate_of(id).unwrap()).unwrap();
    }
    drop(pin_session);
    double.seen();
    for email in ["other@example.org", "user@example.org"] {
        let letter = Letter { email: email.into(), ..double.letter(LetterPurpose::Enroll) };
        let not = not_enrolled(run(&double, &wallet, &letter, &wallet.again("a"), &mut Script::with(PIN)));
        let text = not.to_string();
        assert!(text.contains("its holder is unknown") && text.contains("--replace-person"), "{text}");
        assert!(double.seen().is_empty(), "{text}");
    }
    let options = EnrollOptions { replace_person: true, ..wallet.again("a") };
    enrolled(run(&double, &wallet, &double.letter(LetterPurpose::Enroll), &options, &mut Script::with(PIN)));
}

#[test]
fn a_clock_outside_a_certificates_time_is_named_before_any_pin() {
    let double = AuthorityDouble::new();
    let wallet = somebody(&double);
    let keyset = wallet.keyset("a");
    let hours = jiff::SignedDuration::from_hours;
    let sign = |at| {
        let mut nobody = Script::without(NoPin::Cancelled);
        let error = sign(&wallet.tokens, &keyset, b"content", Placement::Attached, &mut nobody, at).unwrap_err();
        assert!(nobody.asked.is_empty() && error.kind() == ErrorKind::Refused, "{error}");
        error.to_string()
    };
    let early = sign(Timestamp::UNIX_EPOCH);
    assert!(early.contains("clock, which may be wrong, says ") && early.ends_with("set the clock first"), "{early}");
    let late = sign(Timestamp::now() + hours(24 * 365 * 40));
    assert!(
        late.contains("may be wrong") && late.ends_with("if that clock is right, ask an administrator for a letter")
    );
    let late = refuse_expired_administrator(&keyset, Timestamp::now() + hours(24 * 365 * 40)).unwrap_err().to_string();
    assert!(late.contains("tokenkeep authority administrator add"), "{late}");
}

#[test]
fn a_token_with_foreign_objects_is_not_resumed() {
    let double = AuthorityDouble::new();
    let wallet = Wallet::new();
    let own = wallet.token("own");
    let pin_session = wallet.tokens.open(&own).unwrap().unlock(pin(PIN)).unwrap();
    pin_session.token().put_data("somebody", "something", b"own", false).unwrap();
    drop(pin_session);
    let letter = double.letter(LetterPurpose::Enroll);
    let text = at_once(&double, &wallet, &letter, &wallet.on_new_token("own"), ErrorKind::Refused);
    assert!(text.contains(&own.serial), "{text}");
}

#[test]
fn without_the_right_pin_nothing_is_sent_and_all_is_as_before() {
    let double = AuthorityDouble::new();
    let wallet = somebody(&double);
    let letter = double.letter(LetterPurpose::Enroll);
    let before = wallet.inventory(&wallet.keyset("a").token, PIN);
    let unavailable = NoPin::Unavailable("no terminal".into());
    for mut script in [
        Script::without(NoPin::Cancelled),
        Script::without(unavailable),
        Script::without(NoPin::LastTry),
        Script::with("00000000"),
    ] {
        let not = not_enrolled(run(&double, &wallet, &letter, &wallet.again("a"), &mut script));
        assert_eq!((not.kind(), script.asked.len()), (ErrorKind::Pin, 1), "{not}");
        let text = not.to_string();
        assert!(text.starts_with("not re-enrolled: ") && text.contains("nothing was sent"), "{text}");
        assert!(double.seen().is_empty(), "something was sent");
    }
    assert_eq!(wallet.inventory(&wallet.keyset("a").token, PIN), before);
    enrolled(run(&double, &wallet, &letter, &wallet.again("a"), &mut Script::with(PIN)));
}

/// Requires a refusal of the letter: one prompt, and nothing created.
#[track_caller]
fn by_the_letter(double: &AuthorityDouble, wallet: &Wallet, letter: &Letter, kind: ErrorKind) -> String {
    let labels = wallet.labels();
    let not = not_enrolled(run(double, wallet, letter, &wallet.on_new_token("n"), &mut Script::with(PIN)));
    assert_eq!(not.kind(), kind, "{not}");
    assert_eq!(double.seen(), ["genm"], "{not}");
    assert_eq!(wallet.labels(), labels, "a token was made");
    not.to_string()
}

#[test]
fn nothing_is_made_until_the_letter_is_known_to_be_good() {
    let double = AuthorityDouble::new();
    let wallet = Wallet::new();
    let letter = double.letter(LetterPurpose::Enroll);

    double.bend(|_, _, _| Err(unreachable()));
    let text = by_the_letter(&double, &wallet, &letter, ErrorKind::Unreachable);
    assert!(text.contains("did not use up the temporary key"), "{text}");
    double.bend(|_, _, mut reply| {
        let last = reply.len() - 1;
        reply[last] ^= 1;
        Ok(reply)
    });
    by_the_letter(&double, &wallet, &letter, ErrorKind::Refused);
    double.straight();

    let wrong = Letter { temporary_key: TemporaryKey::from_mac(&[1; 32]), ..letter.clone() };
    by_the_letter(&double, &wallet, &wrong, ErrorKind::Refused);
    let unknown = double.letter(LetterPurpose::Enroll);
    let unknown = Letter { reference: AuthorityDouble::new().letter(LetterPurpose::Enroll).reference, ..unknown };
    by_the_letter(&double, &wallet, &unknown, ErrorKind::Refused);
    let other_authority = Letter { ca_fingerprint: [7; 32], ..letter.clone() };
    let text = by_the_letter(&double, &wallet, &other_authority, ErrorKind::Refused);
    assert!(text.contains("fingerprint"), "{text}");

    enrolled(run(&double, &wallet, &letter, &wallet.on_new_token("n"), &mut Script::with(PIN)));
    double.seen();
    let used = not_enrolled(run(&double, &wallet, &letter, &wallet.on_new_token("m"), &mut Script::with(PIN)));
    assert!(used.to_string().contains("used"), "{used}");
    assert_eq!(double.seen(), ["genm"]);
}
