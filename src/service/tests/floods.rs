//! A source spends only its own budget and connections; nobody else waits for it.

use rustix::net::{AddressFamily, SocketType, bind, connect, socket};

use super::*;

/// Connects from this address of the loopback network.
fn connect_from(address: &str, to: SocketAddr) -> TcpStream {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&socket, &format!("{address}:0").parse::<SocketAddr>().unwrap()).unwrap();
    connect(&socket, &to).unwrap();
    TcpStream::from(socket)
}

/// Sends a whole request on a plain connection from this address.
fn request_from(address: &str, to: SocketAddr, head: &str, body: &[u8]) -> String {
    let mut stream = connect_from(address, to);
    let text = format!(
        "POST /.well-known/cmp HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/pkixcmp\r\n\
         {head}content-length: {}\r\n\r\n",
        body.len()
    );
    let mut answer = Vec::new();
    // A closed connection counts as an answer.
    let _ = stream.write_all(&[text.as_bytes(), body].concat()).and_then(|()| stream.read_to_end(&mut answer));
    String::from_utf8_lossy(&answer).into_owned()
}

/// A message that asks for 524,288 hash iterations: eight of them exceed a budget.
fn expensive() -> Vec<u8> {
    use crate::cmp::{PkiHeader, Pvno, general_request, oid};
    use der::asn1::OctetString;
    use der::{Any, Encode, Tag};
    use spki::AlgorithmIdentifierOwned;

    let hmac = AlgorithmIdentifierOwned { oid: oid::HMAC_SHA512, parameters: None };
    let salt = OctetString::new([7; 16]).unwrap().to_der().unwrap();
    let derivation = [salt, 262_144_u32.to_der().unwrap(), 64_u16.to_der().unwrap(), hmac.to_der().unwrap()].concat();
    let derivation = Some(Any::new(Tag::Sequence, derivation).unwrap());
    let function = AlgorithmIdentifierOwned { oid: oid::PBKDF2, parameters: derivation };
    let parameters = Any::new(Tag::Sequence, [function.to_der().unwrap(), hmac.to_der().unwrap()].concat()).unwrap();
    let header = PkiHeader::request(Pvno::CMP2000, "E1234567", None, Timestamp::now()).unwrap();
    let mut draft = general_request(header, &[oid::IT_CA_CERTS]);
    draft.header.protection_alg = Some(AlgorithmIdentifierOwned { oid: oid::PBMAC1, parameters: Some(parameters) });
    let message = [draft.header.to_der().unwrap(), draft.body.to_der().unwrap()].concat();
    let message = Any::new(Tag::Sequence, message).unwrap().to_der().unwrap();
    assert_eq!(crate::cmp::cost_of_verifying(&message), 524_288);
    message
}

/// Sends requests from this address, with the header lines of `head`, until a response is not 200.
fn spend(address: &str, to: SocketAddr, head: impl Fn(u8) -> String) -> String {
    let message = expensive();
    (0..40)
        .map(|number| request_from(address, to, &head(number), &message))
        .find(|answer| !answer.starts_with("HTTP/1.1 200 "))
        .expect("the budget is unlimited")
}

#[test]
fn only_the_source_that_asks_too_much_is_throttled() {
    let service = TestService::new();
    let response = spend("127.0.0.2", service.http, |_| String::new());
    assert!(response.starts_with("HTTP/1.1 503 ") && response.contains("retry-after: "), "{response}");
    assert!(response.contains("connection: close"), "{response}");
    assert!(response.contains("rate limit exceeded for this address"), "{response}");
    assert!(request_from("127.0.0.1", service.http, "", &expensive()).starts_with("HTTP/1.1 200 "));
    // A cheap request is soon answered again.
    std::thread::sleep(Duration::from_secs(1));
    assert!(request_from("127.0.0.2", service.http, "", b"abc").starts_with("HTTP/1.1 200 "));
}

#[test]
fn behind_a_proxy_each_address_has_a_budget_of_its_own() {
    let service = TestService::listening("proxies = [\"127.0.0.3\"]", Duration::ZERO);
    let said = |address: &str| format!("forwarded: for=127.0.0.9, for={address}\r\n");
    assert!(spend("127.0.0.3", service.http, |_| said("127.0.0.7")).starts_with("HTTP/1.1 503 "));
    assert!(request_from("127.0.0.3", service.http, &said("127.0.0.8"), &expensive()).starts_with("HTTP/1.1 200 "));
    let direct = request_from("127.0.0.7", service.http, "", &expensive());
    assert!(direct.starts_with("HTTP/1.1 503 "), "whom the proxy names is the one who asked: {direct}");
    // Other addresses are not trusted: a forged header brings no new budget.
    let lies = spend("127.0.0.4", service.http, |number| said(&format!("127.0.1.{number}")));
    assert!(lies.starts_with("HTTP/1.1 503 "), "{lies}");
}

#[test]
fn slow_connections_of_eight_addresses_block_nobody() {
    let service = TestService::new();
    let mut slow = Vec::new();
    for listener in [service.http, service.https] {
        for source in 0..8 {
            for _ in 0..limits::MAX_CONNECTIONS_PER_SOURCE / 2 {
                let mut stream = connect_from(&format!("127.0.0.{}", 10 + source), listener);
                stream.write_all(b"POST /").unwrap();
                slow.push(stream);
            }
        }
    }
    assert_eq!(slow.len(), limits::MAX_CONNECTIONS);
    let begin = Instant::now();
    for _ in 0..10 {
        assert!(service.curl(&CMP, "/.well-known/cmp").0.starts_with("200 "));
        assert!(service.curl_tls(&[], "/ca.cer").0.starts_with("200 "));
    }
    assert!(begin.elapsed() < limits::HEAD_TIMEOUT / 2, "{:?}", begin.elapsed());
}
