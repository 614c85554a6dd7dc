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
fn enrolled_user(rule: &str) -> (TestUser, FaultyModule) {
    let mut user = TestUser::new();
    let faulty = FaultyModule::wrap_module_of(&mut user.machine);
    faulty.set_faults(rule);
    user.issue("first.letter");
    user.enroll_new("first.letter", "default").ok().says("does not enforce the PIN for each use");
    faulty.clear_faults();
    user.machine.write("message.txt", "a message\n");
    user.encrypt("a secret\n", "secret.p7m");
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
        let (user, faulty) = enrolled_user(rule);
        let sign = ["sign", "--in", "message.txt", "--out", "signed.p7m"];
        let read = ["decrypt", "--in", "secret.p7m", "--out", "read.txt"];
        for line in [sign, sign, read, read] {
            let made = user.machine.file(line[4]);
            faulty.reset_calls();
            user.machine.tokenkeep_without_terminal(&line).fails_with(4);
            assert!(!made.exists() && faulty.calls().is_empty(), "{rule}: {line:?}: {:?}", faulty.calls());
            let with = |pin: &'static str| user.tokenkeep(&[&line[..], &["--pin-source", pin]].concat());
            with("file:wrong.pin").fails_with(4).says("is wrong");
            assert!(!made.exists(), "{rule}: {line:?}");
            assert_eq!(faulty.calls(), ["C_Login user CKR_PIN_INCORRECT"], "{rule}: {line:?}");
            faulty.reset_calls();
            with("file:pin").ok();
            std::fs::remove_file(made).unwrap();
            assert_eq!(faulty.calls(), ["C_Login user CKR_OK"], "{rule}: {line:?}");
        }
    }
}

#[test]
fn other_programs_need_their_own_login_and_weaken_nothing() {
    const TEST: &str = "level_high_without_support::other_programs_need_their_own_login_and_weaken_nothing";
    if OtherProgram::run_logged_in(use_key_with_own_login) {
        return;
    }
    let (user, _) = enrolled_user(IGNORES);
    user.machine.run_child_task(TEST, "default", PIN, &Value::Null);
    user.signs_with("default", "pin");
}

/// As SECURITY.md says: with its own login the intruder signs as often as it likes, and without it
/// not at all.
fn use_key_with_own_login(intruder: &OtherProgram) -> Value {
    let keys = intruder.objects(ObjectClass::PRIVATE_KEY);
    assert_eq!(keys.len(), 2);
    for key in &keys {
        assert!(!intruder.has_attribute(*key, &Attribute::AlwaysAuthenticate(true)), "the token asks");
        for laxer in [Attribute::Copyable(true), Attribute::Modifiable(true), Attribute::Extractable(true)] {
            let change = [laxer.clone()];
            assert!(intruder.open_session().update_attributes(*key, &change).is_err(), "{laxer:?} was set");
        }
        assert!(intruder.open_session().copy_object(*key, &[Attribute::Token(false)]).is_err(), "it was copied");
    }
    let signing = *keys.iter().find(|key| intruder.has_attribute(**key, &Attribute::Sign(true))).unwrap();
    let sign = || intruder.open_session().sign(&Mechanism::Ecdsa, signing, &[7; 32]);
    for _ in 0..2 {
        sign().expect("the login alone suffices");
    }
    intruder.session.logout().unwrap();
    assert!(sign().is_err(), "it signed without a login");
    assert_eq!(intruder.objects(ObjectClass::PRIVATE_KEY).len(), 0, "the keys are visible without a login");
    json!("tried")
}

#[test]
fn a_session_of_another_level_does_not_unlock_level_high() {
    let mut prompted = PromptedUser::with(TokenKind::SoftHsm, &[]);
    let faulty = FaultyModule::wrap_module_of(&mut prompted.user.machine);
    faulty.set_faults(IGNORES);
    prompted.enroll("strict", "high", &[]);
    faulty.clear_faults();
    let machine = &prompted.user.machine;
    let (email, letter) = (format!("easy.{}", prompted.user.email), machine.file("easy.letter").display().to_string());
    let issue = ["issue", &email, "--name", "Example, Somebody", "--levels", "low", "--letter-out", &letter];
    prompted.user.authority.admin(&issue).ok();
    let beside = ["enroll", "--letter", &letter, "--keyset", "easy", "--token", "strict", "--level", "low"];
    prompted.user.tokenkeep(&[&beside[..], &["--pin-source", "file:pin"]].concat()).ok();
    machine.write("message.txt", "a message\n");
    let allowed = machine.path().display().to_string();
    prompted.start(&format!("allow = [\"{allowed}\"]"));

    for easy_is_open in [false, true] {
        faulty.reset_calls();
        if easy_is_open {
            prompted.set_answers(&[PIN]);
            assert!(prompted.signs("easy", "opens"));
            assert_eq!(prompted.question_kinds(), ["pin"]);
            assert_eq!(faulty.calls(), ["C_Login user CKR_OK"]);
            faulty.reset_calls();
        }
        // Nobody gives a PIN for this use: the active session does not serve it.
        prompted.set_answers(&["no", "no"]);
        assert!(!prompted.signs("strict", "cancelled"), "it was signed without its PIN");
        let sign = ["sign", "--keyset", "strict", "--in", "message.txt", "--out", "signed.p7m"];
        prompted.user.machine.tokenkeep_without_terminal(&sign).fails_with(4);
        assert_eq!(prompted.question_kinds(), ["pin", "pin"]);
        assert!(faulty.calls().is_empty(), "{:?}", faulty.calls());
        // Each signature has one login, by the SSH protocol and by a command.
        for file in ["one", "two"] {
            prompted.set_answers(&[PIN]);
            assert!(prompted.signs("strict", file));
            assert_eq!(prompted.question_kinds(), ["pin"]);
            assert_eq!(faulty.calls(), ["C_Login user CKR_OK"], "{file}");
            faulty.reset_calls();
            prompted.user.tokenkeep(&[&sign[..], &["--pin-source", "file:pin"]].concat()).ok();
            assert_eq!(faulty.calls(), ["C_Login user CKR_OK"], "{file}");
            faulty.reset_calls();
        }
        // The sessions from before are still active, and no other is.
        assert_eq!(is_logged_in(&prompted), easy_is_open);
        prompted.set_answers(&[]);
        assert_eq!(prompted.signs("easy", "afterwards"), easy_is_open);
        prompted.questions();
    }
}

/// The agent's API's report about the one token.
fn is_logged_in(prompted: &PromptedUser) -> bool {
    let socket = prompted.agent().api_socket().display().to_string();
    let curl = ["-sS", "--unix-socket", &socket, "http://localhost/v1/tokens"];
    let answer = prompted.user.machine.run("curl", &curl, b"").ok().json();
    let tokens = answer["tokens"].as_array().unwrap_or_else(|| panic!("{answer}"));
    let token = tokens.iter().find(|token| token["label"] == "strict").unwrap_or_else(|| panic!("{answer}"));
    token["logged_in"].as_bool().unwrap_or_else(|| panic!("{answer}"))
}
