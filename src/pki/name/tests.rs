//! Tests with names that break programs.

use super::*;
use crate::pki::Certificate;
use crate::pki::test_support::{SoftwareKey, TestFiles, openssl};

fn common_name(name: &str) -> String {
    DistinguishedName::of(name).unwrap().common_name().unwrap()
}

#[test]
fn names_stay_as_they_are() {
    for name in [
        "Example, User",
        "User \"the Example\" O'Neil",
        "Jürgen Größenwahn-Łąka",
        "山田 太郎",
        "👩‍🔬 Researcher 🧪",
        "a+b=c;d<e>f\\g#h",
        "#starts with a hash",
        &"x".repeat(64),
        &"é".repeat(64),
        &"🧪".repeat(64),
    ] {
        assert_eq!(common_name(name), name);
        let name = DistinguishedName::of(name).unwrap();
        assert_eq!(DistinguishedName::from_der(&name.to_der().unwrap()).unwrap(), name);
    }
    assert_eq!(common_name("  spaces around \t"), "spaces around");
}

#[test]
fn long_names_are_cut_at_a_word_and_marked() {
    let long = "Maria Anna Magdalena Theresia Josephine Wilhelmine, Countess of Somewhere and Elsewhere";
    assert_eq!(common_name(long), "Maria Anna Magdalena Theresia Josephine Wilhelmine, Countess of…");
    assert_eq!(common_name(&"x".repeat(65)), format!("{}…", "x".repeat(63)));
    // 63 characters that end with a word: the word is kept.
    let whole = format!("{} {}", "a".repeat(40), "b".repeat(22));
    assert_eq!(common_name(&format!("{whole} more")), format!("{whole}…"));
    // A comma before the cut is removed too.
    assert_eq!(common_name(&format!("{}, {}", "a".repeat(50), "b".repeat(50))), format!("{}…", "a".repeat(50)));
}

#[test]
fn the_cut_does_not_fall_into_what_people_see_as_one_letter() {
    let accented = format!("{}e\u{301}{}", "x".repeat(62), "y".repeat(10));
    assert_eq!(common_name(&accented), format!("{}…", "x".repeat(62)));
    let family = format!("{}👩\u{200d}🔬{}", "x".repeat(61), "y".repeat(10));
    assert_eq!(common_name(&family), format!("{}…", "x".repeat(61)));
    assert!(common_name(&"🧪".repeat(100)).chars().count() <= 64);
}

#[test]
fn invalid_names_are_refused() {
    for name in ["", "   ", "line\nbreak", "nul\0", "bell\u{7}", "right\u{202e}to left", &"x".repeat(257)] {
        let error = DistinguishedName::of(name).unwrap_err().to_string();
        assert!(error.starts_with("cannot use this name"), "{error}");
    }
    for unseen in ["\u{200b}", "\u{200d}\u{2060}", "\u{feff} \u{ad}", "\u{3164}", "\u{301}", "\u{fe0f}\u{e0020}"] {
        assert!(DistinguishedName::of(unseen).is_err(), "{unseen:?}");
    }
}

#[test]
fn shown_as_rfc_4514_has_it_and_safe_for_a_terminal() {
    let shown = |name: &str| DistinguishedName::of(name).unwrap().to_string();
    assert_eq!(shown("Example, User"), "CN=Example\\, User");
    assert_eq!(shown("\"a\"+b"), "CN=\\\"a\\\"\\+b");
    assert_eq!(shown("#a"), "CN=\\#a");
    assert_eq!(shown("Jürgen 🧪"), "CN=Jürgen 🧪");
    // Other issuers' certificates may contain any character.
    let hostile = DistinguishedName::from_common_name("a\u{1b}[31m\nb").unwrap();
    assert_eq!(hostile.to_string(), "CN=a\\1b[31m\\0ab");
}

/// The subject of a certificate made by OpenSSL with this `string_mask`, which selects string
/// types.
fn by_openssl(subject: &str, string_mask: &str) -> DistinguishedName {
    let files = TestFiles::new();
    let key = files.put_key("key.pem", &SoftwareKey::p256());
    let config = format!("[req]\ndistinguished_name=dn\nstring_mask={string_mask}\n[dn]\n");
    let config = files.put("openssl.cnf", config.as_bytes());
    let arguments = ["req", "-x509", "-new", "-key", &key, "-utf8", "-subj", subject, "-config", &config];
    Certificate::read_all(&openssl(&arguments, &[])).unwrap().remove(0).subject()
}

#[test]
fn names_of_other_makers_are_read() {
    let printable = by_openssl("/C=DE/O=Example/OU=a/CN=User/emailAddress=user@example.org", "default");
    assert_eq!(printable.to_string(), "emailAddress=user@example.org,CN=User,OU=a,O=Example,C=DE");
    assert_eq!(by_openssl("/CN=山田 太郎", "default").common_name().unwrap(), "山田 太郎"); // BMPString
    assert_eq!(by_openssl("/CN=Jürgen", "utf8only").common_name().unwrap(), "Jürgen");
    assert_eq!(by_openssl("/CN=Jürgen", "default").common_name().unwrap(), "Jürgen"); // TeletexString
    assert_eq!(by_openssl("/CN=first/CN=last", "default").common_name().unwrap(), "last");
    assert_eq!(by_openssl("/O=nobody", "default").common_name(), None);
    for broken in [&[][..], &[0x30, 0x03, 0x31, 0x01], &[0x30, 0x02, 0x31, 0x02], &[0x31, 0]] {
        assert!(DistinguishedName::from_der(broken).is_err(), "{broken:?}");
    }
}

#[test]
fn names_are_compared_as_rfc_5280_says() {
    use crate::pki::test_support::odd_certificates::{
        BMP, IA5, O, PRINTABLE, TELETEX, UNIVERSAL, UTF8, VISIBLE, name, name_of_parts,
    };
    let read = |der: Vec<u8>| DistinguishedName::from_der(&der).unwrap();
    let one = |tag, value: &[u8]| read(name(&[(CN, tag, value)]));
    let utf8 = one(UTF8, b"Example Org");
    for other in [
        one(PRINTABLE, b"Example Org"),
        one(TELETEX, b"EXAMPLE ORG"),
        one(VISIBLE, b" example  org "),
        one(IA5, b"example\torg"),
        one(BMP, b"\0E\0x\0a\0m\0p\0l\0e\0 \0O\0r\0g"),
        one(UNIVERSAL, &"example org".chars().flat_map(|char| u32::from(char).to_be_bytes()).collect::<Vec<_>>()),
    ] {
        assert_eq!(utf8, other);
        assert_ne!(utf8.to_der().unwrap(), other.to_der().unwrap());
        assert_eq!(other.as_x509().iter_rdn().count(), 1, "{other}");
    }
    for other in [
        one(UTF8, b"ExampleOrg"),
        one(UTF8, b"Example Orf"),
        one(4, b"Example Org"),
        read(name(&[(O, UTF8, b"Example Org")])),
        read(name(&[(CN, UTF8, b"Example Org"), (CN, UTF8, b"Example Org")])),
        read(name(&[])),
    ] {
        assert_ne!(utf8, other);
    }
    // The attributes of one RDN have no order; the RDNs do.
    let (cn, o) = ((CN, UTF8, &b"User"[..]), (O, PRINTABLE, &b"Org"[..]));
    assert_eq!(read(name_of_parts(&[&[cn, o]])), read(name_of_parts(&[&[o, cn]])));
    assert_ne!(read(name(&[cn, o])), read(name(&[o, cn])));
    assert_ne!(read(name(&[cn, o])), read(name_of_parts(&[&[cn, o]])));
    assert!(read(name(&[o, cn])).is_within(&read(name(&[(O, TELETEX, b"ORG")]))));
    assert!(!read(name(&[cn, o])).is_within(&read(name(&[o]))));
    // A value that is not text is compared octet by octet.
    assert_eq!(one(4, b"\x01"), one(4, b"\x01"));
    assert_eq!(one(4, b"\x01").to_string(), "CN=#040101");
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    #[test]
    fn every_name_is_refused_or_round_trips(name in "\\PC{0,300}") {
        if let Ok(subject) = DistinguishedName::of(&name) {
            let common = subject.common_name().unwrap();
            assert!(common.chars().count() <= 64);
            assert!(common == name.trim() || common.ends_with('…'));
            let stem = common.trim_end_matches('…');
            assert!(name.trim().starts_with(stem), "{common:?} of {name:?}");
            assert_eq!(DistinguishedName::from_der(&subject.to_der().unwrap()).unwrap(), subject);
        }
    }
}
