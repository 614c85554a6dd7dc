//! Fingerprints: SHA-256 over a certificate's DER, in the form that people compare.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

use super::PkiError;

/// SHA-256 of a certificate's DER. `Display` writes 16 groups of 4 upper-case hexadecimal digits,
/// separated by spaces.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Computes the fingerprint of a certificate's DER.
    pub fn of(certificate_der: &[u8]) -> Self {
        Self(Sha256::digest(certificate_der).into())
    }

    /// The 32 octets.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Wraps a digest that was computed elsewhere.
    pub fn from_bytes(digest: [u8; 32]) -> Self {
        Self(digest)
    }

    /// 64 lower-case hexadecimal digits without separators, for data objects and JSON.
    pub fn to_hex(&self) -> String {
        hex::encode(self.0)
    }
}

/// Parses every spelling that people paste: groups, colons, lower case.
impl FromStr for Fingerprint {
    type Err = PkiError;

    fn from_str(text: &str) -> Result<Self, PkiError> {
        let digits: String =
            text.chars().filter(|char| !matches!(char, ' ' | ':' | '-' | '\t' | '\n' | '\r')).collect();
        let mut digest = [0; 32];
        hex::decode_to_slice(&digits, &mut digest)
            .map_err(|_| PkiError::malformed("a SHA-256 fingerprint", "it must have 64 hexadecimal digits"))?;
        Ok(Self(digest))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, pair) in self.0.chunks(2).enumerate() {
            if index > 0 {
                f.write_str(" ")?;
            }
            f.write_str(&hex::encode_upper(pair))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({})", self.to_hex())
    }
}

impl serde::Serialize for Fingerprint {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_hex())
    }
}

impl<'de> serde::Deserialize<'de> for Fingerprint {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_in_groups_and_reads_every_spelling() {
        let fingerprint = Fingerprint::of(b"abc");
        let printed = fingerprint.to_string();
        assert!(printed.starts_with("BA78 16BF 8F01"), "{printed}");
        assert_eq!(printed.len(), 16 * 4 + 15);
        assert_eq!(printed.parse::<Fingerprint>().unwrap(), fingerprint);
        assert_eq!(fingerprint.to_hex().parse::<Fingerprint>().unwrap(), fingerprint);
        assert_eq!(printed.replace(' ', ":").parse::<Fingerprint>().unwrap(), fingerprint);
    }

    #[test]
    fn too_short_too_long_and_not_hexadecimal_are_refused() {
        let hex = Fingerprint::of(b"abc").to_hex();
        assert!(hex[..62].parse::<Fingerprint>().is_err());
        assert!(format!("{hex}00").parse::<Fingerprint>().is_err());
        assert!(hex.replace('b', "g").parse::<Fingerprint>().is_err());
    }
}
