//! A known reference costs exactly as much work as an unknown one, so that timing reveals nothing.

use super::support::*;
use crate::authority::token_keys::MAC_COUNT;
use crate::cmp::{MacProtection, PkiBody, PkiMessage, ROUNDS, verify_mac};
use crate::letter::{Letter, LetterPurpose, Reference, TemporaryKey};

/// The work of the authority for a message (MACs by the token, hash iterations), and its reply.
fn work(fixture: &AuthorityFixture, letter: &Letter, secret: &[u8], how: &MacProtection) -> (u64, u64, PkiMessage) {
    let draft = TestClient::new().draft_of(letter, DEFAULT_OPTIONS, now()).ir();
    let message = draft.protect_with_mac(secret, how).unwrap();
    let before = (MAC_COUNT.get(), ROUNDS.get());
    let answer = fixture.post(&message, now()).bytes;
    let done = (MAC_COUNT.get() - before.0, ROUNDS.get() - before.1);
    (done.0, done.1, PkiMessage::from_der(&answer).unwrap())
}

#[test]
fn a_known_reference_takes_as_long_as_an_unknown_one() {
    let fixture = AuthorityFixture::new();
    let known = &fixture.letter;
    let wrong = TemporaryKey::from_mac(&[7; 32]);
    let unknown = Letter { reference: Reference::new(LetterPurpose::Enroll, [9; 5]), ..known.clone() };
    for how in [MacProtection::pbm().unwrap(), MacProtection::pbmac1().unwrap()] {
        let of_known = work(&fixture, known, wrong.cmp_secret(), &how);
        let of_unknown = work(&fixture, &unknown, wrong.cmp_secret(), &how);
        assert_eq!((of_known.0, of_known.1), (of_unknown.0, of_unknown.1), "{how:?}");
        assert!(of_known.0 == 2 && of_known.1 >= 4_000, "not counted: {of_known:?}");
    }
}

#[test]
fn the_temporary_key_is_taken_as_people_type_it_from_the_letter() {
    let fixture = AuthorityFixture::new();
    let spellings = fixture.letter.temporary_key.spellings();
    let pbm = MacProtection::pbm().unwrap();
    for spelling in &spellings {
        let (_, _, answer) = work(&fixture, &fixture.letter, spelling.as_bytes(), &pbm);
        // After the first message the letter belongs to another transaction; any reply is protected
        // with the client's spelling.
        assert!(verify_mac(&answer, spelling.as_bytes()).is_ok(), "{}", answer.body().name());
    }
    // With many iterations only one spelling is tried.
    let pbmac1 = MacProtection::pbmac1().unwrap();
    for (at, spelling) in spellings.iter().enumerate() {
        let (_, _, answer) = work(&fixture, &fixture.letter, spelling.as_bytes(), &pbmac1);
        assert_eq!(verify_mac(&answer, spelling.as_bytes()).is_ok(), at == 0);
        assert!(matches!(answer.body(), PkiBody::Error(_)));
    }
}
