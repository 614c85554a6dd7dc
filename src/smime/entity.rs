//! MIME entities (RFC 2045) as far as S/MIME needs them: transfer encodings, the parts of a
//! multipart, and a file as an entity.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::header::{Header, MediaType, take_line, transfer_encoding};

/// A MIME entity: its header, and the body without decoding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entity<'a> {
    pub(super) header: Header,
    pub(super) body: &'a [u8],
}

impl<'a> Entity<'a> {
    /// Parses an entity. The error is a text for people.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, String> {
        Header::parse(bytes).map(|(header, body)| Self { header, body })
    }

    /// The content type; `None` if the header has none, which means `text/plain` (RFC 2045 §5.2).
    pub(super) fn content_type(&self) -> Result<Option<MediaType>, String> {
        self.header.only("Content-Type")?.map(MediaType::parse).transpose()
    }

    /// The file names in Content-Disposition and Content-Type.
    pub(super) fn file_names(&self) -> Vec<String> {
        let named = |field, parameter| {
            let field = MediaType::parse(self.header.only(field).ok()??).ok()?;
            field.parameter(parameter).map(str::to_owned)
        };
        [named("Content-Disposition", "filename"), named("Content-Type", "name")].into_iter().flatten().collect()
    }

    fn transfer_encoding(&self) -> Option<String> {
        let value = self.header.only("Content-Transfer-Encoding").ok()?;
        Some(value.map_or_else(|| "7bit".to_owned(), transfer_encoding))
    }

    /// Whether the body is not encoded, which is mandatory for a multipart (RFC 2045 §6.4).
    pub(super) fn is_unencoded(&self) -> bool {
        matches!(self.transfer_encoding().as_deref(), Some("7bit" | "8bit" | "binary"))
    }

    /// The decoded body; `None` if the transfer encoding is damaged or unknown.
    pub(super) fn decoded_body(&self) -> Option<Vec<u8>> {
        match self.transfer_encoding()?.as_str() {
            "base64" => decode_base64(self.body),
            "quoted-printable" => decode_quoted_printable(self.body),
            "7bit" | "8bit" | "binary" => Some(self.body.to_vec()),
            _ => None,
        }
    }
}

/// Makes a MIME entity from a file, to be signed or encrypted as S/MIME. ASCII text stays readable,
/// with lines that end in CR LF. All other content is encoded in base64. [`from_entity`] returns
/// the same file, byte for byte.
pub fn to_entity(content: &[u8]) -> Vec<u8> {
    let is_text = std::str::from_utf8(content)
        .is_ok_and(|text| !text.chars().any(|char| char.is_control() && !matches!(char, '\n' | '\t')));
    let lines_fit = content.split(|byte| *byte == b'\n').all(|line| {
        // The limit of RFC 5322 §2.1.1, and text that mail programs change: "From " at the
        // beginning of a line, and white space at its end.
        line.len() <= 998 && !line.starts_with(b"From ") && !line.ends_with(b" ") && !line.ends_with(b"\t")
    });
    if is_text && lines_fit && content.is_ascii() {
        let head = b"Content-Type: text/plain; charset=us-ascii\r\nContent-Transfer-Encoding: 7bit\r\n\r\n";
        return [head, to_canonical_lines(content).as_slice()].concat();
    }
    let kind = if is_text { "text/plain; charset=utf-8" } else { "application/octet-stream" };
    format!("Content-Type: {kind}\r\nContent-Transfer-Encoding: base64\r\n\r\n{}", fold_base64(content)).into_bytes()
}

/// The file in a MIME entity with a single part, decoded; `None` for any other entity. Text without
/// an encoding gets this system's line ends, LF.
pub fn from_entity(entity: &[u8]) -> Option<Vec<u8>> {
    let entity = Entity::parse(entity).ok()?;
    let kind = entity.content_type().ok()??.kind;
    if kind.starts_with("multipart/") || kind.starts_with("message/") || kind.contains("pkcs7") {
        return None;
    }
    let body = entity.decoded_body()?;
    if kind.starts_with("text/") && matches!(entity.transfer_encoding()?.as_str(), "7bit" | "8bit") {
        return Some(without_carriage_returns(&body));
    }
    Some(body)
}

/// The parts of a multipart's body.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Multipart<'a> {
    /// The bytes before the first delimiter.
    pub(super) preamble: &'a [u8],
    /// The bytes between the delimiters, without the line end before each delimiter (RFC 2046
    /// §5.1.1).
    pub(super) parts: Vec<&'a [u8]>,
    /// The bytes after the last delimiter, if the closing delimiter is missing.
    pub(super) unended: &'a [u8],
    /// The bytes after the closing delimiter.
    pub(super) epilogue: &'a [u8],
}

/// The maximum number of parts that are parsed.
const MAX_PARTS: usize = 1000;

/// Splits a multipart's body at its boundary. A delimiter may have trailing white space.
pub(super) fn split_multipart<'a>(body: &'a [u8], boundary: &str) -> Multipart<'a> {
    let delimiter = format!("--{boundary}");
    let (mut multipart, mut begin, mut rest) = (Multipart::default(), None, body);
    while !rest.is_empty() && multipart.parts.len() < MAX_PARTS {
        let position = body.len() - rest.len();
        let (line, after) = take_line(rest);
        rest = after;
        let tail = line.strip_prefix(delimiter.as_bytes()).map(<[u8]>::trim_ascii_end);
        let Some(is_last) = tail.filter(|tail| tail.is_empty() || *tail == b"--").map(|tail| !tail.is_empty()) else {
            continue;
        };
        let before = body.get(begin.unwrap_or_default()..position).unwrap_or_default();
        if begin.is_some() {
            let part = before.strip_suffix(b"\n").unwrap_or(before);
            multipart.parts.push(part.strip_suffix(b"\r").unwrap_or(part));
        } else {
            multipart.preamble = before;
        }
        if is_last {
            multipart.epilogue = rest;
            return multipart;
        }
        begin = Some(body.len() - after.len());
    }
    multipart.unended = begin.and_then(|begin| body.get(begin..)).unwrap_or_default();
    multipart
}

/// Ends every line with CR LF; lines that already do are unchanged.
pub fn to_canonical_lines(text: &[u8]) -> Vec<u8> {
    let mut canonical = Vec::with_capacity(text.len() + text.len() / 32);
    let mut previous = 0;
    for byte in text {
        if *byte == b'\n' && previous != b'\r' {
            canonical.push(b'\r');
        }
        canonical.push(*byte);
        previous = *byte;
    }
    canonical
}

fn without_carriage_returns(text: &[u8]) -> Vec<u8> {
    let mut bytes = text.iter().copied().peekable();
    let mut plain = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte != b'\r' || bytes.peek() != Some(&b'\n') {
            plain.push(byte);
        }
    }
    plain
}

/// Encodes in base64, in lines of 76 characters that end in CR LF.
pub(super) fn fold_base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() / 57 * 78 + 80);
    for line in bytes.chunks(57) {
        text.push_str(&STANDARD.encode(line));
        text.push_str("\r\n");
    }
    text
}

/// Decodes base64, ignoring white space.
pub(super) fn decode_base64(text: &[u8]) -> Option<Vec<u8>> {
    let text: Vec<u8> = text.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    STANDARD.decode(text).ok()
}

/// Decodes quoted-printable (RFC 2045 §6.7); `None` if an invalid escape follows an equals sign.
fn decode_quoted_printable(text: &[u8]) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte != b'=' {
            decoded.push(*byte);
        } else if let Some(after) = rest.strip_prefix(b"\r\n").or_else(|| rest.strip_prefix(b"\n")) {
            rest = after;
        } else {
            let (digits, after) = rest.split_at_checked(2)?;
            decoded.extend(hex::decode(digits).ok()?);
            rest = after;
        }
    }
    Some(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_round_trip_byte_for_byte() {
        for content in [
            &b""[..],
            b"plain text\nin two lines\n",
            b"no line end",
            b"Windows\r\nlines\r\n",
            b"trailing space \n",
            b"From here\n",
            "Jürgen 🧪\n".as_bytes(),
            b"\x00\xff\xfe",
            &[b'x'; 2000],
            b"a\rb",
        ] {
            let entity = to_entity(content);
            assert_eq!(to_canonical_lines(&entity), entity);
            assert_eq!(from_entity(&entity).as_deref(), Some(content), "{:?}", String::from_utf8_lossy(content));
        }
        assert!(String::from_utf8(to_entity(b"hello\n")).unwrap().ends_with("\r\n\r\nhello\r\n"));
    }

    #[test]
    fn multipart_content_is_left_unchanged() {
        for text in [
            &b""[..],
            b"just text",
            b"Subject: no type\r\n\r\ntext",
            b"Content-Type: multipart/mixed; boundary=a\r\n\r\n--a--",
            b"Content-Type: application/pkcs7-mime\r\n\r\n",
            b"Content-Type: text/plain\r\nContent-Transfer-Encoding: uuencode\r\n\r\nx",
            b"Content-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n\r\n!!",
            b" folded: first\r\n\r\n",
            b"Content-Type text/plain\r\n\r\n",
        ] {
            assert_eq!(from_entity(text), None, "{:?}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn headers_are_read_as_mailers_write_them() {
        let text = b"Subject: x\ncontent-TYPE: Multipart/Signed;\n\
                     \tprotocol=\"a;b\"; micalg=sha-256;\n boundary=\"q\\\"r\"\n\nbody";
        let entity = Entity::parse(text).unwrap();
        let content_type = entity.content_type().unwrap().unwrap();
        assert_eq!(content_type.kind, "multipart/signed");
        assert_eq!(content_type.parameter("protocol"), Some("a;b"));
        assert_eq!(content_type.parameter("boundary"), Some("q\"r"));
        assert_eq!(entity.body, b"body");
        let quoted = b"Content-Type: text/plain\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\na=3D=\r\nb=C3=BC";
        assert_eq!(from_entity(quoted).unwrap(), "a=bü".as_bytes());
        let broken = b"Content-Type: text/plain\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\na=X";
        assert_eq!(from_entity(broken), None);
    }

    #[test]
    fn parts_are_the_bytes_between_delimiters() {
        let body = b"preamble\r\n--b\r\none\r\n\r\n--b \r\ntwo\n--bb\nstill two\n--b--\r\nepilogue\r\n--b\r\n";
        let multipart = split_multipart(body, "b");
        assert_eq!(multipart.parts, [&b"one\r\n"[..], b"two\n--bb\nstill two"]);
        assert_eq!(multipart.epilogue, b"epilogue\r\n--b\r\n");
        assert_eq!((multipart.preamble, multipart.unended), (&b"preamble\r\n"[..], &b""[..]));
        assert_eq!(split_multipart(b"--b\none\n--b\ntwo\n", "b").unended, b"two\n");
        assert!(split_multipart(b"nothing", "b").parts.is_empty());
        // White space after a boundary, LF alone, or no line end are accepted. A line that only
        // begins like a delimiter is text.
        let body = b"--b\t \none\n--b-\n--b -- \n--b-- \t";
        assert_eq!(split_multipart(body, "b").parts, [&b"one\n--b-\n--b -- "[..]]);
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

        #[test]
        fn any_file_round_trips(content in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300)) {
            assert_eq!(from_entity(&to_entity(&content)), Some(content));
        }

        #[test]
        fn any_text_round_trips(content in "[ -~\\n\\r\\t]{0,300}") {
            assert_eq!(from_entity(&to_entity(content.as_bytes())), Some(content.into_bytes()));
        }
    }
}
