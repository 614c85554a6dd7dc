//! Tests of what mail programs and people do to a letter, and of what a letter must prevent.

use proptest::prelude::*;

use super::*;

pub(crate) fn example() -> Letter {
    Letter {
        user_name: "Example, User".to_owned(),
        email: "user@example.org".to_owned(),
        authority_name: "Example Authority".to_owned(),
        http_url: "http://127.0.0.1:8829".to_owned(),
        https_url: "https://127.0.0.1:8830".to_owned(),
        reference: Reference::new(LetterPurpose::Enroll, [1, 2, 3, 4, 5]),
        temporary_key: TemporaryKey::from_mac(&[0x5a; 32]),
        ca_fingerprint: std::array::from_fn(|i| u8::try_from(i * 7 % 251).unwrap()),
        levels: vec![SecurityLevel::High, SecurityLevel::Low],
        expires: "2026-12-01T12:30:15Z".parse().unwrap(),
    }
}

/// The text without the lines of this field.
fn without(text: &str, field: &str) -> String {
    let kept: Vec<&str> = text.lines().filter(|line| !line.starts_with(&format!("{field}:"))).collect();
    kept.join("\n")
}

#[test]
fn a_letter_round_trips() {
    assert_eq!(Letter::parse(&example().to_text()).unwrap(), example());
    let recovery = Letter { reference: Reference::new(LetterPurpose::Recover, [7; 5]), ..example() };
    assert_eq!(Letter::parse(&recovery.to_text()).unwrap(), recovery);
}

#[test]
fn a_letter_is_short_and_narrow_and_names_the_command() {
    let text = example().to_text();
    assert!(text.lines().count() <= 30, "{} lines", text.lines().count());
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{}", *text);
    assert!(text.contains("tokenkeep enroll --letter FILE"));
    let recovery = Letter { reference: Reference::new(LetterPurpose::Recover, [7; 5]), ..example() }.to_text();
    assert!(recovery.contains("--keyset NAME"));
}

#[test]
fn a_letter_survives_mail_programs() {
    let text = example().to_text();
    let quoted = text.lines().map(|line| ["> > ", line, "   \r\n"].concat()).collect::<String>();
    let indented = text.lines().map(|line| ["\t  ", line, "\u{a0}\n"].concat()).collect::<String>();
    let forwarded = format!("\u{feff}Dear user,\n\nhere it is: see below.\n-----\n{}\n-- \nSubject: x\n", *text);
    let upper = text.replace("Temporary key:", "TEMPORARY KEY :").replace("User:", "user:");
    let brackets = text.replace("http://127.0.0.1:8829", "<http://127.0.0.1:8829/>");
    for changed in [text.replace('\n', "\r\n"), quoted, indented, forwarded, upper, brackets] {
        assert_eq!(Letter::parse(&changed).unwrap(), example(), "{changed}");
    }
}

#[test]
fn a_letter_in_another_form_is_refused_with_a_remedy() {
    use base64::Engine as _;
    let text = example().to_text();
    let joined = text.replace('\n', " ");
    let reflowed = text
        .replace("\nE-mail:", " E-mail:")
        .replace("\nReference:", " Reference:")
        .replace("\nAuthority:", " Authority:");
    let base64 = base64::engine::general_purpose::STANDARD.encode(text.as_bytes());
    let wrapped: Vec<_> = base64.as_bytes().chunks(76).map(|line| std::str::from_utf8(line).unwrap()).collect();
    let mail = format!("Subject: letter\nContent-Transfer-Encoding: base64\n\n{}\n", wrapped.join("\n"));
    let html = format!(
        "<html><body>{}</body></html>",
        text.replace('\n', "<br>\n").replace("Reference:", "<b>Reference</b>:")
    );
    let wide: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let rtf = format!("{{\\rtf1\\ansi {}}}", text.replace('\n', "\\par\n"));
    for (changed, word) in [
        (joined, "joined"),
        (reflowed, "joined"),
        (base64, "base64"),
        (base64::engine::general_purpose::STANDARD.encode(wide), "base64"),
        (mail, "base64"),
        (html, "HTML"),
        (hex::encode(text.as_bytes()), "hexadecimal"),
        (rtf, "RTF"),
        (text.replace("Temporary key", "Temporary\u{a0}key"), "no-break spaces"),
        (text.replace("Valid until: ", "Valid until:").replace("2026-", "2026\u{2013}"), "typographic dashes"),
    ] {
        let error = Letter::parse(&changed).unwrap_err();
        assert!(matches!(error, LetterError::Altered { .. }), "{error}: {changed}");
        let text = error.to_string();
        assert!(text.contains(word) && text.contains("; "), "{text}");
        assert!(!text.contains(&*example().temporary_key.grouped()), "{text}");
    }
    for utf_32 in [u32::to_le_bytes, u32::to_be_bytes] {
        let bytes: Vec<u8> = text.chars().flat_map(|char| utf_32(u32::from(char))).collect();
        let error = Letter::read(bytes.as_slice(), "here").unwrap_err();
        assert!(error.to_string().contains("UTF-32"), "{error}");
    }
    let utf_16: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    for bytes in [utf_16.clone(), [b"\xff\xfe".to_vec(), utf_16].concat()] {
        let error = Letter::read(bytes.as_slice(), "here").unwrap_err();
        assert!(error.to_string().contains("UTF-16") && error.to_string().contains("UTF-8"), "{error}");
    }
}

#[test]
fn the_fingerprint_may_be_wrapped_anywhere() {
    let text = example().to_text();
    let joined = text.replace("\n                  ", " ");
    let in_four = joined.replace("1c23 ", "1c23\n> ").replace("7e85 ", "7e85\r\n");
    let colons = text.replace(&fingerprint_lines(&example().ca_fingerprint), &{
        example().ca_fingerprint.map(|byte| format!("{byte:02X}")).join(":")
    });
    for changed in [joined, in_four, colons] {
        assert_eq!(Letter::parse(&changed).unwrap(), example(), "{changed}");
    }
}

#[test]
fn each_missing_field_is_named() {
    for field in FIELDS {
        match Letter::parse(&without(&example().to_text(), field)) {
            Err(LetterError::Missing { field: named }) => assert_eq!(named, field),
            other => panic!("{field}: {other:?}"),
        }
    }
}

#[test]
fn each_doubled_field_is_named() {
    for field in FIELDS {
        let text = format!("{}\n> {field}: x\n", *example().to_text());
        match Letter::parse(&text) {
            Err(LetterError::Duplicate { field: named }) => assert_eq!(named, field),
            other => panic!("{field}: {other:?}"),
        }
    }
}

#[test]
fn each_empty_or_invalid_value_is_named() {
    let text = example().to_text();
    let nonsense = [
        (EMAIL, "user at example"),
        (EMAIL, "@example.org"),
        (ADDRESS, "https://127.0.0.1:8829"),
        (ADDRESS, "http://"),
        (ADDRESS, "http:///x"),
        (ADDRESS, "http://ex ample"),
        (SECURE_ADDRESS, "http://127.0.0.1:8830"),
        (REFERENCE, "E123"),
        (TEMPORARY_KEY, "ABCD-EFGH"),
        (CA_FINGERPRINT, "00 11"),
        (CA_FINGERPRINT, "zz"),
        (LEVELS, "high, highest"),
        (LEVELS, "high, high"),
        (EXPIRES, "tomorrow"),
        (EXPIRES, "2026-12-01 12:30:15"),
        (EXPIRES, "2026-13-01 12:30:15 UTC"),
        (EXPIRES, "-000001-12-01 12:30:15 UTC"),
        (USER, "\u{202e} \u{feff}"),
    ];
    for (field, value) in FIELDS.map(|field| (field, "")).into_iter().chain(nonsense) {
        let changed = format!("{field}: {value}\nno hexadecimal line\n{}", without(&text, field));
        match Letter::parse(&changed) {
            Err(LetterError::Field { field: named, .. }) => assert_eq!(named, field, "{value}"),
            other => panic!("{field}, {value:?}: {other:?}"),
        }
    }
}

#[test]
fn a_mistyped_temporary_key_is_noticed_and_not_repeated() {
    let key = example().temporary_key.grouped();
    let mut typed: Vec<char> = key.chars().collect();
    typed.swap(5, 6);
    let typed: String = typed.into_iter().collect();
    assert_ne!(typed, **key);
    let error = Letter::parse(&example().to_text().replace(&**key, &typed)).unwrap_err().to_string();
    assert!(error.contains("Temporary key") && error.contains("mistyped"), "{error}");
    assert!(!error.contains(&typed), "{error}");
}

#[test]
fn an_overlong_text_is_not_a_letter() {
    let text = format!("{}{}", *example().to_text(), " ".repeat(MAX_LETTER_BYTES));
    assert!(matches!(Letter::parse(&text), Err(LetterError::TooLong)));
}

#[test]
fn a_name_cannot_add_a_field() {
    let key = TemporaryKey::from_mac(&[1; 32]).grouped();
    for end in ["\n", "\r", "\r\n", "\u{85}", "\u{2028}", "\u{2029}", "\u{b}", "\u{c}", "\0"] {
        let name =
            format!("Example{end}Temporary key: {}{end}Reference: E123{end}> Address: http://evil.example", *key);
        let letter = Letter { user_name: name.clone(), authority_name: name, ..example() };
        let read = Letter::parse(&letter.to_text()).unwrap();
        assert_eq!((&read.temporary_key, &read.reference), (&example().temporary_key, &example().reference));
        assert_eq!(read.http_url, example().http_url);
    }
}

#[test]
fn debug_does_not_show_the_temporary_key() {
    let shown = format!("{:?}", example());
    assert!(shown.contains("[redacted]"));
    assert!(!shown.contains(&**example().temporary_key.grouped()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_name_leaves_the_rest_alone(name in any::<String>(), authority in any::<String>()) {
        let letter = Letter { user_name: format!("x{name}"), authority_name: format!("x{authority}"), ..example() };
        let read = Letter::parse(&letter.to_text()).unwrap();
        prop_assert_eq!(
            Letter { user_name: letter.user_name.clone(), authority_name: letter.authority_name.clone(), ..read },
            letter
        );
    }

    #[test]
    fn ordinary_names_round_trip(name in "[A-Za-zäöüß,.'\"(): -]{0,80}é") {
        let letter = Letter { user_name: name.trim().to_owned(), ..example() };
        prop_assert_eq!(Letter::parse(&letter.to_text()).unwrap(), letter);
    }

    /// A parsed letter is written so that it parses to the same text, whatever its values were.
    #[test]
    fn a_parsed_letter_round_trips(field in 0usize..10, value in "[ -~\u{202e}\u{b}é]{0,40}", before: bool) {
        let text = example().to_text();
        let changed = format!("{}: {value}\n-\n{}", FIELDS[field], without(&text, FIELDS[field]));
        let changed = if before { changed } else { text.replace("Example", &value) };
        if let Ok(letter) = Letter::parse(&changed) {
            let written = letter.to_text();
            prop_assert_eq!(&Letter::parse(&written).unwrap().to_text(), &written);
        }
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in any::<String>()) {
        let _ = Letter::parse(&text);
    }
}
