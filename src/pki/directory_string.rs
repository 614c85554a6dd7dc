//! Decodes the string types of ASN.1, and normalizes texts for comparison (RFC 5280 §7.1, RFC
//! 4518).
//!
//! A certificate is never refused here: a value that is not text remains octets, and the caller
//! handles it.

/// `UTF8String`.
const UTF8: u8 = 0x0c;
/// `TeletexString`. All programs write ISO 8859-1 into it, and OpenSSL, NSS and Windows decode it
/// so.
const TELETEX: u8 = 0x14;
/// `UniversalString`: UTF-32, big-endian.
const UNIVERSAL: u8 = 0x1c;
/// `BMPString`: UTF-16, big-endian.
const BMP: u8 = 0x1e;
/// The types that are ASCII according to their standard: `NumericString`, `PrintableString`,
/// `VideotexString`, `IA5String`, `GraphicString`, `VisibleString` and `GeneralString`. Some
/// programs write other characters into them.
const ASCII: [u8; 7] = [0x12, 0x13, 0x15, 0x16, 0x19, 0x1a, 0x1b];

/// The text of a value with this tag; `None` if it is not a string, or invalid for its type.
pub(super) fn text_of(tag: u8, value: &[u8]) -> Option<String> {
    match tag {
        UTF8 => std::str::from_utf8(value).ok().map(str::to_owned),
        TELETEX => Some(latin1(value)),
        BMP => {
            let (units, []) = value.as_chunks::<2>() else { return None };
            char::decode_utf16(units.iter().map(|unit| u16::from_be_bytes(*unit))).collect::<Result<_, _>>().ok()
        }
        UNIVERSAL => {
            let (characters, []) = value.as_chunks::<4>() else { return None };
            characters.iter().map(|character| char::from_u32(u32::from_be_bytes(*character))).collect()
        }
        tag if ASCII.contains(&tag) => Some(std::str::from_utf8(value).map_or_else(|_| latin1(value), str::to_owned)),
        _ => None,
    }
}

fn latin1(octets: &[u8]) -> String {
    octets.iter().copied().map(char::from).collect()
}

/// The normalized text for comparison: letters in lower case, no white space at the ends, single
/// spaces within, no invisible characters.
///
/// Letters are folded one by one to Unicode's lower case, and `ß`, `ς` and `ſ` as in RFC 3454 table
/// B.2. There is no Unicode normalization: an `é` and an `e` with a combining accent are different
/// texts.
pub(super) fn normalize(text: &str) -> String {
    let mut comparable = String::with_capacity(text.len());
    let mut space_before = false;
    for char in text.chars().filter(|char| !is_ignorable(*char)) {
        if char.is_whitespace() {
            space_before = true;
            continue;
        }
        if space_before && !comparable.is_empty() {
            comparable.push(' ');
        }
        space_before = false;
        for lower in char.to_lowercase() {
            match lower {
                'ß' => comparable.push_str("ss"),
                'ς' => comparable.push('σ'),
                'ſ' => comparable.push('s'),
                other => comparable.push(other),
            }
        }
    }
    comparable
}

/// Whether a character is ignored (RFC 4518 §2.2). Control characters are kept: a name with one
/// differs from the name without it.
fn is_ignorable(char: char) -> bool {
    matches!(char,
        '\u{ad}' | '\u{34f}' | '\u{1806}' | '\u{180b}'..='\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{2064}' | '\u{206a}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{fffc}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_string_type_is_text() {
        let utf16: Vec<u8> = "Größe 🧪".encode_utf16().flat_map(u16::to_be_bytes).collect();
        let utf32: Vec<u8> = "Größe 🧪".chars().flat_map(|char| u32::from(char).to_be_bytes()).collect();
        for (tag, value, text) in [
            (0x0c, "Größe 🧪".as_bytes(), "Größe 🧪"),
            (0x14, b"Gr\xf6\xdfe", "Größe"),
            (0x1e, &utf16, "Größe 🧪"),
            (0x1c, &utf32, "Größe 🧪"),
            (0x12, b"12345", "12345"),
            (0x13, b"a@b", "a@b"),
            (0x15, b"a", "a"),
            (0x16, b"a@b", "a@b"),
            (0x16, b"\xf6", "ö"),
            (0x16, "ö".as_bytes(), "ö"),
            (0x19, b"a", "a"),
            (0x1a, b"Alice V", "Alice V"),
            (0x1b, b"a", "a"),
        ] {
            assert_eq!(text_of(tag, value).as_deref(), Some(text), "{tag:#x}");
        }
        for (tag, value) in
            [(0x0c, &b"\xff"[..]), (0x1e, b"a"), (0x1e, b"\xd8\x00"), (0x1c, b"abc"), (0x1c, b"\0\x11\0\0"), (4, b"a")]
        {
            assert_eq!(text_of(tag, value), None, "{tag:#x}");
        }
    }

    #[test]
    fn case_and_spaces_do_not_make_another_text() {
        for (one, other) in [
            ("Example Org", "EXAMPLE  org"),
            (" Example\u{a0}Org ", "example org"),
            ("Straße", "STRASSE"),
            ("ΟΔΟΣ", "οδος"),
            ("ЖУК", "жук"),
            ("soft\u{ad}hyphen", "softhyphen"),
            ("", "  "),
        ] {
            assert_eq!(normalize(one), normalize(other), "{one:?} {other:?}");
        }
        for (one, other) in [("Example Org", "ExampleOrg"), ("a", "ä"), ("a\0b", "ab"), ("ı", "i"), ("a b", "a-b")] {
            assert_ne!(normalize(one), normalize(other), "{one:?} {other:?}");
        }
    }
}
