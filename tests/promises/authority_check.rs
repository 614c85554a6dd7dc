//! `authority check` says what somebody has changed in the database, running or stopped, and finds nothing where nobody has.

use crate::support::machine::Machine;
use crate::support::output::Output;
use crate::support::story::Story;

const DATABASE: &str = "state/tokenkeep/authority/authority.db";

fn check(machine: &Machine) -> Output {
    machine.tokenkeep(&["authority", "check", "--config", "authority.toml", "--pin-source", "file:authority.pin"])
}

#[track_caller]
fn sql(machine: &Machine, sql: &str) {
    machine.run("sqlite3", &["-bail", "-cmd", ".timeout 5000", DATABASE, sql], b"").ok();
}

#[test]
fn what_was_changed_is_listed_and_what_was_not_is_whole() {
    let mut story = Story::begin();
    story.issue("user@example.org", "user.letter").ok();
    story.machine.write_secret("pin1", Story::USER_PIN);
    story.enroll_new("user.letter", "default", "pin1").ok();
    check(&story.machine).ok().says("Everything holds");
    story.authority.stop();
    check(&story.machine).ok().says("Everything holds").says("2 users");

    for (change, found) in [
        (
            "UPDATE temporary_keys SET state = 'unused' WHERE state = 'used'",
            "its row says unused, and the log does not",
        ),
        ("UPDATE users SET name = 'Mallory'", "user@example.org: its MAC does not fit"),
        ("UPDATE grants SET granted_at = 1", "administrator of admin@example.org: its MAC does not fit"),
        ("UPDATE key_archive SET wrapped = x'00'", "archived-key"),
        ("UPDATE audit SET mac = zeroblob(32) WHERE number = 2", "entry 2 has a MAC that does not fit"),
        ("DELETE FROM statements", "names a statement that is not in the database any more"),
        ("UPDATE audit SET detail = '{}' WHERE number = 3", "entry 3 is missing, or does not fit the one before it"),
    ] {
        sql(&story.machine, change);
        check(&story.machine).fails_with(1).says(found);
    }
    let line = ["authority", "check", "--config", "authority.toml", "--pin-source", "file:authority.pin", "--json"];
    let report = story.machine.tokenkeep(&line).fails_with(1).json();
    assert!(report["findings"].as_array().unwrap().len() >= 7, "{report}");
    // The same database is not served.
    let serve = ["authority", "serve", "--config", "authority.toml", "--pin-source", "file:authority.pin"];
    story.machine.tokenkeep(&serve).fails_with(1).says("cannot trust the audit log: its entry");
}
