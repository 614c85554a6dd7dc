//! The content of a keyset, readable without a PIN.

use jiff::Timestamp;
use serde::{Deserialize, Serialize, Serializer};

use crate::pki::{Certificate, PkiError};
use crate::token::{KeyAlgorithm, KeyId, StoredCertificate};

use super::{FoundKeyset, KeysetError, KeysetSummary};

/// The purpose of a certificate in a keyset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CertificateUse {
    Signing,
    /// encryption; senders encrypt to this key
    Encryption,
    /// encryption; an older key, needed to read older messages
    OlderEncryption,
    /// the authority's CA certificate
    Authority,
}

/// The properties of a certificate, for display. It serializes as listings show it, without the
/// certificate itself.
#[derive(Clone, Debug, Serialize)]
pub struct CertificateSummary {
    /// the purpose of its key
    #[serde(rename = "use")]
    pub certificate_use: CertificateUse,
    /// the key's algorithm; `None` if unsupported
    pub algorithm: Option<KeyAlgorithm>,
    /// `CKA_ID` of key and certificate
    pub id: KeyId,
    /// the subject (RFC 4514)
    pub subject: String,
    /// the e-mail addresses
    pub emails: Vec<String>,
    /// the serial number, hexadecimal
    pub serial: String,
    /// valid from
    #[serde(serialize_with = "serialize_timestamp")]
    pub not_before: Timestamp,
    /// valid until
    #[serde(serialize_with = "serialize_timestamp")]
    pub not_after: Timestamp,
    /// SHA-256 of the certificate, hexadecimal in JSON
    #[serde(serialize_with = "serialize_hex")]
    pub sha256: [u8; 32],
    /// the certificate, DER
    #[serde(skip)]
    pub der: Vec<u8>,
}

/// A keyset and its certificates. It serializes as the keyset's summary, with the certificates.
#[derive(Clone, Debug, Serialize)]
pub struct KeysetDetails {
    #[serde(flatten, serialize_with = "serialize_summary")]
    pub keyset: FoundKeyset,
    /// signing, encryption, older encryption (newest first), authority
    pub certificates: Vec<CertificateSummary>,
}

/// Parses the keyset's certificates, in the order signing, encryption, older encryption (newest
/// first), authority.
pub fn show(keyset: &FoundKeyset) -> Result<KeysetDetails, KeysetError> {
    let signing = keyset.signing.iter().map(|id| (CertificateUse::Signing, id));
    let encryption = keyset.encryption.iter().enumerate().map(|(place, id)| match place {
        0 => (CertificateUse::Encryption, id),
        _ => (CertificateUse::OlderEncryption, id),
    });
    let authority = keyset.authority_certificate.iter().map(|id| (CertificateUse::Authority, id));
    let certificates = signing
        .chain(encryption)
        .chain(authority)
        .filter_map(|(certificate_use, id)| keyset.certificate_of(id).map(|stored| summary(certificate_use, stored)))
        .collect::<Result<_, _>>()
        .map_err(|error: PkiError| KeysetError::Message { operation: "show the keyset", reason: error.to_string() })?;
    Ok(KeysetDetails { keyset: keyset.clone(), certificates })
}

fn summary(certificate_use: CertificateUse, stored: &StoredCertificate) -> Result<CertificateSummary, PkiError> {
    let certificate = Certificate::from_der(&stored.der)?;
    Ok(CertificateSummary {
        certificate_use,
        algorithm: KeyAlgorithm::of_public_key(&certificate.public_key_der()?),
        id: stored.id.clone(),
        subject: certificate.subject().to_string(),
        emails: certificate.emails(),
        serial: hex::encode(certificate.serial().as_bytes()),
        not_before: certificate.not_before(),
        not_after: certificate.not_after(),
        sha256: *certificate.fingerprint().as_bytes(),
        der: stored.der.clone(),
    })
}

/// RFC 3339, in UTC.
fn serialize_timestamp<S: Serializer>(timestamp: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(timestamp)
}

fn serialize_hex<S: Serializer>(bytes: &[u8; 32], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&hex::encode(bytes))
}

fn serialize_summary<S: Serializer>(keyset: &FoundKeyset, serializer: S) -> Result<S::Ok, S::Error> {
    KeysetSummary::of(keyset).serialize(serializer)
}
