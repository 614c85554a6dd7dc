//! Audit logs that raise a mismatch, and checkpoints that are stored.

use super::*;
use crate::pki::test_support::SoftwareKey;
use crate::statement::signed_checkpoint;

fn authority() -> Fingerprint {
    Fingerprint::of(b"a CA certificate")
}

fn at(minute: i64) -> Timestamp {
    Timestamp::from_second(1_795_000_000 + minute * 60).unwrap()
}

/// An authority's audit key and its checkpoints.
struct Log(SoftwareKey);

impl Log {
    fn new() -> Self {
        Self(SoftwareKey::p256())
    }

    /// The checkpoint at this entry, signed in this minute; `branch` determines the hash.
    fn checkpoint(&self, sequence: u64, branch: u8, minute: i64) -> Checkpoint {
        signed_checkpoint(&self.0, authority(), LogPosition { sequence, head: [branch; 32] }, at(minute))
    }
}

fn done(checkpoint: &Checkpoint, known_log: Option<LogVerdict>) -> Response {
    Response {
        statement: [1; 32],
        answer: StatementAnswer::Users(Vec::new()),
        checkpoint: checkpoint.clone(),
        known_log,
        added: Vec::new(),
        ending: Vec::new(),
    }
}

fn refused(checkpoint: &Checkpoint, known_log: Option<LogVerdict>) -> Response {
    Response { answer: StatementAnswer::Refused("no".to_owned()), ..done(checkpoint, known_log) }
}

const CONTINUED: Option<LogVerdict> = Some(LogVerdict::Continued);
const CONTRADICTED: Option<LogVerdict> = Some(LogVerdict::Contradicted);

/// Compares as online: the statement named the stored checkpoint.
#[track_caller]
fn online(stored: &Checkpoint, response: &Response) -> Result<Option<Checkpoint>, LogMismatchKind> {
    compare_checkpoints(Some(stored), Some(stored.position()), response, authority(), LogPolicy::Compare).map_err(
        |mismatch| {
            assert_eq!((mismatch.known.as_ref(), &mismatch.received), (Some(stored), &response.checkpoint));
            mismatch.finding
        },
    )
}

#[test]
fn the_first_checkpoint_and_its_continuations_are_stored() {
    let log = Log::new();
    let (first, second) = (log.checkpoint(7, 1, 0), log.checkpoint(9, 2, 1));
    let compared = compare_checkpoints(None, None, &done(&first, None), authority(), LogPolicy::Compare);
    assert_eq!(compared, Ok(Some(first.clone())));
    assert_eq!(online(&first, &done(&second, CONTINUED)), Ok(Some(second.clone())));
    assert_eq!(online(&first, &refused(&second, CONTINUED)), Ok(Some(second.clone())));
    // An unchanged checkpoint is not stored again.
    assert_eq!(online(&first, &refused(&first, CONTINUED)), Ok(None));
    // A refusal before the log was read raises no mismatch and proves nothing.
    assert_eq!(online(&first, &refused(&second, None)), Ok(None));
}

#[test]
fn a_different_log_raises_the_alarm() {
    let log = Log::new();
    let stored = log.checkpoint(7, 1, 0);
    for answer in [done, refused] {
        let compared = |received: &Checkpoint, verdict| online(&stored, &answer(received, verdict));
        assert_eq!(compared(&log.checkpoint(6, 2, 1), CONTINUED), Err(LogMismatchKind::Shorter));
        assert_eq!(compared(&log.checkpoint(7, 2, 1), CONTINUED), Err(LogMismatchKind::DifferentLastEntry));
        assert_eq!(compared(&log.checkpoint(9, 2, 1), CONTRADICTED), Err(LogMismatchKind::Contradicted(7)));
        // Also if the clock was set back.
        assert_eq!(compared(&log.checkpoint(6, 2, -5), CONTINUED), Err(LogMismatchKind::Shorter));
        assert_eq!(compared(&Log::new().checkpoint(9, 2, 1), CONTINUED), Err(LogMismatchKind::OtherKey));
        let forged = Checkpoint { sequence: 10, ..log.checkpoint(9, 2, 1) };
        assert!(matches!(compared(&forged, CONTINUED), Err(LogMismatchKind::Signature(_))));
    }
    // An authority that does not answer the question may hide something.
    assert_eq!(online(&stored, &done(&log.checkpoint(9, 2, 1), None)), Err(LogMismatchKind::Unconfirmed(7)));
    assert_eq!(online(&stored, &refused(&log.checkpoint(6, 2, 1), None)), Err(LogMismatchKind::Shorter));
    assert_eq!(online(&stored, &refused(&log.checkpoint(7, 2, 1), None)), Err(LogMismatchKind::DifferentLastEntry));
}

#[test]
fn an_older_response_file_is_no_mismatch_and_not_stored() {
    let log = Log::new();
    let stated = log.checkpoint(7, 1, 0);
    let stored = log.checkpoint(20, 2, 10);
    let compared = |stated: Option<LogPosition>, received: &Checkpoint, verdict| {
        compare_checkpoints(Some(&stored), stated, &done(received, verdict), authority(), LogPolicy::Compare)
            .map_err(|mismatch| mismatch.finding)
    };
    let stated = Some(stated.position());
    assert_eq!(compared(stated, &log.checkpoint(9, 3, 5), CONTINUED), Ok(None));
    assert_eq!(compared(None, &log.checkpoint(9, 3, 5), None), Ok(None));
    // Newer, but not proven to continue the stored one.
    assert_eq!(compared(stated, &log.checkpoint(30, 3, 15), CONTINUED), Ok(None));
    assert_eq!(compared(None, &log.checkpoint(30, 3, 15), None), Ok(None));
    // Signed later, with fewer entries.
    assert_eq!(compared(stated, &log.checkpoint(19, 3, 11), CONTINUED), Err(LogMismatchKind::Shorter));
    assert_eq!(compared(None, &log.checkpoint(20, 3, 11), None), Err(LogMismatchKind::DifferentLastEntry));
    assert_eq!(compared(stated, &log.checkpoint(9, 3, 5), CONTRADICTED), Err(LogMismatchKind::Contradicted(7)));
    assert_eq!(compared(stated, &log.checkpoint(9, 3, 5), None), Err(LogMismatchKind::Unconfirmed(7)));
}

#[test]
fn accepting_the_log_stores_any_checkpoint_but_a_forged_one() {
    let log = Log::new();
    let stored = log.checkpoint(7, 1, 10);
    let accepted = |stated: Option<LogPosition>, received: &Checkpoint, verdict| {
        compare_checkpoints(Some(&stored), stated, &done(received, verdict), authority(), LogPolicy::Accept)
    };
    for received in [log.checkpoint(3, 2, 0), log.checkpoint(7, 2, 11), Log::new().checkpoint(9, 2, 0)] {
        assert_eq!(accepted(None, &received, None), Ok(Some(received.clone())));
        assert_eq!(accepted(Some(stored.position()), &received, CONTRADICTED), Ok(Some(received)));
    }
    let forged = Checkpoint { at: at(99), ..log.checkpoint(9, 2, 1) };
    assert!(accepted(None, &forged, None).is_err());
}

#[test]
fn the_alarm_names_both_places_in_full() {
    let log = Log::new();
    let (stored, received) = (log.checkpoint(80, 0xab, 0), log.checkpoint(60, 0xcd, 5));
    let mismatch = compare_checkpoints(
        Some(&stored),
        Some(stored.position()),
        &done(&received, CONTINUED),
        authority(),
        LogPolicy::Compare,
    );
    let text = mismatch.unwrap_err().to_string();
    let expected = ["truncated or rewritten", "entry 80", &"ab".repeat(32), "entry 60", &"cd".repeat(32)];
    for part in expected.into_iter().chain([at(0).to_string().as_str(), at(5).to_string().as_str()]) {
        assert!(text.contains(part), "{part}: {text}");
    }
}
