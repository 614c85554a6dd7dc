//! Content-Type and Content-Transfer-Encoding: tokens, quoted strings and comments (RFC 2045 §5.1),
//! and parameters that are split or have a character set (RFC 2231).

use std::collections::BTreeMap;

/// A Content-Type or a Content-Disposition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::smime) struct MediaType {
    /// The type and subtype in lower case, e.g. `text/plain`.
    pub(in crate::smime) kind: String,
    parameters: BTreeMap<String, String>,
}

impl MediaType {
    /// Parses a header field's value. A repeated parameter is ambiguous, and therefore an error;
    /// the error is a text for people.
    pub(in crate::smime) fn parse(value: &str) -> Result<Self, String> {
        let mut rest = Scanner { rest: value };
        rest.skip_space();
        let mut kind = rest.take_until(&[';', '(', ' ', '\t']).to_ascii_lowercase();
        rest.skip_space();
        // White space around the slash is accepted.
        while rest.rest.starts_with('/') || kind.ends_with('/') && !rest.rest.starts_with(';') && !rest.rest.is_empty()
        {
            kind.push_str(&rest.take_until(&[';', '(', ' ', '\t']).to_ascii_lowercase());
            rest.skip_space();
        }
        let mut pieces: BTreeMap<(String, usize), (String, bool)> = BTreeMap::new();
        while rest.find_parameter() {
            let name = rest.take_until(&['=', ';', '(', ' ', '\t']).to_ascii_lowercase();
            rest.skip_space();
            let Some(after) = rest.rest.strip_prefix('=') else { continue };
            rest.rest = after;
            rest.skip_space();
            let value = rest.take_value();
            let (name, number, is_encoded) = piece(&name);
            if pieces.insert((name.clone(), number), (value, is_encoded)).is_some() {
                return Err(format!("a header field has the parameter {name:?} twice"));
            }
        }
        Ok(Self { kind, parameters: put_together(pieces) })
    }

    /// The value of the parameter with this name (lower case).
    pub(in crate::smime) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str)
    }
}

/// The name of a transfer encoding in lower case, without the text that some programs add to it.
pub(in crate::smime) fn transfer_encoding(value: &str) -> String {
    let mut rest = Scanner { rest: value };
    rest.skip_space();
    let name = if rest.rest.starts_with('"') { rest.take_value() } else { rest.take_until(&[';', '(', ' ', '\t']) };
    name.to_ascii_lowercase()
}

/// Splits `name`, `name*`, `name*0` or `name*0*` (RFC 2231 §3, §4.1) into the name, the number of
/// the piece (0 for a whole parameter, else the number + 1), and whether the value is
/// percent-encoded.
fn piece(name: &str) -> (String, usize, bool) {
    let (rest, is_encoded) = name.strip_suffix('*').map_or((name, false), |rest| (rest, true));
    match rest.rsplit_once('*').and_then(|(base, number)| Some((base, number.parse::<u16>().ok()?))) {
        Some((base, number)) => (base.to_owned(), usize::from(number) + 1, is_encoded),
        None => (rest.to_owned(), 0, is_encoded),
    }
}

/// Joins the pieces of parameters. A whole parameter has priority over one in pieces. Pieces count
/// from 0 up to the first that is missing.
fn put_together(pieces: BTreeMap<(String, usize), (String, bool)>) -> BTreeMap<String, String> {
    let mut whole: BTreeMap<String, (String, usize)> = BTreeMap::new();
    for ((name, number), (value, is_encoded)) in pieces {
        let value = if is_encoded { percent_decoded(&value, number <= 1) } else { value };
        match whole.get_mut(&name) {
            None if number <= 1 => drop(whole.insert(name, (value, number))),
            Some((text, last)) if *last > 0 && number == *last + 1 => {
                text.push_str(&value);
                *last = number;
            }
            _ => {}
        }
    }
    whole.into_iter().map(|(name, (value, _))| (name, value)).collect()
}

/// Decodes percent escapes. A first piece has the form `charset'language'text`. The text is read as
/// UTF-8.
fn percent_decoded(value: &str, is_first: bool) -> String {
    let text = if is_first { value.splitn(3, '\'').nth(2).unwrap_or(value) } else { value };
    let (mut decoded, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        let digits = after.split_at_checked(2).filter(|_| *byte == b'%');
        match digits.and_then(|(digits, after)| Some((hex::decode(digits).ok()?, after))) {
            Some((value, after)) => {
                decoded.extend(value);
                rest = after;
            }
            None => decoded.push(*byte),
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

struct Scanner<'a> {
    rest: &'a str,
}

impl Scanner<'_> {
    /// Skips white space and comments.
    fn skip_space(&mut self) {
        loop {
            self.rest = self.rest.trim_start();
            let Some((after, _)) = after_comment(self.rest) else { return };
            self.rest = after;
        }
    }

    fn take_until(&mut self, ends: &[char]) -> String {
        let (taken, rest) = self.rest.split_at(self.rest.find(ends).unwrap_or(self.rest.len()));
        self.rest = rest;
        taken.to_owned()
    }

    /// Skips to the name of the next parameter, after the next semicolon.
    fn find_parameter(&mut self) -> bool {
        loop {
            self.skip_space();
            match self.rest.chars().next() {
                None => return false,
                Some(';') => {
                    self.rest = self.rest.trim_start_matches(';');
                    self.skip_space();
                    if !self.rest.is_empty() && !self.rest.starts_with(';') {
                        return true;
                    }
                }
                Some('"') => drop(self.take_value()),
                Some(first) => self.rest = self.rest.get(first.len_utf8()..).unwrap_or_default(),
            }
        }
    }

    /// Takes a quoted string without its quotes, or the text up to the next white space, comment or
    /// semicolon: unquoted boundaries that should be quoted are common.
    fn take_value(&mut self) -> String {
        let Some(inside) = self.rest.strip_prefix('"') else { return self.take_until(&[';', '(', ' ', '\t']) };
        let (mut value, mut chars) = (String::new(), inside.chars());
        while let Some(char) = chars.next() {
            match char {
                '"' => break,
                '\\' => value.extend(chars.next()),
                _ => value.push(char),
            }
        }
        self.rest = chars.as_str();
        value
    }
}

/// The text after the comment at the beginning of `text`, and whether that comment is closed;
/// `None` if the text does not begin with a comment.
pub(super) fn after_comment(text: &str) -> Option<(&str, bool)> {
    let (mut depth, mut chars) = (0usize, text.strip_prefix('(')?.chars());
    while let Some(char) = chars.next() {
        match char {
            '\\' => drop(chars.next()),
            '(' => depth += 1,
            ')' if depth == 0 => return Some((chars.as_str(), true)),
            ')' => depth -= 1,
            _ => {}
        }
    }
    Some(("", false))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_types_are_read_as_mailers_write_them() {
        for (text, kind, name, value) in [
            ("text/plain", "text/plain", "charset", None),
            ("Text/PLAIN; Charset=UTF-8", "text/plain", "charset", Some("UTF-8")),
            ("multipart/signed (clear); boundary=b", "multipart/signed", "boundary", Some("b")),
            ("(a (nested \\) one)) multipart/signed(clear);boundary=b(x)", "multipart/signed", "boundary", Some("b")),
            ("multipart / signed ; boundary = \"b\" ", "multipart/signed", "boundary", Some("b")),
            ("multipart/signed; protocol=\"a;b\"; boundary=\"q\\\"r\"", "multipart/signed", "boundary", Some("q\"r")),
            ("multipart/signed; boundary=----=_Part_1.2;", "multipart/signed", "boundary", Some("----=_Part_1.2")),
            ("multipart/signed; boundary=\"a (b)\"", "multipart/signed", "boundary", Some("a (b)")),
            ("multipart/signed;; ; boundary=b", "multipart/signed", "boundary", Some("b")),
            ("multipart/signed; boundary*0=\"ab\"; boundary*1=cd", "multipart/signed", "boundary", Some("abcd")),
            ("multipart/signed; boundary*1=cd; boundary*0=ab", "multipart/signed", "boundary", Some("abcd")),
            ("multipart/signed; boundary*0=ab; boundary*2=cd", "multipart/signed", "boundary", Some("ab")),
            ("a/b; name*=utf-8'de'%C3%BC%20x.p7m", "a/b", "name", Some("ü x.p7m")),
            ("a/b; name*0*=utf-8''%C3%BC; name*1=%20.p7m", "a/b", "name", Some("ü%20.p7m")),
            ("application/octet-stream; name=smime.p7m", "application/octet-stream", "name", Some("smime.p7m")),
            ("a/b; name=my file.p7m; x=y", "a/b", "x", Some("y")),
            ("", "", "x", None),
        ] {
            let media = MediaType::parse(text).unwrap();
            assert_eq!((media.kind.as_str(), media.parameter(name)), (kind, value), "{text}");
        }
    }

    #[test]
    fn a_parameter_twice_has_no_meaning() {
        for text in ["multipart/signed; boundary=a; boundary=b", "a/b; BOUNDARY=a; boundary=a", "a/b; x*0=a; x*0*=b"] {
            assert!(MediaType::parse(text).unwrap_err().contains("twice"), "{text}");
        }
    }

    #[test]
    fn transfer_encodings_are_read_as_mailers_write_them() {
        for text in ["base64", "BASE64", " base64 ", "base64;", "base64 (seven bits)", "(x)base64(y)", "\"base64\""] {
            assert_eq!(transfer_encoding(text), "base64", "{text}");
        }
    }
}
