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
const KEY_GENERATION: [&str; 7] = [
    "keyset.announced",
    "keyset.begun",
    "keyset.abandoned",
    "keyset.signing_key_made",
    "keyset.removed",
    "keyset.transport_key_made",
    "keyset.request_written",
];
const INSTALLATION: [&str; 4] =
    ["keyset.reply_here", "keyset.installing", "keyset.key_installed", "keyset.certificate_installed"];
/// Reached when the client rejects a reply.
const REJECTION: &str = "keyset.rejection_sent";
const CONFIRMATION: [&str; 4] =
    ["keyset.installed", "keyset.confirmation_answered", "keyset.confirmed", "keyset.transport_key_destroyed"];
const NEW_TOKEN_BEGINS: &str = "keyset.token_made";
const NEW_TOKEN_ENDS: &str = "keyset.so_pin_changed";
const OLD_KEY_ENDS: &str = "keyset.old_signing_key_destroyed";
const INDEX_WRITTEN: &str = "keyset.index_written";
/// Tested in `audit_checkpoint`.
const ADMINISTRATION: &str = "keyset.statement_answered";
const DELETION: [&str; 2] = ["keyset.deleted_key", "keyset.deleted_objects"];

#[test]
fn every_crash_point_is_reached() {
    let single = [ADMINISTRATION, REJECTION, NEW_TOKEN_BEGINS, NEW_TOKEN_ENDS, OLD_KEY_ENDS, INDEX_WRITTEN];
    let walked = [&KEY_GENERATION[..], &INSTALLATION, &CONFIRMATION, &DELETION, &single].concat();
    assert_eq!(BTreeSet::from_iter(walked), CRASH_POINTS.iter().copied().collect());
}

/// A proxy that damages replies on request.
struct TamperingProxy {
    proxy: Proxy,
    lies: Arc<AtomicBool>,
}

impl TamperingProxy {
    fn start(user: &TestUser) -> Self {
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
struct CrashingCommand<'a> {
    user: &'a TestUser,
    wire: TamperingProxy,
    command: Vec<String>,
}

impl<'a> CrashingCommand<'a> {
    fn new(user: &'a TestUser, command: &[&str]) -> Self {
        let wire = TamperingProxy::start(user);
        let mut command: Vec<String> = command.iter().map(ToString::to_string).collect();
        command.extend(["--authority".to_owned(), wire.proxy.url()]);
        Self { user, wire, command }
    }

    fn arguments(&self) -> Vec<&str> {
        self.command.iter().map(String::as_str).collect()
    }

    fn crash_at(&self, points: &[&str]) -> &Self {
        for point in points {
            self.wire.lies.store(*point == REJECTION, Ordering::SeqCst);
            self.user.machine.tokenkeep_crashing_at(point, &self.arguments());
            self.wire.lies.store(false, Ordering::SeqCst);
        }
        self
    }

    fn finish(&self) {
        self.user.tokenkeep(&self.arguments()).ok();
    }
}

#[test]
fn enrolling_a_new_token_resumes_after_a_kill_at_any_step() {
    let user = TestUser::new();
    user.issue("the.letter");
    let command =
        ["enroll", "--letter", "the.letter", "--level", "high", "--new-token", "--new-pin-source", "file:pin"];
    let command_run = CrashingCommand::new(&user, &command);
    command_run.crash_at(&[NEW_TOKEN_BEGINS]).crash_at(&KEY_GENERATION).crash_at(&INSTALLATION).crash_at(&[REJECTION]);
    command_run.crash_at(&CONFIRMATION).crash_at(&[NEW_TOKEN_ENDS, INDEX_WRITTEN]).finish();

    user.machine.assert_one_keyset("default", TestUser::PIN, 1);
    assert_eq!(user.machine.object_files().len(), 1, "tokens");
    user.signs_with("default", "pin");
    user.encrypt("mail\n", "mail.p7m");
    assert_eq!(user.decrypt("default", "pin", "mail.p7m"), "mail\n");
    // The letter was used exactly once.
    user.enroll_new("the.letter", "other").fails_with(5).says("used");
}

#[test]
fn a_re_enrollment_resumes_after_a_kill_at_any_step() {
    let user = TestUser::enrolled();
    user.encrypt("old mail\n", "old.p7m");
    user.issue("again.letter");
    let command_run = CrashingCommand::new(
        &user,
        &[&re_enroll_arguments("again.letter")[..], &["--pin-source", "file:pin"]].concat(),
    );
    command_run.crash_at(&KEY_GENERATION).crash_at(&INSTALLATION);
    // Until the authority has confirmed, the keyset is the old one and works.
    user.signs_with("default", "pin");
    command_run.crash_at(&[REJECTION]).crash_at(&CONFIRMATION).crash_at(&[OLD_KEY_ENDS, INDEX_WRITTEN]).finish();
    user.machine.assert_one_keyset("default", TestUser::PIN, 2);
    user.signs_with("default", "pin");
    assert_eq!(user.decrypt("default", "pin", "old.p7m"), "old mail\n");

    // Interrupted, then run with a newer letter: the objects of the older one are removed.
    user.issue("lost.letter");
    let lost =
        CrashingCommand::new(&user, &[&re_enroll_arguments("lost.letter")[..], &["--pin-source", "file:pin"]].concat());
    lost.crash_at(&["keyset.certificate_installed"]);
    user.issue("newer.letter");
    user.re_enroll("newer.letter", "pin", &[]).ok();
    user.machine.assert_one_keyset("default", TestUser::PIN, 3);
}

#[test]
fn a_recovery_resumes_after_a_kill_at_any_step() {
    let user = TestUser::enrolled();
    user.encrypt("old mail\n", "old.p7m");
    user.issue("again.letter");
    user.re_enroll("again.letter", "pin", &[]).ok();
    user.recover("recovery.letter");
    let command = ["enroll", "--letter", "recovery.letter", "--keyset", "second", "--level", "high", "--new-token"];
    let command_run = CrashingCommand::new(&user, &[&command[..], &["--new-pin-source", "file:other.pin"]].concat());
    command_run.crash_at(&[NEW_TOKEN_BEGINS, "keyset.request_written"]).crash_at(&INSTALLATION);
    command_run
        .crash_at(&["keyset.key_installed:2", REJECTION])
        .crash_at(&CONFIRMATION)
        .crash_at(&[NEW_TOKEN_ENDS, INDEX_WRITTEN]);
    command_run.finish();
    user.machine.assert_one_keyset("second", TestUser::OTHER_PIN, 2);
    assert_eq!(user.decrypt("second", "other.pin", "old.p7m"), "old mail\n");

    // The same command completes an interrupted deletion.
    let command = ["keyset", "delete", "second", "--yes", "--pin-source", "file:other.pin"];
    for point in DELETION {
        user.machine.tokenkeep_crashing_at(point, &command);
    }
    user.tokenkeep(&command).ok();
    assert_eq!(user.machine.objects("second", Some(TestUser::OTHER_PIN)), [""; 0]);
    user.machine.assert_one_keyset("default", TestUser::PIN, 2);
}
