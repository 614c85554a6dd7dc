//! The workflow that must always work: its command lines in their order, typed into a shell; the
//! demonstration; and the same answers for scripts.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::support::authority::free_port;
use crate::support::inventory::of_kind;
use crate::support::machine::Machine;
use crate::support::output::Output;
use crate::support::process_guard::ProcessGuard;
use crate::support::shared_authority::{TestUser, wait_until_certificates_are_newer};

/// A fresh machine with only a copy of the repository files that the workflow needs, and no user
/// configuration. Except for the addresses, which other tests may use, the authority's
/// configuration is the shipped one.
pub fn fresh_machine(addresses: &[String; 2]) -> Machine {
    let machine = Machine::new();
    fs::remove_file(machine.file("config/tokenkeep/agent.toml")).unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    machine.run("cp", &["-r", &root.join("hsm-config").display().to_string(), "."], b"").ok();
    machine.run("cp", &[&root.join("softhsm-setup.sh").display().to_string(), "."], b"").ok();
    let configuration = machine.read_text("hsm-config/authority.toml");
    let changed = configuration.replace("127.0.0.1:8829", &addresses[0]).replace("127.0.0.1:8830", &addresses[1]);
    assert_ne!(configuration, changed);
    machine.write("hsm-config/authority.toml", changed);
    machine
}

pub fn free_addresses() -> [String; 2] {
    [(); 2].map(|()| format!("127.0.0.1:{}", free_port()))
}

/// The workflow's commands, each in a shell that has run the line which the set-up script prints.
struct Shell {
    machine: Machine,
    export: String,
}

impl Shell {
    #[track_caller]
    fn run(&self, line: &str) -> Output {
        self.machine.shell(&format!("{}\n{line}", self.export)).ok()
    }

    fn serve(&self, line: &str, addresses: &[String]) -> ProcessGuard {
        let mut command = self.machine.command("sh");
        command.args(["-c", &format!("{}\nexec {line}", self.export)]);
        let log = fs::File::create(self.machine.file("authority.log")).unwrap();
        let child = command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let mut serving = ProcessGuard(child);
        let end = Instant::now() + Duration::from_mins(1);
        while addresses.iter().any(|address| std::net::TcpStream::connect(address).is_err()) {
            let ended = serving.0.try_wait().unwrap();
            let log = || self.machine.read_text("authority.log");
            assert!(ended.is_none() && Instant::now() < end, "it does not serve: {ended:?}\n{}", log());
            std::thread::sleep(Duration::from_millis(20)); // between two checks of its listeners
        }
        serving
    }
}

#[test]
fn the_whole_walkthrough_works() {
    let addresses = free_addresses();
    let machine = fresh_machine(&addresses);
    for (file, pin) in [
        ("authority.pin", "authority-4711"),
        ("admin.pin", "admin-0815"),
        ("pin1", "first-pin-1"),
        ("pin2", "second-pin-2"),
        ("pin3", "third-pin-3"),
    ] {
        machine.write_secret(file, pin);
    }
    machine.write("message.txt", "Grüße: what nobody else should read.\n");
    let original = machine.read_text("message.txt");

    let set_up = machine.shell("./softhsm-setup.sh").ok().out();
    let export = set_up.lines().find(|line| line.starts_with("export SOFTHSM2_CONF=")).unwrap().to_owned();
    let conf = machine.file(".softhsm/softhsm2.conf").canonicalize().unwrap().display().to_string();
    assert!(export.contains(&conf), "{export}");
    let shell = Shell { machine, export };
    let machine = &shell.machine;

    shell.run(
        "tokenkeep authority init  --config hsm-config/authority.toml --new-pin-source file:authority.pin \
                          --first-administrator admin@example.org --letter-out admin.letter",
    );
    let _serving = shell.serve(
        "tokenkeep authority serve --config hsm-config/authority.toml --pin-source file:authority.pin",
        &addresses,
    );
    shell.run(
        "tokenkeep enroll --letter admin.letter --keyset admin --level high --new-token \
         --new-pin-source file:admin.pin",
    );
    shell.run(
        "tokenkeep admin issue user@example.org --name 'Example, User' --keyset admin --pin-source file:admin.pin \
         --letter-out user.letter",
    );
    let letter = machine.read_text("user.letter");
    for part in ["Example, User", "user@example.org", "high", "tokenkeep enroll", &addresses[0], &addresses[1]] {
        assert!(letter.contains(part), "{part} is not in\n{letter}");
    }
    shell
        .run("tokenkeep enroll --letter user.letter --level high --new-token --new-pin-source file:pin1")
        .says("default");
    shell.run("tokenkeep sign    --keyset default --pin-source file:pin1 --in message.txt --out signed.p7m");
    shell.run("tokenkeep verify  --in signed.p7m --out message.txt").says("user@example.org").says("Example, User");
    assert_eq!(machine.read_text("message.txt"), original);
    shell.run("tokenkeep encrypt --to user@example.org --in message.txt --out secret.p7m");
    machine.write("message.txt", "");
    shell.run("tokenkeep decrypt --keyset default --pin-source file:pin1 --in secret.p7m --out message.txt");
    assert_eq!(machine.read_text("message.txt"), original);
    shell.run(
        "tokenkeep admin issue user@example.org --keyset admin --pin-source file:admin.pin --letter-out again.letter",
    );
    shell.run("tokenkeep enroll --letter again.letter --keyset default --level high --pin-source file:pin1");
    shell.run(
        "tokenkeep admin recover user@example.org --keyset admin --pin-source file:admin.pin \
         --letter-out recovered.letter",
    );
    shell.run(
        "tokenkeep enroll --letter recovered.letter --keyset second --level high --new-token \
         --new-pin-source file:pin2",
    );
    let read = shell.run("tokenkeep decrypt --keyset second --pin-source file:pin2 --in secret.p7m");
    assert_eq!(read.out(), original, "old mail, new PIN");
    shell.run("tokenkeep pin change --keyset second --pin-source file:pin2 --new-pin-source file:pin3");
    shell.run("tokenkeep keysets ; tokenkeep keyset show second").says("admin").says("default").says("second");
    shell.run("tokenkeep tokens").says("authority").says("second");
    assert_eq!(shell.run("tokenkeep decrypt --keyset second --pin-source file:pin3 --in secret.p7m").out(), original);
    shell.run("tokenkeep keyset delete second --yes --pin-source file:pin3");
    shell.run("tokenkeep keysets").does_not_say("second");
}

#[test]
fn demo_runs_to_its_end_and_exits_0() {
    let mut machine = fresh_machine(&free_addresses());
    // Existing tokens are not changed.
    machine.make_token("my own", "own-pin-1");
    let before = machine.inventory(&[]);
    let demo = machine.tokenkeep(&["demo"]).ok();
    for part in ["init", "serve", "issue", "enroll", "sign", "verify", "encrypt", "decrypt", "recover", "second"] {
        assert!(
            demo.out().contains(part),
            "{part} is missing
{demo}"
        );
    }
    assert_eq!(machine.inventory(&[]), before);
    assert_eq!(fs::read_dir(machine.file("tmp")).unwrap().count(), 0, "it should leave nothing");

    // Without any variable set, and with the files kept.
    machine.set_environment("SOFTHSM2_CONF", "/no/such/file");
    machine.tokenkeep(&["demo", "--keep", "kept"]).ok().says("kept");
    let kept = machine.shell("find kept -name '*.letter' | wc -l").ok();
    assert!(kept.out().trim().parse::<u32>().unwrap() >= 3, "no letters are kept\n{kept}");
    // Existing files are not overwritten.
    machine.tokenkeep(&["demo", "--keep", "kept"]).fails_with(2).says("kept");
}

#[test]
fn softhsm_setup_twice_is_harmless() {
    let mut machine = fresh_machine(&free_addresses());
    let first = machine.shell("./softhsm-setup.sh").ok();
    let configuration = machine.read_text(".softhsm/softhsm2.conf");
    machine.set_environment("SOFTHSM2_CONF", &machine.file(".softhsm/softhsm2.conf").display().to_string());
    machine.make_token("mine", "mine-1234");
    let before = machine.inventory(&[]);
    let second = machine.shell("./softhsm-setup.sh").ok();
    assert_eq!(first.out(), second.out(), "it prints the same line");
    assert_eq!(machine.read_text(".softhsm/softhsm2.conf"), configuration);
    assert_eq!(machine.inventory(&[]), before);
}

#[test]
fn softhsm_setup_for_a_user_is_found_without_a_variable() {
    let machine = fresh_machine(&free_addresses());
    let (configuration, tokens) = ("home/.config/softhsm2/softhsm2.conf", "home/.local/share/softhsm2/tokens");
    machine.shell("./softhsm-setup.sh --user").ok().says(configuration);
    let mode = |name: &str| fs::metadata(machine.file(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(configuration), mode(tokens)), (0o600, 0o700));
    assert!(machine.read_text(configuration).contains(machine.file(tokens).to_str().unwrap()));

    let make = "env -u SOFTHSM2_CONF softhsm2-util --init-token --free --label theirs --so-pin 87654321 --pin 12345678";
    machine.shell(make).ok();
    let listed = machine.shell("env -u SOFTHSM2_CONF tokenkeep tokens --json").ok().json();
    assert_eq!((listed.as_array().unwrap().len(), &listed[0]["label"]), (1, &"theirs".into()), "{listed}");
    assert_eq!(machine.tokenkeep(&["tokens", "--json"]).ok().json(), serde_json::json!([]), "another configuration's");

    // An existing file stays unchanged.
    let own = format!("{}# mine\n", machine.read_text(configuration));
    machine.write(configuration, &own);
    machine.shell("./softhsm-setup.sh --user").ok();
    assert_eq!(machine.read_text(configuration), own);
    machine.shell("./softhsm-setup.sh --users").fails_with(2).says("usage");
}

#[test]
fn every_command_also_answers_in_json() {
    let user = TestUser::new();
    let letter = user.issue_with("user.letter", &["--json"]).ok().json();
    for name in ["reference", "temporary_key", "expires"] {
        assert!(letter[name].is_string(), "no {name} in {letter}");
    }
    let text = user.machine.read_text("user.letter");
    assert!(text.contains(letter["reference"].as_str().unwrap()));
    assert!(text.replace('-', "").contains(&letter["temporary_key"].as_str().unwrap().replace('-', "")));

    let enrolled = user.enroll_new_with("user.letter", "default", &["--json"]).ok().json();
    assert_eq!(enrolled["keyset"], "default");
    assert_eq!(enrolled["level"], "high");
    let serial = user.machine.listed_token("default").serial;
    assert_eq!(enrolled["token"]["serial"], serial.as_str());

    user.machine.write("message.txt", "a message\n");
    let pin = ["--keyset", "default", "--pin-source", "file:pin", "--json"];
    let json = |arguments: &[&str]| user.tokenkeep(arguments).ok().json();
    json(&[&["sign", "message.txt", "--out", "signed.p7m"], &pin[..]].concat());
    let verified = json(&["verify", "signed.p7m", "--json", "--out", "verified.txt"]);
    assert_eq!(verified["signers"][0]["emails"][0], user.email.as_str());
    let encrypted = json(&["encrypt", "--to", &user.email, "message.txt", "--out", "secret.p7m", "--json"]);
    assert_eq!(encrypted["recipients"][0]["emails"][0], user.email.as_str());
    let decrypted = json(&[&["decrypt", "secret.p7m"], &pin[..]].concat());
    assert_eq!(decrypted["keyset"], "default");
    assert_eq!(decrypted["data"], "YSBtZXNzYWdlCg==");

    assert_eq!(json(&["keysets", "--json"])[0]["keyset"], "default");
    assert_eq!(json(&["keyset", "list", "--json"])[0]["keyset"], "default");
    assert_eq!(json(&["tokens", "--json"])[0]["serial"], serial.as_str());
    assert_eq!(json(&["token", "list", "--json"])[0]["keysets"][0], "default");
    let shown = user.keyset_info("default");
    let listed: Vec<_> =
        shown["certificates"].as_array().unwrap().iter().map(|one| one["use"].as_str().unwrap()).collect();
    for what in ["signing", "encryption", "authority"] {
        assert!(listed.contains(&what), "no {what} in {listed:?}");
    }

    let list = user.authority.admin(&["list", "--json"]).ok().json().to_string();
    assert!(list.contains(&user.email), "{list}");
    let shown = user.authority.admin(&["show", &user.email, "--json"]).ok().json().to_string();
    assert!(shown.contains(&user.email), "{shown}");
    json(&[&["pin", "change", "--new-pin-source", "file:other.pin"], &pin[..]].concat());
    let pin = ["--pin-source", "file:other.pin", "--json"];
    let recovery = user.authority.admin(&["recover", &user.email, "--letter-out", "json-recovery.letter", "--json"]);
    let recovery = recovery.ok().json();
    assert!(
        recovery["reference"].as_str().unwrap().starts_with('R') && recovery["temporary_key"].is_string(),
        "{recovery}"
    );
    for letter in [&letter, &recovery] {
        let expires: Timestamp = letter["expires"].as_str().unwrap_or_default().parse().unwrap();
        assert!(expires > Timestamp::now(), "{letter}");
    }
    assert_eq!(json(&[&["keyset", "delete", "default", "--yes"], &pin[..]].concat())["keyset"], "default");

    // Errors too: the exit code, the message, and nothing on stdout.
    let failed = user.tokenkeep(&["keyset", "show", "default", "--json"]).fails_with(3);
    assert!(failed.stdout.is_empty(), "{failed}");
    let error: serde_json::Value =
        serde_json::from_slice(&failed.stderr).unwrap_or_else(|error| panic!("{error}\n{failed}"));
    assert_eq!(error["error"]["code"], 3);
    assert!(error["error"]["message"].as_str().unwrap().contains("default"), "{error}");
}

#[test]
fn a_token_may_hold_two_keysets_under_one_pin() {
    let user = TestUser::enrolled();
    user.encrypt("to the first\n", "first.p7m");
    user.issue("second.letter");
    let line = ["enroll", "--letter", "second.letter", "--keyset", "second", "--token", "default", "--level", "high"];
    wait_until_certificates_are_newer();
    user.tokenkeep(&[&line[..], &["--pin-source", "file:pin"]].concat()).ok();
    assert_eq!(user.machine.listed_tokens().len(), 1);
    user.encrypt("to the second\n", "second.p7m");
    for (keyset, message) in [("default", "first"), ("second", "second")] {
        user.signs_with(keyset, "pin");
        assert_eq!(user.decrypt(keyset, "pin", &format!("{message}.p7m")), format!("to the {message}\n"));
    }
    user.tokenkeep(&["keysets"]).ok().says("default").says("second");

    // Both keysets have one PIN: it changes for both, and the output says so.
    let change =
        ["pin", "change", "--keyset", "second", "--pin-source", "file:pin", "--new-pin-source", "file:other.pin"];
    user.tokenkeep(&change).ok().says("default");
    user.signs_with("default", "other.pin");

    // Deleting one keyset leaves the other complete.
    user.tokenkeep(&["keyset", "delete", "default", "--yes", "--pin-source", "file:other.pin"]).ok();
    user.signs_with("second", "other.pin");
    assert_eq!(user.decrypt("second", "other.pin", "second.p7m"), "to the second\n");
    let objects = user.machine.objects("default", Some(TestUser::OTHER_PIN));
    assert_eq!(of_kind(&objects, "Private Key Object").len(), 2, "{objects:#?}");
    user.tokenkeep(&["keyset", "delete", "second", "--yes", "--pin-source", "file:other.pin"]).ok();
    let objects = user.machine.objects("default", Some(TestUser::OTHER_PIN));
    assert!(objects.is_empty(), "{objects:#?}");
}

#[test]
fn decrypt_chooses_the_keyset_by_recipient() {
    let user = TestUser::enrolled();
    let other = TestUser::new();
    // The other person's keyset on this machine, with another PIN.
    other.issue("other.letter");
    user.machine.write_secret("other.letter", &other.machine.read_text("other.letter"));
    let line = ["enroll", "--letter", "other.letter", "--keyset", "other", "--level", "high", "--new-token"];
    user.tokenkeep(&[&line[..], &["--new-pin-source", "file:other.pin"]].concat()).ok();

    let encrypt = ["encrypt", "--not-to-self", "--to"];
    for (email, text, out) in [(&user.email, "to one\n", "one.p7m"), (&other.email, "to the other\n", "other.p7m")] {
        user.tokenkeep_with_input(&[&encrypt[..], &[email, "--out", out]].concat(), text).ok();
    }
    let decrypt = |message: &str, pin: &str| {
        let source = format!("file:{pin}");
        user.tokenkeep(&["decrypt", message, "--pin-source", &source])
    };
    assert_eq!(decrypt("one.p7m", "pin").ok().out(), "to one\n");
    assert_eq!(decrypt("other.p7m", "other.pin").ok().out(), "to the other\n");

    // Encrypted to another keyset than the named one, or to nobody here: refused without a try.
    let wrong = ["decrypt", "other.p7m", "--keyset", "default", "--pin-source", "file:wrong.pin"];
    user.tokenkeep(&wrong).fails_with(5).says("no key of \"default\"");
    let third = TestUser::enrolled();
    third.encrypt("to a third\n", "third.p7m");
    user.machine.write("third.p7m", third.machine.read("third.p7m"));
    let output = decrypt("third.p7m", "wrong.pin").fails_with(5);
    assert!(output.stdout.is_empty(), "{output}");
    for token in user.machine.listed_tokens() {
        assert!(!token.count_is_low(), "a PIN was tried on {}", token.label);
    }
}
