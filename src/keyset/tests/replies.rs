//! Unusable replies: refused as a whole, reported to the authority, and the token is restored.

use der::asn1::{BitString, OctetString};

use super::authority_double::unreachable;
use super::*;
use crate::cmp::{
    CertOrEncCert, CertRepMessage, CertificateDer, Draft, EncryptedKey, MacProtection, PkiBody, PkiFailureInfo,
    PkiMessage, PkiStatusInfo,
};
use crate::letter::TemporaryKey;
use crate::pki::test_support::{SoftwareKey, TestAuthority};
use crate::token::test_support::kryoptic;
use crate::transport::TransportError;

type Bend = fn(&AuthorityDouble, &Letter, Vec<u8>) -> Result<Vec<u8>, TransportError>;

/// Modifies the reply to `ir`, each time once for a re-enrollment and once for a new token.
#[track_caller]
fn refused(bends: &[Bend]) {
    let double = AuthorityDouble::new();
    let wallet = somebody(&double);
    let token = wallet.keyset("a").token;
    let (before, labels) = (wallet.inventory(&token, PIN), wallet.labels());
    for options in [wallet.again("a"), wallet.on_new_token("b")] {
        let letter = double.letter(LetterPurpose::Enroll);
        for bend in bends {
            let (bend, known) = (*bend, letter.clone());
            double.bend(move |double, kind, reply| if kind == "ir" { bend(double, &known, reply) } else { Ok(reply) });
            let not = not_enrolled(run(&double, &wallet, &letter, &options, &mut Script::with(PIN)));
            assert!(matches!(not.reason, NotEnrolledReason::BadReply(_)), "{not:?}");
            assert_eq!(not.kind(), ErrorKind::Refused);
            assert_eq!(double.seen(), ["genm", "ir", "error"], "{not}");
            assert_eq!(wallet.inventory(&token, PIN), before, "{not}");
            assert_eq!(wallet.labels(), labels, "{not}");
        }
    }
    // The authority has released the letter each time: an unmodified reply enrolls.
    let letter = double.letter(LetterPurpose::Enroll);
    let (bend, known) = (bends[0], letter.clone());
    double.bend(move |double, kind, reply| if kind == "ir" { bend(double, &known, reply) } else { Ok(reply) });
    not_enrolled(run(&double, &wallet, &letter, &wallet.again("a"), &mut Script::with(PIN)));
    double.straight();
    enrolled(run(&double, &wallet, &letter, &wallet.again("a"), &mut Script::with(PIN)));
}

#[test]
fn another_persons_certificates_are_never_installed() {
    let double = AuthorityDouble::new();
    let wallet = somebody(&double);
    let token = wallet.keyset("a").token;
    let (before, labels) = (wallet.inventory(&token, PIN), wallet.labels());
    // The keyset belongs to user@example.org, as do all certificates of this authority.
    for options in [wallet.on_new_token("b"), EnrollOptions { replace_person: true, ..wallet.again("a") }] {
        let other = Letter { email: "other@example.org".into(), ..double.letter(LetterPurpose::Enroll) };
        if options.replace_person {
            // The option permits certificates of another person.
            enrolled(run(&double, &wallet, &other, &options, &mut Script::with(PIN)));
            continue;
        }
        let not = not_enrolled(run(&double, &wallet, &other, &options, &mut Script::with(PIN)));
        assert!(matches!(not.reason, NotEnrolledReason::BadReply(_)), "{not:?}");
        assert!(not.to_string().contains("certifies") && not.to_string().contains("user@example.org"), "{not}");
        assert_eq!(double.seen(), ["genm", "ir", "error"], "{not}");
        assert_eq!((wallet.inventory(&token, PIN), wallet.labels()), (before.clone(), labels.clone()), "{not}");
    }
}

/// A modified reply with a valid MAC, by someone who knows the temporary key. The result of a
/// [`Bend`].
#[allow(clippy::unnecessary_wraps)] // a `Bend` returns a `Result`
fn rewritten(letter: &Letter, reply: &[u8], change: impl FnOnce(&mut Draft)) -> Result<Vec<u8>, TransportError> {
    let reply = PkiMessage::from_der(reply).unwrap();
    let mut draft = Draft::new(reply.header().clone(), reply.body().clone());
    change(&mut draft);
    Ok(draft.protect_with_mac(letter.temporary_key.cmp_secret(), &MacProtection::pbm().unwrap()).unwrap())
}

fn with_ip(letter: &Letter, reply: &[u8], change: impl FnOnce(&mut CertRepMessage)) -> Result<Vec<u8>, TransportError> {
    rewritten(letter, reply, |draft| {
        let PkiBody::Ip(ip) = &mut draft.body else { panic!("{}", draft.body.name()) };
        change(ip);
    })
}

fn certificate(authority: &TestAuthority, profile: &str, key: &SoftwareKey) -> CertificateDer {
    CertificateDer::new(authority.issue(profile, "Example, User", key).as_der()).unwrap()
}

#[test]
fn a_changed_reply_is_refused() {
    refused(&[|_, _, mut reply| {
        let middle = reply.len() / 2;
        reply[middle] ^= 1;
        Ok(reply)
    }]);
}

#[test]
fn a_truncated_reply_is_refused() {
    refused(&[
        |_, _, mut reply| {
            reply.truncate(reply.len() - 1);
            Ok(reply)
        },
        |_, _, _| Ok(Vec::new()),
        |_, _, _| Err(TransportError::BadResponse { url: "http://a".into(), reason: "it is cut off".into() }),
    ]);
}

#[test]
fn a_reply_to_another_message_is_refused() {
    refused(&[
        |_, letter, reply| {
            rewritten(letter, &reply, |draft| {
                draft.header.transaction_id = Some(OctetString::new(vec![1; 16]).unwrap());
            })
        },
        |_, letter, reply| {
            rewritten(letter, &reply, |draft| draft.header.recip_nonce = Some(OctetString::new(vec![1; 16]).unwrap()))
        },
    ]);
}

#[test]
fn a_reply_without_the_letters_mac_is_refused() {
    refused(&[
        |_, letter, reply| {
            let other = Letter { temporary_key: TemporaryKey::from_mac(&[1; 32]), ..letter.clone() };
            rewritten(&other, &reply, |_| {})
        },
        |_, _, reply| {
            let reply = PkiMessage::from_der(&reply).unwrap();
            let why = PkiStatusInfo::rejection(PkiFailureInfo::BAD_MESSAGE_CHECK, "go away");
            Ok(Draft::new(reply.header().clone(), PkiBody::Error(why.into())).unprotected().unwrap())
        },
    ]);
}

#[test]
fn a_reply_of_another_kind_is_refused() {
    refused(&[|_, letter, reply| rewritten(letter, &reply, |draft| draft.body = PkiBody::pki_conf())]);
}

#[test]
fn a_reply_with_another_ca_fingerprint_is_refused() {
    refused(&[
        |_, letter, reply| {
            let other = TestAuthority::new("Example Authority", SoftwareKey::p256());
            with_ip(letter, &reply, |ip| {
                ip.ca_pubs = Some(vec![CertificateDer::new(other.certificate.as_der()).unwrap()]);
            })
        },
        |_, letter, reply| with_ip(letter, &reply, |ip| ip.ca_pubs = None),
        |_, letter, reply| {
            let other = TestAuthority::new("Example Authority", SoftwareKey::p256());
            with_ip(letter, &reply, |ip| {
                let key_pair = ip.response[1].certified_key_pair.as_mut().unwrap();
                key_pair.cert_or_enc_cert =
                    CertOrEncCert::Certificate(certificate(&other, "encryption", &SoftwareKey::p256()));
            })
        },
    ]);
}

#[test]
fn a_certificate_for_another_signing_key_is_refused() {
    refused(&[|double, letter, reply| {
        let other = certificate(&double.ca, "signing", &SoftwareKey::p256());
        with_ip(letter, &reply, |ip| {
            let key_pair = ip.response[0].certified_key_pair.as_mut().unwrap();
            key_pair.cert_or_enc_cert = CertOrEncCert::Certificate(other);
        })
    }]);
}

#[test]
fn a_key_that_does_not_match_its_certificate_is_refused() {
    refused(&[|double, letter, reply| {
        let other = certificate(&double.ca, "encryption", &SoftwareKey::p256());
        with_ip(letter, &reply, |ip| {
            let key_pair = ip.response[1].certified_key_pair.as_mut().unwrap();
            key_pair.cert_or_enc_cert = CertOrEncCert::Certificate(other);
        })
    }]);
}

#[test]
fn a_changed_or_missing_encryption_key_is_refused() {
    refused(&[
        |_, letter, reply| {
            with_ip(letter, &reply, |ip| {
                let key_pair = ip.response[1].certified_key_pair.as_mut().unwrap();
                let Some(EncryptedKey::EncryptedValue(value)) = &mut key_pair.private_key else { panic!() };
                let mut bytes = value.enc_value.as_bytes().unwrap().to_vec();
                bytes[20] ^= 1;
                value.enc_value = BitString::from_bytes(&bytes).unwrap();
            })
        },
        |_, letter, reply| {
            with_ip(letter, &reply, |ip| ip.response[1].certified_key_pair.as_mut().unwrap().private_key = None)
        },
        |_, letter, reply| with_ip(letter, &reply, |ip| ip.response.truncate(1)),
    ]);
}

#[test]
fn an_emptied_new_token_is_reused_on_other_modules_too() {
    let Some(kryoptic) = kryoptic() else { return };
    let double = AuthorityDouble::new();
    let wallet = Wallet::of(kryoptic);
    let letter = double.letter(LetterPurpose::Enroll);
    double.bend(|_, kind, mut reply| {
        let middle = reply.len() / 2;
        reply[middle] ^= u8::from(kind == "ir");
        Ok(reply)
    });
    for _ in 0..2 {
        let not = not_enrolled(run(&double, &wallet, &letter, &wallet.on_new_token("a"), &mut Script::with(PIN)));
        assert!(matches!(not.reason, NotEnrolledReason::BadReply(_)), "{not:?}");
        assert!(wallet.labels().is_empty());
    }
    double.straight();
    enrolled(run(&double, &wallet, &letter, &wallet.on_new_token("a"), &mut Script::with(PIN)));
    enrolled(run(&double, &wallet, &double.letter(LetterPurpose::Enroll), &wallet.again("a"), &mut Script::with(PIN)));
    delete(&wallet.tokens, &wallet.keyset("a"), &mut Script::with(PIN)).unwrap();
}

#[test]
fn a_refusal_of_the_authority_leaves_nothing() {
    let double = AuthorityDouble::new();
    let wallet = somebody(&double);
    let token = wallet.keyset("a").token;
    let before = wallet.inventory(&token, PIN);
    let letter = double.letter(LetterPurpose::Enroll);
    let known = letter.clone();
    double.bend(move |_, kind, reply| {
        let why = PkiStatusInfo::rejection(PkiFailureInfo::NOT_AUTHORIZED, "not today");
        if kind == "ir" {
            rewritten(&known, &reply, |draft| draft.body = PkiBody::Error(why.into()))
        } else {
            Ok(reply)
        }
    });
    for options in [wallet.again("a"), wallet.on_new_token("b")] {
        let labels = wallet.labels();
        let not = not_enrolled(run(&double, &wallet, &letter, &options, &mut Script::with(PIN)));
        assert!(matches!(&not.reason, NotEnrolledReason::Rejected(text) if text.contains("not today")), "{not:?}");
        assert_eq!(wallet.inventory(&token, PIN), before);
        assert_eq!(wallet.labels(), labels);
    }
}

/// The response to the confirmation is lost or unverifiable: the authority may have confirmed, so
/// nothing is rolled back.
#[test]
fn a_confirmation_without_a_valid_answer_is_sent_again() {
    let bends: [Bend; 3] = [
        |_, _, _| Err(unreachable()),
        |_, _, mut reply| {
            reply.truncate(9);
            Ok(reply)
        },
        |_, _, reply| {
            let reply = PkiMessage::from_der(&reply).unwrap();
            let why = PkiStatusInfo::rejection(PkiFailureInfo::BAD_MESSAGE_CHECK, "go away");
            Ok(Draft::new(reply.header().clone(), PkiBody::Error(why.into())).unprotected().unwrap())
        },
    ];
    for bend in bends {
        let double = AuthorityDouble::new();
        let wallet = Wallet::new();
        let letter = double.letter(LetterPurpose::Enroll);
        let known = letter.clone();
        double
            .bend(move |double, kind, reply| if kind == "certConf" { bend(double, &known, reply) } else { Ok(reply) });
        let options = wallet.on_new_token("a");
        let not = not_enrolled(run(&double, &wallet, &letter, &options, &mut Script::with(PIN)));
        assert!(matches!(not.reason, NotEnrolledReason::Interrupted(_)), "{not:?}");
        assert!(not.to_string().contains("same letter"), "{not}");
        double.straight();
        double.seen();
        let enrolled = enrolled(run(&double, &wallet, &letter, &options, &mut Script::with(PIN)));
        assert!(enrolled.resumed);
        assert_eq!(double.seen(), ["certConf"]);
    }
}
