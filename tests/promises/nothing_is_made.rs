//! Nothing is made until the letter is known to be good: no token, no key, no object. Tokens and objects are listed
//! before and after by a foreign program.

use crate::support::authority::free_port;
use crate::support::inventory::Inventory;
use crate::support::office::Somebody;
use crate::support::output::Output;

use super::letters::{expired_letter, rewritten};

/// Everything on this person's tokens, private objects included.
fn everything(somebody: &Somebody) -> Inventory {
    somebody.machine.inventory(&[("default", Somebody::PIN)])
}

/// Whether `letter` is not taken: with `--new-token`, and for the keyset that is there. Nothing changes on any token.
#[track_caller]
fn makes_nothing(somebody: &Somebody, letter: &str, more: &[&str], code: i32) -> Vec<Output> {
    let before = everything(somebody);
    let (softhsm, shown) = (slots(somebody), somebody.shown("default"));
    let new_token = somebody.enroll_new_with(letter, "fresh", more).fails_with(code).says("not enrolled");
    let token_there = somebody
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
    let again = somebody.re_enroll(letter, "pin", more).fails_with(code).says("enrolled:");
    assert_eq!(everything(somebody), before, "something was made or lost");
    assert_eq!(slots(somebody), softhsm, "a token was made");
    assert_eq!(somebody.shown("default"), shown);
    somebody.signs_with("default", "pin");
    vec![new_token, token_there, again]
}

/// What SoftHSM's own program sees.
fn slots(somebody: &Somebody) -> String {
    somebody.machine.run("softhsm2-util", &["--show-slots"], b"").ok().out()
}

#[test]
fn authority_unreachable_makes_no_token_and_no_key() {
    let somebody = Somebody::enrolled();
    somebody.issue("good.letter");
    let nobody = format!("http://127.0.0.1:{}", free_port());
    for output in makes_nothing(&somebody, "good.letter", &["--authority", &nobody], 6) {
        output.says(&nobody);
    }
    // It was the authority that was missing, not the letter.
    somebody.re_enroll("good.letter", "pin", &[]).ok();
}

#[test]
fn used_letter_makes_no_token_and_no_key() {
    let somebody = Somebody::enrolled();
    for output in makes_nothing(&somebody, "first.letter", &[], 5) {
        output.says("used");
    }
}

#[test]
fn expired_letter_makes_no_token_and_no_key() {
    let somebody = Somebody::enrolled();
    expired_letter(&somebody, "late.letter");
    // Another date in it, and only the authority can know.
    rewritten(&somebody, "late.letter", "forged.letter", &[("Valid until", "2039-12-31 23:59:59 UTC")]);
    for letter in ["late.letter", "forged.letter"] {
        for output in makes_nothing(&somebody, letter, &[], 5) {
            output.says("was good until");
        }
    }
}

#[test]
fn wrong_fingerprint_makes_no_token_and_no_key() {
    let somebody = Somebody::enrolled();
    somebody.issue("good.letter");
    let letter = somebody.machine.read_text("good.letter");
    let at = letter.find("CA fingerprint:").unwrap() + "CA fingerprint:".len();
    let digit = letter[at..].find(|c: char| c.is_ascii_hexdigit()).unwrap() + at;
    let other = if &letter[digit..=digit] == "0" { "1" } else { "0" };
    let forged = format!("{}{other}{}", &letter[..digit], &letter[digit + 1..]);
    somebody.machine.write_secret("forged.letter", &forged);
    let outputs = makes_nothing(&somebody, "forged.letter", &[], 5);
    for output in &outputs[..2] {
        output.clone().says("fingerprint");
    }
    // The keyset knows its authority, so nobody has to be asked.
    outputs[2].clone().says("another authority");
    // Asking used nothing up.
    somebody.re_enroll("good.letter", "pin", &[]).ok();
}

#[test]
fn a_bad_new_pin_makes_no_token_and_no_key() {
    let somebody = Somebody::enrolled();
    somebody.issue("good.letter");
    somebody.machine.write_secret("short.pin", "1");
    let before = everything(&somebody);
    for source in ["file:no-such-file", "file:short.pin"] {
        let line =
            ["enroll", "--letter", "good.letter", "--keyset", "fresh", "--new-token", "--new-pin-source", source];
        somebody.tokenkeep(&line).fails_with(4).says("not enrolled");
    }
    assert_eq!(everything(&somebody), before);
    somebody.enroll_new("good.letter", "fresh").ok();
}
