//! Splits a multipart (RFC 2046 §5.1) in an input into its parts.

use std::io::{Read, Seek};

use super::SmimeError;
use super::source::{MessageSource, Span};

/// The parts of a multipart's body.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Multipart {
    /// The bytes before the first delimiter.
    pub(super) preamble: Span,
    /// The bytes between the delimiters, without the line end before each delimiter (RFC 2046
    /// §5.1.1).
    pub(super) parts: Vec<Span>,
    /// The bytes after the last delimiter, if the closing delimiter is missing.
    pub(super) unended: Span,
    /// The bytes after the closing delimiter.
    pub(super) epilogue: Span,
}

/// The maximum number of parts that are parsed.
const MAX_PARTS: usize = 1000;

impl Multipart {
    /// Splits a multipart's body at its boundary. A delimiter may have trailing white space.
    pub(super) fn split<R: Read + Seek>(
        source: &mut MessageSource<R>,
        body: Span,
        boundary: &str,
    ) -> Result<Self, SmimeError> {
        let delimiter = format!("--{boundary}");
        let empty = Span::empty();
        let mut multipart = Self { preamble: empty, parts: Vec::new(), unended: empty, epilogue: empty };
        let (mut begin, mut is_ended) = (None, false);
        let mut lines = source.lines(body)?;
        while multipart.parts.len() < MAX_PARTS
            && let Some(line) = lines.next()?
        {
            let tail = line.text.and_then(|text| text.strip_prefix(delimiter.as_bytes())).map(<[u8]>::trim_ascii_end);
            let Some(is_last) = tail.filter(|tail| tail.is_empty() || *tail == b"--").map(|tail| !tail.is_empty())
            else {
                continue;
            };
            match begin {
                Some(start) => multipart.parts.push(Span { start, end: line.start }),
                None => multipart.preamble = Span { end: line.start, ..body },
            }
            begin = Some(line.next);
            if is_last {
                multipart.epilogue = Span { start: line.next, ..body };
                is_ended = true;
                break;
            }
        }
        if let Some(start) = begin.filter(|_| !is_ended) {
            multipart.unended = Span { start, ..body };
        }
        for part in &mut multipart.parts {
            *part = source.without_line_end(*part)?;
        }
        Ok(multipart)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    struct Split<'a> {
        preamble: &'a [u8],
        parts: Vec<&'a [u8]>,
        unended: &'a [u8],
        epilogue: &'a [u8],
    }

    fn split_multipart<'a>(body: &'a [u8], boundary: &str) -> Split<'a> {
        let (mut source, whole) = MessageSource::new(Cursor::new(body)).unwrap();
        let Multipart { preamble, parts, unended, epilogue } = Multipart::split(&mut source, whole, boundary).unwrap();
        let octets = |span: Span| &body[usize::try_from(span.start).unwrap()..usize::try_from(span.end).unwrap()];
        Split {
            preamble: octets(preamble),
            parts: parts.into_iter().map(octets).collect(),
            unended: octets(unended),
            epilogue: octets(epilogue),
        }
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

    #[test]
    fn a_line_of_any_length_belongs_to_its_part() {
        for length in [65_530, 65_533, 65_534, 65_535, 65_536, 65_537, 200_000] {
            let long = vec![b'-'; length];
            let body = [b"--b\n", &long[..], b"\r\n--b\r\n", &long, b"\n--b--"].concat();
            assert!(split_multipart(&body, "b").parts == [&long, &long], "{length}");
        }
    }
}
