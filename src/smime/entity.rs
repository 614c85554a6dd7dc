//! MIME entities (RFC 2045), as far as S/MIME needs them: headers, transfer encodings, the parts of a multipart.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// A MIME entity: headers, unfolded, and the body as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entity<'a> {
    headers: Vec<(String, String)>,
    pub(super) body: &'a [u8],
}

/// A Content-Type header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MediaType {
    /// type/subtype, lower case
    pub(super) kind: String,
    parameters: Vec<(String, String)>,
}

impl MediaType {
    /// The parameter of this name (lower case).
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }
}

impl<'a> Entity<'a> {
    /// An entity with at least a Content-Type header; lines may end with CR LF or LF.
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let mut headers: Vec<(String, String)> = Vec::new();
        let mut rest = bytes;
        loop {
            let (line, after) = take_line(rest);
            if line.is_empty() {
                rest = after;
                break;
            }
            if after.is_empty() {
                return None;
            }
            let line = std::str::from_utf8(line).ok()?;
            if line.starts_with([' ', '\t']) {
                let (_, value) = headers.last_mut()?;
                value.push(' ');
                value.push_str(line.trim());
            } else {
                let (name, value) = line.split_once(':')?;
                if name.is_empty() || name.contains(|char: char| !char.is_ascii_graphic()) {
                    return None;
                }
                headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
            }
            rest = after;
        }
        let entity = Self { headers, body: rest };
        entity.header("content-type")?;
        Some(entity)
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn content_type(&self) -> MediaType {
        let header = self.header("content-type").unwrap_or("text/plain");
        let mut pieces = split_parameters(header).into_iter();
        let kind = pieces.next().unwrap_or_default().trim().to_ascii_lowercase();
        let parameters = pieces.filter_map(|piece| {
            let (name, value) = piece.split_once('=')?;
            Some((name.trim().to_ascii_lowercase(), unquote(value.trim())))
        });
        MediaType { kind, parameters: parameters.collect() }
    }

    fn transfer_encoding(&self) -> String {
        self.header("content-transfer-encoding").unwrap_or("7bit").to_ascii_lowercase()
    }

    /// The body without its transfer encoding; none if that is damaged or unknown.
    pub(super) fn decoded_body(&self) -> Option<Vec<u8>> {
        match self.transfer_encoding().as_str() {
            "base64" => decode_base64(self.body),
            "quoted-printable" => decode_quoted_printable(self.body),
            "7bit" | "8bit" | "binary" => Some(self.body.to_vec()),
            _ => None,
        }
    }
}

/// A file as a MIME entity, to be signed or encrypted in the form S/MIME. ASCII text stays readable (its lines then end
/// with CR LF), other text and everything else becomes base64; [`from_entity`] gives the file back, byte for byte.
pub fn to_entity(content: &[u8]) -> Vec<u8> {
    let is_text = std::str::from_utf8(content)
        .is_ok_and(|text| !text.chars().any(|char| char.is_control() && !matches!(char, '\n' | '\t')));
    let lines_fit = content.split(|byte| *byte == b'\n').all(|line| {
        // RFC 5322 §2.1.1; and what mailers change on the way: "From " at a line's beginning, space at its end.
        line.len() <= 998 && !line.starts_with(b"From ") && !line.ends_with(b" ") && !line.ends_with(b"\t")
    });
    if is_text && lines_fit && content.is_ascii() {
        let head = b"Content-Type: text/plain; charset=us-ascii\r\nContent-Transfer-Encoding: 7bit\r\n\r\n";
        return [head, to_canonical_lines(content).as_slice()].concat();
    }
    let kind = if is_text { "text/plain; charset=utf-8" } else { "application/octet-stream" };
    format!("Content-Type: {kind}\r\nContent-Transfer-Encoding: base64\r\n\r\n{}", fold_base64(content)).into_bytes()
}

/// The file in a MIME entity that has just one part, decoded; none if it is no such entity. Text that is not encoded
/// comes with the line ends of this system, LF.
pub fn from_entity(entity: &[u8]) -> Option<Vec<u8>> {
    let entity = Entity::parse(entity)?;
    let kind = entity.content_type().kind;
    if kind.starts_with("multipart/") || kind.starts_with("message/") || kind.contains("pkcs7") {
        return None;
    }
    let body = entity.decoded_body()?;
    if kind.starts_with("text/") && matches!(entity.transfer_encoding().as_str(), "7bit" | "8bit") {
        return Some(without_carriage_returns(&body));
    }
    Some(body)
}

/// The parts of a multipart body: what stands between its delimiters, the line end before each delimiter left out
/// (RFC 2046 §5.1.1).
pub(super) fn split_multipart<'a>(body: &'a [u8], boundary: &str) -> Vec<&'a [u8]> {
    let delimiter = format!("--{boundary}");
    let (mut parts, mut begin, mut rest) = (Vec::new(), None, body);
    while !rest.is_empty() {
        let position = body.len() - rest.len();
        let (line, after) = take_line(rest);
        if let Some(tail) = line.strip_prefix(delimiter.as_bytes())
            && tail.trim_ascii_start().iter().all(|byte| *byte == b'-')
        {
            if let Some(begin) = begin {
                let part = body.get(begin..position).unwrap_or_default();
                let part = part.strip_suffix(b"\n").unwrap_or(part);
                parts.push(part.strip_suffix(b"\r").unwrap_or(part));
            }
            if tail.starts_with(b"--") {
                break;
            }
            begin = Some(body.len() - after.len());
        }
        rest = after;
    }
    parts
}

/// One line without its end, and what follows.
fn take_line(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = bytes.iter().position(|byte| *byte == b'\n');
    let (line, rest) = match end.and_then(|end| bytes.split_at_checked(end)) {
        Some((line, rest)) => (line, rest.get(1..).unwrap_or_default()),
        None => (bytes, &[][..]),
    };
    (line.strip_suffix(b"\r").unwrap_or(line), rest)
}

/// At semicolons outside of quotes.
fn split_parameters(header: &str) -> Vec<String> {
    let (mut pieces, mut quoted, mut escaped) = (vec![String::new()], false, false);
    for char in header.chars() {
        match char {
            ';' if !quoted => {
                pieces.push(String::new());
                continue;
            }
            '"' if !escaped => quoted = !quoted,
            _ => {}
        }
        escaped = char == '\\' && !escaped;
        if let Some(last) = pieces.last_mut() {
            last.push(char);
        }
    }
    pieces
}

fn unquote(value: &str) -> String {
    match value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(inside) => inside.replace("\\\"", "\"").replace("\\\\", "\\"),
        None => value.to_owned(),
    }
}

/// Every line ended by CR LF; what is so already stays as it is.
pub(super) fn to_canonical_lines(text: &[u8]) -> Vec<u8> {
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

/// Base64 in lines of 76 characters, each ended by CR LF.
pub(super) fn fold_base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() / 57 * 78 + 80);
    for line in bytes.chunks(57) {
        text.push_str(&STANDARD.encode(line));
        text.push_str("\r\n");
    }
    text
}

/// Base64 with white space anywhere.
pub(super) fn decode_base64(text: &[u8]) -> Option<Vec<u8>> {
    let text: Vec<u8> = text.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    STANDARD.decode(text).ok()
}

/// RFC 2045 §6.7; none where an equals sign is followed by nonsense.
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
    fn files_come_back_byte_for_byte() {
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
    fn what_is_no_single_part_is_left_alone() {
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
        let text = b"Subject: x\ncontent-TYPE: Multipart/Signed;\n\tprotocol=\"a;b\"; micalg=sha-256;\n boundary=\"q\\\"r\"\n\nbody";
        let entity = Entity::parse(text).unwrap();
        let content_type = entity.content_type();
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
    fn parts_are_what_lies_between_delimiters() {
        let body = b"preamble\r\n--b\r\none\r\n\r\n--b \r\ntwo\n--bb\nstill two\n--b--\r\nepilogue\r\n--b\r\n";
        assert_eq!(split_multipart(body, "b"), [&b"one\r\n"[..], b"two\n--bb\nstill two"]);
        assert!(split_multipart(b"nothing", "b").is_empty());
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

        #[test]
        fn any_file_comes_back(content in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300)) {
            assert_eq!(from_entity(&to_entity(&content)), Some(content));
        }

        #[test]
        fn any_text_comes_back(content in "[ -~\\n\\r\\t]{0,300}") {
            assert_eq!(from_entity(&to_entity(content.as_bytes())), Some(content.into_bytes()));
        }
    }
}
