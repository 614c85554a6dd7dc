//! The encoding of times and bytes in the JSON of statements and responses, for `#[serde(with =
//! …)]`, and an object whose members depend on another one.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::{Map, Value};

/// An object of any members, none of them repeated. No value is or has an object, in which a
/// repeated member would not be seen.
#[derive(serde::Serialize)]
#[serde(transparent)]
pub(super) struct DistinctMembers(pub(super) Map<String, Value>);

impl<'de> Deserialize<'de> for DistinctMembers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor;

        impl<'de> Visitor<'de> for ObjectVisitor {
            type Value = DistinctMembers;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<DistinctMembers, A::Error> {
                let mut members = Map::new();
                while let Some((name, value)) = access.next_entry::<String, Value>()? {
                    if members.contains_key(&name) {
                        return Err(A::Error::custom(format!("duplicate field `{name}`")));
                    }
                    if holds_object(&value) {
                        return Err(A::Error::custom("an argument must not be an object"));
                    }
                    members.insert(name, value);
                }
                Ok(DistinctMembers(members))
            }
        }

        deserializer.deserialize_map(ObjectVisitor)
    }
}

fn holds_object(value: &Value) -> bool {
    match value {
        Value::Object(_) => true,
        Value::Array(values) => values.iter().any(holds_object),
        _ => false,
    }
}

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
