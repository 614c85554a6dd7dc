//! Header sections of mails and MIME entities (RFC 5322 §2.2, RFC 2045) as mail programs write
//! them, and their structured fields: content types with parameters (RFC 2231), and transfer
//! encodings.
//!
//! The parser accepts deviations that every reader treats the same way: 8-bit text, a space before
//! the colon, comments, an mbox's From line. It refuses input that two readers could understand
//! differently: a line that is not a field, a bare CR.

mod address;
mod structured;

pub use address::AddressError;
pub(super) use address::one_address;
pub(super) use structured::{MediaType, transfer_encoding};

/// The maximum number of fields in a header section, far above that of any mail.
const MAX_FIELDS: usize = 1000;

/// A header section: its fields in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    fields: Vec<Field>,
}

/// A header field, unfolded.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Field {
    /// The name as written, without white space.
    name: String,
    /// The value, without surrounding white space. U+FFFD replaces bytes that are not UTF-8.
    value: String,
}

impl Header {
    /// Parses the header section at the beginning of `bytes`, and returns the body after it. Lines
    /// end with CR LF or LF. An mbox's From line may come first. The error is a text for people
    /// that locates the invalid line.
    pub(super) fn parse(bytes: &[u8]) -> Result<(Self, &[u8]), String> {
        let mut fields: Vec<(String, Vec<u8>)> = Vec::new();
        let mut rest = bytes;
        while let (line, after) = take_line(rest)
            && is_mbox_line(line)
        {
            rest = after;
        }
        while !rest.is_empty() {
            let (line, after) = take_line(rest);
            rest = after;
            if line.is_empty() {
                break;
            }
            let before = fields.len();
            let no_field = || format!("invalid header line after {before} fields");
            if line.contains(&b'\r') || fields.len() >= MAX_FIELDS {
                return Err(no_field());
            }
            if line.first().is_some_and(|first| matches!(first, b' ' | b'\t')) {
                let Some((_, value)) = fields.last_mut() else { return Err(no_field()) };
                value.extend_from_slice(line);
            } else {
                let (name, value) = split_field(line).ok_or_else(no_field)?;
                fields.push((name.to_owned(), value.to_vec()));
            }
        }
        let text = |value: Vec<u8>| String::from_utf8_lossy(&value).trim().to_owned();
        let fields = fields.into_iter().map(|(name, value)| Field { name, value: text(value) }).collect();
        Ok((Self { fields }, rest))
    }

    /// The values of all fields with this name, in their order. The comparison ignores case.
    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.fields.iter().filter(move |field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value.as_str())
    }

    /// The names of all fields as written, in their order.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().map(|field| field.name.as_str())
    }

    /// Whether the header has a field with this name.
    pub fn has(&self, name: &str) -> bool {
        self.values(name).next().is_some()
    }

    /// The value of the only field with this name; `None` if there is none. A repeated field is an
    /// error.
    pub(super) fn only(&self, name: &str) -> Result<Option<&str>, String> {
        let mut values = self.fields.iter().filter(|field| field.name.eq_ignore_ascii_case(name));
        match (values.next(), values.next()) {
            (first, None) => Ok(first.map(|field| field.value.as_str())),
            _ => Err(format!("its header has more than one field {name}")),
        }
    }
}

/// Splits a header field into name and value. White space before the colon is obsolete syntax (RFC
/// 5322 §4.5) and accepted.
pub(super) fn split_field(line: &[u8]) -> Option<(&str, &[u8])> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let (name, value) = line.split_at_checked(colon)?;
    let name = std::str::from_utf8(name).ok()?.trim_end_matches([' ', '\t']);
    let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic());
    is_name.then_some((name, value.get(1..)?))
}

/// Whether this is the line before each mail of an mbox ("From ADDRESS DATE"), quoted or not. A
/// line that begins with "From :" is a header field.
fn is_mbox_line(line: &[u8]) -> bool {
    let line = line.strip_prefix(b">").unwrap_or(line);
    line.strip_prefix(b"From ").is_some_and(|rest| !rest.trim_ascii_start().starts_with(b":"))
}

/// Splits off the first line, without its line end.
pub(super) fn take_line(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = bytes.iter().position(|byte| *byte == b'\n');
    let (line, rest) = match end.and_then(|end| bytes.split_at_checked(end)) {
        Some((line, rest)) => (line, rest.get(1..).unwrap_or_default()),
        None => (bytes, &[][..]),
    };
    (line.strip_suffix(b"\r").unwrap_or(line), rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_as_mailers_write_them() {
        for (text, name, value) in [
            (&b"Subject: hello\r\n\r\nbody"[..], "subject", "hello"),
            (b"SUBJECT:hello\n\nbody", "Subject", "hello"),
            (b"Subject : hello\n\nbody", "Subject", "hello"),
            (b"Subject\t:hello\n\nbody", "Subject", "hello"),
            (b"Subject: a\r\n\tb\r\n c\r\n\r\nbody", "Subject", "a\tb c"),
            (b"Subject: Gr\xfc\xdfe\n\nbody", "Subject", "Gr\u{fffd}\u{fffd}e"),
            ("Subject: Grüße\n\nbody".as_bytes(), "Subject", "Grüße"),
            (b"From alice@example.org Mon Nov 30 14:28:44 2026\nSubject: hello\n\nbody", "Subject", "hello"),
            (b">From alice@example.org Mon Nov 30 14:28:44 2026\nSubject: hello\n\nbody", "Subject", "hello"),
            (b"From : alice@example.org\n\nbody", "From", "alice@example.org"),
            (b"X:\nSubject:\n hello\n\nbody", "Subject", "hello"),
        ] {
            let (header, body) = Header::parse(text).unwrap();
            assert_eq!(header.values(name).collect::<Vec<_>>(), [value], "{}", String::from_utf8_lossy(text));
            assert_eq!(body, b"body");
        }
        let (header, body) = Header::parse(b"Subject: no body").unwrap();
        assert!(header.has("subject") && body.is_empty());
        let (twice, _) = Header::parse(b"From: a@example.org\nFROM : b@example.org\n\n").unwrap();
        assert!(twice.only("from").is_err() && twice.only("to").unwrap().is_none());
        assert_eq!(twice.values("From").count(), 2);
    }

    #[test]
    fn ambiguous_headers_are_refused() {
        for text in [
            &b"no header\n\n"[..],
            b" folded: first\n\n",
            b": no name\n\n",
            b"two words: x\n\n",
            b"Subject: x\rFrom: alice@example.org\n\n",
            b"Subject: x\nnonsense\nFrom: alice@example.org\n\n",
            b"N\xc3\xa4me: x\n\n",
            b"Subject: x\nFrom alice@example.org Mon Nov 30 14:28:44 2026\n\n",
        ] {
            assert!(Header::parse(text).is_err(), "{}", String::from_utf8_lossy(text));
        }
    }
}
