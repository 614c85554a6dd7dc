//! Tests of signing and verification, with OpenSSL on the other side.

use const_oid::ObjectIdentifier;
use der::Encode;

use super::super::sign::attribute;
use super::super::{ContentToSign, SigningCertificate, content_info, oid, sign};
use super::*;
use crate::pki::signature::Hash;
use crate::pki::test_support::odd_certificates::{
    CN, O, OddCertificate, OddSigner, PRINTABLE, UTC, UTF8, attribute as attribute_of, name,
};
use crate::pki::test_support::{SoftwareKey, TestAuthority, TestFiles, now, openssl, try_openssl};
use crate::pki::tlv::element;

mod others;

struct TestSigner {
    files: TestFiles,
    root: String,
    certificate: Certificate,
    signing: SigningCertificate,
    key: SoftwareKey,
}

fn signer(key: SoftwareKey) -> TestSigner {
    let files = TestFiles::new();
    let authority = TestAuthority::new("Example Authority", SoftwareKey::p256());
    let root = files.put_certificate("root.pem", &authority.certificate);
    let certificate = authority.issue("signing", "Example, User", &key);
    let signing = SigningCertificate::new(&certificate, &[authority.certificate]).unwrap();
    TestSigner { files, root, certificate, signing, key }
}

impl TestSigner {
    fn to_sign<'a>(&'a self, content: &'a [u8], detached: bool) -> ContentToSign<'a> {
        ContentToSign {
            content_type: ContentType::DATA,
            content,
            detached,
            signer: &self.signing,
            signing_time: now(),
            capabilities: true,
        }
    }
}

const CONTENT: &[u8] = b"Dear all,\r\nthis is \xff not text.\r\n";

#[test]
fn openssl_verifies_what_we_sign() {
    for key in [SoftwareKey::rsa(), SoftwareKey::p256(), SoftwareKey::p384()] {
        let signer = signer(key);
        for detached in [false, true] {
            let cms = sign(&signer.to_sign(CONTENT, detached), &signer.key).unwrap();
            let content = signer.files.put("content", CONTENT);
            let mut arguments = vec!["cms", "-verify", "-binary", "-inform", "DER", "-CAfile", &signer.root];
            if detached {
                arguments.extend(["-content", &content]);
            }
            assert_eq!(openssl(&arguments, &cms), CONTENT);
            signer.files.put("content", b"something else");
            assert_eq!(try_openssl(&arguments, &cms).is_err(), detached);
            // The message is DER throughout.
            let parsed = ::cms::content_info::ContentInfo::try_from_der(&cms);
            assert_eq!(parsed, cms);
        }
    }
}

trait TryFromDer {
    fn try_from_der(der: &[u8]) -> Vec<u8>;
}

impl TryFromDer for ::cms::content_info::ContentInfo {
    /// Decodes with the `cms` crate and encodes again.
    fn try_from_der(der: &[u8]) -> Vec<u8> {
        use der::Decode;
        let info = Self::from_der(der).unwrap();
        let signed = info.content.decode_as::<::cms::signed_data::SignedData>().unwrap();
        Self { content_type: info.content_type, content: der::Any::encode_from(&signed).unwrap() }.to_der().unwrap()
    }
}

#[test]
fn we_verify_what_openssl_signs() {
    for (key, options) in [
        (SoftwareKey::rsa(), &[][..]),
        (SoftwareKey::rsa(), &["-md", "sha512", "-keyid"]),
        (SoftwareKey::rsa(), &["-keyopt", "rsa_padding_mode:pss"]),
        (SoftwareKey::rsa(), &["-noattr"]),
        (SoftwareKey::p256(), &["-md", "sha256"]),
        (SoftwareKey::p256(), &["-stream", "-indef"]),
        (SoftwareKey::p384(), &["-md", "sha384", "-cades"]),
    ] {
        let signer = signer(key);
        let pem = signer.files.put_certificate("signer.pem", &signer.certificate);
        let key = signer.files.put_key("key.pem", &signer.key);
        for detached in [false, true] {
            let mut arguments = vec!["cms", "-sign", "-binary", "-outform", "DER", "-signer", &pem, "-inkey", &key];
            arguments.extend(options);
            if !detached {
                arguments.push("-nodetach");
            }
            let message = SignedMessage::parse(&openssl(&arguments, CONTENT)).unwrap();
            // OpenSSL includes the content whenever it streams.
            assert_eq!(message.content().is_none(), detached && !options.contains(&"-stream"), "{options:?}");
            let checks = message.verify(detached.then_some(CONTENT), &[]).unwrap();
            let [SignatureCheck::Good { certificate, signing_time }] = &checks[..] else {
                panic!("{options:?} {checks:?}")
            };
            assert_eq!(*certificate, signer.certificate);
            assert_eq!(signing_time.is_some(), !options.contains(&"-noattr"));
            if detached {
                let checks = message.verify(Some(b"something else"), &[]);
                assert!(checks.is_err() || matches!(checks.unwrap()[..], [SignatureCheck::Wrong { .. }]));
            }
            assert_eq!(message.verify(None, &[]).is_err(), message.content().is_none());
        }
    }
}

#[test]
fn the_signer_is_found_among_known_certificates_or_not_at_all() {
    let signer = signer(SoftwareKey::p256());
    let pem = signer.files.put_certificate("signer.pem", &signer.certificate);
    let key = signer.files.put_key("key.pem", &signer.key);
    let arguments = ["cms", "-sign", "-nocerts", "-nodetach", "-outform", "DER", "-signer", &pem, "-inkey", &key];
    let message = SignedMessage::parse(&openssl(&arguments, CONTENT)).unwrap();
    assert!(matches!(message.verify(None, &[]).unwrap()[..], [SignatureCheck::NoCertificate { .. }]));
    let known = [signer.certificate.clone()];
    assert!(matches!(message.verify(None, &known).unwrap()[..], [SignatureCheck::Good { .. }]));
}

#[test]
fn two_signers_are_two_answers() {
    let (one, two) = (signer(SoftwareKey::p256()), signer(SoftwareKey::rsa()));
    let (pem1, key1) = (one.files.put_certificate("s.pem", &one.certificate), one.files.put_key("k.pem", &one.key));
    let (pem2, key2) = (two.files.put_certificate("s.pem", &two.certificate), two.files.put_key("k.pem", &two.key));
    let arguments = ["-signer", &pem1, "-inkey", &key1, "-signer", &pem2, "-inkey", &key2];
    let arguments = [&["cms", "-sign", "-nodetach", "-outform", "DER"], &arguments[..]].concat();
    let message = SignedMessage::parse(&openssl(&arguments, CONTENT)).unwrap();
    let checks = message.verify(None, &[]).unwrap();
    assert!(matches!(checks[..], [SignatureCheck::Good { .. }, SignatureCheck::Good { .. }]), "{checks:?}");
}

/// The message with the first occurrence of some bytes replaced.
fn changed(cms: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let at = cms.windows(from.len()).position(|window| window == from).unwrap();
    let mut changed = cms.to_vec();
    changed[at..at + to.len()].copy_from_slice(to);
    changed
}

#[test]
fn changed_messages_are_not_good() {
    let signer = signer(SoftwareKey::p256());
    let cms = sign(&signer.to_sign(CONTENT, false), &signer.key).unwrap();
    let good = SignedMessage::parse(&cms).unwrap().verify(None, &[]).unwrap();
    assert!(matches!(good[..], [SignatureCheck::Good { .. }]));
    let verify = |cms: &[u8]| SignedMessage::parse(cms).and_then(|message| message.verify(None, &[]));
    // Changes the content, then each of the last 300 octets, which hold attributes and signature.
    let checks = verify(&changed(&cms, b"Dear", b"Deaf")).unwrap();
    assert!(matches!(&checks[..], [SignatureCheck::Wrong { reason, .. }] if reason.contains("content")), "{checks:?}");
    for at in cms.len() - 300..cms.len() {
        let mut changed = cms.clone();
        changed[at] ^= 1;
        if let Ok(checks) = verify(&changed) {
            assert!(!matches!(checks[..], [SignatureCheck::Good { .. }]), "octet {at}");
        }
    }
}

#[test]
fn a_statement_is_no_data_and_data_no_statement() {
    let signer = signer(SoftwareKey::p256());
    let mut to_sign = signer.to_sign(CONTENT, false);
    to_sign.content_type = ContentType::STATEMENT;
    let cms = sign(&to_sign, &signer.key).unwrap();
    let message = SignedMessage::parse(&cms).unwrap();
    assert_eq!(*message.content_type(), ContentType::STATEMENT);
    assert!(matches!(message.verify(None, &[]).unwrap()[..], [SignatureCheck::Good { .. }]));
    assert_eq!(openssl(&["cms", "-verify", "-binary", "-inform", "DER", "-CAfile", &signer.root], &cms), CONTENT);
    // The content type is changed, the signature is not.
    let (from, to) = (ContentType::STATEMENT, ContentType::STATEMENT_RESPONSE);
    let renamed = SignedMessage::parse(&changed(&cms, from.as_contents(), to.as_contents())).unwrap();
    let checks = renamed.verify(None, &[]).unwrap();
    assert!(matches!(&checks[..], [SignatureCheck::Wrong { reason, .. }] if reason.contains("type")), "{checks:?}");
}

#[test]
fn attributes_are_not_taken_for_content() {
    // The content is the signed attributes of a valid message; without attributes the signature
    // would match it.
    let signer = signer(SoftwareKey::p256());
    let cms = sign(&signer.to_sign(CONTENT, false), &signer.key).unwrap();
    let (_, signed_data) = open_content_info(&cms, WHAT).unwrap();
    let parts = Elements::of(&signed_data, WHAT).required(SEQUENCE).unwrap().inside(WHAT).all().unwrap();
    let info = parts[4].inside(WHAT).required(SEQUENCE).unwrap().inside(WHAT).all().unwrap();
    let mut attributes = info[3].whole.to_vec();
    attributes[0] = SET;
    let bare_info = element(SEQUENCE, &[info[0].whole, info[1].whole, info[2].whole, info[4].whole, info[5].whole]);
    let data = element(OBJECT_IDENTIFIER, &[ContentType::DATA.as_contents()]);
    let content = element(context_constructed(0), &[&element(OCTET_STRING, &[&attributes])]);
    let forged = element(
        SEQUENCE,
        &[
            parts[0].whole,
            parts[1].whole,
            &element(SEQUENCE, &[&data, &content]),
            parts[3].whole,
            &element(SET, &[&bare_info]),
        ],
    );
    let forged = content_info(rfc5911::ID_SIGNED_DATA, &forged);
    assert!(
        try_openssl(&["cms", "-verify", "-inform", "DER", "-CAfile", &signer.root], &forged).is_ok(),
        "OpenSSL accepts the forgery"
    );
    let checks = SignedMessage::parse(&forged).unwrap().verify(None, &[]).unwrap();
    assert!(matches!(checks[..], [SignatureCheck::Wrong { .. }]), "{checks:?}");
}

#[test]
fn keys_and_certificates_that_do_not_fit_are_refused() {
    let signer = signer(SoftwareKey::p256());
    assert!(sign(&signer.to_sign(CONTENT, false), &SoftwareKey::rsa()).is_err());
    // Another key of the right kind is detected before the signature is returned.
    let error = sign(&signer.to_sign(CONTENT, false), &SoftwareKey::p256()).unwrap_err();
    assert!(matches!(error, PkiError::WrongSignature(_)), "{error}");
    let authority = TestAuthority::new("Example Authority", SoftwareKey::p256());
    let encryption = authority.issue("encryption", "User", &signer.key);
    assert!(SigningCertificate::new(&encryption, &[]).unwrap_err().to_string().contains("key usage"));
}

#[test]
fn a_message_without_a_signature_is_refused() {
    let signer = signer(SoftwareKey::p256());
    let pem = signer.files.put_certificate("signer.pem", &signer.certificate);
    let certificates_only = openssl(&["crl2pkcs7", "-nocrl", "-certfile", &pem, "-outform", "DER"], &[]);
    let encrypted = openssl(&["cms", "-encrypt", "-aes256", "-outform", "DER", &pem], CONTENT);
    let cms = sign(&signer.to_sign(CONTENT, false), &signer.key).unwrap();
    for bytes in
        [&certificates_only[..], &encrypted, &cms[..cms.len() - 1], &[], b"nonsense", signer.certificate.as_der()]
    {
        assert!(SignedMessage::parse(bytes).is_err());
    }
    let mut followed = cms.clone();
    followed.push(0);
    assert!(SignedMessage::parse(&followed).is_err());
}
