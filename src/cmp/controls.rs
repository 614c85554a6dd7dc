//! `AttributeTypeAndValue` (RFC 4211 §3): controls and regInfo of a certificate request.

use der::asn1::ObjectIdentifier;
use der::{Any, Encode, Sequence};

use super::{CmpError, Utf8Pairs, oid};

/// One control or one piece of registration information.
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub struct AttributeTypeAndValue {
    /// What it is.
    pub oid: ObjectIdentifier,
    /// Its value.
    pub value: Any,
}

impl AttributeTypeAndValue {
    /// id-regInfo-utf8Pairs.
    pub fn utf8_pairs(pairs: &Utf8Pairs) -> Result<Self, CmpError> {
        Self::of(oid::REG_INFO_UTF8_PAIRS, &pairs.to_string())
    }

    /// protocolEncrKey: the public key, as a `SubjectPublicKeyInfo`, that the private key must be encrypted to.
    pub fn protocol_encr_key(key: &spki::SubjectPublicKeyInfoOwned) -> Result<Self, CmpError> {
        Self::of(oid::REG_CTRL_PROTOCOL_ENCR_KEY, key)
    }

    /// id-regCtrl-rsaKeyLen: how long an RSA key is wanted, in bits.
    pub fn rsa_key_length(bits: u16) -> Result<Self, CmpError> {
        Self::of(oid::REG_CTRL_RSA_KEY_LEN, &bits)
    }

    fn of<T: Encode>(oid: ObjectIdentifier, value: &T) -> Result<Self, CmpError> {
        use der::Decode;
        Ok(Self { oid, value: Any::from_der(&value.to_der()?)? })
    }
}
