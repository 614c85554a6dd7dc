//! `EncryptedKey` (RFC 4211 §2.1, §4.2): how a private key travels.

use cms::enveloped_data::EnvelopedData;
use der::asn1::{BitString, OctetString};
use der::{Choice, Sequence};
use spki::AlgorithmIdentifierOwned;

/// `EncryptedKey`. The tags are IMPLICIT, as in RFC 4211's module.
#[derive(Clone, Debug, PartialEq, Eq, Choice)]
pub enum EncryptedKey {
    /// The older form, of pvno 2.
    EncryptedValue(EncryptedValue),
    /// The form of pvno 3.
    #[asn1(context_specific = "0", tag_mode = "IMPLICIT", constructed = "true")]
    EnvelopedData(Box<EnvelopedData>),
}

impl From<EncryptedValue> for EncryptedKey {
    fn from(value: EncryptedValue) -> Self {
        Self::EncryptedValue(value)
    }
}

/// `EncryptedValue` (RFC 4211 Appendix B).
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
#[asn1(tag_mode = "IMPLICIT")]
pub struct EncryptedValue {
    /// The algorithm that the key inside is for.
    #[asn1(context_specific = "0", optional = "true")]
    pub intended_alg: Option<AlgorithmIdentifierOwned>,
    /// The algorithm under which `enc_value` is encrypted.
    #[asn1(context_specific = "1", optional = "true")]
    pub symm_alg: Option<AlgorithmIdentifierOwned>,
    /// The symmetric key, encrypted.
    #[asn1(context_specific = "2", optional = "true")]
    pub enc_symm_key: Option<BitString>,
    /// The algorithm under which `enc_symm_key` is encrypted.
    #[asn1(context_specific = "3", optional = "true")]
    pub key_alg: Option<AlgorithmIdentifierOwned>,
    /// Something only the recipient knows the meaning of.
    #[asn1(context_specific = "4", optional = "true")]
    pub value_hint: Option<OctetString>,
    /// The private key, encrypted.
    pub enc_value: BitString,
}
