//! Tokens break, fill up, lock and disappear during an operation: the error names the cause, never
//! "wrong PIN" for another cause, nothing is left incomplete, and the operation works again once
//! the token does.
//!
//! The faults come from the project's own PKCS#11 module in front of SoftHSM; the program knows
//! nothing of it.

use std::os::unix::process::ExitStatusExt;

use crate::support::agent::Agent;
use crate::support::deployment::Deployment;
use crate::support::faulty_module::FaultyModule;
use crate::support::inventory::Inventory;
use crate::support::machine::TokenKind;
use crate::support::output::Output;
use crate::support::shared_authority::TestUser;
use crate::support::terminal::Terminal;

/// The exit codes that these tests expect.
const EXIT_FAULT: i32 = 1;
const EXIT_ABSENT: i32 = 3;
const EXIT_PIN: i32 = 4;
const EXIT_REFUSED: i32 = 5;

/// A user with the keyset `default` at level high, whose tokens can be made to fail.
fn faulty_user() -> (TestUser, FaultyModule) {
    with_faults(TestUser::with_keyset())
}

fn with_faults(mut user: TestUser) -> (TestUser, FaultyModule) {
    let faulty = FaultyModule::wrap_module_of(&mut user.machine);
    user.machine.write("message.txt", "a message\n");
    (user, faulty)
}

fn sign(user: &TestUser, pin: &str) -> Output {
    let source = format!("file:{pin}");
    user.tokenkeep(&["sign", "--pin-source", &source, "--in", "message.txt", "--out", "signed.p7m"])
}

/// Nothing is signed, no PIN is blamed, no try is spent, and the next signature works as before.
#[track_caller]
fn assert_fails_without_blaming_pin(user: &TestUser, faulty: &FaultyModule, rules: &str, code: i32, words: &str) {
    faulty.reset_calls();
    faulty.set_faults(rules);
    let output = sign(user, "pin");
    faulty.clear_faults();
    output.fails_with(code).says(words).does_not_say("wrong").does_not_say("is locked");
    assert!(!user.machine.file("signed.p7m").exists(), "{rules}");
    assert_eq!(faulty.wrong_tries(), 0, "{rules}");
    assert!(!user.machine.listed_token("default").count_is_low(), "{rules}");
    user.signs_with("default", "pin");
}

#[test]
fn a_token_removed_during_a_signature_is_reported_as_removed() {
    let (user, faulty) = faulty_user();
    // At any point of the operation: before the PIN, in its login, between the two logins, in the
    // signature.
    for rules in [
        "removed",
        "remove C_OpenSession",
        "remove C_FindObjectsInit",
        "remove C_Login",
        "remove C_Login after 1",
        "remove C_SignInit",
        "remove C_Sign",
    ] {
        let words = if rules == "removed" { "on the tokens that are present" } else { "is not present" };
        assert_fails_without_blaming_pin(&user, &faulty, rules, EXIT_ABSENT, words);
    }
}

#[test]
fn a_token_removed_during_a_decryption_is_reported_as_removed() {
    // RSA decrypts; a key on a curve derives a secret.
    for (kind, rules) in [("rsa-2048", &["C_DecryptInit", "C_Decrypt"][..]), ("p256", &["C_DeriveKey"])] {
        let mut deployment = Deployment::begin_with_encryption_keys(kind);
        let faulty = FaultyModule::wrap_module_of(&mut deployment.machine);
        deployment.machine.write("message.txt", "a message\n");
        deployment.tokenkeep(&["encrypt", "--to", "admin@example.org", "message.txt", "--out", "secret.p7m"]).ok();
        let read = ["decrypt", "--keyset", "admin", "--pin-source", "file:admin.pin", "--in", "secret.p7m"];
        for function in rules {
            for rule in [format!("remove {function}"), format!("{function} CKR_DEVICE_REMOVED")] {
                faulty.reset_calls();
                faulty.set_faults(&rule);
                let output = deployment.tokenkeep(&read);
                faulty.clear_faults();
                // The message is not blamed either, as it is for any other failure at this point.
                output
                    .fails_with(EXIT_ABSENT)
                    .says("is not present")
                    .does_not_say("wrong")
                    .does_not_say("cannot be unwrapped");
                assert_eq!(faulty.wrong_tries(), 0, "{rule}");
                faulty.reset_calls();
                assert_eq!(deployment.tokenkeep(&read).ok().out(), "a message\n", "{rule}");
                // If the token does not ask, one login is for one use.
                let one_use = if *function == "C_DeriveKey" { &ONE_USE[..1] } else { &ONE_USE };
                assert_eq!(faulty.calls(), one_use, "{rule}");
            }
        }
    }
}

/// Any fault while a token is created is reported, and the same letter then creates one token.
#[track_caller]
fn check_token_creation_fault(rule: &str, code: i32, words: &str) {
    let mut user = TestUser::new();
    let faulty = FaultyModule::wrap_module_of(&mut user.machine);
    user.issue("first.letter");
    faulty.set_faults(rule);
    let output = user.enroll_new("first.letter", "default");
    faulty.clear_faults();
    output.fails_with(code).says(words).does_not_say("is locked").does_not_say("is wrong");
    assert!(!is_enrolled(&user, "default"), "{rule}");
    user.enroll_new("first.letter", "default").ok();
    user.signs_with("default", "pin");
    let tokens = user.tokenkeep(&["tokens", "--json"]).ok().json();
    let tokens = tokens.as_array().or_else(|| tokens["tokens"].as_array()).expect("a list");
    assert_eq!(tokens.len(), 1, "{rule}: {tokens:#?}");
    assert_eq!(faulty.wrong_tries(), 0, "{rule}: {:?}", faulty.calls());
}

#[test]
fn the_same_letter_finishes_a_token_whose_creation_failed() {
    for (code, exit, words) in [
        ("CKR_GENERAL_ERROR", EXIT_FAULT, "CKR_GENERAL_ERROR"),
        ("CKR_DEVICE_MEMORY", EXIT_FAULT, "is full"),
        ("CKR_TOKEN_WRITE_PROTECTED", EXIT_FAULT, "is write-protected"),
        ("CKR_DEVICE_REMOVED", EXIT_ABSENT, "is not present"),
    ] {
        for function in ["C_InitToken", "C_InitPIN"] {
            check_token_creation_fault(&format!("{function} {code}"), exit, words);
        }
    }
    // The token's new PIN, and its final SO PIN.
    for rule in ["C_InitPIN CKR_PIN_LEN_RANGE", "C_SetPIN CKR_PIN_INVALID"] {
        check_token_creation_fault(rule, EXIT_REFUSED, "does not accept the new PIN (CKR_PIN_");
    }
    for function in ["C_InitToken", "C_InitPIN"] {
        check_token_creation_fault(&format!("remove {function}"), EXIT_ABSENT, "is not present");
    }
}

#[test]
fn every_return_value_for_a_removed_token_is_understood() {
    let (user, faulty) = faulty_user();
    for code in ["CKR_DEVICE_REMOVED", "CKR_TOKEN_NOT_PRESENT"] {
        for function in ["C_Login", "C_SignInit", "C_Sign"] {
            let rule = format!("{function} {code}");
            assert_fails_without_blaming_pin(&user, &faulty, &rule, EXIT_ABSENT, "is not present");
        }
    }
    for code in ["CKR_SESSION_HANDLE_INVALID", "CKR_SESSION_CLOSED"] {
        // Only the session fails: the token is present and answers.
        assert_fails_without_blaming_pin(&user, &faulty, &format!("C_Sign {code}"), EXIT_FAULT, code);
        let gone = format!("C_Sign {code}\nC_GetSessionInfo {code}");
        assert_fails_without_blaming_pin(&user, &faulty, &gone, EXIT_ABSENT, "is not present");
    }
}

#[test]
fn a_general_error_is_retried_at_start_but_not_at_login() {
    let (user, faulty) = faulty_user();
    for function in ["C_OpenSession", "C_GetTokenInfo", "C_GetSlotList"] {
        faulty.set_faults(&format!("{function} CKR_GENERAL_ERROR times 1"));
        sign(&user, "pin").ok();
        std::fs::remove_file(user.machine.file("signed.p7m")).unwrap();
    }
    faulty.reset_calls();
    faulty.set_faults("C_Login CKR_GENERAL_ERROR times 1");
    sign(&user, "pin").fails_with(EXIT_FAULT).says("CKR_GENERAL_ERROR").does_not_say("wrong");
    assert_eq!(faulty.calls(), ["C_Login user CKR_GENERAL_ERROR unasked"], "a PIN is never tried again by itself");
    faulty.clear_faults();
    user.signs_with("default", "pin");
}

/// The logins of one use at level high: that of the token, and that for this use.
const ONE_USE: [&str; 2] = ["C_Login user CKR_OK", "C_Login context CKR_OK"];

#[test]
fn an_operation_with_a_pin_is_not_repeated_with_that_pin() {
    let (user, faulty) = faulty_user();
    user.encrypt("a secret\n", "secret.p7m");
    let sign = ["sign", "--pin-source", "file:pin", "--in", "message.txt", "--out", "made"];
    let read = ["decrypt", "--pin-source", "file:pin", "--in", "secret.p7m", "--out", "made"];
    for (line, init, function) in [(sign, "C_SignInit", "C_Sign"), (read, "C_DecryptInit", "C_Decrypt")] {
        for code in ["CKR_KEY_HANDLE_INVALID", "CKR_OBJECT_HANDLE_INVALID", "CKR_SESSION_HANDLE_INVALID"] {
            let run_with_faults = |rules: &str| {
                faulty.reset_calls();
                faulty.set_faults(rules);
                let output = user.tokenkeep(&line);
                faulty.clear_faults();
                output
            };
            // The next try would succeed, and the PIN is right; it would still be a second login
            // with the same PIN.
            let output = run_with_faults(&format!("{function} {code} times 1"));
            assert_ne!(output.code(), 0, "{function} {code}\n{output}");
            assert_eq!(faulty.calls(), ONE_USE, "{function} {code}");
            assert!(!user.machine.file("made").exists(), "{function} {code}");
            let output = run_with_faults(&format!("C_Login {code} after 1 times 1"));
            assert_ne!(output.code(), 0, "C_Login {code}\n{output}");
            let [first_login, _] = ONE_USE;
            assert_eq!(
                faulty.calls(),
                [first_login.to_owned(), format!("C_Login context {code} unasked")],
                "{function}"
            );
            assert!(!user.machine.file("made").exists(), "{function} {code}");
            // Before the PIN is given, looking the key up again costs nothing.
            run_with_faults(&format!("{init} {code} times 1")).ok();
            assert_eq!(faulty.calls(), ONE_USE, "{init} {code}");
            std::fs::remove_file(user.machine.file("made")).unwrap();
        }
    }
}

#[test]
fn already_logged_in_is_never_taken_for_a_correct_pin() {
    let (user, faulty) = faulty_user();
    faulty.set_faults("C_Login CKR_USER_ALREADY_LOGGED_IN");
    sign(&user, "wrong.pin").fails_with(EXIT_FAULT).says("CKR_USER_ALREADY_LOGGED_IN");
    assert!(!user.machine.file("signed.p7m").exists());
}

#[test]
fn the_last_try_has_a_warning_and_is_never_unattended() {
    let (user, faulty) = faulty_user();
    faulty.set_faults("flags FINAL_TRY");
    faulty.reset_calls();
    let line = ["sign", "--pin-source", "file:pin", "--in", "message.txt", "--out", "signed.p7m"];
    user.machine.tokenkeep_without_terminal(&line).fails_with(EXIT_PIN).says("one try is left");
    let line = ["sign", "--in", "message.txt", "--out", "signed.p7m"];
    let mut terminal = Terminal::tokenkeep(&user.machine, &line);
    terminal.expect("the next wrong PIN locks it").type_line("n");
    assert_eq!(terminal.finish().0, EXIT_PIN);
    assert!(faulty.calls().is_empty(), "{:?}", faulty.calls());
    let mut terminal = Terminal::tokenkeep(&user.machine, &line);
    terminal.expect("the next wrong PIN locks it").type_line("y").expect("PIN").expect(":").type_line(TestUser::PIN);
    let (code, shown) = terminal.finish();
    assert_eq!(code, 0, "{shown}");
}

#[test]
fn a_locked_pin_is_reported_as_locked_and_not_tried() {
    let (user, faulty) = faulty_user();
    faulty.reset_calls();
    faulty.set_faults("flags LOCKED");
    sign(&user, "pin").fails_with(EXIT_PIN).says("is locked").says("SO PIN");
    assert!(faulty.calls().is_empty(), "{:?}", faulty.calls());
    // This very try locks the PIN, as the token reports.
    faulty.set_faults("C_Login CKR_PIN_LOCKED");
    sign(&user, "pin").fails_with(EXIT_PIN).says("is locked").does_not_say("is wrong");
    assert_eq!(faulty.calls(), ["C_Login user CKR_PIN_LOCKED unasked"]);
}

#[test]
fn a_module_crash_leaves_no_lock_and_no_object() {
    let (user, faulty) = faulty_user();
    for rule in ["die C_FindObjectsInit", "die C_Login", "die C_Sign"] {
        faulty.set_faults(rule);
        let line = ["sign", "--pin-source", "file:pin", "--in", "message.txt", "--out", "signed.p7m"];
        let status = user.machine.tokenkeep_command(&line).output().unwrap().status;
        assert_eq!(status.signal(), Some(6), "{rule}: {status}");
        assert!(!user.machine.file("signed.p7m").exists());
        faulty.clear_faults();
        // Neither the owner lock nor an object on the token blocks the next use.
        user.signs_with("default", "pin");
    }
}

#[test]
fn a_module_that_fails_to_load_delays_only_one_command() {
    let mut user = TestUser::with_keyset_on(TokenKind::SoftHsm);
    let faulty = FaultyModule::add_to(&mut user.machine);
    faulty.set_faults("delay C_Initialize 3600000ms");
    let tells = |output: Output| output.ok().says("libfaulty_pkcs11.so").says("so it is not loaded").says("default");
    tells(user.tokenkeep(&["tokens"])).says("`tokenkeep doctor`");
    // It would load now, so a failure shows that it was not tried again.
    faulty.clear_faults();
    tells(user.tokenkeep(&["keysets"]));
    let agent = Agent::start(&user.machine, &[]);
    assert!(agent.log().contains("so it is not loaded"), "{}", agent.log());
    user.signs_with("default", "pin");
    drop(agent);
    user.tokenkeep(&["doctor"]).does_not_say("is not loaded");
    user.tokenkeep(&["tokens"]).ok().does_not_say("is not loaded");
}

/// The objects of the token, private ones included.
fn all_objects(user: &TestUser) -> Inventory {
    user.machine.inventory(&[("default", TestUser::PIN)])
}

/// Runs `enroll` with the letter, for another keyset on the existing token.
fn enroll_beside(user: &TestUser) -> Output {
    let line = ["enroll", "--letter", "more.letter", "--keyset", "beside", "--token", "default", "--level", "low"];
    user.tokenkeep(&[&line[..], &["--pin-source", "file:pin"]].concat())
}

/// Whatever step an enrollment reaches before the token rejects further writes: the error names the
/// cause, the existing keyset is unchanged, no incomplete keyset is listed as enrolled, and the
/// same letter finishes the enrollment once the token accepts writes. This holds with the token in
/// the command and in the agent.
#[track_caller]
fn check_enrollment_fault(code: &str, words: &str, by: OwnerProcess) {
    let (user, faulty) = with_faults(TestUser::enrolled());
    let before = all_objects(&user);
    let agent = by.start(&user);
    let mut met = 0;
    for function in ["C_CreateObject", "C_GenerateKeyPair", "C_UnwrapKey"] {
        user.issue(&format!("{function}.letter"));
        std::fs::rename(user.machine.file(&format!("{function}.letter")), user.machine.file("more.letter")).unwrap();
        let mut refused = 0;
        for after in 0.. {
            faulty.set_faults(&format!("{function} {code} after {after}"));
            let output = enroll_beside(&user);
            faulty.clear_faults();
            if output.clone().code() == 0 {
                break;
            }
            refused += 1;
            output.fails_with(EXIT_FAULT).says(words);
            assert!(!is_enrolled(&user, "beside"), "{function} after {after}");
            user.signs_with("default", "pin");
        }
        assert!(refused > 0, "{function} was never called");
        met += refused;
        assert!(is_enrolled(&user, "beside"), "the same letter has finished it");
        user.signs_with("beside", "pin");
        user.tokenkeep(&["keyset", "delete", "beside", "--yes", "--pin-source", "file:pin"]).ok();
    }
    assert!(met > 6, "the fault was met {met} times only");
    if let Some(agent) = agent {
        assert!(agent.log().contains(words), "it was not the agent that met it: {}", agent.log());
        assert!(agent.stop().success());
    }
    assert_eq!(all_objects(&user), before, "something was left");
}

/// The process that owns the token.
#[derive(Clone, Copy, PartialEq, Eq)]
enum OwnerProcess {
    Command,
    Agent,
}

impl OwnerProcess {
    fn start(self, user: &TestUser) -> Option<Agent> {
        let machine = &user.machine;
        let begin = || {
            let written = machine.read_text("config/tokenkeep/agent.toml");
            let allow = format!("{written}\nallow = [\"{}\"]\n", machine.path().display());
            machine.write("config/tokenkeep/agent.toml", allow);
            Agent::start(machine, &[])
        };
        (self == Self::Agent).then(begin)
    }
}

fn is_enrolled(user: &TestUser, name: &str) -> bool {
    let listed = user.tokenkeep(&["keysets", "--json"]).ok().json();
    let keysets = listed.as_array().or_else(|| listed["keysets"].as_array()).expect("a list").clone();
    keysets.iter().any(|keyset| keyset["keyset"] == name && keyset["status"] == "enrolled")
}

#[test]
fn a_full_token_is_reported_and_nothing_is_left_incomplete() {
    check_enrollment_fault("CKR_DEVICE_MEMORY", "is full", OwnerProcess::Command);
}

#[test]
fn the_agent_reports_a_full_token_too() {
    check_enrollment_fault("CKR_DEVICE_MEMORY", "is full", OwnerProcess::Agent);
}

#[test]
fn a_write_protected_token_is_reported_and_nothing_is_left() {
    check_enrollment_fault("CKR_TOKEN_WRITE_PROTECTED", "is write-protected", OwnerProcess::Command);
}

#[test]
fn the_agent_reports_a_write_protected_token_too() {
    check_enrollment_fault("CKR_TOKEN_WRITE_PROTECTED", "is write-protected", OwnerProcess::Agent);
}

#[test]
fn a_token_flagged_write_protected_is_not_written() {
    for by in [OwnerProcess::Command, OwnerProcess::Agent] {
        let (user, faulty) = with_faults(TestUser::enrolled());
        user.issue("more.letter");
        let before = all_objects(&user);
        faulty.set_faults("flags WRITE_PROTECTED");
        let agent = by.start(&user);
        enroll_beside(&user).fails_with(EXIT_REFUSED).says("is write-protected").says("not enrolled");
        // Signing needs no write access.
        user.signs_with("default", "pin");
        if let Some(agent) = agent {
            assert!(agent.stop().success());
        }
        assert_eq!(all_objects(&user), before);
        faulty.clear_faults();
        enroll_beside(&user).ok();
    }
}
