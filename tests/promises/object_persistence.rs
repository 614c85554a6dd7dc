//! Before the client confirms an enrollment to the authority, a process that loads the module
//! afresh has read all stored objects: objects that only seemed to be stored make no keyset, and
//! the letter stays valid. A lack of space is reported.

use crate::support::authority::Authority;
use crate::support::faulty_module::{FaultyModule, module};
use crate::support::foreign_programs::skipped;
use crate::support::machine::Machine;
use crate::support::shared_authority::TestUser;

#[test]
fn objects_not_stored_make_no_keyset_and_spare_the_letter() {
    let mut user = TestUser::enrolled();
    let before = user.keyset_info("default");
    let faulty = FaultyModule::wrap_module_of(&mut user.machine);
    user.issue("again.letter");
    faulty.set_faults("lose certificates");
    let output = user.re_enroll("again.letter", "pin", &[]).fails_with(1).says("a certificate");
    output.says("the temporary key is still good").does_not_say("CKR_");
    faulty.clear_faults();
    assert_eq!(user.keyset_info("default"), before);
    user.signs_with("default", "pin");
    user.re_enroll("again.letter", "pin", &[]).ok();
    user.signs_with("default", "pin");

    user.issue("new.letter");
    faulty.set_faults("lose certificates");
    user.enroll_new("new.letter", "new").fails_with(1).says("a certificate");
    faulty.clear_faults();
    user.enroll_new("new.letter", "new").ok();
    user.signs_with("new", "pin");
}

/// No letter can restore the objects on an authority's token, so they are read back before the
/// authority exists.
#[test]
fn an_init_with_unstored_objects_fails_and_can_be_continued() {
    let mut machine = Machine::new();
    let faulty = FaultyModule::wrap_module_of(&mut machine);
    Authority::prepared(&machine);
    let configuration = machine.read_text("authority.toml");
    let (real, ours) = (machine.module().display().to_string(), module().display().to_string());
    machine.write("authority.toml", configuration.replace(&real, &ours));
    faulty.set_faults("lose certificates");
    let output = machine.tokenkeep(&Authority::INIT).fails_with(1);
    output
        .says("cannot make the authority")
        .says("a certificate")
        .says("run the same command again")
        .does_not_say("CKR_");
    assert!(!machine.file("admin.letter").exists(), "a letter of an authority that is none");
    faulty.clear_faults();
    machine.tokenkeep(&Authority::INIT).ok();
    assert!(machine.file("admin.letter").exists());
}

/// In a separate mount namespace, so that no privilege is needed: SoftHSM's tokens on a file system
/// of 600 KiB.
#[test]
fn on_a_full_disk_an_enrollment_works_or_the_letter_stays_good() {
    let user = TestUser::new();
    let mounts = ["--map-root-user", "--mount", "mount", "-t", "tmpfs", "tmpfs", "tokens"];
    if user.machine.run("unshare", &mounts, b"").code() != 0 {
        return skipped("a full disk: unshare can make no mount namespace");
    }
    let rooms = [0, 40, 72, 96, 120];
    for room in rooms {
        let letter = user.machine.file(&format!("{room}.letter")).display().to_string();
        let email = format!("full-disk-{room}@example.org");
        user.authority.admin(&["issue", &email, "--name", "Example, Somebody", "--letter-out", &letter]).ok();
    }
    let script = r#"
        mount -t tmpfs -o size=600k tmpfs tokens
        enroll() {
            tokenkeep enroll --letter $1.letter --keyset k$1 --level high --new-token --new-pin-source file:pin
        }
        for room in 0 40 72 96 120; do
            free=$(df --output=avail tokens | tail -1)
            head -c $(( (free - room) * 1024 )) /dev/zero > tokens/fill
            enroll $room 2> said; code=$?
            rm tokens/fill
            [ $code = 0 ] || {
                echo "refused $(tr '\n' ' ' < said)"
                enroll $room 2>> again || echo "LOST $room $(cat again)"
            }
            echo text | tokenkeep sign --keyset k$room --pin-source file:pin > signed.p7m || echo "BROKEN $room"
            rm -rf tokens/* runtime/tokenkeep
        done"#;
    let result = user.machine.run("unshare", &["--map-root-user", "--mount", "sh", "-c", script], b"");
    assert!(!result.out().contains("LOST") && !result.out().contains("BROKEN"), "{result}");
    let refused: Vec<String> =
        result.out().lines().filter(|line| line.starts_with("refused")).map(str::to_owned).collect();
    assert!(refused.len() >= 2, "{result}");
    for line in refused {
        assert!(line.contains("KiB free") && line.contains(", mode "), "{line}");
    }
}

/// As above, for an authority's token.
#[test]
fn an_init_on_a_full_disk_succeeds_or_can_be_continued() {
    let machine = Machine::new();
    let mounts = ["--map-root-user", "--mount", "mount", "-t", "tmpfs", "tmpfs", "tokens"];
    if machine.run("unshare", &mounts, b"").code() != 0 {
        return skipped("a full disk: unshare can make no mount namespace");
    }
    Authority::prepared(&machine);
    let script = r#"
        mount -t tmpfs -o size=600k tmpfs tokens
        check() { tokenkeep authority check --config authority.toml --pin-source file:authority.pin; }
        for room in 0 24 40 56; do
            free=$(df --output=avail tokens | tail -1)
            head -c $(( (free - room) * 1024 )) /dev/zero > tokens/fill
            tokenkeep INIT 2> said > /dev/null; code=$?
            rm tokens/fill
            [ $code = 0 ] || { echo "refused $(tr '\n' ' ' < said)"; [ ! -e admin.letter ] || echo "LETTER $room"
                tokenkeep INIT > /dev/null 2>> again || echo "LOST $room $(cat again)"; }
            check > checked 2>&1 || echo "BROKEN $room $(cat checked)"
            rm -rf tokens/* state admin.letter runtime/tokenkeep
        done"#;
    let script = script.replace("INIT", &Authority::INIT.join(" "));
    let result = machine.run("unshare", &["--map-root-user", "--mount", "sh", "-c", &script], b"");
    for word in ["LETTER", "LOST", "BROKEN"] {
        assert!(!result.out().contains(word), "{result}");
    }
    assert!(result.out().lines().filter(|line| line.starts_with("refused")).count() >= 2, "{result}");
}
