//! `docs/JSON.md` is correct: each command's answer has exactly the members that it lists, and the
//! exit codes are those of `--help`.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use serde_json::Value;

use crate::support::agent::{BackgroundAgent, wait_for};
use crate::support::machine::Machine;
use crate::support::process_guard::ProcessGuard;

use super::walkthrough::{free_addresses, fresh_machine};

const DOCUMENT: &str = include_str!("../../docs/JSON.md");

/// The cells of each row of the document's tables under this heading.
fn rows(heading: &str) -> Vec<Vec<&'static str>> {
    let lines = DOCUMENT.lines().skip_while(|line| !line.starts_with(heading)).skip(2);
    let table = lines.take_while(|line| line.starts_with('|'));
    table.map(|line| line.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

fn in_backticks(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// The members that the document lists for a command, or for another entry in the table's first
/// column.
fn described(command: &str) -> BTreeSet<String> {
    let rows = rows("| command | members |");
    let is_it = |cell: &str| cell == command || in_backticks(cell).any(|name| name == command);
    let row = rows.iter().find(|row| is_it(row[0])).unwrap_or_else(|| panic!("{command} is not described"));
    // The name of another command is not a member.
    let is_command = |name: &&str| rows.iter().any(|row| in_backticks(row[0]).any(|command| command == *name));
    in_backticks(row[1]).filter(|name| !is_command(name)).map(str::to_owned).collect()
}

/// The members of a value, as the document writes them. An empty value has none.
fn members(value: &Value, place: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            for (name, member) in object {
                let place = if place.is_empty() { name.clone() } else { format!("{place}.{name}") };
                members(member, &place, found);
            }
        }
        Value::Array(elements) if !elements.is_empty() => {
            for element in elements {
                members(element, &format!("{place}[]"), found);
            }
        }
        Value::Array(_) => drop(found.insert(format!("{place}[]"))),
        _ => drop(found.insert(place.to_owned())),
    }
}

/// The answers seen, by command.
#[derive(Default)]
struct SeenMembers(RefCell<BTreeMap<&'static str, BTreeSet<String>>>);

impl SeenMembers {
    /// Fails the test if an answer has an undocumented member.
    #[track_caller]
    fn record(&self, command: &'static str, answer: &Value) {
        let mut found = BTreeSet::new();
        members(answer, "", &mut found);
        let described = described(command);
        // An empty list may be a list of values that have members.
        let is_described = |name: &String| {
            described.contains(name) || (name.ends_with("[]") && described.iter().any(|other| other.starts_with(name)))
        };
        let besides: Vec<_> = found.iter().filter(|name| !is_described(name)).collect();
        assert!(besides.is_empty(), "{command}: not described: {besides:?} in {answer:#}");
        self.0.borrow_mut().entry(command).or_default().extend(found);
    }

    /// Fails the test unless every documented member was seen.
    fn assert_all_seen(&self) {
        let seen = self.0.borrow();
        for row in rows("| command | members |") {
            let names: Vec<_> = in_backticks(row[0]).collect();
            let names = if names.is_empty() { vec![row[0]] } else { names };
            let found: BTreeSet<_> = names.iter().filter_map(|name| seen.get(name)).flatten().cloned().collect();
            let missing: Vec<_> = described(names[0]).into_iter().filter(|name| !found.contains(name)).collect();
            assert!(missing.is_empty(), "{names:?}: described, and in no answer: {missing:?}");
        }
    }
}

/// A person at their own machine, whose every command answers with JSON.
struct Person {
    machine: Machine,
    seen: SeenMembers,
}

impl Person {
    #[track_caller]
    fn run(&self, command: &'static str, line: &str) -> Value {
        let line = format!("tokenkeep --json {line}");
        let answer = self.machine.shell(&line).ok().json();
        self.seen.record(command, &answer);
        answer
    }

    /// Starts a command that keeps running, and waits for its line.
    fn start(&self, command: &'static str, line: &[&str]) -> ProcessGuard {
        let log = format!("{}.log", line[0]);
        let child = ProcessGuard(self.machine.start_tokenkeep(&[&["--json"], line].concat(), &log, &[]));
        let line_out = wait_for("it says that it serves", || {
            let log = fs::read_to_string(self.machine.file(&log)).unwrap();
            log.lines().find(|line| line.starts_with('{') && line.ends_with('}')).map(str::to_owned)
        });
        self.seen.record(command, &serde_json::from_str(&line_out).unwrap());
        child
    }

    /// The JSON values that a failing command writes to stderr, one per line.
    #[track_caller]
    fn errors_of(&self, line: &str) -> Vec<Value> {
        let output = self.machine.shell(&format!("tokenkeep --json {line}"));
        output.err().lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{output}"))).collect()
    }
}

#[test]
fn json_answers_and_their_description_have_the_same_members() {
    let machine = fresh_machine(&free_addresses());
    for (file, pin) in [("pin", "one-for-all-1234"), ("new.pin", "another-5678"), ("so.pin", "officer-24680")] {
        machine.write_secret(file, pin);
    }
    machine.write("message.txt", "a message\n");
    let person = Person { machine, seen: SeenMembers::default() };
    let configuration = "--config hsm-config/authority.toml";
    let init = "--first-administrator admin@example.org --new-pin-source file:pin --letter-out admin.letter";
    person.run("authority init", &format!("authority init {configuration} {init}"));
    let add = "administrator add second@example.org --name 'Second, Administrator' --letter-out second.letter";
    let added =
        person.run("authority administrator add", &format!("authority {add} {configuration} --pin-source file:pin"));
    let serve = ["authority", "serve", "--config", "hsm-config/authority.toml", "--pin-source", "file:pin"];
    let serving = person.start("authority serve", &serve);
    let new = "--new-token --new-pin-source file:pin --so-pin-source file:so.pin";
    person.run("enroll", &format!("enroll --letter admin.letter --keyset admin --level high {new}"));
    let admin = "--keyset admin --pin-source file:pin";
    let issue = "admin issue user@example.org --name 'Example, User'";
    person.run("admin issue", &format!("{issue} {admin} --letter-out user.letter"));
    person.run("enroll", &format!("enroll --letter user.letter --level high {new}"));
    person.run("admin recover", &format!("admin recover user@example.org {admin}"));
    person.run("admin letter", &format!("admin letter user@example.org {admin}"));
    person.run("admin acknowledge", &format!("admin acknowledge {} {admin}", added["entry"]));
    person.run("admin list", &format!("admin list {admin}"));
    person.run("admin show", &format!("admin show user@example.org {admin}"));
    person.run("admin --statement-out", &format!("{issue} {admin} --statement-out statement"));
    person.run("authority answer", &format!("authority answer {configuration} --in statement --out response"));
    person.run("authority check", &format!("authority check {configuration}"));
    person.run("admin issue", &format!("admin open response --statement statement {admin}"));

    let own = "--keyset default --pin-source file:pin";
    for out in ["", "--out signed.p7m"] {
        person.run("sign", &format!("sign {own} message.txt {out}"));
    }
    for out in ["", "--out verified.txt"] {
        person.run("verify", &format!("verify signed.p7m {out}"));
    }
    person.run("sign", &format!("sign {own} message.txt --format smime --out signed.eml"));
    person.machine.shell("sed -i '1i From: user@example.org' signed.eml").ok();
    person.run("verify", "verify signed.eml");
    for error in person.errors_of("verify message.txt") {
        person.seen.record("an error, on stderr", &error);
    }
    for out in ["", "--out secret.p7m"] {
        person.run("encrypt", &format!("encrypt --to user@example.org message.txt {out}"));
    }
    for out in ["", "--out message.txt"] {
        person.run("decrypt", &format!("decrypt {own} secret.p7m {out}"));
    }
    person.run("encrypt", "encrypt --to user@example.org signed.eml --out secret.p7m");
    person.run("decrypt", &format!("decrypt {own} secret.p7m"));
    person.run("keysets", "keysets");
    person.run("keyset list", "keyset list");
    person.run("keyset forget", "keyset forget default");
    person.run("keyset forget", "keyset forget default --undo");
    person.run("keyset show", "keyset show default");
    for out in ["", "--out certificates.pem"] {
        person.run("keyset export", &format!("keyset export default --chain {out}"));
    }
    person.run("tokens", "tokens");
    person.run("token list", "token list");
    person.run("token show", "token show default");
    person.run("pin status", "pin status");
    person.run("pin change", &format!("pin change {own} --new-pin-source file:new.pin"));
    person.run("pin unblock", "pin unblock default --so-pin-source file:so.pin --new-pin-source file:pin");
    person.run("keyset delete", "keyset delete default --yes --pin-source file:pin");
    let serial = person.machine.listed_token("default").serial;
    person.run("token erase", &format!("token erase default --yes-erase {serial}"));
    let database = "state/tokenkeep/authority/authority.db";
    let sql = "UPDATE temporary_keys SET state = 'unused' WHERE state = 'used'";
    person.machine.run("sqlite3", &["-bail", "-cmd", ".timeout 5000", database, sql], b"").ok();
    let checked = person.machine.shell(&format!("tokenkeep --json authority check {configuration}")).fails_with(1);
    person.seen.record("authority check", &checked.json());
    drop(serving);

    // `doctor` exits with 1 if it finds a problem, and still answers.
    person.seen.record("doctor", &person.machine.tokenkeep(&["doctor", "--json"]).json());
    fs::create_dir_all(person.machine.file("config/tokenkeep")).unwrap();
    person.machine.write("config/tokenkeep/agent.toml", "keysets = 1\n");
    let wrong = person.machine.tokenkeep(&["doctor", "--json"]).fails_with(1);
    person.seen.record("doctor", &wrong.json());
    person.seen.record("an error, on stderr", &serde_json::from_slice(&wrong.stderr).unwrap());
    fs::remove_file(person.machine.file("config/tokenkeep/agent.toml")).unwrap();
    person.run("demo", "demo");

    let ended = BackgroundAgent(&person.machine);
    person.run("agent --env", "agent --env");
    person.run("agent status", "agent status");
    person.run("agent log-off", "agent log-off");
    person.run("agent stop", "agent stop");
    drop(ended);
    drop(person.start("agent", &["agent"]));

    for error in person.errors_of("sign --keyset nobody message.txt --pin-source file:pin") {
        person.seen.record("an error, on stderr", &error);
    }
    let serial = person.machine.listed_token("admin").serial;
    let lock = person.machine.file(&format!("runtime/tokenkeep/libsofthsm2.so-{serial}.lock"));
    let lock = fs::File::options().write(true).open(lock).unwrap();
    lock.try_lock().unwrap();
    for warning in person.errors_of("tokens") {
        person.seen.record("a warning, on stderr", &warning);
    }
    person.seen.assert_all_seen();
}

#[test]
fn the_exit_codes_are_those_of_the_help() {
    let help = Machine::new().tokenkeep(&["--help"]).ok().out();
    let (_, listed) = help.split_once("Exit codes: ").unwrap();
    let listed: String = listed.split_whitespace().collect::<Vec<_>>().join(" ");
    let listed: BTreeSet<_> = listed.trim_end_matches('.').split(", ").map(str::to_owned).collect();
    let described: BTreeSet<_> = rows("| code | word |").iter().map(|row| format!("{} {}", row[0], row[1])).collect();
    assert_eq!(described, listed);
}
