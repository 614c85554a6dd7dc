//! `/v1/decrypt`: decrypts a message or one recipient's content key.

use super::Desk;
use super::bodies::{self, choice};
use super::error::ApiError;
use super::http::Answer;
use crate::agent::Purpose;
use crate::agent::act::{ActAnswer, ActRequest, Choice, NoCarrier};
use crate::smime::{EncryptedMessage, Message};

impl Desk<'_> {
    /// Decrypts as the keyset's level requires.
    pub fn decrypt(&self, request: bodies::Decrypt) -> Result<Answer, ApiError> {
        let keyset = Choice::from(&choice(request.keyset.as_ref(), request.token.as_deref())?);
        let (act, purpose) = match (request.message, request.recipient_info, request.key_length) {
            (Some(message), None, None) => {
                let purpose = purpose(message.as_slice());
                (ActRequest::Decrypt { keyset, message }, purpose)
            }
            (None, Some(recipient_info), Some(key_length)) => {
                (ActRequest::OpenRecipient { keyset, recipient_info, key_length }, Purpose::Decrypt { recipients: 1 })
            }
            _ => {
                return Err(ApiError::bad_request(
                    "cannot decrypt: give either `message`, or `recipient_info` and `key_length`",
                ));
            }
        };
        let usage = self.usage(purpose);
        match self.keystore.act(act, &mut self.keystore.person(&usage), &NoCarrier, &usage)? {
            ActAnswer::Decrypted { content, keyset, integrity_protected } => {
                let from = Opened { keyset, integrity_protected };
                Answer::json_and_bytes(&from, "content", content.as_slice())
            }
            ActAnswer::ContentKey { key, keyset } => {
                let from = ContentKey { keyset: keyset.to_string() };
                Answer::json_and_bytes(&from, "content_encryption_key", key.as_slice())
            }
            other => Err(ApiError::fault(format!("cannot decrypt: unexpected result {other:?}"))),
        }
    }
}

#[derive(serde::Serialize)]
struct Opened {
    keyset: String,
    integrity_protected: bool,
}

#[derive(serde::Serialize)]
struct ContentKey {
    keyset: String,
}

/// The purpose that a prompt shows for a message to decrypt.
pub fn purpose(message: &[u8]) -> Purpose {
    let read = Message::read(message).and_then(|message| EncryptedMessage::parse(&message));
    Purpose::Decrypt { recipients: read.map_or(0, |message| message.recipients().len()) }
}
