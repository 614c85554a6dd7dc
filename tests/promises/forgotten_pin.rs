//! A forgotten PIN: a recovery letter delivers all encryption keys into a new keyset with a new
//! PIN, so that old mail can be read. Only a recovery does that.

use crate::support::inventory::of_kind;
use crate::support::shared_authority::TestUser;

/// The numbers of signing and of decrypting private keys on a user's token.
fn keys(user: &TestUser, token: &str, pin: &str) -> (usize, usize) {
    let objects = user.machine.objects(token, Some(pin));
    let keys = of_kind(&objects, "Private Key Object");
    let using = |usage: &str| keys.iter().filter(|key| key.contains(usage)).count();
    assert_eq!(using("sign") + using("decrypt"), keys.len(), "a key that is neither, or both: {keys:#?}");
    (using("sign"), using("decrypt"))
}

#[test]
fn old_mail_is_read_under_a_new_keyset_and_a_new_pin() {
    let user = TestUser::enrolled();
    user.encrypt("old mail\n", "old.p7m");
    user.recover("recovery.letter");
    // The PIN is forgotten: no file here has it any more.
    std::fs::remove_file(user.machine.file("pin")).unwrap();
    let line = ["enroll", "--letter", "recovery.letter", "--keyset", "second", "--level", "high", "--new-token"];
    user.tokenkeep(&[&line[..], &["--new-pin-source", "file:other.pin"]].concat()).ok();
    assert_eq!(user.decrypt("second", "other.pin", "old.p7m"), "old mail\n");
    user.signs_with("second", "other.pin");
    // New messages are readable with the new keyset, too.
    user.encrypt("new mail\n", "new.p7m");
    assert_eq!(user.decrypt("second", "other.pin", "new.p7m"), "new mail\n");
    // Also without a keyset named.
    let decrypt = ["decrypt", "old.p7m", "--keyset", "second", "--pin-source", "file:pin"];
    user.tokenkeep(&decrypt).fails_with(4);
    assert_eq!(keys(&user, "second", TestUser::OTHER_PIN), (1, 1));
}

#[test]
fn recovery_delivers_the_whole_history_not_only_the_newest() {
    let user = TestUser::enrolled();
    user.encrypt("under key 1\n", "1.p7m");
    let export = |keyset: &str, certificate: &str, out: &str| {
        user.tokenkeep(&["keyset", "export", keyset, "--certificate", certificate, "-o", out]).ok();
        user.machine.read_text(out)
    };
    let mut certificates = vec![export("default", "encryption", "1.pem")];
    for round in ["2", "3"] {
        let letter = format!("{round}.letter");
        user.issue(&letter);
        user.re_enroll(&letter, "pin", &[]).ok();
        user.encrypt(&format!("under key {round}\n"), &format!("{round}.p7m"));
        certificates.push(export("default", "encryption", &format!("{round}.pem")));
    }
    assert_eq!(keys(&user, "default", TestUser::PIN), (1, 3));
    // `keyset export` has the older certificates, newest first, also of a recovered keyset.
    export("default", "authority", "ca.pem");
    let [first, second, _] = &certificates[..] else { panic!("{certificates:?}") };
    let assert_history = |keyset: &str| {
        let history = export(keyset, "history", "history.pem");
        assert_eq!(history, format!("{second}{first}"), "{keyset}");
        let listed = ["storeutl", "-noout", "-certs", "history.pem"];
        user.machine.openssl(&listed).ok().says("Total found: 2");
    };
    assert_history("default");
    for certificate in ["1.pem", "2.pem", "3.pem"] {
        let verify = ["verify", "-CAfile", "ca.pem", "-purpose", "smimeencrypt", certificate];
        user.machine.openssl(&verify).ok().says(": OK");
    }

    user.recover("recovery.letter");
    let answer = user.enroll_new_with("recovery.letter", "second", &["--json"]).ok().json();
    assert_eq!(answer["encryption_keys"], 3, "{answer}");
    assert_eq!(keys(&user, "second", TestUser::PIN), (1, 3));
    assert_history("second");
    for round in ["1", "2", "3"] {
        assert_eq!(user.decrypt("second", "pin", &format!("{round}.p7m")), format!("under key {round}\n"));
    }

    // Recovered again on another machine: the same keys, and no new one.
    let other_machine_user = TestUser::new();
    let path = other_machine_user.machine.file("again.letter").display().to_string();
    user.authority.admin(&["recover", &user.email, "--letter-out", &path]).ok();
    other_machine_user.enroll_new("again.letter", "third").ok();
    assert_eq!(keys(&other_machine_user, "third", TestUser::PIN), (1, 3));
    other_machine_user.machine.write("1.p7m", user.machine.read("1.p7m"));
    assert_eq!(other_machine_user.decrypt("third", "pin", "1.p7m"), "under key 1\n");
}

#[test]
fn a_plain_issue_delivers_no_history() {
    let user = TestUser::enrolled();
    user.encrypt("old mail\n", "old.p7m");
    user.issue("again.letter");
    user.enroll_new("again.letter", "fresh").ok();
    assert_eq!(keys(&user, "fresh", TestUser::PIN), (1, 1));
    let decrypt = ["decrypt", "old.p7m", "--keyset", "fresh", "--pin-source", "file:pin"];
    let output = user.tokenkeep(&decrypt).fails_with(5);
    assert!(output.stdout.is_empty(), "{output}");
    assert_eq!(user.decrypt("default", "pin", "old.p7m"), "old mail\n", "the old keyset still reads it");
}

#[test]
fn a_recovery_letter_refuses_the_old_keyset_name_before_any_pin() {
    let user = TestUser::enrolled();
    user.recover("recovery.letter");
    let wire = user.start_proxy();
    let url = wire.url();
    let before = user.machine.inventory(&[("default", TestUser::PIN)]);
    let line = ["enroll", "--letter", "recovery.letter", "--keyset", "default", "--level", "high", "--authority", &url];
    for more in [&["--pin-source", "file:wrong.pin"][..], &["--new-token", "--new-pin-source", "file:no-such-file"]] {
        user.tokenkeep(&[&line[..], more].concat()).fails_with(5).says("default").says("another name");
    }
    // The default name of `enroll` is refused, too.
    let line = ["enroll", "--letter", "recovery.letter", "--pin-source", "file:wrong.pin", "--authority", &url];
    user.tokenkeep(&line).fails_with(5).says("default");
    assert!(wire.exchanges().is_empty(), "something was sent");
    assert!(!user.machine.listed_token("default").count_is_low(), "a PIN was tried");
    assert_eq!(user.machine.inventory(&[("default", TestUser::PIN)]), before);
    user.enroll_new("recovery.letter", "second").ok();
}
