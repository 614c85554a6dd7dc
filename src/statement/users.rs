//! What answers say about users, their certificates and their letters.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::serde_formats::{instant, optional_instant};
use crate::token::SecurityLevel;

/// One line of the list of users.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserSummary {
    /// The e-mail address.
    pub email: String,
    /// The full name.
    pub name: String,
    /// Whether the user may make statements.
    pub administrator: bool,
    /// The time from which the user may make statements, if that is in the future.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "optional_instant")]
    pub administrator_from: Option<Timestamp>,
    /// Whether the user has a current signing certificate.
    pub enrolled: bool,
    /// The end of that certificate's validity.
    #[serde(with = "optional_instant")]
    pub certificate_expires: Option<Timestamp>,
    /// The expiry of the user's unused letter.
    #[serde(with = "optional_instant")]
    pub letter_expires: Option<Timestamp>,
}

/// All data about one user that an administrator may see.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserDetails {
    /// The internal user id.
    pub id: String,
    /// The e-mail address.
    pub email: String,
    /// The full name.
    pub name: String,
    /// Whether the user may make statements.
    pub administrator: bool,
    /// The time from which the user may make statements, if that is in the future.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "optional_instant")]
    pub administrator_from: Option<Timestamp>,
    /// The time at which the authority first recorded the user.
    #[serde(with = "instant")]
    pub since: Timestamp,
    /// The number of the user's encryption keys in the archive.
    pub archived_keys: u64,
    /// The user's certificates, newest first.
    pub certificates: Vec<CertificateEntry>,
    /// The user's letters, newest first.
    pub letters: Vec<LetterEntry>,
}

/// A certificate of a user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateEntry {
    /// The serial number in hexadecimal.
    pub serial: String,
    /// The purpose: `signing` or `encryption`.
    pub usage: String,
    /// The keyset into which it was enrolled, as the user named it. `None` if the audit log does
    /// not record it.
    pub keyset: Option<String>,
    /// The keyset's level. `None` if the audit log does not record it.
    pub level: Option<SecurityLevel>,
    /// The authority's state of the certificate: `current`, `superseded`, `revoked` and the like.
    pub state: String,
    /// The start of the validity.
    #[serde(with = "instant")]
    pub not_before: Timestamp,
    /// The end of the validity.
    #[serde(with = "instant")]
    pub not_after: Timestamp,
}

/// A letter of a user. The authority does not store its temporary key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LetterEntry {
    pub reference: String,
    /// `enroll` or `recover`.
    pub purpose: String,
    /// `unused`, `claimed`, `used`, `voided`, `expired`.
    pub state: String,
    /// The expiry.
    #[serde(with = "instant")]
    pub expires: Timestamp,
}
