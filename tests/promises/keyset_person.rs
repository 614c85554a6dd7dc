//! A keyset keeps its person: another person's letter replaces it only on request, and each
//! enrollment reports the person and the superseded keyset.

use super::letters::rewrite_letter;
use crate::support::shared_authority::TestUser;

/// Writes a letter for another person to this machine's file `others.letter`; returns that person's
/// address.
fn write_letter_for_another(user: &TestUser) -> String {
    let email = format!("other.{}", user.email);
    let path = user.machine.file("others.letter").display().to_string();
    user.authority.admin(&["issue", &email, "--name", "Other, Person", "--letter-out", &path]).ok();
    email
}

#[test]
fn another_persons_letter_and_certificate_are_refused() {
    let user = TestUser::enrolled();
    let before = user.keyset_info("default");
    let other = write_letter_for_another(&user);
    let wire = user.start_proxy();
    let url = wire.url();
    let enroll = |letter: &str, pin: &str, more: &[&str]| user.re_enroll(letter, pin, more);

    let refused = enroll("others.letter", "no-such-file", &["--authority", &url]).fails_with(5);
    refused.says(&user.email).says(&other).says("--replace-person").says("not enrolled");
    assert!(wire.exchanges().is_empty(), "something was sent");

    // The letter's text was changed in transit: the authority's certificate names the person.
    rewrite_letter(&user, "others.letter", "forged.letter", &[("E-mail", &user.email)]);
    enroll("forged.letter", "pin", &[]).fails_with(5).says("certifies").says(&other).says("not re-enrolled");
    assert_eq!(user.keyset_info("default"), before);
    user.signs_with("default", "pin");

    // The explicit option allows it, with the same letter.
    let replaced = enroll("others.letter", "pin", &["--replace-person", "--json"]).ok().json();
    assert_eq!(replaced["person"]["emails"][0], other, "{replaced}");
    assert_eq!(replaced["reenrolled"], true, "{replaced}");
    assert!(user.keyset_info("default").to_string().contains(&other));
}

#[test]
fn an_enrollment_names_the_person_before_and_after() {
    let user = TestUser::new();
    user.issue("first.letter");
    let who = format!("Example, Somebody <{}>", user.email);
    let first = user.enroll_new("first.letter", "default").ok();
    first.says(&format!("Enrolling {who} at")).says(&format!("Enrolled {who}: keyset \"default\""));

    // The same person with another spelling of the address, or with a new name.
    user.issue("again.letter");
    let changes = [("User", "Renamed, Somebody"), ("E-mail", &*user.email.to_uppercase())];
    rewrite_letter(&user, "again.letter", "renamed.letter", &changes);
    let again = user.re_enroll("renamed.letter", "pin", &[]).ok().says("Re-enrolled");
    let line = again
        .out()
        .lines()
        .find(|line| line.starts_with("ecdsa-sha2-") || line.starts_with("ssh-rsa"))
        .map(str::to_owned);
    let line = line.unwrap_or_else(|| panic!("no SSH line: {again}"));
    assert!(line.ends_with(&format!("default {}", user.email)), "{line}");

    // ssh-keygen reads the line, and it has the key of the new certificate.
    user.machine.write("line.pub", format!("{line}\n"));
    let export = ["-e", "-m", "PKCS8", "-f", "line.pub"];
    let by_ssh = user.machine.run("ssh-keygen", &export, b"").ok().out();
    user.machine.write("message.txt", "a message\n");
    let sign = ["sign", "message.txt", "--keyset", "default", "--pin-source", "file:pin", "--out", "signed.der"];
    user.tokenkeep(&sign).ok();
    let certificates = ["cms", "-verify", "-noverify", "-inform", "DER", "-in", "signed.der", "-signer", "signer.pem"];
    user.machine.openssl(&[&certificates[..], &["-out", "/dev/null"]].concat()).ok();
    let by_openssl = user.machine.openssl(&["x509", "-in", "signer.pem", "-noout", "-pubkey"]).ok().out();
    assert_eq!(by_ssh.trim(), by_openssl.trim());
}
