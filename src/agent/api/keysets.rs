//! `/v1/tokens`, `/v1/keysets` and below, `/v1/public-keys`: listings without a PIN.

use serde::Serialize;
use serde_json::{Value, json};

use super::bytes::Bytes;
use super::error::ApiError;
use super::http::{ApiResponse, Query};
use crate::agent::Keystore;
use crate::keyset::{self, CertificateSummary, FoundKeyset, KeysetStatus, UnreadableToken};
use crate::token::{KeysetName, TokenInfo, TokenUri};

pub fn tokens(keystore: &Keystore) -> Result<ApiResponse, ApiError> {
    let tokens = keystore.tokens()?;
    let tokens: Vec<Value> = tokens
        .iter()
        .map(|token| {
            json!({
                "label": token.info.label,
                "serial": token.info.serial,
                "manufacturer": token.info.manufacturer,
                "model": token.info.model,
                "module": token.info.source.display().to_string(),
                "uri": TokenUri::of(&token.info).to_string(),
                "pin_state": token.info.pin_state,
                "write_protected": token.info.write_protected,
                "logged_in": token.logged_in,
            })
        })
        .collect();
    ApiResponse::json(&json!({ "tokens": tokens }))
}

pub fn keysets(keystore: &Keystore) -> Result<ApiResponse, ApiError> {
    let (keysets, unreadable_tokens) = keystore.keysets()?;
    let unreadable_tokens: Vec<Value> = unreadable_tokens.iter().map(unreadable_token_json).collect();
    let keysets: Vec<Value> = keysets.iter().map(summary).collect();
    ApiResponse::json(&json!({ "keysets": keysets, "unreadable_tokens": unreadable_tokens }))
}

pub fn keyset(keystore: &Keystore, name: &str, query: &Query) -> Result<ApiResponse, ApiError> {
    ApiResponse::json(&summary(&find(keystore, name, query)?))
}

pub fn certificates(keystore: &Keystore, name: &str, query: &Query) -> Result<ApiResponse, ApiError> {
    let details = keyset::show(&find(keystore, name, query)?)?;
    let certificates: Vec<Value> = details.certificates.iter().map(certificate).collect();
    ApiResponse::json(&json!({ "certificates": certificates }))
}

pub fn public_keys(keystore: &Keystore) -> Result<ApiResponse, ApiError> {
    let keys: Vec<Value> = keystore
        .identities()
        .iter()
        .map(|identity| {
            json!({
                "keyset": identity.keyset.name,
                "level": identity.keyset.level,
                "token": name_of(&identity.keyset.token),
                "user": identity.user,
                "algorithm": identity.algorithm.to_string(),
                "public_key": Bytes::from(identity.spki.as_slice()),
                "certificate": Bytes::from(identity.certificate.as_slice()),
            })
        })
        .collect();
    ApiResponse::json(&json!({ "public_keys": keys }))
}

/// The keyset of this name; `?token=` selects its token.
fn find(keystore: &Keystore, name: &str, query: &Query) -> Result<FoundKeyset, ApiError> {
    let name = name.parse::<KeysetName>().map_err(keyset::KeysetError::from)?;
    let choice = super::bodies::choice(Some(&name), query.value("token"))?;
    Ok(keystore.choose(&choice)?)
}

/// A token's name in responses.
pub fn name_of(token: &TokenInfo) -> WireToken<'_> {
    WireToken { label: &token.label, serial: &token.serial }
}

#[derive(Clone, Copy, Debug, Serialize)]
pub struct WireToken<'a> {
    label: &'a str,
    serial: &'a str,
}

fn unreadable_token_json(unreadable: &UnreadableToken) -> Value {
    json!({ "place": unreadable.name, "message": unreadable.error.to_string() })
}

fn summary(keyset: &FoundKeyset) -> Value {
    let (status, reference) = match &keyset.status {
        KeysetStatus::Enrolled => ("enrolled", None),
        KeysetStatus::Pending { reference } => ("pending", Some(reference)),
        KeysetStatus::ReenrollmentPending { reference } => ("reenrollment-pending", Some(reference)),
    };
    json!({
        "keyset": keyset.name,
        "level": keyset.level,
        "status": status,
        "reference": reference,
        "authority": keyset.authority,
        "token": name_of(&keyset.token),
        "encryption_keys": keyset.encryption.len(),
    })
}

fn certificate(summary: &CertificateSummary) -> Value {
    json!({
        "use": summary.certificate_use,
        "algorithm": summary.algorithm.map(|algorithm| algorithm.to_string()),
        "id": summary.id.to_string(),
        "subject": summary.subject,
        "emails": summary.emails,
        "serial": summary.serial,
        "not_before": summary.not_before.to_string(),
        "not_after": summary.not_after.to_string(),
        "sha256": hex::encode(summary.sha256),
        "certificate": Bytes::from(summary.der.as_slice()),
    })
}
