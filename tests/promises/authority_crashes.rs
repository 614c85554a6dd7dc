//! The authority is killed between any two steps: after the restart the same request gets a
//! consistent answer, no key is lost, and no key is delivered that is not archived.
//!
//! One request meets one authority after another, each killed one step later than the one before.

use std::collections::BTreeSet;

use tokenkeep::authority::CRASH_POINTS;
use tokenkeep::cmp::PkiMessage;

use crate::support::authority::Authority;
use crate::support::deployment::Deployment;
use crate::support::machine::Machine;
use crate::support::output::Output;
use crate::support::proxy::Proxy;

const INIT: [&str; 11] = [
    "authority.init.after_marker",
    "authority.init.before_marker_names_token",
    "authority.init.after_token",
    "authority.init.after_mark",
    "authority.init.after_key",
    "authority.init.after_so_pin",
    "authority.own.after_intent",
    "authority.own.after_issued",
    "authority.init.before_identity",
    "authority.init.after_identity",
    "authority.init.after_letter",
];
/// The points up to the archive, first for the signing certificate, then for the encryption key's.
/// A certificate whose key is lost is discarded.
const CERTIFICATION: [&str; 10] = [
    "authority.enroll.after_claim",
    "authority.enroll.after_intent",
    "authority.enroll.after_signature",
    "authority.enroll.after_issued",
    "authority.enroll.after_session_key",
    "authority.enroll.after_intent",
    "authority.enroll.after_abandon",
    "authority.enroll.after_signature",
    "authority.enroll.after_issued",
    "authority.enroll.before_archive",
];
const DELIVERY: [&str; 3] =
    ["authority.enroll.after_archive", "authority.enroll.before_reply", "authority.enroll.after_reply"];
const CONFIRMATION: [&str; 2] = ["authority.confirm.before_end", "authority.confirm.after_end"];
const STATEMENT: [&str; 3] =
    ["authority.statement.after_taken", "authority.statement.after_revocation", "authority.statement.after_letter"];
/// Reached only after minutes; tested beside the code.
const SWEEP: &str = "authority.sweep.after_end";

#[test]
fn every_crash_point_is_reached() {
    let walked = [&INIT[..], &CERTIFICATION, &DELIVERY, &CONFIRMATION, &STATEMENT, &[SWEEP]].concat();
    assert_eq!(BTreeSet::from_iter(walked), CRASH_POINTS.iter().copied().collect());
}

impl Deployment {
    /// Returns the number that a query yields.
    fn count(&self, query: &str) -> u32 {
        let output = self.machine.run("sqlite3", &["state/tokenkeep/authority/authority.db", query], b"").ok();
        output.out().trim().parse().unwrap_or_else(|error| panic!("{error}\n{output}"))
    }

    /// The number of the user's keys in the archive.
    fn archived_keys(&self) -> u32 {
        self.count("SELECT count(*) FROM key_archive JOIN users ON users.id = user_id WHERE email = 'user@example.org'")
    }

    /// Runs a command against an authority that dies at each of these points in turn.
    fn crash_at(&mut self, points: &[&str], command: &[&str], mut check: impl FnMut(&Self, &str)) {
        for point in points {
            self.authority.kill();
            self.authority.serve_crashing_at(&self.machine, point);
            let output = self.tokenkeep(command);
            assert!(self.authority.exits_soon(), "{point} was not reached\n{output}");
            self.authority.wait_for_crash();
            output.fails_with(6);
            check(self, point);
        }
        self.authority.serve(&self.machine);
    }
}

/// The replies with a key that have left the authority.
fn replies(wire: &Proxy) -> Vec<Vec<u8>> {
    let replies = wire.exchanges().into_iter().map(|exchange| exchange.response);
    let is_reply =
        |der: &Vec<u8>| PkiMessage::from_der(der).is_ok_and(|reply| matches!(reply.body().name(), "ip" | "krp"));
    replies.filter(is_reply).collect()
}

#[test]
fn a_crashed_enrollment_is_answered_and_every_key_is_archived() {
    let mut deployment = Deployment::begin();
    deployment.machine.write_secret("pin1", Deployment::USER_PIN);
    deployment.issue("user@example.org", "user.letter").ok();
    let wire = Proxy::forwarding(&deployment.authority.http_address());
    let url = wire.url();
    let line = ["enroll", "--letter", "user.letter", "--level", "high", "--new-token", "--new-pin-source", "file:pin1"];
    let enroll = [&line[..], &["--authority", &url]].concat();

    deployment.crash_at(&CERTIFICATION, &enroll, |deployment, point| {
        assert_eq!(deployment.archived_keys(), 0, "{point}");
        assert_eq!(replies(&wire).len(), 0, "{point}: a key was delivered that is not archived");
    });
    deployment.crash_at(&DELIVERY, &enroll, |deployment, point| {
        assert_eq!(deployment.archived_keys(), 1, "{point}");
        assert_eq!(replies(&wire).len(), 0, "{point}: the authority should have died before it answered");
    });
    let stored = deployment.count("SELECT count(*) FROM transactions WHERE reply IS NOT NULL AND state = 'answered'");
    assert_eq!(stored, 1);
    deployment.crash_at(&CONFIRMATION, &enroll, |_, _| ());
    deployment.tokenkeep(&enroll).ok();
    assert_eq!(replies(&wire).len(), 1);
    assert_eq!(deployment.archived_keys(), 1);
    let current = "SELECT count(*) FROM certificates JOIN users ON users.id = user_id
                   WHERE email = 'user@example.org' AND state = 'current'";
    let open = "SELECT count(*) FROM certificates WHERE state IN ('intended', 'issued')";
    assert_eq!((deployment.count(current), deployment.count(open)), (2, 0));
    deployment.machine.assert_one_keyset("default", Deployment::USER_PIN, 1);
    drop(wire);

    // The archived key is the delivered one: after a recovery it decrypts a message to the first
    // key.
    let message = ["encrypt", "--to", "user@example.org", "--out", "mail.p7m"];
    deployment
        .machine
        .tokenkeep_with_input(&[&message[..], &["--authority", &deployment.authority.http_url()]].concat(), b"mail\n")
        .ok();
    recover_whole_history(&mut deployment);
    let decrypt = |keyset: &str| {
        let line = ["decrypt", "--keyset", keyset, "--pin-source", "file:pin1", "--in", "mail.p7m", "--out", "-"];
        deployment.tokenkeep(&line).ok().out()
    };
    assert_eq!((decrypt("default"), decrypt("second")), ("mail\n".to_owned(), "mail\n".to_owned()));
}

/// A recovery of a lost token, with the administrator's statement and the request interrupted at
/// every step, too.
fn recover_whole_history(deployment: &mut Deployment) {
    let recover = ["admin", "recover", "user@example.org", "--lost", "--letter-out", "recovery.letter"];
    let recover = [&recover[..], &["--keyset", "admin", "--pin-source", "file:admin.pin"]].concat();
    deployment.crash_at(&STATEMENT, &recover, |deployment, point| {
        assert!(!deployment.machine.file("recovery.letter").exists(), "{point}");
    });
    deployment.tokenkeep(&recover).ok();

    let wire = Proxy::forwarding(&deployment.authority.http_address());
    let url = wire.url();
    let line = ["enroll", "--letter", "recovery.letter", "--keyset", "second", "--level", "high", "--new-token"];
    let enroll = [&line[..], &["--new-pin-source", "file:pin1", "--authority", &url]].concat();
    let points = ["authority.enroll.after_issued", "authority.enroll.before_archive", "authority.enroll.after_abandon"];
    let points = [&points[..], &DELIVERY, &CONFIRMATION].concat();
    deployment.crash_at(&points, &enroll, |deployment, point| {
        let expected = if points[..3].contains(&point) { 1 } else { 2 };
        assert_eq!(deployment.archived_keys(), expected, "{point}");
    });
    deployment.tokenkeep(&enroll).ok();
    assert_eq!(replies(&wire).len(), 1);
    // The old key and the new one.
    deployment.machine.assert_one_keyset("second", Deployment::USER_PIN, 2);
}

#[test]
fn an_init_killed_at_any_step_is_finished_by_the_same_command() {
    let machine = Machine::new();
    let mut authority = Authority::prepared(&machine);
    let (last, others) = INIT.split_last().unwrap();
    for point in others {
        machine.tokenkeep_crashing_at(point, &Authority::INIT);
        assert!(!machine.file("admin.letter").exists(), "{point}");
    }
    // After this point the authority is created, and its letter exists.
    machine.tokenkeep_crashing_at(last, &Authority::INIT);
    let letter = machine.read("admin.letter");
    let again: Output = machine.tokenkeep(&Authority::INIT);
    assert_ne!(again.code(), 0, "{again}");
    assert_eq!(machine.read("admin.letter"), letter);
    assert_eq!(machine.listed_tokens().len(), 1, "one token is the authority's");
    authority.serve(&machine);
    machine.write_secret("admin.pin", Deployment::ADMIN_PIN);
    let deployment = Deployment { authority, machine };
    deployment.enroll_new("admin.letter", "admin", "admin.pin").ok();
    deployment.issue("user@example.org", "user.letter").ok();
}
