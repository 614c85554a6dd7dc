//! The CMP endpoint with a foreign client: a refusal uses nothing up, a request is granted once,
//! and a repeated request gets the same reply.

use tokenkeep::cmp::{
    Draft, MacProtection, PkiBody, PkiFailureInfo, PkiMessage, PkiStatusInfo, check_reply, reject, verify_mac,
};
use tokenkeep::letter::Letter;

use crate::support::output::Output;
use crate::support::raw_cmp::{build_request, post, post_cmp};
use crate::support::shared_authority::TestUser;

/// A letter in the file `NAME`, parsed.
fn issue_letter(user: &TestUser, name: &str) -> Letter {
    user.issue(name);
    Letter::read_file(&user.machine.file(name)).unwrap()
}

/// Runs `openssl cmp` with a letter's key and the given reference; requests a certificate for
/// `new.key` in `got.pem`.
fn openssl_cmp(user: &TestUser, reference: &str, letter: &Letter, arguments: &[&str]) -> Output {
    let machine = &user.machine;
    if !machine.file("new.key").exists() {
        let key = ["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", "new.key"];
        machine.openssl(&key).ok();
    }
    let secret = format!("pass:{}", std::str::from_utf8(letter.temporary_key.cmp_secret()).unwrap());
    let server = ["-server", user.authority.http_address(), "-path", ".well-known/cmp", "-config", ""];
    let identity = ["-ref", reference, "-secret", &secret, "-newkey", "new.key", "-subject", "/CN=x"];
    machine.openssl(&[&["cmp"], &server[..], &identity, &["-certout", "got.pem"], arguments].concat())
}

fn send_ir(user: &TestUser, letter: &Letter, arguments: &[&str]) -> Output {
    openssl_cmp(user, letter.reference.as_str(), letter, &[&["-cmd", "ir"], arguments].concat())
}

/// Posts bytes to the endpoint and returns the response body.
fn post_message(user: &TestUser, message: &[u8]) -> Vec<u8> {
    post(user.authority.http_address(), "/.well-known/cmp", "application/pkixcmp", message).1
}

#[test]
fn other_requests_are_refused_and_use_nothing_up() {
    let user = TestUser::new();
    let letter = issue_letter(&user, "one.letter");
    // The first command makes the key that the others use.
    for (command, more) in [("cr", &[][..]), ("p10cr", &["-csr", "x.csr"])] {
        if command == "p10cr" {
            let csr = ["req", "-new", "-key", "new.key", "-subj", "/CN=x", "-out", "x.csr"];
            user.machine.openssl(&csr).ok();
        }
        let arguments = [&["-cmd", command], more].concat();
        let output = openssl_cmp(&user, letter.reference.as_str(), &letter, &arguments);
        // OpenSSL accepts the error message only if its MAC is valid.
        assert_ne!(output.code(), 0, "{output}");
        output.says("badRequest").does_not_say("missing protection");
    }
    // No proof, the RA's assertion, a proof for another kind of key, and one with SHA-1.
    for possession in [["-popo", "-1"], ["-popo", "0"], ["-popo", "2"], ["-digest", "sha1"]] {
        let output = send_ir(&user, &letter, &possession);
        assert_ne!(output.code(), 0, "{output}");
        output.says("badPOP");
    }
    assert!(!user.machine.file("got.pem").exists());
    send_ir(&user, &letter, &[]).ok();
}

#[test]
fn wrong_temporary_keys_never_lock_a_letter() {
    let user = TestUser::new();
    let right = issue_letter(&user, "one.letter");
    let other = TestUser::new();
    let wrong = issue_letter(&other, "theirs.letter");
    for _ in 0..3 {
        let guess = ["-cmd", "ir", "-unprotected_errors"];
        let output = openssl_cmp(&user, right.reference.as_str(), &wrong, &guess);
        assert_ne!(output.code(), 0, "{output}");
        output.says("badMessageCheck").does_not_say("used");
    }
    send_ir(&user, &right, &[]).ok();
    send_ir(&other, &wrong, &[]).ok();
}

#[test]
fn usual_forms_of_the_reference_and_the_mac_are_accepted() {
    let user = TestUser::new();
    let variants: [(&str, &[&str]); 4] = [
        ("", &["-implicit_confirm"]),
        ("CN=", &[]),
        ("", &["-digest", "sha512", "-mac", "hmacWithSHA512"]),
        ("", &["-digest", "sha384", "-keep_alive", "0"]),
    ];
    for (at, (prefix, more)) in variants.into_iter().enumerate() {
        let letter = issue_letter(&user, &format!("{at}.letter"));
        let reference = format!("{prefix}{}", letter.reference.as_str());
        openssl_cmp(&user, &reference, &letter, &[&["-cmd", "ir"], more].concat()).ok();
    }
}

#[test]
fn a_client_that_knows_no_levels_needs_a_letter_that_allows_low() {
    let user = TestUser::new();
    user.issue_with("high.letter", &["--levels", "high"]).ok();
    let high = Letter::read_file(&user.machine.file("high.letter")).unwrap();
    let output = send_ir(&user, &high, &[]);
    assert_ne!(output.code(), 0, "{output}");
    output.says("counts as low").says("--levels low");
    user.issue_with("low.letter", &["--levels", "low"]).ok();
    let low = Letter::read_file(&user.machine.file("low.letter")).unwrap();
    send_ir(&user, &low, &[]).ok();
}

#[test]
fn a_client_that_refuses_its_certificate_gives_the_letter_back() {
    let user = TestUser::new();
    let letter = issue_letter(&user, "one.letter");
    let machine = &user.machine;
    let other =
        ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "o.key", "-subj", "/CN=o", "-out", "o.pem"];
    machine.openssl(&other).ok();
    // The client trusts another CA only, so it rejects the certificate in its certConf.
    let output = send_ir(&user, &letter, &["-out_trusted", "o.pem"]);
    assert_ne!(output.code(), 0, "{output}");
    assert!(output.err().contains("CERTCONF") || output.out().contains("CERTCONF"), "{output}");
    send_ir(&user, &letter, &[]).ok();
    // An accepted letter is used up.
    let output = send_ir(&user, &letter, &[]);
    assert_ne!(output.code(), 0, "{output}");
    output.says("used");
}

#[test]
fn an_error_in_the_transaction_gives_the_letter_back() {
    let user = TestUser::new();
    let letter = issue_letter(&user, "one.letter");
    let secret = letter.temporary_key.cmp_secret();
    let request = PkiMessage::from_der(&build_request(&user.machine, &letter, false)).unwrap();
    let granted = post_message(&user, request.der());
    let granted = check_reply(&request, &granted, secret).unwrap().granted().unwrap();
    let why = PkiStatusInfo::rejection(PkiFailureInfo::INCORRECT_DATA, "the key does not fit its certificate");
    let rejection = |secret: &[u8]| {
        let draft = reject(&request, Some(&granted), why.clone(), jiff::Timestamp::now()).unwrap();
        draft.protect_with_mac(secret, &MacProtection::pbm().unwrap()).unwrap()
    };
    // A rejection from a sender who does not know the key does not restore the letter.
    post_message(&user, &rejection(b"guessed"));
    let output = send_ir(&user, &letter, &[]);
    assert_ne!(output.code(), 0, "{output}");

    let answer = post_cmp(user.authority.http_address(), &rejection(secret));
    assert!(verify_mac(&answer, secret).is_ok());
    send_ir(&user, &letter, &[]).ok();
}

#[test]
fn a_request_sent_again_gets_the_same_reply() {
    let user = TestUser::new();
    let letter = issue_letter(&user, "one.letter");
    let secret = letter.temporary_key.cmp_secret();
    let request = build_request(&user.machine, &letter, false);
    let reply = post_message(&user, &request);
    let message = PkiMessage::from_der(&request).unwrap();
    assert!(matches!(check_reply(&message, &reply, secret).unwrap().granted().unwrap().body(), PkiBody::Ip(_)));
    for _ in 0..2 {
        assert_eq!(post_message(&user, &request), reply);
    }
    // The same transaction with other bytes, here only another salt, is another request.
    let draft = Draft::new(message.header().clone(), message.body().clone());
    let other = draft.protect_with_mac(secret, &MacProtection::pbm().unwrap()).unwrap();
    let answer = post_cmp(user.authority.http_address(), &other);
    let PkiBody::Error(error) = answer.body() else { panic!("{} was answered", answer.body().name()) };
    assert!(error.status.reasons().contains(PkiFailureInfo::TRANSACTION_ID_IN_USE), "{}", error.status);
    assert!(verify_mac(&answer, secret).is_ok());
    assert_eq!(post_message(&user, &request), reply, "the first is still answered");
}
