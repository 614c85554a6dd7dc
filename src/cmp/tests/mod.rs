//! Tests of the whole module: real messages, both sides together, and OpenSSL as the other side.

mod corpus;
mod exchange;
mod messages;
mod openssl;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use spki::AlgorithmIdentifierOwned;

/// The secret that protects every message here, and its reference.
const SECRET: &[u8] = b"0123456789ABCDEFGHJKMNPQRSTV";
const REFERENCE: &str = "E2345678";

fn now() -> jiff::Timestamp {
    "2026-11-22T12:00:00Z".parse().unwrap()
}

fn corpus(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/cmp").join(path)
}

fn part(name: &str) -> Vec<u8> {
    std::fs::read(corpus("parts").join(name)).unwrap()
}

fn openssl(arguments: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new("openssl")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("openssl is installed");
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

fn assert_openssl(arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let output = openssl(arguments, input);
    assert!(output.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// A P-256 key made by OpenSSL, with a self-signed certificate, in files.
struct Key {
    directory: tempfile::TempDir,
}

impl Key {
    fn new() -> Self {
        let key = Self { directory: tempfile::tempdir().unwrap() };
        assert_openssl(&["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", &key.file("key.pem")], b"");
        let subject = ["-subj", "/CN=somebody", "-days", "3650", "-out", &key.file("certificate.pem")];
        let purpose = ["-addext", "keyUsage=digitalSignature"];
        assert_openssl(
            &[&["req", "-x509", "-new", "-key", &key.file("key.pem")], &subject[..], &purpose].concat(),
            b"",
        );
        key
    }

    fn file(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    fn certificate(&self) -> Vec<u8> {
        assert_openssl(&["x509", "-in", &self.file("certificate.pem"), "-outform", "DER"], b"")
    }

    fn public_key(&self) -> Vec<u8> {
        assert_openssl(&["pkey", "-in", &self.file("key.pem"), "-pubout", "-outform", "DER"], b"")
    }

    fn sign(&self, bytes: &[u8]) -> Vec<u8> {
        assert_openssl(&["dgst", "-sha256", "-sign", &self.file("key.pem")], bytes)
    }

    fn verifies(&self, bytes: &[u8], signature: &[u8]) -> bool {
        std::fs::write(self.file("signature"), signature).unwrap();
        std::fs::write(self.file("public.pem"), pem(&self.public_key())).unwrap();
        let files = ["-signature", &self.file("signature"), "-verify", &self.file("public.pem")];
        openssl(&[&["dgst", "-sha256"], &files[..]].concat(), bytes).status.success()
    }
}

fn pem(public_key: &[u8]) -> Vec<u8> {
    assert_openssl(&["pkey", "-pubin", "-inform", "DER"], public_key)
}

fn ecdsa_with_sha256() -> AlgorithmIdentifierOwned {
    AlgorithmIdentifierOwned { oid: der::asn1::ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2"), parameters: None }
}

impl signature::Signer<crate::token::Signature> for Key {
    fn try_sign(&self, bytes: &[u8]) -> Result<crate::token::Signature, signature::Error> {
        crate::token::Signature::try_from(self.sign(bytes).as_slice())
    }
}

impl spki::DynSignatureAlgorithmIdentifier for Key {
    fn signature_algorithm_identifier(&self) -> spki::Result<AlgorithmIdentifierOwned> {
        Ok(ecdsa_with_sha256())
    }
}
