//! The HTTP transport with small servers that respond correctly, incorrectly, late and not at all.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread::{JoinHandle, spawn};

use super::*;

/// Responds to one connection with these bytes and returns the request.
fn answers(answer: Vec<u8>) -> (String, JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = Vec::new();
        let mut piece = [0; 4096];
        loop {
            let count = stream.read(&mut piece).unwrap();
            request.extend_from_slice(&piece[..count]);
            if count == 0 || complete(&request) {
                break;
            }
        }
        stream.write_all(&answer).unwrap();
        request
    });
    (url, server)
}

fn complete(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request).to_ascii_lowercase();
    let Some(end) = text.find("\r\n\r\n") else { return false };
    let length =
        text.lines().find_map(|line| line.strip_prefix("content-length: ")?.trim().parse::<usize>().ok()).unwrap_or(0);
    request.len() >= end + 4 + length
}

fn response(status: &str, kind: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

fn transport(url: &str) -> HttpTransport {
    HttpTransport::new(url, "https://127.0.0.1:1", [0; 32]).unwrap()
}

#[test]
fn a_cmp_response_is_returned_whatever_its_http_status() {
    for status in ["200 OK", "400 Bad Request", "500 Internal Server Error"] {
        let (url, server) = answers(response(status, "application/pkixcmp", b"reply"));
        assert_eq!(transport(&url).cmp(b"request").unwrap(), b"reply");
        let request = String::from_utf8(server.join().unwrap()).unwrap();
        assert!(request.starts_with("POST /.well-known/cmp HTTP/1.1"), "{request}");
        assert!(request.to_ascii_lowercase().contains("content-type: application/pkixcmp"), "{request}");
        assert!(request.ends_with("request"), "{request}");
    }
}

#[test]
fn a_response_that_is_not_cmp_is_a_bad_response() {
    let (url, _server) = answers(response("200 OK", "text/html", b"<html>hotel Wi-Fi</html>"));
    assert!(matches!(transport(&url).cmp(b"request"), Err(TransportError::BadResponse { .. })));
}

#[test]
fn a_refusal_carries_the_authoritys_sentence_in_one_line() {
    let (url, _server) = answers(response("429 Too Many Requests", "text/plain", b"too many\r\nrequests"));
    let Err(TransportError::Refused { reason, .. }) = transport(&url).cmp(b"request") else { panic!("not refused") };
    assert!(reason.contains("429") && reason.contains("too manyrequests"), "{reason}");
}

/// Responds to one connection after the other and returns the requests.
fn answers_in_turn(answers: Vec<Vec<u8>>) -> (String, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = spawn(move || {
        let answer_one = |answer: Vec<u8>| {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            while !complete(&request) {
                let mut piece = [0; 4096];
                let count = stream.read(&mut piece).unwrap();
                request.extend_from_slice(&piece[..count]);
            }
            stream.write_all(&answer).unwrap();
            String::from_utf8(request).unwrap()
        };
        answers.into_iter().map(answer_one).collect()
    });
    (url, server)
}

fn busy(retry_after: &str) -> Vec<u8> {
    let text = response("503 Service Unavailable", "text/plain", b"too many requests");
    String::from_utf8(text).unwrap().replacen("connection:", &format!("{retry_after}connection:"), 1).into_bytes()
}

#[test]
fn a_busy_authority_gets_the_same_bytes_again() {
    let done = response("200 OK", "application/pkixcmp", b"reply");
    let (url, server) = answers_in_turn(vec![busy("retry-after: 0\r\n"), busy("retry-after: 1\r\n"), done]);
    assert_eq!(transport(&url).cmp(b"request").unwrap(), b"reply");
    let asked = server.join().unwrap();
    assert!(asked.len() == 3 && asked.iter().all(|request| request == &asked[0]), "{asked:?}");
}

#[test]
fn retries_to_a_busy_authority_are_bounded() {
    for header in ["", "retry-after: 99999\r\n", "retry-after: tomorrow\r\n"] {
        let (url, _server) = answers_in_turn(vec![busy(header)]);
        let mut transport = transport(&url);
        transport.busy_timeout = Duration::from_secs(2);
        let begin = Instant::now();
        let Err(TransportError::Busy { reason, .. }) = transport.cmp(b"request") else { panic!("not busy") };
        assert!(reason.contains("503") && reason.contains("too many requests"), "{reason}");
        assert!(begin.elapsed() < Duration::from_secs(5));
    }
}

#[test]
fn the_authoritys_clock_is_compared_with_ours() {
    let dated = |offset: i64| {
        let date = (jiff::Timestamp::now() + SignedDuration::from_secs(offset)).to_zoned(jiff::tz::TimeZone::UTC);
        let date = date.strftime("%a, %d %b %Y %H:%M:%S GMT");
        let text = String::from_utf8(response("200 OK", "application/pkix-cert", b"certificate")).unwrap();
        text.replacen("connection:", &format!("date: {date}\r\nconnection:"), 1).into_bytes()
    };
    for offset in [-3 * 24 * 3600, 0, 7200] {
        let (url, _server) = answers(dated(offset));
        let transport = transport(&url);
        assert_eq!(transport.clock_offset(), None);
        transport.ca_certificate().unwrap();
        let found = transport.clock_offset().unwrap().as_secs();
        assert!((found - offset).abs() <= 2, "{found}");
    }
    let (url, _server) = answers(response("200 OK", "application/pkix-cert", b"certificate"));
    let transport = transport(&url);
    transport.ca_certificate().unwrap();
    assert_eq!(transport.clock_offset(), None, "there was no Date header");
}

#[test]
fn a_redirect_is_not_followed() {
    let answer = b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n".to_vec();
    let (url, _server) = answers(answer);
    assert!(matches!(transport(&url).ca_certificate(), Err(TransportError::BadResponse { .. })));
}

#[test]
fn no_listener_and_a_broken_connection_are_unreachable() {
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert!(matches!(transport(&format!("http://{gone}")).cmp(b"request"), Err(TransportError::Unreachable { .. })));

    let (url, _server) = answers(Vec::new());
    let broken = transport(&url).cmp(b"request");
    assert!(matches!(broken, Err(TransportError::Unreachable { .. })), "{broken:?}");
}

#[test]
fn a_truncated_body_is_a_bad_response() {
    let mut answer = response("200 OK", "application/pkixcmp", b"a whole reply");
    answer.truncate(answer.len() - 4);
    let (url, _server) = answers(answer);
    let cut = transport(&url).cmp(b"request");
    assert!(matches!(cut, Err(TransportError::BadResponse { .. })), "{cut:?}");
}

#[test]
fn an_endless_answer_is_cut_short() {
    let head = b"HTTP/1.1 200 OK\r\ncontent-type: application/pkixcmp\r\nconnection: close\r\n\r\n";
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let _server = spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.write_all(head);
        while stream.write_all(&[0; 8192]).is_ok() {}
    });
    assert!(matches!(transport(&url).cmp(b"request"), Err(TransportError::BadResponse { .. })));
}

#[test]
fn a_search_for_an_address_returns_none_one_or_several() {
    let (url, server) = answers(response("404 Not Found", "text/plain", b"none"));
    assert!(transport(&url).search_certificates("a+b c@exämple.org").unwrap().is_empty());
    let request = String::from_utf8(server.join().unwrap()).unwrap();
    assert!(
        request.starts_with("GET /certificates/search.cgi?email=a%2Bb%20c%40ex%C3%A4mple.org HTTP/1.1"),
        "{request}"
    );

    let (url, _server) = answers(response("200 OK", "application/pkix-cert", b"der"));
    assert_eq!(transport(&url).search_certificates("user@example.org").unwrap(), vec![b"der".to_vec()]);

    let body = b"--x\r\nContent-Type: application/pkix-cert\r\n\r\none\r\n\
        --x\r\nContent-Type: application/pkix-cert\r\n\r\ntwo\r\n--x--\r\n";
    let (url, _server) = answers(response("200 OK", "multipart/mixed; boundary=x", body));
    assert_eq!(
        transport(&url).search_certificates("user@example.org").unwrap(),
        vec![b"one".to_vec(), b"two".to_vec()]
    );
}

#[test]
fn a_statement_is_sent_only_to_the_pinned_authority() {
    let (url, _server) = answers(response("200 OK", "application/pkix-cert", b"another authority's certificate"));
    assert!(matches!(transport(&url).statement(b"statement"), Err(TransportError::WrongAuthority { .. })));
}

#[test]
fn invalid_addresses_are_refused_before_anything_is_sent() {
    for (http, https) in [
        ("ftp://host", "https://host"),
        ("http://", "https://host"),
        ("http://user@host", "https://host"),
        ("http://host?x=y", "https://host"),
        ("http://host", "http://host"),
        ("", "https://host"),
    ] {
        assert!(
            matches!(HttpTransport::new(http, https, [0; 32]), Err(TransportError::Address { .. })),
            "{http} {https}"
        );
    }
}
