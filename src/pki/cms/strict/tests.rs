//! Tests of the strict form, and of every deviation from it that keeps the signature valid.

use super::super::{ContentToSign, SigningCertificate, sign};
use super::*;
use crate::pki::oid::ContentType;
use crate::pki::test_support::{SoftwareKey, TestAuthority, now};
use crate::pki::tlv::{element, set_of};

/// The parts of a message made by this crate, to be reassembled in other ways.
struct Parts {
    version: Vec<u8>,
    digest_algorithms: Vec<Vec<u8>>,
    content: Vec<u8>,
    certificates: Vec<Vec<u8>>,
    /// The version, identifier, digest algorithm, signed attributes (tagged [0]), signature
    /// algorithm and signature.
    signer: Vec<Vec<u8>>,
}

fn message(key: &SoftwareKey) -> Vec<u8> {
    let authority = TestAuthority::new("Example Authority", SoftwareKey::p256());
    let certificate = authority.issue("signing", "Example, Administrator", key);
    let to_sign = ContentToSign {
        content_type: ContentType::STATEMENT,
        content: b"{}",
        detached: false,
        signer: &SigningCertificate::new(&certificate, &[]).unwrap(),
        signing_time: now(),
        capabilities: true,
    };
    sign(&to_sign, key).unwrap()
}

fn children(bytes: &[u8]) -> Vec<Vec<u8>> {
    let element = Elements::of(bytes, "a test").any().unwrap();
    element.inside("a test").all().unwrap().iter().map(|inside| inside.whole.to_vec()).collect()
}

impl Parts {
    fn of(message: &[u8]) -> Self {
        let signed_data = children(&children(message)[1]).remove(0);
        let parts = children(&signed_data);
        Self {
            version: parts[0].clone(),
            digest_algorithms: children(&parts[1]),
            content: parts[2].clone(),
            certificates: children(&parts[3]),
            signer: children(&children(&parts[4])[0]),
        }
    }

    /// Assembles the message, with `lists` after the certificates and `more_signers` after the
    /// signer.
    fn together(&self, lists: &[u8], more_signers: &[u8]) -> Vec<u8> {
        let signer = element(SEQUENCE, &slices(&self.signer));
        let signed_data = [
            self.version.clone(),
            element(SET, &slices(&self.digest_algorithms)),
            self.content.clone(),
            element(context_constructed(0), &slices(&self.certificates)),
            lists.to_vec(),
            element(SET, &[&signer, more_signers]),
        ];
        around(&element(SEQUENCE, &slices(&signed_data)))
    }
}

fn slices(parts: &[Vec<u8>]) -> Vec<&[u8]> {
    parts.iter().map(Vec::as_slice).collect()
}

fn around(signed_data: &[u8]) -> Vec<u8> {
    super::super::content_info(const_oid::db::rfc5911::ID_SIGNED_DATA, signed_data)
}

#[track_caller]
fn refused(message: &[u8], why: &str) {
    let error = check_sole_signer(message).unwrap_err().to_string();
    assert!(error.contains(why), "{error}");
}

#[test]
fn our_messages_are_in_the_strict_form() {
    for key in [SoftwareKey::p256(), SoftwareKey::p384(), SoftwareKey::rsa()] {
        let message = message(&key);
        check_sole_signer(&message).unwrap();
        assert_eq!(Parts::of(&message).together(&[], &[]), message);
    }
}

#[test]
fn duplicate_missing_and_extra_elements_are_refused() {
    let message = message(&SoftwareKey::p256());
    let changed = |change: &dyn Fn(&mut Parts)| {
        let mut parts = Parts::of(&message);
        change(&mut parts);
        parts.together(&[], &[])
    };
    let signer = element(SEQUENCE, &slices(&Parts::of(&message).signer));
    refused(&Parts::of(&message).together(&[], &signer), "a set is not in order");
    let other = element(SEQUENCE, &slices(&Parts::of(&self::message(&SoftwareKey::rsa())).signer));
    refused(&Parts::of(&message).together(&[], &other), "one signer but has 2");
    refused(&Parts::of(&message).together(&element(context_constructed(1), &[]), &[]), "not contain a revocation list");
    refused(&changed(&|parts| parts.digest_algorithms.clear()), "one digest algorithm but has 0");
    refused(&changed(&|parts| parts.certificates.clear()), "one certificate but has 0");
    refused(&changed(&|parts| parts.certificates.push(element(SEQUENCE, &[]))), "one certificate but has 2");
    let sha384 = super::super::oid(const_oid::db::rfc5912::ID_SHA_384);
    let sha384 = element(SEQUENCE, &[&sha384]);
    refused(&changed(&|parts| parts.digest_algorithms.push(sha384.clone())), "one digest algorithm but has 2");
    refused(&changed(&|parts| parts.digest_algorithms = vec![sha384.clone()]), "must be its signer's");
    let attribute = element(SEQUENCE, &[&super::super::oid(const_oid::db::rfc5911::ID_DATA), &element(SET, &[])]);
    let unsigned = element(context_constructed(1), &[&attribute]);
    refused(&changed(&|parts| parts.signer.push(unsigned.clone())), "not have unsigned attributes");
    refused(&changed(&|parts| parts.signer.push(element(context_constructed(1), &[]))), "not have unsigned attributes");
    refused(&changed(&|parts| parts.signer.push(vec![NULL, 0])), "follows its end");
    refused(&changed(&|parts| drop(parts.signer.remove(3))), "tag");
    refused(&[&message[..], &[NULL, 0]].concat(), "follows its end");
    refused(&message[..message.len() - 1], "ends too early");
    let detached = element(SEQUENCE, &[&children(&Parts::of(&message).content)[0]]);
    refused(&changed(&|parts| parts.content = detached.clone()), "header is malformed");
}

#[test]
fn signed_attributes_are_in_order() {
    let message = message(&SoftwareKey::p256());
    let mut parts = Parts::of(&message);
    let mut attributes = children(&parts.signer[3]);
    assert_eq!(set_of(context_constructed(0), attributes.clone()), parts.signer[3]);
    attributes.reverse();
    parts.signer[3] = element(context_constructed(0), &slices(&attributes));
    refused(&parts.together(&[], &[]), "a set is not in order");
}

#[test]
fn nothing_is_in_another_form_than_der() {
    let message = message(&SoftwareKey::p256());
    let parts = Parts::of(&message);
    // An indefinite length, and a length with more octets than necessary, at each level.
    let indefinite = |bytes: &[u8]| {
        let value = Elements::of(bytes, "a test").any().unwrap().value;
        [&bytes[..1], &[0x80], value, &[0, 0]].concat()
    };
    let padded = |bytes: &[u8]| {
        let value = Elements::of(bytes, "a test").any().unwrap().value;
        let length = u32::try_from(value.len()).unwrap().to_be_bytes();
        [&bytes[..1], &[0x84], &length, value].concat()
    };
    let signed_data = children(&children(&message)[1]).remove(0);
    refused(&indefinite(&message), "not in DER");
    refused(&padded(&message), "more octets");
    refused(&around(&indefinite(&signed_data)), "not in DER");
    refused(&around(&padded(&signed_data)), "more octets");
    for at in 0..parts.signer.len() {
        let mut changed = Parts::of(&message);
        changed.signer[at] = padded(&parts.signer[at]);
        refused(&changed.together(&[], &[]), "more octets");
    }
    let content = children(&parts.content);
    let octets = children(&content[1]).remove(0);
    let pieces = element(OCTET_STRING | 0x20, &[&octets]);
    for octets in [pieces, padded(&octets), element(SEQUENCE, &[])] {
        let mut changed = Parts::of(&message);
        changed.content = element(SEQUENCE, &[&content[0], &element(context_constructed(0), &[&octets])]);
        assert!(check_sole_signer(&changed.together(&[], &[])).is_err());
    }
    let mut changed = Parts::of(&message);
    changed.version = vec![INTEGER, 2, 0, 3];
    refused(&changed.together(&[], &[]), "only form");
}

#[test]
fn a_value_has_one_form() {
    let good: &[(u8, &[u8])] = &[
        (BOOLEAN, &[0xff]),
        (INTEGER, &[0]),
        (INTEGER, &[0, 0x80]),
        (BIT_STRING, &[0]),
        (BIT_STRING, &[5, 0xe0]),
        (OBJECT_IDENTIFIER, &[0x2a, 0x86, 0x48]),
        (UTC_TIME, b"261122140000Z"),
        (GENERALIZED_TIME, b"20261122140000Z"),
        (GENERALIZED_TIME, b"20261122140000.5Z"),
    ];
    let bad: &[(u8, &[u8])] = &[
        (0, &[]),
        (BOOLEAN, &[1]),
        (BOOLEAN, &[]),
        (INTEGER, &[]),
        (INTEGER, &[0, 0x7f]),
        (INTEGER, &[0xff, 0x80]),
        (BIT_STRING, &[]),
        (BIT_STRING, &[8, 0]),
        (BIT_STRING, &[5, 0xf0]),
        (NULL, &[0]),
        (OBJECT_IDENTIFIER, &[]),
        (OBJECT_IDENTIFIER, &[0x2a, 0x86]),
        (OBJECT_IDENTIFIER, &[0x2a, 0x80, 0x01]),
        (UTC_TIME, b"2611221400Z"),
        (UTC_TIME, b"261122140000+0000"),
        (GENERALIZED_TIME, b"20261122140000"),
        (GENERALIZED_TIME, b"20261122140000.50Z"),
        (GENERALIZED_TIME, b"20261122140000.Z"),
    ];
    for (tag, value) in good {
        check_value(*tag, value).unwrap_or_else(|error| panic!("{tag} {value:?}: {error}"));
    }
    for (tag, value) in bad {
        assert!(check_value(*tag, value).is_err(), "{tag} {value:?}");
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    #[test]
    fn no_bytes_do_harm(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
        proptest::prop_assert!(check_sole_signer(&bytes).is_err());
    }
}
