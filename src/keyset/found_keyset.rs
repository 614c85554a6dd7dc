//! A keyset as its token's public index describes it.
//!
//! This serves to choose a token and to describe it. It never decides what a PIN opens.

use serde::{Deserialize, Serialize};

use super::AuthorityAddress;
use super::index::{Hex, PublicIndex};
use crate::pki::{Certificate, Fingerprint};
use crate::token::{KeyId, KeysetName, SecurityLevel, StoredCertificate, TokenInfo};

/// The enrollment state of a keyset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum KeysetStatus {
    /// Enrolled and usable.
    Enrolled,
    /// The first enrollment is not finished; the same letter finishes it.
    Pending {
        /// the reference of the letter with which it began
        reference: String,
    },
    /// Enrolled and usable, but a re-enrollment is not finished.
    ReenrollmentPending {
        /// the reference of the letter with which it began
        reference: String,
    },
}

/// A keyset as described by its token's public index. Anyone who can write to the token may have
/// changed it, so it only serves to choose a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundKeyset {
    pub name: KeysetName,
    pub level: SecurityLevel,
    /// the addresses of its authority
    pub authority: AuthorityAddress,
    /// the enrollment state
    pub status: KeysetStatus,
    /// the token that stores it
    pub token: TokenInfo,
    /// `CKA_ID` of the signing key; `None` before the first enrollment is finished
    pub signing: Option<KeyId>,
    /// `CKA_ID`s of the encryption keys, current key first
    pub encryption: Vec<KeyId>,
    /// `CKA_ID` of the authority's CA certificate
    pub authority_certificate: Option<KeyId>,
    /// the certificates found on the token: signing, encryption (in key order), authority
    pub certificates: Vec<StoredCertificate>,
}

impl FoundKeyset {
    pub(super) fn from_index(index: PublicIndex, token: &TokenInfo, certificates: &[StoredCertificate]) -> Self {
        let record = index.keyset;
        let reference = index.pending.map(|pending| pending.reference);
        let status = match (&record.keys, reference) {
            (None, reference) => KeysetStatus::Pending { reference: reference.unwrap_or_default() },
            (Some(_), Some(reference)) => KeysetStatus::ReenrollmentPending { reference },
            (Some(_), None) => KeysetStatus::Enrolled,
        };
        let (signing, encryption, authority) = match record.keys {
            Some(keys) => (Some(keys.signing), keys.encryption, Some(keys.authority)),
            None => (None, Vec::new(), None),
        };
        let named: Vec<KeyId> = signing.iter().chain(&encryption).chain(&authority).map(Hex::key_id).collect();
        // In the order of the index: signing, encryption with the current key first, authority.
        let certificates = named
            .iter()
            .filter_map(|id| certificates.iter().find(|certificate| certificate.id == *id).cloned())
            .collect();
        Self {
            name: record.name,
            level: record.level,
            authority: record.authority,
            status,
            token: token.clone(),
            signing: signing.as_ref().map(Hex::key_id),
            encryption: encryption.iter().map(Hex::key_id).collect(),
            authority_certificate: authority.as_ref().map(Hex::key_id),
            certificates,
        }
    }

    /// Returns whether an enrollment is finished, so that the keyset can sign and decrypt.
    pub fn is_usable(&self) -> bool {
        self.signing.is_some()
    }

    /// The reference of the letter of an unfinished enrollment.
    pub fn pending_reference(&self) -> Option<&str> {
        match &self.status {
            KeysetStatus::Enrolled => None,
            KeysetStatus::Pending { reference } | KeysetStatus::ReenrollmentPending { reference } => Some(reference),
        }
    }

    /// The stored certificate with this `CKA_ID`.
    pub fn certificate_of(&self, id: &KeyId) -> Option<&StoredCertificate> {
        self.certificates.iter().find(|certificate| certificate.id == *id)
    }

    /// The signing certificate; `None` if there is none that can be parsed.
    pub fn signing_certificate(&self) -> Option<Certificate> {
        Certificate::from_der(&self.certificate_of(self.signing.as_ref()?)?.der).ok()
    }

    /// The authority's CA certificate in DER.
    pub fn authority_certificate(&self) -> Option<&[u8]> {
        self.certificate_of(self.authority_certificate.as_ref()?).map(|certificate| certificate.der.as_slice())
    }

    /// SHA-256 of the authority's CA certificate, the pin of connections to it.
    pub fn authority_sha256(&self) -> Option<[u8; 32]> {
        self.authority_certificate().map(|der| *Fingerprint::of(der).as_bytes())
    }

    /// Keyset name, token label and serial number, for messages.
    pub fn described(&self) -> String {
        format!("{:?} on {}", self.name.as_str(), self.token.name())
    }
}
