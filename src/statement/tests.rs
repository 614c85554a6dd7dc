//! Tests of signed statements and responses, verified by this module and by OpenSSL.

use super::*;
use crate::pki::Certificate;
use crate::pki::cms::{ContentToSign, SigningCertificate, sign};
use crate::pki::oid::ContentType;
use crate::pki::test_support::{SoftwareKey, TestAuthority, TestFiles, now, openssl, try_openssl};
use crate::token::SecurityLevel;

/// An authority, its response key, and an administrator's signing key.
struct Parties {
    authority: TestAuthority,
    response_key: SoftwareKey,
    response_certificate: Certificate,
    key: SoftwareKey,
    certificate: Certificate,
}

const INSTANCE: Instance = Instance::from_bytes([0xa5; 16]);

impl Parties {
    fn new() -> Self {
        Self::with(SoftwareKey::p256())
    }

    fn with(key: SoftwareKey) -> Self {
        let authority = TestAuthority::new("Example Authority", SoftwareKey::p256());
        let response_key = SoftwareKey::p256();
        let response_certificate = authority.issue("cmp-response", "Example Authority: responses", &response_key);
        let certificate = authority.issue("signing", "Example, Administrator", &key);
        Self { authority, response_key, response_certificate, key, certificate }
    }

    fn ca(&self) -> Fingerprint {
        self.authority.certificate.fingerprint()
    }

    fn statement(&self) -> Statement {
        let email = "user@example.org".to_owned();
        let recover = AdminOperation::Recover { email, lost: true, valid_for_seconds: None };
        let reader = Fingerprint::of(b"an encryption certificate");
        Statement::online(self.ca(), INSTANCE, recover, [9; 16], now()).with_encryption_certificate(Some(reader))
    }

    fn signed(&self) -> SignedStatement {
        self.statement().sign(&self.key, &self.certificate, now()).unwrap()
    }

    /// Content of any type, signed as a statement is.
    fn sign_content(&self, content_type: ContentType, content: &[u8], chain: &[Certificate]) -> Vec<u8> {
        let to_sign = ContentToSign {
            content_type,
            content,
            detached: false,
            signer: &SigningCertificate::new(&self.certificate, chain).unwrap(),
            signing_time: now(),
            capabilities: false,
        };
        sign(&to_sign, &self.key).unwrap()
    }

    fn response(&self, answer: StatementAnswer) -> Response {
        let newest = LogPosition { sequence: 7, head: [3; 32] };
        let checkpoint = checkpoint::tests::signed(&SoftwareKey::p256(), self.ca(), newest, now());
        Response {
            statement: self.signed().digest(),
            answer,
            checkpoint,
            known_log: Some(LogVerdict::Continued),
            added: Vec::new(),
            ending: vec!["a certificate ends".to_owned()],
        }
    }

    fn statement_json_of(&self, signed: &SignedStatement) -> Vec<u8> {
        signed
            .verify(&self.certificate, self.ca(), StatementChannel::Online, now())
            .unwrap()
            .statement()
            .to_json()
            .unwrap()
    }

    /// Makes the statement again with the times of `verified`.
    fn signed_again(&self, verified: &VerifiedStatement) -> Statement {
        Statement {
            not_before: verified.statement().not_before,
            not_after: verified.statement().not_after,
            ..self.statement()
        }
    }
}

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

#[test]
fn a_signed_statement_round_trips() {
    for key in [SoftwareKey::p256(), SoftwareKey::p384(), SoftwareKey::rsa()] {
        let parties = Parties::with(key);
        let statement = parties.statement();
        let sent = statement.sign(&parties.key, &parties.certificate, now()).unwrap();
        let received = SignedStatement::parse(sent.as_der()).unwrap();
        assert_eq!(*received.claimed_certificate(), parties.certificate);
        let verified = received.verify(&parties.certificate, parties.ca(), StatementChannel::Online, now()).unwrap();
        assert_eq!(*verified.statement(), statement);
        assert_eq!(verified.digest(), sent.digest());
    }
}

#[test]
fn a_statement_is_known_by_its_signers_key_and_its_content() {
    use sha2::{Digest as _, Sha256};

    let parties = Parties::new();
    let later = now() + SignedDuration::from_secs(1);
    let statement = parties.statement();
    let one = statement.sign(&parties.key, &parties.certificate, now()).unwrap();
    let two = statement.sign(&parties.key, &parties.certificate, later).unwrap();
    assert_ne!(one.as_der(), two.as_der(), "two signatures over different attributes");
    assert_eq!(one.digest(), two.digest(), "one statement");
    let key = parties.key.public_key_der();
    let content = statement.to_json().unwrap();
    let length = |part: &[u8]| (part.len() as u64).to_be_bytes();
    let documented = [&b"tokenkeep statement 1"[..], &length(&key), &key, &length(&content), &content].concat();
    assert_eq!(one.digest(), <[u8; 32]>::from(Sha256::digest(documented)));
    // Another certificate of the same key, with another signature of the CA, does not change the
    // digest.
    let again = parties.authority.issue("signing", "Example, Administrator", &parties.key);
    assert_ne!(again, parties.certificate);
    assert_eq!(statement.sign(&parties.key, &again, now()).unwrap().digest(), one.digest());
    let other = Parties { key: SoftwareKey::p256(), ..Parties::new() };
    let certificate = other.authority.issue("signing", "Example, Administrator", &other.key);
    assert_ne!(statement.sign(&other.key, &certificate, now()).unwrap().digest(), one.digest());
    let nonce = Statement { nonce: [8; 16], ..statement };
    assert_ne!(nonce.sign(&parties.key, &parties.certificate, now()).unwrap().digest(), one.digest());
}

#[test]
fn old_statements_are_verified_and_not_accepted() {
    use sha2::{Digest as _, Sha256};

    let parties = Parties::new();
    let content = String::from_utf8(parties.statement().to_json().unwrap()).unwrap();
    let new = [r#""version":3"#, &format!(r#","instance":"{INSTANCE}""#)];
    let reader = format!(r#","encryption_certificate":"{}""#, Fingerprint::of(b"an encryption certificate").to_hex());
    let old = content.replace(new[0], r#""version":1"#).replace(new[1], "").replace(&reader, "");
    assert!(!old.contains("instance") && !old.contains("encryption_certificate"), "{old}");
    let der = parties.sign_content(ContentType::STATEMENT, old.as_bytes(), &[]);
    let signed = SignedStatement::parse(&der).unwrap();
    assert_eq!(signed.digest(), <[u8; 32]>::from(Sha256::digest(&der)), "it is known by its bytes, as it was then");
    for channel in [StatementChannel::Online, StatementChannel::File] {
        let error = signed.verify(&parties.certificate, parties.ca(), channel, now()).unwrap_err();
        assert!(matches!(error, StatementError::OldVersion), "{error}");
    }
    let verified = signed.verify_recorded(&parties.certificate, parties.ca(), now()).unwrap();
    assert_eq!(verified.statement().operation, parties.statement().operation);
}

#[test]
fn openssl_verifies_a_statement_and_sees_its_own_type() {
    let parties = Parties::new();
    let files = TestFiles::new();
    let signed = parties.signed();
    let statement = files.put("statement.der", signed.as_der());
    let ca = files.put_certificate("ca.pem", &parties.authority.certificate);
    let content = openssl(
        &["cms", "-verify", "-binary", "-inform", "DER", "-in", &statement, "-CAfile", &ca, "-purpose", "any"],
        &[],
    );
    assert_eq!(content, parties.statement_json_of(&signed));
    let shown = openssl(&["asn1parse", "-inform", "DER", "-in", &statement], &[]);
    assert!(String::from_utf8(shown).unwrap().contains("2.25.311166674075142009668987556529201195722"));
    let other = files.put_certificate("other.pem", &Parties::new().authority.certificate);
    assert!(
        try_openssl(
            &["cms", "-verify", "-inform", "DER", "-in", &statement, "-CAfile", &other, "-purpose", "any"],
            &[]
        )
        .is_err()
    );
}

#[test]
fn one_changed_byte_anywhere_is_noticed() {
    let parties = Parties::new();
    let signed = parties.signed();
    let mut taken = 0;
    for at in 0..signed.as_der().len() {
        let mut changed = signed.as_der().to_vec();
        changed[at] ^= 1;
        let Ok(read) = SignedStatement::parse(&changed) else { continue };
        taken += usize::from(
            read.verify(&parties.certificate, parties.ca(), StatementChannel::Online, now()).is_ok_and(|verified| {
                // A part that is not signed may change, e.g. a version number or the name of an
                // algorithm. The statement may not.
                assert_eq!(*verified.statement(), parties.signed_again(&verified));
                true
            }),
        );
    }
    assert!(taken < 16, "{taken} changes were not detected");
}

#[test]
fn another_persons_certificate_is_refused() {
    let parties = Parties::new();
    let other = parties.authority.issue("signing", "Example, Other", &SoftwareKey::p256());
    let error = parties.signed().verify(&other, parties.ca(), StatementChannel::Online, now()).unwrap_err();
    assert!(matches!(error, StatementError::Signature { .. }), "{error}");
    // Another certificate of the same key is refused too: the caller's record decides.
    let renewed = parties.authority.issue("signing", "Example, Administrator", &parties.key);
    let error = parties.signed().verify(&renewed, parties.ca(), StatementChannel::Online, now()).unwrap_err();
    assert!(matches!(error, StatementError::Signature { .. }), "{error}");
}

#[test]
fn a_statement_with_another_persons_certificate_is_refused() {
    let parties = Parties::new();
    let other = Parties::new();
    let error = other.statement().sign(&parties.key, &other.certificate, now());
    assert!(error.is_err(), "signed with a key that does not match");
    let content = parties.statement().to_json().unwrap();
    let two = parties.sign_content(ContentType::STATEMENT, &content, &[other.certificate]);
    assert!(matches!(SignedStatement::parse(&two), Err(StatementError::Cms { .. })));
}

#[test]
fn signed_mail_is_not_a_statement() {
    let parties = Parties::new();
    let content = parties.statement().to_json().unwrap();
    for content_type in [ContentType::DATA, ContentType::STATEMENT_RESPONSE, ContentType::AUDIT_CHECKPOINT] {
        let mail = parties.sign_content(content_type, &content, &[]);
        let error = SignedStatement::parse(&mail).unwrap_err();
        assert!(matches!(error, StatementError::WrongContentType { .. }), "{error}");
    }
}

#[test]
fn a_signature_does_not_make_a_bad_form_good() {
    let parties = Parties::new();
    let good = String::from_utf8(parties.statement().to_json().unwrap()).unwrap();
    for bad in [good.replacen('{', "{\"x\":1,", 1), good.replacen('{', "{\"operation\":\"list\",", 1), "{}".to_owned()]
    {
        let signed =
            SignedStatement::parse(&parties.sign_content(ContentType::STATEMENT, bad.as_bytes(), &[])).unwrap();
        let error = signed.verify(&parties.certificate, parties.ca(), StatementChannel::Online, now()).unwrap_err();
        assert!(matches!(error, StatementError::Form { .. }), "{error}");
    }
}

#[test]
fn another_authority_refuses_a_statement() {
    let parties = Parties::new();
    let error = parties
        .signed()
        .verify(&parties.certificate, Fingerprint::of(b"other"), StatementChannel::Online, now())
        .unwrap_err();
    assert!(matches!(error, StatementError::OtherAuthority { .. }), "{error}");
}

#[test]
fn a_statement_is_accepted_only_in_its_short_validity() {
    let parties = Parties::new();
    let statement = parties.statement();
    let signed = statement.sign(&parties.key, &parties.certificate, now()).unwrap();
    let at = |time| signed.verify(&parties.certificate, parties.ca(), StatementChannel::Online, time);
    assert!(at(statement.not_before).is_ok() && at(statement.not_after).is_ok());
    let second = SignedDuration::from_secs(1);
    assert!(matches!(at(statement.not_before - second), Err(StatementError::NotYetValid { .. })));
    assert!(matches!(at(statement.not_after + second), Err(StatementError::Expired { .. })));

    let check = |statement: Statement| {
        let signed = statement.sign(&parties.key, &parties.certificate, now()).unwrap();
        signed.verify(&parties.certificate, parties.ca(), StatementChannel::Online, now())
    };
    let longest =
        Statement { not_after: statement.not_before + StatementChannel::Online.max_validity(), ..statement.clone() };
    assert!(check(longest.clone()).is_ok());
    let longer = Statement { not_after: longest.not_after + second, ..longest };
    assert!(matches!(check(longer), Err(StatementError::ValidityTooLong(StatementChannel::Online))));
    let backwards = Statement { not_after: statement.not_before - second, ..statement };
    assert!(check(backwards).is_err());
}

#[test]
fn a_statement_file_is_valid_14_days_and_never_online() {
    let parties = Parties::new();
    let statement =
        Statement::for_file(parties.ca(), AdminOperation::List { after: None, limit: None }, [9; 16], now());
    let sign = |statement: &Statement| statement.sign(&parties.key, &parties.certificate, now()).unwrap();
    let verify =
        |statement: &Statement, channel, at| sign(statement).verify(&parties.certificate, parties.ca(), channel, at);
    let days = |days: i64| now() + SignedDuration::from_hours(24 * days);
    assert_eq!(sign(&statement).claimed_statement().unwrap(), statement);
    assert!(verify(&statement, StatementChannel::File, days(13)).is_ok());
    assert!(matches!(verify(&statement, StatementChannel::File, days(14)), Err(StatementError::Expired { .. })));
    let error = verify(&statement, StatementChannel::Online, now()).unwrap_err();
    assert!(matches!(error, StatementError::WrongChannel(StatementChannel::Online)), "{error}");
    assert!(error.to_string().contains("authority answer"), "{error}");
    let longer = Statement { not_after: statement.not_after + SignedDuration::from_secs(1), ..statement };
    assert!(matches!(
        verify(&longer, StatementChannel::File, now()),
        Err(StatementError::ValidityTooLong(StatementChannel::File))
    ));
    // A statement that names a run of the authority is refused as a file.
    let error = verify(&parties.statement(), StatementChannel::File, now()).unwrap_err();
    assert!(matches!(error, StatementError::WrongChannel(StatementChannel::File)), "{error}");
}

#[test]
fn oversized_and_truncated_statements_are_refused() {
    let parties = Parties::new();
    let signed = parties.signed();
    for length in (0..signed.as_der().len()).step_by(7) {
        assert!(SignedStatement::parse(&signed.as_der()[..length]).is_err());
    }
    let long = parties.sign_content(ContentType::STATEMENT, &vec![b' '; MAX_STATEMENT_BYTES], &[]);
    assert!(matches!(SignedStatement::parse(&long), Err(StatementError::TooLong { .. })));
}

#[test]
fn every_response_round_trips() {
    let parties = Parties::new();
    let ca = &parties.authority.certificate;
    let summary = UserSummary {
        email: "user@example.org".to_owned(),
        name: "Example, \"User\" 🔑".to_owned(),
        administrator: false,
        administrator_from: Some(time("2026-11-29T14:00:00Z")),
        enrolled: true,
        certificate_expires: Some(time("2027-11-22T14:00:00Z")),
        letter_expires: None,
    };
    let details = UserDetails {
        id: "00".repeat(16),
        email: summary.email.clone(),
        name: summary.name.clone(),
        administrator: true,
        administrator_from: None,
        since: time("2026-11-22T14:00:00Z"),
        archived_keys: 2,
        certificates: vec![CertificateEntry {
            serial: "4a".repeat(20),
            usage: "signing".to_owned(),
            keyset: Some("default".to_owned()),
            level: Some(SecurityLevel::High),
            state: "current".to_owned(),
            not_before: time("2026-11-22T14:00:00Z"),
            not_after: time("2027-11-22T14:00:00Z"),
        }],
        letters: vec![LetterEntry {
            reference: "E123456789".to_owned(),
            purpose: "enroll".to_owned(),
            state: "unused".to_owned(),
            expires: time("2026-11-29T14:00:00Z"),
        }],
    };
    for answer in [
        StatementAnswer::EncryptedLetter(vec![0x30, 0, 0xff]),
        StatementAnswer::Users(vec![summary]),
        StatementAnswer::Users(Vec::new()),
        StatementAnswer::User(Box::new(details)),
        StatementAnswer::Refused("there is no such user".to_owned()),
    ] {
        let response = parties.response(answer);
        let signed = response.sign(&parties.response_key, &parties.response_certificate, parties.ca(), now()).unwrap();
        let received = SignedResponse::from_der(signed.as_der().to_vec());
        assert_eq!(received.verify(ca, response.statement, now()).unwrap(), response);
        let refusal =
            matches!(response.answer, StatementAnswer::Refused(_)).then(|| "there is no such user".to_owned());
        assert_eq!(received.claimed_refusal(), refusal);
    }
}

#[test]
fn a_response_to_another_statement_is_refused() {
    let parties = Parties::new();
    let response = parties.response(StatementAnswer::Users(Vec::new()));
    let signed = response.sign(&parties.response_key, &parties.response_certificate, parties.ca(), now()).unwrap();
    let error = signed.verify(&parties.authority.certificate, [0; 32], now()).unwrap_err();
    assert!(matches!(error, StatementError::WrongStatement), "{error}");
}

#[test]
fn only_the_response_key_signs_responses() {
    let parties = Parties::new();
    let ca = &parties.authority.certificate;
    let response = parties.response(StatementAnswer::Users(Vec::new()));
    // A user's certificate from the same authority.
    let forged = response.sign(&parties.key, &parties.certificate, parties.ca(), now()).unwrap();
    let error = forged.verify(ca, response.statement, now()).unwrap_err();
    assert!(matches!(error, StatementError::UntrustedSigner(_)), "{error}");
    // Another authority that names this one.
    let other = Parties::new();
    let forged = response.sign(&other.response_key, &other.response_certificate, parties.ca(), now()).unwrap();
    let error = forged.verify(ca, response.statement, now()).unwrap_err();
    assert!(matches!(error, StatementError::UntrustedSigner(_)), "{error}");
    // The right key, but for another authority.
    let signed = response.sign(&parties.response_key, &parties.response_certificate, other.ca(), now()).unwrap();
    let error = signed.verify(ca, response.statement, now()).unwrap_err();
    assert!(matches!(error, StatementError::OtherAuthority { .. }), "{error}");
    // A statement instead of a response.
    let error = SignedResponse::from_der(parties.signed().as_der().to_vec());
    assert!(matches!(error.verify(ca, response.statement, now()), Err(StatementError::WrongContentType { .. })));
}

#[test]
fn a_changed_response_is_refused() {
    let parties = Parties::new();
    let response = parties.response(StatementAnswer::Refused("no such user, said the authority".to_owned()));
    let signed = response.sign(&parties.response_key, &parties.response_certificate, parties.ca(), now()).unwrap();
    let at = signed.as_der().windows(7).position(|window| window == b"no such").unwrap();
    let mut changed = signed.as_der().to_vec();
    changed[at] = b'N';
    let error = SignedResponse::from_der(changed).verify(&parties.authority.certificate, response.statement, now());
    assert!(matches!(error, Err(StatementError::Signature { .. })), "{error:?}");
}

#[test]
fn a_response_with_a_plaintext_letter_is_refused() {
    let parties = Parties::new();
    let response = parties.response(StatementAnswer::EncryptedLetter(vec![0x30, 0]));
    let signed = response.sign(&parties.response_key, &parties.response_certificate, parties.ca(), now()).unwrap();
    let content = crate::pki::cms::SignedMessage::parse(signed.as_der()).unwrap().content().unwrap().to_vec();
    let clear = String::from_utf8(content).unwrap().replace(r#"{"encrypted_letter":"3000"}"#, r#"{"letter":"clear"}"#);
    assert!(clear.contains(r#""answer":{"letter":"clear"}"#), "{clear}");
    let to_sign = ContentToSign {
        content_type: ContentType::STATEMENT_RESPONSE,
        content: clear.as_bytes(),
        detached: false,
        signer: &SigningCertificate::new(&parties.response_certificate, &[]).unwrap(),
        signing_time: now(),
        capabilities: false,
    };
    let forged = SignedResponse::from_der(sign(&to_sign, &parties.response_key).unwrap());
    let error = forged.verify(&parties.authority.certificate, response.statement, now()).unwrap_err();
    assert!(matches!(error, StatementError::Form { .. }), "{error}");
}
