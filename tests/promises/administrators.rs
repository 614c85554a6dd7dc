//! An authority never lacks an administrator, nobody becomes one unnoticed by the others, and
//! nobody is surprised by the end of a certificate.

use std::process::Stdio;

use crate::support::story::Story;

const ADD: [&str; 6] = ["authority", "administrator", "add", "new@example.org", "--name", "New Administrator"];
const WITH: [&str; 4] = ["--config", "authority.toml", "--letter-out", "new.letter"];

fn add(story: &Story, pin: &str) -> crate::support::output::Output {
    let source = format!("file:{pin}");
    story.tokenkeep(&[&ADD[..], &WITH, &["--pin-source", &source, "--json"]].concat())
}

#[test]
fn an_administrator_is_added_only_while_nobody_serves_and_the_others_are_told() {
    let mut story = Story::begin();
    story.machine.write_secret("wrong.pin", "wrong-000000");
    // While the authority serves, any PIN would pass: the command must refuse before it asks for
    // one.
    add(&story, "nobody-asks.pin").fails_with(5).says("while `authority serve` runs");
    assert!(story.authority.stop().success());
    add(&story, "wrong.pin").fails_with(4);
    story.machine.write("new.letter", "mine");
    add(&story, "nobody-asks.pin").says("new.letter");
    assert_eq!(story.machine.read_text("new.letter"), "mine");
    std::fs::remove_file(story.machine.file("new.letter")).unwrap();

    let added = add(&story, "authority.pin").ok();
    let answer: serde_json::Value = serde_json::from_slice(&added.stdout).unwrap();
    assert_eq!(answer["others"], serde_json::json!(["admin@example.org"]));
    let entry = answer["entry"].to_string();
    story.authority.serve(&story.machine);
    // The letter takes effect after a day.
    story.machine.write_secret("new.pin", "new-1234567");
    story.enroll_new("new.letter", "new", "new.pin").says("is good from");
    for _ in 0..2 {
        let output = story.admin(&["list"]);
        output.says("new@example.org was added as an administrator").says(&format!("admin acknowledge {entry}"));
    }
    story.admin(&["acknowledge", &entry]).ok();
    story.admin(&["list"]).ok();
    story.admin(&["list"]).does_not_say("was added as an administrator");
}

#[test]
fn a_certificate_that_ends_soon_is_said_in_every_command_of_its_keyset() {
    let mut story = Story::begin();
    story.admin(&["list"]).does_not_say(" days, on ");
    assert!(story.authority.stop().success());
    let profile = story.machine.read_text("profiles/signing.toml").replace("validity_days = 730", "validity_days = 45");
    story.machine.write("profiles/signing.toml", profile);
    story.authority.serve(&story.machine);
    story.enroll_user();
    story.machine.write("text", "a text\n");
    let sign = ["sign", "--keyset", "default", "--pin-source", "file:pin1", "--in", "text", "--out", "text.p7m"];
    story.tokenkeep(&sign).says("\"default\" on ").says(" expires in 44 days, on ").says("ask an administrator");
    story.tokenkeep(&["keysets"]).says(" expires in 44 days, on ");
    let doctor = story.tokenkeep(&["doctor"]);
    doctor.says("its certificate expires on");
    story.admin(&["list"]).does_not_say(" days, on ");
}

#[test]
fn a_locked_database_is_said() {
    let story = Story::begin();
    story.issue("user@example.org", "user.letter").ok();
    story.machine.write_secret("pin1", Story::USER_PIN);
    let script = "import sqlite3,sys,time\nc=sqlite3.connect(sys.argv[1],isolation_level=None)\nc.execute('BEGIN EXCLUSIVE')\n\
                  print('locked',flush=True)\nsys.stdin.read()";
    let database = story.machine.file("state/authority.db");
    let database = if database.exists() { database } else { found(&story) };
    let mut holder = story.machine.command("python3");
    let mut holder = holder
        .args(["-c", script])
        .arg(database)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3's sqlite3 is needed as a foreign witness");
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(holder.stdout.take().unwrap()), &mut line).unwrap();
    assert_eq!(line, "locked\n");
    let words = "database is locked by another program";
    let output = story.admin(&["list"]);
    output.fails_with(1).says(words).does_not_say("BER");
    let output = story.enroll_new("user.letter", "default", "pin1");
    output.says(words).does_not_say("does not know this letter");
    drop(holder.stdin.take());
    holder.wait().unwrap();
    // The user's letter is still valid.
    story.enroll_new("user.letter", "default", "pin1").ok();
    story.admin(&["list"]).ok();
}

/// The path of the database.
fn found(story: &Story) -> std::path::PathBuf {
    let output = story.machine.shell("find . -name authority.db").ok();
    story.machine.file(output.out().trim())
}
