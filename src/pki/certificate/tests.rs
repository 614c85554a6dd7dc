//! Tests with certificates in any form and from any program.

use super::*;
use crate::pki::test_support::odd_certificates::{
    BMP, CN, EMAIL, IA5, NUMERIC, OddCertificate, TELETEX, UNIVERSAL, UTC, UTF8, VISIBLE, alternative_names, email,
    extension, name,
};
use crate::pki::test_support::{SoftwareKey, TestAuthority};
use crate::pki::tlv::element;

#[test]
fn der_and_pem_of_any_shape_are_read() {
    let authority = TestAuthority::new("Example Authority", SoftwareKey::p256());
    let user = authority.issue("signing", "Example, User", &SoftwareKey::p256());
    assert_eq!(Certificate::read_all(user.as_der()).unwrap(), std::slice::from_ref(&user));
    let both = format!("subject=...\n{}\nissuer\n{}", user.to_pem().unwrap(), authority.certificate.to_pem().unwrap());
    let expected = [user.clone(), authority.certificate];
    for text in [both.clone(), both.replace('\n', "\r\n"), both.replace("\nM", "\n M")] {
        assert_eq!(Certificate::read_all(text.as_bytes()).unwrap(), expected);
    }
    let one_line = user.to_pem().unwrap().replace('\n', "");
    assert_eq!(Certificate::read_all(one_line.as_bytes()).unwrap(), [user]);
}

#[test]
fn invalid_certificates_are_refused() {
    let authority = TestAuthority::new("Example Authority", SoftwareKey::p256()).certificate;
    let pem = authority.to_pem().unwrap();
    let cut = pem.replace("-----END CERTIFICATE-----", "");
    let damaged = pem.replace("MII", "M!I");
    let key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    for text in ["", "hello", &cut, &damaged, key, "\u{0}\u{ff}"] {
        assert!(Certificate::read_all(text.as_bytes()).is_err(), "{text}");
    }
    let der = authority.as_der();
    for bytes in [&der[..der.len() - 1], &[der, &[0]].concat(), &authority.public_key_der().unwrap(), &[0xff, 0xfe]] {
        assert!(Certificate::read_all(bytes).is_err());
    }
}

#[test]
fn two_signature_algorithms_in_one_certificate_are_refused() {
    let certificate = TestAuthority::new("Example Authority", SoftwareKey::p256()).certificate;
    // Changes the outer algorithm, after the signed part: ecdsa-with-SHA256 becomes
    // ecdsa-with-SHA384.
    let mut der = certificate.as_der().to_vec();
    let oid = const_oid::db::rfc5912::ECDSA_WITH_SHA_256;
    let at = der.windows(oid.as_bytes().len()).rposition(|window| window == oid.as_bytes()).unwrap();
    der[at + oid.as_bytes().len() - 1] = 3;
    assert!(Certificate::from_der(&der).unwrap_err().to_string().contains("two different"));
}

#[test]
fn the_public_key_decides_what_a_certificate_can_do() {
    let authority = TestAuthority::new("Example Authority", SoftwareKey::p256());
    assert!(authority.certificate.is_authority() && !authority.certificate.can_sign());
    for key in [SoftwareKey::p256(), SoftwareKey::rsa()] {
        let (signing, encryption) = (authority.issue("signing", "U", &key), authority.issue("encryption", "U", &key));
        assert!(signing.can_sign() && !signing.can_encrypt() && !signing.is_authority());
        assert!(encryption.can_encrypt() && !encryption.can_sign());
        assert_eq!(signing.public_key_der().unwrap(), key.public_key_der());
        assert_eq!(signing.authority_key_identifier(), authority.certificate.subject_key_identifier());
    }
}

/// A handmade certificate with this change.
fn odd(change: impl Fn(&mut OddCertificate)) -> Result<Certificate, PkiError> {
    let name = name(&[(CN, UTF8, b"Quirk CA")]);
    let mut certificate = OddCertificate::person(&name, &name);
    change(&mut certificate);
    let key = SoftwareKey::p256();
    let certificate = Certificate::from_foreign_der(&certificate.sign(&key, &key))?;
    certificate.verify_signature(&certificate).unwrap();
    Ok(certificate)
}

#[test]
fn certificates_of_other_issuers_are_read() {
    let key_usage = |critical: &[u8]| extension(rfc5280::ID_CE_KEY_USAGE, critical, &element(3, &[&[7, 0x80]]));
    assert!(odd(|_| {}).is_ok_and(|certificate| Certificate::from_der(certificate.as_der()).is_ok()));

    let odd_boolean = odd(|certificate| certificate.extensions = vec![key_usage(&[1, 1, 1])]).unwrap();
    assert!(Certificate::from_der(odd_boolean.as_der()).is_err(), "it is not DER");
    assert!(odd_boolean.extensions()[0].critical && odd_boolean.can_sign());
    let is_ca = extension(rfc5280::ID_CE_BASIC_CONSTRAINTS, &[1, 1, 0], &[0x30, 3, 1, 1, 1]);
    let odd_boolean = odd(|certificate| certificate.extensions = vec![is_ca.clone()]).unwrap();
    assert!(!odd_boolean.extensions()[0].critical && odd_boolean.is_authority());

    let serial = [&[0x7f][..], &[0x22; 31]].concat();
    let long = odd(|certificate| certificate.serial = serial.clone()).unwrap();
    assert_eq!(long.serial().as_bytes(), serial);

    let utf32: Vec<u8> = "Größe".chars().flat_map(|char| u32::from(char).to_be_bytes()).collect();
    for (tag, octets, text) in [
        (UNIVERSAL, &utf32[..], "Größe"),
        (BMP, b"\0A\0\xe4", "Aä"),
        (TELETEX, b"J\xfcrgen Gr\xf6\xdfe", "Jürgen Größe"),
        (NUMERIC, b"12345", "12345"),
        (VISIBLE, b"Alice V", "Alice V"),
    ] {
        let certificate = odd(|certificate| certificate.subject = name(&[(CN, tag, octets)])).unwrap();
        assert_eq!(certificate.display_name(), text);
    }

    let old = odd(|certificate| certificate.not_before = element(UTC, &[b"500101000000Z"])).unwrap();
    assert_eq!(old.not_before().to_string(), "1950-01-01T00:00:00Z");
    assert!(old.is_valid_at(crate::pki::test_support::now()));
}

#[test]
fn an_unreadable_field_is_reported() {
    for (value, reason) in [
        (&b"2001010000Z"[..], "its notBefore cannot be read: it is not a UTCTime of the form YYMMDDHHMMSSZ"),
        (b"200132000000Z", "its notBefore cannot be read: the day or the hour does not exist"),
    ] {
        let error = odd(|certificate| certificate.not_before = element(UTC, &[value])).unwrap_err();
        assert!(error.reason().contains(reason), "{error}");
    }
    let error = odd(|certificate| certificate.subject = vec![0x30, 2, 0x31, 0]).unwrap_err();
    assert!(error.reason().contains("its subject cannot be read"), "{error}");
}

/// `id-on-SmtpUTF8Mailbox` (RFC 9598 §3), contents octets.
const SMTP_UTF8: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 8, 9];

#[test]
fn addresses_are_found_in_every_field_and_are_single_ones() {
    let other_name = |oid: &[u8], tag: u8, text: &[u8]| {
        element(0xa0, &[&element(6, &[oid]), &element(0xa0, &[&element(tag, &[text])])])
    };
    let plain = || email(b"alice@example.org");
    for (names, expected) in [
        (vec![plain()], &["alice@example.org"][..]),
        (vec![element(0xa3, &[&[0x30, 0]]), plain()], &["alice@example.org"]),
        (vec![element(0xa4, &[&[0x31, 0]]), plain()], &["alice@example.org"]),
        (vec![other_name(&[0x80], UTF8, b"x"), plain()], &["alice@example.org"]),
        (vec![email(b"\xff@example.org"), plain()], &["alice@example.org"]),
        (vec![email(b"bob@example.org,eve@example.org"), plain()], &["alice@example.org"]),
        (vec![email(b"bob@example.org\0.evil.example"), email(b"bob@example.org\r\n"), email(b"")], &[]),
        (vec![other_name(SMTP_UTF8, UTF8, "用户@例子.example".as_bytes())], &["用户@例子.example"]),
        (vec![other_name(SMTP_UTF8, IA5, b"a@b"), other_name(&[0x2a], UTF8, b"a@b")], &[]),
        (vec![plain(), email(b"Alice@Example.org"), email(b"b@example.org")], &["alice@example.org", "b@example.org"]),
    ] {
        let names = alternative_names(&names);
        let certificate = odd(|certificate| certificate.extensions = vec![names.clone()]).unwrap();
        assert_eq!(certificate.emails(), expected);
    }
    for (tag, octets, expected) in [
        (IA5, &b"alice@example.org"[..], &["alice@example.org"][..]),
        (UTF8, b"alice@example.org", &["alice@example.org"]),
        (IA5, b"a@b, c@d", &[]),
        (IA5, b"a@b\0", &[]),
    ] {
        let certificate = odd(|certificate| {
            certificate.subject = name(&[(CN, UTF8, b"Alice"), (EMAIL, tag, octets)]);
            certificate.extensions = Vec::new();
        });
        assert_eq!(certificate.unwrap().emails(), expected);
    }
}
