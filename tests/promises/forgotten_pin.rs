//! A forgotten PIN: a recovery letter delivers all encryption keys into a new keyset with a new
//! PIN, so that old mail can be read. Only a recovery does that.

use crate::support::inventory::of_kind;
use crate::support::office::Somebody;

/// The numbers of signing and of decrypting private keys on a user's token.
fn keys(somebody: &Somebody, token: &str, pin: &str) -> (usize, usize) {
    let objects = somebody.machine.objects(token, Some(pin));
    let keys = of_kind(&objects, "Private Key Object");
    let using = |usage: &str| keys.iter().filter(|key| key.contains(usage)).count();
    assert_eq!(using("sign") + using("decrypt"), keys.len(), "a key that is neither, or both: {keys:#?}");
    (using("sign"), using("decrypt"))
}

#[test]
fn old_mail_is_read_under_a_new_keyset_and_a_new_pin() {
    let somebody = Somebody::enrolled();
    somebody.encrypts("old mail\n", "old.p7m");
    somebody.recover("recovery.letter");
    // The PIN is forgotten: no file here has it any more.
    std::fs::remove_file(somebody.machine.file("pin")).unwrap();
    let line = ["enroll", "--letter", "recovery.letter", "--keyset", "second", "--level", "high", "--new-token"];
    somebody.tokenkeep(&[&line[..], &["--new-pin-source", "file:other.pin"]].concat()).ok();
    assert_eq!(somebody.reads("second", "other.pin", "old.p7m"), "old mail\n");
    somebody.signs_with("second", "other.pin");
    // New messages are readable with the new keyset, too.
    somebody.encrypts("new mail\n", "new.p7m");
    assert_eq!(somebody.reads("second", "other.pin", "new.p7m"), "new mail\n");
    // Also without a keyset named.
    let decrypt = ["decrypt", "old.p7m", "--keyset", "second", "--pin-source", "file:pin"];
    somebody.tokenkeep(&decrypt).fails_with(4);
    assert_eq!(keys(&somebody, "second", Somebody::OTHER_PIN), (1, 1));
}

#[test]
fn recovery_delivers_the_whole_history_not_only_the_newest() {
    let somebody = Somebody::enrolled();
    somebody.encrypts("under key 1\n", "1.p7m");
    for round in ["2", "3"] {
        let letter = format!("{round}.letter");
        somebody.issue(&letter);
        somebody.re_enroll(&letter, "pin", &[]).ok();
        somebody.encrypts(&format!("under key {round}\n"), &format!("{round}.p7m"));
    }
    assert_eq!(keys(&somebody, "default", Somebody::PIN), (1, 3));

    somebody.recover("recovery.letter");
    let answer = somebody.enroll_new_with("recovery.letter", "second", &["--json"]).ok().json();
    assert_eq!(answer["encryption_keys"], 3, "{answer}");
    assert_eq!(keys(&somebody, "second", Somebody::PIN), (1, 3));
    for round in ["1", "2", "3"] {
        assert_eq!(somebody.reads("second", "pin", &format!("{round}.p7m")), format!("under key {round}\n"));
    }

    // Recovered again on another machine: the same keys, and no new one.
    let elsewhere = Somebody::new();
    let path = elsewhere.machine.file("again.letter").display().to_string();
    somebody.office.admin(&["recover", &somebody.email, "--letter-out", &path]).ok();
    elsewhere.enroll_new("again.letter", "third").ok();
    assert_eq!(keys(&elsewhere, "third", Somebody::PIN), (1, 3));
    elsewhere.machine.write("1.p7m", somebody.machine.read("1.p7m"));
    assert_eq!(elsewhere.reads("third", "pin", "1.p7m"), "under key 1\n");
}

#[test]
fn a_plain_issue_delivers_no_history() {
    let somebody = Somebody::enrolled();
    somebody.encrypts("old mail\n", "old.p7m");
    somebody.issue("again.letter");
    somebody.enroll_new("again.letter", "fresh").ok();
    assert_eq!(keys(&somebody, "fresh", Somebody::PIN), (1, 1));
    let decrypt = ["decrypt", "old.p7m", "--keyset", "fresh", "--pin-source", "file:pin"];
    let output = somebody.tokenkeep(&decrypt).fails_with(5);
    assert!(output.stdout.is_empty(), "{output}");
    assert_eq!(somebody.reads("default", "pin", "old.p7m"), "old mail\n", "the old keyset still reads it");
}

#[test]
fn a_recovery_letter_refuses_the_old_keyset_name_before_any_pin() {
    let somebody = Somebody::enrolled();
    somebody.recover("recovery.letter");
    let wire = somebody.wire();
    let url = wire.url();
    let before = somebody.machine.inventory(&[("default", Somebody::PIN)]);
    let line = ["enroll", "--letter", "recovery.letter", "--keyset", "default", "--level", "high", "--authority", &url];
    for more in [&["--pin-source", "file:wrong.pin"][..], &["--new-token", "--new-pin-source", "file:no-such-file"]] {
        somebody.tokenkeep(&[&line[..], more].concat()).fails_with(5).says("default").says("another name");
    }
    // The default name of `enroll` is refused, too.
    let line = ["enroll", "--letter", "recovery.letter", "--pin-source", "file:wrong.pin", "--authority", &url];
    somebody.tokenkeep(&line).fails_with(5).says("default");
    assert!(wire.exchanges().is_empty(), "something was sent");
    assert!(!somebody.machine.listed_token("default").count_is_low(), "a PIN was tried");
    assert_eq!(somebody.machine.inventory(&[("default", Somebody::PIN)]), before);
    somebody.enroll_new("recovery.letter", "second").ok();
}
