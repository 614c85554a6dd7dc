//! Public keys of the three kinds used here, parsed from their `SubjectPublicKeyInfo`.

use const_oid::db::{rfc5912, rfc8410};
use der::asn1::ObjectIdentifier;
use der::{Any, Decode};
use rsa::RsaPublicKey;
use rsa::traits::PublicKeyParts;
use sha1::{Digest, Sha1};
use spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};

use super::{PkiError, oid};
use crate::token::{KeyAlgorithm, RsaSize};

/// A public key for verification, encryption or key agreement. RSA keys have 2048 to 8192 bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublicKey {
    /// An RSA key (`rsaEncryption`).
    Rsa(RsaPublicKey),
    /// An elliptic-curve key on P-256.
    P256(p256::PublicKey),
    /// An elliptic-curve key on P-384.
    P384(p384::PublicKey),
}

impl PublicKey {
    /// Parses a DER `SubjectPublicKeyInfo`. Kinds other than RSA, P-256 and P-384 are errors that
    /// name the kind.
    pub fn from_spki_der(der: &[u8]) -> Result<Self, PkiError> {
        let spki = SubjectPublicKeyInfoOwned::from_der(der).map_err(PkiError::decode("a public key"))?;
        let octets = spki
            .subject_public_key
            .as_bytes()
            .ok_or_else(|| PkiError::malformed("a public key", "its bit string is not a whole number of octets"))?;
        match spki.algorithm.oid {
            rfc5912::RSA_ENCRYPTION => rsa_key(octets, 8192).map(Self::Rsa),
            rfc5912::ID_EC_PUBLIC_KEY => elliptic(&spki.algorithm, octets),
            rfc8410::ID_ED_25519 => Err(PkiError::unsupported("an Ed25519 key", "use RSA, P-256 or P-384")),
            oid => {
                Err(PkiError::unsupported(format!("a public key with the algorithm {oid}"), "use RSA, P-256 or P-384"))
            }
        }
    }

    /// The kind for people: "RSA-3072", "P-256" or "P-384".
    pub fn describe(&self) -> String {
        match self {
            Self::Rsa(key) => format!("RSA-{}", key.n().bits()),
            Self::P256(_) => "P-256".into(),
            Self::P384(_) => "P-384".into(),
        }
    }

    /// Whether it is an RSA key; otherwise it is an elliptic-curve key.
    pub fn is_rsa(&self) -> bool {
        matches!(self, Self::Rsa(_))
    }

    /// The kind of key; `None` for RSA sizes that tokens do not generate here.
    pub fn algorithm(&self) -> Option<KeyAlgorithm> {
        match self {
            Self::P256(_) => Some(KeyAlgorithm::P256),
            Self::P384(_) => Some(KeyAlgorithm::P384),
            Self::Rsa(key) => match key.n().bits() {
                2048 => Some(KeyAlgorithm::Rsa(RsaSize::Bits2048)),
                3072 => Some(KeyAlgorithm::Rsa(RsaSize::Bits3072)),
                4096 => Some(KeyAlgorithm::Rsa(RsaSize::Bits4096)),
                _ => None,
            },
        }
    }

    /// The algorithm with which this key signs here: SHA-256 with RSA (PKCS #1 v1.5) and P-256,
    /// SHA-384 with P-384.
    pub fn signature_algorithm(&self) -> AlgorithmIdentifierOwned {
        let (oid, parameters) = match self {
            Self::Rsa(_) => (rfc5912::SHA_256_WITH_RSA_ENCRYPTION, Some(Any::null())),
            Self::P256(_) => (rfc5912::ECDSA_WITH_SHA_256, None),
            Self::P384(_) => (rfc5912::ECDSA_WITH_SHA_384, None),
        };
        AlgorithmIdentifierOwned { oid, parameters }
    }
}

/// SHA-1 over the subjectPublicKey's octets: the key identifier of RFC 5280 §4.2.1.2 (1). It is a
/// name, not a protection.
pub fn key_identifier(spki_der: &[u8]) -> Result<[u8; 20], PkiError> {
    let spki = SubjectPublicKeyInfoOwned::from_der(spki_der).map_err(PkiError::decode("a public key"))?;
    Ok(Sha1::digest(spki.subject_public_key.raw_bytes()).into())
}

/// Parses an `RSAPublicKey` (RFC 8017 §A.1.1) of 2048 to `longest` bits.
pub(super) fn rsa_key(octets: &[u8], longest: usize) -> Result<RsaPublicKey, PkiError> {
    let key = rsa::pkcs1::RsaPublicKeyRef::from_der(octets).map_err(PkiError::decode("an RSA public key"))?;
    let integer = |bytes: &[u8]| rsa::BoxedUint::from_be_slice_vartime(bytes);
    let (modulus, exponent) = (integer(key.modulus.as_bytes()), integer(key.public_exponent.as_bytes()));
    let key = RsaPublicKey::new_with_max_size(modulus, exponent, longest)
        .map_err(|error| PkiError::unsupported("an RSA public key", error.to_string()))?;
    let bits = key.n().bits();
    if bits < 2048 {
        return Err(PkiError::unsupported(
            format!("an RSA key of {bits} bits"),
            "it is too short; the minimum is 2048",
        ));
    }
    Ok(key)
}

/// The curve of an `id-ecPublicKey` (RFC 5480 §2.1.1).
pub(super) fn elliptic_curve(algorithm: &AlgorithmIdentifierOwned) -> Result<ObjectIdentifier, PkiError> {
    algorithm
        .parameters
        .as_ref()
        .and_then(|parameters| parameters.decode_as::<ObjectIdentifier>().ok())
        .ok_or_else(|| PkiError::unsupported("an elliptic curve key", "it does not name its curve"))
}

fn elliptic(algorithm: &AlgorithmIdentifierOwned, octets: &[u8]) -> Result<PublicKey, PkiError> {
    let curve = elliptic_curve(algorithm)?;
    let off_curve = || PkiError::malformed("an elliptic curve key", "its point is not on the curve");
    match curve {
        rfc5912::SECP_256_R_1 => p256::PublicKey::from_sec1_bytes(octets).map(PublicKey::P256).map_err(|_| off_curve()),
        rfc5912::SECP_384_R_1 => p384::PublicKey::from_sec1_bytes(octets).map(PublicKey::P384).map_err(|_| off_curve()),
        curve => Err(PkiError::unsupported(
            format!("an elliptic curve key on the curve {}", oid::described(curve)),
            "it is not supported",
        )),
    }
}
