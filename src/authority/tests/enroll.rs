//! `ir`, `certConf`, `error`, `genm`, and the state after each refusal.

use super::support::*;
use crate::cmp::{
    GeneralInfoExt as _, PkiBody, PkiFailureInfo, PkiHeader, PkiStatusInfo, ProofOfPossession, Pvno, Reply,
    check_reply, oid, reject,
};
use crate::letter::TemporaryKey;
use crate::pki::{Purpose, path};
use crate::store::{CertificateState, TemporaryKeyState};
use crate::token::SecurityLevel;

fn state_of_letter(office: &Office, reference: &str) -> TemporaryKeyState {
    office.authority().store.temporary_key(reference).unwrap().unwrap().state
}

fn state_of_certificate(office: &Office, certificate: &crate::pki::Certificate) -> CertificateState {
    office.authority().store.certificate(&certificate.serial().to_string()).unwrap().unwrap().state
}

#[test]
fn an_enrollment_gives_a_signing_and_an_encryption_certificate() {
    let office = Office::new();
    let person = Person::new();
    let reference = office.letter.reference.as_str();
    let encryption = person.enroll(&office, &office.letter, now());
    let (signing, ca) = (person.certificate(), office.ca());

    path::verify(&signing, &[], std::slice::from_ref(&ca), Purpose::Signing, now()).unwrap();
    path::verify(&encryption[0], &[], std::slice::from_ref(&ca), Purpose::Encryption, now()).unwrap();
    assert_eq!(signing.emails(), [ADMINISTRATOR]);
    assert_eq!(encryption.len(), 1);
    assert_eq!(state_of_letter(&office, reference), TemporaryKeyState::Used);
    assert_eq!(state_of_certificate(&office, &signing), CertificateState::Current);
    let found = office.authority().search_certificates("Admin@Example.org", now()).unwrap();
    assert_eq!(found, [encryption[0].as_der()]);
    assert!(office.authority().search_certificates("nobody@example.org", now()).unwrap().is_empty());
}

#[test]
fn the_same_request_gets_the_same_reply_and_another_one_with_its_transaction_id_gets_none() {
    let office = Office::new();
    let (person, letter) = (Person::new(), &office.letter);
    let request = person.request(letter, USUAL, now());
    let reply = office.post(&request, now()).bytes;
    assert_eq!(office.post(&request, later(1)).bytes, reply);

    let mut header = Person::header(letter, now());
    header.transaction_id = read(&request).header().transaction_id.clone();
    let other = crate::cmp::Draft::new(header, read(&request).body().clone());
    let other = protect(other, &letter.temporary_key);
    let (reasons, _) = refusal(&other, &office.post(&other, now()).bytes, &letter.temporary_key);
    assert!(reasons.contains(PkiFailureInfo::TRANSACTION_ID_IN_USE));

    Person::confirm(&office, letter, &request, &reply, now());
    assert_eq!(office.post(&request, later(1)).bytes, reply, "after the confirmation as well");
}

#[test]
fn of_two_enrollments_with_one_letter_exactly_one_wins() {
    let office = Office::new();
    let people = [Person::new(), Person::new()];
    let requests: Vec<_> = people.iter().map(|person| person.request(&office.letter, USUAL, now())).collect();
    let replies: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = requests
            .iter()
            .map(|request| scope.spawn(|| office.authority().answer_cmp(request, [192, 0, 2, 1].into(), now())))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap().bytes).collect()
    });
    let won = replies.iter().filter(|reply| matches!(read(reply).body(), PkiBody::Ip(_))).count();
    assert_eq!(won, 1);
    let lost = replies.iter().position(|reply| matches!(read(reply).body(), PkiBody::Error(_))).unwrap();
    let (reasons, text) = refusal(&requests[lost], &replies[lost], &office.letter.temporary_key);
    assert!(reasons.contains(PkiFailureInfo::NOT_AUTHORIZED), "{text}");
}

#[test]
fn copies_of_one_request_at_the_same_moment_get_one_reply() {
    let office = Office::new();
    let person = Person::new();
    let request = person.request(&office.letter, USUAL, now());
    let replies: Vec<_> = std::thread::scope(|scope| {
        let post = || office.authority().answer_cmp(&request, [192, 0, 2, 1].into(), now()).bytes;
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(post)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(replies.windows(2).all(|pair| pair[0] == pair[1]));
    assert_eq!(person.install(&office.letter, &request, &replies[0]).len(), 1);
}

#[test]
fn an_unknown_reference_and_a_wrong_temporary_key_get_the_same_answer() {
    let office = Office::new();
    let person = Person::new();
    let mut wrong = office.letter.clone();
    wrong.temporary_key = TemporaryKey::from_mac(&[7; 32]);
    let mut unknown = wrong.clone();
    unknown.reference = crate::letter::Reference::new(crate::letter::Purpose::Enroll, [9; 5]);
    let mut answers = Vec::new();
    for letter in [&wrong, &unknown] {
        let request = person.request(letter, USUAL, now());
        let answer = office.post(&request, now());
        let Ok(Reply::UnprovenError(error)) =
            check_reply(&read(&request), &answer.bytes, letter.temporary_key.cmp_secret())
        else {
            panic!("no unprotected refusal")
        };
        assert!(error.status.reasons().contains(PkiFailureInfo::BAD_MESSAGE_CHECK));
        assert!(!answer.delay.is_zero(), "delayed");
        answers.push(error);
    }
    assert_eq!(answers[0], answers[1]);
    let reference = office.letter.reference.as_str();
    assert_eq!(state_of_letter(&office, reference), TemporaryKeyState::Unused, "never locked");
    person.enroll(&office, &office.letter, now());
}

#[test]
fn used_expired_and_voided_are_told_to_whom_has_the_temporary_key_only() {
    let office = Office::new();
    let administrator = office.administrator();
    let first = office.letter_for(&administrator, "user@example.org");
    let second = office.letter_for(&administrator, "user@example.org");
    let person = Person::new();
    for (letter, at, word) in [
        (&office.letter, now(), "already used"),
        (&first, now(), "replaced by a newer one"),
        (&second, later(15 * 24 * 60), "was good until"),
    ] {
        for message in [person.request(letter, USUAL, at), question(letter, &[oid::IT_CA_CERTS], at)] {
            let (reasons, text) = refusal(&message, &office.post(&message, at).bytes, &letter.temporary_key);
            assert!(reasons.contains(PkiFailureInfo::NOT_AUTHORIZED) && text.contains(word), "{text}");
        }
    }
    person.enroll(&office, &second, now());
}

#[test]
fn genm_tells_about_the_authority_and_uses_nothing_up() {
    let office = Office::new();
    let letter = &office.letter;
    let message = question(letter, &[oid::IT_CA_CERTS, oid::IT_SIGN_KEY_PAIR_TYPES], now());
    for _ in 0..2 {
        let answer = proven(&message, &office.post(&message, now()).bytes, &letter.temporary_key);
        let PkiBody::Genp(told) = answer.body() else { panic!("no genp") };
        assert_eq!(told.ca_certs().unwrap().unwrap()[0].to_vec().unwrap(), office.ca().as_der());
        assert_eq!(told.sign_key_pair_types().unwrap().unwrap()[0].oid.to_string(), "1.2.840.10045.2.1");
    }
    assert_eq!(state_of_letter(&office, letter.reference.as_str()), TemporaryKeyState::Unused);
}

#[test]
fn a_refused_reply_is_revoked_and_the_letter_is_good_again() {
    let office = Office::new();
    let (person, letter) = (Person::new(), &office.letter);
    let request = person.request(letter, USUAL, now());
    let reply = office.post(&request, now()).bytes;
    let certificate = parts(&read(&reply)).0;
    let why = PkiStatusInfo::rejection(PkiFailureInfo::INCORRECT_DATA, "the key does not fit");
    let refused = Person::confirmation(letter, &request, &reply, Some(&why), now());
    let answer = office.post(&refused, now()).bytes;
    assert!(matches!(proven(&refused, &answer, &letter.temporary_key).body(), PkiBody::PkiConf(_)));
    assert_eq!(office.post(&refused, now()).bytes, answer, "again");
    assert_eq!(state_of_certificate(&office, &certificate), CertificateState::Revoked);
    assert_eq!(state_of_letter(&office, letter.reference.as_str()), TemporaryKeyState::Unused);

    let (reasons, _) = refusal(&request, &office.post(&request, now()).bytes, &letter.temporary_key);
    assert!(reasons.contains(PkiFailureInfo::TRANSACTION_ID_IN_USE), "a replay does not restart it");
    person.enroll(&office, letter, now());
}

#[test]
fn an_error_in_the_transaction_gives_the_letter_back_and_not_after_the_confirmation() {
    let office = Office::new();
    let (person, letter) = (Person::new(), &office.letter);
    let request = person.request(letter, USUAL, now());
    let reply = office.post(&request, now()).bytes;
    let why = || PkiStatusInfo::rejection(PkiFailureInfo::BAD_MESSAGE_CHECK, "tampered");
    let error = protect(reject(&read(&request), None, why(), now()).unwrap(), &letter.temporary_key);
    let answer = office.post(&error, now()).bytes;
    assert!(matches!(proven(&error, &answer, &letter.temporary_key).body(), PkiBody::PkiConf(_)));
    assert_eq!(state_of_letter(&office, letter.reference.as_str()), TemporaryKeyState::Unused);
    let late = Person::confirmation(letter, &request, &reply, None, now());
    let (reasons, _) = refusal(&late, &office.post(&late, now()).bytes, &letter.temporary_key);
    assert!(reasons.contains(PkiFailureInfo::CERT_REVOKED));

    let request = person.request(letter, USUAL, now());
    let reply = office.post(&request, now()).bytes;
    Person::confirm(&office, letter, &request, &reply, now());
    let error = protect(reject(&read(&request), None, why(), now()).unwrap(), &letter.temporary_key);
    let (reasons, _) = refusal(&error, &office.post(&error, now()).bytes, &letter.temporary_key);
    assert!(reasons.contains(PkiFailureInfo::CERT_CONFIRMED));
    assert_eq!(state_of_letter(&office, letter.reference.as_str()), TemporaryKeyState::Used);
}

#[test]
fn a_confirmation_said_again_in_other_bytes_is_confirmed_again() {
    let office = Office::new();
    let (person, letter) = (Person::new(), &office.letter);
    let request = person.request(letter, USUAL, now());
    let reply = office.post(&request, now()).bytes;
    for _ in 0..2 {
        assert!(matches!(Person::confirm(&office, letter, &request, &reply, now()).body(), PkiBody::PkiConf(_)));
    }
}

#[test]
fn what_nobody_confirms_is_swept_and_the_same_message_begins_again() {
    let office = Office::new();
    let (person, letter) = (Person::new(), &office.letter);
    let request = person.request(letter, USUAL, now());
    let first = office.post(&request, now()).bytes;
    assert_eq!(office.authority().sweep(later(9)).unwrap(), 0);
    assert_eq!(office.authority().sweep(later(11)).unwrap(), 1);
    assert_eq!(state_of_certificate(&office, &parts(&read(&first)).0), CertificateState::Revoked);
    assert_eq!(state_of_letter(&office, letter.reference.as_str()), TemporaryKeyState::Unused);

    let second = office.post(&request, later(12)).bytes;
    assert_ne!(second, first);
    person.install(letter, &request, &second);
    Person::confirm(&office, letter, &request, &second, later(12));
}

#[test]
fn a_reply_is_given_again_for_thirty_days_and_then_forgotten() {
    let days = |days: i64| later(days * 24 * 60);
    let office = Office::new();
    let (person, letter) = (Person::new(), &office.letter);
    let request = person.request(letter, USUAL, now());
    let reply = office.post(&request, now()).bytes;
    let confirmation = Person::confirmation(letter, &request, &reply, None, now());
    let confirmed = office.post(&confirmation, now()).bytes;
    let stored = || office.authority().store.transaction(&transaction_of(&request)).unwrap().unwrap();

    office.authority().sweep(days(30)).unwrap();
    assert_eq!(office.post(&request, days(30)).bytes, reply);
    assert_eq!(office.post(&confirmation, days(30)).bytes, confirmed);

    office.authority().sweep(days(31)).unwrap();
    assert!(stored().reply.is_none() && stored().confirmation_reply.is_none());
    let (_, text) = refusal(&request, &office.post(&request, days(31)).bytes, &letter.temporary_key);
    assert!(text.contains("30 days") && text.contains("administrator"), "{text}");
    // A client that installed the keys but missed pkiConf still gets it; others do not.
    let answer = office.post(&confirmation, days(31)).bytes;
    assert!(matches!(proven(&confirmation, &answer, &letter.temporary_key).body(), PkiBody::PkiConf(_)));
    let late = Person::confirmation(letter, &request, &reply, None, days(31));
    let (_, text) = refusal(&late, &office.post(&late, days(31)).bytes, &letter.temporary_key);
    assert!(text.contains("30 days"), "{text}");
    assert_eq!(state_of_certificate(&office, &parts(&read(&reply)).0), CertificateState::Current);

    // An open transaction is kept, however long it takes.
    let office = Office::new();
    let request = person.request(&office.letter, USUAL, now());
    let reply = office.post(&request, now()).bytes;
    office.authority().store.forget_replies(days(400)).unwrap();
    assert_eq!(office.post(&request, now()).bytes, reply);
}

fn transaction_of(request: &[u8]) -> Vec<u8> {
    read(request).header().transaction().unwrap().to_vec()
}

#[test]
fn an_old_client_gets_a_signing_certificate_alone() {
    let office = Office::new();
    let (person, letter) = (Person::new(), &office.letter);
    let wish = Wish { encryption: false, implicit_confirm: true, level: None };
    let request = person.request(letter, wish, now());
    let reply = office.post(&request, now()).bytes;
    let message = proven(&request, &reply, &letter.temporary_key);
    assert!(message.header().general_info.as_deref().unwrap().has_implicit_confirm());
    let (signing, keys) = parts(&message);
    assert!(keys.is_empty());
    assert_eq!(state_of_certificate(&office, &signing), CertificateState::Current, "confirmed implicitly");
    assert_eq!(state_of_letter(&office, letter.reference.as_str()), TemporaryKeyState::Used);
}

#[test]
fn what_is_not_in_order_is_refused_and_uses_nothing_up() {
    let office = Office::new();
    let (person, letter) = (Person::new(), &office.letter);
    let good = || person.draft_of(letter, USUAL, now()).ir();
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
                let other = Person::new().draft_of(letter, USUAL, now()).ir();
                m[0].popo.clone_from(&messages_of(&other.body)[0].popo);
            }),
            PkiFailureInfo::BAD_POP,
        ),
        ("two signing keys", with(&|m| m[1] = m[0].clone()), PkiFailureInfo::BAD_REQUEST),
        ("only an encryption key", with(&|m| drop(m.remove(0))), PkiFailureInfo::BAD_REQUEST),
        ("nothing", with(&Vec::clear), PkiFailureInfo::BAD_REQUEST),
        ("pvno 3", with_header(&|h| h.pvno = Pvno::CMP2021), PkiFailureInfo::BAD_REQUEST),
        ("a krr with an E reference", person.draft_of(letter, USUAL, now()).krr(), PkiFailureInfo::BAD_REQUEST),
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
        let (reasons, text) = refusal(&message, &office.post(&message, now()).bytes, &letter.temporary_key);
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
        let answer = office.post(&protect(draft, &letter.temporary_key), now()).bytes;
        let PkiBody::Error(error) = read(&answer).body().clone() else { panic!("{what}: not refused") };
        assert!(error.status.reasons().contains(reason), "{what}: {}", error.status);
    }
    let unprotected = office.post(&good().unprotected().unwrap(), now()).bytes;
    assert!(matches!(read(&unprotected).body(), PkiBody::Error(_)));
    assert!(matches!(read(&office.post(b"no message", now()).bytes).body(), PkiBody::Error(_)));

    assert_eq!(state_of_letter(&office, letter.reference.as_str()), TemporaryKeyState::Unused);
    person.enroll(&office, letter, now());
}

#[test]
fn a_level_that_the_letter_does_not_allow_is_refused() {
    let office = Office::new();
    let administrator = office.administrator();
    let issue = crate::statement::Operation::Issue {
        email: "user@example.org".into(),
        name: Some("User".into()),
        levels: Some(vec![SecurityLevel::High]),
        valid_for_seconds: Some(3600),
    };
    let letter = administrator.letter_in(office.state(&administrator, issue, now()).unwrap());
    assert_eq!(letter.levels, [SecurityLevel::High]);
    let person = Person::new();
    for level in [Some(SecurityLevel::Low), None] {
        let request = person.request(&letter, Wish { level, ..USUAL }, now());
        let (reasons, text) = refusal(&request, &office.post(&request, now()).bytes, &letter.temporary_key);
        assert!(reasons.contains(PkiFailureInfo::UNACCEPTED_POLICY) && text.contains("high"), "{text}");
        assert_eq!(text.contains("--levels low"), level.is_none(), "{text}");
    }
    person.enroll(&office, &letter, now());
}
