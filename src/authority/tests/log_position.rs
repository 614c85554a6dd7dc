//! The checkpoint in each answer, and statements that name the log position their signer knows.

use super::administer::issue;
use super::support::*;
use crate::pki::Fingerprint;
use crate::statement::{AdminOperation, LogPosition, LogVerdict, Response, StatementAnswer, StatementChannel};

#[test]
fn a_checkpoint_is_the_logs_and_the_log_is_whole() {
    let fixture = AuthorityFixture::new();
    let by = fixture.administrator();
    let authority = Fingerprint::of(fixture.authority().ca_certificate());
    let signed = by.sign(
        &fixture.statement(
            StatementChannel::Online,
            &by,
            AdminOperation::List { after: None, limit: None },
            [5; 16],
            now(),
        ),
        now(),
    );
    let checkpoint = fixture.post_statement(signed.as_der(), now()).checkpoint;
    let head = fixture.authority().records.store.audit_head().unwrap();
    assert_eq!((checkpoint.sequence, checkpoint.head), (head.number, head.hash));
    fixture.check_log();
    assert_eq!(checkpoint.key, fixture.authority().keys.audit.public_key_der());
    checkpoint.verify(authority).unwrap();
    assert!(checkpoint.verify(Fingerprint::of(b"another")).is_err());
}

/// Sends a statement that names this log position.
fn state_knowing(fixture: &AuthorityFixture, by: &TestClient, nonce: u8, known: Option<LogPosition>) -> Response {
    let statement =
        fixture.statement(StatementChannel::Online, by, issue("user@example.org", Some("User")), [nonce; 16], now());
    let signed = by.sign(&statement.with_known_log(known), now());
    fixture.post_statement(signed.as_der(), now())
}

#[test]
fn a_statement_with_another_log_position_changes_nothing() {
    let mut fixture = AuthorityFixture::new();
    let by = fixture.administrator();
    let first = state_knowing(&fixture, &by, 1, None);
    assert_eq!(first.known_log, None);
    let second = state_knowing(&fixture, &by, 2, Some(first.checkpoint.position()));
    assert_eq!(second.known_log, Some(LogVerdict::Continued));
    assert!(matches!(second.answer, StatementAnswer::EncryptedLetter(_)), "{second:?}");

    let refused = |fixture: &AuthorityFixture, nonce: u8, known: LogPosition| {
        let before = fixture.authority().records.store.audit_head().unwrap();
        let response = state_knowing(fixture, &by, nonce, Some(known));
        assert_eq!(response.known_log, Some(LogVerdict::Contradicted));
        assert!(
            matches!(&response.answer, StatementAnswer::Refused(reason) if reason.contains("nothing was done")),
            "{response:?}"
        );
        assert_eq!(fixture.authority().records.store.audit_head().unwrap(), before);
    };
    let newest = second.checkpoint.position();
    refused(&fixture, 3, LogPosition { head: [7; 32], ..newest });
    refused(&fixture, 3, LogPosition { sequence: newest.sequence + 1, ..newest });
    // The nonce is still unused.
    assert_eq!(state_knowing(&fixture, &by, 3, Some(newest)).known_log, Some(LogVerdict::Continued));
    let newest = state_knowing(&fixture, &by, 4, None).checkpoint.position();
    fixture.tamper(&format!("DELETE FROM audit WHERE number = {}", newest.sequence));
    refused(&fixture, 5, newest);
    // The log grows beyond the known position again.
    for nonce in 6..9 {
        state_knowing(&fixture, &by, nonce, None);
    }
    refused(&fixture, 9, newest);
}

#[test]
fn an_unverified_signer_learns_nothing_of_the_log() {
    let fixture = AuthorityFixture::new();
    let administrator = fixture.administrator();
    let user = TestClient::new();
    user.enroll(&fixture, &fixture.letter_for(&administrator, "user@example.org"), now());
    let newest = state_knowing(&fixture, &administrator, 1, None).checkpoint.position();
    for known in [newest, LogPosition { head: [7; 32], ..newest }] {
        assert_eq!(state_knowing(&fixture, &user, 2, Some(known)).known_log, None);
    }
}
