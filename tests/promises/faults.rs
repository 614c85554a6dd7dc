//! Errors name the file, the line, the program and the fix, with the right exit code, and nothing
//! is lost.

use std::fs;
use std::net::TcpListener;
use std::process::{Command, Stdio};

use crate::support::authority::{Authority, free_port};
use crate::support::deployment::Deployment;
use crate::support::foreign_programs::skipped;
use crate::support::machine::{Machine, run};
use crate::support::output::Output;
use crate::support::process_guard::ProcessGuard;

const SERVE: [&str; 6] = ["authority", "serve", "--config", "authority.toml", "--pin-source", "file:authority.pin"];
const DATABASE: &str = "state/tokenkeep/authority/authority.db";

/// Replaces a piece of `authority.toml`; returns the number of its line.
fn break_configuration(machine: &Machine, right: &str, wrong: &str) -> usize {
    let text = machine.read_text("authority.toml");
    let at = text.find(right).unwrap_or_else(|| panic!("no {right} in\n{text}"));
    machine.write("authority.toml", text.replacen(right, wrong, 1));
    text[..at].lines().count().max(1) + usize::from(text[..at].ends_with('\n') && at > 0)
}

#[test]
fn a_broken_configuration_is_refused_with_file_line_and_reason() {
    let machine = Machine::new();
    let authority = Authority::prepared(&machine);
    let listen = "[listen]\n";
    for (right, wrong, reason) in [
        ("label = \"authority\"", "lable = \"authority\"", "lable"),
        ("[listen]", "[listening]", "listening"),
        (listen, "[listen]\ncertificate_search = \"perhaps\"\n", "boolean"),
        (listen, "[approvals]\nissue = 2\n\n[listen]\n", "one administrator"),
        (listen, "[approvals]\nrecover = 3\n\n[listen]\n", "one administrator"),
        (listen, "[ca]\nkey = \"rsa-1024\"\n\n[listen]\n", "rsa-1024"),
        ("name = \"Example Authority\"", "name = \"Example Authority", "string"),
    ] {
        authority.configure(&machine, "");
        let mut line = break_configuration(&machine, right, wrong);
        // Inserted text is in the line after the table's heading.
        line += usize::from(wrong.lines().count() > right.lines().count());
        for command in [&Authority::INIT[..], &SERVE] {
            let output = machine.tokenkeep(command).fails_with(2).says("authority.toml").says(reason);
            output.says(&format!("line {line}"));
        }
    }
    // The same holds for the profiles.
    authority.configure(&machine, "");
    let profile = machine.read_text("profiles/encryption.toml");
    machine.write("profiles/encryption.toml", format!("{profile}\nkeyz = [\"p256\"]\n"));
    let line = profile.lines().count() + 2;
    let output = machine.tokenkeep(&Authority::INIT).fails_with(2);
    output.says("encryption.toml").says("keyz").says(&format!("line {line}"));
    // A kind of CA key that the CA's profile forbids is refused before a token exists.
    authority.configure(&machine, "");
    machine.write("profiles/encryption.toml", profile);
    let line = break_configuration(&machine, listen, "[ca]\nkey = \"rsa-2048\"\n\n[listen]\n") + 1;
    let output = machine.tokenkeep(&Authority::INIT).fails_with(2).says("rsa-2048").says("use one of p256");
    output.says(&format!("line {line}"));

    machine.tokenkeep(&["authority", "serve", "--config", "nowhere.toml"]).fails_with(2).says("nowhere.toml");
    assert!(machine.listed_tokens().is_empty(), "a token was made");
    assert!(!machine.file(DATABASE).exists(), "a database was made");
}

#[test]
fn a_failed_authority_start_reports_the_cause() {
    let machine = Machine::new();
    let authority = Authority::init(&machine);
    let state = state_of(&machine);

    // `init` over an existing authority.
    machine
        .tokenkeep(&[&Authority::INIT[..8], &["--letter-out", "other.letter"]].concat())
        .fails_with(5)
        .says("not empty");
    machine.tokenkeep(&Authority::INIT).says("admin.letter");
    assert!(!machine.file("other.letter").exists());
    assert_eq!(machine.listed_tokens().len(), 1, "another token was made");
    assert_eq!(state_of(&machine), state, "the state was changed");

    // A wrong PIN costs one try, and no listener opens.
    machine.write_secret("wrong.pin", "wrong-0000");
    let serve = |source: &str| machine.tokenkeep(&[&SERVE[..4], &["--pin-source", source]].concat());
    serve("file:wrong.pin").fails_with(4).says("PIN").says("\"authority\"").does_not_say("Serving");
    machine.tokenkeep_without_terminal(&SERVE[..4]).fails_with(4).says("--pin-source");

    // Ports in use by others, detected before the PIN is tried.
    for address in [authority.http_address(), authority.https_address()] {
        let taken = TcpListener::bind(&address).unwrap();
        serve("file:wrong.pin").fails_with(1).says(&address).says("authority.toml").does_not_say("PIN");
        drop(taken);
    }

    // A missing database, and a file that is not a database.
    let database = machine.read(DATABASE);
    fs::remove_file(machine.file(DATABASE)).unwrap();
    serve("file:authority.pin").fails_with(1).says("authority.db").says("authority init");
    machine.write(DATABASE, "this is no database, but a text of some length\n".repeat(100));
    serve("file:authority.pin").fails_with(1).says("authority.db").says("backup");
    machine.write(DATABASE, database);

    // A missing token.
    fs::rename(machine.file("tokens"), machine.file("elsewhere")).unwrap();
    fs::create_dir(machine.file("tokens")).unwrap();
    serve("file:authority.pin").fails_with(3).says("\"authority\"");
    fs::remove_dir(machine.file("tokens")).unwrap();
    fs::rename(machine.file("elsewhere"), machine.file("tokens")).unwrap();

    // Afterwards the authority starts.
    let mut authority = authority;
    authority.serve(&machine);
    assert!(authority.stop().success());
}

fn state_of(machine: &Machine) -> Vec<(String, Vec<u8>)> {
    let directory = machine.file(DATABASE).parent().unwrap().to_owned();
    let mut files: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|file| file.unwrap())
        .map(|file| (file.file_name().to_string_lossy().into_owned(), fs::read(file.path()).unwrap()))
        .collect();
    files.sort();
    files
}

#[test]
fn a_second_serve_is_refused_and_names_the_first() {
    let machine = Machine::new();
    let mut authority = Authority::init(&machine);
    authority.serve(&machine);
    let other = machine.read_text("authority.toml").replace(&authority.http_address(), &address());
    machine.write("authority.toml", other.replace(&authority.https_address(), &address()));
    let first = authority.process_id().unwrap().to_string();
    machine.tokenkeep(&SERVE).fails_with(1).says("\"authority\"").says(&first).does_not_say("Serving");
    assert!(authority.is_running(), "the first one was disturbed");
}

fn address() -> String {
    format!("127.0.0.1:{}", free_port())
}

#[test]
fn a_locked_database_is_reported_and_nothing_is_lost() {
    let deployment = Deployment::begin();
    let holder = lock_database(&deployment.machine);
    let output = deployment.issue("user@example.org", "user.letter").fails_with(1);
    assert!(!deployment.machine.file("user.letter").exists(), "{output}");
    let log = Authority::log(&deployment.machine);
    assert!(log.contains("authority.db") && log.contains("another process has locked it"), "{log}");
    drop(holder);
    deployment.issue("user@example.org", "user.letter").ok();
}

/// Starts another program, which locks the database for writing.
fn lock_database(machine: &Machine) -> ProcessGuard {
    let mut command: Command = machine.command("sqlite3");
    let mut child = command.arg(DATABASE).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    std::io::Write::write_all(&mut stdin, b".timeout 5000\nBEGIN IMMEDIATE;\nSELECT 'held';\n").unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line).unwrap();
    assert_eq!(line.trim(), "held");
    child.stdin = Some(stdin);
    ProcessGuard(child)
}

#[test]
fn a_read_only_database_is_reported() {
    let machine = Machine::new();
    drop(Authority::init(&machine));
    let before = state_of(&machine);
    // Drop root's capabilities, so that permissions apply.
    let script = "chmod 0444 state/tokenkeep/authority/*; chmod 0555 state/tokenkeep/authority; \
                  if [ \"$(id -u)\" = 0 ]; then exec setpriv --inh-caps=-all --bounding-set=-all -- \"$@\"; fi; \
                  exec \"$@\"";
    serve_in_script(&machine, script).fails_with(1).says("authority.db").says("read-only").does_not_say("Serving");
    machine.run("chmod", &["-R", "u+w", "state"], b"").ok();
    assert_eq!(state_of(&machine), before);
}

#[test]
fn a_full_disk_is_reported_and_nothing_is_lost() {
    let machine = Machine::new();
    drop(Authority::init(&machine));
    // A file system that is just as large as its content. Without the right to mount one the test
    // is skipped.
    let script = "cp -a state/tokenkeep/authority kept && mount -t tmpfs -o size=1m none state/tokenkeep/authority || \
                  exit 99; cp -a kept/. state/tokenkeep/authority/; \
                  dd if=/dev/zero of=state/tokenkeep/authority/full bs=4k 2>&1; exec \"$@\"";
    let user = if rustix::process::getuid().is_root() { "" } else { "--map-root-user " };
    let script = format!("exec unshare {user}--mount -- sh -c '{script}' sh \"$@\"");
    let output = serve_in_script(&machine, &script);
    if matches!(output.code(), 1 | 99) && (output.err().contains("unshare") || output.err().contains("mount")) {
        return skipped("no file system may be mounted here");
    }
    output.fails_with(1).says("authority.db").says("disk is full").does_not_say("Serving");
    let mut authority = Authority::open_existing(&machine);
    authority.serve(&machine);
}

/// Runs `authority serve` in a shell script.
fn serve_in_script(machine: &Machine, script: &str) -> Output {
    let mut command = machine.command("timeout");
    command.args(["60", "sh", "-c", script, "sh", env!("CARGO_BIN_EXE_tokenkeep")]).args(SERVE);
    run(command, b"")
}
