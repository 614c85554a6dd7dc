//! Private keys of the card, in software: generation, import, and the raw operations of the command
//! GENERAL AUTHENTICATE.
#![allow(clippy::disallowed_types, reason = "RSA private keys in software, of a card that tests simulate")]

use std::process::Command;
use std::sync::OnceLock;

use p256::elliptic_curve::sec1::ToSec1Point;
use p256::pkcs8::DecodePrivateKey;
use ring::signature::KeyPair;
use rsa::BoxedUint;
use rsa::traits::{PrivateKeyParts, PublicKeyParts};
use signature::hazmat::PrehashSigner;
use spki::EncodePublicKey;

use super::apdu::Status;
use super::tlv::{element, find};

/// Algorithms of key pairs: SP 800-78-4 table 6-2, and YubiKey's extensions (RSA-3072 and -4096,
/// Ed25519) as listed under "Get metadata" in Yubico's .NET SDK manual.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    Rsa3072 = 0x05,
    Rsa2048 = 0x07,
    P256 = 0x11,
    P384 = 0x14,
    Rsa4096 = 0x16,
    Ed25519 = 0xe0,
}

impl Algorithm {
    pub fn from_byte(byte: u8) -> Option<Self> {
        let all = [Self::Rsa2048, Self::Rsa3072, Self::Rsa4096, Self::P256, Self::P384, Self::Ed25519];
        all.into_iter().find(|one| *one as u8 == byte)
    }

    /// The length of the modulus or of the private scalar, in bytes.
    fn length(self) -> usize {
        match self {
            Self::P256 | Self::Ed25519 => 32,
            Self::P384 => 48,
            Self::Rsa2048 => 256,
            Self::Rsa3072 => 384,
            Self::Rsa4096 => 512,
        }
    }
}

/// A private key.
#[derive(Clone)]
pub enum PrivateKey {
    Rsa(Box<rsa::RsaPrivateKey>),
    P256(p256::SecretKey),
    P384(p384::SecretKey),
    /// The seed of RFC 8032.
    Ed25519([u8; 32]),
}

impl PrivateKey {
    /// A new key. `openssl` generates RSA keys, which is fast; those of more than 2048 bits are the
    /// same for all cards of a process.
    pub fn generate(algorithm: Algorithm) -> Self {
        static RSA_3072: OnceLock<PrivateKey> = OnceLock::new();
        static RSA_4096: OnceLock<PrivateKey> = OnceLock::new();
        match algorithm {
            Algorithm::Rsa2048 => generate_rsa(2048),
            Algorithm::Rsa3072 => RSA_3072.get_or_init(|| generate_rsa(3072)).clone(),
            Algorithm::Rsa4096 => RSA_4096.get_or_init(|| generate_rsa(4096)).clone(),
            // Almost every number is a valid scalar.
            Algorithm::P256 => Self::P256(p256::SecretKey::from_slice(&random::<32>()).unwrap()),
            Algorithm::P384 => Self::P384(p384::SecretKey::from_slice(&random::<48>()).unwrap()),
            Algorithm::Ed25519 => Self::Ed25519(random()),
        }
    }

    /// The same RSA-2048 key at every call, for the attestation of all cards.
    pub fn shared_rsa() -> Self {
        static KEY: OnceLock<PrivateKey> = OnceLock::new();
        KEY.get_or_init(|| generate_rsa(2048)).clone()
    }

    /// A key from the elements of the command IMPORT ASYMMETRIC KEY: 01 to 05 are p, q, dP, dQ and
    /// qInv of an RSA key with the exponent 65537, 06 is a scalar, 07 a seed of Ed25519.
    pub fn import(algorithm: Algorithm, elements: &[(u8, &[u8])]) -> Result<Self, Status> {
        let content = |tag: u8, length: usize| {
            find(elements, tag).filter(|content| content.len() == length).ok_or(Status::WRONG_DATA)
        };
        let length = algorithm.length();
        match algorithm {
            Algorithm::P256 => p256::SecretKey::from_slice(&content(6, length)?).map(Self::P256).ok(),
            Algorithm::P384 => p384::SecretKey::from_slice(&content(6, length)?).map(Self::P384).ok(),
            Algorithm::Ed25519 => content(7, length)?.try_into().map(Self::Ed25519).ok(),
            Algorithm::Rsa2048 | Algorithm::Rsa3072 | Algorithm::Rsa4096 => {
                let mut parts = Vec::new();
                for tag in 1..=5 {
                    parts.push(content(tag, length / 2)?);
                }
                import_rsa(&parts).filter(|key| key.size() == length).map(|key| Self::Rsa(Box::new(key)))
            }
        }
        .ok_or(Status::WRONG_DATA)
    }

    pub fn algorithm(&self) -> Algorithm {
        match self {
            Self::Rsa(key) if key.size() == 256 => Algorithm::Rsa2048,
            Self::Rsa(key) if key.size() == 384 => Algorithm::Rsa3072,
            Self::Rsa(_) => Algorithm::Rsa4096,
            Self::P256(_) => Algorithm::P256,
            Self::P384(_) => Algorithm::P384,
            Self::Ed25519(_) => Algorithm::Ed25519,
        }
    }

    /// The public key in the elements of SP 800-73-4 part 2 table 20: modulus and exponent, or the
    /// point. Ed25519 keys have their 32 bytes in place of the point.
    pub fn public_elements(&self) -> Vec<u8> {
        match self {
            Self::Rsa(key) => [element(0x81, &key.n_bytes()), element(0x82, &key.e_bytes())].concat(),
            Self::P256(key) => element(0x86, key.public_key().to_sec1_point(false).as_bytes()),
            Self::P384(key) => element(0x86, key.public_key().to_sec1_point(false).as_bytes()),
            Self::Ed25519(seed) => element(0x86, ed25519(seed).public_key().as_ref()),
        }
    }

    /// The `SubjectPublicKeyInfo` in DER (RFC 5280 section 4.1).
    pub fn public_key_der(&self) -> Vec<u8> {
        match self {
            Self::Rsa(key) => key.to_public_key().to_public_key_der(),
            Self::P256(key) => key.public_key().to_public_key_der(),
            Self::P384(key) => key.public_key().to_public_key_der(),
            Self::Ed25519(seed) => {
                // RFC 8410 section 4: an algorithm without parameters, and the key as bits.
                let algorithm = element(0x30, &element(0x06, &[0x2b, 0x65, 0x70]));
                let key = [&[0], ed25519(seed).public_key().as_ref()].concat();
                return element(0x30, &[algorithm, element(0x03, &key)].concat());
            }
        }
        .unwrap()
        .into_vec()
    }

    /// The operation on a challenge (tag 81): the raw RSA operation, which signs and decrypts; or
    /// ECDSA of a digest; or Ed25519 of a message.
    pub fn respond(&self, challenge: &[u8]) -> Result<Vec<u8>, Status> {
        let length = self.algorithm().length();
        match self {
            Self::Rsa(key) if challenge.len() == length => {
                let number = BoxedUint::from_be_slice(challenge, key.n_bits_precision()).unwrap();
                let none: Option<&mut rsa::rand_core::UnwrapErr<getrandom::SysRng>> = None;
                let result = rsa::hazmat::rsa_decrypt(none, &**key, &number).map_err(|_| Status::WRONG_DATA)?;
                let bytes = result.to_be_bytes();
                Ok(bytes[bytes.len() - length..].to_vec())
            }
            Self::P256(key) if challenge.len() <= length => {
                let key = p256::ecdsa::SigningKey::from(key);
                let signature: p256::ecdsa::Signature = key.sign_prehash(&padded(challenge, length)).unwrap();
                Ok(signature.to_der().as_bytes().to_vec())
            }
            Self::P384(key) if challenge.len() <= length => {
                let key = p384::ecdsa::SigningKey::from(key);
                let signature: p384::ecdsa::Signature = key.sign_prehash(&padded(challenge, length)).unwrap();
                Ok(signature.to_der().as_bytes().to_vec())
            }
            Self::Ed25519(seed) => Ok(ed25519(seed).sign(challenge).as_ref().to_vec()),
            _ => Err(Status::WRONG_DATA),
        }
    }

    /// The operation on a point (tag 85): ECDH, with the coordinate x as the result.
    pub fn agree(&self, point: &[u8]) -> Result<Vec<u8>, Status> {
        match self {
            Self::P256(key) => {
                let peer = p256::PublicKey::from_sec1_bytes(point).map_err(|_| Status::WRONG_DATA)?;
                Ok(p256::ecdh::diffie_hellman(key.to_nonzero_scalar(), peer.as_affine()).raw_secret_bytes().to_vec())
            }
            Self::P384(key) => {
                let peer = p384::PublicKey::from_sec1_bytes(point).map_err(|_| Status::WRONG_DATA)?;
                Ok(p384::ecdh::diffie_hellman(key.to_nonzero_scalar(), peer.as_affine()).raw_secret_bytes().to_vec())
            }
            Self::Rsa(_) | Self::Ed25519(_) => Err(Status::WRONG_DATA),
        }
    }
}

/// Random bytes.
pub fn random<const LENGTH: usize>() -> [u8; LENGTH] {
    let mut bytes = [0; LENGTH];
    getrandom::fill(&mut bytes).unwrap();
    bytes
}

fn generate_rsa(bits: u32) -> PrivateKey {
    let option = format!("rsa_keygen_bits:{bits}");
    let arguments = ["genpkey", "-quiet", "-algorithm", "RSA", "-pkeyopt", &option];
    let output = Command::new("openssl").args(arguments).output().expect("the simulated card needs openssl");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (_, pkcs8) = der::pem::decode_vec(&output.stdout).unwrap();
    PrivateKey::Rsa(Box::new(rsa::RsaPrivateKey::from_pkcs8_der(&pkcs8).unwrap()))
}

/// A key from p, q, dP, dQ and qInv. A real card computes with the last three as they are, so wrong
/// ones would become wrong signatures; here the import fails.
fn import_rsa(parts: &[Vec<u8>]) -> Option<rsa::RsaPrivateKey> {
    let numbers: Vec<_> = parts.iter().map(|part| BoxedUint::from_be_slice_vartime(part)).collect();
    let key = rsa::RsaPrivateKey::from_p_q(numbers[0].clone(), numbers[1].clone(), 65537_u32.into()).ok()?;
    let is_same = |computed: &BoxedUint, given: &BoxedUint| {
        computed.to_be_bytes_trimmed_vartime() == given.to_be_bytes_trimmed_vartime()
    };
    let fits = is_same(key.dp()?, &numbers[2])
        && is_same(key.dq()?, &numbers[3])
        && is_same(&key.crt_coefficient()?, &numbers[4]);
    fits.then_some(key)
}

fn ed25519(seed: &[u8; 32]) -> ring::signature::Ed25519KeyPair {
    ring::signature::Ed25519KeyPair::from_seed_unchecked(seed).unwrap()
}

/// A short digest as a number of the curve's length.
fn padded(digest: &[u8], length: usize) -> Vec<u8> {
    [&vec![0; length - digest.len()], digest].concat()
}
