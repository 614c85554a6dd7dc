//! Tests of certificates with OpenSSL, and of contents that are refused.

use super::*;
use crate::pki::test_support::{SoftwareKey, TestAuthority, TestFiles, now, openssl, try_openssl};

fn text(certificate: &Certificate) -> String {
    let pem = certificate.to_pem().unwrap();
    let arguments = ["x509", "-noout", "-text", "-nameopt", "utf8,sep_comma_plus,-esc_msb", "-certopt", "ext_parse"];
    String::from_utf8(openssl(&arguments, pem.as_bytes())).unwrap()
}

#[test]
fn openssl_verifies_what_each_kind_of_authority_issues() {
    let files = TestFiles::new();
    for key in [SoftwareKey::p256(), SoftwareKey::p384(), SoftwareKey::new_rsa(3072)] {
        let authority = TestAuthority::new("Example Authority", key);
        let root = files.put_certificate("root.pem", &authority.certificate);
        for (profile, purpose) in
            [("signing", "smimesign"), ("encryption", "smimeencrypt"), ("tls-server", "sslserver")]
        {
            let leaf = authority.issue(profile, "Example, User", &SoftwareKey::rsa());
            let leaf = files.put_certificate("leaf.pem", &leaf);
            openssl(&["verify", "-x509_strict", "-purpose", purpose, "-CAfile", &root, &leaf], &[]);
        }
    }
}

#[test]
fn openssl_reads_the_extensions_of_each_profile() {
    let authority = TestAuthority::new("Example Authority", SoftwareKey::p256());
    let root = text(&authority.certificate);
    for expected in ["X509v3 Basic Constraints: critical", "CA:TRUE, pathlen:0", "Certificate Sign, CRL Sign"] {
        assert!(root.contains(expected), "{expected}\n{root}");
    }
    let key = SoftwareKey::p256();
    for (profile, expected) in [
        (
            "signing",
            vec!["Digital Signature\n", "E-mail Protection, TLS Web Client Authentication", "email:user@example.org"],
        ),
        ("encryption", vec!["Key Agreement\n", "E-mail Protection\n", "email:user@example.org"]),
        ("cmp-response", vec!["Digital Signature\n", "CMC Certificate Authority"]),
        ("tls-server", vec!["TLS Web Server Authentication", "DNS:localhost"]),
    ] {
        let shown = text(&authority.issue(profile, "Example, User", &key));
        for expected in expected.into_iter().chain(["X509v3 Key Usage: critical", "X509v3 Authority Key Identifier"]) {
            assert!(shown.contains(expected), "{expected}\n{shown}");
        }
        assert!(!shown.contains("CA:TRUE"), "{shown}");
    }
    let shown = text(&authority.issue("encryption", "Example, User", &SoftwareKey::rsa()));
    assert!(shown.contains("Key Encipherment\n") && !shown.contains("Key Agreement"), "{shown}");
}

#[test]
fn openssl_reads_the_names_that_break_programs() {
    let authority = TestAuthority::new("Größte, \"Authority\" 🗝", SoftwareKey::p256());
    let key = SoftwareKey::p256();
    for (name, shown_as) in [
        ("Example, User", r"CN=Example\, User"),
        ("User \"the Example\"", r#"CN=User \"the Example\""#),
        ("Jürgen Łąka", "CN=Jürgen Łąka"),
        ("🧪 Emoji 👩‍🔬", "CN=🧪 Emoji 👩‍🔬"),
        (&"y".repeat(80), &format!("CN={}…", "y".repeat(63))),
    ] {
        let certificate = authority.issue("signing", name, &key);
        let pem = certificate.to_pem().unwrap();
        let arguments = ["x509", "-noout", "-subject", "-issuer", "-nameopt", "RFC2253,utf8,-esc_msb"];
        let subject = String::from_utf8(openssl(&arguments, pem.as_bytes())).unwrap();
        assert!(subject.contains(shown_as), "{subject}");
        assert!(subject.contains("Größte"), "{subject}");
        // `DistinguishedName` writes the same RFC 4514 text.
        assert!(certificate.subject().to_string().contains(shown_as), "{}", certificate.subject());
    }
    // With -x509_strict, OpenSSL counts the characters of a common name itself.
    let files = TestFiles::new();
    let root = files.put_certificate("root.pem", &authority.certificate);
    let leaf = files.put_certificate("leaf.pem", &authority.issue("signing", &"🧪".repeat(200), &key));
    openssl(&["verify", "-x509_strict", "-CAfile", &root, &leaf], &[]);
}

#[test]
fn serial_and_validity_are_what_was_asked_for() {
    let authority = TestAuthority::new("Example Authority", SoftwareKey::p256());
    let profile = Profile::shipped("signing").unwrap();
    let certificate = authority.issue_by(&profile, "User", &SoftwareKey::p256(), now());
    assert_eq!(certificate.serial().as_bytes().len(), 20);
    let pem = certificate.to_pem().unwrap();
    let serial = String::from_utf8(openssl(&["x509", "-noout", "-serial"], pem.as_bytes())).unwrap();
    assert_eq!(serial.trim().to_lowercase(), format!("serial={}", certificate.serial()));
    assert!(certificate.not_before() < now() && certificate.is_valid_at(now()));
    assert_eq!(certificate.emails(), ["user@example.org"]);
    assert_eq!(certificate.display_name(), "User");
}

#[test]
fn a_certificate_does_not_outlive_its_authority() {
    let authority = TestAuthority::new("Example Authority", SoftwareKey::p256());
    let nine_years = now() + jiff::SignedDuration::from_hours(9 * 366 * 24);
    let profile = Profile::shipped("signing").unwrap();
    let certificate = authority.issue_by(&profile, "User", &SoftwareKey::p256(), nine_years);
    assert_eq!(certificate.not_after(), authority.certificate.not_after());
}

fn tbs(
    authority: &TestAuthority,
    profile: &str,
    email: Option<&EmailAddress>,
    hosts: &[Host],
    public_key: &[u8],
    now: Timestamp,
) -> Result<Vec<u8>, PkiError> {
    NewCertificate {
        profile: &Profile::shipped(profile)?,
        issuer: Issuer::Authority(&authority.certificate),
        subject: &DistinguishedName::of("User")?,
        email,
        hosts,
        public_key,
        serial: &SerialNumber::random()?,
        now,
    }
    .to_tbs_der()
}

#[test]
fn requests_that_contradict_the_profile_are_refused() {
    let authority = TestAuthority::new("Example Authority", SoftwareKey::p256());
    let key = SoftwareKey::p256().public_key_der();
    let (email, host) = ("user@example.org".parse().unwrap(), "localhost".parse().unwrap());
    let hosts = std::slice::from_ref(&host);
    assert!(tbs(&authority, "signing", Some(&email), &[], &key, now()).is_ok());
    for (profile, email, hosts) in [
        ("signing", None, &[][..]),
        ("signing", Some(&email), hosts),
        ("tls-server", None, &[][..]),
        ("tls-server", Some(&email), hosts),
        ("cmp-response", Some(&email), &[][..]),
    ] {
        let error = tbs(&authority, profile, email, hosts, &key, now()).unwrap_err().to_string();
        assert!(error.starts_with("cannot issue a certificate with the profile"), "{error}");
    }
    let rsa = SoftwareKey::rsa().public_key_der(); // 2048 bits: too short for cmp-response
    assert!(tbs(&authority, "cmp-response", None, &[], &rsa, now()).unwrap_err().to_string().contains("RSA-2048"));
}

#[test]
fn an_expired_authority_and_a_broken_key_get_no_certificate() {
    let authority = TestAuthority::new("Example Authority", SoftwareKey::p256());
    let (email, key) = ("user@example.org".parse().unwrap(), SoftwareKey::p256().public_key_der());
    let later = authority.certificate.not_after() + jiff::SignedDuration::from_secs(1);
    assert!(tbs(&authority, "signing", Some(&email), &[], &key, later).is_err());
    let mut off_curve = key.clone();
    *off_curve.last_mut().unwrap() ^= 1;
    let error = tbs(&authority, "signing", Some(&email), &[], &off_curve, now()).unwrap_err().to_string();
    assert!(error.contains("not on the curve"), "{error}");
    let short = openssl(&["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"], &[]);
    let short = openssl(&["pkey", "-pubout", "-outform", "DER"], &short);
    let error = tbs(&authority, "signing", Some(&email), &[], &short, now()).unwrap_err().to_string();
    assert!(error.contains("too short"), "{error}");
    let edwards = openssl(&["genpkey", "-algorithm", "ED25519"], &[]);
    let edwards = openssl(&["pkey", "-pubout", "-outform", "DER"], &edwards);
    assert!(tbs(&authority, "signing", Some(&email), &[], &edwards, now()).is_err());
}

#[test]
fn a_signer_of_another_algorithm_is_refused_before_it_signs() {
    let authority = TestAuthority::new("Example Authority", SoftwareKey::p256());
    let (email, key) = ("user@example.org".parse().unwrap(), SoftwareKey::p256().public_key_der());
    let tbs = tbs(&authority, "signing", Some(&email), &[], &key, now()).unwrap();
    assert!(sign_tbs(&tbs, &SoftwareKey::p384()).is_err());
    assert!(sign_tbs(&tbs, &SoftwareKey::rsa()).is_err());
    assert!(sign_tbs(&tbs[1..], &authority.key).is_err());
    let certificate = sign_tbs(&tbs, &authority.key).unwrap();
    assert_eq!(certificate.tbs_der(), tbs);
}

#[test]
fn a_changed_certificate_is_refused_by_openssl_and_by_us() {
    let files = TestFiles::new();
    let authority = TestAuthority::new("Example Authority", SoftwareKey::p256());
    let good = authority.issue("signing", "User", &SoftwareKey::p256());
    assert!(good.verify_signature(&authority.certificate).is_ok());
    let at = good.as_der().windows(4).position(|window| window == b"User").unwrap();
    let mut der = good.as_der().to_vec();
    der[at] = b'V';
    let bad = Certificate::from_der(&der).unwrap();
    assert!(bad.verify_signature(&authority.certificate).is_err());
    let root = files.put_certificate("root.pem", &authority.certificate);
    let leaf = files.put_certificate("leaf.pem", &bad);
    assert!(try_openssl(&["verify", "-CAfile", &root, &leaf], &[]).is_err());
}
