//! `/v1/decrypt`: decrypts a message or one recipient's content key.

use super::ApiSession;
use super::bodies::{self, choice};
use super::error::ApiError;
use super::http::ApiResponse;
use crate::agent::{DecryptMessage, OpenContentKey};
use crate::keyset::{Decrypted, DecryptedBy};

impl ApiSession<'_> {
    /// Decrypts as the keyset's level requires.
    pub fn decrypt(&self, request: &bodies::Decrypt) -> Result<ApiResponse, ApiError> {
        let keysets = choice(request.keyset.as_ref(), request.token.as_deref())?;
        match (&request.message, &request.recipient_info, request.key_length) {
            (Some(message), None, None) => {
                let key_use = DecryptMessage { keysets, message: message.as_slice() };
                let Decrypted { content, by } = self.keystore.use_key(key_use, &self.requester)?;
                let DecryptedBy { keyset, integrity_protected } = by;
                let from = DecryptResponse { keyset: keyset.to_string(), integrity_protected };
                ApiResponse::json_and_bytes(&from, "content", &content)
            }
            (None, Some(recipient_info), Some(key_length)) => {
                let key_use = OpenContentKey { keysets, recipient_info: recipient_info.as_slice(), key_length };
                let (key, keyset) = self.keystore.use_key(key_use, &self.requester)?;
                let from = ContentKey { keyset: keyset.to_string() };
                ApiResponse::json_and_bytes(&from, "content_encryption_key", &key)
            }
            _ => Err(ApiError::bad_request(
                "cannot decrypt: give either `message`, or `recipient_info` and `key_length`",
            )),
        }
    }
}

#[derive(serde::Serialize)]
struct DecryptResponse {
    keyset: String,
    integrity_protected: bool,
}

#[derive(serde::Serialize)]
struct ContentKey {
    keyset: String,
}
