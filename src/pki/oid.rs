//! The object identifiers of tokenkeep, and those of the standards that are used often.
//!
//! Those of tokenkeep are under 2.25 (X.667: a UUID as an integer). They were made once with a
//! random generator and need no registration. `const-oid` cannot hold such arcs, which have 128
//! bits while its limit is 32, so [`ContentType`] keeps the encoding.

use std::borrow::Cow;
use std::fmt;

use der::asn1::ObjectIdentifier;

/// `id-kp-cmcCA` (RFC 6402 §2.10): the extended key usage for signing a CA's CMP messages (RFC 9810
/// §8.6).
pub const ID_KP_CMC_CA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.27");

/// The identifier with its standard name, if that is known: "`secp521r1` (1.3.132.0.35)".
pub(crate) fn described(oid: ObjectIdentifier) -> String {
    const_oid::db::DB.by_oid(&oid).map_or_else(|| oid.to_string(), |name| format!("{name} ({oid})"))
}

/// The type of a CMS content: an object identifier with arcs of any size, kept as its DER contents
/// octets.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ContentType(Cow<'static, [u8]>);

impl ContentType {
    /// `id-data` (RFC 5652 §4): any bytes. It is the type of all mail.
    pub const DATA: Self = Self(Cow::Borrowed(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01]));

    /// An administrator's statement, 2.25.311166674075142009668987556529201195722 (UUID
    /// ea188582-f7ec-48a7-850d-3f7bb937aaca). Only [`crate::statement`] may sign this type.
    pub const STATEMENT: Self = Self(Cow::Borrowed(&[
        0x69, 0x83, 0xd4, 0x98, 0xc2, 0xe0, 0xde, 0xfe, 0xe2, 0xa2, 0xcf, 0x85, 0x86, 0xcf, 0xef, 0xbb, 0xc9, 0xde,
        0xd5, 0x4a,
    ]));

    /// The authority's response to a statement, 2.25.145522209536640445278540424273931151634 (UUID
    /// 6d7a8edf-1e0c-4a04-8835-3959ce622912).
    pub const STATEMENT_RESPONSE: Self = Self(Cow::Borrowed(&[
        0x69, 0x81, 0xda, 0xfa, 0xc7, 0xb7, 0xe3, 0xe0, 0xe2, 0xa8, 0x89, 0x88, 0x9a, 0xce, 0xab, 0x9c, 0xf3, 0x88,
        0xd2, 0x12,
    ]));

    /// A checkpoint of the audit log, 2.25.117374151166700832104214371784977320346
    /// (UUID 584d7072-38fb-4321-8b67-1f6aa210899a).
    pub const AUDIT_CHECKPOINT: Self = Self(Cow::Borrowed(&[
        0x69, 0x81, 0xb0, 0xcd, 0xb8, 0x9c, 0xc7, 0x8f, 0xda, 0x8c, 0xc3, 0x8b, 0xb3, 0xc7, 0xed, 0xaa, 0x90, 0xc2,
        0x93, 0x1a,
    ]));

    /// Whether the type has its own meaning, e.g. an administrator's command. `tokenkeep sign` and
    /// every other endpoint refuse to sign such a type.
    pub fn is_reserved(&self) -> bool {
        [Self::STATEMENT, Self::STATEMENT_RESPONSE, Self::AUDIT_CHECKPOINT].contains(self)
    }

    /// Makes a type from the contents octets of a DER OBJECT IDENTIFIER (without tag and length).
    pub fn from_contents(contents: &[u8]) -> Self {
        Self(Cow::Owned(contents.to_vec()))
    }

    /// The contents octets of the DER OBJECT IDENTIFIER (without tag and length).
    pub fn as_contents(&self) -> &[u8] {
        &self.0
    }
}

impl From<ObjectIdentifier> for ContentType {
    fn from(oid: ObjectIdentifier) -> Self {
        Self::from_contents(oid.as_bytes())
    }
}

/// Writes a known type's name, otherwise the object identifier or its octets in hexadecimal.
impl fmt::Display for ContentType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::DATA {
            f.write_str("data")
        } else if *self == Self::STATEMENT {
            f.write_str("administrator's statement")
        } else if *self == Self::STATEMENT_RESPONSE {
            f.write_str("response to a statement")
        } else if *self == Self::AUDIT_CHECKPOINT {
            f.write_str("audit checkpoint")
        } else if let Ok(oid) = ObjectIdentifier::from_bytes(&self.0) {
            write!(f, "{oid}")
        } else {
            write!(f, "object identifier {}", hex::encode(&self.0))
        }
    }
}

impl fmt::Debug for ContentType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ContentType({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The base-128 digits of 2.25.<uuid as integer>, computed from the UUID.
    fn contents(uuid: &str) -> Vec<u8> {
        let mut value = u128::from_str_radix(&uuid.replace('-', ""), 16).unwrap();
        let mut digits = vec![u8::try_from(value & 0x7f).unwrap()];
        value >>= 7;
        while value > 0 {
            digits.push(0x80 | u8::try_from(value & 0x7f).unwrap());
            value >>= 7;
        }
        digits.push(2 * 40 + 25);
        digits.reverse();
        digits
    }

    #[test]
    fn our_identifiers_are_their_uuids() {
        assert_eq!(ContentType::STATEMENT.as_contents(), contents("ea188582-f7ec-48a7-850d-3f7bb937aaca"));
        assert_eq!(ContentType::STATEMENT_RESPONSE.as_contents(), contents("6d7a8edf-1e0c-4a04-8835-3959ce622912"));
        assert_eq!(ContentType::AUDIT_CHECKPOINT.as_contents(), contents("584d7072-38fb-4321-8b67-1f6aa210899a"));
    }

    #[test]
    fn data_is_the_standards_data_and_not_reserved() {
        assert_eq!(ContentType::DATA, ContentType::from(const_oid::db::rfc5911::ID_DATA));
        assert!(!ContentType::DATA.is_reserved());
        assert!(ContentType::STATEMENT.is_reserved());
    }
}
