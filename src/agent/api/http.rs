//! The part of HTTP/1.1 (RFC 9112) that this API needs: sequential requests on a blocking
//! connection.

use std::io::{self, ErrorKind as IoErrorKind, IoSlice, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use serde::Serialize;

use super::error::{ApiError, HttpStatus};
use crate::agent::spin_reader::SpinReader;
use crate::agent::wiped_buffer::WipedBuffer;
use crate::keyset::ErrorKind;

/// Maximum length of a head in bytes.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// Maximum number of header fields.
const MAX_HEADER_FIELDS: usize = 64;
/// Number of bytes read at once while the head is incomplete.
const READ_BYTES: usize = 4 * 1024;
/// A buffer that grew beyond this number of bytes is freed after its request.
const MAX_RETAINED_BYTES: usize = 64 * 1024;

/// The head of a request.
#[derive(Debug)]
pub struct HttpRequest {
    pub method: String,
    pub path: String,
    pub query: Query,
    pub keep_alive: bool,
    head: usize,
    length: usize,
    expects_continue: bool,
}

/// The decoded query parameters.
#[derive(Debug, Default)]
pub struct Query(Vec<(String, String)>);

#[derive(Debug)]
pub struct ApiResponse {
    status: HttpStatus,
    body: WipedBuffer,
}

/// A connection with its buffers.
#[derive(Debug)]
pub struct HttpConnection {
    stream: Arc<UnixStream>,
    spin_reader: SpinReader,
    buffer: WipedBuffer,
    out: WipedBuffer,
}

impl HttpConnection {
    pub fn new(stream: Arc<UnixStream>) -> Self {
        let (buffer, out) = (WipedBuffer::default(), WipedBuffer::default());
        Self { stream, spin_reader: SpinReader::default(), buffer, out }
    }

    /// Reads the next request's head; `None` if the peer closed the connection between requests.
    pub fn head(&mut self) -> Result<Option<HttpRequest>, ApiError> {
        loop {
            if let Some(request) = parse(self.buffer.as_slice())? {
                return Ok(Some(request));
            }
            if self.buffer.len() >= MAX_HEAD_BYTES {
                return Err(ApiError::new(
                    HttpStatus::HEAD_TOO_LARGE,
                    ErrorKind::Usage,
                    format!("cannot read the request: its head is longer than {MAX_HEAD_BYTES} bytes"),
                ));
            }
            match self.more(READ_BYTES) {
                Ok(true) => {}
                Ok(false) | Err(_) => return Ok(None),
            }
        }
    }

    /// Reads the request's whole body.
    pub fn body(&mut self, request: &HttpRequest, longest: usize) -> Result<(), ApiError> {
        if request.length > longest {
            return Err(ApiError::new(
                HttpStatus::CONTENT_TOO_LARGE,
                ErrorKind::Usage,
                format!("cannot read the request: its body is longer than {longest} bytes"),
            ));
        }
        let broken = |_| ApiError::bad_request("cannot read the request: its body is truncated");
        let whole = request.head + request.length;
        if self.buffer.len() < whole && request.expects_continue {
            (&*self.stream).write_all(b"HTTP/1.1 100 Continue\r\n\r\n").map_err(broken)?;
        }
        while self.buffer.len() < whole {
            let missing = whole - self.buffer.len();
            // Allocate for the bytes received, not for the announced length.
            if !self.more(missing.min(MAX_RETAINED_BYTES)).map_err(broken)? {
                return Err(broken(io::ErrorKind::UnexpectedEof.into()));
            }
        }
        Ok(())
    }

    /// The body, after [`Self::body`] has read it.
    pub fn content(&self, request: &HttpRequest) -> &[u8] {
        self.buffer.as_slice().get(request.head..request.head + request.length).unwrap_or_default()
    }

    /// Wipes the request from the buffer.
    pub fn wipe_request(&mut self, request: &HttpRequest) {
        let whole = request.head + request.length;
        if whole > MAX_RETAINED_BYTES && self.buffer.len() == whole {
            self.buffer = WipedBuffer::default();
        } else {
            self.buffer.consume(whole);
        }
    }

    pub fn send(&mut self, answer: &ApiResponse, keep_alive: bool) -> io::Result<()> {
        self.out.clear();
        write_head(&mut self.out, answer, keep_alive)?;
        let (head, body) = (self.out.as_slice(), answer.body.as_slice());
        // Usually one call sends both.
        let sent = loop {
            match (&*self.stream).write_vectored(&[IoSlice::new(head), IoSlice::new(body)]) {
                Err(error) if error.kind() == IoErrorKind::Interrupted => {}
                sent => break sent?,
            }
        };
        (&*self.stream).write_all(head.get(sent..).unwrap_or_default())?;
        (&*self.stream).write_all(body.get(sent.saturating_sub(head.len())..).unwrap_or_default())
    }

    /// Sends an error and closes the connection.
    pub fn refuse(&mut self, error: &ApiError) {
        // The peer may have disconnected already.
        let _ = self.send(&ApiResponse::of_error(error), false);
        self.drain();
    }

    /// The connection, for responses that are streams. Bytes read beyond the request are dropped.
    pub fn into_stream(self) -> Arc<UnixStream> {
        self.stream
    }

    fn more(&mut self, limit: usize) -> io::Result<bool> {
        loop {
            match self.buffer.read_from(&mut self.spin_reader.of(&self.stream), limit) {
                Ok(read) => return Ok(read > 0),
                Err(error) if error.kind() == IoErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Closing a socket with unread bytes discards the last response for a peer that is still
    /// sending. So read a limited amount first.
    fn drain(&mut self) {
        let timeout = std::time::Duration::from_millis(200);
        if self.stream.shutdown(std::net::Shutdown::Write).is_err()
            || self.stream.set_read_timeout(Some(timeout)).is_err()
        {
            return;
        }
        for _ in 0..1024 {
            self.buffer.clear();
            if !self.more(MAX_RETAINED_BYTES).unwrap_or(false) {
                return;
            }
        }
    }
}

impl ApiResponse {
    /// Encodes a value as JSON.
    pub fn json(value: &impl Serialize) -> Result<Self, ApiError> {
        Self::with_status(HttpStatus::OK, value)
    }

    /// Encodes a non-empty object as JSON and appends bytes as one more member, base64-encoded in
    /// place.
    pub fn json_and_bytes(object: &impl Serialize, name: &str, bytes: &[u8]) -> Result<Self, ApiError> {
        let mut answer = Self::json(object)?;
        let body = &mut answer.body;
        body.reserve(name.len() + bytes.len() / 3 * 4 + 16);
        body.unwrite(b"}");
        // Writing to memory cannot fail.
        let _ = write!(body, ",\"{name}\":\"");
        body.write_base64(bytes);
        let _ = body.write_all(b"\"}");
        Ok(answer)
    }

    /// A response from text that is JSON already.
    pub fn json_text(text: &str) -> Self {
        let mut body = WipedBuffer::with_capacity(text.len());
        // Writing to memory cannot fail.
        let _ = body.write_all(text.as_bytes());
        Self { status: HttpStatus::OK, body }
    }

    /// An empty response: success.
    pub fn done() -> Self {
        Self { status: HttpStatus::NO_CONTENT, body: WipedBuffer::default() }
    }

    pub fn of_error(error: &ApiError) -> Self {
        tracing::debug!(status = error.status.0, message = error.message, "refused");
        Self::with_status(error.status, &error.body())
            .unwrap_or_else(|_| Self { status: HttpStatus::FAULT, body: WipedBuffer::default() })
    }

    fn with_status(status: HttpStatus, value: &impl Serialize) -> Result<Self, ApiError> {
        let mut body = WipedBuffer::with_capacity(128);
        serde_json::to_writer(&mut body, value).map_err(|error| {
            ApiError::new(HttpStatus::FAULT, ErrorKind::Fault, format!("cannot encode the response: {error}"))
        })?;
        Ok(Self { status, body })
    }
}

impl Query {
    /// The value of the first parameter of this name.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    fn read(text: &str) -> Result<Self, ApiError> {
        let pairs = text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((percent_decode(name)?, percent_decode(value)?))
        });
        pairs.collect::<Result<_, _>>().map(Self)
    }
}

/// Percent-decodes (RFC 3986 §2.1).
pub fn percent_decode(text: &str) -> Result<String, ApiError> {
    let wrong = || ApiError::bad_request("cannot read the request: its path or query is not percent-encoded UTF-8");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if *first == b'%' {
            let (digits, after) = after.split_at_checked(2).ok_or_else(wrong)?;
            bytes.extend(hex::decode(digits).map_err(|_| wrong())?);
            rest = after;
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}

fn write_head(out: &mut WipedBuffer, answer: &ApiResponse, keep_alive: bool) -> io::Result<()> {
    write!(out, "HTTP/1.1 {} {}\r\n", answer.status.0, answer.status.reason())?;
    // RFC 9110 §8.6: a 204 response has no Content-Length.
    if answer.status != HttpStatus::NO_CONTENT {
        write!(out, "Content-Type: application/json\r\nContent-Length: {}\r\n", answer.body.len())?;
    }
    out.write_all(if keep_alive { b"\r\n" } else { b"Connection: close\r\n\r\n" })
}

/// Parses the head; `None` while it is incomplete.
fn parse(bytes: &[u8]) -> Result<Option<HttpRequest>, ApiError> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_HEADER_FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    let head = match request.parse(bytes) {
        Ok(httparse::Status::Complete(head)) => head,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(ApiError::bad_request(format!("cannot read the request: {error}"))),
    };
    let (path, query) = request.path.unwrap_or("/").split_once('?').unwrap_or((request.path.unwrap_or("/"), ""));
    let mut parsed = HttpRequest {
        method: request.method.unwrap_or_default().to_owned(),
        path: path.to_owned(),
        query: Query::read(query)?,
        keep_alive: request.version == Some(1),
        head,
        length: 0,
        expects_continue: false,
    };
    let mut length = None;
    for field in request.headers.iter() {
        if field.name.eq_ignore_ascii_case("content-length") {
            let value = std::str::from_utf8(field.value).ok().filter(|value| value.bytes().all(|b| b.is_ascii_digit()));
            let value = value.and_then(|value| value.parse::<usize>().ok());
            let value = value
                .ok_or_else(|| ApiError::bad_request("cannot read the request: its Content-Length is not a number"))?;
            if length.is_some_and(|other| other != value) {
                return Err(ApiError::bad_request("cannot read the request: its Content-Length fields differ"));
            }
            length = Some(value);
        } else if field.name.eq_ignore_ascii_case("transfer-encoding") {
            return Err(ApiError::new(
                HttpStatus::LENGTH_REQUIRED,
                ErrorKind::Usage,
                "cannot read the request: send its body with a Content-Length",
            ));
        } else if field.name.eq_ignore_ascii_case("origin") {
            // Only browsers send an Origin, and no web page may use this API.
            return Err(ApiError::new(
                HttpStatus::FORBIDDEN,
                ErrorKind::Refused,
                "cannot serve a browser: this socket is for programs of this user",
            ));
        } else if field.name.eq_ignore_ascii_case("connection") {
            let close = field.value.split(|b| *b == b',').any(|one| one.trim_ascii().eq_ignore_ascii_case(b"close"));
            parsed.keep_alive &= !close;
        } else if field.name.eq_ignore_ascii_case("expect") {
            parsed.expects_continue = field.value.eq_ignore_ascii_case(b"100-continue");
        }
    }
    parsed.length = length.unwrap_or(0);
    Ok(Some(parsed))
}

#[cfg(test)]
mod tests;
