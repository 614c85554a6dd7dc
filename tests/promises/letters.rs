//! A letter enrolls its user once, while it is valid, for its purpose. Any other use is refused,
//! uses nothing up, and reveals nothing to a guesser.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use tokenkeep::cmp::{PkiBody, verify_mac};
use tokenkeep::letter::{Letter, LetterPurpose, Reference, TemporaryKey};

use crate::support::output::Output;
use crate::support::raw_cmp::{build_request, post_cmp};
use crate::support::shared_authority::{SharedAuthority, TestUser};

/// The value of a field in a letter.
fn field(letter: &str, name: &str) -> String {
    let line = letter.lines().find(|line| line.starts_with(&format!("{name}:")));
    line.unwrap_or_else(|| panic!("no {name} in\n{letter}")).split_once(':').unwrap().1.trim().to_owned()
}

/// Writes a copy of a letter with other values in some fields.
pub fn rewrite_letter(user: &TestUser, letter: &str, copy: &str, changes: &[(&str, &str)]) {
    let mut text = user.machine.read_text(letter);
    for (name, value) in changes {
        let old = field(&text, name);
        assert_ne!(&old, value, "nothing is changed in {name}");
        text = text.replace(&old, value);
    }
    user.machine.write_secret(copy, &text);
}

/// The temporary key with another character of its alphabet at index 8.
fn mistype(key: &str) -> String {
    let mut characters: Vec<char> = key.chars().collect();
    characters[8] = if characters[8] == 'X' { 'Y' } else { 'X' };
    characters.into_iter().collect()
}

/// The authority refuses to enroll with this letter into a new token, and nothing is created.
#[track_caller]
fn expect_refused(user: &TestUser, letter: &str, keyset: &str) -> Output {
    let before = user.machine.inventory(&[]);
    let wire = user.start_proxy();
    let output = user.enroll_new_with(letter, keyset, &["--authority", &wire.url()]);
    let output = output.fails_with(5).says("not enrolled");
    assert_eq!(user.machine.inventory(&[]), before, "something was made\n{output}");
    output
}

#[test]
fn a_mistyped_temporary_key_is_caught_before_anything_is_sent() {
    let user = TestUser::new();
    user.issue("right.letter");
    let key = field(&user.machine.read_text("right.letter"), "Temporary key");
    let swapped = {
        let mut characters: Vec<char> = key.chars().collect();
        let places = [0, 1, 2, 5, 6, 7, 10, 11, 12].into_iter();
        let at = places.clone().find(|at| at % 5 != 4 && characters[*at] != characters[at + 1]).unwrap();
        characters.swap(at, at + 1);
        characters.into_iter().collect::<String>()
    };
    let wire = user.start_proxy();
    for (wrong, what) in [(mistype(&key), "mistyped"), (swapped, "mistyped"), (key[..30].to_owned(), "28")] {
        rewrite_letter(&user, "right.letter", "mistyped.letter", &[("Temporary key", &wrong)]);
        // Not even the PIN source is read.
        let arguments = ["--new-pin-source", "file:no-such-file", "--authority", &wire.url()];
        let line = [&["enroll", "--letter", "mistyped.letter", "--new-token"], &arguments[..]].concat();
        let output = user.tokenkeep(&line).fails_with(2).says("Temporary key").says(what);
        output.does_not_say(&wrong).does_not_say(&key);
    }
    assert!(wire.exchanges().is_empty(), "something was sent");
    assert!(user.machine.listed_tokens().is_empty(), "something was made");

    // As a person may type it: lower case, other separators, letters that look like digits.
    let typed = key.to_lowercase().replace('-', " ").replace('0', "o").replace('1', "l");
    rewrite_letter(&user, "right.letter", "typed.letter", &[("Temporary key", &typed)]);
    user.enroll_new("typed.letter", "default").ok();
}

#[test]
fn a_wrong_temporary_key_gets_nothing_and_uses_nothing_up() {
    let user = TestUser::new();
    user.issue("right.letter");
    for guess in 0..3 {
        let key = TemporaryKey::from_mac(&[guess; 32]).grouped();
        rewrite_letter(&user, "right.letter", "wrong.letter", &[("Temporary key", &key)]);
        expect_refused(&user, "wrong.letter", "default").does_not_say(&key);
        fs::remove_file(user.machine.file("wrong.letter")).unwrap();
    }
    // Guessing does not lock the letter.
    user.enroll_new("right.letter", "default").ok();
}

#[test]
fn someone_elses_temporary_key_gets_nothing_and_uses_nothing_up() {
    let (one, other) = (TestUser::new(), TestUser::new());
    one.issue("one.letter");
    other.issue("other.letter");
    let key = |user: &TestUser, letter: &str| field(&user.machine.read_text(letter), "Temporary key");
    rewrite_letter(&one, "one.letter", "mixed.letter", &[("Temporary key", &key(&other, "other.letter"))]);
    expect_refused(&one, "mixed.letter", "default");
    rewrite_letter(&other, "other.letter", "mixed.letter", &[("Temporary key", &key(&one, "one.letter"))]);
    expect_refused(&other, "mixed.letter", "default");
    one.enroll_new("one.letter", "default").ok();
    other.enroll_new("other.letter", "default").ok();

    // A letter enrolls the person it was issued for, whatever its holder writes into it; the change
    // is detected.
    let (forger, victim) = (TestUser::new(), TestUser::new());
    forger.issue("one.letter");
    rewrite_letter(&forger, "one.letter", "forged.letter", &[("E-mail", &victim.email)]);
    forger.enroll_new("forged.letter", "default").fails_with(5).says("it certifies").says(&forger.email);
    let record = forger.authority.admin(&["show", &forger.email, "--json"]).ok().json().to_string();
    assert!(!record.contains(&victim.email), "{record}");
    let output = one.tokenkeep_with_input(&["encrypt", "--to", &victim.email, "--out", "to-other.p7m"], "secret\n");
    assert_ne!(output.code(), 0, "a certificate for {} was found\n{output}", victim.email);
    assert!(output.err().contains(&victim.email) && !one.machine.file("to-other.p7m").exists(), "{output}");
}

#[test]
fn a_used_letter_gets_nothing() {
    let user = TestUser::enrolled();
    expect_refused(&user, "first.letter", "second").says("used");
    user.signs_with("default", "pin");
    // Not for the keyset that it enrolled, either.
    let before = user.keyset_info("default");
    user.re_enroll("first.letter", "pin", &[]).fails_with(5).says("not re-enrolled").says("used");
    assert_eq!(user.keyset_info("default"), before);
}

#[test]
fn an_expired_letter_gets_nothing() {
    let user = TestUser::new();
    make_expired_letter(&user, "late.letter");
    expect_refused(&user, "late.letter", "default").says("was good until");
    // The date in the letter is for its reader and saves a PIN; the authority has its own date.
    rewrite_letter(&user, "late.letter", "forged.letter", &[("Valid until", "2039-12-31 23:59:59 UTC")]);
    expect_refused(&user, "forged.letter", "default").says("was good until");
}

#[test]
fn a_letter_whose_date_has_passed_is_refused_before_any_pin() {
    let user = TestUser::enrolled();
    user.issue("good.letter");
    rewrite_letter(&user, "good.letter", "late.letter", &[("Valid until", "2020-01-01 00:00:00 UTC")]);
    let wire = user.start_proxy();
    let url = wire.url();
    let before = user.machine.inventory(&[("default", TestUser::PIN)]);
    let new_token = ["--keyset", "other", "--new-token", "--new-pin-source", "file:no-such-file"];
    let beside = ["--keyset", "other", "--token", "default", "--pin-source", "file:wrong.pin"];
    for more in [&new_token[..], &beside, &["--pin-source", "file:wrong.pin"]] {
        let line = [&["enroll", "--letter", "late.letter", "--level", "high", "--authority", &url], more].concat();
        let output =
            user.tokenkeep(&line).fails_with(5).says("enrolled: the letter was good until 2020-01-01T00:00:00Z");
        output.says("clock").does_not_say("is still good");
    }
    // The clocks are compared; no message is sent.
    let exchanges = wire.exchanges();
    assert!(exchanges.iter().all(|exchange| exchange.target.starts_with("GET ")), "something was sent: {exchanges:?}");
    assert!(!user.machine.listed_token("default").count_is_low(), "a PIN was tried");
    assert_eq!(user.machine.inventory(&[("default", TestUser::PIN)]), before);

    // An enrollment that began in time continues after the letter's expiry: the authority knows its
    // state.
    let line = ["enroll", "--letter", "good.letter", "--keyset", "other", "--level", "high", "--new-token"];
    let line = [&line[..], &["--new-pin-source", "file:pin"]].concat();
    user.machine.tokenkeep_crashing_at("keyset.reply_here", &line);
    let line: Vec<_> = line.iter().map(|word| if *word == "good.letter" { "late.letter" } else { *word }).collect();
    user.tokenkeep(&line).ok().says("Enrolled");
}

/// A letter that expired a moment ago.
pub fn make_expired_letter(user: &TestUser, letter: &str) {
    let expires = user.issue_with(letter, &["--valid-for", "1s", "--json"]).ok().json()["expires"].to_string();
    let expires: jiff::Timestamp =
        expires.trim_matches('"').parse().unwrap_or_else(|error| panic!("{expires}: {error}"));
    let end = Instant::now() + Duration::from_secs(10);
    while jiff::Timestamp::now() <= expires {
        assert!(Instant::now() < end, "it expires only at {expires}");
        std::thread::sleep(Duration::from_millis(50)); // until the date that it has
    }
}

#[test]
fn a_voided_letter_gets_nothing() {
    let user = TestUser::new();
    user.issue("older.letter");
    user.issue("newer.letter");
    expect_refused(&user, "older.letter", "default").says("newer");
    user.enroll_new("newer.letter", "default").ok();

    // Letters of either kind void those of the other kind.
    user.issue("issued.letter");
    user.recover("recovered.letter");
    expect_refused(&user, "issued.letter", "other").says("newer");
    user.issue("issued-again.letter");
    expect_refused(&user, "recovered.letter", "other").says("newer");
    user.re_enroll("issued-again.letter", "pin", &[]).ok();

    // Other users' letters stay valid.
    let other = TestUser::new();
    other.issue("their.letter");
    user.issue("mine.letter");
    other.enroll_new("their.letter", "default").ok();
}

#[test]
fn a_recovery_reference_in_an_ir_is_refused_and_uses_nothing_up() {
    let user = TestUser::enrolled();
    user.encrypt("old mail\n", "old.p7m");
    user.recover("recovery.letter");
    let letter = user.machine.read_text("recovery.letter");
    let reference = field(&letter, "Reference");
    assert!(reference.starts_with('R'), "{reference}");
    let secret = format!("pass:{}", field(&letter, "Temporary key").replace('-', ""));
    let key = ["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", "new.key"];
    user.machine.openssl(&key).ok();
    let wire = user.start_proxy();
    let server = wire.url();
    let arguments =
        ["cmp", "-cmd", "ir", "-server", server.strip_prefix("http://").unwrap(), "-path", ".well-known/cmp"];
    let identity = ["-ref", &reference, "-secret", &secret, "-newkey", "new.key", "-subject", "/CN=x"];
    let output = user.machine.openssl(&[&arguments[..], &identity, &["-certout", "got.pem"]].concat());
    assert_ne!(output.code(), 0, "{output}");
    assert!(!user.machine.file("got.pem").exists(), "{output}");
    assert_eq!(wire.exchanges().len(), 1, "it should have been refused at once\n{output}");
    assert!(output.err().contains("recover") || output.out().contains("recover"), "it should say why\n{output}");
    drop(wire);

    user.enroll_new("recovery.letter", "second").ok();
    assert_eq!(user.decrypt("second", "pin", "old.p7m"), "old mail\n");
}

#[test]
fn a_krr_with_an_enrollment_reference_keeps_the_letter_unused() {
    // The client never sends such a message, so the test builds it.
    let user = TestUser::enrolled();
    user.issue("again.letter");
    let letter = Letter::read_file(&user.machine.file("again.letter")).unwrap();
    let answer = post_cmp(user.authority.http_address(), &build_request(&user.machine, &letter, true));
    assert!(matches!(answer.body(), PkiBody::Error(_)), "{}", answer.body().name());
    // The reason is protected with the key, so that only its holder can verify it.
    verify_mac(&answer, letter.temporary_key.cmp_secret()).unwrap();
    let recovery = Letter { reference: Reference::new(LetterPurpose::Recover, [9; 5]), ..letter.clone() };
    let unknown = post_cmp(user.authority.http_address(), &build_request(&user.machine, &recovery, true));
    assert!(matches!(unknown.body(), PkiBody::Error(_)) && unknown.header().protection_alg.is_none());

    // The same request for the letter's own purpose is granted, so the other was refused for its
    // kind.
    let granted = post_cmp(user.authority.http_address(), &build_request(&user.machine, &letter, false));
    assert!(matches!(granted.body(), PkiBody::Ip(_)), "{}", granted.body().name());
}

#[test]
fn a_letter_is_written_0600_and_never_over_an_existing_file() {
    let user = TestUser::new();
    let umask = user.machine.run("sh", &["-c", "umask 000; touch there; stat -c %a there"], b"").ok();
    assert_eq!(umask.out().trim(), "666");
    user.issue("first.letter");
    let mode = |name: &str| fs::metadata(user.machine.file(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("first.letter"), 0o600);
    user.machine.write("there", "mine\n");

    for what in ["issue", "recover"] {
        let path = user.machine.file("there").display().to_string();
        let output = user.authority.admin(&[what, &user.email, "--letter-out", &path]);
        assert!(output.code() != 0 && output.err().contains("there"), "{output}");
        assert_eq!(user.machine.read_text("there"), "mine\n");
    }
    // Refused before it was sent: a letter that nobody received does not void an earlier one.
    user.enroll_new("first.letter", "default").ok();
}

#[test]
fn unknown_reference_and_bad_mac_get_the_same_response() {
    let user = TestUser::new();
    user.issue("right.letter");
    let key = TemporaryKey::from_mac(&[42; 32]).grouped();
    rewrite_letter(&user, "right.letter", "bad-mac.letter", &[("Temporary key", &key)]);
    let unknown = Reference::new(LetterPurpose::Enroll, [1, 2, 3, 4, 5]);
    rewrite_letter(&user, "right.letter", "unknown.letter", &[("Reference", unknown.as_str())]);

    let right = field(&user.machine.read_text("right.letter"), "Reference");
    let attempt = |letter: &str, keyset: &str| {
        let wire = user.start_proxy();
        let output = user.enroll_new_with(letter, keyset, &["--authority", &wire.url()]).fails_with(5);
        let seen = wire.exchanges();
        assert_eq!(seen.len(), 1, "after such an answer nothing more is sent\n{output}");
        let answer = &seen[0].response;
        // The answer goes to the sender of the question, by the reference, which the sender knows.
        let shape =
            normalize_response(&user, answer).replace(&right, "REFERENCE").replace(unknown.as_str(), "REFERENCE");
        (output, shape, answer.len())
    };
    let bad_mac = attempt("bad-mac.letter", "default");
    let other = attempt("unknown.letter", "default");
    assert_eq!(bad_mac.0.err(), other.0.err(), "the user sees another error");
    assert_eq!((&bad_mac.1, bad_mac.2), (&other.1, other.2));
    // A used reference gives the same answer to a sender without its key.
    user.enroll_new("right.letter", "default").ok();
    let after_use = attempt("bad-mac.letter", "second");
    assert_eq!(after_use.0.err().replace("\"second\"", "\"default\""), bad_mac.0.err());
    assert_eq!((&after_use.1, after_use.2), (&bad_mac.1, bad_mac.2));
}

/// An answer as `openssl asn1parse` shows it, without the parts that differ in any two answers:
/// nonces, identifiers and the time.
fn normalize_response(user: &TestUser, answer: &[u8]) -> String {
    let output = user.machine.run("openssl", &["asn1parse", "-inform", "DER"], answer).ok();
    let mut different_anyway = BTreeMap::from([("OCTET STRING", 0), ("GENERALIZEDTIME", 0)]);
    let mut shape = String::new();
    for line in output.out().lines() {
        let kind = different_anyway.iter_mut().find(|(kind, _)| line.contains(**kind));
        let shown = kind.and_then(|(kind, count)| {
            *count += 1;
            line.split_once(*kind).map(|(before, _)| format!("{before}{kind}"))
        });
        shape.push_str(shown.as_deref().unwrap_or(line));
        shape.push('\n');
    }
    assert!(different_anyway["OCTET STRING"] >= 2, "no transaction and nonces in\n{shape}");
    shape
}

#[test]
fn the_authority_lists_the_users_with_letters() {
    // Read with the administrator's token, by a statement, and without a letter in the answer.
    let user = TestUser::new();
    user.issue("unused.letter");
    let key = field(&user.machine.read_text("unused.letter"), "Temporary key");
    let list = SharedAuthority::get().admin(&["list"]).ok().says(&user.email);
    list.does_not_say(&key).does_not_say(&key.replace('-', ""));
}

#[test]
fn the_state_of_a_letter_is_reported_only_if_known() {
    let user = TestUser::enrolled();
    // The letter is used up; without a PIN the client does not ask the authority.
    let refused = user.re_enroll("first.letter", "no-such-file", &[]).fails_with(4);
    refused.does_not_say("still good").says("did not use up the temporary key");
    user.tokenkeep(&["enroll", "--letter", "first.letter", "--new-token"]).fails_with(5).does_not_say("still good");
}

#[test]
fn a_letter_in_another_format_is_refused_with_a_remedy() {
    let user = TestUser::new();
    user.issue("the.letter");
    let text = user.machine.read_text("the.letter");
    let utf_16: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let base64 = user.machine.run("base64", &["the.letter"], b"").ok().out();
    for (form, bytes, what) in [
        ("utf-16", [b"\xff\xfe".to_vec(), utf_16].concat(), "UTF-8"),
        ("base64", base64.into_bytes(), "base64 -d"),
        ("one line", text.replace('\n', " ").into_bytes(), "a line of its own"),
    ] {
        user.machine.write(form, bytes);
        let refused = user.enroll_new(form, "default").fails_with(2).says(what);
        refused.does_not_say(&field(&text, "Temporary key"));
    }
    assert!(user.machine.listed_tokens().is_empty());
}
