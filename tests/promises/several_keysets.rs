//! Several keysets of one person, as after a recovery: the newest is the default, a keyset whose
//! PIN is forgotten can be hidden, and mail is also encrypted to the sender's newest key.

use crate::support::prompting::{questions, sign, sign_and_verify, start_agent, write_script};
use crate::support::proxy::Proxy;
use crate::support::shared_authority::{TestUser, wait_until_certificates_are_newer};

/// A user with the keyset `default`, whose PIN is forgotten, and after a recovery `second` with the
/// PIN in `other.pin`.
fn recovered_user() -> TestUser {
    let user = TestUser::enrolled();
    user.encrypt("old mail\n", "old.p7m");
    user.recover("recovery.letter");
    let line = ["enroll", "--letter", "recovery.letter", "--keyset", "second", "--level", "high", "--new-token"];
    wait_until_certificates_are_newer();
    let recovered_user = user.tokenkeep(&[&line[..], &["--new-pin-source", "file:other.pin"]].concat()).ok();
    recovered_user.says("It supersedes the keyset \"default\"").says("ecdsa-sha2-");
    user
}

#[test]
fn after_recovery_the_newest_keyset_is_the_default() {
    let mut user = recovered_user();
    user.machine.write("message.txt", "a message\n");
    let with = |user: &TestUser, line: &str, pin: &str| {
        let line: Vec<_> = line.split(' ').collect();
        user.tokenkeep(&[&line[..], &["--pin-source", pin]].concat())
    };
    with(&user, "sign message.txt --out signed.p7m", "file:other.pin").ok().says("\"second\"");
    assert_eq!(with(&user, "decrypt old.p7m", "file:other.pin").ok().out(), "old mail\n");
    let encrypt = ["encrypt", "--to", &user.email, "--out", "new.p7m", "message.txt", "--json"];
    let recipients = user.tokenkeep(&encrypt).ok().json();
    assert_eq!(recipients["recipients"].as_array().unwrap().len(), 1, "one's own certificate once: {recipients}");
    assert_eq!(with(&user, "decrypt new.p7m", "file:other.pin").ok().out(), "a message\n");

    // Another keyset if it is named.
    with(&user, "sign message.txt --keyset default --out signed.p7m", "file:pin").ok().says("\"default\"");
    user.machine.set_environment("TOKENKEEP_KEYSET", "default");
    with(&user, "sign message.txt --out signed.p7m", "file:pin").ok().says("\"default\"");
    user.machine.unset_environment("TOKENKEEP_KEYSET");

    // Another person's keyset beside them: the choice is ambiguous.
    let path = user.machine.file("others.letter").display().to_string();
    let email = format!("other.{}", user.email);
    user.authority.admin(&["issue", &email, "--name", "Other", "--letter-out", &path]).ok();
    user.enroll_new("others.letter", "third").ok();
    let refused = with(&user, "sign message.txt --out signed.p7m", "file:other.pin").fails_with(5);
    refused.says("\"second\"").says("\"third\"").says("--keyset NAME");
    // Encrypted to one of them, or with the keyset of one of them, it can be read here; otherwise
    // the output names the owners of the keysets here.
    let encrypt = |more: &[&str]| user.tokenkeep(&[&["encrypt", "message.txt", "--out", "to.p7m"], more].concat()).ok();
    encrypt(&["--to", &email]).does_not_say("Not encrypted to yourself");
    encrypt(&["--to", &email, "--keyset", "second"]).does_not_say("Not encrypted to yourself");
    assert_eq!(user.decrypt("second", "other.pin", "to.p7m"), "a message\n");
    user.machine
        .shell(
            "openssl req -x509 -newkey rsa:2048 -nodes -keyout s.key -out s.pem -subj /CN=Stranger -addext \
         keyUsage=keyEncipherment 2>/dev/null",
        )
        .ok();
    let stranger = encrypt(&["--certificate", "s.pem"]);
    stranger.says("Not encrypted to yourself").says(&email).says(&user.email);
}

#[test]
fn a_forgotten_keyset_is_hidden_until_it_is_named() {
    let user = recovered_user();
    let forgotten = user.tokenkeep(&["keyset", "forget", "default", "--json"]).ok().json();
    assert_eq!(forgotten["hidden"], true, "{forgotten}");
    user.tokenkeep(&["keysets"]).ok().says("second").does_not_say("default");
    user.tokenkeep(&["keysets", "--all"]).ok().says("second").says("hidden");
    user.tokenkeep(&["keyset", "forget", "default"]).ok().says("already");
    let decrypt = ["decrypt", "old.p7m", "--pin-source", "file:other.pin"];
    assert_eq!(user.tokenkeep(&decrypt).ok().out(), "old mail\n");
    // If named, the keyset works as before.
    assert_eq!(user.decrypt("default", "pin", "old.p7m"), "old mail\n");

    // An error explains to a person who uses the name again why no list shows it.
    user.issue("again.letter");
    user.enroll_new("again.letter", "default").fails_with(5).says("taken").says("hidden on this machine");

    // If only a hidden keyset can read a message, the error says so before any PIN.
    user.tokenkeep(&["keyset", "forget", "second"]).ok();
    user.tokenkeep(&["decrypt", "old.p7m", "--pin-source", "file:no-such-file"]).fails_with(5).says("hidden");
    user.tokenkeep(&["sign", "old.p7m", "--pin-source", "file:no-such-file"]).fails_with(3).says("--all");
    let bring_back = |output: crate::support::output::Output| {
        output.says("hidden on this machine").says("\"second\"").says("tokenkeep keyset forget --undo");
    };
    bring_back(user.tokenkeep(&["keysets"]).ok());
    bring_back(user.tokenkeep(&["encrypt", "--to", &user.email, "--out", "to.p7m", "old.p7m"]).fails_with(3));
    user.tokenkeep(&["keyset", "forget", "second", "--undo"]).ok();
    user.tokenkeep(&["keyset", "forget", "default", "--undo"]).ok();
    user.tokenkeep(&["keysets"]).ok().says("second").says("default");
    user.tokenkeep(&["keyset", "forget", "nobody"]).fails_with(3);
}

#[test]
fn an_address_is_the_same_in_upper_and_lower_case() {
    let user = TestUser::with_keyset();
    user.machine.write("message.txt", "a message\n");
    let encrypt = ["encrypt", "--to", &user.email.to_uppercase(), "--not-to-self", "--out", "mail.p7m", "message.txt"];
    user.tokenkeep(&encrypt).ok().says("Encrypted to Example, Somebody");
    assert_eq!(user.decrypt("default", "pin", "mail.p7m"), "a message\n");
}

#[test]
fn a_wrong_clock_is_suspected_before_certificates() {
    let user = TestUser::enrolled();
    user.machine.write("message.txt", "a message\n");
    let encrypt = |wire: &Proxy| {
        let line = ["encrypt", "--to", "nobody@example.org", "--out", "mail.p7m", "message.txt", "--authority"];
        user.tokenkeep(&[&line[..], &[&wire.url()]].concat()).fails_with(5).says("no usable certificate")
    };
    let wire = Proxy::with_date(user.authority.http_address(), "Tue, 01 Jan 2041 12:00:00 GMT");
    encrypt(&wire).says("error: this machine's clock is probably wrong").says("2041-01-01T12:00:");
    encrypt(&user.start_proxy()).does_not_say("clock");
}

#[test]
fn the_agent_neither_offers_nor_uses_hidden_keysets() {
    let mut user = recovered_user();
    let program = write_script(
        &user.machine,
        "askpass",
        "echo \"$1\" >> $HERE/asked; \
         case \"$1\" in *'Keyset: second'*) cat $HERE/other.pin ;; *) cat $HERE/pin ;; esac",
    );
    let agent = start_agent(&mut user, &format!("askpass:{program}"), &[]);
    let machine = &user.machine;
    let keys = |names: &[&str]| {
        let listed = machine.run("ssh-add", &["-L"], b"").out();
        for name in ["default", "second"] {
            assert_eq!(listed.contains(&format!(" {name} ")), names.contains(&name), "{name}: {listed}");
        }
        listed
    };
    let api = |arguments: &[&str], path: &str| {
        let (socket, url) = (agent.api_socket().display().to_string(), format!("http://tokenkeep/v1/{path}"));
        machine.run("curl", &[&["-sS", "--unix-socket", &socket, &url], arguments].concat(), b"").out()
    };
    let sign_by_api = |more: &str| api(&["--json", &format!("{{\"content\":\"YQ==\"{more}}}")], "sign");

    let listed = keys(&["default", "second"]);
    machine.write("key.pub", listed.lines().find(|line| line.contains(" default ")).unwrap());
    sign_and_verify(machine, "git");
    let before = questions(machine);
    user.tokenkeep(&["keyset", "forget", "default"]).ok();
    keys(&["second"]);
    sign(machine, "file").fails_with(255);
    assert_eq!(questions(machine), before, "a prompt asked for the PIN of a hidden keyset");
    for path in ["keysets", "public-keys"] {
        let there = api(&[], path);
        assert!(there.contains("\"second\"") && !there.contains("\"default\""), "{there}");
    }
    assert!(sign_by_api("").contains("\"keyset\":\"second\""));
    // If named, the keyset works as before.
    assert!(sign_by_api(",\"keyset\":\"default\"").contains("\"keyset\":\"default\""));
    assert_eq!(user.decrypt("default", "pin", "old.p7m"), "old mail\n");

    user.tokenkeep(&["keyset", "forget", "second"]).ok();
    keys(&[]);
    assert!(sign_by_api("").contains("hidden"), "{}", sign_by_api(""));
    user.tokenkeep(&["keyset", "forget", "default", "--undo"]).ok();
    keys(&["default"]);
    sign_and_verify(machine, "git");

    // The same holds if it was hidden before the agent started.
    drop(agent);
    let agent = crate::support::agent::Agent::start(machine, &["-v"]);
    let socket = agent.ssh_socket().display().to_string();
    let listed = machine.run("env", &[&format!("SSH_AUTH_SOCK={socket}"), "ssh-add", "-L"], b"").ok().out();
    assert!(listed.contains(" default ") && !listed.contains(" second "), "{listed}");
}
