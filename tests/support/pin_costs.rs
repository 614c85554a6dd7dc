//! The number of PIN tries that an operation costs, and the commands that need a PIN.

use super::faulty_module::FaultyModule;
use super::shared_authority::{TestUser, re_enroll_arguments};

/// A user with the keyset `default` at level High, and the input of each command that needs a PIN.
pub fn faulty_user() -> (TestUser, FaultyModule) {
    let mut user = TestUser::enrolled();
    let faulty = FaultyModule::wrap_module_of(&mut user.machine);
    user.machine.write("message.txt", "a message\n");
    user.encrypt("a secret\n", "secret.p7m");
    user.issue("again.letter");
    user.issue("beside.letter");
    (user, faulty)
}

/// The user commands that need the PIN of an existing token, without the PIN source.
pub fn commands() -> Vec<(&'static str, Vec<&'static str>)> {
    let beside = ["enroll", "--letter", "beside.letter", "--keyset", "beside", "--token", "default", "--level", "high"];
    vec![
        ("sign", vec!["sign", "--in", "message.txt", "--out", "signed.p7m"]),
        ("decrypt", vec!["decrypt", "--in", "secret.p7m", "--out", "opened.txt"]),
        ("re-enroll", re_enroll_arguments("again.letter").to_vec()),
        ("enroll beside", beside.to_vec()),
        ("pin change", vec!["pin", "change", "--new-pin-source", "file:other.pin"]),
        ("keyset delete", vec!["keyset", "delete", "default", "--yes"]),
    ]
}

#[track_caller]
pub fn assert_tries(faulty: &FaultyModule, what: &str, tries: usize, operation: impl FnOnce()) {
    faulty.reset_calls();
    operation();
    let calls = faulty.calls();
    assert_eq!(faulty.wrong_tries(), tries, "{what}: {calls:#?}");
    // A try that is not answered with `CKR_PIN_INCORRECT` counts too.
    assert_eq!(calls.len(), tries, "{what}: {calls:#?}");
}
