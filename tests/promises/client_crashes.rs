//! The client is killed at any step: the same command with the same letter resumes or cleans up,
//! and leaves no object without a keyset.
//!
//! One enrollment is killed at every point in turn, each time by the same command, which resumes
//! after the last kill.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokenkeep::cmp::{PkiBody, PkiMessage};
use tokenkeep::keyset::CRASH_POINTS;

use crate::support::proxy::{Direction, Proxy, ProxyAction};
use crate::support::shared_authority::{TestUser, re_enroll_arguments};

/// Before a request is stored, the client removes its objects and makes them again, so the points
/// of the clean-up lie between.
const MAKING: [&str; 7] = [
    "keyset.announced",
    "keyset.begun",
    "keyset.abandoned",
    "keyset.signing_key_made",
    "keyset.removed",
    "keyset.transport_key_made",
    "keyset.request_written",
];
const INSTALLING: [&str; 4] =
    ["keyset.reply_here", "keyset.installing", "keyset.key_installed", "keyset.certificate_installed"];
/// Reached when the client rejects a reply.
const REFUSING: &str = "keyset.rejection_sent";
const CONFIRMING: [&str; 4] =
    ["keyset.installed", "keyset.confirmation_answered", "keyset.confirmed", "keyset.transport_key_destroyed"];
const NEW_TOKEN_BEGINS: &str = "keyset.token_made";
const NEW_TOKEN_ENDS: &str = "keyset.so_pin_changed";
const OLD_KEY_ENDS: &str = "keyset.old_signing_key_destroyed";
const STANDING: &str = "keyset.index_written";
/// Tested in `audit_checkpoint`.
const ADMINISTERING: &str = "keyset.statement_answered";
const DELETING: [&str; 2] = ["keyset.deleted_key", "keyset.deleted_objects"];

#[test]
fn every_crash_point_is_reached() {
    let single = [ADMINISTERING, REFUSING, NEW_TOKEN_BEGINS, NEW_TOKEN_ENDS, OLD_KEY_ENDS, STANDING];
    let walked = [&MAKING[..], &INSTALLING, &CONFIRMING, &DELETING, &single].concat();
    assert_eq!(BTreeSet::from_iter(walked), CRASH_POINTS.iter().copied().collect());
}

/// A proxy that damages replies on request.
struct Wire {
    proxy: Proxy,
    lies: Arc<AtomicBool>,
}

impl Wire {
    fn of(user: &TestUser) -> Self {
        let lies = Arc::new(AtomicBool::new(false));
        let on = Arc::clone(&lies);
        let proxy = Proxy::tampering(user.authority.http_address(), move |direction, _, body| {
            let is_reply = direction == Direction::ToClient
                && PkiMessage::from_der(body)
                    .is_ok_and(|reply| matches!(reply.body(), PkiBody::Ip(_) | PkiBody::Krp(_)));
            if !(is_reply && on.load(Ordering::SeqCst)) {
                return ProxyAction::Pass;
            }
            let mut changed = body.to_vec();
            *changed.last_mut().unwrap() ^= 1;
            ProxyAction::Replace(changed)
        });
        Self { proxy, lies }
    }
}

/// One command, run again and again.
struct Walk<'a> {
    user: &'a TestUser,
    wire: Wire,
    command: Vec<String>,
}

impl<'a> Walk<'a> {
    fn new(user: &'a TestUser, command: &[&str]) -> Self {
        let wire = Wire::of(user);
        let mut command: Vec<String> = command.iter().map(ToString::to_string).collect();
        command.extend(["--authority".to_owned(), wire.proxy.url()]);
        Self { user, wire, command }
    }

    fn arguments(&self) -> Vec<&str> {
        self.command.iter().map(String::as_str).collect()
    }

    fn killed_at(&self, points: &[&str]) -> &Self {
        for point in points {
            self.wire.lies.store(*point == REFUSING, Ordering::SeqCst);
            self.user.machine.tokenkeep_crashing_at(point, &self.arguments());
            self.wire.lies.store(false, Ordering::SeqCst);
        }
        self
    }

    fn ends(&self) {
        self.user.tokenkeep(&self.arguments()).ok();
    }
}

#[test]
fn enrolling_a_new_token_resumes_after_a_kill_at_any_step() {
    let user = TestUser::new();
    user.issue("the.letter");
    let command =
        ["enroll", "--letter", "the.letter", "--level", "high", "--new-token", "--new-pin-source", "file:pin"];
    let walk = Walk::new(&user, &command);
    walk.killed_at(&[NEW_TOKEN_BEGINS]).killed_at(&MAKING).killed_at(&INSTALLING).killed_at(&[REFUSING]);
    walk.killed_at(&CONFIRMING).killed_at(&[NEW_TOKEN_ENDS, STANDING]).ends();

    user.machine.holds_one_keyset("default", TestUser::PIN, 1);
    assert_eq!(user.machine.object_files().len(), 1, "tokens");
    user.signs_with("default", "pin");
    user.encrypts("mail\n", "mail.p7m");
    assert_eq!(user.reads("default", "pin", "mail.p7m"), "mail\n");
    // The letter was used exactly once.
    user.enroll_new("the.letter", "other").fails_with(5).says("used");
}

#[test]
fn a_re_enrollment_resumes_after_a_kill_at_any_step() {
    let user = TestUser::enrolled();
    user.encrypts("old mail\n", "old.p7m");
    user.issue("again.letter");
    let walk = Walk::new(&user, &[&re_enroll_arguments("again.letter")[..], &["--pin-source", "file:pin"]].concat());
    walk.killed_at(&MAKING).killed_at(&INSTALLING);
    // Until the authority has confirmed, the keyset is the old one and works.
    user.signs_with("default", "pin");
    walk.killed_at(&[REFUSING]).killed_at(&CONFIRMING).killed_at(&[OLD_KEY_ENDS, STANDING]).ends();
    user.machine.holds_one_keyset("default", TestUser::PIN, 2);
    user.signs_with("default", "pin");
    assert_eq!(user.reads("default", "pin", "old.p7m"), "old mail\n");

    // Interrupted, then run with a newer letter: the objects of the older one are removed.
    user.issue("lost.letter");
    let lost = Walk::new(&user, &[&re_enroll_arguments("lost.letter")[..], &["--pin-source", "file:pin"]].concat());
    lost.killed_at(&["keyset.certificate_installed"]);
    user.issue("newer.letter");
    user.re_enroll("newer.letter", "pin", &[]).ok();
    user.machine.holds_one_keyset("default", TestUser::PIN, 3);
}

#[test]
fn a_recovery_resumes_after_a_kill_at_any_step() {
    let user = TestUser::enrolled();
    user.encrypts("old mail\n", "old.p7m");
    user.issue("again.letter");
    user.re_enroll("again.letter", "pin", &[]).ok();
    user.recover("recovery.letter");
    let command = ["enroll", "--letter", "recovery.letter", "--keyset", "second", "--level", "high", "--new-token"];
    let walk = Walk::new(&user, &[&command[..], &["--new-pin-source", "file:other.pin"]].concat());
    walk.killed_at(&[NEW_TOKEN_BEGINS, "keyset.request_written"]).killed_at(&INSTALLING);
    walk.killed_at(&["keyset.key_installed:2", REFUSING]).killed_at(&CONFIRMING).killed_at(&[NEW_TOKEN_ENDS, STANDING]);
    walk.ends();
    user.machine.holds_one_keyset("second", TestUser::OTHER_PIN, 2);
    assert_eq!(user.reads("second", "other.pin", "old.p7m"), "old mail\n");

    // The same command completes an interrupted deletion.
    let command = ["keyset", "delete", "second", "--yes", "--pin-source", "file:other.pin"];
    for point in DELETING {
        user.machine.tokenkeep_crashing_at(point, &command);
    }
    user.tokenkeep(&command).ok();
    assert_eq!(user.machine.objects("second", Some(TestUser::OTHER_PIN)), [""; 0]);
    user.machine.holds_one_keyset("default", TestUser::PIN, 2);
}
