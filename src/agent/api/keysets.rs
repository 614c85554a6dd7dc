//! `/v1/tokens`, `/v1/keysets` and below, `/v1/public-keys`: listings without a PIN.

use serde::Serialize;
use serde_json::{Value, json};

use super::error::ApiError;
use super::http::{Answer, Query};
use crate::agent::Keystore;
use crate::agent::act::Bytes;
use crate::keyset::{self, CertificateSummary, FoundKeyset, KeyUse, Standing, TokenTrouble};
use crate::token::{KeysetName, TokenInfo, TokenUri};

pub fn tokens(keystore: &Keystore) -> Result<Answer, ApiError> {
    let tokens = keystore.tokens()?;
    let tokens: Vec<Value> = tokens
        .iter()
        .map(|token| {
            json!({
                "label": token.info.label,
                "serial": token.info.serial,
                "manufacturer": token.info.manufacturer,
                "model": token.info.model,
                "module": token.info.module.display().to_string(),
                "uri": TokenUri::of(&token.info).to_string(),
                "pin_state": token.info.pin_state,
                "write_protected": token.info.write_protected,
                "logged_in": token.logged_in,
            })
        })
        .collect();
    Answer::json(&json!({ "tokens": tokens }))
}

pub fn keysets(keystore: &Keystore) -> Result<Answer, ApiError> {
    let (keysets, trouble) = keystore.keysets()?;
    let trouble: Vec<Value> = trouble.iter().map(not_looked_at).collect();
    let keysets: Vec<Value> = keysets.iter().map(summary).collect();
    Answer::json(&json!({ "keysets": keysets, "not_looked_at": trouble }))
}

pub fn keyset(keystore: &Keystore, name: &str, query: &Query) -> Result<Answer, ApiError> {
    Answer::json(&summary(&find(keystore, name, query)?))
}

pub fn certificates(keystore: &Keystore, name: &str, query: &Query) -> Result<Answer, ApiError> {
    let details = keyset::show(&find(keystore, name, query)?)?;
    let certificates: Vec<Value> = details.certificates.iter().map(certificate).collect();
    Answer::json(&json!({ "certificates": certificates }))
}

pub fn public_keys(keystore: &Keystore) -> Result<Answer, ApiError> {
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
    Answer::json(&json!({ "public_keys": keys }))
}

/// The keyset of this name; `?token=` selects its token.
fn find(keystore: &Keystore, name: &str, query: &Query) -> Result<FoundKeyset, ApiError> {
    let name = name.parse::<KeysetName>().map_err(keyset::KeysetError::from)?;
    let choice = super::bodies::choice(Some(&name), query.value("token"))?;
    Ok(keystore.choose(&choice)?)
}

/// A token's name in responses.
pub fn name_of(token: &TokenInfo) -> TokenOnWire<'_> {
    TokenOnWire { label: &token.label, serial: &token.serial }
}

#[derive(Clone, Copy, Debug, Serialize)]
pub struct TokenOnWire<'a> {
    label: &'a str,
    serial: &'a str,
}

fn not_looked_at(trouble: &TokenTrouble) -> Value {
    json!({ "place": trouble.place, "message": trouble.error.to_string() })
}

fn summary(keyset: &FoundKeyset) -> Value {
    let (standing, reference) = match &keyset.standing {
        Standing::Enrolled => ("enrolled", None),
        Standing::Pending { reference } => ("pending", Some(reference)),
        Standing::ReenrollmentPending { reference } => ("reenrollment-pending", Some(reference)),
    };
    json!({
        "keyset": keyset.name,
        "level": keyset.level,
        "standing": standing,
        "reference": reference,
        "authority": keyset.authority,
        "token": name_of(&keyset.token),
        "encryption_keys": keyset.encryption.len(),
    })
}

fn certificate(summary: &CertificateSummary) -> Value {
    json!({
        "use": match summary.key_use {
            KeyUse::Signing => "signing",
            KeyUse::Encryption => "encryption",
            KeyUse::OlderEncryption => "older-encryption",
            KeyUse::Authority => "authority",
        },
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
