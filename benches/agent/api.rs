//! The agent's own API: `POST /v1/sign` on a connection that is kept, a content in, a signed CMS message out.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use crate::direct::MESSAGE;
use crate::measure::Contender;

/// Signs by a keyset, a connection a thread.
pub struct Signing {
    socket: PathBuf,
    request: Vec<u8>,
}

impl Signing {
    pub fn new(socket: &Path, keyset: &str) -> Self {
        let content = BASE64_STANDARD.encode(MESSAGE);
        let body = format!("{{\"content\":\"{content}\",\"detached\":true,\"keyset\":\"{keyset}\"}}");
        let head = "POST /v1/sign HTTP/1.1\r\nHost: agent\r\nContent-Type: application/json\r\n";
        let request = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes();
        Self { socket: socket.to_owned(), request }
    }
}

impl Contender for Signing {
    fn worker(&self) -> Box<dyn FnMut() + '_> {
        let mut stream = UnixStream::connect(&self.socket).unwrap();
        let mut buffer = vec![0; 64 * 1024];
        Box::new(move || {
            stream.write_all(&self.request).unwrap();
            let mut length = 0;
            loop {
                let read = stream.read(&mut buffer[length..]).unwrap();
                assert!(read > 0, "the agent hung up");
                length += read;
                if is_whole(&buffer[..length]) {
                    break;
                }
            }
            assert!(buffer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&buffer[..length]));
        })
    }
}

/// Has all of the answer come that its head announces?
fn is_whole(answer: &[u8]) -> bool {
    let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&answer[..end]).to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")).expect("a length");
    answer.len() >= end + 4 + length.trim().parse::<usize>().unwrap()
}
