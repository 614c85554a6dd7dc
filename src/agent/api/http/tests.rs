//! Requests as programs and attackers send them.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;

use super::{ApiResponse, HttpConnection, HttpRequest, MAX_RETAINED_BYTES, READ_BYTES, parse, percent_decode};
use crate::agent::api::bytes::Bytes;
use crate::agent::api::error::{ApiError, HttpStatus};

fn head(text: &str) -> Result<Option<HttpRequest>, ApiError> {
    parse(text.replace('\n', "\r\n").as_bytes())
}

fn refused(text: &str) -> HttpStatus {
    head(text).map(|request| panic!("{request:?}")).unwrap_err().status
}

#[test]
fn a_request_is_read() {
    let request = head("POST /v1/sign?token=a%20b HTTP/1.1\nHost: x\nContent-Length: 12\n\n").unwrap().unwrap();
    assert_eq!((request.method.as_str(), request.path.as_str(), request.length), ("POST", "/v1/sign", 12));
    assert_eq!(request.query.value("token"), Some("a b"));
    assert!(request.keep_alive && !request.expects_continue);
    assert!(head("GET / HTTP/1.1\nHost: x\n").unwrap().is_none(), "not whole yet");
    assert!(!head("GET / HTTP/1.1\nConnection: x, Close\n\n").unwrap().unwrap().keep_alive);
    assert!(!head("GET / HTTP/1.0\n\n").unwrap().unwrap().keep_alive);
}

#[test]
fn a_page_in_a_browser_is_refused() {
    assert_eq!(
        refused("POST /v1/sign HTTP/1.1\nOrigin: http://example.org\nContent-Length: 0\n\n"),
        HttpStatus::FORBIDDEN
    );
    assert_eq!(refused("GET /v1/tokens HTTP/1.1\norigin: null\n\n"), HttpStatus::FORBIDDEN);
}

#[test]
fn a_body_without_a_length_or_with_two_is_refused() {
    assert_eq!(refused("POST / HTTP/1.1\nTransfer-Encoding: chunked\n\n"), HttpStatus::LENGTH_REQUIRED);
    assert_eq!(
        refused("POST / HTTP/1.1\nContent-Length: 3\nTransfer-Encoding: chunked\n\n"),
        HttpStatus::LENGTH_REQUIRED,
        "request smuggling"
    );
    for lengths in ["3\nContent-Length: 4", "+3", "-1", "", "3, 3", "99999999999999999999999"] {
        assert_eq!(
            refused(&format!("POST / HTTP/1.1\nContent-Length: {lengths}\n\n")),
            HttpStatus::BAD_REQUEST,
            "{lengths}"
        );
    }
}

#[test]
fn malformed_http_is_refused() {
    for text in ["\u{1}\u{2}\n\n", "GET\n\n", "GET / HTTP/3.0\n\n", "GET / HTTP/1.1\nno colon\n\n"] {
        assert_eq!(refused(text), HttpStatus::BAD_REQUEST, "{text:?}");
    }
    assert_eq!(refused("GET /?a=%zz HTTP/1.1\n\n"), HttpStatus::BAD_REQUEST);
    for wrong in ["%", "%a", "%g0", "%ff"] {
        assert!(percent_decode(wrong).is_err(), "{wrong}");
    }
    assert_eq!(percent_decode("Gr%C3%BC%C3%9Fe").unwrap(), "Grüße");
}

#[test]
fn requests_follow_each_other_on_one_connection() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let peer = thread::spawn(move || {
        // The second request comes in pieces and waits for 100 Continue.
        theirs.write_all(b"POST /a HTTP/1.1\r\nContent-Length: 3\r\n\r\nonePOST /b HTTP/1.1\r\nExpe").unwrap();
        theirs.write_all(b"ct: 100-continue\r\nContent-Length: 5\r\n\r\n").unwrap();
        let mut said = vec![0; 25];
        theirs.read_exact(&mut said).unwrap();
        theirs.write_all(b"other").unwrap();
        theirs.shutdown(std::net::Shutdown::Write).unwrap();
        let mut rest = String::new();
        theirs.read_to_string(&mut rest).unwrap();
        (String::from_utf8(said).unwrap(), rest)
    });
    let mut connection = HttpConnection::new(Arc::new(ours));
    for expected in [("/a", &b"one"[..]), ("/b", b"other")] {
        let request = connection.head().unwrap().unwrap();
        connection.body(&request, 5).unwrap();
        assert_eq!((request.path.as_str(), connection.content(&request)), expected);
        connection.wipe_request(&request);
    }
    connection.send(&ApiResponse::json(&serde_json::json!({ "a": 1 })).unwrap(), true).unwrap();
    connection.send(&ApiResponse::done(), false).unwrap();
    assert!(connection.head().unwrap().is_none());
    drop(connection);
    let (said, rest) = peer.join().unwrap();
    assert_eq!(said, "HTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!(
        rest,
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 7\r\n\r\n{\"a\":1}\
         HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"
    );
}

#[test]
fn oversized_requests_are_refused_before_they_are_read() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    theirs.write_all(b"POST / HTTP/1.1\r\nContent-Length: 6\r\n\r\n").unwrap();
    let mut connection = HttpConnection::new(Arc::new(ours));
    let request = connection.head().unwrap().unwrap();
    assert_eq!(connection.body(&request, 5).unwrap_err().status, HttpStatus::CONTENT_TOO_LARGE);

    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let writing = thread::spawn(move || {
        let _ = theirs.write_all(b"GET / HTTP/1.1\r\n");
        let _ = theirs.write_all("X: y\r\n".repeat(60).as_bytes());
        let _ = theirs.write_all(format!("Z: {}", "z".repeat(20_000)).as_bytes());
        theirs
    });
    assert_eq!(HttpConnection::new(Arc::new(ours)).head().unwrap_err().status, HttpStatus::HEAD_TOO_LARGE);
    drop(writing.join());
}

#[test]
fn a_truncated_request_is_not_served() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    theirs.write_all(b"POST / HTTP/1.1\r\nContent-Length: 6\r\n\r\nfive!").unwrap();
    theirs.shutdown(std::net::Shutdown::Write).unwrap();
    let mut connection = HttpConnection::new(Arc::new(ours));
    let request = connection.head().unwrap().unwrap();
    assert_eq!(connection.body(&request, 64).unwrap_err().status, HttpStatus::BAD_REQUEST);

    let (ours, mut theirs) = UnixStream::pair().unwrap();
    theirs.write_all(b"POST / HTTP/1.1\r\nContent-Le").unwrap();
    drop(theirs);
    assert!(HttpConnection::new(Arc::new(ours)).head().unwrap().is_none());
}

/// Buffers grow with the bytes received, not with the announced length: otherwise many connections
/// that announce 64 MiB could exhaust the agent's memory.
#[test]
fn memory_grows_with_the_received_body_not_the_announced() {
    const ANNOUNCED: usize = 64 * 1024 * 1024;
    for sent in [0, 5, 100_000, 1_000_000] {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let writing = thread::spawn(move || {
            theirs.write_all(format!("POST / HTTP/1.1\r\nContent-Length: {ANNOUNCED}\r\n\r\n").as_bytes()).unwrap();
            theirs.write_all(&vec![b'x'; sent]).unwrap();
        });
        let mut connection = HttpConnection::new(Arc::new(ours));
        let request = connection.head().unwrap().unwrap();
        assert_eq!(connection.body(&request, ANNOUNCED).unwrap_err().status, HttpStatus::BAD_REQUEST);
        writing.join().unwrap();
        let room = connection.buffer.capacity();
        assert!(
            connection.buffer.len() >= sent && room <= 2 * (sent + MAX_RETAINED_BYTES + READ_BYTES),
            "{sent} bytes: room for {room}"
        );
    }
}

#[test]
fn binary_members_and_long_responses_arrive_whole() {
    for length in [0, 1, 2, 3, 1_000_000] {
        let bytes = vec![0xfb; length];
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let reading = thread::spawn(move || {
            let mut rest = String::new();
            theirs.read_to_string(&mut rest).unwrap();
            rest
        });
        let object = serde_json::json!({ "keyset": "\"}" });
        HttpConnection::new(Arc::new(ours))
            .send(&ApiResponse::json_and_bytes(&object, "cms", &bytes).unwrap(), true)
            .unwrap();
        let said = reading.join().unwrap();
        let (head, body) = said.split_once("\r\n\r\n").unwrap();
        assert!(head.ends_with(&format!("Content-Length: {}", body.len())), "{head}");
        let expected = serde_json::json!({ "keyset": "\"}", "cms": Bytes::from(bytes) });
        assert_eq!(serde_json::from_str::<serde_json::Value>(body).unwrap(), expected);
    }
}
