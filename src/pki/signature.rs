//! Signature verification, in software, with public keys only.

use std::cell::{Cell, OnceCell};

use const_oid::db::{rfc5912, rfc8410};
use der::asn1::ObjectIdentifier;
use sha2::digest::DynDigest;
use sha2::{Digest, Sha256, Sha384, Sha512};
use signature::hazmat::PrehashVerifier;
use spki::AlgorithmIdentifierOwned;

use super::public_key::PublicKey;
use super::{PkiError, oid};

mod pss;
mod verifying_key;

pub use pss::PssParameters;
pub use verifying_key::VerifyingKey;

/// A hash function for signatures. SHA-1 and MD5 are refused as [`PkiError::Outdated`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hash {
    /// SHA-256, 32 octets.
    Sha256,
    /// SHA-384, 48 octets.
    Sha384,
    /// SHA-512, 64 octets.
    Sha512,
}

impl Hash {
    /// The hash with this object identifier.
    pub fn from_oid(oid: ObjectIdentifier) -> Result<Self, PkiError> {
        match oid {
            rfc5912::ID_SHA_256 => Ok(Self::Sha256),
            rfc5912::ID_SHA_384 => Ok(Self::Sha384),
            rfc5912::ID_SHA_512 => Ok(Self::Sha512),
            rfc5912::ID_SHA_1 => Err(PkiError::Outdated("SHA-1")),
            rfc5912::ID_MD_5 => Err(PkiError::Outdated("MD5")),
            rfc5912::ID_MD_2 => Err(PkiError::Outdated("MD2")),
            oid => Err(PkiError::unsupported(
                format!("the hash {}", oid::described(oid)),
                "only SHA-256, SHA-384 and SHA-512 are supported",
            )),
        }
    }

    pub fn oid(self) -> ObjectIdentifier {
        match self {
            Self::Sha256 => rfc5912::ID_SHA_256,
            Self::Sha384 => rfc5912::ID_SHA_384,
            Self::Sha512 => rfc5912::ID_SHA_512,
        }
    }

    /// The length of the digest, in octets.
    pub fn length(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    /// The digest of `message`.
    pub fn digest(self, message: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha256 => Sha256::digest(message).to_vec(),
            Self::Sha384 => Sha384::digest(message).to_vec(),
            Self::Sha512 => Sha512::digest(message).to_vec(),
        }
    }

    /// Starts a digest of a message that comes in pieces.
    pub(crate) fn hasher(self) -> Box<dyn DynDigest> {
        match self {
            Self::Sha256 => Box::new(Sha256::new()),
            Self::Sha384 => Box::new(Sha384::new()),
            Self::Sha512 => Box::new(Sha512::new()),
        }
    }
}

/// A signature scheme.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// RSASSA-PKCS1-v1_5 (RFC 8017 §8.2).
    Pkcs1(Hash),
    /// RSASSA-PSS (RFC 8017 §8.1).
    Pss(PssParameters),
    /// ECDSA, with the signature as DER `Ecdsa-Sig-Value`.
    Ecdsa(Hash),
    /// Ed25519 (RFC 8032), over the message itself.
    Ed25519,
}

impl Scheme {
    /// The scheme of an `AlgorithmIdentifier` in a certificate or message, which includes the hash.
    pub fn from_algorithm(algorithm: &AlgorithmIdentifierOwned) -> Result<Self, PkiError> {
        let no_parameters = algorithm.parameters.as_ref().is_none_or(der::Any::is_null);
        let scheme = match algorithm.oid {
            rfc5912::SHA_256_WITH_RSA_ENCRYPTION => Self::Pkcs1(Hash::Sha256),
            rfc5912::SHA_384_WITH_RSA_ENCRYPTION => Self::Pkcs1(Hash::Sha384),
            rfc5912::SHA_512_WITH_RSA_ENCRYPTION => Self::Pkcs1(Hash::Sha512),
            rfc5912::ECDSA_WITH_SHA_256 => Self::Ecdsa(Hash::Sha256),
            rfc5912::ECDSA_WITH_SHA_384 => Self::Ecdsa(Hash::Sha384),
            rfc5912::ECDSA_WITH_SHA_512 => Self::Ecdsa(Hash::Sha512),
            rfc8410::ID_ED_25519 => Self::Ed25519,
            rfc5912::ID_RSASSA_PSS => return PssParameters::from_algorithm(algorithm).map(Self::Pss),
            rfc5912::SHA_1_WITH_RSA_ENCRYPTION | SHA_1_WITH_RSA_BY_OIW | ECDSA_WITH_SHA_1 | rfc5912::DSA_WITH_SHA_1 => {
                return Err(PkiError::Outdated("SHA-1"));
            }
            rfc5912::MD_5_WITH_RSA_ENCRYPTION => return Err(PkiError::Outdated("MD5")),
            rfc5912::MD_2_WITH_RSA_ENCRYPTION => return Err(PkiError::Outdated("MD2")),
            oid => {
                return Err(PkiError::unsupported(
                    format!("the signature algorithm {}", oid::described(oid)),
                    "it is not supported",
                ));
            }
        };
        if !no_parameters {
            return Err(PkiError::malformed("a signature algorithm", "it must not have parameters"));
        }
        Ok(scheme)
    }

    /// The hash of the message. Ed25519 hashes by itself; its associated hash is SHA-512 (RFC 8419
    /// §2.3).
    pub fn hash(self) -> Hash {
        match self {
            Self::Pkcs1(hash) | Self::Ecdsa(hash) => hash,
            Self::Pss(parameters) => parameters.hash(),
            Self::Ed25519 => Hash::Sha512,
        }
    }
}

/// `ecdsa-with-SHA1` (RFC 3279 §2.2.3).
const ECDSA_WITH_SHA_1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.1");

/// `sha1WithRSASignature`, which some old programs wrote.
const SHA_1_WITH_RSA_BY_OIW: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.14.3.2.29");

/// Verifies a signature over `message` with the key of a DER `SubjectPublicKeyInfo`.
///
/// Supported are RSA PKCS #1 v1.5 and RSASSA-PSS with SHA-256, 384 and 512, ECDSA (DER
/// `Ecdsa-Sig-Value`) with these hashes on P-256, P-384 and P-521, and Ed25519. `what` completes
/// "the signature of …".
///
/// # Errors
/// [`PkiError::WrongSignature`] only if key, algorithm and bytes are supported and do not match.
/// Every other error is the reason why the signature cannot be checked.
pub fn verify(
    what: &'static str,
    public_key_der: &[u8],
    algorithm: &AlgorithmIdentifierOwned,
    message: &[u8],
    signature: &[u8],
) -> Result<(), PkiError> {
    let key = VerifyingKey::from_spki_der(public_key_der)?;
    verify_with(what, &key, Scheme::from_algorithm(algorithm)?, message, signature)
}

/// Like [`verify`], for structures that specify the scheme in more than one place (CMS).
pub fn verify_with(
    what: &'static str,
    key: &VerifyingKey,
    scheme: Scheme,
    message: &[u8],
    signature: &[u8],
) -> Result<(), PkiError> {
    MessageToVerify::new(scheme, message).verify(what, key, signature)
}

/// A message that may be verified with several keys. Its digest is computed once, except for
/// Ed25519, which computes it for each key.
#[derive(Debug)]
pub struct MessageToVerify<'a> {
    scheme: Scheme,
    message: &'a [u8],
    digest: OnceCell<Vec<u8>>,
    was_digested: Cell<bool>,
}

/// The number of octets whose digest takes about as long as verifying a signature.
const OCTETS_A_SIGNATURE: usize = 1 << 18;

impl<'a> MessageToVerify<'a> {
    /// Prepares a message that is signed with this scheme.
    pub fn new(scheme: Scheme, message: &'a [u8]) -> Self {
        Self { scheme, message, digest: OnceCell::new(), was_digested: Cell::new(false) }
    }

    /// The cost of verifying with one more key, in signatures: 1, or more if the digest of a long
    /// message is computed again.
    pub fn cost(&self) -> usize {
        let is_again = self.scheme == Scheme::Ed25519 && self.was_digested.replace(true);
        if is_again { 1 + self.message.len() / OCTETS_A_SIGNATURE } else { 1 }
    }

    /// Like [`verify_with`], for the prepared message.
    pub fn verify(&self, what: &'static str, key: &VerifyingKey, signature: &[u8]) -> Result<(), PkiError> {
        let digest = || self.digest.get_or_init(|| self.scheme.hash().digest(self.message)).as_slice();
        verify_digest(what, key, self.scheme, (self.message, &digest), signature)
    }
}

/// Verifies with a message and a function that computes its digest.
fn verify_digest<'a>(
    what: &'static str,
    key: &VerifyingKey,
    scheme: Scheme,
    (message, digest): (&[u8], &dyn Fn() -> &'a [u8]),
    signature: &[u8],
) -> Result<(), PkiError> {
    let verified = match (key, scheme) {
        (VerifyingKey::Rsa(key), Scheme::Pkcs1(hash)) => pkcs1_holds(key, hash, digest(), signature),
        (VerifyingKey::RsaPss(_, Some(bound)), Scheme::Pss(parameters)) if !bound.allow(parameters) => {
            return Err(PkiError::unsupported("this key", "it is restricted to RSASSA-PSS with other parameters"));
        }
        (VerifyingKey::Rsa(key) | VerifyingKey::RsaPss(key, _), Scheme::Pss(parameters)) => {
            parameters.holds(key, digest(), signature)
        }
        (VerifyingKey::P256(key), Scheme::Ecdsa(_)) => p256::ecdsa::DerSignature::from_bytes(signature)
            .and_then(|signature| p256::ecdsa::VerifyingKey::from(key).verify_prehash(digest(), &signature))
            .is_ok(),
        (VerifyingKey::P384(key), Scheme::Ecdsa(_)) => p384::ecdsa::DerSignature::from_bytes(signature)
            .and_then(|signature| p384::ecdsa::VerifyingKey::from(key).verify_prehash(digest(), &signature))
            .is_ok(),
        (VerifyingKey::P521(key), Scheme::Ecdsa(_)) => {
            // `ecdsa` refuses digests shorter than half the field. Leading zeros do not change the
            // number.
            let digest = [&vec![0; 66 - scheme.hash().length()], digest()].concat();
            p521::ecdsa::DerSignature::from_bytes(signature)
                .and_then(|signature| p521::ecdsa::VerifyingKey::from(key).verify_prehash(&digest, &signature))
                .is_ok()
        }
        (VerifyingKey::Ed25519(key), Scheme::Ed25519) => {
            ring::signature::UnparsedPublicKey::new(&ring::signature::ED25519, key).verify(message, signature).is_ok()
        }
        _ => return Err(PkiError::OtherKindOfKey),
    };
    if verified { Ok(()) } else { Err(PkiError::WrongSignature(what)) }
}

fn pkcs1_holds(key: &rsa::RsaPublicKey, hash: Hash, digest: &[u8], signature: &[u8]) -> bool {
    let scheme = match hash {
        Hash::Sha256 => rsa::Pkcs1v15Sign::new::<Sha256>(),
        Hash::Sha384 => rsa::Pkcs1v15Sign::new::<Sha384>(),
        Hash::Sha512 => rsa::Pkcs1v15Sign::new::<Sha512>(),
    };
    key.verify(scheme, digest, signature).is_ok()
}

/// Verifies the proof of possession of a private key (RFC 4211 §4.1), a `POPOSigningKey` signature:
/// over the received DER of the `CertRequest` (or `POPOSigningKeyInput`), with the key in the
/// certificate template's `SubjectPublicKeyInfo` and an algorithm for such a key ([`verify`]).
pub fn verify_possession(
    public_key_der: &[u8],
    algorithm: &AlgorithmIdentifierOwned,
    signed_der: &[u8],
    signature: &[u8],
) -> Result<(), PkiError> {
    // Only these kinds of keys get a certificate, although other people's signatures may use more.
    PublicKey::from_spki_der(public_key_der)?;
    verify("the proof of possession", public_key_der, algorithm, signed_der, signature)
}

#[cfg(test)]
mod tests;
