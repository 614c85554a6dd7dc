//! An older tokenkeep refuses data that a newer one wrote, with a message, before it asks for a
//! PIN, and leaves the data unchanged.

use std::path::Path;

use serde_json::{Value, json};
use tokenkeep::token::{Pin, TokenSource};

use crate::support::authority::Authority;
use crate::support::machine::Machine;
use crate::support::other_program::ChildTask;
use crate::support::shared_authority::TestUser;

const APPLICATION: &str = "tokenkeep keyset";

#[test]
fn a_keyset_record_of_a_newer_version_is_refused() {
    const TEST: &str = "newer_versions::a_keyset_record_of_a_newer_version_is_refused";
    let is_child = ChildTask::run_in_child(|task| {
        let module = TokenSource::load(Path::new(&task.module)).unwrap();
        let info = module.tokens().unwrap().into_iter().find(|info| info.label == task.token).unwrap();
        let ceremony =
            module.open(&info).unwrap().unlock(Pin::new(task.pin.clone()).unwrap()).unwrap().begin_enrollment();
        for private in [false, true] {
            let data = ceremony.data_objects(APPLICATION, private).unwrap().remove(0);
            let mut record: Value = serde_json::from_slice(&data.value).unwrap();
            record["version"] = json!(2);
            record["something new"] = json!(true);
            ceremony.put_data(APPLICATION, &data.label, record.to_string().as_bytes(), private).unwrap();
        }
        json!({})
    });
    if is_child {
        return;
    }
    let user = TestUser::enrolled();
    user.issue("again.letter");
    user.machine.run_child_task(TEST, "default", TestUser::PIN, &json!({}));
    let before = user.machine.inventory(&[("default", TestUser::PIN)]);
    user.machine.write("message.txt", "a message\n");
    let wire = user.start_proxy();
    let url = wire.url();
    let nobody = ["--pin-source", "file:no-such-file"];
    let assert_refused = |arguments: &[&str], code: i32| {
        let output = user.tokenkeep(arguments).fails_with(code);
        output.says("newer tokenkeep").says("version 2").says("reads up to 1").says("upgrade");
    };
    assert_refused(&[&["sign", "message.txt", "--keyset", "default"], &nobody[..]].concat(), 3);
    assert_refused(&[&["sign", "message.txt"], &nobody[..]].concat(), 3);
    let enroll = ["enroll", "--letter", "again.letter", "--keyset", "default", "--authority", &url];
    assert_refused(&[&enroll[..], &nobody].concat(), 5);
    assert_refused(&[&enroll[..], &["--new-token", "--new-pin-source", "file:no-such-file"]].concat(), 5);
    assert_refused(&[&enroll[..], &["--token", "default"], &nobody].concat(), 5);
    user.tokenkeep(&["keysets"]).ok().says("newer tokenkeep");
    assert!(wire.exchanges().is_empty(), "something was sent");
    assert_eq!(user.machine.inventory(&[("default", TestUser::PIN)]), before);
    assert!(!user.machine.listed_token("default").count_is_low(), "a PIN was tried");
}

#[test]
fn a_database_of_a_newer_version_is_refused() {
    const DATABASE: &str = "state/tokenkeep/authority/authority.db";
    let machine = Machine::new();
    let _authority = Authority::init(&machine);
    let sql = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
               VALUES (9001, 'of the future', 1, x'00', 0)";
    machine.run("sqlite3", &["-bail", DATABASE, sql], b"").ok();
    let before = machine.read(DATABASE);
    let serve = ["authority", "serve", "--config", "authority.toml", "--pin-source", "file:authority.pin"];
    let refused = machine.tokenkeep(&serve).fails_with(1).says("newer tokenkeep").says("version 9001");
    refused.says("upgrade").says(DATABASE).does_not_say("migration");
    assert_eq!(machine.read(DATABASE), before);
}
