//! The encoding of times and bytes in the JSON of statements and responses, for `#[serde(with =
//! …)]`.

/// Times as in RFC 3339, in UTC ("2026-01-31T12:00:00Z").
pub(super) mod instant {
    use jiff::Timestamp;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(in super::super) fn serialize<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(time)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(|_| D::Error::custom("a time must have the form of RFC 3339"))
    }
}

/// Times that may be `null`.
pub(super) mod optional_instant {
    use jiff::Timestamp;
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    #[allow(clippy::ref_option)] // serde calls it with a reference to the member
    pub(in super::super) fn serialize<S: Serializer>(
        time: &Option<Timestamp>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        time.map(|time| time.to_string()).serialize(serializer)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Timestamp>, D::Error> {
        let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
        text.parse().map(Some).map_err(|_| D::Error::custom("a time must have the form of RFC 3339"))
    }
}

/// Bytes in lower-case hexadecimal digits, for arrays and vectors.
pub(super) mod hexadecimal {
    use hex::FromHex;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(in super::super) fn serialize<S: Serializer>(
        bytes: &impl AsRef<[u8]>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(bytes))
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>, B: FromHex>(deserializer: D) -> Result<B, D::Error> {
        B::from_hex(String::deserialize(deserializer)?)
            .map_err(|_| D::Error::custom("bytes must be hexadecimal digits of the expected length"))
    }
}
