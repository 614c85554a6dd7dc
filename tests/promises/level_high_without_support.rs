//! Level high on a token that does not ask for the PIN at each use: its module refuses
//! `CKA_ALWAYS_AUTHENTICATE`, or accepts and ignores it. Then one login is for one use, and no
//! session remains.
//!
//! The logins are counted between the program and the token.

use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, ObjectClass};
use serde_json::{Value, json};

use crate::support::faulty_module::FaultyModule;
use crate::support::machine::TokenKind;
use crate::support::other_program::OtherProgram;
use crate::support::prompted_user::PromptedUser;
use crate::support::shared_authority::TestUser;

const PIN: &str = TestUser::PIN;
const IGNORES: &str = "ignore CKA_ALWAYS_AUTHENTICATE";

/// A user with the keyset `default` at level high, enrolled with a module that follows this rule.
fn enrolled(rule: &str) -> (TestUser, FaultyModule) {
    let mut user = TestUser::new();
    let faulty = FaultyModule::in_front_of(&mut user.machine);
    faulty.set_faults(rule);
    user.issue("first.letter");
    user.enroll_new("first.letter", "default").ok().says("does not enforce the PIN for each use");
    faulty.clear_faults();
    user.machine.write("message.txt", "a message\n");
    user.encrypts("a secret\n", "secret.p7m");
    (user, faulty)
}

#[test]
fn each_use_prompts_for_one_login_and_leaves_no_session() {
    for rule in [
        "refuse CKA_ALWAYS_AUTHENTICATE CKR_ATTRIBUTE_TYPE_INVALID",
        "refuse CKA_ALWAYS_AUTHENTICATE CKR_ATTRIBUTE_VALUE_INVALID",
        "refuse CKA_ALWAYS_AUTHENTICATE CKR_TEMPLATE_INCONSISTENT",
        IGNORES,
    ] {
        let (user, faulty) = enrolled(rule);
        let sign = ["sign", "--in", "message.txt", "--out", "signed.p7m"];
        let read = ["decrypt", "--in", "secret.p7m", "--out", "read.txt"];
        for line in [sign, sign, read, read] {
            let made = user.machine.file(line[4]);
            faulty.forget();
            user.machine.tokenkeep_without_terminal(&line).fails_with(4);
            assert!(!made.exists() && faulty.calls().is_empty(), "{rule}: {line:?}: {:?}", faulty.calls());
            let with = |pin: &'static str| user.tokenkeep(&[&line[..], &["--pin-source", pin]].concat());
            with("file:wrong.pin").fails_with(4).says("is wrong");
            assert!(!made.exists(), "{rule}: {line:?}");
            assert_eq!(faulty.calls(), ["C_Login user CKR_PIN_INCORRECT"], "{rule}: {line:?}");
            faulty.forget();
            with("file:pin").ok();
            std::fs::remove_file(made).unwrap();
            assert_eq!(faulty.calls(), ["C_Login user CKR_OK"], "{rule}: {line:?}");
        }
    }
}

#[test]
fn other_programs_need_their_own_login_and_weaken_nothing() {
    const TEST: &str = "level_high_without_support::other_programs_need_their_own_login_and_weaken_nothing";
    if OtherProgram::run_logged_in(what_is_left_to_another_program) {
        return;
    }
    let (user, _) = enrolled(IGNORES);
    user.machine.order(TEST, "default", PIN, &Value::Null);
    user.signs_with("default", "pin");
}

/// As SECURITY.md says: with its own login the intruder signs as often as it likes, and without it
/// not at all.
fn what_is_left_to_another_program(intruder: &OtherProgram) -> Value {
    let keys = intruder.objects(ObjectClass::PRIVATE_KEY);
    assert_eq!(keys.len(), 2);
    for key in &keys {
        assert!(!intruder.is(*key, &Attribute::AlwaysAuthenticate(true)), "the token asks");
        for laxer in [Attribute::Copyable(true), Attribute::Modifiable(true), Attribute::Extractable(true)] {
            let change = [laxer.clone()];
            assert!(intruder.another_session().update_attributes(*key, &change).is_err(), "{laxer:?} was set");
        }
        assert!(intruder.another_session().copy_object(*key, &[Attribute::Token(false)]).is_err(), "it was copied");
    }
    let signing = *keys.iter().find(|key| intruder.is(**key, &Attribute::Sign(true))).unwrap();
    let sign = || intruder.another_session().sign(&Mechanism::Ecdsa, signing, &[7; 32]);
    for _ in 0..2 {
        sign().expect("a log-in is all that the token wants");
    }
    intruder.session.logout().unwrap();
    assert!(sign().is_err(), "it signed without a log-in");
    assert_eq!(intruder.objects(ObjectClass::PRIVATE_KEY).len(), 0, "the keys are seen without a log-in");
    json!("tried")
}

#[test]
fn a_session_of_another_level_does_not_unlock_level_high() {
    let mut asked = PromptedUser::with(TokenKind::SoftHsm, &[]);
    let faulty = FaultyModule::in_front_of(&mut asked.user.machine);
    faulty.set_faults(IGNORES);
    asked.enroll("strict", "high", &[]);
    faulty.clear_faults();
    let machine = &asked.user.machine;
    let (email, letter) = (format!("easy.{}", asked.user.email), machine.file("easy.letter").display().to_string());
    let issue = ["issue", &email, "--name", "Example, Somebody", "--levels", "low", "--letter-out", &letter];
    asked.user.authority.admin(&issue).ok();
    let beside = ["enroll", "--letter", &letter, "--keyset", "easy", "--token", "strict", "--level", "low"];
    asked.user.tokenkeep(&[&beside[..], &["--pin-source", "file:pin"]].concat()).ok();
    machine.write("message.txt", "a message\n");
    let allowed = machine.path().display().to_string();
    asked.start(&format!("allow = [\"{allowed}\"]"));

    for easy_is_open in [false, true] {
        faulty.forget();
        if easy_is_open {
            asked.will(&[PIN]);
            assert!(asked.signs("easy", "opens"));
            assert_eq!(asked.asked_for(), ["pin"]);
            assert_eq!(faulty.calls(), ["C_Login user CKR_OK"]);
            faulty.forget();
        }
        // Nobody gives a PIN for this use: the active session does not serve it.
        asked.will(&["no", "no"]);
        assert!(!asked.signs("strict", "cancelled"), "it was signed without its PIN");
        let sign = ["sign", "--keyset", "strict", "--in", "message.txt", "--out", "signed.p7m"];
        asked.user.machine.tokenkeep_without_terminal(&sign).fails_with(4);
        assert_eq!(asked.asked_for(), ["pin", "pin"]);
        assert!(faulty.calls().is_empty(), "{:?}", faulty.calls());
        // Each signature has one login, by the SSH protocol and by a command.
        for file in ["one", "two"] {
            asked.will(&[PIN]);
            assert!(asked.signs("strict", file));
            assert_eq!(asked.asked_for(), ["pin"]);
            assert_eq!(faulty.calls(), ["C_Login user CKR_OK"], "{file}");
            faulty.forget();
            asked.user.tokenkeep(&[&sign[..], &["--pin-source", "file:pin"]].concat()).ok();
            assert_eq!(faulty.calls(), ["C_Login user CKR_OK"], "{file}");
            faulty.forget();
        }
        // The sessions from before are still active, and no other is.
        assert_eq!(is_logged_in(&asked), easy_is_open);
        asked.will(&[]);
        assert_eq!(asked.signs("easy", "afterwards"), easy_is_open);
        asked.questions();
    }
}

/// The agent's API's report about the one token.
fn is_logged_in(asked: &PromptedUser) -> bool {
    let socket = asked.agent().api_socket().display().to_string();
    let curl = ["-sS", "--unix-socket", &socket, "http://localhost/v1/tokens"];
    let answer = asked.user.machine.run("curl", &curl, b"").ok().json();
    let tokens = answer["tokens"].as_array().unwrap_or_else(|| panic!("{answer}"));
    let token = tokens.iter().find(|token| token["label"] == "strict").unwrap_or_else(|| panic!("{answer}"));
    token["logged_in"].as_bool().unwrap_or_else(|| panic!("{answer}"))
}
