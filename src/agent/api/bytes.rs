//! Bytes as base64 in JSON, wiped when dropped, because some are secrets.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

/// Bytes, base64 in JSON (RFC 4648 §4). `Debug` shows only their number.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Bytes(Zeroizing<Vec<u8>>);

impl Bytes {
    /// Borrows the bytes.
    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }
}

impl From<&[u8]> for Bytes {
    fn from(bytes: &[u8]) -> Self {
        bytes.to_vec().into()
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "[{} bytes]", self.0.len())
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&Zeroizing::new(STANDARD.encode(&*self.0)))
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Base64;

        impl Visitor<'_> for Base64 {
            type Value = Bytes;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("bytes in base64")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Bytes, E> {
                // The error does not repeat the text: it may be a secret.
                STANDARD.decode(text).map(Bytes::from).map_err(|_| E::custom("not base64"))
            }
        }

        deserializer.deserialize_str(Base64)
    }
}

#[cfg(test)]
mod tests {
    use super::Bytes;

    #[test]
    fn bytes_round_trip_and_are_not_shown() {
        let bytes = Bytes::from(b"a secret".as_slice());
        let json = serde_json::to_string(&bytes).unwrap();
        assert_eq!(json, "\"YSBzZWNyZXQ=\"");
        assert_eq!(serde_json::from_str::<Bytes>(&json).unwrap(), bytes);
        assert_eq!(format!("{bytes:?}"), "[8 bytes]");
    }

    #[test]
    fn invalid_base64_is_refused_and_not_repeated() {
        for bad in ["\"YSBzZWNyZXQ\"", "\"a secret\"", "[97]", "null"] {
            let error = serde_json::from_str::<Bytes>(bad).unwrap_err().to_string();
            assert!(!error.contains("secret") && !error.contains("YSBz"), "{error}");
        }
    }
}
