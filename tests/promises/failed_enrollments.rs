//! Nothing is created until the letter is known to be valid: no token, no key, no object. A foreign
//! program lists tokens and objects before and after.

use crate::support::authority::free_port;
use crate::support::inventory::Inventory;
use crate::support::output::Output;
use crate::support::shared_authority::TestUser;

use super::letters::{make_expired_letter, rewrite_letter};

/// All objects on this person's tokens, private ones included.
fn all_objects(user: &TestUser) -> Inventory {
    user.machine.inventory(&[("default", TestUser::PIN)])
}

/// Checks that `letter` is refused, with `--new-token` and for the existing keyset, and that no
/// token changes.
#[track_caller]
fn expect_nothing_made(user: &TestUser, letter: &str, more: &[&str], code: i32) -> Vec<Output> {
    let before = all_objects(user);
    let (softhsm, shown) = (slots(user), user.keyset_info("default"));
    let new_token = user.enroll_new_with(letter, "fresh", more).fails_with(code).says("not enrolled");
    let token_there = user
        .tokenkeep(
            &[
                &["enroll", "--letter", letter, "--keyset", "beside", "--token", "default", "--level", "high"][..],
                &["--pin-source", "file:pin"],
                more,
            ]
            .concat(),
        )
        .fails_with(code)
        .says("not enrolled");
    let again = user.re_enroll(letter, "pin", more).fails_with(code).says("enrolled:");
    assert_eq!(all_objects(user), before, "something was made or lost");
    assert_eq!(slots(user), softhsm, "a token was made");
    assert_eq!(user.keyset_info("default"), shown);
    user.signs_with("default", "pin");
    vec![new_token, token_there, again]
}

/// The output of SoftHSM's own program.
fn slots(user: &TestUser) -> String {
    user.machine.run("softhsm2-util", &["--show-slots"], b"").ok().out()
}

#[test]
fn authority_unreachable_makes_no_token_and_no_key() {
    let user = TestUser::enrolled();
    user.issue("good.letter");
    let nobody = format!("http://127.0.0.1:{}", free_port());
    for output in expect_nothing_made(&user, "good.letter", &["--authority", &nobody], 6) {
        output.says(&nobody);
    }
    // The authority was missing, not the letter wrong.
    user.re_enroll("good.letter", "pin", &[]).ok();
}

#[test]
fn used_letter_makes_no_token_and_no_key() {
    let user = TestUser::enrolled();
    for output in expect_nothing_made(&user, "first.letter", &[], 5) {
        output.says("used");
    }
}

#[test]
fn expired_letter_makes_no_token_and_no_key() {
    let user = TestUser::enrolled();
    make_expired_letter(&user, "late.letter");
    // With another date in the letter, only the authority can know.
    rewrite_letter(&user, "late.letter", "forged.letter", &[("Valid until", "2039-12-31 23:59:59 UTC")]);
    for letter in ["late.letter", "forged.letter"] {
        for output in expect_nothing_made(&user, letter, &[], 5) {
            output.says("was good until");
        }
    }
}

#[test]
fn wrong_fingerprint_makes_no_token_and_no_key() {
    let user = TestUser::enrolled();
    user.issue("good.letter");
    let letter = user.machine.read_text("good.letter");
    let at = letter.find("CA fingerprint:").unwrap() + "CA fingerprint:".len();
    let digit = letter[at..].find(|c: char| c.is_ascii_hexdigit()).unwrap() + at;
    let other = if &letter[digit..=digit] == "0" { "1" } else { "0" };
    let forged = format!("{}{other}{}", &letter[..digit], &letter[digit + 1..]);
    user.machine.write_secret("forged.letter", &forged);
    let outputs = expect_nothing_made(&user, "forged.letter", &[], 5);
    for output in &outputs[..2] {
        output.clone().says("fingerprint");
    }
    // The keyset knows its authority, so no request is needed.
    outputs[2].clone().says("another authority");
    // The check used nothing up.
    user.re_enroll("good.letter", "pin", &[]).ok();
}

#[test]
fn a_bad_new_pin_makes_no_token_and_no_key() {
    let user = TestUser::enrolled();
    user.issue("good.letter");
    user.machine.write_secret("short.pin", "1");
    let before = all_objects(&user);
    for source in ["file:no-such-file", "file:short.pin"] {
        let line =
            ["enroll", "--letter", "good.letter", "--keyset", "fresh", "--new-token", "--new-pin-source", source];
        user.tokenkeep(&line).fails_with(4).says("not enrolled");
    }
    assert_eq!(all_objects(&user), before);
    user.enroll_new("good.letter", "fresh").ok();
}
