//! What a keyset consists of, without a PIN.

use jiff::Timestamp;

use crate::token::{KeyAlgorithm, KeyId};

use super::{FoundKeyset, KeysetError};

/// What a certificate of a keyset is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyUse {
    /// signing
    Signing,
    /// encryption, the one that others encrypt to now
    Encryption,
    /// encryption, kept to read what was encrypted before
    OlderEncryption,
    /// the authority's own
    Authority,
}

/// A certificate, in what a person wants to know of it.
#[derive(Clone, Debug)]
pub struct CertificateSummary {
    /// what its key is for
    pub key_use: KeyUse,
    /// the key's kind; `None` when it is none of ours
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
    pub not_before: Timestamp,
    /// valid until
    pub not_after: Timestamp,
    /// SHA-256 of the certificate
    pub sha256: [u8; 32],
    /// the certificate, DER
    pub der: Vec<u8>,
}

/// A keyset and its certificates.
#[derive(Clone, Debug)]
pub struct KeysetDetails {
    /// the keyset as found
    pub keyset: FoundKeyset,
    /// signing, encryption, older encryption (newest first), authority
    pub certificates: Vec<CertificateSummary>,
}

/// Reads the keyset's certificates.
pub fn show(keyset: &FoundKeyset) -> Result<KeysetDetails, KeysetError> {
    todo!()
}
