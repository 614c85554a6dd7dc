//! The token is chosen before any login: by serial number, by URI, by label. An ambiguous selector
//! is refused with the serial numbers; a missing token is reported as absent.

use std::time::{Duration, Instant};

use crate::support::deployment::Deployment;
use crate::support::output::Output;
use crate::support::shared_authority::TestUser;

fn enroll_on(user: &TestUser, token: &str, more: &[&str]) -> Output {
    let line = ["enroll", "--letter", "the.letter", "--keyset", "mine", "--level", "high", "--token", token];
    user.tokenkeep(&[&line[..], more].concat())
}

#[test]
fn an_absent_token_is_reported_as_absent() {
    let user = TestUser::new();
    user.issue("the.letter");
    user.machine.make_token("some other", TestUser::PIN);
    let wire = user.start_proxy();
    let url = wire.url();
    for token in ["nowhere", "0123456789abcdef", "pkcs11:token=nowhere", "pkcs11:serial=0123456789abcdef"] {
        let more = ["--pin-source", "file:no-such-file", "--authority", &url];
        let output = enroll_on(&user, token, &more).fails_with(3);
        output.says(token.rsplit('=').next().unwrap()).says("some other");
    }
    enroll_on(&user, "pkcs11:token", &["--pin-source", "file:pin"]).fails_with(2);
    assert!(wire.exchanges().is_empty(), "something was sent");
}

#[test]
fn two_tokens_of_one_label_are_refused_naming_both_serials() {
    let user = TestUser::new();
    user.issue("the.letter");
    let one = user.machine.make_token("twin", TestUser::PIN);
    let other = user.machine.make_token("twin", TestUser::OTHER_PIN);
    assert_ne!(one.serial, other.serial);
    let wire = user.start_proxy();
    for token in ["twin", "pkcs11:token=twin"] {
        let more = ["--pin-source", "file:no-such-file", "--authority", &wire.url()];
        enroll_on(&user, token, &more).fails_with(5).says(&one.serial).says(&other.serial);
    }
    assert!(wire.exchanges().is_empty(), "something was sent");

    // The serial number distinguishes them: the other token's PIN fails, its own works.
    enroll_on(&user, &one.serial, &["--pin-source", "file:other.pin"]).fails_with(4).says(&one.serial);
    enroll_on(&user, &one.serial, &["--pin-source", "file:pin"]).ok();
    user.signs_with("mine", "pin");

    // A label that two tokens have, too.
    user.issue("second.letter");
    let line = ["enroll", "--letter", "second.letter", "--keyset", "mine", "--level", "high", "--token"];
    let uri = format!("pkcs11:token=twin;serial={}", other.serial);
    user.tokenkeep(&[&line[..], &[&uri, "--pin-source", "file:other.pin"]].concat()).ok();
    user.machine.write("message.txt", "a message\n");
    let sign = ["sign", "--keyset", "mine", "--in", "message.txt", "--out", "signed.p7m"];
    let ambiguous = user.tokenkeep(&[&sign[..], &["--pin-source", "file:no-such-file"]].concat()).fails_with(5);
    ambiguous.says(&one.serial).says(&other.serial);
    let chosen = ["--token", &other.serial, "--pin-source", "file:other.pin"];
    user.tokenkeep(&[&sign[..], &chosen].concat()).ok();
}

#[test]
fn a_token_marked_as_an_authoritys_is_never_chosen() {
    let user = TestUser::new();
    user.issue("the.letter");
    let token = user.machine.make_token("an office", TestUser::PIN);
    let module = user.machine.module().display().to_string();
    let mark = user.machine.write("mark", "an authority");
    let written = ["--module", &module, "--slot", &token.slot, "--login", "--pin", TestUser::PIN];
    let object = ["--type", "data", "--application-label", "tokenkeep-authority", "--label", "authority"];
    let file = ["--write-object", mark.to_str().unwrap()];
    user.machine.run("pkcs11-tool", &[&written[..], &object, &file].concat(), b"").ok();
    let wire = user.start_proxy();
    let more = ["--pin-source", "file:no-such-file", "--authority", &wire.url()];
    enroll_on(&user, "an office", &more).fails_with(5).says("belongs to an authority").says(&token.serial);
    assert!(wire.exchanges().is_empty(), "something was sent");
}

#[test]
fn a_label_with_odd_characters_is_found_by_its_uri() {
    let user = TestUser::new();
    user.issue("the.letter");
    user.machine.make_token("50% ü;=&", TestUser::PIN);
    enroll_on(&user, "pkcs11:token=50%25%20%C3%BC%3B%3D%26", &["--pin-source", "file:pin"]).ok();
    user.signs_with("mine", "pin");
}

#[test]
fn uninitialized_and_foreign_tokens_are_left_alone() {
    let user = TestUser::new();
    user.issue("the.letter");
    // The owner's own objects on a token stay.
    let token = user.machine.make_token("shared", TestUser::PIN);
    let slot = ["--slot", &token.slot, "--login", "--pin", TestUser::PIN];
    let module = user.machine.module().display().to_string();
    let generate = ["--keypairgen", "--key-type", "EC:prime256v1", "--label", "own", "--id", "0a"];
    user.machine.run("pkcs11-tool", &[&["--module", &module], &slot[..], &generate].concat(), b"").ok();
    let before = user.machine.objects("shared", Some(TestUser::PIN));
    enroll_on(&user, "shared", &["--pin-source", "file:pin"]).ok();
    let after = user.machine.objects("shared", Some(TestUser::PIN));
    assert!(before.iter().all(|object| after.contains(object)), "{before:#?} {after:#?}");
    user.tokenkeep(&["keyset", "delete", "mine", "--pin-source", "file:pin", "--yes"]).ok();
    assert_eq!(user.machine.objects("shared", Some(TestUser::PIN)), before);
}

/// A user's command cannot select the token of a serving authority.
#[test]
fn commands_do_not_wait_for_a_serving_authoritys_token() {
    let mut deployment = Deployment::begin();
    let quickest = |deployment: &Deployment| {
        let once = || {
            let began = Instant::now();
            deployment.tokenkeep(&["keysets"]).ok().says("admin").does_not_say("in use");
            began.elapsed()
        };
        (0..6).map(|_| once()).min().unwrap()
    };
    let while_it_serves = quickest(&deployment);
    assert!(deployment.authority.stop().success());
    let alone = quickest(&deployment);
    // The difference was three tenths of a second before.
    assert!(while_it_serves < alone * 2 + Duration::from_millis(50), "{while_it_serves:?} and {alone:?} alone");
}

#[test]
fn a_label_that_is_not_utf_8_has_the_uri_of_other_programs() {
    use std::os::unix::ffi::OsStrExt as _;
    let user = TestUser::new();
    let mut init = user.machine.command("softhsm2-util");
    init.args(["--init-token", "--free", "--so-pin", "12345678", "--pin", TestUser::PIN, "--label"]);
    init.arg(std::ffi::OsStr::from_bytes(b"Gr\xfc\xdfe"));
    crate::support::machine::run(init, b"").ok();
    let tokens = user.tokenkeep(&["tokens", "--json"]).ok().json();
    let uri = tokens[0]["uri"].as_str().unwrap();
    assert!(uri.contains("token=Gr%FC%DFe"), "{uri}");
    // GnuTLS prints the same URI, and its URI selects the token here.
    let provider = ["--provider", user.machine.module().to_str().unwrap()];
    let foreign_uri = user.machine.run("p11tool", &[&provider[..], &["--list-token-urls"]].concat(), b"").ok().out();
    let foreign_uri = foreign_uri.lines().find(|line| line.contains("SoftHSM")).unwrap();
    assert!(foreign_uri.contains("token=Gr%FC%DFe"), "{foreign_uri}");
    user.tokenkeep(&["pin", "status", foreign_uri]).ok();
    user.tokenkeep(&["pin", "status", uri]).ok();
    user.tokenkeep(&["pin", "status", "pkcs11:token=Gr%EF%BF%BD%EF%BF%BDe"]).fails_with(3);
}
