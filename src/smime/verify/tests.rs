//! Tests of the verdicts on signers.

use jiff::SignedDuration;

use super::*;
use crate::pki::test_support::odd_certificates::{CN, OddCertificate, OddSigner, UTF8, name};
use crate::pki::test_support::{SoftwareKey, TestAuthority, now};
use crate::smime::{Placement, SigningOptions, sign};

struct SignedFixture {
    message: Message,
    certificate: Certificate,
    authority: Certificate,
}

/// A message signed at this time, with a certificate of this profile.
fn signed(profile: &str, signing_time: Timestamp) -> SignedFixture {
    let authority = TestAuthority::new("Example Authority", SoftwareKey::p256());
    let key = SoftwareKey::p256();
    let certificate = authority.issue(profile, "Example, User", &key);
    let signing = SigningOptions {
        certificate: &certificate,
        chain: &[],
        placement: Placement::Attached,
        signing_time,
        content_type: ContentType::DATA,
    };
    let cms = sign(b"content", &signing, &key).unwrap();
    SignedFixture { message: Message::read(&cms).unwrap(), certificate, authority: authority.certificate }
}

fn report_at(signed: &SignedFixture, anchors: &[Certificate], now: Timestamp) -> SignerReport {
    let mut verified = verify(&signed.message, None, &[], anchors, now).unwrap();
    assert_eq!(verified.content, b"content");
    assert_eq!(verified.signers.len(), 1);
    assert_eq!(verified.is_good(), verified.signers[0].verdict == SignatureVerdict::Good);
    verified.signers.remove(0)
}

#[test]
fn a_good_signature_reports_signer_and_time() {
    let time = now();
    let signed = signed("signing", time);
    let report = report_at(&signed, std::slice::from_ref(&signed.authority), now());
    assert_eq!(report.verdict, SignatureVerdict::Good);
    assert_eq!(report.name, "Example, User");
    assert_eq!(report.emails, ["user@example.org"]);
    assert_eq!(report.certificate, Some(signed.certificate));
    assert_eq!(report.signing_time.unwrap().as_second(), time.as_second());
}

#[test]
fn of_several_certificates_the_trusted_one_counts() {
    let (key, ours, theirs) = (SoftwareKey::p256(), SoftwareKey::p256(), SoftwareKey::p256());
    let issuer = name(&[(CN, UTF8, b"Example Authority")]);
    let person = OddCertificate::person(&issuer, &name(&[(CN, UTF8, b"Alice")]));
    let (known, unknown) = (person.sign(&key, &ours), person.sign(&key, &theirs));
    let anchor = OddCertificate::authority(&issuer, &issuer, &[]).sign(&ours, &ours);
    let anchor = Certificate::from_foreign_der(&anchor).unwrap();
    let signer = OddSigner::new(&key, &issuer, &[77]);
    for certificates in [[&known[..], &unknown], [&unknown, &known]] {
        let message = Message::read(&signer.message(b"content", &certificates)).unwrap();
        let verified = verify(&message, None, &[], std::slice::from_ref(&anchor), now()).unwrap();
        assert!(verified.is_good(), "{:?}", verified.signers);
        assert_eq!(verified.signers[0].certificate.as_ref().unwrap().as_der(), known);
    }
}

/// The cost of verifying a message with these certificates: the verdict, the number of verified
/// signatures, and whether the limit was exceeded.
fn cost(
    signer: &OddSigner<'_>,
    known: &[Certificate],
    brought: &[Vec<u8>],
    anchor: &[u8],
) -> (SignatureVerdict, usize, bool) {
    let certificates: Vec<&[u8]> = brought.iter().map(Vec::as_slice).collect();
    let message = Message::read(&signer.message(b"content", &certificates)).unwrap();
    let anchor = Certificate::from_foreign_der(anchor).unwrap();
    let work = WorkLeft::for_message();
    let mut verified = verify_within(&message, None, known, &[anchor], now(), &work).unwrap();
    let (before, after) = (WorkLeft::for_message().state(), work.state());
    (verified.signers.remove(0).verdict, before.0 - after.0, after.2)
}

#[test]
fn the_work_for_one_message_is_bounded() {
    let (key, theirs, ours) = (SoftwareKey::p256(), SoftwareKey::p256(), SoftwareKey::p256());
    let (issuer, root) = (name(&[(CN, UTF8, b"Example Authority")]), name(&[(CN, UTF8, b"Root")]));
    let person = OddCertificate::person(&issuer, &name(&[(CN, UTF8, b"Alice")]));
    let signer = OddSigner::new(&key, &issuer, &[77]);
    let leaf = Certificate::from_foreign_der(&person.sign(&key, &theirs)).unwrap();
    // Each of these CA certificates appears to have issued the leaf, every other one, and itself.
    let crowd: Vec<Vec<u8>> = (0..64)
        .map(|serial| {
            let authority = OddCertificate::authority(&issuer, &issuer, &[]);
            OddCertificate { serial: vec![serial], ..authority }.sign(&theirs, &theirs)
        })
        .collect();
    let stranger = OddCertificate::authority(&root, &root, &[]).sign(&ours, &ours);
    let (verdict, signatures, is_over) = cost(&signer, std::slice::from_ref(&leaf), &crowd, &stranger);
    assert!(
        matches!(&verdict, SignatureVerdict::Unchecked { reason } if reason.contains("too many certificates")),
        "{verdict:?}"
    );
    assert_eq!((signatures, is_over), (256, true));
    // If an authority is trusted, the path to it is tried first.
    let anchor = OddCertificate::authority(&issuer, &issuer, &[]).sign(&theirs, &theirs);
    assert_eq!(cost(&signer, &[leaf], &crowd, &anchor), (SignatureVerdict::Good, 2, false));

    // The first trusted certificate ends the search. If none is trusted, each is tried once.
    let leaves: Vec<Vec<u8>> = (0..64)
        .map(|number: u8| {
            let subject = name(&[(CN, UTF8, &[b'A' + number % 26, b'a' + number / 26])]);
            OddCertificate { subject, ..OddCertificate::person(&issuer, &[]) }.sign(&key, &theirs)
        })
        .collect();
    assert_eq!(cost(&signer, &[], &leaves, &anchor), (SignatureVerdict::Good, 2, false));
    let (verdict, signatures, is_over) = cost(&signer, &[], &leaves, &stranger);
    assert!(matches!(verdict, SignatureVerdict::UnknownIssuer(_)), "{verdict:?}");
    assert_eq!((signatures, is_over), (64, false));
}

#[test]
fn unknown_signers_are_untrusted_and_not_invalid() {
    let signed = signed("signing", now());
    let other = TestAuthority::new("Example Authority", SoftwareKey::p256()).certificate;
    for anchors in [&[][..], &[other]] {
        let report = report_at(&signed, anchors, now());
        assert!(
            matches!(report.verdict, SignatureVerdict::UnknownIssuer(PathProblem::UnknownIssuer { .. })),
            "{report:?}"
        );
    }
}

#[test]
fn an_authority_in_the_message_is_not_a_trust_anchor() {
    let authority = TestAuthority::new("Example Authority", SoftwareKey::p256());
    let key = SoftwareKey::p256();
    let certificate = authority.issue("signing", "Example, User", &key);
    let signing = SigningOptions {
        certificate: &certificate,
        chain: std::slice::from_ref(&authority.certificate),
        placement: Placement::Attached,
        signing_time: now(),
        content_type: ContentType::DATA,
    };
    let message = Message::read(&sign(b"content", &signing, &key).unwrap()).unwrap();
    let verified = verify(&message, None, std::slice::from_ref(&authority.certificate), &[], now()).unwrap();
    assert!(matches!(verified.signers[0].verdict, SignatureVerdict::UnknownIssuer(_)));
}

#[test]
fn an_expired_certificate_is_reported_with_its_state_at_signing() {
    let hour = SignedDuration::from_hours(1);
    let good = signed("signing", now());
    let later = good.certificate.not_after() + hour;
    let report = report_at(&good, std::slice::from_ref(&good.authority), later);
    assert!(matches!(report.verdict, SignatureVerdict::Expired { good_at_signing_time: true, .. }), "{report:?}");
    // A signature made after the end, or "in the future", does not count.
    for (signing_time, at) in [(later, later + hour), (good.certificate.not_after() - hour, now() - hour)] {
        let late = signed("signing", signing_time);
        let report = report_at(&late, std::slice::from_ref(&late.authority), at);
        assert!(matches!(report.verdict, SignatureVerdict::Expired { good_at_signing_time: false, .. }), "{report:?}");
    }
}

#[test]
fn certificates_for_something_else_are_not_trusted() {
    let signed = signed("cmp-response", now());
    let report = report_at(&signed, std::slice::from_ref(&signed.authority), now());
    assert!(matches!(report.verdict, SignatureVerdict::NotTrusted(PathProblem::WrongPurpose { .. })), "{report:?}");
}

#[test]
fn a_detached_signature_needs_its_content() {
    let authority = TestAuthority::new("Example Authority", SoftwareKey::p256());
    let key = SoftwareKey::p256();
    let certificate = authority.issue("signing", "Example, User", &key);
    let signing = SigningOptions {
        certificate: &certificate,
        chain: &[],
        placement: Placement::Detached,
        signing_time: now(),
        content_type: ContentType::DATA,
    };
    let message = Message::read(&sign(b"content", &signing, &key).unwrap()).unwrap();
    let anchors = [authority.certificate];
    assert!(matches!(verify(&message, None, &[], &anchors, now()), Err(SmimeError::NoContent)));
    assert!(verify(&message, Some(b"content"), &[], &anchors, now()).unwrap().is_good());
    let verified = verify(&message, Some(b"Content"), &[], &anchors, now()).unwrap();
    assert!(matches!(verified.signers[0].verdict, SignatureVerdict::SignatureWrong { .. }));
}
