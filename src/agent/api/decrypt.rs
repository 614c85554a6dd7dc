//! `/v1/decrypt`: decrypts a message or one recipient's content key.

use super::ApiSession;
use super::bodies::{self, choice};
use super::error::ApiError;
use super::http::ApiResponse;
use crate::agent::UsagePurpose;
use crate::agent::operation::{NoTransport, OperationOutput, OperationRequest, WireKeysetChoice};
use crate::smime::{EncryptedMessage, Message};

impl ApiSession<'_> {
    /// Decrypts as the keyset's level requires.
    pub fn decrypt(&self, request: bodies::Decrypt) -> Result<ApiResponse, ApiError> {
        let keyset = WireKeysetChoice::from(&choice(request.keyset.as_ref(), request.token.as_deref())?);
        let (operation, purpose) = match (request.message, request.recipient_info, request.key_length) {
            (Some(message), None, None) => {
                let purpose = purpose(message.as_slice());
                (OperationRequest::Decrypt { keyset, message }, purpose)
            }
            (None, Some(recipient_info), Some(key_length)) => (
                OperationRequest::OpenRecipient { keyset, recipient_info, key_length },
                UsagePurpose::Decrypt { recipients: 1 },
            ),
            _ => {
                return Err(ApiError::bad_request(
                    "cannot decrypt: give either `message`, or `recipient_info` and `key_length`",
                ));
            }
        };
        let usage = self.usage(purpose);
        match self.keystore.run_operation(operation, &mut self.keystore.person(&usage), &NoTransport, &usage)? {
            OperationOutput::Decrypted { content, keyset, integrity_protected } => {
                let from = DecryptResponse { keyset, integrity_protected };
                ApiResponse::json_and_bytes(&from, "content", content.as_slice())
            }
            OperationOutput::ContentKey { key, keyset } => {
                let from = ContentKey { keyset: keyset.to_string() };
                ApiResponse::json_and_bytes(&from, "content_encryption_key", key.as_slice())
            }
            other => Err(ApiError::fault(format!("cannot decrypt: unexpected result {other:?}"))),
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

/// The purpose that a prompt shows for a message to decrypt.
pub fn purpose(message: &[u8]) -> UsagePurpose {
    let read = Message::read(message).and_then(|message| EncryptedMessage::parse(&message));
    UsagePurpose::Decrypt { recipients: read.map_or(0, |message| message.recipients().len()) }
}
