//! Key algorithms and the security levels of keysets.

use std::fmt;
use std::str::FromStr;

use const_oid::db::rfc5912;
use der::asn1::{Any, ObjectIdentifier};
use serde::{Deserialize, Serialize};
use spki::AlgorithmIdentifierOwned;

/// Size of an RSA modulus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RsaSize {
    /// 2048 bits
    Bits2048,
    /// 3072 bits
    Bits3072,
    /// 4096 bits
    Bits4096,
}

impl RsaSize {
    /// The size with this number of bits; `None` for any other number than 2048, 3072 and 4096.
    pub fn of_bits(bits: u16) -> Option<Self> {
        [Self::Bits2048, Self::Bits3072, Self::Bits4096].into_iter().find(|size| size.bits() == bits)
    }

    /// Length of the modulus in bits.
    pub fn bits(self) -> u16 {
        match self {
            Self::Bits2048 => 2048,
            Self::Bits3072 => 3072,
            Self::Bits4096 => 4096,
        }
    }
}

/// An algorithm for key pairs. Text and configuration files write it `rsa-2048`, `rsa-3072`,
/// `rsa-4096`, `p256` or `p384`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum KeyAlgorithm {
    /// RSA with public exponent 65537
    Rsa(RsaSize),
    /// The curve secp256r1
    P256,
    /// The curve secp384r1
    P384,
}

impl KeyAlgorithm {
    /// All algorithms, the recommended ones first.
    pub const ALL: [Self; 5] = [
        Self::P256,
        Self::P384,
        Self::Rsa(RsaSize::Bits3072),
        Self::Rsa(RsaSize::Bits2048),
        Self::Rsa(RsaSize::Bits4096),
    ];

    /// Whether it is an elliptic-curve algorithm. Such a key does key agreement where an RSA key
    /// decrypts.
    pub fn is_elliptic_curve(self) -> bool {
        matches!(self, Self::P256 | Self::P384)
    }

    /// The signature algorithm that tokenkeep uses with such a key: ecdsa-with-SHA256 (P-256) or
    /// ecdsa-with-SHA384 (P-384) with absent parameters (RFC 5758 §3.2), or sha256WithRSAEncryption
    /// with NULL parameters (RFC 4055 §5).
    pub fn signature_algorithm(self) -> AlgorithmIdentifierOwned {
        let (oid, parameters) = match self {
            Self::Rsa(_) => (rfc5912::SHA_256_WITH_RSA_ENCRYPTION, Some(Any::null())),
            Self::P256 => (rfc5912::ECDSA_WITH_SHA_256, None),
            Self::P384 => (rfc5912::ECDSA_WITH_SHA_384, None),
        };
        AlgorithmIdentifierOwned { oid, parameters }
    }

    /// Length in bytes of a coordinate on the curve and of a key agreement's result; `None` for
    /// RSA.
    pub fn field_bytes(self) -> Option<usize> {
        match self {
            Self::Rsa(_) => None,
            Self::P256 => Some(32),
            Self::P384 => Some(48),
        }
    }

    /// The named curve of `ECParameters` (RFC 5480 §2.1.1.1); `None` for RSA.
    pub fn curve(self) -> Option<ObjectIdentifier> {
        match self {
            Self::Rsa(_) => None,
            Self::P256 => Some(rfc5912::SECP_256_R_1),
            Self::P384 => Some(rfc5912::SECP_384_R_1),
        }
    }
}

impl fmt::Display for KeyAlgorithm {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rsa(size) => write!(formatter, "rsa-{}", size.bits()),
            Self::P256 => formatter.write_str("p256"),
            Self::P384 => formatter.write_str("p384"),
        }
    }
}

impl FromStr for KeyAlgorithm {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        Self::ALL.into_iter().find(|algorithm| algorithm.to_string() == text).ok_or_else(|| UnknownName {
            what: "key algorithm",
            name: text.to_owned(),
            known: "p256, p384, rsa-2048, rsa-3072, rsa-4096",
        })
    }
}

impl TryFrom<String> for KeyAlgorithm {
    type Error = UnknownName;

    fn try_from(text: String) -> Result<Self, UnknownName> {
        text.parse()
    }
}

impl From<KeyAlgorithm> for String {
    fn from(algorithm: KeyAlgorithm) -> Self {
        algorithm.to_string()
    }
}

/// The uses for which the keys of a keyset require the PIN. Each key gets its level at creation and
/// keeps it. Ordered from lenient to strict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SecurityLevel {
    /// The PIN once per session.
    Low,
    /// The PIN once per session, and a confirmation for each later use.
    Medium,
    /// The PIN for every use.
    High,
}

impl fmt::Display for SecurityLevel {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        })
    }
}

impl FromStr for SecurityLevel {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        [Self::High, Self::Medium, Self::Low]
            .into_iter()
            .find(|level| level.to_string() == text)
            .ok_or_else(|| UnknownName { what: "security level", name: text.to_owned(), known: "high, medium, low" })
    }
}

/// A name outside a fixed set of known names.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is not a {what}; expected one of {known}")]
pub struct UnknownName {
    what: &'static str,
    name: String,
    known: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_written_and_read_also_in_configuration() {
        for algorithm in KeyAlgorithm::ALL {
            assert_eq!(algorithm.to_string().parse(), Ok(algorithm));
            let json = serde_json::to_string(&algorithm).unwrap();
            assert_eq!(serde_json::from_str::<KeyAlgorithm>(&json).unwrap(), algorithm);
        }
        for level in [SecurityLevel::Low, SecurityLevel::Medium, SecurityLevel::High] {
            assert_eq!(level.to_string().parse(), Ok(level));
            assert_eq!(serde_json::to_string(&level).unwrap(), format!("\"{level}\""));
        }
    }

    #[test]
    fn unknown_names_are_refused_with_the_known_ones() {
        for name in ["", "rsa", "rsa-1024", "P256", "p521", "ed25519"] {
            let error = name.parse::<KeyAlgorithm>().unwrap_err().to_string();
            assert!(error.contains("rsa-3072"), "{error}");
        }
        assert!("High".parse::<SecurityLevel>().unwrap_err().to_string().contains("medium"));
    }

    #[test]
    fn high_is_stricter_than_medium_and_medium_than_low() {
        assert!(SecurityLevel::High > SecurityLevel::Medium && SecurityLevel::Medium > SecurityLevel::Low);
    }
}
