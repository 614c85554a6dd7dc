//! Tests of the state according to the log, with entries of this version and of older ones.

use serde_json::json;

use super::*;

const OPEN: Option<TemporaryKeyState> = Some(TemporaryKeyState::Unused);
const CLAIMED: Option<TemporaryKeyState> = Some(TemporaryKeyState::Claimed);
const USED: Option<TemporaryKeyState> = Some(TemporaryKeyState::Used);
const VOIDED: Option<TemporaryKeyState> = Some(TemporaryKeyState::Voided);

fn apply(ended: &Ended, event: &str, detail: &Value) {
    ended.apply(&row(event, detail)).unwrap();
}

fn row(event: &str, detail: &Value) -> AuditRow {
    AuditRow {
        number: 1,
        at: Timestamp::from_second(1_000_000).unwrap(),
        event: event.into(),
        detail: detail.to_string(),
        previous_hash: [0; 32],
        hash: [0; 32],
        mac: None,
    }
}

fn issue(ended: &Ended, reference: &str) {
    apply(ended, "letter.issued", &json!({ "reference": reference, "user": "u1" }));
}

fn claim(ended: &Ended, reference: &str, transaction: u8) {
    apply(ended, "letter.claimed", &json!({ "reference": reference, "transaction": hex::encode([transaction; 16]) }));
}

/// Applies the entries from the claim to the reply, with a certificate of each kind.
fn answer(ended: &Ended, reference: &str, transaction: u8) {
    claim(ended, reference, transaction);
    for kind in ["signing", "encryption"] {
        let serial = format!("{kind}{transaction}");
        apply(ended, "certificate.intended", &json!({ "serial": serial, "kind": kind, "user": "u1" }));
    }
    let (signing, delivered) = (format!("signing{transaction}"), [format!("encryption{transaction}")]);
    let transaction = hex::encode([transaction; 16]);
    let detail = json!({ "transaction": transaction, "user": "u1", "signing": signing, "delivered": delivered });
    apply(ended, "enrollment.answered", &detail);
}

fn end(ended: &Ended, event: &str, reference: &str, transaction: u8) {
    let detail = json!({ "transaction": hex::encode([transaction; 16]), "reference": reference });
    apply(ended, event, &detail);
}

const REVOKED: Option<CertificateState> = Some(CertificateState::Revoked);
const SUPERSEDED: Option<CertificateState> = Some(CertificateState::Superseded);

fn state_of(ended: &Ended, serial: &str, row: CertificateState) -> Option<CertificateState> {
    let kind = if serial.starts_with('s') { CertificateKind::Signing } else { CertificateKind::Encryption };
    ended.certificate_state("u1", kind, serial, row)
}

fn is_current(ended: &Ended, serial: &str) -> bool {
    state_of(ended, serial, CertificateState::Issued) == Some(CertificateState::Current)
}

#[test]
fn a_letter_ends_by_its_use_or_by_a_newer_one() {
    let ended = Ended::default();
    let status = |reference: &str| ended.letter_state(reference, "u1");
    assert_eq!(status("E1"), None, "never issued");
    issue(&ended, "E1");
    assert_eq!(status("E1"), OPEN);
    assert_eq!(ended.letter_state("E1", "u2"), None, "another's");
    issue(&ended, "E2");
    assert_eq!((status("E1"), status("E2")), (VOIDED, OPEN));
    answer(&ended, "E2", 2);
    assert_eq!(status("E2"), CLAIMED);
    assert!(ended.is_claimed_by("E2", &[2; 16]) && !ended.is_claimed_by("E2", &[3; 16]));
    end(&ended, "enrollment.confirmed", "E2", 2);
    assert_eq!(status("E2"), USED);
    assert!(!ended.is_claimed_by("E2", &[2; 16]));
}

#[test]
fn a_letter_given_back_is_good_again_unless_there_is_a_newer_one() {
    for event in ["enrollment.rejected", "enrollment.unconfirmed"] {
        let ended = Ended::default();
        issue(&ended, "E1");
        answer(&ended, "E1", 1);
        end(&ended, event, "E1", 1);
        assert_eq!(ended.letter_state("E1", "u1"), OPEN, "{event}");
        claim(&ended, "E1", 2);
        issue(&ended, "E2");
        assert_eq!(ended.letter_state("E1", "u1"), CLAIMED, "{event}");
        end(&ended, event, "E1", 2);
        assert_eq!(ended.letter_state("E1", "u1"), VOIDED, "{event}");
        assert_eq!(ended.letter_state("E2", "u1"), OPEN, "{event}");
    }
}

#[test]
fn a_certificate_ends_by_a_newer_one_of_its_kind() {
    let ended = Ended::default();
    for (letter, transaction) in [("E1", 1), ("E2", 2)] {
        issue(&ended, letter);
        answer(&ended, letter, transaction);
        assert!(ended.is_being_made(&format!("signing{transaction}")));
        assert!(!is_current(&ended, &format!("signing{transaction}")), "not confirmed yet");
        end(&ended, "enrollment.confirmed", letter, transaction);
        assert!(!ended.is_being_made(&format!("signing{transaction}")));
        assert!(is_current(&ended, &format!("signing{transaction}")));
        assert!(is_current(&ended, &format!("encryption{transaction}")));
    }
    assert!(!is_current(&ended, "signing1") && !is_current(&ended, "encryption1"));
    // A recovery delivers the history; the old encryption key keeps its state.
    issue(&ended, "R3");
    claim(&ended, "R3", 3);
    apply(&ended, "certificate.intended", &json!({ "serial": "signing3", "kind": "signing", "user": "u1" }));
    let transaction = hex::encode([3; 16]);
    let delivered = ["encryption1", "encryption2"];
    let detail = json!({ "transaction": transaction, "user": "u1", "signing": "signing3", "delivered": delivered });
    apply(&ended, "enrollment.answered", &detail);
    // The entry of an older version for an implicit confirmation.
    apply(&ended, "enrollment.confirmed", &json!({ "transaction": transaction, "implicit": true }));
    assert_eq!(ended.letter_state("R3", "u1"), USED);
    assert!(is_current(&ended, "signing3") && is_current(&ended, "encryption2"));
    assert!(!is_current(&ended, "signing2") && !is_current(&ended, "encryption1"));
    // A lost token: no certificate is current, and the current ones are revoked.
    apply(&ended, "certificates.revoked", &json!({ "user": "u1", "reason": "keyCompromise" }));
    assert!(!is_current(&ended, "signing3") && !is_current(&ended, "encryption2"));
    let states =
        [("signing3", REVOKED), ("encryption2", REVOKED), ("signing1", SUPERSEDED), ("encryption1", SUPERSEDED)];
    for (serial, expected) in states {
        // The row's state is ignored.
        for row in [CertificateState::Current, CertificateState::Revoked, CertificateState::Issued] {
            assert_eq!(state_of(&ended, serial, row), expected, "{serial}");
        }
    }
    let places = ["encryption1", "encryption2", "signing1"].map(|serial| ended.place_in_history("u1", serial));
    assert_eq!((ended.history_length("u1"), places), (2, [Some(0), Some(1), None]), "a history has no gap");
    assert_eq!((ended.history_length("u2"), ended.place_in_history("u2", "encryption1")), (0, None));
}

#[test]
fn what_was_given_up_is_not_made_any_more() {
    let ended = Ended::default();
    issue(&ended, "E1");
    answer(&ended, "E1", 1);
    let detail = json!({ "serial": "s", "kind": "signing", "user": "u1", "transaction": hex::encode([1; 16]) });
    apply(&ended, "certificate.intended", &detail);
    apply(&ended, "certificate.issued", &json!({ "serial": "signing1" }));
    end(&ended, "enrollment.unconfirmed", "E1", 1);
    let current = CertificateState::Current;
    assert_eq!(state_of(&ended, "signing1", current), REVOKED, "it may have left the authority");
    assert_eq!(state_of(&ended, "s", current), Some(CertificateState::Abandoned));
    assert_eq!(state_of(&ended, "none", current), None, "never made");
    assert!(!ended.is_being_made("signing1") && !ended.is_being_made("encryption1") && !ended.is_being_made("s"));
    apply(&ended, "certificate.intended", &json!({ "serial": "x", "kind": "encryption", "user": "u1" }));
    // Older versions did not name the certificates of a discarded enrollment: only their rows may
    // say that they have ended.
    assert_eq!(state_of(&ended, "x", CertificateState::Abandoned), Some(CertificateState::Abandoned));
    assert_eq!(state_of(&ended, "x", current), Some(CertificateState::Intended));
    apply(&ended, "certificate.abandoned", &json!({ "serial": "x" }));
    assert!(!ended.is_being_made("x"));
}

#[test]
fn a_taken_statement_stays_taken() {
    let ended = Ended::default();
    apply(&ended, "statement.taken", &json!({ "statement": hex::encode([1; 32]), "not_after": 1_000_600 }));
    apply(&ended, "statement.taken", &json!({ "statement": hex::encode([2; 32]) }));
    assert!(ended.is_statement_taken(&[1; 32]) && ended.is_statement_taken(&[2; 32]));
    assert!(!ended.is_statement_taken(&[4; 32]));
}

#[test]
fn a_role_and_an_own_certificate_end() {
    let ended = Ended::default();
    let role = json!({ "user": "u1", "role": "administrator" });
    assert!(!ended.has_role("u1", Role::Administrator));
    apply(&ended, "role.granted", &role);
    assert!(ended.has_role("u1", Role::Administrator) && !ended.has_role("u2", Role::Administrator));
    apply(&ended, "role.removed", &role);
    assert!(!ended.has_role("u1", Role::Administrator));
    for serial in ["1", "2"] {
        apply(&ended, "certificate.replaced", &json!({ "serial": serial, "kind": "tls" }));
        assert!(ended.is_own_current(CertificateKind::Tls, serial));
    }
    assert!(!ended.is_own_current(CertificateKind::Tls, "1") && !ended.is_own_current(CertificateKind::Response, "2"));
}

#[test]
fn an_added_administrator_has_a_letter_and_the_role() {
    let ended = Ended::default();
    issue(&ended, "E1");
    apply(&ended, "role.removed", &json!({ "user": "u1", "role": "administrator" }));
    apply(&ended, "administrator.added", &json!({ "user": "u1", "reference": "E2" }));
    assert_eq!(ended.letter_state("E2", "u1"), OPEN);
    assert_eq!(ended.letter_state("E1", "u1"), VOIDED);
    assert!(ended.has_role("u1", Role::Administrator));
}

#[test]
fn an_entry_that_does_not_say_what_it_ended_is_an_error() {
    let ended = Ended::default();
    for (event, detail) in [
        ("letter.issued", json!({ "reference": "E1" })),
        ("letter.claimed", json!({ "reference": "E1" })),
        ("statement.taken", json!({ "statement": "not hexadecimal" })),
        ("enrollment.rejected", json!({ "transaction": "00" })),
        ("certificates.revoked", json!(null)),
    ] {
        let error = ended.apply(&row(event, &detail)).unwrap_err().to_string();
        assert!(error.contains(event), "{error}");
    }
    assert_eq!(ended.apply(&row("letter.looked_at", &json!(null))), Ok(()), "events of other kinds are not read");
}
