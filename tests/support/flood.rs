//! Strangers who ask an authority for more than it should give them, each from an address of the loopback network:
//! bounded in rate and in time, and only on this machine.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use der::asn1::{BitString, OctetString};
use der::{Any, Encode, Tag};
use jiff::Timestamp;
use rustls::pki_types::{CertificateDer, ServerName};
use spki::AlgorithmIdentifierOwned;
use tokenkeep::cmp::{PkiHeader, Pvno, general_request, oid};

/// What a flood does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// CMP messages that ask for as much hashing as is taken: PBMAC1 with 262,144 rounds of HMAC-SHA-512.
    Hashing,
    /// Five bytes to `/statements`, each over a TLS connection of its own.
    Statements,
    /// As many connections as an address may have, to both listeners, that begin a request and never end it.
    Slow,
}

impl Kind {
    pub const ALL: [Self; 3] = [Self::Hashing, Self::Statements, Self::Slow];
}

/// Between two requests of a connection's thread.
const PAUSE: Duration = Duration::from_millis(20);
/// How many threads ask for one address.
const THREADS: usize = 2;
/// How many connections one address holds to each listener.
const HELD: usize = 32;

/// A flood; it ends when this is dropped.
pub struct Flood {
    ended: Arc<AtomicBool>,
    /// How many requests were begun, or connections opened.
    pub sent: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Flood {
    /// From so many addresses: 127.0.0.11 and the following.
    pub fn begin(kind: Kind, addresses: u8, http: &str, https: &str) -> Self {
        let (http, https): (SocketAddr, SocketAddr) = (http.parse().unwrap(), https.parse().unwrap());
        let (ended, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let tls = Arc::new(tls_config(http));
        let message = Arc::new(post("/.well-known/cmp", "application/pkixcmp", &expensive_message()));
        let mut threads = Vec::new();
        for address in (0..addresses).map(|number| 11 + number) {
            for _ in 0..if kind == Kind::Slow { 1 } else { THREADS } {
                let (ended, sent, tls, message) = (ended.clone(), sent.clone(), tls.clone(), message.clone());
                threads.push(std::thread::spawn(move || match kind {
                    Kind::Slow => hold(address, [http, https], &ended, &sent),
                    Kind::Hashing => repeat(&ended, &sent, || exchange(connect_from(address, http)?, &message)),
                    Kind::Statements => repeat(&ended, &sent, || {
                        let server = ServerName::try_from("127.0.0.1").ok()?;
                        let session = rustls::ClientConnection::new(tls.clone(), server).ok()?;
                        let stream = rustls::StreamOwned::new(session, connect_from(address, https)?);
                        exchange(stream, &post("/statements", "application/pkcs7-mime", b"hello"))
                    }),
                }));
            }
        }
        Self { ended, sent, threads }
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn repeat(ended: &AtomicBool, sent: &AtomicU64, mut request: impl FnMut() -> Option<()>) {
    while !ended.load(Ordering::Relaxed) {
        sent.fetch_add(1, Ordering::Relaxed);
        // Refused, cut or answered: a flood does not care.
        let _ = request();
        std::thread::sleep(PAUSE);
    }
}

/// Holds connections, and opens others for those that are closed.
fn hold(address: u8, listeners: [SocketAddr; 2], ended: &AtomicBool, sent: &AtomicU64) {
    let mut held: Vec<Option<TcpStream>> = (0..2 * HELD).map(|_| None).collect();
    while !ended.load(Ordering::Relaxed) {
        for (at, place) in held.iter_mut().enumerate() {
            if place.as_mut().is_none_or(is_closed) {
                *place = connect_from(address, listeners[at % 2]).and_then(|mut stream| {
                    stream.write_all(b"POST /").ok()?;
                    stream.set_nonblocking(true).ok()?;
                    Some(stream)
                });
                sent.fetch_add(1, Ordering::Relaxed);
            }
        }
        std::thread::sleep(PAUSE * 5);
    }
}

fn is_closed(stream: &mut TcpStream) -> bool {
    !matches!(stream.read(&mut [0; 256]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
}

fn exchange<S: Read + Write>(mut stream: S, request: &[u8]) -> Option<()> {
    stream.write_all(request).ok()?;
    stream.read_to_end(&mut Vec::new()).ok()?;
    Some(())
}

/// A connection from 127.0.0.`address`.
fn connect_from(address: u8, to: SocketAddr) -> Option<TcpStream> {
    let stream = super::wire::connect_from(Ipv4Addr::new(127, 0, 0, address), to).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    Some(stream)
}

fn post(path: &str, content_type: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: authority\r\nconnection: close\r\ncontent-type: {content_type}\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// Trusts the authority's CA certificate, whose name in the TLS certificate is its address.
fn tls_config(http: SocketAddr) -> rustls::ClientConfig {
    let mut stream = TcpStream::connect(http).unwrap();
    stream.write_all(b"GET /ca.cer HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from(answer[end..].to_vec())).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    builder.with_root_certificates(roots).with_no_client_auth()
}

/// A message under a MAC that nobody can have made, of an unknown reference, and dear to verify.
pub fn expensive_message() -> Vec<u8> {
    let hmac = AlgorithmIdentifierOwned { oid: oid::HMAC_SHA512, parameters: None };
    let derivation = [
        OctetString::new([7; 16]).unwrap().to_der().unwrap(),
        262_144_u32.to_der().unwrap(),
        64_u16.to_der().unwrap(),
        hmac.to_der().unwrap(),
    ];
    let derivation = Any::new(Tag::Sequence, derivation.concat()).unwrap();
    let function = AlgorithmIdentifierOwned { oid: oid::PBKDF2, parameters: Some(derivation) };
    let parameters = Any::new(Tag::Sequence, [function.to_der().unwrap(), hmac.to_der().unwrap()].concat()).unwrap();
    let header = PkiHeader::request(Pvno::CMP2000, "E1234567", None, Timestamp::now()).unwrap();
    let mut draft = general_request(header, &[oid::IT_CA_CERTS]);
    draft.header.protection_alg = Some(AlgorithmIdentifierOwned { oid: oid::PBMAC1, parameters: Some(parameters) });
    let protection = BitString::from_bytes(&[0; 64]).unwrap().to_der().unwrap();
    let mut message = [draft.header.to_der().unwrap(), draft.body.to_der().unwrap()].concat();
    // protection is [0] EXPLICIT, and shorter than 128 bytes.
    message.extend([0xa0, u8::try_from(protection.len()).unwrap()]);
    message.extend(protection);
    Any::new(Tag::Sequence, message).unwrap().to_der().unwrap()
}

/// Posts a CMP message from 127.0.0.`address`, and waits for the answer.
pub fn post_from(address: u8, http: &str, message: &[u8]) {
    let stream = connect_from(address, http.parse().unwrap()).unwrap();
    exchange(stream, &post("/.well-known/cmp", "application/pkixcmp", message)).unwrap();
}
