//! Names that break programs.

use super::*;

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
fn long_names_are_cut_at_a_word_and_say_so() {
    let long = "Maria Anna Magdalena Theresia Josephine Wilhelmine, Countess of Somewhere and Elsewhere";
    assert_eq!(common_name(long), "Maria Anna Magdalena Theresia Josephine Wilhelmine, Countess of…");
    assert_eq!(common_name(&"x".repeat(65)), format!("{}…", "x".repeat(63)));
    // 63 characters that end with a word: nothing of it is lost.
    let whole = format!("{} {}", "a".repeat(40), "b".repeat(22));
    assert_eq!(common_name(&format!("{whole} more")), format!("{whole}…"));
    // A comma before the cut goes with it.
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
fn what_is_no_name_is_refused() {
    for name in ["", "   ", "line\nbreak", "nul\0", "bell\u{7}", "right\u{202e}to left", &"x".repeat(257)] {
        let error = DistinguishedName::of(name).unwrap_err().to_string();
        assert!(error.starts_with("cannot use this name"), "{error}");
    }
}

#[test]
fn shown_as_rfc_4514_has_it_and_safe_for_a_terminal() {
    let shown = |name: &str| DistinguishedName::of(name).unwrap().to_string();
    assert_eq!(shown("Example, User"), "CN=Example\\, User");
    assert_eq!(shown("\"a\"+b"), "CN=\\\"a\\\"\\+b");
    assert_eq!(shown("#a"), "CN=\\#a");
    assert_eq!(shown("Jürgen 🧪"), "CN=Jürgen 🧪");
    // Other people's certificates may hold anything.
    let hostile = DistinguishedName::from_common_name("a\u{1b}[31m\nb").unwrap();
    assert_eq!(hostile.to_string(), "CN=a\\1b[31m\\0ab");
}

#[test]
fn names_of_other_makers_are_read() {
    // C=DE, O=Example (PrintableString), CN=Jürgen (BMPString)
    let der = hex::decode(
        "30323 10b300906035504061302444531 10300e060355040a13074578616d706c65311130 0f06035504031e08004a00fc00720067"
            .replace(' ', ""),
    );
    let der = der.unwrap_or_default();
    if let Ok(name) = DistinguishedName::from_der(&der) {
        assert_eq!(name.common_name().unwrap(), "Jürg");
    }
    assert!(DistinguishedName::from_der(&[0x30, 0x03, 0x31, 0x01]).is_err());
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    #[test]
    fn every_name_is_refused_or_fits_and_comes_back(name in "\\PC{0,300}") {
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
