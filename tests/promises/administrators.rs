//! An authority never lacks an administrator, nobody becomes one unnoticed by the others, and
//! nobody is surprised by the end of a certificate.

use std::process::Stdio;

use crate::support::deployment::Deployment;

const ADD: [&str; 6] = ["authority", "administrator", "add", "new@example.org", "--name", "New Administrator"];
const WITH: [&str; 4] = ["--config", "authority.toml", "--letter-out", "new.letter"];

fn add(deployment: &Deployment, pin: &str) -> crate::support::output::Output {
    let source = format!("file:{pin}");
    deployment.tokenkeep(&[&ADD[..], &WITH, &["--pin-source", &source, "--json"]].concat())
}

#[test]
fn an_administrator_is_added_offline_and_others_are_notified() {
    let mut deployment = Deployment::begin();
    deployment.machine.write_secret("wrong.pin", "wrong-000000");
    // While the authority serves, any PIN would pass: the command must refuse before it asks for
    // one.
    add(&deployment, "nobody-asks.pin").fails_with(5).says("while `authority serve` runs");
    assert!(deployment.authority.stop().success());
    add(&deployment, "wrong.pin").fails_with(4);
    deployment.machine.write("new.letter", "mine");
    add(&deployment, "nobody-asks.pin").says("new.letter");
    assert_eq!(deployment.machine.read_text("new.letter"), "mine");
    std::fs::remove_file(deployment.machine.file("new.letter")).unwrap();

    let added = add(&deployment, "authority.pin").ok();
    let answer: serde_json::Value = serde_json::from_slice(&added.stdout).unwrap();
    assert_eq!(answer["others"], serde_json::json!(["admin@example.org"]));
    let entry = answer["entry"].to_string();
    deployment.authority.serve(&deployment.machine);
    // The letter takes effect after a day.
    deployment.machine.write_secret("new.pin", "new-1234567");
    deployment.enroll_new("new.letter", "new", "new.pin").says("is good from");
    for _ in 0..2 {
        let output = deployment.admin(&["list"]);
        output.says("new@example.org was added as an administrator").says(&format!("admin acknowledge {entry}"));
    }
    deployment.admin(&["acknowledge", &entry]).ok();
    deployment.admin(&["list"]).ok();
    deployment.admin(&["list"]).does_not_say("was added as an administrator");
}

#[test]
fn every_command_warns_of_an_expiring_certificate() {
    let mut deployment = Deployment::begin();
    deployment.admin(&["list"]).does_not_say(" days, on ");
    assert!(deployment.authority.stop().success());
    let profile =
        deployment.machine.read_text("profiles/signing.toml").replace("validity_days = 730", "validity_days = 45");
    deployment.machine.write("profiles/signing.toml", profile);
    deployment.authority.serve(&deployment.machine);
    deployment.enroll_user();
    deployment.machine.write("text", "a text\n");
    let sign = ["sign", "--keyset", "default", "--pin-source", "file:pin1", "--in", "text", "--out", "text.p7m"];
    deployment.tokenkeep(&sign).says("\"default\" on ").says(" expires in 44 days, on ").says("ask an administrator");
    deployment.tokenkeep(&["keysets"]).says(" expires in 44 days, on ");
    let doctor = deployment.tokenkeep(&["doctor"]);
    doctor.says("its certificate expires on");
    deployment.admin(&["list"]).does_not_say(" days, on ");
}

#[test]
fn a_locked_database_is_reported() {
    let deployment = Deployment::begin();
    deployment.issue("user@example.org", "user.letter").ok();
    deployment.machine.write_secret("pin1", Deployment::USER_PIN);
    let script = "import sqlite3,sys,time\nc=sqlite3.connect(sys.argv[1],isolation_level=None)\n\
                  c.execute('BEGIN EXCLUSIVE')\nprint('locked',flush=True)\nsys.stdin.read()";
    let database = deployment.machine.file("state/authority.db");
    let database = if database.exists() { database } else { database_path(&deployment) };
    let mut holder = deployment.machine.command("python3");
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
    let output = deployment.admin(&["list"]);
    output.fails_with(1).says(words).does_not_say("BER");
    let output = deployment.enroll_new("user.letter", "default", "pin1");
    output.says(words).does_not_say("does not know this letter");
    drop(holder.stdin.take());
    holder.wait().unwrap();
    // The user's letter is still valid.
    deployment.enroll_new("user.letter", "default", "pin1").ok();
    deployment.admin(&["list"]).ok();
}

/// The path of the database.
fn database_path(deployment: &Deployment) -> std::path::PathBuf {
    let output = deployment.machine.shell("find . -name authority.db").ok();
    deployment.machine.file(output.out().trim())
}
