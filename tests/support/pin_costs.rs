//! How many tries of a PIN an act costs, and the commands that take one.

use super::faulty::Faulty;
use super::office::{Somebody, re_enroll_arguments};

/// Somebody with the keyset `default` at level High, and what each command that takes a PIN needs.
pub fn somebody() -> (Somebody, Faulty) {
    let mut somebody = Somebody::enrolled();
    let faulty = Faulty::in_front_of(&mut somebody.machine);
    somebody.machine.write("message.txt", "a message\n");
    somebody.encrypts("a secret\n", "secret.p7m");
    somebody.issue("again.letter");
    somebody.issue("beside.letter");
    (somebody, faulty)
}

/// The commands of a user that ask for the PIN of a token that is there, without the PIN's source.
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
pub fn costs(faulty: &Faulty, what: &str, tries: usize, act: impl FnOnce()) {
    faulty.forget();
    act();
    let calls = faulty.calls();
    assert_eq!(faulty.wrong_tries(), tries, "{what}: {calls:#?}");
    // A try that is not answered with "wrong" is one all the same.
    assert_eq!(calls.len(), tries, "{what}: {calls:#?}");
}
