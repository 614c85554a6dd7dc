//! MIME entities (RFC 2045) as far as S/MIME needs them: header and body, and a file as an entity.

use std::io::{Read, Seek};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::SmimeError;
use super::header::{Header, MediaType, transfer_encoding};
use super::source::{MessageSource, Span};
use super::transfer_encoding::TransferEncoding;

/// The length of the first attempt to read a header section, in octets.
const USUAL_HEADER: usize = 1 << 14;

/// The maximum length of a header section, in octets.
pub(super) const LONGEST_HEADER: usize = 1 << 20;

/// A MIME entity: its header, and the body without decoding, in memory or in an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entity<B> {
    pub(super) header: Header,
    pub(super) body: B,
}

impl<'a> Entity<&'a [u8]> {
    /// Parses an entity. The error is a text for people.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, String> {
        Header::parse(bytes).map(|(header, body)| Self { header, body })
    }

    /// The decoded body; `None` if the transfer encoding is damaged or unknown.
    pub(super) fn decoded_body(&self) -> Option<Vec<u8>> {
        self.transfer_encoding()?.decode(self.body)
    }
}

impl Entity<Span> {
    /// Parses an entity in a part of an input. The inner error is a text for people.
    pub(super) fn read<R: Read + Seek>(
        source: &mut MessageSource<R>,
        span: Span,
    ) -> Result<Result<Self, String>, SmimeError> {
        let mut limit = USUAL_HEADER;
        loop {
            let beginning = source.beginning(span, limit)?;
            let parsed = Header::parse(&beginning);
            let is_whole = beginning.len() as u64 == span.length();
            match parsed {
                Ok((header, rest)) if is_whole || !rest.is_empty() => {
                    return Ok(Ok(Self { header, body: span.without(beginning.len() - rest.len()) }));
                }
                Err(error) if is_whole || limit >= LONGEST_HEADER => return Ok(Err(error)),
                Ok(_) if limit >= LONGEST_HEADER => return Ok(Err("its header is longer than 1 MiB".to_owned())),
                // The header may continue.
                Ok(_) | Err(_) => limit = LONGEST_HEADER,
            }
        }
    }
}

impl<B> Entity<B> {
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

    /// The name of the transfer encoding; `None` if the header field is repeated.
    fn encoding_name(&self) -> Option<String> {
        let value = self.header.only("Content-Transfer-Encoding").ok()?;
        Some(value.map_or_else(|| "7bit".to_owned(), transfer_encoding))
    }

    /// The transfer encoding of the body; `None` if it is unknown.
    pub(super) fn transfer_encoding(&self) -> Option<TransferEncoding> {
        match self.encoding_name()?.as_str() {
            "base64" => Some(TransferEncoding::Base64),
            "quoted-printable" => Some(TransferEncoding::QuotedPrintable),
            "7bit" | "8bit" | "binary" => Some(TransferEncoding::Identity),
            _ => None,
        }
    }

    /// Whether the body is not encoded, which is mandatory for a multipart (RFC 2045 §6.4).
    pub(super) fn is_unencoded(&self) -> bool {
        self.transfer_encoding() == Some(TransferEncoding::Identity)
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
    if kind.starts_with("text/") && matches!(entity.encoding_name()?.as_str(), "7bit" | "8bit") {
        return Some(without_carriage_returns(&body));
    }
    Some(body)
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
