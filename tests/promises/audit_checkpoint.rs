//! The authority's audit log cannot lose or change an entry that an administrator has seen: each
//! command stores a checkpoint on the token, and the next one detects a log that does not continue
//! it.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokenkeep::token::{Module, Pin};

use crate::support::agent::Agent;
use crate::support::faulty::Faulty;
use crate::support::intruder::Order;
use crate::support::machine::Machine;
use crate::support::output::Output;
use crate::support::story::Story;

const DATABASE: &str = "state/tokenkeep/authority/authority.db";

/// The text of the alarm, whatever happened to the log.
#[track_caller]
fn alarmed(output: Output) -> Output {
    output.fails_with(8).says("truncated or rewritten").says("known here: entry").says("--accept-log")
}

fn list(story: &Story) -> Output {
    story.admin(&["list"])
}

/// Runs SQL in the authority's database directly; returns one line per row.
#[track_caller]
fn database(machine: &Machine, sql: &str) -> Vec<String> {
    let output = machine.run("sqlite3", &["-bail", "-cmd", ".timeout 5000", DATABASE, sql], b"").ok();
    output.out().lines().map(str::to_owned).collect()
}

/// The number of the log's last entry.
fn entries(story: &Story) -> u64 {
    database(&story.machine, "SELECT max(number) FROM audit")[0].parse().unwrap()
}

/// Stops the authority. Its database is then one file, which can be copied.
fn stop(story: &mut Story) {
    story.authority.stop();
    let beside = fs::metadata(story.machine.file(&format!("{DATABASE}-wal")));
    assert!(beside.is_err() || beside.unwrap().len() == 0, "a part of the database is beside it");
}

/// Removes entries from the end of the log while the authority is stopped: the rest is a former
/// state of the log.
fn cut(story: &mut Story, count: u64) {
    stop(story);
    database(&story.machine, &format!("DELETE FROM audit WHERE number > {}", entries(story) - count));
    story.authority.serve(&story.machine);
}

/// A user's enrollment, which writes many entries without an administrator.
fn grow(story: &Story) {
    story.machine.write_secret("pin1", Story::USER_PIN);
    story.enroll_new("user.letter", "default", "pin1").ok();
}

#[test]
fn an_administrators_day_is_quiet() {
    let mut story = Story::begin();
    story.issue("user@example.org", "user.letter").ok().does_not_say("log");
    grow(&story);
    list(&story).ok().does_not_say("log");
    story.admin(&["show", "nobody@example.org"]).fails_with(5).does_not_say("truncated");
    story.recover("user@example.org", "recovered.letter").ok().does_not_say("log");
    story.authority.kill();
    story.authority.serve(&story.machine);
    list(&story).ok().does_not_say("log");
    // An unauthenticated caller learns nothing about the log and gets no alarm.
    let line = ["admin", "list", "--keyset", "default", "--pin-source", "file:pin1"];
    for _ in 0..2 {
        story.tokenkeep(&line).fails_with(5).does_not_say("truncated");
    }
    // Statement files whose responses are opened after those of later commands.
    for name in ["one", "two"] {
        story.admin(&["list", "--statement-out", &format!("{name}.statement")]).ok();
    }
    let answer = |name: &str| {
        let (statement, response) = (format!("{name}.statement"), format!("{name}.response"));
        let line = ["authority", "answer", "--config", "authority.toml", "--pin-source", "file:authority.pin"];
        story.tokenkeep(&[&line[..], &["--in", &statement, "--out", &response]].concat()).ok();
    };
    let open = |name: &str| {
        let (statement, response) = (format!("{name}.statement"), format!("{name}.response"));
        story.admin(&["open", &response, "--statement", &statement]).ok().does_not_say("truncated");
    };
    answer("one");
    list(&story).ok();
    answer("two");
    open("two");
    list(&story).ok();
    open("one");
    list(&story).ok().does_not_say("truncated");
}

#[test]
fn a_log_cut_off_at_its_end_is_noticed_and_nothing_is_done() {
    let mut story = Story::begin();
    list(&story).ok();
    cut(&mut story, 1);
    alarmed(story.issue("user@example.org", "user.letter")).says("nothing was done");
    assert!(!story.machine.file("user.letter").exists());
    let users = database(&story.machine, "SELECT email FROM users");
    assert_eq!(users, ["admin@example.org"], "the command was refused before it");
    // The alarm persists, also after a restart.
    alarmed(list(&story));
    let text = alarmed(story.admin(&["list", "--json"])).err();
    let failure: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(failure["error"]["code"], 8);
}

#[test]
fn a_log_that_was_cut_off_and_has_grown_again_is_noticed() {
    let mut story = Story::begin();
    story.issue("user@example.org", "user.letter").ok();
    story.issue("other@example.org", "other.letter").ok();
    let known = entries(&story);
    cut(&mut story, 2);
    grow(&story);
    assert!(entries(&story) > known, "longer than it ever was");
    alarmed(list(&story));
}

#[test]
fn a_database_put_back_from_a_backup_is_noticed_until_a_person_accepts_it() {
    let mut story = Story::begin();
    story.issue("user@example.org", "user.letter").ok();
    stop(&mut story);
    let backup = story.machine.read(DATABASE);
    story.authority.serve(&story.machine);
    story.admin(&["list", "--statement-out", "list.statement"]).ok();
    list(&story).ok();
    stop(&mut story);
    for beside in ["-wal", "-shm"] {
        let _ = fs::remove_file(story.machine.file(&format!("{DATABASE}{beside}")));
    }
    story.machine.write(DATABASE, backup);
    story.authority.serve(&story.machine);
    grow(&story);

    alarmed(list(&story));
    // A statement file contains its signer's checkpoint of that time, which the backup has, too;
    // the signer has learned of newer entries since.
    let line = ["authority", "answer", "--config", "authority.toml", "--pin-source", "file:authority.pin"];
    story.tokenkeep(&[&line[..], &["--in", "list.statement", "--out", "list.response"]].concat()).ok();
    story.admin(&["open", "list.response", "--statement", "list.statement"]).ok().does_not_say("truncated");
    alarmed(list(&story));
    story.admin(&["list", "--accept-log"]).ok().does_not_say("truncated");
    list(&story).ok().does_not_say("truncated");
    cut(&mut story, 1);
    alarmed(list(&story));
}

#[test]
fn a_rewritten_last_entry_is_noticed() {
    let mut story = Story::begin();
    list(&story).ok();
    let number = entries(&story);
    // Only the detail of the entry.
    let was = database(&story.machine, &format!("SELECT detail FROM audit WHERE number = {number}")).remove(0);
    let says = |detail: &str| format!("UPDATE audit SET detail = '{detail}' WHERE number = {number}");
    database(&story.machine, &says("{}"));
    alarmed(list(&story));
    database(&story.machine, &says(&was));
    list(&story).ok();

    // With a matching hash.
    let number = entries(&story);
    let sql = format!("SELECT at, event, hex(previous_hash) FROM audit WHERE number = {number}");
    let row = database(&story.machine, &sql).remove(0);
    let [at, event, previous] = row.split('|').collect::<Vec<_>>().try_into().unwrap();
    let hash = entry_hash(number, at.parse().unwrap(), event, "{}", &hex::decode(previous).unwrap());
    let sql = "UPDATE audit SET detail = '{}', hash = x";
    database(&story.machine, &format!("{sql}'{}' WHERE number = {number}", hex::encode(hash)));
    alarmed(list(&story));
    // The running authority compares with its memory, and appends nothing to entries that it did
    // not write. Accepting the log does not help: the entry's MAC cannot be forged.
    story.admin(&["list", "--accept-log"]).fails_with(5).says("see its log");
    stop(&mut story);
    let line = ["authority", "serve", "--config", "authority.toml", "--pin-source", "file:authority.pin"];
    let entry = format!("its entry {number} has an invalid MAC");
    story.machine.tokenkeep(&line).fails_with(9).says(&entry).says("restore the database");
}

#[test]
fn a_log_cut_off_while_the_authority_serves_is_not_gone_on_with() {
    let mut story = Story::begin();
    story.issue("user@example.org", "user.letter").ok();
    let newest = entries(&story);
    database(&story.machine, &format!("DELETE FROM audit WHERE number = {newest}"));
    story.machine.write_secret("pin1", Story::USER_PIN);
    assert_ne!(story.enroll_new("user.letter", "default", "pin1").code(), 0);
    alarmed(list(&story));
    assert_eq!(entries(&story), newest - 1, "nothing was written");
    // This is a former state of the log: only the administrator's checkpoint detects it.
    stop(&mut story);
    story.authority.serve(&story.machine);
    alarmed(list(&story));
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
fn an_index_from_before_checkpoints_were_kept_works() {
    const TEST: &str = "audit_checkpoint::an_index_from_before_checkpoints_were_kept_works";
    if changes_the_index() {
        return;
    }
    let mut story = Story::begin();
    list(&story).ok();
    let order = |story: &Story, input: &Value| story.machine.order(TEST, "admin", Story::ADMIN_PIN, input);
    let kept = order(&story, &json!("take the checkpoint out"));
    assert_eq!(kept["sequence"], entries(&story), "{kept}");
    assert_eq!(order(&story, &json!("look")), Value::Null);
    cut(&mut story, 1);
    // An entry that no checkpoint covers can be removed undetected.
    list(&story).ok().does_not_say("truncated");
    assert_eq!(order(&story, &json!("look"))["sequence"], entries(&story));
    cut(&mut story, 1);
    alarmed(list(&story));
}

/// In a separate process with the PIN: returns the checkpoint in the private index, and removes it
/// on request.
fn changes_the_index() -> bool {
    Order::carried_out(|order| {
        let module = Module::load(Path::new(&order.module)).unwrap();
        let info = module.tokens().unwrap().into_iter().find(|info| info.label == order.token).unwrap();
        let unlock = module.open(&info).unwrap().unlock(Pin::new(order.pin.clone()).unwrap()).unwrap();
        let data = unlock.token().data_objects("tokenkeep keyset", true).unwrap().remove(0);
        let mut index: Value = serde_json::from_slice(&data.value).unwrap();
        let kept = index["audit"].clone();
        if order.input != "look" {
            index.as_object_mut().unwrap().remove("audit").unwrap();
            let ceremony = unlock.ceremony();
            ceremony.put_data("tokenkeep keyset", &data.label, index.to_string().as_bytes(), true).unwrap();
        }
        kept
    })
}

#[test]
fn a_token_that_takes_nothing_more_gives_the_answer_with_a_warning() {
    let mut story = Story::begin();
    list(&story).ok();
    let known = entries(&story);
    let faulty = Faulty::in_front_of(&mut story.machine);
    for (fault, letter) in [("CKR_DEVICE_MEMORY", "one.letter"), ("CKR_TOKEN_WRITE_PROTECTED", "two.letter")] {
        faulty.does(&format!("C_CreateObject {fault}"));
        let issued = story.issue("user@example.org", letter).ok();
        issued.says("warning").says("could not be kept").does_not_say("truncated");
        assert!(story.machine.file(letter).exists());
    }
    // The earlier checkpoint is still in force.
    faulty.behaves();
    let added = entries(&story) - known;
    cut(&mut story, added + 1);
    alarmed(list(&story));
}

#[test]
fn through_the_agent_it_is_kept_and_said_too() {
    let mut story = Story::begin();
    Agent::configure(&story.machine, "");
    let agent = Agent::start(&story.machine, &[]);
    list(&story).ok().does_not_say("truncated");
    story.issue("user@example.org", "user.letter").ok().does_not_say("truncated");
    cut(&mut story, 1);
    alarmed(list(&story)).says("nothing was done");
    story.admin(&["list", "--accept-log"]).ok();
    list(&story).ok().does_not_say("truncated");
    // The agent did it, which has the token open. Without the agent the result is the same, since
    // the checkpoint is on the token.
    story.admin(&["list", "--no-agent"]).fails_with(1).says("in use");
    agent.stop();
    cut(&mut story, 1);
    alarmed(list(&story));
}

#[test]
fn a_command_killed_before_it_kept_the_checkpoint_loses_only_its_answer() {
    let mut story = Story::begin();
    list(&story).ok();
    let line = ["admin", "issue", "user@example.org", "--name", "Example, User", "--letter-out", "lost.letter"];
    let command = [&line[..], &["--keyset", "admin", "--pin-source", "file:admin.pin"]].concat();
    story.machine.tokenkeep_crashing_at("keyset.statement_answered", &command);
    assert!(!story.machine.file("lost.letter").exists());
    // The letter is valid, and the administrator who ordered it fetches it. A repeated order voids
    // the older letter.
    story.admin(&["letter", "user@example.org", "--letter-out", "lost.letter"]).ok().does_not_say("truncated");
    fs::remove_file(story.machine.file("lost.letter")).unwrap();
    story.issue("user@example.org", "user.letter").ok().does_not_say("truncated");
    let shown = story.admin(&["show", "user@example.org", "--json"]).ok().json();
    let states: Vec<&str> =
        shown["letters"].as_array().unwrap().iter().map(|letter| letter["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["unused", "voided"]);
    grow(&story);
    // The checkpoint from before the kill is still in force.
    story.machine.tokenkeep_crashing_at("keyset.statement_answered", &command);
    let known = entries(&story);
    cut(&mut story, known - 3);
    alarmed(list(&story));
}
