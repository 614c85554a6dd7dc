//! Private keys in software, for tests only: they replace a token. Also files for OpenSSL, which
//! checks the results independently.

#![allow(clippy::disallowed_types)] // an RSA private key in software, because this is a test and no one's key

pub(crate) mod odd_certificates;

use std::io::{Cursor, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use p256::pkcs8::DecodePrivateKey;
use rsa::pkcs1v15;
use signature::{SignatureEncoding, Signer};
use spki::{DynSignatureAlgorithmIdentifier, EncodePublicKey};

use super::{Certificate, DistinguishedName, Issuer, NewCertificate, Profile, SerialNumber, sign_tbs};
use crate::token::{KeyAlgorithm, KeyTransport, OaepHash, Signature, SignatureHash};

/// A private key, and its PKCS #8 in DER.
#[derive(Clone)]
pub(crate) struct SoftwareKey {
    kind: Kind,
    pkcs8: Vec<u8>,
}

#[derive(Clone)]
enum Kind {
    Rsa(Box<rsa::RsaPrivateKey>),
    P256(p256::SecretKey),
    P384(p384::SecretKey),
}

impl SoftwareKey {
    pub(crate) fn p256() -> Self {
        let pkcs8 = new_key("EC", "ec_paramgen_curve:P-256");
        Self { kind: Kind::P256(p256::SecretKey::from_pkcs8_der(&pkcs8).unwrap()), pkcs8 }
    }

    pub(crate) fn p384() -> Self {
        let pkcs8 = new_key("EC", "ec_paramgen_curve:P-384");
        Self { kind: Kind::P384(p384::SecretKey::from_pkcs8_der(&pkcs8).unwrap()), pkcs8 }
    }

    /// The same RSA-2048 key at every call, because generating one is slow.
    pub(crate) fn rsa() -> Self {
        static KEY: OnceLock<SoftwareKey> = OnceLock::new();
        KEY.get_or_init(|| Self::new_rsa(2048)).clone()
    }

    pub(crate) fn new_rsa(bits: u16) -> Self {
        let pkcs8 = new_key("RSA", &format!("rsa_keygen_bits:{bits}"));
        Self { kind: Kind::Rsa(Box::new(rsa::RsaPrivateKey::from_pkcs8_der(&pkcs8).unwrap())), pkcs8 }
    }

    /// A given PKCS #8 key.
    pub(crate) fn from_pem(pem: &[u8]) -> Self {
        let pkcs8 = der::pem::decode_vec(pem).unwrap().1;
        let kind = p256::SecretKey::from_pkcs8_der(&pkcs8).map(Kind::P256);
        let kind = kind.or_else(|_| p384::SecretKey::from_pkcs8_der(&pkcs8).map(Kind::P384));
        let kind = kind.or_else(|_| rsa::RsaPrivateKey::from_pkcs8_der(&pkcs8).map(|key| Kind::Rsa(Box::new(key))));
        Self { kind: kind.unwrap(), pkcs8 }
    }

    pub(crate) fn public_key_der(&self) -> Vec<u8> {
        match &self.kind {
            Kind::Rsa(key) => key.to_public_key().to_public_key_der(),
            Kind::P256(key) => key.public_key().to_public_key_der(),
            Kind::P384(key) => key.public_key().to_public_key_der(),
        }
        .unwrap()
        .into_vec()
    }

    /// Writes the key in PEM, for OpenSSL.
    pub(crate) fn write_pem(&self, file: &Path) {
        std::fs::write(file, der::pem::encode_string("PRIVATE KEY", der::pem::LineEnding::LF, &self.pkcs8).unwrap())
            .unwrap();
    }

    /// Signs as a token does with a chosen hash: RSA with any hash, a curve with its own.
    pub(crate) fn sign_hashed(&self, hash: SignatureHash, message: &[u8]) -> Signature {
        assert!(hash.fits(KeyAlgorithm::of_public_key(&self.public_key_der()).unwrap()));
        match (&self.kind, hash) {
            (Kind::Rsa(key), SignatureHash::Sha384) => {
                let signer = pkcs1v15::SigningKey::<sha2::Sha384>::new((**key).clone());
                Signature::from_bytes(signer.sign(message).to_vec())
            }
            (Kind::Rsa(key), SignatureHash::Sha512) => {
                let signer = pkcs1v15::SigningKey::<sha2::Sha512>::new((**key).clone());
                Signature::from_bytes(signer.sign(message).to_vec())
            }
            _ => self.sign(message),
        }
    }

    /// Decrypts a content key as a token does; `None` if the padding is wrong.
    pub(crate) fn decrypt(&self, transport: &KeyTransport, ciphertext: &[u8]) -> Option<Vec<u8>> {
        let Kind::Rsa(key) = &self.kind else { return None };
        match transport {
            KeyTransport::Pkcs1v15 => key.decrypt(rsa::Pkcs1v15Encrypt, ciphertext),
            KeyTransport::Oaep(OaepHash::Sha1) => key.decrypt(rsa::Oaep::<sha1::Sha1>::new(), ciphertext),
            KeyTransport::Oaep(OaepHash::Sha256) => key.decrypt(rsa::Oaep::<sha2::Sha256>::new(), ciphertext),
            KeyTransport::Oaep(OaepHash::Sha384) => key.decrypt(rsa::Oaep::<sha2::Sha384>::new(), ciphertext),
            KeyTransport::Oaep(OaepHash::Sha512) => key.decrypt(rsa::Oaep::<sha2::Sha512>::new(), ciphertext),
            KeyTransport::OaepWith { hash: OaepHash::Sha256, mask_hash: OaepHash::Sha1, label } => key.decrypt(
                rsa::Oaep::<sha2::Sha256, sha1::Sha1>::new_with_mgf_hash_and_label(label.as_slice()),
                ciphertext,
            ),
            KeyTransport::OaepWith { hash: OaepHash::Sha1, mask_hash: OaepHash::Sha1, label } => {
                key.decrypt(rsa::Oaep::<sha1::Sha1>::new_with_label(label.as_slice()), ciphertext)
            }
            KeyTransport::OaepWith { .. } => return None,
        }
        .ok()
    }

    /// Performs ECDH as a token does; `None` if the peer's key is not on the curve.
    pub(crate) fn agree(&self, peer_spki: &[u8]) -> Option<Vec<u8>> {
        use super::public_key::PublicKey;
        match (&self.kind, PublicKey::from_spki_der(peer_spki).ok()?) {
            (Kind::P256(key), PublicKey::P256(peer)) => {
                Some(p256::ecdh::diffie_hellman(key.to_nonzero_scalar(), peer.as_affine()).raw_secret_bytes().to_vec())
            }
            (Kind::P384(key), PublicKey::P384(peer)) => {
                Some(p384::ecdh::diffie_hellman(key.to_nonzero_scalar(), peer.as_affine()).raw_secret_bytes().to_vec())
            }
            _ => None,
        }
    }
}

fn new_key(algorithm: &str, option: &str) -> Vec<u8> {
    let pem = openssl(&["genpkey", "-algorithm", algorithm, "-pkeyopt", option], &[]);
    der::pem::decode_vec(&pem).unwrap().1
}

impl Signer<Signature> for SoftwareKey {
    fn try_sign(&self, message: &[u8]) -> Result<Signature, signature::Error> {
        let bytes = match &self.kind {
            Kind::Rsa(key) => pkcs1v15::SigningKey::<sha2::Sha256>::new((**key).clone()).try_sign(message)?.to_vec(),
            Kind::P256(key) => {
                let signature: p256::ecdsa::Signature = p256::ecdsa::SigningKey::from(key).try_sign(message)?;
                signature.to_der().as_bytes().to_vec()
            }
            Kind::P384(key) => {
                let signature: p384::ecdsa::Signature = p384::ecdsa::SigningKey::from(key).try_sign(message)?;
                signature.to_der().as_bytes().to_vec()
            }
        };
        Ok(Signature::from_bytes(bytes))
    }
}

impl DynSignatureAlgorithmIdentifier for SoftwareKey {
    fn signature_algorithm_identifier(&self) -> spki::Result<spki::AlgorithmIdentifierOwned> {
        Ok(super::public_key::PublicKey::from_spki_der(&self.public_key_der()).unwrap().signature_algorithm())
    }
}

/// A root authority, with its key and its certificate.
pub(crate) struct TestAuthority {
    pub(crate) key: SoftwareKey,
    pub(crate) certificate: Certificate,
}

/// The present time for all tests. It is the real time, because OpenSSL uses the system's clock.
pub(crate) fn now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}

impl TestAuthority {
    pub(crate) fn new(name: &str, key: SoftwareKey) -> Self {
        let certificate = NewCertificate {
            profile: &Profile::shipped("ca").unwrap(),
            issuer: Issuer::Itself,
            subject: &DistinguishedName::of(name).unwrap(),
            email: None,
            hosts: &[],
            public_key: &key.public_key_der(),
            serial: &SerialNumber::random().unwrap(),
            now: now(),
        };
        let certificate = sign_tbs(&certificate.to_tbs_der().unwrap(), &key).unwrap();
        Self { key, certificate }
    }

    /// A certificate with a shipped profile, for a person with this name.
    pub(crate) fn issue(&self, profile: &str, name: &str, key: &SoftwareKey) -> Certificate {
        self.issue_by(&Profile::shipped(profile).unwrap(), name, key, now())
    }

    pub(crate) fn issue_by(
        &self,
        profile: &Profile,
        name: &str,
        key: &SoftwareKey,
        now: jiff::Timestamp,
    ) -> Certificate {
        let (email, host) = ("user@example.org".parse().unwrap(), "localhost".parse().unwrap());
        let certificate = NewCertificate {
            profile,
            issuer: Issuer::Authority(&self.certificate),
            subject: &DistinguishedName::of(name).unwrap(),
            email: (profile.alternative_name() == super::profile::AlternativeName::Email).then_some(&email),
            hosts: if profile.alternative_name() == super::profile::AlternativeName::Host {
                std::slice::from_ref(&host)
            } else {
                &[]
            },
            public_key: &key.public_key_der(),
            serial: &SerialNumber::random().unwrap(),
            now,
        };
        sign_tbs(&certificate.to_tbs_der().unwrap(), &self.key).unwrap()
    }
}

/// A directory of files for OpenSSL.
pub(crate) struct TestFiles(tempfile::TempDir);

impl TestFiles {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a new file, and returns its path as text for a command line.
    pub(crate) fn put(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.path(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    }

    pub(crate) fn put_certificate(&self, name: &str, certificate: &Certificate) -> String {
        self.put(name, certificate.to_pem().unwrap().as_bytes())
    }

    pub(crate) fn put_key(&self, name: &str, key: &SoftwareKey) -> String {
        key.write_pem(&self.path(name));
        self.path(name).to_str().unwrap().to_owned()
    }
}

/// OpenSSL's standard output. It panics with OpenSSL's error output on failure.
pub(crate) fn openssl(arguments: &[&str], input: &[u8]) -> Vec<u8> {
    try_openssl(arguments, input).unwrap_or_else(|complaint| panic!("openssl {}: {complaint}", arguments.join(" ")))
}

/// OpenSSL's standard output, or its error output on failure.
pub(crate) fn try_openssl(arguments: &[&str], input: &[u8]) -> Result<Vec<u8>, String> {
    use std::io::Write;
    let mut child = Command::new("openssl")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("this test needs the program openssl");
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || {
        let _ = stdin.write_all(&input);
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    if output.status.success() { Ok(output.stdout) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

/// An input that returns at most a given number of octets at a time.
pub(crate) struct PieceReader<'a> {
    input: Cursor<&'a [u8]>,
    most: usize,
}

impl<'a> PieceReader<'a> {
    pub(crate) fn new(input: &'a [u8], most: usize) -> Self {
        Self { input: Cursor::new(input), most }
    }
}

impl Read for PieceReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = buffer.len().min(self.most);
        self.input.read(&mut buffer[..length])
    }
}

impl Seek for PieceReader<'_> {
    fn seek(&mut self, position: SeekFrom) -> std::io::Result<u64> {
        self.input.seek(position)
    }
}
