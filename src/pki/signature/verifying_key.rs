//! Public keys for verifying signatures: the kinds that tokens generate here, and further ones of
//! other people.

use const_oid::db::{rfc5912, rfc8410};
use der::Decode;
use rsa::RsaPublicKey;
use spki::SubjectPublicKeyInfoOwned;

use super::PssParameters;
use crate::pki::public_key::{PublicKey, elliptic_curve, rsa_key};
use crate::pki::{PkiError, oid};

const WHAT: &str = "a public key";

/// The maximum size of an RSA modulus, in bits. Larger ones could keep a machine busy; OpenSSL has
/// the same limit.
const MAX_RSA_BITS: usize = 16384;

/// A public key for verifying signatures. RSA keys have 2048 to 16384 bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VerifyingKey {
    /// RSA for any scheme (`rsaEncryption`).
    Rsa(RsaPublicKey),
    /// RSA for RSASSA-PSS only (`id-RSASSA-PSS`), with the parameters to which it is restricted, if
    /// any.
    RsaPss(RsaPublicKey, Option<PssParameters>),
    /// An elliptic-curve key on P-256.
    P256(p256::PublicKey),
    /// An elliptic-curve key on P-384.
    P384(p384::PublicKey),
    /// An elliptic-curve key on P-521.
    P521(p521::PublicKey),
    /// Ed25519 (RFC 8032).
    Ed25519([u8; 32]),
}

impl VerifyingKey {
    /// Parses a DER `SubjectPublicKeyInfo`. An unknown kind is an error that names it.
    pub fn from_spki_der(der: &[u8]) -> Result<Self, PkiError> {
        let spki = SubjectPublicKeyInfoOwned::from_der(der).map_err(PkiError::decode(WHAT))?;
        let octets = spki.subject_public_key.as_bytes();
        let octets =
            octets.ok_or_else(|| PkiError::malformed(WHAT, "its bit string is not a whole number of octets"))?;
        match spki.algorithm.oid {
            rfc5912::RSA_ENCRYPTION => rsa_key(octets, MAX_RSA_BITS).map(Self::Rsa),
            rfc5912::ID_RSASSA_PSS => {
                let bound = spki.algorithm.parameters.is_some();
                let bound = bound.then(|| PssParameters::from_algorithm(&spki.algorithm)).transpose()?;
                Ok(Self::RsaPss(rsa_key(octets, MAX_RSA_BITS)?, bound))
            }
            rfc5912::ID_EC_PUBLIC_KEY => match elliptic_curve(&spki.algorithm)? {
                rfc5912::SECP_521_R_1 => p521::PublicKey::from_sec1_bytes(octets)
                    .map(Self::P521)
                    .map_err(|_| PkiError::malformed("an elliptic curve key", "its point is not on the curve")),
                _ => PublicKey::from_spki_der(der).map(Self::from),
            },
            rfc8410::ID_ED_25519 => octets
                .try_into()
                .map(Self::Ed25519)
                .map_err(|_| PkiError::malformed("an Ed25519 key", "it does not have 32 octets")),
            oid => {
                Err(PkiError::unsupported(format!("a key of the kind {}", oid::described(oid)), "it is not supported"))
            }
        }
    }
}

impl From<PublicKey> for VerifyingKey {
    fn from(key: PublicKey) -> Self {
        match key {
            PublicKey::Rsa(key) => Self::Rsa(key),
            PublicKey::P256(key) => Self::P256(key),
            PublicKey::P384(key) => Self::P384(key),
        }
    }
}
