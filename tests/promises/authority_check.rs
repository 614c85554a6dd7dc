//! `authority check` reports each change of the database, with the authority running or stopped,
//! and reports nothing about an unchanged database.

use crate::support::deployment::Deployment;
use crate::support::machine::Machine;
use crate::support::output::Output;

const DATABASE: &str = "state/tokenkeep/authority/authority.db";

fn check(machine: &Machine) -> Output {
    machine.tokenkeep(&["authority", "check", "--config", "authority.toml", "--pin-source", "file:authority.pin"])
}

#[track_caller]
fn sql(machine: &Machine, sql: &str) {
    machine.run("sqlite3", &["-bail", "-cmd", ".timeout 5000", DATABASE, sql], b"").ok();
}

#[test]
fn check_lists_changed_records_and_no_others() {
    let mut deployment = Deployment::begin();
    deployment.issue("user@example.org", "user.letter").ok();
    deployment.machine.write_secret("pin1", Deployment::USER_PIN);
    deployment.enroll_new("user.letter", "default", "pin1").ok();
    check(&deployment.machine).ok().says("No problem was found");
    deployment.authority.stop();
    check(&deployment.machine).ok().says("No problem was found").says("2 users");

    // Each change alone, with the message of the check, and that the changed log is not served.
    let whole = deployment.machine.read(DATABASE);
    let serve = ["authority", "serve", "--config", "authority.toml", "--pin-source", "file:authority.pin"];
    for (change, found, is_served) in [
        (
            "UPDATE temporary_keys SET state = 'unused' WHERE state = 'used'",
            "the state unused of its row contradicts the log",
            true,
        ),
        ("UPDATE users SET name = 'Mallory'", "user@example.org: invalid MAC", true),
        ("UPDATE users SET mac = x'00' WHERE email LIKE 'user%'", "user@example.org: invalid MAC", true),
        ("UPDATE users SET created_at = 1e300 WHERE email LIKE 'user%'", "user@example.org (row 2): unreadable", true),
        ("UPDATE users SET email = email || char(0, 27)", "user@example.org\\0\\u{1b}: invalid MAC", true),
        ("UPDATE grants SET granted_at = 1", "administrator of admin@example.org: invalid MAC", true),
        ("UPDATE grants SET user_id = 'nobody'", ": no such user", true),
        ("UPDATE certificates SET serial = 'x' || serial WHERE kind = 'signing'", ": the CA did not sign it", true),
        ("UPDATE key_archive SET wrapped = x'00'", "archived-key", true),
        ("UPDATE audit SET mac = zeroblob(32) WHERE number = 2", "entry 2 has an invalid MAC", false),
        ("UPDATE audit SET mac = x'00' WHERE number = 2", "entry 2 has an invalid MAC", false),
        ("DELETE FROM statements", "names a statement that is no longer in the database", false),
        (
            "UPDATE audit SET detail = '{}' WHERE number = 3",
            "entry 3 is missing, or does not follow the previous entry",
            false,
        ),
    ] {
        sql(&deployment.machine, change);
        check(&deployment.machine).fails_with(1).says(found);
        if !is_served {
            deployment
                .machine
                .tokenkeep(&serve)
                .fails_with(9)
                .says("cannot trust the audit log: its entry")
                .says(found);
        }
        for beside in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(deployment.machine.file(&format!("{DATABASE}{beside}")));
        }
        deployment.machine.write(DATABASE, &whole);
    }
    check(&deployment.machine).ok().says("No problem was found");
}

#[test]
fn one_changed_row_hides_no_other() {
    let mut deployment = Deployment::begin();
    deployment.issue("user@example.org", "user.letter").ok();
    deployment.issue("zoe@example.org", "zoe.letter").ok();
    let listed =
        |deployment: &Deployment| deployment.admin(&["list"]).ok().says("admin@example.org").says("zoe@example.org");
    listed(&deployment).says("user@example.org");
    sql(&deployment.machine, "CREATE TABLE kept AS SELECT * FROM users WHERE email LIKE 'user%'");
    for change in ["mac = x'00'", "created_at = 1e300", "email = email || char(0)", "name = CAST(x'ff' AS TEXT)"] {
        sql(&deployment.machine, &format!("UPDATE users SET {change} WHERE email LIKE 'user%'"));
        listed(&deployment).does_not_say("user@example.org");
        check(&deployment.machine).fails_with(1).says("user@example.org");
        let whole = "UPDATE users SET (mac, created_at, email, name) = (SELECT mac, created_at, email, name FROM kept) \
                     WHERE id = (SELECT id FROM kept)";
        sql(&deployment.machine, whole);
    }
    sql(&deployment.machine, "DROP TABLE kept");
    check(&deployment.machine).ok().says("No problem was found");
    listed(&deployment).says("user@example.org");
    deployment.authority.stop();
}
