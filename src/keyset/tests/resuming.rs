//! Interrupted enrollments: the same letter continues, another letter rolls back. (Crashes are
//! tested in `tests/`, which can kill a process.)

use super::authority_double::unreachable;
use super::*;

#[test]
fn a_lost_reply_is_asked_for_again_with_the_same_bytes() {
    let double = AuthorityDouble::new();
    for new_token in [true, false] {
        let wallet = if new_token { Wallet::new() } else { somebody(&double) };
        let options = if new_token { wallet.on_new_token("a") } else { wallet.again("a") };
        let letter = double.letter(LetterPurpose::Enroll);
        double.bend(|_, kind, reply| if kind == "ir" { Err(unreachable()) } else { Ok(reply) });
        let not = not_enrolled(run(&double, &wallet, &letter, &options, &mut Script::with(PIN)));
        assert_eq!(not.kind(), ErrorKind::Unreachable);
        assert_eq!(double.seen(), ["genm", "ir"]);
        let reference = letter.reference.as_str().to_owned();
        let keyset = wallet.keyset("a");
        if new_token {
            assert_eq!(keyset.status, KeysetStatus::Pending { reference });
            let refused =
                sign(&wallet.tokens, &keyset, b"", Placement::Attached, &mut Script::with(PIN), Timestamp::now());
            assert_eq!(refused.unwrap_err().kind(), ErrorKind::Refused);
        } else {
            assert_eq!(keyset.status, KeysetStatus::ReenrollmentPending { reference });
            sign(&wallet.tokens, &keyset, b"", Placement::Attached, &mut Script::with(PIN), Timestamp::now()).unwrap();
        }

        // A wrong PIN does no harm.
        let not = not_enrolled(run(&double, &wallet, &letter, &options, &mut Script::with("00000000")));
        assert_eq!(not.kind(), ErrorKind::Pin);

        double.straight();
        double.seen();
        let mut script = Script::with(PIN);
        let enrolled = enrolled(run(&double, &wallet, &letter, &options, &mut script));
        assert!(enrolled.resumed && enrolled.reenrolled != new_token);
        assert_eq!(double.seen(), ["ir", "certConf"]);
        assert_eq!(script.asked, [if new_token { "resumed" } else { "existing to enroll" }]);
        let inventory = wallet.inventory(&wallet.keyset("a").token, PIN);
        assert!(!inventory.iter().any(|object| object.contains("transport")), "{inventory:#?}");
        let refused = not_enrolled(run(&double, &wallet, &letter, &wallet.on_new_token("a"), &mut Script::with(PIN)));
        assert!(refused.to_string().contains("taken"), "{refused}");
    }
}

#[test]
fn another_letter_removes_an_unfinished_enrollment() {
    let double = AuthorityDouble::new();
    let wallet = somebody(&double);
    let token = wallet.keyset("a").token;
    let objects = wallet.inventory(&token, PIN).len();
    double.bend(|_, kind, reply| if kind == "ir" { Err(unreachable()) } else { Ok(reply) });
    not_enrolled(run(
        &double,
        &wallet,
        &double.letter(LetterPurpose::Enroll),
        &wallet.again("a"),
        &mut Script::with(PIN),
    ));
    assert_eq!(
        wallet.inventory(&token, PIN).len(),
        objects + 3,
        "a signing key with its public half, and a transport key"
    );

    double.straight();
    let mut script = Script::with(PIN);
    enrolled(run(&double, &wallet, &double.letter(LetterPurpose::Enroll), &wallet.again("a"), &mut script));
    assert!(matches!(script.notices[..], [Notice::RollingBack { .. }]), "{:?}", script.notices);
    assert_eq!(wallet.inventory(&token, PIN).len(), objects + 3, "one more encryption key with its certificate");

    // Into a new token that another letter began: refused without an explicit selection.
    double.bend(|_, kind, reply| if kind == "ir" { Err(unreachable()) } else { Ok(reply) });
    let begun = double.letter(LetterPurpose::Enroll);
    not_enrolled(run(&double, &wallet, &begun, &wallet.on_new_token("b"), &mut Script::with(PIN)));
    double.straight();
    let letter = double.letter(LetterPurpose::Enroll);
    let mut nobody = Script::without(NoPin::Cancelled);
    let not = not_enrolled(run(&double, &wallet, &letter, &wallet.on_new_token("b"), &mut nobody));
    assert!(nobody.asked.is_empty() && not.to_string().contains(begun.reference.as_str()), "{not}");
    delete(&wallet.tokens, &wallet.keyset("b"), &mut Script::with(PIN)).unwrap();
    let empty = wallet.tokens.token(&wallet.name("b").as_str().parse().unwrap()).unwrap();
    assert!(wallet.inventory(&empty, PIN).is_empty());
}

#[test]
fn deleting_an_unfinished_re_enrollment_deletes_the_keyset() {
    let double = AuthorityDouble::new();
    let wallet = somebody(&double);
    double.bend(|_, kind, reply| if kind == "certConf" { Err(unreachable()) } else { Ok(reply) });
    not_enrolled(run(
        &double,
        &wallet,
        &double.letter(LetterPurpose::Enroll),
        &wallet.again("a"),
        &mut Script::with(PIN),
    ));
    let keyset = wallet.keyset("a");
    delete(&wallet.tokens, &keyset, &mut Script::with(PIN)).unwrap();
    assert_eq!(wallet.inventory(&keyset.token, PIN), BTreeSet::new());
}
