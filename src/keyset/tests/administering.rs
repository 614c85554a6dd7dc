//! Administrators' commands, and the authorities known without a PIN.

use super::*;
use crate::carrier::{Carrier, CarrierError};
use crate::pki::software_keys::SoftwareKey;
use crate::pki::{Certificate, Fingerprint};
use crate::smime::{Cipher, encrypt};
use crate::statement::{
    AddedAdministrator, Answer, Instance, LogPosition, LogVerdict, Operation, Response, SignedStatement, Way,
    signed_checkpoint,
};

/// An authority's statement endpoint: verifies with the given certificate and responds as
/// configured.
struct Door<'a> {
    double: &'a Double,
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

impl Carrier for Door<'_> {
    fn cmp(&self, _message: &[u8]) -> Result<Vec<u8>, CarrierError> {
        Err(double::unreachable())
    }

    fn ca_certificate(&self) -> Result<Vec<u8>, CarrierError> {
        Err(double::unreachable())
    }

    fn search_certificates(&self, _email: &str) -> Result<Vec<Vec<u8>>, CarrierError> {
        Err(double::unreachable())
    }

    fn instance(&self) -> Result<Vec<u8>, CarrierError> {
        Ok(format!("{INSTANCE}\n").into_bytes())
    }

    fn statement(&self, statement: &[u8]) -> Result<Vec<u8>, CarrierError> {
        self.came.set(self.came.get() + 1);
        (self.meanwhile)();
        let now = Timestamp::now();
        let authority = Fingerprint::of(self.double.ca.certificate.as_der());
        let administrator = Certificate::from_der(&self.administrator).unwrap();
        let statement =
            SignedStatement::parse(statement).unwrap().verify(&administrator, authority, Way::Online, now).unwrap();
        let content = statement.statement();
        assert_eq!(content.instance, Some(INSTANCE));
        self.known.set(content.known_log);
        let answer = match (&content.operation, &self.letter_to) {
            (Operation::List, None) => Answer::Users(Vec::new()),
            (_, Some(reader)) => {
                assert_eq!(content.encryption_certificate, Some(reader.fingerprint()));
                let letter = encrypt(b"a letter", std::slice::from_ref(reader), Cipher::default()).unwrap();
                Answer::EncryptedLetter(letter)
            }
            other => panic!("{other:?}"),
        };
        if self.breaks {
            return Err(double::unreachable());
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

fn door<'a>(double: &'a Double, keyset: &FoundKeyset) -> Door<'a> {
    let administrator = keyset.certificate_of(keyset.signing.as_ref().unwrap()).unwrap().der.clone();
    let log = std::cell::Cell::new((position(1, 2), None));
    let audit_key = SoftwareKey::p256();
    Door {
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

fn position(sequence: u64, branch: u8) -> LogPosition {
    LogPosition { sequence, head: [branch; 32] }
}

#[test]
fn a_command_is_one_pin_and_its_answer_is_checked() {
    let double = Double::new();
    let wallet = somebody(&double);
    let keyset = wallet.keyset("a");
    let door = door(&double, &keyset);
    let ask = |door: &Door<'_>, script: &mut Script| {
        administer(&wallet.tokens, &keyset, door, Operation::List, KnownLog::Compare, script, Timestamp::now())
    };
    let mut script = Script::with(PIN);
    assert_eq!(ask(&door, &mut script).unwrap().answer, no_users());
    assert_eq!(script.asked, ["existing to sign the command"]);

    let wrong = ask(&door, &mut Script::with("00000000")).unwrap_err();
    assert_eq!((wrong.kind(), door.came.get()), (ErrorKind::Pin, 1));

    let astray = Door { astray: true, ..self::door(&double, &keyset) };
    let refused = ask(&astray, &mut Script::with(PIN)).unwrap_err().to_string();
    assert!(refused.contains("another statement"), "{refused}");
    let mail = Door { profile: "signing", ..self::door(&double, &keyset) };
    assert!(ask(&mail, &mut Script::with(PIN)).is_err(), "accepted the certificate of another user");
}

fn no_users() -> OpenedAnswer {
    OpenedAnswer::Other(Answer::Users(Vec::new()))
}

#[test]
fn one_prompt_signs_a_command_and_opens_its_letter() {
    let double = Double::new();
    let wallet = somebody(&double);
    let keyset = wallet.keyset("a");
    let own = Certificate::from_der(&keyset.certificate_of(&keyset.encryption[0]).unwrap().der).unwrap();
    let door = Door { letter_to: Some(own), ..door(&double, &keyset) };
    let ask = |door: &Door<'_>, operation: Operation, script: &mut Script| {
        administer(&wallet.tokens, &keyset, door, operation, KnownLog::Compare, script, Timestamp::now())
    };
    let email = || "user@example.org".to_owned();
    for operation in [
        Operation::Issue { email: email(), name: None, levels: None, valid_for_seconds: None },
        Operation::Recover { email: email(), lost: false, valid_for_seconds: None },
        Operation::Letter { letter: email() },
    ] {
        let mut script = Script::with(PIN);
        let answer = ask(&door, operation, &mut script).unwrap().answer;
        assert!(matches!(&answer, OpenedAnswer::Letter(text) if text.as_str() == "a letter"), "{answer:?}");
        assert!(!format!("{answer:?}").contains("a letter"));
        assert_eq!(script.asked, ["existing to sign the command and open its letter"]);
    }
}

#[test]
fn whose_connection_breaks_is_told_what_to_type() {
    let double = Double::new();
    let wallet = somebody(&double);
    let keyset = wallet.keyset("a");
    let own = Certificate::from_der(&keyset.certificate_of(&keyset.encryption[0]).unwrap().der).unwrap();
    let door = Door { letter_to: Some(own), breaks: true, ..door(&double, &keyset) };
    let recover = Operation::Recover { email: "user@example.org".to_owned(), lost: false, valid_for_seconds: None };
    let script = &mut Script::with(PIN);
    let now = Timestamp::now();
    let error = administer(&wallet.tokens, &keyset, &door, recover, KnownLog::Compare, script, now).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    let text = error.to_string();
    assert!(text.contains("it is unknown whether the command was executed"), "{text}");
    assert!(text.contains("`tokenkeep admin letter user@example.org --letter-out FILE` fetches the letter"), "{text}");
}

const CONTINUED: Option<LogVerdict> = Some(LogVerdict::Continued);

#[test]
fn the_checkpoint_is_kept_stated_and_compared() {
    let double = Double::new();
    let wallet = somebody(&double);
    let keyset = wallet.keyset("a");
    let door = door(&double, &keyset);
    let ask = |known_log| {
        let script = &mut Script::with(PIN);
        let answered = administer(&wallet.tokens, &keyset, &door, Operation::List, known_log, script, Timestamp::now());
        assert_eq!((script.asked.len(), script.notices.len()), (1, 0));
        let Answered { answer, alarm } = answered.unwrap();
        assert_eq!(answer, no_users(), "the answer is returned with and without an alarm");
        (door.known.take(), alarm.map(|alarm| alarm.finding))
    };
    assert_eq!(ask(KnownLog::Compare), (None, None));
    door.log.set((position(3, 3), CONTINUED));
    assert_eq!(ask(KnownLog::Compare), (Some(position(1, 2)), None));
    door.log.set((position(2, 4), CONTINUED));
    assert_eq!(ask(KnownLog::Compare), (Some(position(3, 3)), Some(Finding::Shorter)));
    door.log.set((position(9, 5), Some(LogVerdict::Contradicted)));
    assert_eq!(ask(KnownLog::Compare), (Some(position(3, 3)), Some(Finding::Contradicted(3))));
    // The alarm repeats until the log is accepted.
    door.log.set((position(9, 5), None));
    assert_eq!(ask(KnownLog::Accept), (None, None));
    door.log.set((position(10, 6), CONTINUED));
    assert_eq!(ask(KnownLog::Compare), (Some(position(9, 5)), None));

    // Re-enrolling keeps the checkpoint.
    let letter = double.letter(Purpose::Enroll);
    enrolled(run(&double, &wallet, &letter, &wallet.again("a"), &mut Script::with(PIN)));
    let keyset = wallet.keyset("a");
    let door = Door { audit_key: door.audit_key, ..self::door(&double, &keyset) };
    door.log.set((position(11, 7), CONTINUED));
    let script = &mut Script::with(PIN);
    let again =
        administer(&wallet.tokens, &keyset, &door, Operation::List, KnownLog::Compare, script, Timestamp::now());
    assert_eq!((again.unwrap().alarm, door.known.take()), (None, Some(position(10, 6))));
}

#[test]
fn an_answer_is_given_though_the_token_takes_nothing_more() {
    let double = Double::new();
    let wallet = somebody(&double);
    let keyset = wallet.keyset("a");
    let token = wallet.tokens.open(&keyset.token).unwrap();
    // Like a write-protected token: the user is logged out for a while.
    let door = Door { meanwhile: Box::new(|| token.log_out().unwrap()), ..door(&double, &keyset) };
    let ask = |door: &Door<'_>, script: &mut Script| {
        administer(&wallet.tokens, &keyset, door, Operation::List, KnownLog::Compare, script, Timestamp::now()).unwrap()
    };
    let mut script = Script::with(PIN);
    assert_eq!(ask(&door, &mut script), Answered { answer: no_users(), alarm: None });
    assert!(matches!(&script.notices[..], [Notice::CheckpointNotKept { .. }]), "{:?}", script.notices);
    // Nothing was stored, and no alarm follows.
    let door = self::door(&double, &keyset);
    let mut script = Script::with(PIN);
    assert_eq!(ask(&door, &mut script).alarm, None);
    assert!(door.known.take().is_none() && script.notices.is_empty());
}

#[test]
fn a_public_index_that_leads_to_another_authority_gets_no_command_sent() {
    let double = Double::new();
    let wallet = somebody(&double);
    let keyset = wallet.keyset("a");
    let door = door(&double, &keyset);
    let mut forged = keyset.clone();
    forged.authority.https = "https://elsewhere.example.org".into();
    let refused = administer(
        &wallet.tokens,
        &forged,
        &door,
        Operation::List,
        KnownLog::Compare,
        &mut Script::with(PIN),
        Timestamp::now(),
    );
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Refused);

    let other = Double::new();
    let mut forged = keyset.clone();
    let id = forged.authority_certificate.clone().unwrap();
    for certificate in forged.certificates.iter_mut().filter(|certificate| certificate.id == id) {
        certificate.der = other.ca.certificate.as_der().to_vec();
    }
    let refused = administer(
        &wallet.tokens,
        &forged,
        &door,
        Operation::List,
        KnownLog::Compare,
        &mut Script::with(PIN),
        Timestamp::now(),
    );
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Refused);
    assert_eq!(door.came.get(), 0);
}

#[test]
fn whom_to_trust_and_to_ask_comes_from_all_keysets() {
    let wallet = Wallet::new();
    let nobody = trust(&wallet.tokens).unwrap();
    assert!(nobody.anchors().is_empty());
    assert_eq!(nobody.authority(None).unwrap_err().kind(), ErrorKind::Absent);

    let (one, other) = (Double::new(), Double::new());
    let of_one = one.letter(Purpose::Enroll);
    enrolled(run(&one, &wallet, &of_one, &wallet.on_new_token("a"), &mut Script::with(PIN)));
    let trusted = trust(&wallet.tokens).unwrap();
    assert_eq!(trusted.anchors(), [one.ca.certificate.as_der()]);
    let (address, pin) = trusted.authority(None).unwrap();
    assert_eq!((address.http, pin), (of_one.http_url.clone(), of_one.ca_fingerprint));
    let (address, pin) = trusted.authority(Some("http://moved.example.org/")).unwrap();
    assert_eq!((address.http.as_str(), pin), ("http://moved.example.org", of_one.ca_fingerprint));

    // A second authority: refused without a selection.
    let of_other = Letter { http_url: "http://other.example.org".into(), ..other.letter(Purpose::Enroll) };
    enrolled(run(&other, &wallet, &of_other, &wallet.on_new_token("b"), &mut Script::with(PIN)));
    let trusted = trust(&wallet.tokens).unwrap();
    assert_eq!(trusted.anchors().len(), 2);
    let refused = trusted.authority(None).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Refused);
    assert!(refused.to_string().contains("http://other.example.org"), "{refused}");
    assert_eq!(trusted.authority(Some("http://other.example.org")).unwrap().1, of_other.ca_fingerprint);
    assert!(trusted.authority(Some("http://nowhere.example.org")).is_err());
}
