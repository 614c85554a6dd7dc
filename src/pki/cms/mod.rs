//! The CMS structures (RFC 5652) that mail and statements share: signed content, and recipients of
//! encrypted content.
//!
//! They use `der` instead of the `cms` crate's types for three reasons: the received bytes must be
//! verified (signed attributes, certificates), content types under 2.25 do not fit into
//! `const-oid`, and mail of other programs contains BER and unparsable certificates.
//!
//! **Invariant:** The reason of a failed decryption is never revealed.

pub(crate) mod ber;
pub(crate) mod ber_reader;
pub mod signed_data;
pub(crate) mod stream;

mod check_failure;
mod content_digest;
mod key_agreement;
mod key_transport;
mod named_certificate;
pub(crate) mod recipient;
mod sign;
mod signer_info;
mod signing_certificate;
mod strict;
mod triple_des_wrap;

pub use content_digest::ContentDigest;
pub use recipient::{KeyOperation, KeyResult, Recipient, RecipientKind};
pub use sign::{ContentSignature, ContentToSign, DigestToSign, PreparedSignature, sign, sign_digest};
pub use signed_data::SignedMessage;
pub(crate) use signed_data::best_of;
pub use signer_info::SignatureCheck;
pub use signing_certificate::SigningCertificate;
pub use strict::check_sole_signer;

use const_oid::ObjectIdentifier;
use der::{Decode, Encode};
use spki::AlgorithmIdentifierOwned;

use super::{Certificate, DistinguishedName, PkiError, SerialNumber};
use crate::pki::oid::ContentType;
use crate::pki::tlv::{
    Element, Elements, INTEGER, OBJECT_IDENTIFIER, SEQUENCE, context, context_constructed, element, header_of,
};

/// Parses the outermost structure of a message in definite lengths, and returns its type and the
/// bytes of its content.
pub(crate) fn open_content_info(bytes: &[u8], what: &'static str) -> Result<(ContentType, Vec<u8>), PkiError> {
    let definite = ber::to_definite(bytes, what)?;
    let mut content_info = Elements::of(&definite, what).required(SEQUENCE)?.inside(what);
    let content_type = ContentType::from_contents(content_info.required(OBJECT_IDENTIFIER)?.value);
    let content = content_info.required(context_constructed(0))?.value.to_vec();
    content_info.end()?;
    Ok((content_type, content))
}

/// Makes a `ContentInfo` of this type around DER.
pub(crate) fn content_info(content_type: ObjectIdentifier, content: &[u8]) -> Vec<u8> {
    // The whole message is copied only once, not again for each element around it.
    element(SEQUENCE, &[&oid(content_type), &header_of(context_constructed(0), content.len() as u64), content])
}

fn oid(oid: ObjectIdentifier) -> Vec<u8> {
    element(OBJECT_IDENTIFIER, &[oid.as_bytes()])
}

/// The subject of errors about encrypted messages.
const ENCRYPTED: &str = "an encrypted message";

fn read_algorithm(element: Element<'_>) -> Result<AlgorithmIdentifierOwned, PkiError> {
    AlgorithmIdentifierOwned::from_der(element.whole).map_err(PkiError::decode("an algorithm identifier"))
}

fn algorithm(algorithm: &AlgorithmIdentifierOwned) -> Result<Vec<u8>, PkiError> {
    algorithm.to_der().map_err(PkiError::encode("an algorithm identifier"))
}

/// The identifier of a signer's or a recipient's certificate in a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateId {
    /// By issuer and serial number.
    IssuerAndSerial {
        /// The certificate's issuer.
        issuer: DistinguishedName,
        /// The certificate's serial number.
        serial: SerialNumber,
    },
    /// By subjectKeyIdentifier.
    KeyIdentifier(Vec<u8>),
}

impl CertificateId {
    /// The identifier by issuer and serial number, which every program supports.
    pub fn of(certificate: &Certificate) -> Self {
        Self::IssuerAndSerial { issuer: certificate.issuer(), serial: certificate.serial() }
    }

    /// Whether it identifies `certificate`.
    pub fn names(&self, certificate: &Certificate) -> bool {
        match self {
            Self::IssuerAndSerial { issuer, serial } => {
                *issuer == certificate.issuer() && *serial == certificate.serial()
            }
            Self::KeyIdentifier(identifier) => {
                certificate.subject_key_identifier().is_some_and(|own| own == *identifier)
            }
        }
    }

    /// Parses `SignerIdentifier` or `RecipientIdentifier` (RFC 5652 §5.3, §6.2.1).
    fn from_element(element: Element<'_>, what: &'static str) -> Result<Self, PkiError> {
        if element.tag() == context(0) {
            return Ok(Self::KeyIdentifier(element.value.to_vec()));
        }
        let mut parts = Elements::of(element.whole, what).required(SEQUENCE)?.inside(what);
        let issuer = DistinguishedName::from_der(parts.required(SEQUENCE)?.whole)?;
        let serial = SerialNumber::from_bytes(parts.required(INTEGER)?.value);
        parts.end()?;
        Ok(Self::IssuerAndSerial { issuer, serial })
    }

    fn to_der(&self) -> Result<Vec<u8>, PkiError> {
        Ok(match self {
            Self::KeyIdentifier(identifier) => element(context(0), &[identifier]),
            Self::IssuerAndSerial { issuer, serial } => {
                let sign = if serial.as_bytes().first().is_none_or(|first| *first >= 0x80) { &[0][..] } else { &[] };
                element(SEQUENCE, &[&issuer.to_der()?, &element(INTEGER, &[sign, serial.as_bytes()])])
            }
        })
    }
}

impl std::fmt::Display for CertificateId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::IssuerAndSerial { issuer, serial } => write!(f, "serial {serial} of {issuer}"),
            Self::KeyIdentifier(identifier) => write!(f, "key identifier {}", hex::encode(identifier)),
        }
    }
}
