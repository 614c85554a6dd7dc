//! Where secrets never are: in a database, a log, a leftover file, a core dump, an argument or an
//! environment variable.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cryptoki::mechanism::rsa::{PkcsMgfType, PkcsOaepParams, PkcsOaepSource};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, KeyType, ObjectClass, ObjectHandle};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokenkeep::cmp::{PkiBody, PkiMessage};
use tokenkeep::token::OaepHash;

use crate::support::authority::Authority;
use crate::support::deployment::Deployment;
use crate::support::machine::Machine;
use crate::support::other_program::{OtherProgram, RSA_SECRETS, readable_key};
use crate::support::output::Output;
use crate::support::proxy::Proxy;
use crate::support::search::{Search, Secret, contains, files};
use crate::support::shared_authority::TestUser;

/// A machine on which everything logs at trace level, and the collected output.
struct TracedMachine {
    deployment: Deployment,
    outputs: Vec<Output>,
}

impl TracedMachine {
    /// Collects a command's output.
    fn collect(&mut self, output: Output) -> Output {
        self.outputs.push(output.clone());
        output
    }

    fn tokenkeep(&mut self, arguments: &[&str]) -> Output {
        let output = self.deployment.tokenkeep(&[arguments, &["-vvv"]].concat());
        self.collect(output)
    }

    fn admin(&mut self, arguments: &[&str], letter: &str) -> Output {
        let rest = ["--letter-out", letter, "--keyset", "admin", "--pin-source", "file:admin.pin"];
        self.tokenkeep(&[&["admin"], arguments, &rest].concat())
    }

    /// All places with one of the secrets: files that are not in `allowed`, and the output.
    fn finds(&self, secrets: &[Secret], allowed: &BTreeSet<&str>) -> Vec<String> {
        let machine = &self.deployment.machine;
        let is_allowed = |path: &PathBuf| allowed.contains(path.file_name().unwrap().to_str().unwrap());
        let kept = files(machine.path()).into_iter().filter(|path| !is_allowed(path));
        let mut searched: Vec<(String, Vec<u8>)> =
            kept.filter_map(|path| Some((path.display().to_string(), fs::read(path).ok()?))).collect();
        for output in &self.outputs {
            searched.push((output.to_string(), [&output.stdout[..], b"\n", &output.stderr].concat()));
        }
        let search = Search::new(secrets);
        let found = searched.iter().flat_map(|(place, content)| {
            search.find_in(content).into_iter().map(move |what| format!("{what}: in {place}"))
        });
        found.collect()
    }
}

const FULL_WORKFLOW: &str = "secrets::no_secret_in_database_wal_state_or_logs_after_a_workflow";

#[test]
fn no_secret_in_database_wal_state_or_logs_after_a_workflow() {
    if OtherProgram::run_logged_in(read_delivered_key) {
        return;
    }
    let mut machine = Machine::new();
    machine.set_environment("RUST_LOG", "trace");
    let pins = [
        ("authority.pin", Authority::PIN),
        ("admin.pin", Deployment::ADMIN_PIN),
        ("pin1", Deployment::USER_PIN),
        ("pin2", "second-2222"),
        ("pin3", "third-333333"),
        ("wrong.pin", "wrong-0000000"),
    ];
    for (file, pin) in pins {
        machine.write_secret(file, pin);
    }
    let mut authority = Authority::init(&machine);
    // The search looks for the parts of an RSA key.
    Authority::restrict_key_kind(&machine, "encryption", "rsa-2048");
    authority.serve(&machine);
    let mut traced = TracedMachine { deployment: Deployment { authority, machine }, outputs: Vec::new() };

    // The whole workflow. The user's client dies between the reply and its installation, and
    // resumes later.
    let new = ["--level", "high", "--new-token", "--new-pin-source"];
    let enroll = |letter, keyset, pin| [&["enroll", "--letter", letter, "--keyset", keyset], &new[..], &[pin]].concat();
    traced.tokenkeep(&enroll("admin.letter", "admin", "file:admin.pin")).ok();
    let issue = ["issue", "user@example.org", "--name", "Example, User"];
    let shown = traced.admin(&[&issue[..], &["--json"]].concat(), "user.letter").ok();
    // This answer must contain the key.
    let key = shown.json()["temporary_key"].as_str().unwrap().to_owned();
    traced.outputs.last_mut().unwrap().stdout.clear();

    let wire = Proxy::forwarding(&traced.deployment.authority.http_address());
    let (url, first) = (wire.url(), enroll("user.letter", "default", "file:pin1"));
    let first = [&first[..], &["--authority", &url, "-vvv"]].concat();
    let killed = traced.deployment.machine.tokenkeep_dying_at("keyset.reply_here", &first);
    assert!(traced.collect(killed).was_killed());
    let private_key = private_key(&traced.deployment.machine, &wire);
    let resumed = traced.deployment.tokenkeep(&first);
    traced.collect(resumed).ok();

    traced.deployment.machine.write("message.txt", "a message\n");
    let user = ["--keyset", "default", "--pin-source", "file:pin1"];
    traced.tokenkeep(&[&["sign", "--in", "message.txt", "--out", "signed.p7m"], &user[..]].concat()).ok();
    traced.tokenkeep(&["verify", "--in", "signed.p7m", "--out", "verified.txt"]).ok();
    let encrypt = ["encrypt", "--to", "user@example.org", "--in", "message.txt", "--out", "secret.p7m"];
    traced.tokenkeep(&encrypt).ok();
    traced.tokenkeep(&[&["decrypt", "--in", "secret.p7m", "--out", "read.txt"], &user[..]].concat()).ok();

    traced.admin(&["issue", "user@example.org"], "again.letter").ok();
    let again = ["enroll", "--letter", "again.letter", "--keyset", "default", "--level", "high"];
    traced.tokenkeep(&[&again[..], &["--pin-source", "file:wrong.pin"]].concat()).fails_with(4);
    traced.tokenkeep(&[&again[..], &["--pin-source", "file:pin1"]].concat()).ok();

    traced.admin(&["recover", "user@example.org"], "recovered.letter").ok();
    traced.tokenkeep(&enroll("recovered.letter", "second", "file:pin2")).ok();
    let change = ["pin", "change", "--keyset", "second", "--pin-source", "file:pin2", "--new-pin-source", "file:pin3"];
    traced.tokenkeep(&change).ok();
    let second = ["decrypt", "--in", "secret.p7m", "--keyset", "second", "--pin-source", "file:pin3", "--out", "-"];
    assert!(traced.tokenkeep(&second).ok().out().contains("a message"));

    // The secrets to search for, and the files that may contain them.
    let letters = ["admin.letter", "user.letter", "again.letter", "recovered.letter"];
    let machine = &traced.deployment.machine;
    let mut secrets: Vec<_> = letters.iter().flat_map(|letter| Secret::temporary_key(machine, letter)).collect();
    assert!(secrets.iter().any(|secret| secret.is_in(key.as_bytes())), "the answer shows another key");
    secrets.extend(pins.map(|(file, pin)| Secret::text(format!("PIN in {file}"), pin)));
    secrets.extend(private_key);
    let allowed: BTreeSet<&str> = letters.into_iter().chain(pins.map(|(file, _)| file)).collect();

    // The search covers database, WAL and log, and would find a secret there.
    let names: Vec<_> = files(machine.path()).iter().map(|path| path.display().to_string()).collect();
    for name in ["authority.db", "authority.db-wal", "authority.db-shm", "authority.log"] {
        assert!(names.iter().any(|path| path.ends_with(name)), "{name} is not in {names:?}");
    }
    // The output of libraries is included: the filter passes everything.
    assert!(Authority::log(machine).contains("DEBUG sqlx::query"), "the authority does not say everything");
    for secret in &secrets {
        for (how, spelling) in &secret.spellings {
            machine.write("home/leaked", [b"before ", &spelling[..], b" after"].concat());
            let leaked = machine.read("home/leaked");
            assert!(secret.is_in(&leaked), "{} would not be found {how}", secret.name);
        }
    }
    machine.write("home/leaked", Deployment::USER_PIN);
    let found = traced.finds(&secrets, &allowed);
    assert!(!found.is_empty() && found.iter().all(|what| what.contains("PIN in pin1")), "{found:?}");
    fs::remove_file(machine.file("home/leaked")).unwrap();

    let found = traced.finds(&secrets, &allowed);
    assert!(found.is_empty(), "{}", found.join("\n"));
    assert!(traced.deployment.authority.stop().success());
    let found = traced.finds(&secrets, &allowed);
    assert!(found.is_empty(), "after the end: {}", found.join("\n"));
}

/// The user's private encryption key, which the holder of the PIN can unwrap during its delivery:
/// SECURITY.md says that this is possible, and that it is not once the key is installed.
fn private_key(machine: &Machine, wire: &Proxy) -> Vec<Secret> {
    let mut replies = wire.exchanges().into_iter().filter_map(|exchange| PkiMessage::from_der(&exchange.response).ok());
    let body = replies.find_map(|reply| match reply.body() {
        PkiBody::Ip(body) => Some(body.clone()),
        _ => None,
    });
    let mut pairs = body.unwrap().response.into_iter().filter_map(|response| response.certified_key_pair);
    let delivery = pairs.find_map(|pair| pair.private_key).unwrap().to_delivery().unwrap();
    assert_eq!(delivery.oaep, OaepHash::Sha1, "SoftHSM knows no other");
    let input = json!({ "key": hex::encode(delivery.encrypted_key), "wrapped": hex::encode(delivery.wrapped) });
    let answer = machine.run_child_task(FULL_WORKFLOW, "default", Deployment::USER_PIN, &input);
    let parts = answer.as_object().unwrap();
    assert_eq!(parts.len(), 6, "{parts:?}");
    let parts = parts.iter().flat_map(|(name, value)| {
        let bytes = hex::decode(value.as_str().unwrap()).unwrap();
        assert!(bytes.len() >= 128, "{name} has {} bytes", bytes.len());
        // Any sixteen bytes identify the key; these are in its middle, where no encoding adds or
        // drops a zero.
        [8, bytes.len() / 2].map(|at| Secret::bytes(format!("{name} from {at}"), &bytes[at..at + 16]))
    });
    parts.collect()
}

/// In the intruder's process: unwraps the delivery into a readable key, and reads it.
fn read_delivered_key(intruder: &OtherProgram) -> Value {
    let bytes = |name: &str| hex::decode(intruder.input[name].as_str().unwrap()).unwrap();
    let is_transport = |key: &ObjectHandle| intruder.has_attribute(*key, &Attribute::Unwrap(true));
    let transport = intruder.objects(ObjectClass::PRIVATE_KEY).into_iter().find(is_transport).unwrap();
    let oaep = PkcsOaepParams::new(MechanismType::SHA1, PkcsMgfType::MGF1_SHA1, PkcsOaepSource::empty());
    let mut aes = vec![Attribute::Class(ObjectClass::SECRET_KEY), Attribute::KeyType(KeyType::AES)];
    aes.extend([Attribute::Token(false), Attribute::Sensitive(true), Attribute::Extractable(false)]);
    // As the transport key requires. No token prevents that this key opens the next one with any
    // attributes.
    aes.extend([Attribute::Unwrap(true), Attribute::Encrypt(false), Attribute::Decrypt(false), Attribute::Wrap(false)]);
    let session = intruder.open_session();
    let aes = session.unwrap_key(&Mechanism::RsaPkcsOaep(oaep), transport, &bytes("key"), &aes).unwrap();
    let readable = readable_key(ObjectClass::PRIVATE_KEY, KeyType::RSA);
    let key = session.unwrap_key(&Mechanism::AesKeyWrapPad, aes, &bytes("wrapped"), &readable).unwrap();
    let values = session.get_attributes(key, &RSA_SECRETS).unwrap().into_iter().map(|part| match part {
        Attribute::PrivateExponent(value) => ("private exponent", value),
        Attribute::Prime1(value) => ("first prime", value),
        Attribute::Prime2(value) => ("second prime", value),
        Attribute::Exponent1(value) => ("first exponent", value),
        Attribute::Exponent2(value) => ("second exponent", value),
        Attribute::Coefficient(value) => ("coefficient", value),
        other => panic!("not asked for: {other:?}"),
    });
    values.map(|(name, value)| (name.to_owned(), json!(hex::encode(value)))).collect::<serde_json::Map<_, _>>().into()
}

#[test]
fn no_core_dumps() {
    let user = TestUser::with_keyset();
    // Waits for the content to sign.
    let line = "ulimit -c unlimited; exec tokenkeep sign --keyset default --pin-source file:pin --out signed.p7m";
    let dumped = abort_and_check_core(&user.machine, line, |id| {
        let limits = fs::read_to_string(format!("/proc/{id}/limits")).unwrap_or_default();
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap_or_default();
        core.split_whitespace().skip(4).take(2).eq(["0", "0"])
    });
    assert!(!dumped, "it dumped its core");
    // If this machine dumps cores at all, another program's is dumped under the same limit.
    let dumps = abort_and_check_core(&user.machine, "ulimit -c unlimited; exec cat", |id| {
        fs::read_to_string(format!("/proc/{id}/comm")).is_ok_and(|name| name.trim() == "cat")
    });
    println!("cores are dumped here: {dumps}");
    let cores: Vec<_> = files(user.machine.path()).into_iter().filter(|path| path.ends_with("core")).collect();
    assert!(dumps || cores.is_empty(), "{cores:?}");
}

/// Runs a shell line until `ready` accepts its process, and aborts the process; returns whether its
/// core was dumped.
#[track_caller]
fn abort_and_check_core(machine: &Machine, line: &str, ready: impl Fn(u32) -> bool) -> bool {
    let mut command = machine.command("sh");
    let mut child = command.args(["-c", line]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let end = Instant::now() + Duration::from_secs(20);
    while !ready(child.id()) {
        let over = child.try_wait().unwrap().is_some() || Instant::now() > end;
        if over {
            let _ = child.kill();
            panic!("{line}: never ready");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    kill_process(Pid::from_child(&child), Signal::ABORT).unwrap();
    let status = child.wait().unwrap();
    assert_eq!(status.signal(), Some(6));
    status.core_dumped()
}

#[test]
fn letters_and_pins_do_not_reach_argv() {
    let machine = Machine::new();
    // The demo starts each command as a separate process.
    let mut command = machine.tokenkeep_command(&["demo", "--keep", "demo"]);
    let (output, seen) = run_and_sample(&mut command);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let all: Vec<u8> = seen.iter().flatten().copied().collect();
    for word in ["serve", "enroll", "issue", "recover", "file:pin1", "SOFTHSM2_CONF"] {
        assert!(contains(&all, word.as_bytes()), "no process with {word} was seen");
    }
    let mut secrets = Vec::new();
    for path in files(&machine.file("demo")) {
        let name = path.file_name().unwrap().to_str().unwrap();
        let path = path.strip_prefix(machine.path()).unwrap().to_str().unwrap();
        if name.contains(".letter") {
            secrets.extend(Secret::temporary_key(&machine, path));
        } else if name.split('.').any(|part| part.starts_with("pin")) {
            secrets.push(Secret::text(format!("PIN in {name}"), machine.read_text(path).trim()));
        }
    }
    assert!(secrets.len() >= 4 * 4 + 5, "letters or PINs are missing: {}", secrets.len());
    let search = Search::new(&secrets);
    for process in &seen {
        let found = search.find_in(process);
        let shown = String::from_utf8_lossy(process);
        assert!(found.is_empty(), "in a process's arguments or environment: {found:?} in {shown}");
    }
    // A control: the search finds such arguments.
    let mut telling = machine.command("sh");
    telling.args(["-c", "sleep 0.3", &machine.read_text("demo/pin1")]);
    let (_, seen) = run_and_sample(&mut telling);
    assert!(seen.iter().any(|process| !search.find_in(process).is_empty()));
}

/// Runs a command to its end, and samples the arguments and environments of all its processes.
fn run_and_sample(command: &mut Command) -> (std::process::Output, BTreeSet<Vec<u8>>) {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut seen = BTreeSet::new();
    while child.try_wait().unwrap().is_none() {
        record_arguments(child.id(), &mut seen);
        std::thread::sleep(Duration::from_millis(5));
    }
    (child.wait_with_output().unwrap(), seen)
}

fn record_arguments(id: u32, seen: &mut BTreeSet<Vec<u8>>) {
    for part in ["cmdline", "environ"] {
        seen.insert(fs::read(format!("/proc/{id}/{part}")).unwrap_or_default());
    }
    let Ok(threads) = fs::read_dir(format!("/proc/{id}/task")) else { return };
    for thread in threads.flatten() {
        let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        children
            .split_whitespace()
            .filter_map(|child| child.parse().ok())
            .for_each(|child| record_arguments(child, seen));
    }
}
