//! The agent's API over a persistent connection: `POST /v1/sign` takes a content and returns a
//! signed CMS message; `POST /v1/decrypt` takes an encrypted message and returns its content.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use crate::direct::MESSAGE;
use crate::measure::Contender;

/// Repeats one request, with one connection per thread.
pub struct ApiClient {
    socket: PathBuf,
    request: Vec<u8>,
    /// A text that every correct response body contains.
    expected: String,
}

impl ApiClient {
    /// Signs with a keyset.
    pub fn to_sign(socket: &Path, keyset: &str) -> Self {
        let content = BASE64_STANDARD.encode(MESSAGE);
        let body = format!("{{\"content\":\"{content}\",\"detached\":true,\"keyset\":\"{keyset}\"}}");
        // The base64 of a SEQUENCE of more than 255 bytes begins with MII.
        Self::new(socket, "sign", &body, "\"cms\":\"MII".to_owned())
    }

    /// Decrypts `message`, which was encrypted to a keyset; `content` is the expected result.
    pub fn to_decrypt(socket: &Path, keyset: &str, message: &[u8], content: &[u8]) -> Self {
        let message = BASE64_STANDARD.encode(message);
        let body = format!("{{\"message\":\"{message}\",\"keyset\":\"{keyset}\"}}");
        Self::new(socket, "decrypt", &body, format!("\"content\":\"{}\"", BASE64_STANDARD.encode(content)))
    }

    fn new(socket: &Path, what: &str, body: &str, expected: String) -> Self {
        let head = format!("POST /v1/{what} HTTP/1.1\r\nHost: agent\r\nContent-Type: application/json\r\n");
        let request = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes();
        Self { socket: socket.to_owned(), request, expected }
    }
}

impl Contender for ApiClient {
    fn worker(&self) -> Box<dyn FnMut() + '_> {
        let mut stream = UnixStream::connect(&self.socket).unwrap();
        let mut buffer = vec![0; 64 * 1024];
        Box::new(move || {
            stream.write_all(&self.request).unwrap();
            let mut length = 0;
            let body = loop {
                let read = stream.read(&mut buffer[length..]).unwrap();
                assert!(read > 0, "the agent hung up");
                length += read;
                if let Some(body) = body(&buffer[..length]) {
                    break body;
                }
            };
            let found = body.windows(self.expected.len()).any(|window| window == self.expected.as_bytes());
            assert!(found, "{}", String::from_utf8_lossy(&buffer[..length]));
        })
    }
}

/// The body of a response; `None` until the number of bytes in its `Content-Length` has arrived.
fn body(answer: &[u8]) -> Option<&[u8]> {
    let mut fields = [httparse::EMPTY_HEADER; 16];
    let mut response = httparse::Response::new(&mut fields);
    let httparse::Status::Complete(head) = response.parse(answer).unwrap() else { return None };
    assert_eq!(response.code, Some(200), "{}", String::from_utf8_lossy(answer));
    let length = response.headers.iter().find(|field| field.name.eq_ignore_ascii_case("content-length"));
    let length: usize = str::from_utf8(length.expect("a length").value).unwrap().parse().unwrap();
    answer.get(head..head + length)
}
