//! `AttributeTypeAndValue` (RFC 4211 §3): controls and regInfo of a certificate request.

use der::asn1::ObjectIdentifier;
use der::{Any, Encode, Sequence};

use super::{CmpError, Utf8Pairs, oid};

/// A control or an item of registration information.
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub struct AttributeTypeAndValue {
    /// The type.
    pub oid: ObjectIdentifier,
    /// The value.
    pub value: Any,
}

impl AttributeTypeAndValue {
    /// id-regInfo-utf8Pairs (RFC 4211 §7.1).
    pub fn utf8_pairs(pairs: &Utf8Pairs) -> Result<Self, CmpError> {
        Self::of(oid::REG_INFO_UTF8_PAIRS, &pairs.to_string())
    }

    /// protocolEncrKey (RFC 4211 §6.6): the public key, as a `SubjectPublicKeyInfo`, to which the
    /// private key must be encrypted.
    pub fn protocol_encr_key(key: &spki::SubjectPublicKeyInfoOwned) -> Result<Self, CmpError> {
        Self::of(oid::REG_CTRL_PROTOCOL_ENCR_KEY, key)
    }

    /// id-regCtrl-rsaKeyLen (RFC 9810 §5.3.19.16): the requested length of an RSA key, in bits.
    pub fn rsa_key_length(bits: u16) -> Result<Self, CmpError> {
        Self::of(oid::REG_CTRL_RSA_KEY_LEN, &bits)
    }

    fn of<T: Encode>(oid: ObjectIdentifier, value: &T) -> Result<Self, CmpError> {
        use der::Decode;
        Ok(Self { oid, value: Any::from_der(&value.to_der()?)? })
    }
}
