//! A command written to a file, and a response read from one.

use super::*;
use crate::pki::Certificate;
use crate::pki::test_support::SoftwareKey;
use crate::smime::{Cipher, encrypt};
use crate::statement::{
    AdminOperation, LogPosition, LogVerdict, Response, SignedStatement, StatementAnswer, signed_checkpoint,
};

/// The keyset's statement and its encryption certificate.
fn stated(wallet: &Wallet, keyset: &FoundKeyset) -> (SignedStatement, Certificate) {
    let script = &mut Script::with(PIN);
    let statement = sign_for_a_file(
        &wallet.tokens,
        keyset,
        AdminOperation::List { after: None, limit: None },
        LogPolicy::Compare,
        script,
        Timestamp::now(),
    )
    .unwrap();
    assert_eq!(script.asked, ["existing to sign the command"]);
    let own = keyset.certificate_of(&keyset.encryption[0]).unwrap();
    (statement, Certificate::from_der(&own.der).unwrap())
}

fn response(double: &AuthorityDouble, statement: &SignedStatement, answer: StatementAnswer) -> Vec<u8> {
    let key = SoftwareKey::p256();
    let certificate = double.ca.issue("cmp-response", "Example Authority, responses", &key);
    let at = Timestamp::now();
    let authority = double.ca.certificate.fingerprint();
    let known = statement.claimed_statement().unwrap().known_log;
    let newest = LogPosition { sequence: 1, head: [2; 32] };
    let checkpoint = signed_checkpoint(&double.ca.key, authority, newest, at);
    let known_log = known.map(|_| LogVerdict::Continued);
    let response = Response {
        statement: statement.digest(),
        answer,
        checkpoint,
        known_log,
        added: Vec::new(),
        ending: Vec::new(),
    };
    response.sign(&key, &certificate, authority, at).unwrap().as_der().to_vec()
}

fn letter(reader: &Certificate) -> StatementAnswer {
    StatementAnswer::EncryptedLetter(encrypt(b"a letter", std::slice::from_ref(reader), Cipher::default()).unwrap())
}

#[test]
fn every_response_is_opened_with_one_pin() {
    let double = AuthorityDouble::new();
    let wallet = somebody(&double);
    let keyset = wallet.keyset("a");
    let (statement, reader) = stated(&wallet, &keyset);
    let open = |answer: StatementAnswer, script: &mut Script| {
        let response = response(&double, &statement, answer);
        open_response(&wallet.tokens, &keyset, &statement, response, LogPolicy::Compare, script, Timestamp::now())
    };
    let mut script = Script::with(PIN);
    let opened = open(letter(&reader), &mut script).unwrap().answer;
    assert!(matches!(&opened, OpenedResponse::Letter(text) if text.as_str() == "a letter"), "{opened:?}");
    assert_eq!(script.asked, ["existing to open the response"]);
    assert_eq!(open(letter(&reader), &mut Script::with("00000000")).unwrap_err().kind(), ErrorKind::Pin);

    for answer in [StatementAnswer::Users(Vec::new()), StatementAnswer::Refused("no".to_owned())] {
        let mut script = Script::with(PIN);
        let expected = CommandResult { answer: OpenedResponse::Other(answer.clone()), log_mismatch: None };
        assert_eq!(open(answer.clone(), &mut script).unwrap(), expected);
        assert_eq!(script.asked, ["existing to open the response"]);
        assert_eq!(open(answer, &mut Script::without(NoPin::Cancelled)).unwrap_err().kind(), ErrorKind::Pin);
    }
    let mut nobody = Script::without(NoPin::Cancelled);
    // Encrypted to another recipient, it is not for this keyset.
    let other = double.ca.issue("encryption", "Example, Other", &SoftwareKey::rsa());
    assert_eq!(open(letter(&other), &mut nobody).unwrap_err().kind(), ErrorKind::Refused);
    let garbage = StatementAnswer::EncryptedLetter(vec![0x30, 0]);
    assert_eq!(open(garbage, &mut nobody).unwrap_err().kind(), ErrorKind::NotVerified);
    assert!(nobody.asked.is_empty());
}

#[test]
fn a_public_index_of_another_authority_opens_no_letter() {
    let double = AuthorityDouble::new();
    let wallet = somebody(&double);
    let keyset = wallet.keyset("a");
    let (statement, reader) = stated(&wallet, &keyset);
    let other = AuthorityDouble::new();
    let forged = response(&other, &statement, letter(&reader));
    let open = |keyset: &FoundKeyset| {
        let script = &mut Script::with(PIN);
        open_response(&wallet.tokens, keyset, &statement, forged.clone(), LogPolicy::Compare, script, Timestamp::now())
            .unwrap_err()
    };
    assert_eq!(open(&keyset).kind(), ErrorKind::NotVerified);

    let mut misled = keyset.clone();
    let id = misled.authority_certificate.clone().unwrap();
    for certificate in misled.certificates.iter_mut().filter(|certificate| certificate.id == id) {
        certificate.der = other.ca.certificate.as_der().to_vec();
    }
    let error = open(&misled);
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    assert!(error.to_string().contains("another authority"), "{error}");
}
