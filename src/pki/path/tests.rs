//! Tests of paths, and of certificates that a path must not contain.

use std::path::Path;

use jiff::SignedDuration;

use super::*;
use crate::pki::test_support::odd_certificates::{
    BMP, CN, EMAIL, IA5, O, OddCertificate, PRINTABLE, TELETEX, UTF8, alternative_names, email, extension, name,
};
use crate::pki::test_support::{SoftwareKey, TestAuthority, TestFiles, now, openssl};
use crate::pki::tlv::{SEQUENCE, context, context_constructed, element};
use crate::pki::{Issuer, NewCertificate, Profile, SerialNumber, sign_tbs};

fn profile(text: &str) -> Profile {
    let head = "validity_days = 365\nbackdate_minutes = 5\nkeys = [\"p256\"]\nalternative_name = \"none\"\n";
    Profile::parse(&format!("{head}{text}"), Path::new("test.toml")).unwrap()
}

const AUTHORITY_ABOVE_ANOTHER: &str = "[key_usage]\nec = [\"keyCertSign\"]\n[authority]\npath_length = 1\n";

/// A root, an authority below it, and a person below that.
struct ThreeCertificates {
    root: TestAuthority,
    middle: TestAuthority,
    leaf: Certificate,
}

impl ThreeCertificates {
    fn new(root_profile: &str) -> Self {
        let key = SoftwareKey::p256();
        let certificate = NewCertificate {
            profile: &profile(root_profile),
            issuer: Issuer::Itself,
            subject: &DistinguishedName::of("Root").unwrap(),
            email: None,
            hosts: &[],
            public_key: &key.public_key_der(),
            serial: &SerialNumber::random().unwrap(),
            now: now(),
        };
        let certificate = sign_tbs(&certificate.to_tbs_der().unwrap(), &key).unwrap();
        let root = TestAuthority { key, certificate };
        let key = SoftwareKey::p256();
        let certificate = root.issue("ca", "Middle", &key);
        let middle = TestAuthority { key, certificate };
        let leaf = middle.issue("signing", "User", &SoftwareKey::p256());
        Self { root, middle, leaf }
    }

    fn verify(&self) -> Result<Vec<Certificate>, PathProblem> {
        let (middle, root) = (&self.middle.certificate, &self.root.certificate);
        verify(&self.leaf, std::slice::from_ref(middle), std::slice::from_ref(root), CertificatePurpose::Signing, now())
    }
}

fn one_step(leaf: &Certificate, authority: &TestAuthority, purpose: CertificatePurpose<'_>) -> Result<(), PathProblem> {
    verify(leaf, &[], std::slice::from_ref(&authority.certificate), purpose, now()).map(drop)
}

#[test]
fn a_path_of_three_is_found_among_other_certificates() {
    let three = ThreeCertificates::new(AUTHORITY_ABOVE_ANOTHER);
    let stranger = TestAuthority::new("Stranger", SoftwareKey::p256()).certificate;
    let path = verify(
        &three.leaf,
        &[stranger.clone(), three.root.certificate.clone(), three.middle.certificate.clone()],
        &[stranger, three.root.certificate.clone()],
        CertificatePurpose::Signing,
        now(),
    );
    assert_eq!(path.unwrap(), [three.leaf.clone(), three.middle.certificate.clone(), three.root.certificate.clone()]);
    assert_eq!(three.verify().unwrap().len(), 3);

    let files = TestFiles::new();
    let root = files.put_certificate("root.pem", &three.root.certificate);
    let middle = files.put_certificate("middle.pem", &three.middle.certificate);
    let leaf = files.put_certificate("leaf.pem", &three.leaf);
    openssl(&["verify", "-x509_strict", "-CAfile", &root, "-untrusted", &middle, &leaf], &[]);
}

#[test]
fn unknown_and_untrusted_issuers_are_refused() {
    let three = ThreeCertificates::new(AUTHORITY_ABOVE_ANOTHER);
    let unknown = |result| assert!(matches!(result, Err(PathProblem::UnknownIssuer { .. })), "{result:?}");
    let root = std::slice::from_ref(&three.root.certificate);
    unknown(verify(&three.leaf, &[], root, CertificatePurpose::Signing, now()));
    unknown(verify(
        &three.leaf,
        std::slice::from_ref(&three.middle.certificate),
        &[],
        CertificatePurpose::Signing,
        now(),
    ));
    // A second authority has the same name and another key: the key identifier distinguishes them.
    let double = TestAuthority::new("Root", SoftwareKey::p256());
    unknown(verify(&three.middle.certificate, &[], &[double.certificate], CertificatePurpose::Signing, now()));
}

#[test]
fn a_forged_signature_is_refused() {
    let authority = TestAuthority::new("Authority", SoftwareKey::p256());
    let good = authority.issue("signing", "User", &SoftwareKey::p256());
    let mut der = good.as_der().to_vec();
    let at = der.windows(4).position(|window| window == b"User").unwrap();
    der[at] = b'V';
    let forged = Certificate::from_der(&der).unwrap();
    let result = one_step(&forged, &authority, CertificatePurpose::Signing);
    assert!(matches!(result, Err(PathProblem::WrongSignature { .. })), "{result:?}");
}

#[test]
fn expiry_is_reported_only_if_all_else_is_valid() {
    let authority = TestAuthority::new("Authority", SoftwareKey::p256());
    let leaf = authority.issue("signing", "User", &SoftwareKey::p256());
    let anchors = [authority.certificate.clone()];
    let at = |time| verify(&leaf, &[], &anchors, CertificatePurpose::Signing, time);
    assert!(at(now()).is_ok());
    assert!(at(leaf.not_after()).is_ok());
    let late = at(leaf.not_after() + SignedDuration::from_secs(1));
    assert!(matches!(late, Err(PathProblem::Expired { .. })), "{late:?}");
    let early = at(leaf.not_before() - SignedDuration::from_secs(1));
    assert!(matches!(early, Err(PathProblem::NotYetValid { .. })), "{early:?}");
    // The text has seconds, and the clock's time.
    let early = at(leaf.not_before() - SignedDuration::from_nanos(1)).unwrap_err().to_string();
    let (begin, before) = (leaf.not_before(), leaf.not_before() - SignedDuration::from_secs(1));
    assert!(early.contains(&format!("before {begin}, ")) && early.ends_with(&format!("it is {before}")), "{early}");
    // An expired authority is reported too.
    let longer = authority.issue("signing", "User", &SoftwareKey::p256());
    let over = verify(
        &longer,
        &[],
        &anchors,
        CertificatePurpose::Signing,
        authority.certificate.not_after() + SignedDuration::from_hours(1),
    );
    assert!(matches!(over, Err(PathProblem::Expired { .. })), "{over:?}");
    // An unknown issuer has priority over time.
    let unknown =
        verify(&leaf, &[], &[], CertificatePurpose::Signing, leaf.not_after() + SignedDuration::from_hours(1));
    assert!(matches!(unknown, Err(PathProblem::UnknownIssuer { .. })), "{unknown:?}");
}

#[test]
fn a_persons_certificate_cannot_issue_certificates() {
    let root = TestAuthority::new("Root", SoftwareKey::p256());
    let key = SoftwareKey::p256();
    let certificate = root.issue("signing", "User", &key);
    let user = TestAuthority { key, certificate };
    let forged = user.issue("signing", "Administrator", &SoftwareKey::p256());
    let intermediates = [user.certificate.clone()];
    let result = verify(&forged, &intermediates, &[root.certificate], CertificatePurpose::Signing, now());
    assert!(matches!(result, Err(PathProblem::NotAuthority { .. })), "{result:?}");
    // A person's certificate is not an issuer even as an anchor.
    let result = verify(&forged, &[], &intermediates, CertificatePurpose::Signing, now());
    assert!(matches!(result, Err(PathProblem::NotAuthority { .. })), "{result:?}");
    // Key usages and a missing basicConstraints make no difference.
    let files = TestFiles::new();
    let leaf = "keyUsage=digitalSignature\nauthorityKeyIdentifier=none\nsubjectKeyIdentifier=none";
    let leaf = by_openssl(&files, leaf);
    for (extensions, why) in [
        ("basicConstraints=CA:FALSE\nkeyUsage=keyCertSign", "it is not the certificate of an authority"),
        ("keyUsage=keyCertSign", "it is not marked as the certificate of an authority"),
    ] {
        let issuer = by_openssl(&files, &format!("{extensions}\nsubjectKeyIdentifier=none"));
        let error = verify(&leaf, &[], &[issuer], CertificatePurpose::Signing, now()).unwrap_err();
        assert!(matches!(&error, PathProblem::NotAuthority { reason, .. } if reason.starts_with(why)), "{error}");
    }
}

#[test]
fn the_path_length_constraint_is_enforced() {
    let three = ThreeCertificates::new("[key_usage]\nec = [\"keyCertSign\"]\n[authority]\npath_length = 0\n");
    let result = three.verify();
    assert!(matches!(result, Err(PathProblem::NotAuthority { .. })), "{result:?}");
}

#[test]
fn each_purpose_needs_its_own_usage() {
    let authority = TestAuthority::new("Authority", SoftwareKey::p256());
    let localhost: Host = "localhost".parse().unwrap();
    let other_host: Host = "127.0.0.1".parse().unwrap();
    let profiles = ["signing", "encryption", "cmp-response", "tls-server"];
    for (purpose, right) in [
        (CertificatePurpose::Signing, "signing"),
        (CertificatePurpose::Encryption, "encryption"),
        (CertificatePurpose::CmpResponse, "cmp-response"),
        (CertificatePurpose::TlsServer(&localhost), "tls-server"),
    ] {
        for profile in profiles {
            let leaf = authority.issue(profile, "Somebody", &SoftwareKey::p256());
            let result = one_step(&leaf, &authority, purpose);
            if profile == right {
                assert_eq!(result, Ok(()), "{profile} {purpose:?}");
            } else {
                assert!(matches!(result, Err(PathProblem::WrongPurpose { .. })), "{profile} {purpose:?} {result:?}");
            }
        }
    }
    let leaf = authority.issue("tls-server", "Somebody", &SoftwareKey::p256());
    let result = one_step(&leaf, &authority, CertificatePurpose::TlsServer(&other_host));
    assert!(matches!(result, Err(PathProblem::WrongPurpose { .. })), "{result:?}");
}

#[test]
fn no_extended_key_usage_allows_mail_but_not_cmp_responses() {
    let authority = TestAuthority::new("Authority", SoftwareKey::p256());
    let plain = profile("[key_usage]\nec = [\"digitalSignature\"]\n");
    let leaf = authority.issue_by(&plain, "Somebody", &SoftwareKey::p256(), now());
    assert_eq!(one_step(&leaf, &authority, CertificatePurpose::Signing), Ok(()));
    assert!(one_step(&leaf, &authority, CertificatePurpose::CmpResponse).is_err());
    // anyExtendedKeyUsage is not the explicit right that RFC 9810 requires either.
    let any = profile("extended_key_usage = [\"2.5.29.37.0\"]\n[key_usage]\nec = [\"digitalSignature\"]\n");
    let leaf = authority.issue_by(&any, "Somebody", &SoftwareKey::p256(), now());
    assert_eq!(one_step(&leaf, &authority, CertificatePurpose::Signing), Ok(()));
    assert!(one_step(&leaf, &authority, CertificatePurpose::CmpResponse).is_err());
}

/// A certificate that OpenSSL makes with these extensions.
fn by_openssl(files: &TestFiles, extensions: &str) -> Certificate {
    let key = files.put_key("key.pem", &SoftwareKey::p256());
    let config = format!("[req]\ndistinguished_name=dn\n[dn]\n[ext]\n{extensions}\n");
    let config = files.put("openssl.cnf", config.as_bytes());
    let arguments =
        ["req", "-x509", "-new", "-key", &key, "-subj", "/CN=Foreign", "-config", &config, "-extensions", "ext"];
    Certificate::read_all(&openssl(&arguments, &[])).unwrap().remove(0)
}

#[test]
fn critical_extensions_that_are_not_understood_are_refused() {
    let files = TestFiles::new();
    for (extensions, understood) in [
        ("keyUsage=critical,digitalSignature", true),
        ("1.3.6.1.4.1.55555.1=critical,DER:0500", false),
        ("1.3.6.1.4.1.55555.1=DER:0500", true),
        ("nameConstraints=critical,permitted;DNS:example.org", false),
        ("keyUsage=DER:0500", false),
    ] {
        let certificate = by_openssl(&files, extensions);
        let anchors = [certificate.clone()];
        let result = verify(&certificate, &[], &anchors, CertificatePurpose::Signing, now());
        assert_eq!(result.is_ok(), understood, "{extensions} {result:?}");
    }
}

#[test]
fn many_issuers_of_one_name_take_bounded_time() {
    let authority = TestAuthority::new("Authority", SoftwareKey::p256());
    let files = TestFiles::new();
    let leaf = by_openssl(&files, "keyUsage=digitalSignature\nauthorityKeyIdentifier=none");
    let crowd: Vec<_> =
        (0..100).map(|_| by_openssl(&files, "basicConstraints=CA:TRUE\nsubjectKeyIdentifier=none")).collect();
    let result = verify(&leaf, &crowd, &[authority.certificate], CertificatePurpose::Signing, now());
    assert!(matches!(result, Err(PathProblem::Unchecked { .. })), "{result:?}");
}

/// An authority and a person's certificate below it, both handmade: the anchor and the leaf.
fn odd_pair(anchor_name: &[u8], extensions: &[Vec<u8>], person: &OddCertificate) -> (Certificate, Certificate) {
    let (authority, key) = (SoftwareKey::p256(), SoftwareKey::p256());
    let anchor = OddCertificate::authority(anchor_name, anchor_name, extensions).sign(&authority, &authority);
    let person = person.sign(&key, &authority);
    (Certificate::from_foreign_der(&anchor).unwrap(), Certificate::from_foreign_der(&person).unwrap())
}

#[test]
fn an_issuer_is_found_in_whatever_string_type_it_is_named() {
    let anchor_name = name(&[(O, UTF8, b"Example Org"), (CN, UTF8, b"Quirk CA")]);
    let subject = name(&[(CN, UTF8, b"Alice")]);
    for (issuer, found) in [
        (name(&[(O, PRINTABLE, b"Example Org"), (CN, PRINTABLE, b"Quirk CA")]), true),
        (name(&[(O, TELETEX, b"EXAMPLE  ORG"), (CN, BMP, b"\0q\0u\0i\0r\0k\0 \0c\0a")]), true),
        (name(&[(CN, UTF8, b"Quirk CA"), (O, UTF8, b"Example Org")]), false),
        (name(&[(O, UTF8, b"Example Org"), (CN, UTF8, b"QuirkCA")]), false),
    ] {
        let (anchor, person) = odd_pair(&anchor_name, &[], &OddCertificate::person(&issuer, &subject));
        let result = verify(&person, &[], &[anchor], CertificatePurpose::Signing, now());
        assert_eq!(result.is_ok(), found, "{} {result:?}", person.issuer());
    }
}

/// A name constraints extension with these bases.
fn constraints(critical: &[u8], permitted: &[Vec<u8>], excluded: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let list = |number, bases: &[Vec<u8>]| match bases {
        [] => Vec::new(),
        bases => {
            let subtrees: Vec<_> = bases.iter().map(|base| element(SEQUENCE, &[base])).collect();
            element(context_constructed(number), &[&subtrees.concat()])
        }
    };
    let value = element(SEQUENCE, &[&list(0, permitted), &list(1, excluded)]);
    vec![extension(rfc5280::ID_CE_NAME_CONSTRAINTS, critical, &value)]
}

#[test]
fn name_comparisons_are_bounded() {
    let (anchor_name, alice) = (name(&[(CN, UTF8, b"Quirk CA")]), name(&[(CN, UTF8, b"Alice")]));
    let mailboxes = |count: usize| (0..count).map(|number| email(format!("a{number}@example.org").as_bytes()));
    for (names, bases, comparisons) in [
        (10, 20, Some(20 + 10 * 21 + 1)),
        (100, 160, Some(160 + 100 * 161 + 1)),
        (100, 162, None),
        (200, 200, None),
        (1, 1 << 14, None),
        (1 << 14, 1, None),
    ] {
        let mut person = OddCertificate::person(&anchor_name, &alice);
        person.extensions = vec![alternative_names(&mailboxes(names).collect::<Vec<_>>())];
        let bases: Vec<_> =
            std::iter::repeat_n(email(b"example.com"), bases - 1).chain([email(b"example.org")]).collect();
        let (anchor, leaf) = odd_pair(&anchor_name, &constraints(&[], &bases, &[]), &person);
        let work = WorkLeft::for_search();
        let result = verify_within(&leaf, &[], &[anchor], CertificatePurpose::Signing, now(), &work);
        match comparisons {
            Some(comparisons) => {
                assert!(result.is_ok(), "{result:?}");
                assert_eq!(WorkLeft::for_search().state().1 - work.state().1, comparisons);
            }
            None => assert!(matches!(result, Err(PathProblem::Unchecked { .. })) && work.is_over(), "{result:?}"),
        }
    }
}

#[test]
fn name_constraints_bind_critical_or_not() {
    let directory = |cn: &[u8]| element(context_constructed(4), &[&name(&[(CN, UTF8, cn)])]);
    let (anchor_name, alice) = (name(&[(CN, UTF8, b"Quirk CA")]), name(&[(CN, UTF8, b"Alice")]));
    let person = OddCertificate::person(&anchor_name, &alice);
    let uri = element(context(6), &[b"https://example.org"]);
    for (permitted, excluded, allowed) in [
        (vec![email(b"example.org")], vec![], true),
        (vec![email(b"example.com")], vec![], false),
        (vec![email(b"example.com"), email(b"alice@example.org")], vec![], true),
        (vec![], vec![email(b"example.org")], false),
        (vec![], vec![email(b"example.com")], true),
        (vec![directory(b"Bob")], vec![], false),
        (vec![directory(b"ALICE")], vec![], true),
        // The kind is not supported, but the certificate has no such name.
        (vec![uri.clone()], vec![], true),
    ] {
        for critical in [&[][..], &[1, 1, 0xff]] {
            let (anchor, person) = odd_pair(&anchor_name, &constraints(critical, &permitted, &excluded), &person);
            let result = verify(&person, &[], &[anchor], CertificatePurpose::Signing, now());
            assert_eq!(result.is_ok(), allowed, "{permitted:?} {excluded:?} {result:?}");
            if !allowed {
                assert!(matches!(result, Err(PathProblem::NotAuthority { .. })), "{result:?}");
            }
        }
    }
    // The address in the subject counts. A constraint that cannot be compared is not ignored.
    let mut in_subject = OddCertificate::person(&anchor_name, &name(&[(EMAIL, IA5, b"alice@example.org")]));
    in_subject.extensions = Vec::new();
    let (anchor, leaf) = odd_pair(&anchor_name, &constraints(&[], &[email(b"example.com")], &[]), &in_subject);
    assert!(verify(&leaf, &[], &[anchor], CertificatePurpose::Signing, now()).is_err());
    in_subject.extensions = vec![alternative_names(std::slice::from_ref(&uri))];
    let (anchor, leaf) = odd_pair(&anchor_name, &constraints(&[], &[uri], &[]), &in_subject);
    let result = verify(&leaf, &[], &[anchor], CertificatePurpose::Signing, now());
    assert!(matches!(result, Err(PathProblem::Unchecked { .. })), "{result:?}");
}

#[test]
fn a_certificate_with_an_unsafe_algorithm_is_unchecked() {
    let files = TestFiles::new();
    let key = files.put_key("key.pem", &SoftwareKey::rsa());
    let arguments = ["req", "-x509", "-new", "-key", &key, "-sha1", "-subj", "/CN=Foreign", "-set_serial"];
    let [anchor, leaf] = ["1", "2"]
        .map(|serial| Certificate::read_all(&openssl(&[&arguments[..], &[serial]].concat(), &[])).unwrap().remove(0));
    let result = verify(&leaf, &[], &[anchor], CertificatePurpose::Signing, now());
    assert!(matches!(&result, Err(PathProblem::Unchecked { reason, .. }) if reason.contains("SHA-1")), "{result:?}");
}

#[test]
fn a_path_whose_issuers_are_for_the_purpose_is_preferred() {
    let usage = |purpose: ObjectIdentifier| {
        let purpose = element(crate::pki::tlv::OBJECT_IDENTIFIER, &[purpose.as_bytes()]);
        extension(rfc5280::ID_CE_EXT_KEY_USAGE, &[], &element(SEQUENCE, &[&purpose]))
    };
    let (root, middle) = (SoftwareKey::p256(), SoftwareKey::p256());
    let (root_name, middle_name) = (name(&[(CN, UTF8, b"Root")]), name(&[(CN, UTF8, b"Middle")]));
    let read = |der: Vec<u8>| Certificate::from_foreign_der(&der).unwrap();
    let anchor = read(OddCertificate::authority(&root_name, &root_name, &[]).sign(&root, &root));
    let twin = |purpose| {
        let twin = OddCertificate::authority(&root_name, &middle_name, &[usage(purpose)]);
        read(twin.sign(&middle, &root))
    };
    let (servers, mail) = (twin(rfc5280::ID_KP_SERVER_AUTH), twin(rfc5280::ID_KP_EMAIL_PROTECTION));
    let leaf = OddCertificate::person(&middle_name, &name(&[(CN, UTF8, b"Alice")]));
    let leaf = read(leaf.sign(&SoftwareKey::p256(), &middle));
    let path = |middles: &[Certificate]| {
        verify(&leaf, middles, std::slice::from_ref(&anchor), CertificatePurpose::Signing, now())
            .map(|path| path[1].clone())
    };
    assert_eq!(path(&[servers.clone(), mail.clone()]), Ok(mail.clone()));
    assert_eq!(path(&[mail.clone(), servers.clone()]), Ok(mail));
    assert!(matches!(path(&[servers]), Err(PathProblem::WrongPurpose { .. })));
}
