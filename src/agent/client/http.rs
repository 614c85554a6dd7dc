//! The part of HTTP/1.1 that a command needs to use the agent's API.

use std::io::{self, ErrorKind, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::super::wiped_buffer::WipedBuffer;

/// Maximum length of a response head in bytes.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// Maximum length of an error's body in bytes.
const MAX_ERROR_BODY_BYTES: usize = 64 * 1024;
/// Maximum length of a response to GET in bytes.
const MAX_GET_BODY_BYTES: usize = 64 * 1024;
/// Maximum length of a line in bytes: decrypted content is no longer than the 64 MiB of a request,
/// and signed content exceeds it only by its certificates; in base64.
const MAX_LINE_BYTES: usize = 96 * 1024 * 1024;
/// Number of bytes read at once.
const READ_BYTES: usize = 16 * 1024;

/// A request whose response is lines of JSON until the connection closes.
#[derive(Debug)]
pub struct Exchange {
    stream: UnixStream,
    buffer: WipedBuffer,
}

impl Exchange {
    /// Sends the request and reads the head of its response.
    ///
    /// # Errors
    /// The connection failed, or the agent refused the request; then the agent's message.
    pub fn begin(mut stream: UnixStream, path: &str, body: &impl Serialize) -> io::Result<Self> {
        send(&mut stream, path, body)?;
        let mut buffer = WipedBuffer::default();
        let head = read_head(&mut stream, &mut buffer)?;
        if head.status != 200 {
            return Err(read_error(&mut stream, &mut buffer, &head));
        }
        Ok(Self { stream, buffer })
    }

    /// Sets the timeout for the next line; `None` waits without a limit.
    pub fn wait_for(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.stream.set_read_timeout(timeout)
    }

    /// Reads the next line.
    ///
    /// # Errors
    /// The connection closed before it, or it is malformed.
    pub fn line<T: DeserializeOwned>(&mut self) -> io::Result<T> {
        let mut looked = 0;
        loop {
            let unread = self.buffer.as_slice().get(looked..).unwrap_or_default();
            if let Some(end) = unread.iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.as_slice().get(..looked + end).unwrap_or_default();
                let value = serde_json::from_slice(line).map_err(|error| io::Error::new(ErrorKind::InvalidData, error));
                self.buffer.consume(looked + end + 1);
                return value;
            }
            looked = self.buffer.len();
            if looked > MAX_LINE_BYTES {
                return Err(io::Error::new(ErrorKind::InvalidData, "its response has an overlong line"));
            }
            more(&mut self.stream, &mut self.buffer)?;
        }
    }

    /// The connection. While a question is open, only its end can arrive.
    pub fn connection(&self) -> &UnixStream {
        &self.stream
    }
}

/// Sends one request and reads its response, which has no body on success. Returns the connection
/// for the next request.
///
/// # Errors
/// The connection failed, or the agent refused the request; then the agent's message.
pub fn post(mut stream: UnixStream, path: &str, body: &impl Serialize) -> io::Result<UnixStream> {
    send(&mut stream, path, body)?;
    let mut buffer = WipedBuffer::default();
    let head = read_head(&mut stream, &mut buffer)?;
    if head.status == 204 { Ok(stream) } else { Err(read_error(&mut stream, &mut buffer, &head)) }
}

/// Sends a GET request and reads the JSON response.
///
/// # Errors
/// The connection failed, or the agent refused the request; then the agent's message.
pub fn get<T: DeserializeOwned>(mut stream: UnixStream, path: &str) -> io::Result<T> {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n\r\n")?;
    let mut buffer = WipedBuffer::default();
    let head = read_head(&mut stream, &mut buffer)?;
    if head.status != 200 {
        return Err(read_error(&mut stream, &mut buffer, &head));
    }
    let length = head.length.filter(|length| *length <= MAX_GET_BODY_BYTES).ok_or(ErrorKind::InvalidData)?;
    while buffer.len() < length {
        more(&mut stream, &mut buffer)?;
    }
    let body = buffer.as_slice().get(..length).unwrap_or_default();
    serde_json::from_slice(body).map_err(|error| io::Error::new(ErrorKind::InvalidData, error))
}

/// Checks that an HTTP server responds. Uses a GET that no agent supports; any response will do.
///
/// # Errors
/// The connection failed.
pub fn probe(mut stream: UnixStream) -> io::Result<()> {
    stream.write_all(b"GET /v1/operations HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n\r\n")?;
    read_head(&mut stream, &mut WipedBuffer::default()).map(drop)
}

fn send(stream: &mut UnixStream, path: &str, body: &impl Serialize) -> io::Result<()> {
    let mut json = WipedBuffer::with_capacity(1024);
    serde_json::to_writer(&mut json, body)?;
    let length = json.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: agent\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes())?;
    // An agent that refuses by the head alone has responded and closed the connection: read its
    // response.
    match stream.write_all(json.as_slice()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

struct Head {
    status: u16,
    length: Option<usize>,
}

fn read_head(stream: &mut UnixStream, buffer: &mut WipedBuffer) -> io::Result<Head> {
    loop {
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut response = httparse::Response::new(&mut headers);
        let parsed =
            response.parse(buffer.as_slice()).map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
        if let httparse::Status::Complete(end) = parsed {
            let length = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
            let length = length.and_then(|header| std::str::from_utf8(header.value).ok()?.parse().ok());
            let head = Head { status: response.code.unwrap_or(0), length };
            buffer.consume(end);
            return Ok(head);
        }
        if buffer.len() > MAX_HEAD_BYTES {
            return Err(io::Error::new(ErrorKind::InvalidData, "the head of its response is too long"));
        }
        more(stream, buffer)?;
    }
}

fn more(stream: &mut UnixStream, buffer: &mut WipedBuffer) -> io::Result<()> {
    loop {
        match buffer.read_from(stream, READ_BYTES) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                return Err(io::Error::new(ErrorKind::TimedOut, "it does not respond"));
            }
            Err(error) => return Err(error),
        }
    }
}

/// The agent's own message, if it sent one.
fn read_error(stream: &mut UnixStream, buffer: &mut WipedBuffer, head: &Head) -> io::Error {
    #[derive(Deserialize)]
    struct Body {
        error: Sentence,
    }
    #[derive(Deserialize)]
    struct Sentence {
        message: String,
    }
    let length = head.length.unwrap_or(0).min(MAX_ERROR_BODY_BYTES);
    while buffer.len() < length && more(stream, buffer).is_ok() {}
    match serde_json::from_slice::<Body>(buffer.as_slice()) {
        Ok(body) => io::Error::other(body.error.message),
        Err(_) => io::Error::other(format!("it responded with status {}", head.status)),
    }
}
