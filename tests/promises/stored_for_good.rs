//! Before the authority hears that an enrollment is well, a process that loads the module anew has seen all that it stored:
//! what only seemed to be stored makes no keyset, and the letter stays good. Where there is no room, that is said.

use crate::support::faulty::Faulty;
use crate::support::office::Somebody;
use crate::support::witness::skipped;

#[test]
fn what_was_not_really_stored_makes_no_keyset_and_the_letter_stays_good() {
    let mut somebody = Somebody::enrolled();
    let before = somebody.shown("default");
    let faulty = Faulty::in_front_of(&mut somebody.machine);
    somebody.issue("again.letter");
    faulty.does("lose certificates");
    let told = somebody.re_enroll("again.letter", "pin", &[]).fails_with(1).says("a certificate");
    told.says("the temporary key is still good").does_not_say("CKR_");
    faulty.behaves();
    assert_eq!(somebody.shown("default"), before);
    somebody.signs_with("default", "pin");
    somebody.re_enroll("again.letter", "pin", &[]).ok();
    somebody.signs_with("default", "pin");

    somebody.issue("new.letter");
    faulty.does("lose certificates");
    somebody.enroll_new("new.letter", "new").fails_with(1).says("a certificate");
    faulty.behaves();
    somebody.enroll_new("new.letter", "new").ok();
    somebody.signs_with("new", "pin");
}

/// In a mount namespace of its own, so that no privilege is needed: SoftHSM's tokens on a file system of 600 KiB.
#[test]
fn on_a_full_disk_an_enrollment_works_or_the_letter_stays_good() {
    let somebody = Somebody::new();
    let mounts = ["--map-root-user", "--mount", "mount", "-t", "tmpfs", "tmpfs", "tokens"];
    if somebody.machine.run("unshare", &mounts, b"").code() != 0 {
        return skipped("a full disk: unshare can make no mount namespace");
    }
    let rooms = [0, 40, 72, 96, 120];
    for room in rooms {
        let letter = somebody.machine.file(&format!("{room}.letter")).display().to_string();
        let email = format!("full-disk-{room}@example.org");
        somebody.office.admin(&["issue", &email, "--name", "Example, Somebody", "--letter-out", &letter]).ok();
    }
    let script = r#"
        mount -t tmpfs -o size=600k tmpfs tokens
        enroll() { tokenkeep enroll --letter $1.letter --keyset k$1 --level high --new-token --new-pin-source file:pin; }
        for room in 0 40 72 96 120; do
            free=$(df --output=avail tokens | tail -1)
            head -c $(( (free - room) * 1024 )) /dev/zero > tokens/fill
            enroll $room 2> said; code=$?
            rm tokens/fill
            [ $code = 0 ] || { echo "refused $(tr '\n' ' ' < said)"; enroll $room 2>> again || echo "LOST $room $(cat again)"; }
            echo text | tokenkeep sign --keyset k$room --pin-source file:pin > signed.p7m || echo "BROKEN $room"
            rm -rf tokens/* runtime/tokenkeep
        done"#;
    let said = somebody.machine.run("unshare", &["--map-root-user", "--mount", "sh", "-c", script], b"");
    assert!(!said.out().contains("LOST") && !said.out().contains("BROKEN"), "{said}");
    let refused: Vec<String> =
        said.out().lines().filter(|line| line.starts_with("refused")).map(str::to_owned).collect();
    assert!(refused.len() >= 2, "{said}");
    for line in refused {
        assert!(line.contains("KiB free") && line.contains(", mode "), "{line}");
    }
}
