//! Warnings about certificates in use start sixty days before they expire, and go to those who can
//! renew them.

use jiff::{SignedDuration, Timestamp};

use super::support::*;
use crate::statement::{Operation, Way};

const OTHER: &str = "other@example.org";

fn before(end: Timestamp, days: i64) -> Timestamp {
    end - SignedDuration::from_hours(24 * days)
}

/// The expiry warnings in the response to an administrator's command.
fn told(office: &Office, by: &Person, at: Timestamp) -> Vec<String> {
    let mut nonce = [0; 16];
    getrandom::fill(&mut nonce).unwrap();
    let signed = by.sign(&office.statement(Way::Online, by, Operation::List, nonce, at), at);
    office.post_statement(signed.as_der(), at).ending
}

#[test]
fn what_ends_within_sixty_days_is_said_to_those_who_can_mend_it() {
    let office = Office::new();
    let added = office.authority().add_administrator(OTHER, Some("Other Administrator"), now()).unwrap();
    let (first, other) = (office.administrator(), Person::new());
    other.enroll(&office, &added.letter, now());
    let end = other.certificate().not_after();
    let ending = |at: Timestamp| office.authority().ending_certificates(None, at);
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
    assert_eq!(office.authority().check_at(before(end, 59)).unwrap().ending, lines);
    assert_eq!(office.authority().check_at(before(end, 61)).unwrap().ending, [""; 0]);
    // After the expiry, the warning does not ask for action before it.
    for line in &ending(end + SignedDuration::from_secs(1)) {
        assert!(line.contains("expired on") && !line.contains("before that"), "{line}");
        assert!(line.contains("tokenkeep authority administrator add"), "{line}");
    }
    // Each administrator is warned about the others; their own machine warns about their own
    // certificate.
    assert_eq!(told(&office, &first, before(end, 61)), [""; 0]);
    assert_eq!(told(&office, &first, before(end, 59)), lines[1..]);
    assert_eq!(told(&office, &other, before(end, 59)), lines[..1]);
}

#[test]
fn the_authoritys_own_certificates_are_spoken_of() {
    let office = Office::new();
    let end = office.ca().not_after();
    let about_ca = |at: Timestamp| {
        let lines = office.authority().ending_certificates(None, at);
        lines.into_iter().filter(|line| line.contains("the CA's")).collect::<Vec<_>>()
    };
    assert_eq!(about_ca(before(end, 61)), [""; 0]);
    assert!(about_ca(before(end, 59))[0].contains("expires in 59 days"));
    let ended = &about_ca(end + SignedDuration::from_secs(1))[0];
    assert!(ended.contains("expired on") && !ended.contains("before that"), "{ended}");
    // Service certificates are renewed by a start: the warning concerns only long-running
    // authorities.
    let services = office.authority().ending_certificates(None, before(end, 61));
    assert!(
        services.len() == 2 && services.iter().all(|line| line.contains("restart `authority serve`")),
        "{services:?}"
    );
    assert_eq!(office.authority().check_at(before(end, 61)).unwrap().ending, services);
}
