//! Tests with `openssl cmp` as the client of an authority that consists of this module only, over a
//! loopback HTTP server.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Output;
use std::thread::JoinHandle;

use super::messages::{authority, read};
use super::{Key, now, openssl};
use crate::cmp::*;

const SECRET: &str = "0123456789ABCDEFGHJKMNPQRSTV";

/// Serves `messages` requests with `reply`, and returns the names of their bodies.
fn serve(messages: usize, reply: impl Fn(&PkiMessage) -> Vec<u8> + Send + 'static) -> (u16, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        let answer = |mut stream: TcpStream| {
            let request = read(&body_of(&stream));
            let reply = reply(&request);
            let head = "HTTP/1.0 200 OK\r\nContent-Type: application/pkixcmp\r\nConnection: close\r\n";
            write!(stream, "{head}Content-Length: {}\r\n\r\n", reply.len()).unwrap();
            stream.write_all(&reply).unwrap();
            request.body().name().to_owned()
        };
        (0..messages).map(|_| answer(listener.accept().unwrap().0)).collect()
    });
    (port, server)
}

fn body_of(stream: &TcpStream) -> Vec<u8> {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    body
}

fn client(port: u16, command: &str, arguments: &[&str]) -> Output {
    let server = format!("127.0.0.1:{port}/.well-known/cmp");
    let fixed = ["cmp", "-config", "", "-cmd", command, "-server", &server, "-keep_alive", "0", "-ref", "E2345678"];
    openssl(&[&fixed[..], &["-recipient", "/CN=Authority", "-secret"], arguments].concat(), b"")
}

/// The authority's replies: a prepared certificate to any ir; pkiConf; the CA certificate.
fn answers(certificate: CertificateDer) -> impl Fn(&PkiMessage) -> Vec<u8> {
    move |request| {
        let Ok(how) = verify_mac(request, SECRET.as_bytes()) else {
            let why = PkiStatusInfo::rejection(PkiFailureInfo::BAD_MESSAGE_CHECK, "unknown reference or wrong key");
            let draft = draft_reply(request, &authority(), PkiBody::Error(why.into()), now()).unwrap();
            return draft.unprotected().unwrap();
        };
        let body = match request.body() {
            PkiBody::Ir(requests) => {
                assert!(requests[0].possession().is_ok());
                let key_pair = CertifiedKeyPair::certificate(certificate.clone());
                let response = CertResponse::granted(requests[0].cert_req.cert_req_id, key_pair);
                PkiBody::Ip(CertRepMessage::new(vec![certificate.clone()], vec![response]))
            }
            PkiBody::CertConf(statuses) => {
                let verdict = statuses[0].verdict_on(&certificate.to_vec().unwrap(), request.header().pvno).unwrap();
                assert_eq!(verdict, ConfirmationVerdict::Accepted);
                PkiBody::pki_conf()
            }
            PkiBody::Genm(_) => {
                PkiBody::Genp(vec![InfoTypeAndValue::ca_certs(std::slice::from_ref(&certificate)).unwrap()])
            }
            other => PkiBody::Error(PkiStatusInfo::rejection(PkiFailureInfo::BAD_REQUEST, other.name()).into()),
        };
        let mut draft = draft_reply(request, &authority(), body, now()).unwrap();
        if request.header().general_info.as_deref().is_some_and(GeneralInfoExt::has_implicit_confirm) {
            draft.header.general_info = Some(vec![InfoTypeAndValue::implicit_confirm()]);
        }
        draft.protect_with_mac(SECRET.as_bytes(), &how).unwrap()
    }
}

fn enroll(messages: usize, secret: &str, more: &[&str]) -> (Output, Vec<String>, Key) {
    let key = Key::new();
    let certificate = CertificateDer::new(&key.certificate()).unwrap();
    let (port, server) = serve(messages, answers(certificate));
    let secret = format!("pass:{secret}");
    let (new_key, out) = (key.file("key.pem"), key.file("enrolled.pem"));
    let ca = key.file("ca.pem");
    let fixed = [&secret, "-newkey", &new_key, "-subject", "/CN=user", "-certout", &out, "-cacertsout", &ca];
    let output = client(port, "ir", &[&fixed[..], more].concat());
    (output, server.join().unwrap(), key)
}

#[test]
fn openssl_enrolls_and_confirms() {
    let (output, bodies, key) = enroll(2, SECRET, &[]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(bodies, ["ir", "certConf"]);
    let enrolled = std::fs::read_to_string(key.file("enrolled.pem")).unwrap();
    let issued = std::fs::read_to_string(key.file("certificate.pem")).unwrap();
    assert_eq!(enrolled.trim(), issued.trim());
    assert_eq!(std::fs::read_to_string(key.file("ca.pem")).unwrap().trim(), issued.trim());
}

#[test]
fn openssl_enrolls_with_other_digests_and_without_confirming() {
    let more = ["-digest", "sha512", "-mac", "hmacWithSHA256", "-implicit_confirm"];
    let (output, bodies, _) = enroll(1, SECRET, &more);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(bodies, ["ir"]);
}

#[test]
fn openssl_with_a_wrong_key_gets_an_error() {
    let (output, _, key) = enroll(1, "0000000000000000000000000000", &["-unprotected_errors"]);
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("badMessageCheck") && said.contains("unknown reference or wrong key"), "{said}");
    assert!(!std::path::Path::new(&key.file("enrolled.pem")).exists());
}

#[test]
fn openssl_accepts_a_signed_reply_of_the_right_signer_only() {
    let (signer, stranger) = (Key::new(), Key::new());
    for (pinned, good) in [(&signer, true), (&stranger, false)] {
        let key = Key::new();
        let enrolled = CertificateDer::new(&key.certificate()).unwrap();
        let signing = Key::new();
        std::fs::copy(signer.file("key.pem"), signing.file("key.pem")).unwrap();
        std::fs::copy(signer.file("certificate.pem"), signing.file("certificate.pem")).unwrap();
        let (port, server) = serve(1, move |request| {
            let PkiBody::Ir(_) = request.body() else { panic!("an ir") };
            let response = CertResponse::granted(0, CertifiedKeyPair::certificate(enrolled.clone()));
            let body = PkiBody::Ip(CertRepMessage::new(Vec::new(), vec![response]));
            let sender = CertificateDer::new(&signing.certificate()).unwrap();
            let name = sender.parse().unwrap().tbs_certificate().subject().clone();
            let mut draft = draft_reply(request, &name, body, now()).unwrap();
            draft.header.general_info = Some(vec![InfoTypeAndValue::implicit_confirm()]);
            draft.header.sender_kid = None;
            protect_with_signature::<_, crate::token::Signature>(draft, &signing, sender).unwrap()
        });
        let (pinned, new_key, out) = (pinned.file("certificate.pem"), key.file("key.pem"), key.file("enrolled.pem"));
        let own = ["-newkey", &new_key, "-subject", "/CN=user", "-certout", &out, "-implicit_confirm"];
        let trust = ["pass:0123456789ABCDEFGHJKMNPQRSTV", "-srvcert", &pinned];
        let output = client(port, "ir", &[&trust[..], &own].concat());
        server.join().unwrap();
        assert_eq!(output.status.success(), good, "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn openssl_asks_for_ca_certificates() {
    let certificate = CertificateDer::new(&Key::new().certificate()).unwrap();
    let (port, server) = serve(1, answers(certificate));
    let output = client(port, "genm", &[&format!("pass:{SECRET}"), "-infotype", "caCerts"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(server.join().unwrap(), ["genm"]);
}
