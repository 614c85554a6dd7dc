//! Warnings about certificates in use start sixty days before they expire, and go to those who can
//! renew them.

use jiff::{SignedDuration, Timestamp};

use super::support::*;
use crate::authority::check::check_running;
use crate::statement::{AdminOperation, StatementChannel};

const OTHER: &str = "other@example.org";

fn before(end: Timestamp, days: i64) -> Timestamp {
    end - SignedDuration::from_hours(24 * days)
}

/// The expiry warnings in the response to an administrator's command.
fn expiry_warnings(fixture: &AuthorityFixture, by: &TestClient, at: Timestamp) -> Vec<String> {
    let mut nonce = [0; 16];
    getrandom::fill(&mut nonce).unwrap();
    let signed = by.sign(
        &fixture.statement(StatementChannel::Online, by, AdminOperation::List { after: None, limit: None }, nonce, at),
        at,
    );
    fixture.post_statement(signed.as_der(), at).ending
}

#[test]
fn administrators_are_warned_of_expiry_within_sixty_days() {
    let fixture = AuthorityFixture::new();
    let added = fixture.authority().add_administrator(OTHER, Some("Other Administrator"), now()).unwrap();
    let (first, other) = (fixture.administrator(), TestClient::new());
    other.enroll(&fixture, &added.letter, now());
    let end = other.certificate().not_after();
    let ending = |at: Timestamp| fixture.authority().expiry.lines(None, at);
    assert_eq!(ending(before(end, 61)), [""; 0]);
    let lines = ending(before(end, 59));
    assert_eq!(lines.len(), 2, "{lines:?}");
    for (line, email) in lines.iter().zip([ADMINISTRATOR, OTHER]) {
        assert!(
            line.starts_with(&format!("the certificate of the administrator {email} expires in 59 days, on ")),
            "{line}"
        );
        assert!(line.contains("tokenkeep admin issue"), "{line}");
    }
    assert_eq!(check_running(fixture.authority().log_verifier(), before(end, 59)).unwrap().ending, lines);
    assert_eq!(check_running(fixture.authority().log_verifier(), before(end, 61)).unwrap().ending, [""; 0]);
    // After the expiry, the warning does not ask for action before it.
    for line in &ending(end + SignedDuration::from_secs(1)) {
        assert!(line.contains("expired on") && !line.contains("before that"), "{line}");
        assert!(line.contains("tokenkeep authority administrator add"), "{line}");
    }
    // Each administrator is warned about the others; their own machine warns about their own
    // certificate.
    assert_eq!(expiry_warnings(&fixture, &first, before(end, 61)), [""; 0]);
    assert_eq!(expiry_warnings(&fixture, &first, before(end, 59)), lines[1..]);
    assert_eq!(expiry_warnings(&fixture, &other, before(end, 59)), lines[..1]);
}

#[test]
fn expiry_of_the_authoritys_own_certificates_is_reported() {
    let fixture = AuthorityFixture::new();
    let end = fixture.ca().not_after();
    let about_ca = |at: Timestamp| {
        let lines = fixture.authority().expiry.lines(None, at);
        lines.into_iter().filter(|line| line.contains("the CA's")).collect::<Vec<_>>()
    };
    assert_eq!(about_ca(before(end, 61)), [""; 0]);
    assert!(about_ca(before(end, 59))[0].contains("expires in 59 days"));
    let ended = &about_ca(end + SignedDuration::from_secs(1))[0];
    assert!(ended.contains("expired on") && !ended.contains("before that"), "{ended}");
    // Service certificates are renewed by a start: the warning concerns only long-running
    // authorities.
    let services = fixture.authority().expiry.lines(None, before(end, 61));
    assert!(
        services.len() == 2 && services.iter().all(|line| line.contains("restart `authority serve`")),
        "{services:?}"
    );
    assert_eq!(check_running(fixture.authority().log_verifier(), before(end, 61)).unwrap().ending, services);
}
