//! Parses the `multipart/mixed` response with several certificates (RFC 4387 §2.2, RFC 2046 §5.1).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The fault of a multipart response; completes "cannot use the response …:".
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum MultipartError {
    #[error("its content type names no boundary")]
    NoBoundary,
    #[error("it ends before its closing boundary")]
    Truncated,
    #[error("one of its parts is not a certificate")]
    NotACertificate,
}

/// The DER certificates in `body`, in order of appearance.
pub(super) fn certificates(content_type: &str, body: &[u8]) -> Result<Vec<Vec<u8>>, MultipartError> {
    let delimiter = [b"--", boundary(content_type).ok_or(MultipartError::NoBoundary)?.as_bytes()].concat();
    let mut parts = split_at_lines(body, &delimiter).into_iter();
    parts.next(); // the preamble
    let mut found = Vec::new();
    for part in parts {
        if part.starts_with(b"--") {
            return Ok(found);
        }
        found.push(certificate(part)?);
    }
    Err(MultipartError::Truncated)
}

fn boundary(content_type: &str) -> Option<String> {
    content_type.split(';').skip(1).find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        let value = value.trim().trim_matches('"');
        (name.trim().eq_ignore_ascii_case("boundary") && !value.is_empty()).then(|| value.to_owned())
    })
}

/// Splits at lines that begin with the delimiter. The line break before a delimiter belongs to the
/// delimiter, not to the part.
fn split_at_lines<'a>(body: &'a [u8], delimiter: &[u8]) -> Vec<&'a [u8]> {
    let mut parts = Vec::new();
    let mut rest = body;
    let mut from = 0;
    while let Some(at) = find(rest.get(from..).unwrap_or_default(), delimiter).map(|offset| offset + from) {
        let before = rest.get(..at).unwrap_or_default();
        if !before.is_empty() && !before.ends_with(b"\n") {
            from = at + 1;
            continue;
        }
        let before = before.strip_suffix(b"\n").unwrap_or(before);
        parts.push(before.strip_suffix(b"\r").unwrap_or(before));
        rest = rest.get(at + delimiter.len()..).unwrap_or_default();
        from = 0;
    }
    parts.push(rest);
    parts
}

/// Parses one part: headers, an empty line, and a certificate in DER or base64.
fn certificate(part: &[u8]) -> Result<Vec<u8>, MultipartError> {
    let (head, body) = [b"\r\n\r\n".as_slice(), b"\n\n"]
        .iter()
        .find_map(|gap| find(part, gap).and_then(|at| Some((part.get(..at)?, part.get(at + gap.len()..)?))))
        .ok_or(MultipartError::NotACertificate)?;
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim));
    if !header("content-type").is_some_and(|kind| kind.starts_with("application/pkix-cert")) {
        return Err(MultipartError::NotACertificate);
    }
    if header("content-transfer-encoding") == Some("base64") {
        let text: Vec<u8> = body.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
        return STANDARD.decode(text).map_err(|_| MultipartError::NotACertificate);
    }
    Ok(body.to_vec())
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TYPE: &str = "multipart/mixed; boundary=\"b0\"";

    #[test]
    fn several_certificates_come_in_order_binary_and_base64() {
        let body = b"preamble\r\n--b0\r\nContent-Type: application/pkix-cert\r\n\r\n0\x82\r\n--b\x00\r\n--b0\r\n\
            Content-Type: application/pkix-cert; x=y\r\nContent-Transfer-Encoding: base64\r\n\r\n\
            MIIB\r\nAA==\r\n--b0--\r\n";
        let found = certificates(TYPE, body).unwrap();
        assert_eq!(found, vec![b"0\x82\r\n--b\x00".to_vec(), vec![0x30, 0x82, 0x01, 0x00]]);
    }

    #[test]
    fn an_empty_multipart_has_no_certificates() {
        assert_eq!(certificates(TYPE, b"--b0--\r\n").unwrap(), Vec::<Vec<u8>>::new());
    }

    #[test]
    fn truncated_input_is_refused() {
        let body = b"--b0\r\nContent-Type: application/pkix-cert\r\n\r\n0\x82\r\n";
        assert_eq!(certificates(TYPE, body), Err(MultipartError::Truncated));
    }

    #[test]
    fn a_part_of_another_kind_is_refused() {
        let body = b"--b0\r\nContent-Type: text/html\r\n\r\nhello\r\n--b0--\r\n";
        assert_eq!(certificates(TYPE, body), Err(MultipartError::NotACertificate));
    }

    #[test]
    fn a_type_without_a_boundary_is_refused() {
        assert_eq!(certificates("multipart/mixed", b"--b0--"), Err(MultipartError::NoBoundary));
        assert_eq!(certificates("multipart/mixed; boundary=", b"--b0--"), Err(MultipartError::NoBoundary));
    }
}
