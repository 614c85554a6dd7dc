//! Tokens and keysets in listings. A summary serializes as the command line and the agent's API
//! list it (`docs/JSON.md`, `docs/agent-api.openapi.json`).

use serde::Serialize;

use super::{AuthorityAddress, FoundKeyset, KeysetStatus};
use crate::token::{KeysetName, PinState, SecurityLevel, TokenInfo, TokenUri};

/// A token in a listing.
#[derive(Debug, Serialize)]
pub struct TokenSummary<'a> {
    label: &'a str,
    serial: &'a str,
    manufacturer: &'a str,
    model: &'a str,
    /// the name of the source where it was found; U+FFFD for bytes that are not UTF-8
    #[serde(rename = "module")]
    source: String,
    /// its PKCS#11 URI (RFC 7512)
    uri: String,
    pin_state: PinState,
    write_protected: bool,
}

impl<'a> TokenSummary<'a> {
    pub fn of(token: &'a TokenInfo) -> Self {
        Self {
            label: &token.label,
            serial: &token.serial,
            manufacturer: &token.manufacturer,
            model: &token.model,
            source: token.source.display().to_string(),
            uri: TokenUri::of(token).to_string(),
            pin_state: token.pin_state,
            write_protected: token.write_protected,
        }
    }
}

/// A token as a keyset, a key or an event refers to it.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct TokenReference<'a> {
    label: &'a str,
    serial: &'a str,
}

impl<'a> TokenReference<'a> {
    pub fn of(token: &'a TokenInfo) -> Self {
        Self { label: &token.label, serial: &token.serial }
    }
}

/// A keyset in a listing.
#[derive(Debug, Serialize)]
pub struct KeysetSummary<'a> {
    keyset: &'a KeysetName,
    level: SecurityLevel,
    /// `enrolled`, `pending` or `reenrollment-pending`
    status: &'static str,
    /// the reference of the letter of an unfinished enrollment
    reference: Option<&'a str>,
    authority: &'a AuthorityAddress,
    token: TokenReference<'a>,
    /// the number of its encryption keys, older ones included
    encryption_keys: usize,
}

impl<'a> KeysetSummary<'a> {
    pub fn of(keyset: &'a FoundKeyset) -> Self {
        let status = match &keyset.status {
            KeysetStatus::Enrolled => "enrolled",
            KeysetStatus::Pending { .. } => "pending",
            KeysetStatus::ReenrollmentPending { .. } => "reenrollment-pending",
        };
        Self {
            keyset: &keyset.name,
            level: keyset.level,
            status,
            reference: keyset.pending_reference(),
            authority: &keyset.authority,
            token: TokenReference::of(&keyset.token),
            encryption_keys: keyset.encryption.len(),
        }
    }
}
