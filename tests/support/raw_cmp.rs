//! Makes raw CMP messages and sends them: a client other than ours, with or without the letter's
//! secret.

use std::convert::Infallible;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use jiff::Timestamp;
use p256::ecdsa::signature::Signer;
use p256::ecdsa::{DerSignature, SigningKey};
use p256::pkcs8::EncodePublicKey;
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
use spki::AlgorithmIdentifierOwned;
use tokenkeep::cmp::{
    EnrollmentRequestBuilder, MacProtection, PkiHeader, PkiMessage, Pvno, TransportPublicKey, Utf8Pairs,
};
use tokenkeep::letter::Letter;
use tokenkeep::token::OaepHash;

use super::machine::Machine;

/// A connection from this address of the loopback network.
pub fn connect_from(source: Ipv4Addr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    bind(&socket, &SocketAddr::from((source, 0)))?;
    connect(&socket, &to)?;
    Ok(socket.into())
}

/// Posts a body to `host:port`; returns the status and the response body.
pub fn post(address: &str, path: &str, content_type: &str, body: &[u8]) -> (u16, Vec<u8>) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n"
    );
    stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap_or_else(|| panic!("no HTTP response"));
    let status = String::from_utf8_lossy(&answer[..end]).split_whitespace().nth(1).unwrap().parse().unwrap();
    (status, answer[end + 4..].to_vec())
}

/// Posts a CMP message; returns the response.
pub fn post_cmp(address: &str, message: &[u8]) -> PkiMessage {
    let (_, answer) = post(address, "/.well-known/cmp", "application/pkixcmp", message);
    PkiMessage::from_der(&answer).unwrap_or_else(|error| panic!("no CMP response: {error}"))
}

/// An enrollment request of a client without a token, as `ir` or `krr`, protected with the letter's
/// secret. Its transport key is the RSA key in the machine's file `transport.pem`, which is
/// generated if missing.
pub fn build_request(machine: &Machine, letter: &Letter, recovery: bool) -> Vec<u8> {
    if !machine.file("transport.pem").exists() {
        let line = ["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", "transport.pem"];
        machine.openssl(&line).ok();
    }
    let public_key = machine.openssl(&["pkey", "-in", "transport.pem", "-pubout", "-outform", "DER"]).ok().stdout;
    let transport = TransportPublicKey { public_key, oaep: OaepHash::Sha1 };

    let key = SigningKey::from_slice(&[7; 32]).unwrap();
    let public_key = key.verifying_key().to_public_key_der().unwrap();
    let algorithm = AlgorithmIdentifierOwned { oid: const_oid::db::rfc5912::ECDSA_WITH_SHA_256, parameters: None };
    let pairs = Utf8Pairs::default().with("keyset", "by hand").with("level", "high");
    let header = PkiHeader::request(Pvno::CMP2000, letter.reference.as_str(), None, Timestamp::now()).unwrap();
    let request = EnrollmentRequestBuilder::new(header, letter.reference.as_str(), &pairs)
        .unwrap()
        .signing_key(public_key.as_bytes(), algorithm, |bytes| {
            let signature: DerSignature = key.sign(bytes);
            Ok::<_, Infallible>(signature.as_bytes().to_vec())
        })
        .unwrap()
        .encryption_key(&transport)
        .unwrap();
    let draft = if recovery { request.krr() } else { request.ir() };
    draft.protect_with_mac(letter.temporary_key.cmp_secret(), &MacProtection::pbm().unwrap()).unwrap()
}
