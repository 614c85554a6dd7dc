//! `ir`, `certConf`, `error`, `genm`, and the state after each refusal.

use super::support::*;
use crate::cmp::{
    CheckedReply, GeneralInfoExt as _, PkiBody, PkiFailureInfo, PkiHeader, PkiStatusInfo, ProofOfPossession, Pvno,
    check_reply, oid, reject,
};
use crate::letter::TemporaryKey;
use crate::pki::{CertificatePurpose, path};
use crate::store::{CertificateState, TemporaryKeyState};
use crate::token::SecurityLevel;

fn state_of_letter(fixture: &AuthorityFixture, reference: &str) -> TemporaryKeyState {
    fixture.authority().records.store.temporary_key(reference).unwrap().unwrap().state
}

fn state_of_certificate(fixture: &AuthorityFixture, certificate: &crate::pki::Certificate) -> CertificateState {
    fixture.authority().records.store.certificate(&certificate.serial().to_string()).unwrap().unwrap().state
}

#[test]
fn an_enrollment_gives_a_signing_and_an_encryption_certificate() {
    let fixture = AuthorityFixture::new();
    let client = TestClient::new();
    let reference = fixture.letter.reference.as_str();
    let encryption = client.enroll(&fixture, &fixture.letter, now());
    let (signing, ca) = (client.certificate(), fixture.ca());

    path::verify(&signing, &[], std::slice::from_ref(&ca), CertificatePurpose::Signing, now()).unwrap();
    path::verify(&encryption[0], &[], std::slice::from_ref(&ca), CertificatePurpose::Encryption, now()).unwrap();
    assert_eq!(signing.emails(), [ADMINISTRATOR]);
    assert_eq!(encryption.len(), 1);
    assert_eq!(state_of_letter(&fixture, reference), TemporaryKeyState::Used);
    assert_eq!(state_of_certificate(&fixture, &signing), CertificateState::Current);
    let found = fixture.authority().search_certificates("Admin@Example.org", now()).unwrap();
    assert_eq!(found, [encryption[0].as_der()]);
    assert!(fixture.authority().search_certificates("nobody@example.org", now()).unwrap().is_empty());
}

#[test]
fn a_resent_request_gets_the_same_reply_a_changed_one_none() {
    let fixture = AuthorityFixture::new();
    let (client, letter) = (TestClient::new(), &fixture.letter);
    let request = client.request(letter, DEFAULT_OPTIONS, now());
    let reply = fixture.post(&request, now()).bytes;
    assert_eq!(fixture.post(&request, later(1)).bytes, reply);

    let mut header = TestClient::header(letter, now());
    header.transaction_id = read(&request).header().transaction_id.clone();
    let other = crate::cmp::Draft::new(header, read(&request).body().clone());
    let other = protect(other, &letter.temporary_key);
    let (reasons, _) = refusal(&other, &fixture.post(&other, now()).bytes, &letter.temporary_key);
    assert!(reasons.contains(PkiFailureInfo::TRANSACTION_ID_IN_USE));

    TestClient::confirm(&fixture, letter, &request, &reply, now());
    assert_eq!(fixture.post(&request, later(1)).bytes, reply, "after the confirmation as well");
}

#[test]
fn of_two_enrollments_with_one_letter_exactly_one_wins() {
    let fixture = AuthorityFixture::new();
    let people = [TestClient::new(), TestClient::new()];
    let requests: Vec<_> =
        people.iter().map(|client| client.request(&fixture.letter, DEFAULT_OPTIONS, now())).collect();
    let replies: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = requests
            .iter()
            .map(|request| scope.spawn(|| fixture.authority().answer_cmp(request, [192, 0, 2, 1].into(), now())))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap().bytes).collect()
    });
    let won = replies.iter().filter(|reply| matches!(read(reply).body(), PkiBody::Ip(_))).count();
    assert_eq!(won, 1);
    let lost = replies.iter().position(|reply| matches!(read(reply).body(), PkiBody::Error(_))).unwrap();
    let (reasons, text) = refusal(&requests[lost], &replies[lost], &fixture.letter.temporary_key);
    assert!(reasons.contains(PkiFailureInfo::NOT_AUTHORIZED), "{text}");
}

#[test]
fn copies_of_one_request_at_the_same_moment_get_one_reply() {
    let fixture = AuthorityFixture::new();
    let client = TestClient::new();
    let request = client.request(&fixture.letter, DEFAULT_OPTIONS, now());
    let replies: Vec<_> = std::thread::scope(|scope| {
        let post = || fixture.authority().answer_cmp(&request, [192, 0, 2, 1].into(), now()).bytes;
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(post)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(replies.windows(2).all(|pair| pair[0] == pair[1]));
    assert_eq!(client.install(&fixture.letter, &request, &replies[0]).len(), 1);
}

#[test]
fn unknown_reference_and_wrong_temporary_key_look_the_same() {
    let fixture = AuthorityFixture::new();
    let client = TestClient::new();
    let mut wrong = fixture.letter.clone();
    wrong.temporary_key = TemporaryKey::from_mac(&[7; 32]);
    let mut unknown = wrong.clone();
    unknown.reference = crate::letter::Reference::new(crate::letter::LetterPurpose::Enroll, [9; 5]);
    let mut answers = Vec::new();
    for letter in [&wrong, &unknown] {
        let request = client.request(letter, DEFAULT_OPTIONS, now());
        let answer = fixture.post(&request, now());
        let Ok(CheckedReply::UnauthenticatedError(error)) =
            check_reply(&read(&request), &answer.bytes, letter.temporary_key.cmp_secret())
        else {
            panic!("no unprotected refusal")
        };
        assert!(error.status.reasons().contains(PkiFailureInfo::BAD_MESSAGE_CHECK));
        assert!(!answer.delay.is_zero(), "delayed");
        answers.push(error);
    }
    assert_eq!(answers[0], answers[1]);
    let reference = fixture.letter.reference.as_str();
    assert_eq!(state_of_letter(&fixture, reference), TemporaryKeyState::Unused, "never locked");
    client.enroll(&fixture, &fixture.letter, now());
}

#[test]
fn letter_status_is_revealed_only_with_the_temporary_key() {
    let fixture = AuthorityFixture::new();
    let administrator = fixture.administrator();
    let first = fixture.letter_for(&administrator, "user@example.org");
    let second = fixture.letter_for(&administrator, "user@example.org");
    let client = TestClient::new();
    for (letter, at, word) in [
        (&fixture.letter, now(), "already used"),
        (&first, now(), "replaced by a newer one"),
        (&second, later(15 * 24 * 60), "was good until"),
    ] {
        for message in [client.request(letter, DEFAULT_OPTIONS, at), question(letter, &[oid::IT_CA_CERTS], at)] {
            let (reasons, text) = refusal(&message, &fixture.post(&message, at).bytes, &letter.temporary_key);
            assert!(reasons.contains(PkiFailureInfo::NOT_AUTHORIZED) && text.contains(word), "{text}");
        }
    }
    client.enroll(&fixture, &second, now());
}

#[test]
fn genm_describes_the_authority_and_uses_nothing_up() {
    let fixture = AuthorityFixture::new();
    let letter = &fixture.letter;
    let message = question(letter, &[oid::IT_CA_CERTS, oid::IT_SIGN_KEY_PAIR_TYPES], now());
    for _ in 0..2 {
        let answer = proven(&message, &fixture.post(&message, now()).bytes, &letter.temporary_key);
        let PkiBody::Genp(information) = answer.body() else { panic!("no genp") };
        assert_eq!(information.ca_certs().unwrap().unwrap()[0].to_vec().unwrap(), fixture.ca().as_der());
        assert_eq!(information.sign_key_pair_types().unwrap().unwrap()[0].oid.to_string(), "1.2.840.10045.2.1");
    }
    assert_eq!(state_of_letter(&fixture, letter.reference.as_str()), TemporaryKeyState::Unused);
}

#[test]
fn a_refused_reply_is_revoked_and_the_letter_is_good_again() {
    let fixture = AuthorityFixture::new();
    let (client, letter) = (TestClient::new(), &fixture.letter);
    let request = client.request(letter, DEFAULT_OPTIONS, now());
    let reply = fixture.post(&request, now()).bytes;
    let certificate = parts(&read(&reply)).0;
    let why = PkiStatusInfo::rejection(PkiFailureInfo::INCORRECT_DATA, "the key does not fit");
    let refused = TestClient::confirmation(letter, &request, &reply, Some(&why), now());
    let answer = fixture.post(&refused, now()).bytes;
    assert!(matches!(proven(&refused, &answer, &letter.temporary_key).body(), PkiBody::PkiConf(_)));
    assert_eq!(fixture.post(&refused, now()).bytes, answer, "again");
    assert_eq!(state_of_certificate(&fixture, &certificate), CertificateState::Revoked);
    assert_eq!(state_of_letter(&fixture, letter.reference.as_str()), TemporaryKeyState::Unused);

    let (reasons, _) = refusal(&request, &fixture.post(&request, now()).bytes, &letter.temporary_key);
    assert!(reasons.contains(PkiFailureInfo::TRANSACTION_ID_IN_USE), "a replay does not restart it");
    client.enroll(&fixture, letter, now());
}

#[test]
fn an_error_message_returns_the_letter_before_confirmation_only() {
    let fixture = AuthorityFixture::new();
    let (client, letter) = (TestClient::new(), &fixture.letter);
    let request = client.request(letter, DEFAULT_OPTIONS, now());
    let reply = fixture.post(&request, now()).bytes;
    let why = || PkiStatusInfo::rejection(PkiFailureInfo::BAD_MESSAGE_CHECK, "tampered");
    let error = protect(reject(&read(&request), None, why(), now()).unwrap(), &letter.temporary_key);
    let answer = fixture.post(&error, now()).bytes;
    assert!(matches!(proven(&error, &answer, &letter.temporary_key).body(), PkiBody::PkiConf(_)));
    assert_eq!(state_of_letter(&fixture, letter.reference.as_str()), TemporaryKeyState::Unused);
    let late = TestClient::confirmation(letter, &request, &reply, None, now());
    let (reasons, _) = refusal(&late, &fixture.post(&late, now()).bytes, &letter.temporary_key);
    assert!(reasons.contains(PkiFailureInfo::CERT_REVOKED));

    let request = client.request(letter, DEFAULT_OPTIONS, now());
    let reply = fixture.post(&request, now()).bytes;
    TestClient::confirm(&fixture, letter, &request, &reply, now());
    let error = protect(reject(&read(&request), None, why(), now()).unwrap(), &letter.temporary_key);
    let (reasons, _) = refusal(&error, &fixture.post(&error, now()).bytes, &letter.temporary_key);
    assert!(reasons.contains(PkiFailureInfo::CERT_CONFIRMED));
    assert_eq!(state_of_letter(&fixture, letter.reference.as_str()), TemporaryKeyState::Used);
}

#[test]
fn a_re_encoded_confirmation_is_confirmed_again() {
    let fixture = AuthorityFixture::new();
    let (client, letter) = (TestClient::new(), &fixture.letter);
    let request = client.request(letter, DEFAULT_OPTIONS, now());
    let reply = fixture.post(&request, now()).bytes;
    for _ in 0..2 {
        assert!(matches!(TestClient::confirm(&fixture, letter, &request, &reply, now()).body(), PkiBody::PkiConf(_)));
    }
}

#[test]
fn an_unconfirmed_enrollment_is_swept_and_can_be_restarted() {
    let fixture = AuthorityFixture::new();
    let (client, letter) = (TestClient::new(), &fixture.letter);
    let request = client.request(letter, DEFAULT_OPTIONS, now());
    let first = fixture.post(&request, now()).bytes;
    assert_eq!(fixture.authority().sweep(later(9)).unwrap(), 0);
    assert_eq!(fixture.authority().sweep(later(11)).unwrap(), 1);
    assert_eq!(state_of_certificate(&fixture, &parts(&read(&first)).0), CertificateState::Revoked);
    assert_eq!(state_of_letter(&fixture, letter.reference.as_str()), TemporaryKeyState::Unused);

    let second = fixture.post(&request, later(12)).bytes;
    assert_ne!(second, first);
    client.install(letter, &request, &second);
    TestClient::confirm(&fixture, letter, &request, &second, later(12));
}

#[test]
fn a_reply_is_given_again_for_thirty_days_and_then_forgotten() {
    let days = |days: i64| later(days * 24 * 60);
    let fixture = AuthorityFixture::new();
    let (client, letter) = (TestClient::new(), &fixture.letter);
    let request = client.request(letter, DEFAULT_OPTIONS, now());
    let reply = fixture.post(&request, now()).bytes;
    let confirmation = TestClient::confirmation(letter, &request, &reply, None, now());
    let confirmed = fixture.post(&confirmation, now()).bytes;
    let stored = || fixture.authority().records.store.transaction(&transaction_of(&request)).unwrap().unwrap();

    fixture.authority().sweep(days(30)).unwrap();
    assert_eq!(fixture.post(&request, days(30)).bytes, reply);
    assert_eq!(fixture.post(&confirmation, days(30)).bytes, confirmed);

    fixture.authority().sweep(days(31)).unwrap();
    assert!(stored().reply.is_none() && stored().confirmation_reply.is_none());
    let (_, text) = refusal(&request, &fixture.post(&request, days(31)).bytes, &letter.temporary_key);
    assert!(text.contains("30 days") && text.contains("administrator"), "{text}");
    // A client that installed the keys but missed pkiConf still gets it; others do not.
    let answer = fixture.post(&confirmation, days(31)).bytes;
    assert!(matches!(proven(&confirmation, &answer, &letter.temporary_key).body(), PkiBody::PkiConf(_)));
    let late = TestClient::confirmation(letter, &request, &reply, None, days(31));
    let (_, text) = refusal(&late, &fixture.post(&late, days(31)).bytes, &letter.temporary_key);
    assert!(text.contains("30 days"), "{text}");
    assert_eq!(state_of_certificate(&fixture, &parts(&read(&reply)).0), CertificateState::Current);

    // An open transaction is kept, however long it takes.
    let fixture = AuthorityFixture::new();
    let request = client.request(&fixture.letter, DEFAULT_OPTIONS, now());
    let reply = fixture.post(&request, now()).bytes;
    fixture.authority().records.store.forget_replies(days(400)).unwrap();
    assert_eq!(fixture.post(&request, now()).bytes, reply);
}

fn transaction_of(request: &[u8]) -> Vec<u8> {
    read(request).header().transaction().unwrap().to_vec()
}

#[test]
fn an_old_client_gets_a_signing_certificate_alone() {
    let fixture = AuthorityFixture::new();
    let (client, letter) = (TestClient::new(), &fixture.letter);
    let options = RequestOptions { encryption: false, implicit_confirm: true, level: None };
    let request = client.request(letter, options, now());
    let reply = fixture.post(&request, now()).bytes;
    let message = proven(&request, &reply, &letter.temporary_key);
    assert!(message.header().general_info.as_deref().unwrap().has_implicit_confirm());
    let (signing, keys) = parts(&message);
    assert!(keys.is_empty());
    assert_eq!(state_of_certificate(&fixture, &signing), CertificateState::Current, "confirmed implicitly");
    assert_eq!(state_of_letter(&fixture, letter.reference.as_str()), TemporaryKeyState::Used);
}

#[test]
fn a_malformed_request_is_refused_and_uses_nothing_up() {
    let fixture = AuthorityFixture::new();
    let (client, letter) = (TestClient::new(), &fixture.letter);
    let good = || client.draft_of(letter, DEFAULT_OPTIONS, now()).ir();
    let messages_of = |body: &PkiBody| match body {
        PkiBody::Ir(messages) => messages.clone(),
        _ => panic!("no ir"),
    };
    let with = |change: &dyn Fn(&mut Vec<crate::cmp::CertReqMsg>)| {
        let mut draft = good();
        let mut messages = messages_of(&draft.body);
        change(&mut messages);
        draft.body = PkiBody::Ir(messages);
        draft
    };
    let with_header = |change: &dyn Fn(&mut PkiHeader)| {
        let mut draft = good();
        change(&mut draft.header);
        draft
    };
    let cases: Vec<(&str, crate::cmp::Draft, PkiFailureInfo)> = vec![
        ("no proof", with(&|m| m[0].popo = None), PkiFailureInfo::BAD_POP),
        (
            "raVerified",
            with(&|m| m[0].popo = Some(ProofOfPossession::RaVerified(der::asn1::Null))),
            PkiFailureInfo::BAD_POP,
        ),
        (
            "another's proof",
            with(&|m| {
                let other = TestClient::new().draft_of(letter, DEFAULT_OPTIONS, now()).ir();
                m[0].popo.clone_from(&messages_of(&other.body)[0].popo);
            }),
            PkiFailureInfo::BAD_POP,
        ),
        ("two signing keys", with(&|m| m[1] = m[0].clone()), PkiFailureInfo::BAD_REQUEST),
        ("only an encryption key", with(&|m| drop(m.remove(0))), PkiFailureInfo::BAD_REQUEST),
        ("nothing", with(&Vec::clear), PkiFailureInfo::BAD_REQUEST),
        ("pvno 3", with_header(&|h| h.pvno = Pvno::CMP2021), PkiFailureInfo::BAD_REQUEST),
        (
            "a krr with an E reference",
            client.draft_of(letter, DEFAULT_OPTIONS, now()).krr(),
            PkiFailureInfo::BAD_REQUEST,
        ),
        (
            "a cr",
            {
                let mut d = good();
                d.body = PkiBody::Cr(messages_of(&d.body));
                d
            },
            PkiFailureInfo::BAD_REQUEST,
        ),
    ];
    for (what, draft, reason) in cases {
        let message = protect(draft, &letter.temporary_key);
        let (reasons, text) = refusal(&message, &fixture.post(&message, now()).bytes, &letter.temporary_key);
        assert!(reasons.contains(reason), "{what}: {text}");
    }
    for (what, draft, reason) in [
        (
            "a short transactionID",
            with_header(&|h| h.transaction_id = der::asn1::OctetString::new([1]).ok()),
            PkiFailureInfo::BAD_DATA_FORMAT,
        ),
        ("no senderNonce", with_header(&|h| h.sender_nonce = None), PkiFailureInfo::BAD_SENDER_NONCE),
    ] {
        let answer = fixture.post(&protect(draft, &letter.temporary_key), now()).bytes;
        let PkiBody::Error(error) = read(&answer).body().clone() else { panic!("{what}: not refused") };
        assert!(error.status.reasons().contains(reason), "{what}: {}", error.status);
    }
    let unprotected = fixture.post(&good().unprotected().unwrap(), now()).bytes;
    assert!(matches!(read(&unprotected).body(), PkiBody::Error(_)));
    assert!(matches!(read(&fixture.post(b"no message", now()).bytes).body(), PkiBody::Error(_)));

    assert_eq!(state_of_letter(&fixture, letter.reference.as_str()), TemporaryKeyState::Unused);
    client.enroll(&fixture, letter, now());
}

#[test]
fn a_level_that_the_letter_does_not_allow_is_refused() {
    let fixture = AuthorityFixture::new();
    let administrator = fixture.administrator();
    let issue = crate::statement::AdminOperation::Issue {
        email: "user@example.org".into(),
        name: Some("User".into()),
        levels: Some(vec![SecurityLevel::High]),
        valid_for_seconds: Some(3600),
    };
    let letter = administrator.letter_in(fixture.state(&administrator, issue, now()).unwrap());
    assert_eq!(letter.levels, [SecurityLevel::High]);
    let client = TestClient::new();
    for level in [Some(SecurityLevel::Low), None] {
        let request = client.request(&letter, RequestOptions { level, ..DEFAULT_OPTIONS }, now());
        let (reasons, text) = refusal(&request, &fixture.post(&request, now()).bytes, &letter.temporary_key);
        assert!(reasons.contains(PkiFailureInfo::UNACCEPTED_POLICY) && text.contains("high"), "{text}");
        assert_eq!(text.contains("--levels low"), level.is_none(), "{text}");
    }
    client.enroll(&fixture, &letter, now());
}
