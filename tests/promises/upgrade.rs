//! This program reads the data of an earlier version: the authority's database and token, keysets,
//! and an agent's files.
//!
//! The first version made `tests/fixtures/first.tar.gz`; `make-first.sh` beside it documents its
//! content.

use std::fs;

use crate::support::agent::Agent;
use crate::support::authority::{Authority, free_port};
use crate::support::machine::Machine;
use crate::support::output::Output;

const FIXTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/first.tar.gz");

/// A machine with the data of an earlier version; its authority does not serve yet.
struct EarlierMachine {
    authority: Authority,
    machine: Machine,
}

impl EarlierMachine {
    fn unpack() -> Self {
        let machine = Machine::new();
        let configuration = machine.read("config/tokenkeep/agent.toml");
        machine.run("tar", &["-xzf", FIXTURE], b"").ok();
        assert!(machine.read_text("config/tokenkeep/agent.toml").contains("idle_timeout"), "the agent's file is there");
        machine.write("config/tokenkeep/agent.toml", configuration);
        let text = machine.read_text("authority.toml");
        let text = text
            .replace("18829", &free_port().to_string())
            .replace("18830", &free_port().to_string())
            .replace("/usr/lib/softhsm/libsofthsm2.so", machine.module().to_str().unwrap());
        machine.write("authority.toml", text);
        for (file, pin) in [
            ("authority.pin", "authority-4711"),
            ("admin.pin", "admin-0815"),
            ("user.pin", "user-123456"),
            ("recovered.pin", "recovered-123456"),
            ("third.pin", "third-123456"),
        ] {
            machine.write_secret(file, pin);
        }
        Self { authority: Authority::open_existing(&machine), machine }
    }

    /// Runs an administrator's command. The authority has another address than when the keysets
    /// were made.
    fn admin(&self, arguments: &[&str]) -> Output {
        let (http, https) = (self.authority.http_url(), self.authority.https_url());
        let mut all = vec!["admin"];
        all.extend(arguments);
        all.extend(["--keyset", "admin", "--pin-source", "file:admin.pin"]);
        all.extend(["--authority", &http, "--authority-https", &https]);
        self.machine.tokenkeep(&all)
    }

    fn assert_decrypts(&self, keyset: &str, pin: &str, message: &str, content: &str) {
        let pin = format!("file:{pin}");
        let opened = self.machine.tokenkeep(&["decrypt", "--keyset", keyset, "--pin-source", &pin, message]).ok();
        assert_eq!(opened.out(), content, "{message} with the keyset {keyset}");
    }
}

#[test]
fn data_of_the_first_version_still_works() {
    let mut earlier = EarlierMachine::unpack();
    let machine = &earlier.machine;

    // Keysets on their tokens, and messages signed and encrypted with them.
    let keysets = machine.tokenkeep(&["keysets"]).ok();
    for name in ["admin", "default", "second"] {
        assert!(keysets.out().contains(name), "{keysets}");
    }
    earlier.assert_decrypts("default", "user.pin", "old.p7m", "before the new letter\n");
    earlier.assert_decrypts("default", "user.pin", "newer.p7m", "after the new letter\n");
    earlier.assert_decrypts("second", "recovered.pin", "old.p7m", "before the new letter\n");
    earlier.assert_decrypts("second", "recovered.pin", "newer.p7m", "after the new letter\n");
    let verified = machine.tokenkeep(&["verify", "signed.p7m"]).ok().says("user@example.org");
    assert_eq!(verified.out(), "before the new letter\n");

    // The check changes nothing: the database is only old.
    let check = ["authority", "check", "--config", "authority.toml", "--pin-source", "file:authority.pin"];
    let version = "SELECT max(version) FROM _sqlx_migrations";
    for _ in 0..2 {
        let checked =
            machine.tokenkeep(&check).ok().says("older version (schema 1").says("`tokenkeep authority serve`");
        checked.does_not_say("WRONG").does_not_say("backup").says("(schema 1)");
        let found = machine.run("sqlite3", &["state/authority.db", version], b"").ok();
        assert_eq!(found.out(), "1\n");
    }

    // A used letter stays used.
    let answer = ["authority", "answer", "--config", "authority.toml", "--pin-source", "file:authority.pin"];
    let again = [&answer[..], &["--in", "file.statement", "--out", "again.response"]].concat();
    machine.tokenkeep(&again).ok().says("an older version of tokenkeep made it");
    let opened = ["admin", "open", "again.response", "--statement", "file.statement", "--keyset", "admin"];
    let opened = machine.tokenkeep(&[&opened[..], &["--pin-source", "file:admin.pin"]].concat());
    assert_ne!(opened.code(), 0, "a statement was executed a second time\n{opened}");

    // The authority continues with its users, its archive, and its log, which its administrator's
    // keyset knows.
    earlier.authority.serve(&earlier.machine);
    let listed = earlier.admin(&["list"]).ok();
    for email in ["admin@example.org", "user@example.org", "voided@example.org", "file@example.org"] {
        assert!(listed.out().contains(email), "{listed}");
    }
    for letter in ["user.letter", "voided.letter", "recovered.letter"] {
        let url = earlier.authority.http_url();
        let arguments = ["enroll", "--letter", letter, "--keyset", "none", "--new-token"];
        let more = ["--new-pin-source", "file:third.pin", "--authority", &url];
        earlier.machine.tokenkeep(&[&arguments[..], &more].concat()).fails_with(5);
    }
    earlier.machine.tokenkeep(&check).ok().says("No problem was found.");
    earlier.admin(&["recover", "user@example.org", "--letter-out", "third.letter"]).ok();
    let arguments = ["enroll", "--letter", "third.letter", "--keyset", "third", "--level", "high", "--new-token"];
    earlier.machine.tokenkeep(&[&arguments[..], &["--new-pin-source", "file:third.pin"]].concat()).ok();
    earlier.assert_decrypts("third", "third.pin", "old.p7m", "before the new letter\n");
    earlier.assert_decrypts("third", "third.pin", "newer.p7m", "after the new letter\n");
    assert!(earlier.authority.stop().success());
}

#[test]
fn an_agent_starts_where_an_earlier_one_was_killed() {
    let earlier = EarlierMachine::unpack();
    let lock = earlier.machine.file("runtime/tokenkeep/agent/lock");
    assert!(fs::metadata(&lock).is_ok(), "the killed agent's lock file is there");
    let agent = Agent::start(&earlier.machine, &[]);
    earlier.machine.tokenkeep(&["agent", "status"]).ok().says("An agent runs");
    let keysets = earlier.machine.tokenkeep(&["keysets"]).ok();
    for name in ["admin", "default", "second"] {
        assert!(keysets.out().contains(name), "{keysets}");
    }
    earlier.assert_decrypts("second", "recovered.pin", "old.p7m", "before the new letter\n");
    drop(agent);
}
