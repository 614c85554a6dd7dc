//! Tests of the state according to the log, with entries of this version and of older ones.

use serde_json::json;

use super::*;

const OPEN: Option<TemporaryKeyState> = Some(TemporaryKeyState::Unused);
const CLAIMED: Option<TemporaryKeyState> = Some(TemporaryKeyState::Claimed);
const USED: Option<TemporaryKeyState> = Some(TemporaryKeyState::Used);
const VOIDED: Option<TemporaryKeyState> = Some(TemporaryKeyState::Voided);

fn apply(audit_state: &AuditState, event: &str, detail: &Value) {
    audit_state.apply(&row(event, detail)).unwrap();
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

fn issue(audit_state: &AuditState, reference: &str) {
    apply(audit_state, "letter.issued", &json!({ "reference": reference, "user": "u1" }));
}

fn claim(audit_state: &AuditState, reference: &str, transaction: u8) {
    apply(
        audit_state,
        "letter.claimed",
        &json!({ "reference": reference, "transaction": hex::encode([transaction; 16]) }),
    );
}

/// Applies the entries from the claim to the reply, with a certificate of each kind.
fn answer(audit_state: &AuditState, reference: &str, transaction: u8) {
    claim(audit_state, reference, transaction);
    for kind in ["signing", "encryption"] {
        let serial = format!("{kind}{transaction}");
        apply(audit_state, "certificate.intended", &json!({ "serial": serial, "kind": kind, "user": "u1" }));
    }
    let (signing, delivered) = (format!("signing{transaction}"), [format!("encryption{transaction}")]);
    let transaction = hex::encode([transaction; 16]);
    let detail = json!({ "transaction": transaction, "user": "u1", "signing": signing, "delivered": delivered });
    apply(audit_state, "enrollment.answered", &detail);
}

fn end(audit_state: &AuditState, event: &str, reference: &str, transaction: u8) {
    let detail = json!({ "transaction": hex::encode([transaction; 16]), "reference": reference });
    apply(audit_state, event, &detail);
}

const REVOKED: Option<CertificateState> = Some(CertificateState::Revoked);
const SUPERSEDED: Option<CertificateState> = Some(CertificateState::Superseded);

fn state_of(audit_state: &AuditState, serial: &str, row: CertificateState) -> Option<CertificateState> {
    let kind = if serial.starts_with('s') { CertificateKind::Signing } else { CertificateKind::Encryption };
    audit_state.certificate_state("u1", kind, serial, row)
}

fn is_current(audit_state: &AuditState, serial: &str) -> bool {
    state_of(audit_state, serial, CertificateState::Issued) == Some(CertificateState::Current)
}

#[test]
fn a_letter_ends_by_its_use_or_by_a_newer_one() {
    let audit_state = AuditState::default();
    let status = |reference: &str| audit_state.letter_state(reference, "u1");
    assert_eq!(status("E1"), None, "never issued");
    issue(&audit_state, "E1");
    assert_eq!(status("E1"), OPEN);
    assert_eq!(audit_state.letter_state("E1", "u2"), None, "another's");
    issue(&audit_state, "E2");
    assert_eq!((status("E1"), status("E2")), (VOIDED, OPEN));
    answer(&audit_state, "E2", 2);
    assert_eq!(status("E2"), CLAIMED);
    assert!(audit_state.is_claimed_by("E2", &[2; 16]) && !audit_state.is_claimed_by("E2", &[3; 16]));
    end(&audit_state, "enrollment.confirmed", "E2", 2);
    assert_eq!(status("E2"), USED);
    assert!(!audit_state.is_claimed_by("E2", &[2; 16]));
}

#[test]
fn a_returned_letter_is_valid_unless_a_newer_one_exists() {
    for event in ["enrollment.rejected", "enrollment.unconfirmed"] {
        let audit_state = AuditState::default();
        issue(&audit_state, "E1");
        answer(&audit_state, "E1", 1);
        end(&audit_state, event, "E1", 1);
        assert_eq!(audit_state.letter_state("E1", "u1"), OPEN, "{event}");
        claim(&audit_state, "E1", 2);
        issue(&audit_state, "E2");
        assert_eq!(audit_state.letter_state("E1", "u1"), CLAIMED, "{event}");
        end(&audit_state, event, "E1", 2);
        assert_eq!(audit_state.letter_state("E1", "u1"), VOIDED, "{event}");
        assert_eq!(audit_state.letter_state("E2", "u1"), OPEN, "{event}");
    }
}

#[test]
fn a_certificate_ends_by_a_newer_one_of_its_kind() {
    let audit_state = AuditState::default();
    for (letter, transaction) in [("E1", 1), ("E2", 2)] {
        issue(&audit_state, letter);
        answer(&audit_state, letter, transaction);
        assert!(audit_state.is_being_made(&format!("signing{transaction}")));
        assert!(!is_current(&audit_state, &format!("signing{transaction}")), "not confirmed yet");
        end(&audit_state, "enrollment.confirmed", letter, transaction);
        assert!(!audit_state.is_being_made(&format!("signing{transaction}")));
        assert!(is_current(&audit_state, &format!("signing{transaction}")));
        assert!(is_current(&audit_state, &format!("encryption{transaction}")));
    }
    assert!(!is_current(&audit_state, "signing1") && !is_current(&audit_state, "encryption1"));
    // A recovery delivers the history; the old encryption key keeps its state.
    issue(&audit_state, "R3");
    claim(&audit_state, "R3", 3);
    apply(&audit_state, "certificate.intended", &json!({ "serial": "signing3", "kind": "signing", "user": "u1" }));
    let transaction = hex::encode([3; 16]);
    let delivered = ["encryption1", "encryption2"];
    let detail = json!({ "transaction": transaction, "user": "u1", "signing": "signing3", "delivered": delivered });
    apply(&audit_state, "enrollment.answered", &detail);
    // The entry of an older version for an implicit confirmation.
    apply(&audit_state, "enrollment.confirmed", &json!({ "transaction": transaction, "implicit": true }));
    assert_eq!(audit_state.letter_state("R3", "u1"), USED);
    assert!(is_current(&audit_state, "signing3") && is_current(&audit_state, "encryption2"));
    assert!(!is_current(&audit_state, "signing2") && !is_current(&audit_state, "encryption1"));
    // A lost token: no certificate is current, and the current ones are revoked.
    apply(&audit_state, "certificates.revoked", &json!({ "user": "u1", "reason": "keyCompromise" }));
    assert!(!is_current(&audit_state, "signing3") && !is_current(&audit_state, "encryption2"));
    let states =
        [("signing3", REVOKED), ("encryption2", REVOKED), ("signing1", SUPERSEDED), ("encryption1", SUPERSEDED)];
    for (serial, expected) in states {
        // The row's state is ignored.
        for row in [CertificateState::Current, CertificateState::Revoked, CertificateState::Issued] {
            assert_eq!(state_of(&audit_state, serial, row), expected, "{serial}");
        }
    }
    let places = ["encryption1", "encryption2", "signing1"].map(|serial| audit_state.place_in_history("u1", serial));
    assert_eq!((audit_state.history_length("u1"), places), (2, [Some(0), Some(1), None]), "a history has no gap");
    assert_eq!((audit_state.history_length("u2"), audit_state.place_in_history("u2", "encryption1")), (0, None));
}

#[test]
fn a_discarded_certificate_is_no_longer_pending() {
    let audit_state = AuditState::default();
    issue(&audit_state, "E1");
    answer(&audit_state, "E1", 1);
    let detail = json!({ "serial": "s", "kind": "signing", "user": "u1", "transaction": hex::encode([1; 16]) });
    apply(&audit_state, "certificate.intended", &detail);
    apply(&audit_state, "certificate.issued", &json!({ "serial": "signing1" }));
    end(&audit_state, "enrollment.unconfirmed", "E1", 1);
    let current = CertificateState::Current;
    assert_eq!(state_of(&audit_state, "signing1", current), REVOKED, "it may have left the authority");
    assert_eq!(state_of(&audit_state, "s", current), Some(CertificateState::Abandoned));
    assert_eq!(state_of(&audit_state, "none", current), None, "never made");
    assert!(
        !audit_state.is_being_made("signing1")
            && !audit_state.is_being_made("encryption1")
            && !audit_state.is_being_made("s")
    );
    apply(&audit_state, "certificate.intended", &json!({ "serial": "x", "kind": "encryption", "user": "u1" }));
    // Older versions did not name the certificates of a discarded enrollment: only their rows may
    // say that they have ended.
    assert_eq!(state_of(&audit_state, "x", CertificateState::Abandoned), Some(CertificateState::Abandoned));
    assert_eq!(state_of(&audit_state, "x", current), Some(CertificateState::Intended));
    apply(&audit_state, "certificate.abandoned", &json!({ "serial": "x" }));
    assert!(!audit_state.is_being_made("x"));
}

#[test]
fn an_accepted_statement_stays_accepted() {
    let audit_state = AuditState::default();
    apply(&audit_state, "statement.taken", &json!({ "statement": hex::encode([1; 32]), "not_after": 1_000_600 }));
    apply(&audit_state, "statement.taken", &json!({ "statement": hex::encode([2; 32]) }));
    assert!(audit_state.is_statement_used(&[1; 32]) && audit_state.is_statement_used(&[2; 32]));
    assert!(!audit_state.is_statement_used(&[4; 32]));
}

#[test]
fn a_role_and_an_own_certificate_end() {
    let audit_state = AuditState::default();
    let role = json!({ "user": "u1", "role": "administrator" });
    assert!(!audit_state.has_role("u1", Role::Administrator));
    apply(&audit_state, "role.granted", &role);
    assert!(audit_state.has_role("u1", Role::Administrator) && !audit_state.has_role("u2", Role::Administrator));
    apply(&audit_state, "role.removed", &role);
    assert!(!audit_state.has_role("u1", Role::Administrator));
    for serial in ["1", "2"] {
        apply(&audit_state, "certificate.replaced", &json!({ "serial": serial, "kind": "tls" }));
        assert!(audit_state.is_authority_current(CertificateKind::Tls, serial));
    }
    assert!(
        !audit_state.is_authority_current(CertificateKind::Tls, "1")
            && !audit_state.is_authority_current(CertificateKind::Response, "2")
    );
}

#[test]
fn an_added_administrator_has_a_letter_and_the_role() {
    let audit_state = AuditState::default();
    issue(&audit_state, "E1");
    apply(&audit_state, "role.removed", &json!({ "user": "u1", "role": "administrator" }));
    apply(&audit_state, "administrator.added", &json!({ "user": "u1", "reference": "E2" }));
    assert_eq!(audit_state.letter_state("E2", "u1"), OPEN);
    assert_eq!(audit_state.letter_state("E1", "u1"), VOIDED);
    assert!(audit_state.has_role("u1", Role::Administrator));
}

#[test]
fn an_entry_that_ends_an_unnamed_record_is_an_error() {
    let audit_state = AuditState::default();
    for (event, detail) in [
        ("letter.issued", json!({ "reference": "E1" })),
        ("letter.claimed", json!({ "reference": "E1" })),
        ("statement.taken", json!({ "statement": "not hexadecimal" })),
        ("enrollment.rejected", json!({ "transaction": "00" })),
        ("certificates.revoked", json!(null)),
    ] {
        let error = audit_state.apply(&row(event, &detail)).unwrap_err().to_string();
        assert!(error.contains(event), "{error}");
    }
    assert_eq!(audit_state.apply(&row("letter.looked_at", &json!(null))), Ok(()), "events of other kinds are not read");
}
