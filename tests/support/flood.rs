//! Floods an authority with requests, each from an address of the loopback network. The floods are
//! limited in rate and time and stay on this machine.

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

/// The kind of a flood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FloodKind {
    /// CMP messages with the highest accepted hashing cost: PBMAC1 with 262,144 rounds of
    /// HMAC-SHA-512.
    Hashing,
    /// Five bytes to `/statements`, each over a new TLS connection.
    Statements,
    /// As many connections per address and listener as allowed, which begin a request and never
    /// finish it.
    Slow,
}

impl FloodKind {
    pub const ALL: [Self; 3] = [Self::Hashing, Self::Statements, Self::Slow];
}

/// Delay between two requests of a thread.
const PAUSE: Duration = Duration::from_millis(20);
/// Number of threads per address.
const THREADS: usize = 2;
/// Number of held connections per address and listener.
const HELD_CONNECTIONS: usize = 32;

/// A running flood; dropping it ends it.
pub struct Flood {
    ended: Arc<AtomicBool>,
    /// Number of started requests or opened connections.
    pub sent: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Flood {
    /// Starts a flood from this number of addresses: 127.0.0.11 and the following.
    pub fn start(kind: FloodKind, addresses: u8, http: &str, https: &str) -> Self {
        let (http, https): (SocketAddr, SocketAddr) = (http.parse().unwrap(), https.parse().unwrap());
        let (ended, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let tls = Arc::new(tls_config(http));
        let message = Arc::new(post("/.well-known/cmp", "application/pkixcmp", &expensive_message()));
        let mut threads = Vec::new();
        for address in (0..addresses).map(|number| 11 + number) {
            for _ in 0..if kind == FloodKind::Slow { 1 } else { THREADS } {
                let (ended, sent, tls, message) = (ended.clone(), sent.clone(), tls.clone(), message.clone());
                threads.push(std::thread::spawn(move || match kind {
                    FloodKind::Slow => hold(address, [http, https], &ended, &sent),
                    FloodKind::Hashing => repeat(&ended, &sent, || exchange(connect_from(address, http)?, &message)),
                    FloodKind::Statements => repeat(&ended, &sent, || {
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
        // Whether the request is refused, cut or answered does not matter.
        let _ = request();
        std::thread::sleep(PAUSE);
    }
}

/// Holds connections, and replaces those that are closed.
fn hold(address: u8, listeners: [SocketAddr; 2], ended: &AtomicBool, sent: &AtomicU64) {
    let mut held: Vec<Option<TcpStream>> = (0..2 * HELD_CONNECTIONS).map(|_| None).collect();
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
    let stream = super::raw_cmp::connect_from(Ipv4Addr::new(127, 0, 0, address), to).ok()?;
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

/// Trusts the authority's CA certificate. The TLS certificate names the address.
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

/// A message with an unknown reference and an invalid MAC that is expensive to verify.
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
    // `protection` is [0] EXPLICIT, and shorter than 128 bytes.
    message.extend([0xa0, u8::try_from(protection.len()).unwrap()]);
    message.extend(protection);
    Any::new(Tag::Sequence, message).unwrap().to_der().unwrap()
}

/// Posts a CMP message from 127.0.0.`address`, and waits for the response.
pub fn post_from(address: u8, http: &str, message: &[u8]) {
    let stream = connect_from(address, http.parse().unwrap()).unwrap();
    exchange(stream, &post("/.well-known/cmp", "application/pkixcmp", message)).unwrap();
}
