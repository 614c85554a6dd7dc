//! `PKIHeader` (RFC 9810 §5.1.1).

use der::asn1::{GeneralizedTime, OctetString};
use der::{Decode, DecodeValue, Encode, EncodeValue, FixedTag, Header, Length, Reader, Sequence, Tag, Writer};
use spki::AlgorithmIdentifierOwned;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::name::{Name, RdnSequence};

use super::CmpError;
use super::general::{GeneralInfo, generalized_time};
use super::status::PkiFreeText;

/// The version of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pvno(u32);

impl Pvno {
    /// cmp2000 (2): private keys are sent as `EncryptedValue`.
    pub const CMP2000: Self = Self(2);
    /// cmp2021 (3): private keys are sent as EnvelopedData, and certConf names its hash algorithm.
    pub const CMP2021: Self = Self(3);

    /// Whether this module supports the version. Other versions still parse, so that the authority
    /// can reply `unsupportedVersion`.
    pub fn is_supported(self) -> bool {
        self == Self::CMP2000 || self == Self::CMP2021
    }

    /// The encoded number.
    pub fn number(self) -> u32 {
        self.0
    }
}

impl FixedTag for Pvno {
    const TAG: Tag = Tag::Integer;
}

impl<'a> DecodeValue<'a> for Pvno {
    type Error = der::Error;

    fn decode_value<R: Reader<'a>>(reader: &mut R, header: Header) -> der::Result<Self> {
        u32::decode_value(reader, header).map(Self)
    }
}

impl EncodeValue for Pvno {
    fn value_len(&self) -> der::Result<Length> {
        self.0.value_len()
    }

    fn encode_value(&self, writer: &mut impl Writer) -> der::Result<()> {
        self.0.encode_value(writer)
    }
}

/// `PKIHeader` (RFC 9810 §5.1.1).
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub struct PkiHeader {
    /// The version.
    pub pvno: Pvno,
    /// The sender. With a MAC: directoryName CN=reference, or an empty name.
    pub sender: GeneralName,
    pub recipient: GeneralName,
    /// The time at which the message was made.
    #[asn1(context_specific = "0", optional = "true")]
    pub message_time: Option<GeneralizedTime>,
    #[asn1(context_specific = "1", optional = "true")]
    pub protection_alg: Option<AlgorithmIdentifierOwned>,
    /// The sender's key or secret. With a MAC: the reference, in UTF-8.
    #[asn1(context_specific = "2", optional = "true")]
    pub sender_kid: Option<OctetString>,
    /// The recipient's key.
    #[asn1(context_specific = "3", optional = "true")]
    pub recip_kid: Option<OctetString>,
    /// The transaction's identifier: 16 random bytes that the client chooses and repeats in all its
    /// messages.
    #[asn1(context_specific = "4", optional = "true")]
    pub transaction_id: Option<OctetString>,
    /// 16 fresh random bytes.
    #[asn1(context_specific = "5", optional = "true")]
    pub sender_nonce: Option<OctetString>,
    /// The senderNonce of the message to which this one replies.
    #[asn1(context_specific = "6", optional = "true")]
    pub recip_nonce: Option<OctetString>,
    /// Texts for people.
    #[asn1(context_specific = "7", optional = "true")]
    pub free_text: Option<PkiFreeText>,
    /// General information: implicitConfirm, confirmWaitTime and the like.
    #[asn1(context_specific = "8", optional = "true")]
    pub general_info: Option<GeneralInfo>,
}

impl PkiHeader {
    /// The header of a transaction's first message, protected with a temporary key: a fresh
    /// transactionID and nonce, senderKID = `reference`, sender CN=`reference` (RFC 9483 §3.1).
    /// `recipient` is the authority's name, if known.
    pub fn request(
        pvno: Pvno,
        reference: &str,
        recipient: Option<&Name>,
        now: jiff::Timestamp,
    ) -> Result<Self, CmpError> {
        Ok(Self {
            pvno,
            sender: common_name(reference)?,
            recipient: recipient.map_or_else(empty_name, |name| GeneralName::DirectoryName(name.clone())),
            message_time: Some(generalized_time(now)?),
            protection_alg: None,
            sender_kid: Some(OctetString::new(reference.as_bytes())?),
            recip_kid: None,
            transaction_id: Some(fresh_nonce()?),
            sender_nonce: Some(fresh_nonce()?),
            recip_nonce: None,
            free_text: None,
            general_info: None,
        })
    }

    /// The header of the client's next message in a transaction, which replies to `reply` and
    /// continues from the client's own `request`.
    pub fn following(request: &Self, reply: &Self, now: jiff::Timestamp) -> Result<Self, CmpError> {
        Ok(Self {
            pvno: request.pvno,
            sender: request.sender.clone(),
            recipient: reply.sender.clone(),
            message_time: Some(generalized_time(now)?),
            protection_alg: None,
            sender_kid: request.sender_kid.clone(),
            recip_kid: None,
            transaction_id: request.transaction_id.clone(),
            sender_nonce: Some(fresh_nonce()?),
            recip_nonce: reply.sender_nonce.clone(),
            free_text: None,
            general_info: None,
        })
    }

    /// The transactionID's bytes. The authority should require 16 of them (RFC 9483 §3.5).
    pub fn transaction(&self) -> Option<&[u8]> {
        self.transaction_id.as_ref().map(OctetString::as_bytes)
    }

    /// The senderNonce's bytes.
    pub fn nonce(&self) -> Option<&[u8]> {
        self.sender_nonce.as_ref().map(OctetString::as_bytes)
    }

    /// The first CN of the directoryName in `sender`, in any string type.
    pub fn sender_common_name(&self) -> Option<String> {
        let GeneralName::DirectoryName(name) = &self.sender else { return None };
        common_name_of(name)
    }
}

fn common_name_of(name: &Name) -> Option<String> {
    const COMMON_NAME: der::asn1::ObjectIdentifier = der::asn1::ObjectIdentifier::new_unwrap("2.5.4.3");
    let value = name.iter().find(|attribute| attribute.oid == COMMON_NAME)?;
    String::from_utf8(value.value.value().to_vec()).ok()
}

/// The directoryName CN=`text`.
pub(super) fn common_name(text: &str) -> Result<GeneralName, CmpError> {
    Ok(GeneralName::DirectoryName(subject_common_name(text)?))
}

/// The name CN=`text` as a UTF8String with any characters; RFC 4514 escaping is not involved.
pub(super) fn subject_common_name(text: &str) -> Result<Name, CmpError> {
    use der::asn1::{SetOfVec, Utf8StringRef};
    use x509_cert::attr::AttributeTypeAndValue;
    use x509_cert::name::RelativeDistinguishedName;

    let value = AttributeTypeAndValue {
        oid: der::asn1::ObjectIdentifier::new_unwrap("2.5.4.3"),
        value: der::Any::encode_from(&Utf8StringRef::new(text)?)?,
    };
    let rdn = RelativeDistinguishedName::from(SetOfVec::try_from(vec![value])?);
    Ok(Name::from_der(&RdnSequence::from(vec![rdn]).to_der()?)?)
}

/// The empty directoryName, for a party whose name is unknown (RFC 9810 §5.1.1).
pub(super) fn empty_name() -> GeneralName {
    GeneralName::DirectoryName(Name::default())
}

/// 16 fresh random bytes; RFC 9810 §5.1.1 recommends 128 bits.
pub(super) fn fresh_nonce() -> Result<OctetString, CmpError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)?;
    Ok(OctetString::new(bytes.to_vec())?)
}
