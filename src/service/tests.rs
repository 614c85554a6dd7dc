//! Tests of the listeners, with a stub for the authority and `curl`, `openssl` and plain sockets as
//! clients.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::Instant;

use super::*;
use crate::pki::test_support::{SoftwareKey, TestAuthority};
use crate::store::StoreError;

mod floods;
pub(super) mod running;

use running::{FakeAuthority, TestService};

const CMP: [&str; 4] = ["-H", "content-type: application/pkixcmp", "--data-binary", "abc"];

#[test]
fn cmp_is_served_on_all_paths_of_both_listeners() {
    let service = TestService::new();
    for path in ["", "/initialization", "/p/default", "/p/default/initialization"] {
        let path = format!("/.well-known/cmp{path}");
        let expected = ("200 application/pkixcmp".to_owned(), b"cba".to_vec());
        assert_eq!(service.curl(&CMP, &path), expected);
        assert_eq!(service.curl_tls(&CMP, &path), expected);
    }
}

#[test]
fn tls_is_by_the_key_and_brings_the_ca_certificate() {
    let service = TestService::new();
    for version in ["-tls1_2", "-tls1_3"] {
        let output = Command::new("openssl")
            .args(["s_client", "-connect", &service.https.to_string(), "-servername", "localhost", version])
            .args(["-verify", "2", "-verify_return_error", "-verify_hostname", "localhost", "-showcerts", "-CAfile"])
            .arg(service.files.path("ca.pem"))
            .stdin(std::process::Stdio::null())
            .output()
            .unwrap();
        let shown = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && shown.contains("Verify return code: 0 (ok)"), "{shown}");
        assert_eq!(shown.matches("BEGIN CERTIFICATE").count(), 2, "{shown}");
    }
    // A client that trusts another authority stops before its first request.
    let other = TestAuthority::new("Another Authority", SoftwareKey::p256());
    service.files.put_certificate("ca.pem", &other.certificate);
    let url = format!("https://localhost:{}/ca.cer", service.https.port());
    assert!(!service.curl_to(&[], &url).status.success());
}

#[test]
fn stalled_handshakes_block_nobody() {
    let service = TestService::new();
    let idle: Vec<TcpStream> =
        (0..limits::MAX_CONNECTIONS_PER_SOURCE - 4).map(|_| TcpStream::connect(service.https).unwrap()).collect();
    let begin = Instant::now();
    assert!(service.curl_tls(&[], "/ca.cer").0.starts_with("200 "));
    assert!(begin.elapsed() < limits::HANDSHAKE_TIMEOUT / 2);
    drop(idle);
}

#[test]
fn statements_are_accepted_over_https_only() {
    let service = TestService::new();
    for media_type in ["application/pkcs7-mime", "application/pkcs7-mime; smime-type=signed-data", "Application/CMS"] {
        let header = format!("content-type: {media_type}");
        let arguments = ["-H", header.as_str(), "--data-binary", "this"];
        let (status, body) = service.curl_tls(&arguments, "/statements");
        assert_eq!(status, "200 application/pkcs7-mime; smime-type=signed-data");
        assert_eq!(body, b"response to this");
        assert!(service.curl(&arguments, "/statements").0.starts_with("403 "));
    }
    // The number of the run, which a statement names, is available over https only.
    let (status, body) = service.curl_tls(&[], "/instance");
    assert_eq!((status.as_str(), body), ("200 text/plain; charset=utf-8", [b"a5".repeat(16), b"\n".to_vec()].concat()));
    assert!(service.curl(&[], "/instance").0.starts_with("403 "));
    assert!(service.curl_tls(&["--data-binary", "x"], "/instance").0.starts_with("405 "));
}

#[test]
fn an_unverified_statement_gets_an_unsigned_refusal() {
    let service = TestService::new();
    let post = |body: &str| {
        service.curl_tls(&["-H", "content-type: application/pkcs7-mime", "--data-binary", body], "/statements")
    };
    let (status, body) = post("forged");
    assert_eq!((status.as_str(), body.as_slice()), ("403 text/plain; charset=utf-8", &b"it is forged\n"[..]));
    let (status, body) = post("fault");
    assert_eq!((status.as_str(), body.as_slice()), ("500 text/plain; charset=utf-8", &b"the database is locked\n"[..]));
}

#[test]
fn files_are_answered_through_the_control_socket_only() {
    let service = TestService::new();
    let socket = service.files.path("control.sock");
    assert_eq!(control::forward_to(&socket, b"this").unwrap().unwrap(), b"response to the file this");
    // The socket serves nothing else: not what the listeners serve, and no HTTP.
    let over_socket = ["--unix-socket", socket.to_str().unwrap()];
    for path in ["/statements", "/.well-known/cmp", "/ca.cer", "/"] {
        let output = service.curl_to(&over_socket, &format!("http://control{path}"));
        assert!(!output.status.success(), "{path}");
    }
}

#[test]
fn the_ca_certificate_is_given_to_everyone() {
    let service = TestService::new();
    let expected = ("200 application/pkix-cert".to_owned(), service.ca.clone());
    assert_eq!(service.curl(&[], "/ca.cer"), expected);
    assert_eq!(service.curl_tls(&[], "/ca.cer"), expected);
}

#[test]
fn the_search_returns_one_several_or_no_certificates() {
    let service = TestService::new();
    let found = |email: &str| service.curl(&[], &format!("/certificates/search.cgi?email={email}"));
    assert_eq!(found("one%40example.org"), ("200 application/pkix-cert".to_owned(), service.ca.clone()));
    let (status, body) = found("two@example.org");
    assert!(status.starts_with("200 multipart/mixed; boundary="), "{status}");
    assert!(String::from_utf8(body).unwrap().ends_with("\r\n\r\nMAA=\r\n--tokenkeep--certificates--\r\n"));
    assert!(found("nobody@example.org").0.starts_with("404 "));
    assert!(found("fault@example.org").0.starts_with("500 "));
    // A temporary fault is reported, so that the client tries again.
    for (address, said) in
        [("locked@example.org", "database is locked"), ("full@example.org", "no space is left on the disk")]
    {
        let (head, body) = found(address);
        assert!(head.starts_with("503 ") && String::from_utf8_lossy(&body).contains(said), "{head}");
    }
    assert!(found("").0.starts_with("400 "));
    assert!(found(&"a".repeat(255)).0.starts_with("400 "));
    assert!(found("one@example.org&email=two@example.org").0.starts_with("400 "));
    assert!(service.curl(&[], "/certificates/search.cgi?name=x").0.starts_with("400 "));
    assert!(service.curl(&[], "/certificates/search.cgi").0.starts_with("400 "));
}

#[test]
fn the_transport_reads_the_search_response() {
    use crate::transport::{HttpTransport, Transport};
    let service = TestService::new();
    let (http, https) = (format!("http://{}", service.http), format!("https://localhost:{}", service.https.port()));
    let ca_sha256 = *crate::pki::Fingerprint::of(&service.ca).as_bytes();
    let transport = HttpTransport::new(&http, &https, ca_sha256).unwrap();
    assert_eq!(transport.search_certificates("two@example.org").unwrap(), [service.ca.clone(), vec![0x30, 0]]);
    assert_eq!(transport.search_certificates("one@example.org").unwrap(), std::slice::from_ref(&service.ca));
    assert_eq!(transport.search_certificates("nobody@example.org").unwrap(), Vec::<Vec<u8>>::new());
    assert_eq!(transport.cmp(b"abc").unwrap(), b"cba");
    assert_eq!(transport.ca_certificate().unwrap(), service.ca);
    assert_eq!(transport.statement(b"this").unwrap(), b"response to this");
    assert!(HttpTransport::new(&http, &https, [0; 32]).unwrap().statement(b"this").is_err());
}

#[test]
fn the_search_is_limited_and_can_be_switched_off() {
    let service = TestService::new();
    let statuses: Vec<String> = (0..=limits::SEARCH_BURST)
        .map(|_| {
            service.speak(b"GET /certificates/search.cgi?email=x HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        })
        .collect();
    let (last, before) = statuses.split_last().unwrap();
    assert!(before.iter().all(|answer| answer.starts_with("HTTP/1.1 404 ")));
    assert!(last.starts_with("HTTP/1.1 429 ") && last.contains("retry-after: "), "{last}");
    drop(service);

    let service = TestService::with(false, Duration::ZERO);
    assert!(service.curl(&[], "/certificates/search.cgi?email=one@example.org").0.starts_with("403 "));
}

#[test]
fn unknown_paths_and_methods_are_refused() {
    let service = TestService::new();
    for (arguments, path, status) in [
        (&[][..], "/", "404 "),
        (&[], "/statements/x", "404 "),
        (&CMP, "/", "404 "),
        (&CMP, "/ca.cer", "405 "),
        (&[], "/.well-known/cmp", "405 "),
        (&["--data-binary", "abc"], "/.well-known/cmp", "415 "),
        (&["-H", "content-type: application/pkixcmp2", "--data-binary", "abc"], "/.well-known/cmp", "415 "),
    ] {
        let (found, _) = service.curl(arguments, path);
        assert!(found.starts_with(status), "{path}: {found}");
    }
}

#[test]
fn a_body_that_is_too_long_is_refused_announced_or_not() {
    let service = TestService::new();
    let long = service.files.put("long", &vec![b'x'; limits::MAX_BODY_BYTES + 1]);
    let longest = service.files.put("longest", &vec![b'x'; limits::MAX_BODY_BYTES]);
    let content_type = ["-H", "content-type: application/pkixcmp", "-H", "expect:"];
    for chunked in [&[][..], &["-H", "transfer-encoding: chunked"]] {
        let (longest, long) = (format!("@{longest}"), format!("@{long}"));
        let arguments = [&content_type[..], chunked, &["--data-binary", &longest]].concat();
        assert!(service.curl(&arguments, "/.well-known/cmp").0.starts_with("200 "));
        let arguments = [&content_type[..], chunked, &["--data-binary", &long]].concat();
        assert!(service.curl(&arguments, "/.well-known/cmp").0.starts_with("413 "));
    }
    let announced = b"POST /.well-known/cmp HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
                      content-type: application/pkixcmp\r\ncontent-length: 99999999999\r\n\r\n";
    assert!(service.speak(announced).starts_with("HTTP/1.1 413 "));
}

#[test]
fn a_head_that_is_too_long_or_too_slow_is_refused() {
    let service = TestService::new();
    let long = format!("GET /ca.cer HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "y".repeat(2 * limits::MAX_HEAD_BYTES));
    assert!(service.speak(long.as_bytes()).starts_with("HTTP/1.1 431 "));
    assert!(service.speak(b"no http at all\r\n\r\n").starts_with("HTTP/1.1 400 "));

    let begin = Instant::now();
    service.speak(b"GET /ca.cer HTTP/1.1\r\nhost:");
    let taken = begin.elapsed();
    assert!(taken >= Duration::from_secs(5) && taken < limits::HEAD_TIMEOUT + Duration::from_secs(5), "{taken:?}");
}

#[test]
fn a_reply_is_delayed_as_the_authority_asks() {
    let service = TestService::with(true, Duration::from_millis(700));
    let begin = Instant::now();
    assert!(service.curl(&CMP, "/.well-known/cmp").0.starts_with("200 "));
    assert!(begin.elapsed() >= Duration::from_millis(700));
}

#[test]
fn a_fault_is_a_500_without_details_and_serving_continues() {
    let service = TestService::new();
    let arguments = ["-H", "content-type: application/pkixcmp", "--data-binary", "panic"];
    let (status, body) = service.curl(&arguments, "/.well-known/cmp");
    assert!(status.starts_with("500 ") && !String::from_utf8_lossy(&body).contains("stand-in"));
    assert!(service.curl(&CMP, "/.well-known/cmp").0.starts_with("200 "));
}

/// Sends a request that the authority answers only when it is released, and waits until the
/// authority has it.
fn send_waiting_request(service: &TestService) -> TcpStream {
    let mut stream = TcpStream::connect(service.http).unwrap();
    stream
        .write_all(
            b"POST /.well-known/cmp HTTP/1.1\r\nhost: x\r\ncontent-type: application/pkixcmp\r\n\
              content-length: 4\r\n\r\nwait",
        )
        .unwrap();
    std::thread::sleep(Duration::from_millis(300));
    stream
}

#[test]
fn stopping_finishes_the_current_request_and_accepts_no_more() {
    let mut service = TestService::new();
    let mut stream = send_waiting_request(&service);
    service.stop.stop();
    let refused = (0..50).any(|_| {
        std::thread::sleep(Duration::from_millis(20));
        TcpStream::connect(service.http).is_err()
    });
    assert!(refused, "a stopped listener accepts connections");
    service.release.send(()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("tiaw"), "{answer}");
    service.thread.take().unwrap().join().unwrap();
}

#[test]
fn stopping_twice_does_not_wait() {
    let mut service = TestService::new();
    let mut stream = send_waiting_request(&service);
    let begin = Instant::now();
    service.stop.stop();
    std::thread::sleep(Duration::from_millis(300));
    service.stop.stop();
    let _ = stream.read_to_end(&mut Vec::new());
    service.thread.take().unwrap().join().unwrap();
    assert!(begin.elapsed() < DRAIN_TIMEOUT / 2, "{:?}", begin.elapsed());
}

#[test]
fn an_address_in_use_is_reported_with_its_setting() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let error = runtime.block_on(bind("https", address, "authority.toml".as_ref())).unwrap_err().to_string();
    assert!(error.contains(&address.to_string()) && error.contains("another program"), "{error}");
    assert!(error.contains("https") && error.contains("authority.toml"), "{error}");
    let error = runtime.block_on(bind("http", "192.0.2.1:1".parse().unwrap(), "x".as_ref())).unwrap_err();
    assert!(matches!(error, ServiceError::Listen { .. }), "{error}");
}

#[test]
fn an_rsa_key_is_refused_for_tls() {
    let rsa = "rsa-2048".parse().unwrap();
    assert!(matches!(tls::TokenSigningKey::new(SoftwareKey::rsa(), rsa), Err(ServiceError::Tls(_))));
}

/// Runs the service with these results of the log checks, the last element first, and returns the
/// error that ends it; `None` if it goes on.
fn end_after(log_faults: Vec<AuthorityError>) -> Option<ServiceError> {
    let (_release, released) = channel();
    let authority = Arc::new(FakeAuthority { log_faults: Mutex::new(log_faults), ..FakeAuthority::new(released) });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let end = runtime.block_on(async {
        tokio::time::timeout(Duration::from_millis(500), verify_older_log(authority.clone())).await.ok()
    });
    assert!(authority.log_faults.lock().unwrap().is_empty(), "the check was not repeated");
    end
}

#[test]
fn only_an_invalid_log_ends_the_service() {
    let locked = || AuthorityError::Store(StoreError::Locked("authority.db".into()));
    let broken = || AuthorityError::Log { number: 7, reason: "is missing".into() };
    assert!(end_after(Vec::new()).is_none());
    assert!(end_after(vec![locked(), AuthorityError::Random("none left".into()), locked()]).is_none());
    for faults in [vec![broken()], vec![broken(), locked()]] {
        let end = end_after(faults);
        assert!(matches!(end, Some(ServiceError::Authority(AuthorityError::Log { number: 7, .. }))), "{end:?}");
    }
}

#[test]
fn the_unit_waits_for_final_work_and_stays_down_on_a_broken_log() {
    let unit = include_str!("../../packaging/systemd/tokenkeep-authority.service");
    let value = |key: &str| unit.lines().find_map(|line| line.strip_prefix(key)).unwrap();
    let time = Duration::from_secs(value("TimeoutStopSec=").parse().unwrap());
    assert!(time >= DRAIN_TIMEOUT + FINAL_WORK_TIMEOUT + CLOSING + Duration::from_secs(5), "{time:?}");
    assert!(value("RestartPreventExitStatus=").split(' ').any(|code| code == "9"));
}
