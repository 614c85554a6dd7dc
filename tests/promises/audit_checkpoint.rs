//! The authority's audit log cannot lose or change an entry that an administrator has seen: each
//! command stores a checkpoint on the token, and the next one detects a log that does not continue
//! it.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokenkeep::token::{Pin, TokenSource};

use crate::support::agent::Agent;
use crate::support::deployment::Deployment;
use crate::support::faulty_module::FaultyModule;
use crate::support::machine::Machine;
use crate::support::other_program::ChildTask;
use crate::support::output::Output;

const DATABASE: &str = "state/tokenkeep/authority/authority.db";

/// The text of the alarm, whatever happened to the log.
#[track_caller]
fn assert_alarm(output: Output) -> Output {
    output.fails_with(8).says("truncated or rewritten").says("known here: entry").says("--accept-log")
}

fn list(deployment: &Deployment) -> Output {
    deployment.admin(&["list"])
}

/// Runs SQL in the authority's database directly; returns one line per row.
#[track_caller]
fn database(machine: &Machine, sql: &str) -> Vec<String> {
    let output = machine.run("sqlite3", &["-bail", "-cmd", ".timeout 5000", DATABASE, sql], b"").ok();
    output.out().lines().map(str::to_owned).collect()
}

/// The number of the log's last entry.
fn entries(deployment: &Deployment) -> u64 {
    database(&deployment.machine, "SELECT max(number) FROM audit")[0].parse().unwrap()
}

/// Stops the authority. Its database is then one file, which can be copied.
fn stop(deployment: &mut Deployment) {
    deployment.authority.stop();
    let beside = fs::metadata(deployment.machine.file(&format!("{DATABASE}-wal")));
    assert!(beside.is_err() || beside.unwrap().len() == 0, "a part of the database is beside it");
}

/// Removes entries from the end of the log while the authority is stopped: the rest is a former
/// state of the log.
fn truncate_log(deployment: &mut Deployment, count: u64) {
    stop(deployment);
    database(&deployment.machine, &format!("DELETE FROM audit WHERE number > {}", entries(deployment) - count));
    deployment.authority.serve(&deployment.machine);
}

/// A user's enrollment, which writes many entries without an administrator.
fn grow_log(deployment: &Deployment) {
    deployment.machine.write_secret("pin1", Deployment::USER_PIN);
    deployment.enroll_new("user.letter", "default", "pin1").ok();
}

#[test]
fn ordinary_administration_raises_no_alarm() {
    let mut deployment = Deployment::begin();
    deployment.issue("user@example.org", "user.letter").ok().does_not_say("log");
    grow_log(&deployment);
    list(&deployment).ok().does_not_say("log");
    deployment.admin(&["show", "nobody@example.org"]).fails_with(5).does_not_say("truncated");
    deployment.recover("user@example.org", "recovered.letter").ok().does_not_say("log");
    deployment.authority.kill();
    deployment.authority.serve(&deployment.machine);
    list(&deployment).ok().does_not_say("log");
    // An unauthenticated caller learns nothing about the log and gets no alarm.
    let line = ["admin", "list", "--keyset", "default", "--pin-source", "file:pin1"];
    for _ in 0..2 {
        deployment.tokenkeep(&line).fails_with(5).does_not_say("truncated");
    }
    // Statement files whose responses are opened after those of later commands.
    for name in ["one", "two"] {
        deployment.admin(&["list", "--statement-out", &format!("{name}.statement")]).ok();
    }
    let answer = |name: &str| {
        let (statement, response) = (format!("{name}.statement"), format!("{name}.response"));
        let line = ["authority", "answer", "--config", "authority.toml", "--pin-source", "file:authority.pin"];
        deployment.tokenkeep(&[&line[..], &["--in", &statement, "--out", &response]].concat()).ok();
    };
    let open = |name: &str| {
        let (statement, response) = (format!("{name}.statement"), format!("{name}.response"));
        deployment.admin(&["open", &response, "--statement", &statement]).ok().does_not_say("truncated");
    };
    answer("one");
    list(&deployment).ok();
    answer("two");
    open("two");
    list(&deployment).ok();
    open("one");
    list(&deployment).ok().does_not_say("truncated");
}

#[test]
fn a_truncated_log_is_detected_and_nothing_is_done() {
    let mut deployment = Deployment::begin();
    list(&deployment).ok();
    truncate_log(&mut deployment, 1);
    assert_alarm(deployment.issue("user@example.org", "user.letter")).says("nothing was done");
    assert!(!deployment.machine.file("user.letter").exists());
    let users = database(&deployment.machine, "SELECT email FROM users");
    assert_eq!(users, ["admin@example.org"], "the command was refused before it");
    // The alarm persists, also after a restart.
    assert_alarm(list(&deployment));
    let text = assert_alarm(deployment.admin(&["list", "--json"])).err();
    let failure: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(failure["error"]["code"], 8);
}

#[test]
fn a_truncated_log_that_grew_again_is_detected() {
    let mut deployment = Deployment::begin();
    deployment.issue("user@example.org", "user.letter").ok();
    deployment.issue("other@example.org", "other.letter").ok();
    let known = entries(&deployment);
    truncate_log(&mut deployment, 2);
    grow_log(&deployment);
    assert!(entries(&deployment) > known, "longer than it ever was");
    assert_alarm(list(&deployment));
}

#[test]
fn a_restored_database_is_reported_until_a_person_accepts_it() {
    let mut deployment = Deployment::begin();
    deployment.issue("user@example.org", "user.letter").ok();
    stop(&mut deployment);
    let backup = deployment.machine.read(DATABASE);
    deployment.authority.serve(&deployment.machine);
    deployment.admin(&["list", "--statement-out", "list.statement"]).ok();
    list(&deployment).ok();
    stop(&mut deployment);
    for beside in ["-wal", "-shm"] {
        let _ = fs::remove_file(deployment.machine.file(&format!("{DATABASE}{beside}")));
    }
    deployment.machine.write(DATABASE, backup);
    deployment.authority.serve(&deployment.machine);
    grow_log(&deployment);

    assert_alarm(list(&deployment));
    // A statement file contains its signer's checkpoint of that time, which the backup has, too;
    // the signer has learned of newer entries since.
    let line = ["authority", "answer", "--config", "authority.toml", "--pin-source", "file:authority.pin"];
    deployment.tokenkeep(&[&line[..], &["--in", "list.statement", "--out", "list.response"]].concat()).ok();
    deployment.admin(&["open", "list.response", "--statement", "list.statement"]).ok().does_not_say("truncated");
    assert_alarm(list(&deployment));
    deployment.admin(&["list", "--accept-log"]).ok().does_not_say("truncated");
    list(&deployment).ok().does_not_say("truncated");
    truncate_log(&mut deployment, 1);
    assert_alarm(list(&deployment));
}

#[test]
fn a_rewritten_last_entry_is_detected() {
    let mut deployment = Deployment::begin();
    list(&deployment).ok();
    let number = entries(&deployment);
    // Only the detail of the entry.
    let was = database(&deployment.machine, &format!("SELECT detail FROM audit WHERE number = {number}")).remove(0);
    let says = |detail: &str| format!("UPDATE audit SET detail = '{detail}' WHERE number = {number}");
    database(&deployment.machine, &says("{}"));
    assert_alarm(list(&deployment));
    database(&deployment.machine, &says(&was));
    list(&deployment).ok();

    // With a matching hash.
    let number = entries(&deployment);
    let sql = format!("SELECT at, event, hex(previous_hash) FROM audit WHERE number = {number}");
    let row = database(&deployment.machine, &sql).remove(0);
    let [at, event, previous] = row.split('|').collect::<Vec<_>>().try_into().unwrap();
    let hash = entry_hash(number, at.parse().unwrap(), event, "{}", &hex::decode(previous).unwrap());
    let sql = "UPDATE audit SET detail = '{}', hash = x";
    database(&deployment.machine, &format!("{sql}'{}' WHERE number = {number}", hex::encode(hash)));
    assert_alarm(list(&deployment));
    // The running authority compares with its memory, and appends nothing to entries that it did
    // not write. Accepting the log does not help: the entry's MAC cannot be forged.
    deployment.admin(&["list", "--accept-log"]).fails_with(5).says("see its log");
    stop(&mut deployment);
    let line = ["authority", "serve", "--config", "authority.toml", "--pin-source", "file:authority.pin"];
    let entry = format!("its entry {number} has an invalid MAC");
    deployment.machine.tokenkeep(&line).fails_with(9).says(&entry).says("restore the database");
}

#[test]
fn a_log_truncated_under_a_running_authority_stops_writes() {
    let mut deployment = Deployment::begin();
    deployment.issue("user@example.org", "user.letter").ok();
    let newest = entries(&deployment);
    database(&deployment.machine, &format!("DELETE FROM audit WHERE number = {newest}"));
    deployment.machine.write_secret("pin1", Deployment::USER_PIN);
    assert_ne!(deployment.enroll_new("user.letter", "default", "pin1").code(), 0);
    assert_alarm(list(&deployment));
    assert_eq!(entries(&deployment), newest - 1, "nothing was written");
    // This is a former state of the log: only the administrator's checkpoint detects it.
    stop(&mut deployment);
    deployment.authority.serve(&deployment.machine);
    assert_alarm(list(&deployment));
}

/// The hash of an entry as `docs/adr/0005-statements.md` defines it.
fn entry_hash(number: u64, at: i64, event: &str, detail: &str, previous: &[u8]) -> [u8; 32] {
    let mut content = b"tokenkeep audit 1".to_vec();
    content.extend(number.to_be_bytes());
    content.extend(at.to_be_bytes());
    for part in [event, detail] {
        content.extend((part.len() as u64).to_be_bytes());
        content.extend(part.as_bytes());
    }
    content.extend(previous);
    Sha256::digest(content).into()
}

#[test]
fn an_index_without_a_checkpoint_works() {
    const TEST: &str = "audit_checkpoint::an_index_without_a_checkpoint_works";
    if run_as_index_editor() {
        return;
    }
    let mut deployment = Deployment::begin();
    list(&deployment).ok();
    let order = |deployment: &Deployment, input: &Value| {
        deployment.machine.run_child_task(TEST, "admin", Deployment::ADMIN_PIN, input)
    };
    let kept = order(&deployment, &json!("take the checkpoint out"));
    assert_eq!(kept["sequence"], entries(&deployment), "{kept}");
    assert_eq!(order(&deployment, &json!("read")), Value::Null);
    truncate_log(&mut deployment, 1);
    // An entry that no checkpoint covers can be removed undetected.
    list(&deployment).ok().does_not_say("truncated");
    assert_eq!(order(&deployment, &json!("read"))["sequence"], entries(&deployment));
    truncate_log(&mut deployment, 1);
    assert_alarm(list(&deployment));
}

/// In a separate process with the PIN: returns the checkpoint in the private index, and removes it
/// on request.
fn run_as_index_editor() -> bool {
    ChildTask::run_in_child(|order| {
        let module = TokenSource::load(Path::new(&order.module)).unwrap();
        let info = module.tokens().unwrap().into_iter().find(|info| info.label == order.token).unwrap();
        let unlock = module.open(&info).unwrap().unlock(Pin::new(order.pin.clone()).unwrap()).unwrap();
        let data = unlock.token().data_objects("tokenkeep keyset", true).unwrap().remove(0);
        let mut index: Value = serde_json::from_slice(&data.value).unwrap();
        let kept = index["audit"].clone();
        if order.input != "read" {
            index.as_object_mut().unwrap().remove("audit").unwrap();
            let ceremony = unlock.begin_enrollment();
            ceremony.put_data("tokenkeep keyset", &data.label, index.to_string().as_bytes(), true).unwrap();
        }
        kept
    })
}

#[test]
fn a_full_token_gives_the_answer_with_a_warning() {
    let mut deployment = Deployment::begin();
    list(&deployment).ok();
    let known = entries(&deployment);
    let faulty = FaultyModule::wrap_module_of(&mut deployment.machine);
    for (fault, letter) in [("CKR_DEVICE_MEMORY", "one.letter"), ("CKR_TOKEN_WRITE_PROTECTED", "two.letter")] {
        faulty.set_faults(&format!("C_CreateObject {fault}"));
        let issued = deployment.issue("user@example.org", letter).ok();
        issued.says("warning").says("could not be kept").does_not_say("truncated");
        assert!(deployment.machine.file(letter).exists());
    }
    // The earlier checkpoint is still in force.
    faulty.clear_faults();
    let added = entries(&deployment) - known;
    truncate_log(&mut deployment, added + 1);
    assert_alarm(list(&deployment));
}

#[test]
fn the_agent_keeps_and_reports_the_checkpoint_too() {
    let mut deployment = Deployment::begin();
    Agent::configure(&deployment.machine, "");
    let agent = Agent::start(&deployment.machine, &[]);
    list(&deployment).ok().does_not_say("truncated");
    deployment.issue("user@example.org", "user.letter").ok().does_not_say("truncated");
    truncate_log(&mut deployment, 1);
    assert_alarm(list(&deployment)).says("nothing was done");
    deployment.admin(&["list", "--accept-log"]).ok();
    list(&deployment).ok().does_not_say("truncated");
    // The agent did it, which has the token open. Without the agent the result is the same, since
    // the checkpoint is on the token.
    deployment.admin(&["list", "--no-agent"]).fails_with(1).says("in use");
    agent.stop();
    truncate_log(&mut deployment, 1);
    assert_alarm(list(&deployment));
}

#[test]
fn a_command_killed_before_its_checkpoint_loses_only_its_answer() {
    let mut deployment = Deployment::begin();
    list(&deployment).ok();
    let line = ["admin", "issue", "user@example.org", "--name", "Example, User", "--letter-out", "lost.letter"];
    let command = [&line[..], &["--keyset", "admin", "--pin-source", "file:admin.pin"]].concat();
    deployment.machine.tokenkeep_crashing_at("keyset.statement_answered", &command);
    assert!(!deployment.machine.file("lost.letter").exists());
    // The letter is valid, and the administrator who ordered it fetches it. A repeated order voids
    // the older letter.
    deployment.admin(&["letter", "user@example.org", "--letter-out", "lost.letter"]).ok().does_not_say("truncated");
    fs::remove_file(deployment.machine.file("lost.letter")).unwrap();
    deployment.issue("user@example.org", "user.letter").ok().does_not_say("truncated");
    let shown = deployment.admin(&["show", "user@example.org", "--json"]).ok().json();
    let states: Vec<&str> =
        shown["letters"].as_array().unwrap().iter().map(|letter| letter["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["unused", "voided"]);
    grow_log(&deployment);
    // The checkpoint from before the kill is still in force.
    deployment.machine.tokenkeep_crashing_at("keyset.statement_answered", &command);
    let known = entries(&deployment);
    truncate_log(&mut deployment, known - 3);
    assert_alarm(list(&deployment));
}
