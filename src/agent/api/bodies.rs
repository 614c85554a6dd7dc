//! Bodies of requests: strict JSON, bytes in base64.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::bytes::Bytes;
use super::error::ApiError;
use crate::keyset::KeysetChoice;
use crate::token::KeysetName;

/// `POST /v1/sign`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sign {
    pub content: Bytes,
    #[serde(default)]
    pub detached: bool,
    pub keyset: Option<KeysetName>,
    pub token: Option<String>,
}

/// `POST /v1/decrypt`: a whole message, or one `RecipientInfo` and the length of the content key.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decrypt {
    pub message: Option<Bytes>,
    pub recipient_info: Option<Bytes>,
    pub key_length: Option<usize>,
    pub keyset: Option<KeysetName>,
    pub token: Option<String>,
}

/// `POST /v1/log-in`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogInRequest {
    pub keyset: Option<KeysetName>,
    pub token: Option<String>,
}

/// `POST /v1/log-off`: all sessions, or the one on a token.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogOffRequest {
    pub token: Option<String>,
}

/// `POST /v1/lock` and `POST /v1/unlock`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PassPhraseRequest {
    pub pass_phrase: Bytes,
}

/// Parses a body.
pub fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|error| ApiError::bad_request(format!("cannot read the request: {error}")))
}

/// Parses a body; an empty one counts as an empty object.
pub fn read_or_default<T: DeserializeOwned + Default>(body: &[u8]) -> Result<T, ApiError> {
    if body.is_empty() { Ok(T::default()) } else { read(body) }
}

/// The keyset choice of a request.
pub fn choice(keyset: Option<&KeysetName>, token: Option<&str>) -> Result<KeysetChoice, ApiError> {
    let token = token.map(|text| {
        text.parse().map_err(|error| ApiError::bad_request(format!("cannot use {text:?} as a token name: {error}")))
    });
    Ok(KeysetChoice { name: keyset.cloned(), token: token.transpose()?, ..KeysetChoice::default() })
}
