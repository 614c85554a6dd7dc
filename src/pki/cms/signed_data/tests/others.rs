//! Tests with messages of other programs: unusual encodings, attributes, algorithms and
//! certificates.

use super::*;

/// Alice's key and handmade certificate, and her issuer's name.
struct Odd {
    key: SoftwareKey,
    issuer: Vec<u8>,
    certificate: Vec<u8>,
}

impl Odd {
    fn new(change: impl Fn(&mut OddCertificate)) -> Self {
        let key = SoftwareKey::p256();
        let issuer = name(&[(O, UTF8, b"Example Org"), (CN, UTF8, b"Quirk CA")]);
        let mut certificate = OddCertificate::person(&issuer, &name(&[(CN, UTF8, b"Alice")]));
        change(&mut certificate);
        let certificate = certificate.sign(&key, &SoftwareKey::p256());
        Self { key, issuer, certificate }
    }

    fn check(&self, signer: &OddSigner<'_>) -> SignatureCheck {
        let message = SignedMessage::parse(&signer.message(CONTENT, &[&self.certificate])).unwrap();
        message.verify(None, &[]).unwrap().remove(0)
    }
}

#[test]
fn attributes_in_odd_lengths_and_orders_are_verified() {
    // Lengths in the long form, which DER forbids.
    fn long(tag: u8, attributes: &[Vec<u8>]) -> Vec<u8> {
        let long = |tag: u8, value: &[u8]| {
            let length = u16::try_from(value.len()).unwrap().to_be_bytes();
            [&[tag, 0x82], &length[..], value].concat()
        };
        let value: Vec<u8> = attributes.iter().flat_map(|attribute| long(SEQUENCE, &attribute[2..])).collect();
        long(tag, &value)
    }
    fn reversed(tag: u8, attributes: &[Vec<u8>]) -> Vec<u8> {
        element(tag, &[&attributes.iter().rev().cloned().collect::<Vec<_>>().concat()])
    }
    let odd = Odd::new(|_| {});
    let plain = || OddSigner::new(&odd.key, &odd.issuer, &[77]);
    for (what, signer) in [
        ("plain", plain()),
        ("long lengths", OddSigner { written: |attributes| long(0xa0, attributes), ..plain() }),
        (
            "long lengths, signed as written",
            OddSigner {
                written: |attributes| long(0xa0, attributes),
                signed: |attributes| long(SET, attributes),
                ..plain()
            },
        ),
        ("another order", OddSigner { written: |attributes| reversed(0xa0, attributes), ..plain() }),
        (
            "another order, signed as written",
            OddSigner {
                written: |attributes| reversed(0xa0, attributes),
                signed: |attributes| reversed(SET, attributes),
                ..plain()
            },
        ),
    ] {
        assert!(matches!(odd.check(&signer), SignatureCheck::Good { .. }), "{what}: {:?}", odd.check(&signer));
    }
    let wrong = OddSigner { signed: |attributes| element(SET, &[&attributes[0]]), ..plain() };
    assert!(matches!(odd.check(&wrong), SignatureCheck::Wrong { .. }));
}

#[test]
fn an_odd_signing_time_is_unknown_and_an_odd_digest_unchecked() {
    let odd = Odd::new(|_| {});
    let time = |tag, text: &[u8]| attribute_of(rfc5911::ID_SIGNING_TIME, &[&element(tag, &[text])]);
    let good = time(UTC, b"260101000000Z");
    for (what, attributes, known) in [
        ("a good one", vec![good.clone()], true),
        ("none", vec![], false),
        ("twice", vec![good.clone(), time(UTC, b"270101000000Z")], false),
        ("without seconds", vec![time(UTC, b"2601010000Z")], false),
        ("text", vec![time(UTF8, b"yesterday")], false),
        ("no value", vec![attribute_of(rfc5911::ID_SIGNING_TIME, &[])], false),
        (
            "two values",
            vec![attribute_of(rfc5911::ID_SIGNING_TIME, &[&element(UTC, &[b"260101000000Z"])[..]; 2])],
            false,
        ),
    ] {
        let signer = OddSigner { attributes, ..OddSigner::new(&odd.key, &odd.issuer, &[77]) };
        let SignatureCheck::Good { signing_time, .. } = odd.check(&signer) else { panic!("{what}") };
        assert_eq!(signing_time.is_some(), known, "{what}");
    }
    let digest_twice = attribute_of(rfc5911::ID_MESSAGE_DIGEST, &[&element(OCTET_STRING, &[&[0; 32]])]);
    let signer = OddSigner { attributes: vec![digest_twice], ..OddSigner::new(&odd.key, &odd.issuer, &[77]) };
    assert!(matches!(odd.check(&signer), SignatureCheck::Unchecked { .. }));
}

#[test]
fn a_signature_is_valid_for_the_certificate_its_signer_named() {
    let odd = Odd::new(|_| {});
    // Another certificate for the same key, with the same issuer and serial number.
    let twin = OddCertificate::person(&odd.issuer, &name(&[(CN, UTF8, b"Boss")])).sign(&odd.key, &SoftwareKey::p256());
    let sha1 = |der: &[u8]| <sha1::Sha1 as sha1::Digest>::digest(der).to_vec();
    let sha256 = |der: &[u8]| Hash::Sha256.digest(der);
    let octets = |digest: &[u8]| element(OCTET_STRING, &[digest]);
    let issuer_serial = |serial: u8, issuer: &[u8]| {
        let names = element(SEQUENCE, &[&element(context_constructed(4), &[issuer])]);
        element(SEQUENCE, &[&names, &element(INTEGER, &[&[serial]])])
    };
    let without_name = {
        let host = element(crate::pki::tlv::context(2), &[b"example.org"]);
        element(SEQUENCE, &[&element(SEQUENCE, &[&host]), &element(INTEGER, &[&[77]])])
    };
    let algorithm = |id: ObjectIdentifier| element(SEQUENCE, &[&oid(id)]);
    let attribute = |kind, parts: &[&[u8]]| {
        let first = element(SEQUENCE, parts);
        attribute_of(kind, &[&element(SEQUENCE, &[&element(SEQUENCE, &[&first])])])
    };
    let (v1, v2) = (rfc5911::ID_AA_SIGNING_CERTIFICATE, rfc5911::ID_AA_SIGNING_CERTIFICATE_V_2);
    let own = &odd.certificate;
    let long = Hash::Sha512.digest(own);
    let fits = issuer_serial(77, &odd.issuer);
    let (old_hash, long_hash) = (const_oid::db::rfc5912::ID_SHA_1, const_oid::db::rfc5912::ID_SHA_512);
    let unknown = algorithm(ObjectIdentifier::new_unwrap("1.2.3.4"));
    for (what, attributes, verdict) in [
        ("version 1", vec![attribute(v1, &[&octets(&sha1(own))])], "good"),
        ("version 2", vec![attribute(v2, &[&octets(&sha256(own))])], "good"),
        ("another hash", vec![attribute(v2, &[&algorithm(long_hash), &octets(&long)])], "good"),
        ("SHA-1 in version 2", vec![attribute(v2, &[&algorithm(old_hash), &octets(&sha1(own))])], "good"),
        ("with issuer and number", vec![attribute(v2, &[&octets(&sha256(own)), &fits])], "good"),
        ("with a number alone", vec![attribute(v2, &[&octets(&sha256(own)), &without_name])], "good"),
        ("eight of them", vec![attribute(v2, &[&octets(&sha256(own))]); 8], "good"),
        ("more", vec![attribute(v2, &[&octets(&sha256(own))]); 9], "unchecked"),
        ("both", vec![attribute(v1, &[&octets(&sha1(own))]), attribute(v2, &[&octets(&sha256(own))])], "good"),
        ("another certificate", vec![attribute(v1, &[&octets(&sha1(&twin))])], "wrong"),
        ("another certificate, 2", vec![attribute(v2, &[&octets(&sha256(&twin))])], "wrong"),
        ("one right", vec![attribute(v1, &[&octets(&sha1(own))]), attribute(v2, &[&octets(&[0; 32])])], "wrong"),
        ("another number", vec![attribute(v2, &[&octets(&sha256(own)), &issuer_serial(78, &odd.issuer)])], "wrong"),
        (
            "another issuer",
            vec![attribute(v2, &[&octets(&sha256(own)), &issuer_serial(77, &name(&[(CN, UTF8, b"X")]))])],
            "wrong",
        ),
        ("an unknown hash", vec![attribute(v2, &[&unknown, &octets(&[0; 32])])], "unchecked"),
        ("no identifier", vec![attribute_of(v2, &[&element(SEQUENCE, &[&element(SEQUENCE, &[])])])], "unchecked"),
        ("no value", vec![attribute_of(v2, &[])], "unchecked"),
    ] {
        let signer = OddSigner { attributes, ..OddSigner::new(&odd.key, &odd.issuer, &[77]) };
        let check = odd.check(&signer);
        let said = match &check {
            SignatureCheck::Good { .. } => "good",
            SignatureCheck::Wrong { reason, .. } if reason.contains("another certificate") => "wrong",
            SignatureCheck::Unchecked { .. } => "unchecked",
            _ => "?",
        };
        assert_eq!(said, verdict, "{what} {check:?}");
    }
    // Of two matching certificates, the named one counts.
    let attributes = vec![attribute(v2, &[&octets(&sha256(&twin))])];
    let signer = OddSigner { attributes, ..OddSigner::new(&odd.key, &odd.issuer, &[77]) };
    let message = signer.message(CONTENT, &[own, &twin]);
    let check = SignedMessage::parse(&message).unwrap().verify(None, &[]).unwrap().remove(0);
    let SignatureCheck::Good { certificate, .. } = check else { panic!("{check:?}") };
    assert_eq!(certificate.as_der(), twin);
}

#[test]
fn content_that_is_an_attribute_set_needs_signed_attributes() {
    let files = TestFiles::new();
    let key = files.put("key.pem", &openssl(&["genpkey", "-algorithm", "RSA"], &[]));
    let pem = openssl(&["req", "-x509", "-new", "-key", &key, "-subj", "/CN=Foreign"], &[]);
    let signer = files.put("signer.pem", &pem);
    let arguments = ["cms", "-sign", "-binary", "-nodetach", "-noattr", "-outform", "DER", "-signer", &signer];
    let sign = |content: &[u8]| {
        let message = openssl(&[&arguments[..], &["-inkey", &key]].concat(), content);
        SignedMessage::parse(&message).unwrap().verify(None, &[]).unwrap().remove(0)
    };
    let digest = attribute_of(rfc5911::ID_MESSAGE_DIGEST, &[&element(OCTET_STRING, &[&[0; 32]])]);
    for content in [&b"1. The contract\n"[..], b"1", &[SET, 0], &[SET, 2, 5, 0], &element(SET, &[&digest, b"x"])] {
        assert!(matches!(sign(content), SignatureCheck::Good { .. }), "{content:?} {:?}", sign(content));
    }
    let attributes = element(SET, &[&digest]);
    assert!(matches!(sign(&attributes), SignatureCheck::Wrong { .. }));
}

#[test]
fn the_signer_is_found_whatever_string_type_names_the_issuer() {
    let odd = Odd::new(|_| {});
    let printable = name(&[(O, PRINTABLE, b"EXAMPLE  ORG"), (CN, PRINTABLE, b"quirk ca")]);
    assert!(matches!(odd.check(&OddSigner::new(&odd.key, &printable, &[77])), SignatureCheck::Good { .. }));
    let other = name(&[(O, PRINTABLE, b"Example Org"), (CN, PRINTABLE, b"Quirk")]);
    assert!(matches!(odd.check(&OddSigner::new(&odd.key, &other, &[77])), SignatureCheck::NoCertificate { .. }));
}

#[test]
fn a_certificate_that_cannot_be_read_is_not_one_that_is_missing() {
    let odd = Odd::new(|certificate| certificate.not_before = element(UTC, &[b"2601010000Z"]));
    for (signer, reason) in [
        (OddSigner::new(&odd.key, &odd.issuer, &[77]), "its certificate cannot be read: its notBefore cannot be read"),
        (OddSigner::new(&odd.key, &odd.issuer, &[78]), "is missing, or is the one that cannot be read: its notBefore"),
    ] {
        let check = odd.check(&signer);
        let SignatureCheck::Unchecked { certificate: None, reason: said, .. } = check else { panic!("{check:?}") };
        assert!(said.contains(reason), "{said}");
    }
}

#[test]
fn an_excess_of_certificates_is_reported() {
    let odd = Odd::new(|_| {});
    let other = Odd::new(|certificate| certificate.serial = vec![5]).certificate;
    let signer = OddSigner::new(&odd.key, &odd.issuer, &[77]);
    let check = |others: usize| {
        let mut certificates = vec![other.as_slice(); others];
        certificates.push(&odd.certificate);
        let message = SignedMessage::parse(&signer.message(CONTENT, &certificates)).unwrap();
        message.verify(None, &[]).unwrap().remove(0)
    };
    assert!(matches!(check(63), SignatureCheck::Good { .. }));
    let SignatureCheck::Unchecked { reason, .. } = check(64) else { panic!("{:?}", check(64)) };
    assert!(reason.contains("the first 64"), "{reason}");
}

#[test]
fn unknown_or_unsafe_algorithms_are_unchecked_not_wrong() {
    let files = TestFiles::new();
    let make = |algorithm: &[&str], options: &[&str]| {
        let key = files.put("key.pem", &openssl(&[&["genpkey"], algorithm].concat(), &[]));
        let pem = openssl(&["req", "-x509", "-new", "-key", &key, "-subj", "/CN=Foreign"], &[]);
        let signer = files.put("signer.pem", &pem);
        let arguments = ["cms", "-sign", "-binary", "-nodetach", "-outform", "DER", "-signer", &signer, "-inkey", &key];
        let message = openssl(&[&arguments[..], options].concat(), CONTENT);
        SignedMessage::parse(&message).unwrap().verify(None, &[]).unwrap().remove(0)
    };
    let rsa = ["-algorithm", "RSA"];
    let curve = |name: &'static str| ["-algorithm", "EC", "-pkeyopt", name];
    for (algorithm, options) in [
        (&curve("ec_paramgen_curve:P-521")[..], &["-md", "sha512"][..]),
        (&curve("ec_paramgen_curve:P-521"), &["-md", "sha256"]),
        (&["-algorithm", "RSA-PSS"], &["-keyopt", "rsa_padding_mode:pss"]),
        (&rsa, &["-keyopt", "rsa_padding_mode:pss", "-keyopt", "rsa_pss_saltlen:0"]),
        (&rsa, &["-keyopt", "rsa_padding_mode:pss", "-keyopt", "rsa_mgf1_md:sha1"]),
    ] {
        let check = make(algorithm, options);
        assert!(matches!(check, SignatureCheck::Good { .. }), "{algorithm:?} {options:?} {check:?}");
    }
    for (algorithm, options, reason) in [
        (&rsa[..], &["-md", "sha1"][..], "SHA-1 is no longer safe"),
        (&rsa, &["-md", "md5"], "MD5 is no longer safe"),
        (&rsa, &["-md", "sha224"], "SHA-256"),
        (&curve("ec_paramgen_curve:brainpoolP256r1"), &[], "brainpoolP256r1"),
        (&["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"], &[], "1024 bits"),
    ] {
        let check = make(algorithm, options);
        let SignatureCheck::Unchecked { reason: said, .. } = check else {
            panic!("{algorithm:?} {options:?} {check:?}")
        };
        assert!(said.contains(reason), "{said}");
    }
}

#[test]
fn changed_content_is_wrong_with_every_signature_algorithm() {
    let files = TestFiles::new();
    let key = files.put("key.pem", &openssl(&["genpkey", "-algorithm", "RSA"], &[]));
    let pem = openssl(&["req", "-x509", "-new", "-key", &key, "-subj", "/CN=Foreign"], &[]);
    let signer = files.put("signer.pem", &pem);
    let arguments = ["cms", "-sign", "-binary", "-nodetach", "-outform", "DER", "-md", "sha256", "-inkey", &key];
    let message = openssl(&[&arguments[..], &["-signer", &signer]].concat(), CONTENT);
    let check = |message: &[u8]| SignedMessage::parse(message).unwrap().verify(None, &[]).unwrap().remove(0);
    assert!(matches!(check(&message), SignatureCheck::Good { .. }));
    let rsa = const_oid::db::rfc5912::RSA_ENCRYPTION;
    let at = message.windows(rsa.as_bytes().len()).rposition(|window| window == rsa.as_bytes()).unwrap();
    let data = ContentType::DATA.as_contents();
    // Changes the last octet of the signature algorithm: to SHA-1 with RSA, and to an unknown one.
    for (last, reason) in [(5, "SHA-1 is no longer safe"), (99, "signature algorithm")] {
        let mut other = message.clone();
        other[at + rsa.as_bytes().len() - 1] = last;
        let unchecked = check(&other);
        assert!(
            matches!(&unchecked, SignatureCheck::Unchecked { reason: said, .. } if said.contains(reason)),
            "{unchecked:?}"
        );
        let content = changed(&other, b"Dear", b"Deaf");
        let content_type = changed(&other, data, &[&data[..data.len() - 1], &[5]].concat());
        for (changed, reason) in [(content, "not what was signed"), (content_type, "another type")] {
            let wrong = check(&changed);
            assert!(matches!(&wrong, SignatureCheck::Wrong { reason: said, .. } if said.contains(reason)), "{wrong:?}");
        }
    }
}

/// Ed25519 signs the attributes themselves; their digest is SHA-512 (RFC 8419 §3.1).
#[test]
fn ed25519_is_verified() {
    let files = TestFiles::new();
    let key = files.put("key.pem", &openssl(&["genpkey", "-algorithm", "ED25519"], &[]));
    let pem = openssl(&["req", "-x509", "-new", "-key", &key, "-subj", "/CN=Foreign"], &[]);
    let certificate = Certificate::read_all(&pem).unwrap().remove(0);
    let digest_algorithm = element(SEQUENCE, &[&oid(const_oid::db::rfc5912::ID_SHA_512)]);
    let digest = element(OCTET_STRING, &[&Hash::Sha512.digest(CONTENT)]);
    let data = element(OBJECT_IDENTIFIER, &[ContentType::DATA.as_contents()]);
    let attributes =
        [attribute(rfc5911::ID_CONTENT_TYPE, &data), attribute(rfc5911::ID_MESSAGE_DIGEST, &digest)].concat();
    let to_sign = files.put("to_sign", &element(SET, &[&attributes]));
    let signature = openssl(&["pkeyutl", "-sign", "-rawin", "-inkey", &key, "-in", &to_sign], &[]);
    let message = |content: &[u8]| {
        let signer_info = element(
            SEQUENCE,
            &[
                &element(INTEGER, &[&[1]]),
                &CertificateId::of(&certificate).to_der().unwrap(),
                &digest_algorithm,
                &element(context_constructed(0), &[&attributes]),
                &element(SEQUENCE, &[&oid(const_oid::db::rfc8410::ID_ED_25519)]),
                &element(OCTET_STRING, &[&signature]),
            ],
        );
        let content = element(context_constructed(0), &[&element(OCTET_STRING, &[content])]);
        let signed = [
            &element(INTEGER, &[&[1]])[..],
            &element(SET, &[&digest_algorithm]),
            &element(SEQUENCE, &[&data, &content]),
            &element(context_constructed(0), &[certificate.as_der()]),
            &element(SET, &[&signer_info]),
        ];
        let message = content_info(rfc5911::ID_SIGNED_DATA, &element(SEQUENCE, &signed));
        SignedMessage::parse(&message).unwrap().verify(None, &[]).unwrap().remove(0)
    };
    assert!(matches!(message(CONTENT), SignatureCheck::Good { .. }), "{:?}", message(CONTENT));
    assert!(matches!(message(b"something else"), SignatureCheck::Wrong { .. }));
}
