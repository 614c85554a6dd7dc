//! `EncryptedKey` (RFC 4211 §6.4, RFC 9810 §5.2.2): an encrypted private key or certificate.

use cms::enveloped_data::EnvelopedData;
use der::asn1::{BitString, OctetString};
use der::{Choice, Sequence};
use spki::AlgorithmIdentifierOwned;

/// `EncryptedKey` (RFC 4211 §6.4). The tags are IMPLICIT, as in RFC 4211's ASN.1 module.
#[derive(Clone, Debug, PartialEq, Eq, Choice)]
pub enum EncryptedKey {
    /// The older form, used in pvno 2.
    EncryptedValue(EncryptedValue),
    /// The form used in pvno 3.
    #[asn1(context_specific = "0", tag_mode = "IMPLICIT", constructed = "true")]
    EnvelopedData(Box<EnvelopedData>),
}

impl From<EncryptedValue> for EncryptedKey {
    fn from(value: EncryptedValue) -> Self {
        Self::EncryptedValue(value)
    }
}

/// `EncryptedValue` (RFC 4211 §6.4, Appendix B).
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
#[asn1(tag_mode = "IMPLICIT")]
pub struct EncryptedValue {
    /// The algorithm for which the encrypted key is used.
    #[asn1(context_specific = "0", optional = "true")]
    pub intended_alg: Option<AlgorithmIdentifierOwned>,
    /// The algorithm that encrypts `enc_value`.
    #[asn1(context_specific = "1", optional = "true")]
    pub symm_alg: Option<AlgorithmIdentifierOwned>,
    /// The encrypted symmetric key.
    #[asn1(context_specific = "2", optional = "true")]
    pub enc_symm_key: Option<BitString>,
    /// The algorithm that encrypts `enc_symm_key`.
    #[asn1(context_specific = "3", optional = "true")]
    pub key_alg: Option<AlgorithmIdentifierOwned>,
    /// A description or identifier of the content. It may be meaningful only to the sender, who may
    /// examine the value again later.
    #[asn1(context_specific = "4", optional = "true")]
    pub value_hint: Option<OctetString>,
    /// The encrypted private key or certificate.
    pub enc_value: BitString,
}
