//! `/v1/tokens`, `/v1/keysets` and below, `/v1/public-keys`: listings without a PIN.

use serde::Serialize;
use serde_json::{Value, json};

use super::bytes::Bytes;
use super::error::ApiError;
use super::http::{ApiResponse, Query};
use crate::agent::Keystore;
use crate::keyset::{
    self, CertificateSummary, FoundKeyset, KeysetSummary, TokenReference, TokenSummary, UnreadableToken,
};
use crate::token::KeysetName;

pub fn tokens(keystore: &Keystore) -> Result<ApiResponse, ApiError> {
    let tokens = keystore.tokens()?;
    let tokens: Vec<_> = tokens
        .iter()
        .map(|token| ApiToken { summary: TokenSummary::of(&token.info), logged_in: token.logged_in })
        .collect();
    ApiResponse::json(&json!({ "tokens": tokens }))
}

pub fn keysets(keystore: &Keystore) -> Result<ApiResponse, ApiError> {
    let (keysets, unreadable_tokens) = keystore.keysets()?;
    let unreadable_tokens: Vec<Value> = unreadable_tokens.iter().map(unreadable_token_json).collect();
    let keysets: Vec<_> = keysets.iter().map(KeysetSummary::of).collect();
    ApiResponse::json(&json!({ "keysets": keysets, "unreadable_tokens": unreadable_tokens }))
}

pub fn keyset(keystore: &Keystore, name: &str, query: &Query) -> Result<ApiResponse, ApiError> {
    ApiResponse::json(&json!(KeysetSummary::of(&find(keystore, name, query)?)))
}

pub fn certificates(keystore: &Keystore, name: &str, query: &Query) -> Result<ApiResponse, ApiError> {
    let details = keyset::show(&find(keystore, name, query)?)?;
    let certificates: Vec<_> = details
        .certificates
        .iter()
        .map(|summary| ApiCertificate { summary, certificate: Bytes::from(summary.der.as_slice()) })
        .collect();
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
                "token": TokenReference::of(&identity.keyset.token),
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

fn unreadable_token_json(unreadable: &UnreadableToken) -> Value {
    json!({ "place": unreadable.name, "message": unreadable.error.to_string() })
}

/// A token in responses.
#[derive(Serialize)]
struct ApiToken<'a> {
    #[serde(flatten)]
    summary: TokenSummary<'a>,
    logged_in: bool,
}

/// A certificate in responses.
#[derive(Serialize)]
struct ApiCertificate<'a> {
    #[serde(flatten)]
    summary: &'a CertificateSummary,
    /// DER
    certificate: Bytes,
}
