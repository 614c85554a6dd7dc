//! The test support itself works: the connection can be watched and tampered with, Kryoptic is
//! installed, and foreign programs accept the simulated card.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::json;

use crate::support::agent::wait_for;
use crate::support::machine::{Machine, TokenKind};
use crate::support::proxy::{Direction, Proxy, ProxyAction};
use crate::support::reader::{self, Reader, lock, opensc};
use crate::support::schema::{Description, check};
use crate::support::virtual_card::{Card, TRIES};

/// A server that answers each request with its reversed body.
fn reversing_server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"!") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                request.push(byte[0]);
            }
            let body = request.rsplit(|byte| *byte == b'\n').next().unwrap();
            let reversed: Vec<u8> = body.iter().rev().copied().collect();
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", reversed.len()).unwrap();
            stream.write_all(&reversed).unwrap();
        }
    });
    address
}

fn post(proxy: &Proxy, body: &str) -> String {
    let mut stream = TcpStream::connect(proxy.url().strip_prefix("http://").unwrap()).unwrap();
    write!(stream, "POST /x HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.rsplit("\r\n").next().unwrap().to_owned()
}

#[test]
fn the_proxy_records_exchanges() {
    let proxy = Proxy::forwarding(&reversing_server());
    assert_eq!(post(&proxy, "abc!"), "!cba");
    let seen = proxy.exchanges();
    assert_eq!(seen.len(), 1);
    assert_eq!(
        (seen[0].target.as_str(), &seen[0].request[..], &seen[0].response[..]),
        ("POST /x", &b"abc!"[..], &b"!cba"[..])
    );
}

#[test]
fn the_proxy_changes_exchanges() {
    let tampering =
        |when, verdict: ProxyAction| {
            let proxy = Proxy::tampering(&reversing_server(), move |direction, _, _| {
                if direction == when { verdict.clone() } else { ProxyAction::Pass }
            });
            post(&proxy, "abc!")
        };
    assert_eq!(tampering(Direction::ToAuthority, ProxyAction::Replace(b"xyzw!".to_vec())), "!wzyx");
    assert_eq!(tampering(Direction::ToClient, ProxyAction::Replace(b"lie".to_vec())), "lie");
    assert_eq!(tampering(Direction::ToClient, ProxyAction::CutAfter(2)), "!c");
    assert_eq!(tampering(Direction::ToClient, ProxyAction::Swallow), "");
}

#[test]
fn a_machine_has_tokens_of_its_own() {
    for kind in [TokenKind::SoftHsm, TokenKind::Kryoptic] {
        let machine = Machine::with(kind);
        let module = machine.module().display().to_string();
        let slots = machine.run("pkcs11-tool", &["--module", &module, "-L"], b"").ok();
        assert!(slots.out().contains("Slot 0"), "{slots}");
        assert!(slots.out().contains("uninitialized"), "no token is there before a test makes one\n{slots}");
    }
}

#[test]
fn a_card_in_a_reader_signs_by_its_pin_and_counts_wrong_ones() {
    if !reader::is_available() {
        return;
    }
    let mut machine = Machine::new();
    let mut reader = Reader::on_machine(&mut machine);
    reader.start();
    let card = Arc::new(Mutex::new(Card::plain_with_key("123456")));
    reader.insert(&card);
    machine.write("card.pem", lock(&card).certificate_pem(0x9a).unwrap());
    let counted = || {
        let card = lock(&card);
        (card.pin_tries(), card.transcript().key_uses())
    };
    let module = opensc().display().to_string();
    let tool = |more: &[&str]| machine.run("pkcs11-tool", &[&["--module", &module], more].concat(), b"");
    wait_for("the card is listed", || tool(&["-L"]).out().contains(Card::LABEL).then_some(()));
    machine.write("digest", [7; 32]);
    let sign = ["--sign", "-m", "ECDSA", "--signature-format", "openssl", "-i", "digest", "-o", "signature"];
    assert_ne!(tool(&[&["--login", "--pin", "654321"], &sign[..]].concat()).code(), 0);
    assert_eq!(counted(), (TRIES - 1, 0));
    tool(&[&["--login", "--pin", "123456"], &sign[..]].concat()).ok();
    assert_eq!(counted(), (TRIES, 1));
    let verify = ["pkeyutl", "-verify", "-certin", "-inkey", "card.pem", "-in", "digest", "-sigfile", "signature"];
    machine.openssl(&verify).ok();
}

#[test]
fn the_version_names_the_program() {
    let machine = Machine::new();
    machine.tokenkeep(&["--version"]).ok().says("tokenkeep ");
    machine.tokenkeep(&["no-such-verb"]).fails_with(2).says("no-such-verb");
}

#[test]
fn schema_violations_are_found() {
    let description = Description::new(json!({ "openapi": "3.1.0", "components": { "schemas": {
        "Name": { "type": "string", "pattern": "^[0-9a-f]{2}$" }
    }}}));
    let schema = json!({
        "type": "object", "required": ["name"], "additionalProperties": false,
        "properties": {
            "name": { "$ref": "#/components/schemas/Name" },
            "level": { "enum": ["low", null] },
            "count": { "type": ["integer", "null"], "minimum": 1 },
            "data": { "type": "string", "contentEncoding": "base64" },
            "at": { "type": "string", "format": "date-time" },
            "either": { "oneOf": [{ "const": 1 }, { "type": "array", "items": { "type": "boolean" } }] }
        }
    });
    let fits = |value| check(&description, &schema, &value);
    fits(json!({ "name": "0a", "level": null, "count": null, "data": "YQ==", "at": "2026-01-01T00:00:00Z" })).unwrap();
    fits(json!({ "name": "0a", "count": 1, "either": [true] })).unwrap();
    for wrong in [
        json!([]),
        json!({}),
        json!({ "name": "0A" }),
        json!({ "name": 7 }),
        json!({ "name": "0a", "more": 1 }),
        json!({ "name": "0a", "level": "high" }),
        json!({ "name": "0a", "count": 0 }),
        json!({ "name": "0a", "data": "a" }),
        json!({ "name": "0a", "at": "today" }),
        json!({ "name": "0a", "either": [1] }),
        json!({ "name": "0a", "either": 2 }),
    ] {
        assert!(fits(wrong.clone()).is_err(), "{wrong}");
    }
}
