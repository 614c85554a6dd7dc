//! Write access to the database can remove keys, but not obtain one: a moved or modified archive
//! record is detected, nothing is delivered, and the log gives the reason.

use crate::support::authority::Authority;
use crate::support::deployment::Deployment;
use crate::support::inventory::Inventory;

const DATABASE: &str = "state/tokenkeep/authority/authority.db";
const THIEF: &str = "thief@example.org";
const VICTIM: &str = "victim@example.org";

/// An authority with two users, a thief and a victim. The thief has a recovery letter.
struct TheftFixture {
    deployment: Deployment,
}

impl TheftFixture {
    fn new() -> Self {
        let deployment = Deployment::begin();
        deployment.machine.write_secret("pin1", Deployment::USER_PIN);
        for (email, keyset) in [(VICTIM, "victim"), (THIEF, "thief")] {
            deployment.issue(email, &format!("{keyset}.letter")).ok();
            deployment.enroll_new(&format!("{keyset}.letter"), keyset, "pin1").ok();
        }
        deployment.recover(THIEF, "recovery.letter").ok();
        let sql = format!(
            "CREATE TABLE kept AS SELECT * FROM key_archive;
             CREATE TABLE kept_certificates AS SELECT * FROM certificates;
             CREATE VIEW of_thief AS SELECT id FROM users WHERE email = '{THIEF}';
             CREATE VIEW of_victim AS SELECT id FROM users WHERE email = '{VICTIM}'"
        );
        let fixture = Self { deployment };
        fixture.modify_database(&sql);
        fixture
    }

    /// Modifies the database while the authority serves.
    fn modify_database(&self, sql: &str) {
        let script = format!("PRAGMA foreign_keys = OFF; BEGIN IMMEDIATE; {sql}; COMMIT;");
        self.deployment.machine.run("sqlite3", &["-bail", "-cmd", ".timeout 5000", DATABASE, &script], b"").ok();
    }

    /// After this change of the database the thief gets no key. After the records are restored, the
    /// same letter is still valid.
    #[track_caller]
    fn assert_nothing_delivered(&self, sql: &str) {
        let logged_before = Authority::log(&self.deployment.machine).len();
        self.modify_database(sql);
        let before = self.tokens();
        let output = self.deployment.enroll_new("recovery.letter", "stolen", "pin1").fails_with(5).says("not enrolled");
        // The log names the problem to the authority's operator; the client learns nothing.
        let log = Authority::log(&self.deployment.machine)[logged_before..].to_owned();
        assert!(log.contains("cannot trust the record of"), "{sql}\n{log}");
        output.does_not_say("archive").does_not_say("MAC");
        assert_eq!(self.tokens(), before, "{sql}");
        self.modify_database(
            "DELETE FROM key_archive; INSERT INTO key_archive SELECT * FROM kept;
             UPDATE certificates SET user_id = (SELECT user_id FROM kept_certificates AS kept
                 WHERE kept.serial = certificates.serial)
             WHERE serial IN (SELECT serial FROM kept_certificates)",
        );
    }

    /// The content of the tokens except empty ones, and the number of objects, private ones
    /// included.
    fn tokens(&self) -> (Inventory, usize) {
        let mut inventory = self.deployment.machine.inventory(&[]);
        inventory.retain(|(label, _), objects| label != "tokenkeep empty" || !objects.is_empty());
        (inventory, self.deployment.machine.object_files().iter().sum())
    }

    /// The letter delivers the thief's own key only.
    #[track_caller]
    fn assert_letter_valid(&self) {
        self.deployment.enroll_new("recovery.letter", "recovered", "pin1").ok();
        self.deployment.machine.assert_one_keyset("recovered", Deployment::USER_PIN, 1);
    }
}

const OF_THIEF: &str = "user_id IN of_thief";
const OF_VICTIM: &str = "user_id IN of_victim";

#[test]
fn an_archive_record_swapped_between_users_is_not_delivered() {
    let fixture = TheftFixture::new();
    // The victim's key in the thief's record: only the blob, with its MAC, and with everything but
    // the certificate.
    for columns in ["wrapped", "wrapped, mac", "wrapped, mac, algorithm, mechanism, archived_at"] {
        fixture.assert_nothing_delivered(&format!(
            "UPDATE key_archive SET ({columns}) = (SELECT {columns} FROM kept WHERE {OF_VICTIM}) WHERE {OF_THIEF}"
        ));
    }
    // The victim's record, with the victim's certificate, under the thief's name.
    let owner = "UPDATE key_archive SET user_id = (SELECT id FROM of_thief)";
    let certificate = "UPDATE certificates SET user_id = (SELECT id FROM of_thief) WHERE kind = 'encryption'";
    fixture.assert_nothing_delivered(&format!("{owner}; {certificate}"));
    // Only the certificate, which names the owner of the record.
    fixture.assert_nothing_delivered(certificate);
    // The two records with swapped certificates.
    fixture.assert_nothing_delivered(
        "DELETE FROM key_archive;
         INSERT INTO key_archive SELECT other.certificate_sha256, one.user_id, one.algorithm, one.mechanism,
             one.wrapped, one.archived_at, one.mac FROM kept AS one JOIN kept AS other ON one.user_id <> other.user_id
             WHERE one.user_id IN (SELECT id FROM of_thief UNION SELECT id FROM of_victim)
                 AND other.user_id IN (SELECT id FROM of_thief UNION SELECT id FROM of_victim)",
    );
    fixture.assert_letter_valid();
}

#[test]
fn a_changed_archive_record_is_noticed_and_not_delivered() {
    let fixture = TheftFixture::new();
    for change in [
        "wrapped = substr(wrapped, 1, 99) || iif(substr(wrapped, 100, 1) = x'00', x'01', x'00') || \
         substr(wrapped, 101)",
        "wrapped = substr(wrapped, 1, length(wrapped) - 8)",
        "mac = zeroblob(32)",
        "algorithm = 'rsa-3072'",
        "mechanism = CASE mechanism WHEN 'kwp' THEN 'pad' ELSE 'kwp' END",
    ] {
        fixture.assert_nothing_delivered(&format!("UPDATE key_archive SET {change} WHERE {OF_THIEF}"));
    }
    fixture.assert_nothing_delivered(&format!("DELETE FROM key_archive WHERE {OF_THIEF}"));
    // The MAC also covers the user of the letter: a thief's letter cannot become the victim's.
    let letter = "UPDATE temporary_keys SET user_id = (SELECT id FROM of_victim) WHERE state IN ('unused', 'claimed')";
    let logged_before = Authority::log(&fixture.deployment.machine).len();
    fixture.modify_database(letter);
    fixture.deployment.enroll_new("recovery.letter", "stolen", "pin1").fails_with(5);
    let log = Authority::log(&fixture.deployment.machine)[logged_before..].to_owned();
    assert!(log.contains("not authenticated"), "{log}");
    fixture.modify_database(
        "UPDATE temporary_keys SET user_id = (SELECT id FROM of_thief) WHERE state IN ('unused', 'claimed')",
    );
    fixture.assert_letter_valid();
}
