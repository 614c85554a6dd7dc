//! Administrators' commands, and the authorities known without a PIN.

use super::*;
use crate::pki::test_support::SoftwareKey;
use crate::pki::{Certificate, Fingerprint};
use crate::smime::{Cipher, encrypt};
use crate::statement::{
    AddedAdministrator, AdminOperation, Instance, LogPosition, LogVerdict, Response, SignedStatement, StatementAnswer,
    StatementChannel, signed_checkpoint,
};
use crate::transport::{Transport, TransportError};

/// An authority's statement endpoint: verifies with the given certificate and responds as
/// configured.
struct TestTransport<'a> {
    double: &'a AuthorityDouble,
    administrator: Vec<u8>,
    /// Answers a statement other than the received one.
    astray: bool,
    /// The added administrators that it reports.
    added: Vec<AddedAdministrator>,
    ending: Vec<String>,
    /// The profile of the certificate that signs its response.
    profile: &'static str,
    came: std::cell::Cell<usize>,
    audit_key: SoftwareKey,
    /// The position of its log, and its verdict on the position that the statement named.
    log: std::cell::Cell<(LogPosition, Option<LogVerdict>)>,
    /// Runs while the statement is being processed.
    meanwhile: Box<dyn Fn() + 'a>,
    /// The log position that the last statement named.
    known: std::cell::Cell<Option<LogPosition>>,
    /// The letter for a letter command: encrypted to the certificate named there, or to this one.
    letter_to: Option<Certificate>,
    /// Breaks the connection after the statement has arrived.
    breaks: bool,
}

const INSTANCE: Instance = Instance::from_bytes([0xa5; 16]);

impl Transport for TestTransport<'_> {
    fn cmp(&self, _message: &[u8]) -> Result<Vec<u8>, TransportError> {
        Err(authority_double::unreachable())
    }

    fn ca_certificate(&self) -> Result<Vec<u8>, TransportError> {
        Err(authority_double::unreachable())
    }

    fn search_certificates(&self, _email: &str) -> Result<Vec<Vec<u8>>, TransportError> {
        Err(authority_double::unreachable())
    }

    fn instance(&self) -> Result<Vec<u8>, TransportError> {
        Ok(format!("{INSTANCE}\n").into_bytes())
    }

    fn statement(&self, statement: &[u8]) -> Result<Vec<u8>, TransportError> {
        self.came.set(self.came.get() + 1);
        (self.meanwhile)();
        let now = Timestamp::now();
        let authority = Fingerprint::of(self.double.ca.certificate.as_der());
        let administrator = Certificate::from_der(&self.administrator).unwrap();
        let statement = SignedStatement::parse(statement)
            .unwrap()
            .verify(&administrator, authority, StatementChannel::Online, now)
            .unwrap();
        let content = statement.statement();
        assert_eq!(content.instance, Some(INSTANCE));
        self.known.set(content.known_log);
        let answer = match (&content.operation, &self.letter_to) {
            (AdminOperation::List { after: None, limit: None }, None) => StatementAnswer::Users(Vec::new()),
            (_, Some(reader)) => {
                assert_eq!(content.encryption_certificate, Some(reader.fingerprint()));
                let letter = encrypt(b"a letter", std::slice::from_ref(reader), Cipher::default()).unwrap();
                StatementAnswer::EncryptedLetter(letter)
            }
            other => panic!("{other:?}"),
        };
        if self.breaks {
            return Err(authority_double::unreachable());
        }
        let (newest, known_log) = self.log.get();
        let key = SoftwareKey::p256();
        let certificate = self.double.ca.issue(self.profile, "Example Authority, responses", &key);
        let response = Response {
            statement: if self.astray { [1; 32] } else { statement.digest() },
            answer,
            checkpoint: signed_checkpoint(&self.audit_key, authority, newest, now),
            known_log,
            added: self.added.clone(),
            ending: self.ending.clone(),
        };
        Ok(response.sign(&key, &certificate, authority, now).unwrap().as_der().to_vec())
    }
}

fn test_transport<'a>(double: &'a AuthorityDouble, keyset: &FoundKeyset) -> TestTransport<'a> {
    let administrator = keyset.certificate_of(keyset.signing.as_ref().unwrap()).unwrap().der.clone();
    let log = std::cell::Cell::new((position(1, 2), None));
    let audit_key = SoftwareKey::p256();
    TestTransport {
        double,
        administrator,
        astray: false,
        added: Vec::new(),
        ending: Vec::new(),
        profile: "cmp-response",
        came: std::cell::Cell::default(),
        audit_key,
        log,
        meanwhile: Box::new(|| ()),
        known: std::cell::Cell::default(),
        letter_to: None,
        breaks: false,
    }
}

/// An authority, and the tokens and keyset of its administrator.
fn administrator() -> (AuthorityDouble, Wallet, FoundKeyset) {
    let double = AuthorityDouble::new();
    let wallet = somebody(&double);
    let keyset = wallet.keyset("a");
    (double, wallet, keyset)
}

fn encryption_certificate(keyset: &FoundKeyset) -> Certificate {
    Certificate::from_der(&keyset.certificate_of(&keyset.encryption[0]).unwrap().der).unwrap()
}

/// Runs the command that lists the users, and compares the audit log.
fn list(
    wallet: &Wallet,
    keyset: &FoundKeyset,
    transport: &TestTransport<'_>,
    script: &mut Script,
) -> Result<CommandResult, KeysetError> {
    let (operation, log_policy) = (AdminOperation::List { after: None, limit: None }, LogPolicy::Compare);
    administer(&wallet.tokens, keyset, transport, operation, log_policy, script, Timestamp::now())
}

fn position(sequence: u64, branch: u8) -> LogPosition {
    LogPosition { sequence, head: [branch; 32] }
}

#[test]
fn a_command_is_one_pin_and_its_answer_is_checked() {
    let (double, wallet, keyset) = administrator();
    let test_transport = test_transport(&double, &keyset);
    let ask = |transport: &TestTransport<'_>, script: &mut Script| list(&wallet, &keyset, transport, script);
    let mut script = Script::with(PIN);
    assert_eq!(ask(&test_transport, &mut script).unwrap().answer, no_users());
    assert_eq!(script.asked, ["existing to sign the command"]);

    let wrong = ask(&test_transport, &mut Script::with("00000000")).unwrap_err();
    assert_eq!((wrong.kind(), test_transport.came.get()), (ErrorKind::Pin, 1));

    let astray = TestTransport { astray: true, ..self::test_transport(&double, &keyset) };
    let refused = ask(&astray, &mut Script::with(PIN)).unwrap_err().to_string();
    assert!(refused.contains("another statement"), "{refused}");
    let mail = TestTransport { profile: "signing", ..self::test_transport(&double, &keyset) };
    assert!(ask(&mail, &mut Script::with(PIN)).is_err(), "accepted the certificate of another user");
}

fn no_users() -> OpenedResponse {
    OpenedResponse::Other(StatementAnswer::Users(Vec::new()))
}

#[test]
fn one_prompt_signs_a_command_and_opens_its_letter() {
    let (double, wallet, keyset) = administrator();
    let test_transport =
        TestTransport { letter_to: Some(encryption_certificate(&keyset)), ..test_transport(&double, &keyset) };
    let ask = |test_transport: &TestTransport<'_>, operation: AdminOperation, script: &mut Script| {
        administer(&wallet.tokens, &keyset, test_transport, operation, LogPolicy::Compare, script, Timestamp::now())
    };
    let email = || "user@example.org".to_owned();
    for operation in [
        AdminOperation::Issue { email: email(), name: None, levels: None, valid_for_seconds: None },
        AdminOperation::Recover { email: email(), lost: false, valid_for_seconds: None },
        AdminOperation::Letter { letter: email() },
    ] {
        let mut script = Script::with(PIN);
        let answer = ask(&test_transport, operation, &mut script).unwrap().answer;
        assert!(matches!(&answer, OpenedResponse::Letter(text) if text.as_str() == "a letter"), "{answer:?}");
        assert!(!format!("{answer:?}").contains("a letter"));
        assert_eq!(script.asked, ["existing to sign the command and open its letter"]);
    }
}

#[test]
fn a_broken_connection_is_reported_with_the_command_to_repeat() {
    let (double, wallet, keyset) = administrator();
    let test_transport = TestTransport {
        letter_to: Some(encryption_certificate(&keyset)),
        breaks: true,
        ..test_transport(&double, &keyset)
    };
    let recover =
        AdminOperation::Recover { email: "user@example.org".to_owned(), lost: false, valid_for_seconds: None };
    let script = &mut Script::with(PIN);
    let now = Timestamp::now();
    let error =
        administer(&wallet.tokens, &keyset, &test_transport, recover, LogPolicy::Compare, script, now).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    let text = error.to_string();
    assert!(text.contains("it is unknown whether the command was executed"), "{text}");
    assert!(text.contains("`tokenkeep admin letter user@example.org --letter-out FILE` fetches the letter"), "{text}");
}

const CONTINUED: Option<LogVerdict> = Some(LogVerdict::Continued);

#[test]
fn the_checkpoint_is_kept_stated_and_compared() {
    let (double, wallet, keyset) = administrator();
    let test_transport = test_transport(&double, &keyset);
    let ask = |log_policy| {
        let script = &mut Script::with(PIN);
        let now = Timestamp::now();
        let answered = administer(
            &wallet.tokens,
            &keyset,
            &test_transport,
            AdminOperation::List { after: None, limit: None },
            log_policy,
            script,
            now,
        );
        assert_eq!((script.asked.len(), script.notices.len()), (1, 0));
        let CommandResult { answer, log_mismatch } = answered.unwrap();
        assert_eq!(answer, no_users(), "the answer is returned with and without an alarm");
        (test_transport.known.take(), log_mismatch.map(|mismatch| mismatch.finding))
    };
    assert_eq!(ask(LogPolicy::Compare), (None, None));
    test_transport.log.set((position(3, 3), CONTINUED));
    assert_eq!(ask(LogPolicy::Compare), (Some(position(1, 2)), None));
    test_transport.log.set((position(2, 4), CONTINUED));
    assert_eq!(ask(LogPolicy::Compare), (Some(position(3, 3)), Some(LogMismatchKind::Shorter)));
    test_transport.log.set((position(9, 5), Some(LogVerdict::Contradicted)));
    assert_eq!(ask(LogPolicy::Compare), (Some(position(3, 3)), Some(LogMismatchKind::Contradicted(3))));
    // The alarm repeats until the log is accepted.
    test_transport.log.set((position(9, 5), None));
    assert_eq!(ask(LogPolicy::Accept), (None, None));
    test_transport.log.set((position(10, 6), CONTINUED));
    assert_eq!(ask(LogPolicy::Compare), (Some(position(9, 5)), None));

    // Re-enrolling keeps the checkpoint.
    let letter = double.letter(LetterPurpose::Enroll);
    enrolled(run(&double, &wallet, &letter, &wallet.again("a"), &mut Script::with(PIN)));
    let keyset = wallet.keyset("a");
    let test_transport =
        TestTransport { audit_key: test_transport.audit_key, ..self::test_transport(&double, &keyset) };
    test_transport.log.set((position(11, 7), CONTINUED));
    let again = list(&wallet, &keyset, &test_transport, &mut Script::with(PIN));
    assert_eq!((again.unwrap().log_mismatch, test_transport.known.take()), (None, Some(position(10, 6))));
}

#[test]
fn a_failed_store_of_the_checkpoint_keeps_the_response() {
    let (double, wallet, keyset) = administrator();
    let token = wallet.tokens.open(&keyset.token).unwrap();
    // Like a write-protected token: the user is logged out for a while.
    let test_transport =
        TestTransport { meanwhile: Box::new(|| token.log_out().unwrap()), ..test_transport(&double, &keyset) };
    let ask = |transport: &TestTransport<'_>, script: &mut Script| list(&wallet, &keyset, transport, script).unwrap();
    let mut script = Script::with(PIN);
    assert_eq!(ask(&test_transport, &mut script), CommandResult { answer: no_users(), log_mismatch: None });
    assert!(matches!(&script.notices[..], [Notice::CheckpointNotKept { .. }]), "{:?}", script.notices);
    // Nothing was stored, and no alarm follows.
    let test_transport = self::test_transport(&double, &keyset);
    let mut script = Script::with(PIN);
    assert_eq!(ask(&test_transport, &mut script).log_mismatch, None);
    assert!(test_transport.known.take().is_none() && script.notices.is_empty());
}

#[test]
fn a_public_index_of_another_authority_sends_no_command() {
    let (double, wallet, keyset) = administrator();
    let test_transport = test_transport(&double, &keyset);
    let mut forged = keyset.clone();
    forged.authority.https = "https://elsewhere.example.org".into();
    let refused = list(&wallet, &forged, &test_transport, &mut Script::with(PIN));
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Refused);

    let other = AuthorityDouble::new();
    let mut forged = keyset.clone();
    let id = forged.authority_certificate.clone().unwrap();
    for certificate in forged.certificates.iter_mut().filter(|certificate| certificate.id == id) {
        certificate.der = other.ca.certificate.as_der().to_vec();
    }
    let refused = list(&wallet, &forged, &test_transport, &mut Script::with(PIN));
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Refused);
    assert_eq!(test_transport.came.get(), 0);
}

#[test]
fn trust_and_addresses_come_from_all_keysets() {
    let wallet = Wallet::new();
    let nobody = trust(&wallet.tokens).unwrap();
    assert!(nobody.anchors().is_empty());
    assert_eq!(nobody.authority(None).unwrap_err().kind(), ErrorKind::Absent);

    let (one, other) = (AuthorityDouble::new(), AuthorityDouble::new());
    let of_one = one.letter(LetterPurpose::Enroll);
    enrolled(run(&one, &wallet, &of_one, &wallet.on_new_token("a"), &mut Script::with(PIN)));
    let trusted = trust(&wallet.tokens).unwrap();
    assert_eq!(trusted.anchors(), [one.ca.certificate.as_der()]);
    let (address, pin) = trusted.authority(None).unwrap();
    assert_eq!((address.http, pin), (of_one.http_url.clone(), of_one.ca_fingerprint));
    let (address, pin) = trusted.authority(Some("http://moved.example.org/")).unwrap();
    assert_eq!((address.http.as_str(), pin), ("http://moved.example.org", of_one.ca_fingerprint));

    // A second authority: refused without a selection.
    let of_other = Letter { http_url: "http://other.example.org".into(), ..other.letter(LetterPurpose::Enroll) };
    enrolled(run(&other, &wallet, &of_other, &wallet.on_new_token("b"), &mut Script::with(PIN)));
    let trusted = trust(&wallet.tokens).unwrap();
    assert_eq!(trusted.anchors().len(), 2);
    let refused = trusted.authority(None).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Refused);
    assert!(refused.to_string().contains("http://other.example.org"), "{refused}");
    assert_eq!(trusted.authority(Some("http://other.example.org")).unwrap().1, of_other.ca_fingerprint);
    assert!(trusted.authority(Some("http://nowhere.example.org")).is_err());
}
