//! Runs an operation on the local tokens, with the same functions that a command calls without an
//! agent.

use jiff::Timestamp;

use super::request::selector;
use super::{FoundKeysets, FoundPins, OperationOutput, OperationRequest, WireKeysetChoice, WireStatementChannel};
use crate::keyset::{self, Enrollment, ErrorKind, FoundKeyset, KeysetError, SignOptions, Tokens, UserPrompter};
use crate::letter::Letter;
use crate::statement::SignedStatement;
use crate::transport::{Transport, TransportError};

/// Runs the operation. The operation decides when it asks `person` and sends with `transport`.
///
/// # Errors
/// The operation's own errors, unchanged; an enrollment that ended without a keyset is
/// [`KeysetError::Remote`].
pub fn run(
    request: OperationRequest,
    tokens: &Tokens,
    person: &mut dyn UserPrompter,
    transport: &dyn Transport,
    now: Timestamp,
) -> Result<OperationOutput, KeysetError> {
    Ok(match request {
        OperationRequest::ListTokens {} => OperationOutput::Tokens(tokens.list_as_of_now()?),
        OperationRequest::ListKeysets {} => OperationOutput::Keysets(FoundKeysets::new(tokens.keysets()?)),
        OperationRequest::ChooseKeyset(choice) => OperationOutput::Keyset(Box::new(chosen(tokens, &choice)?.into())),
        OperationRequest::Sign { keyset, content, detached } => {
            let keyset = chosen(tokens, &keyset)?;
            let options = SignOptions { detached };
            OperationOutput::Signed(keyset::sign(tokens, &keyset, content.as_slice(), options, person, now)?.into())
        }
        OperationRequest::Decrypt { keyset, message } => {
            let choice = keyset.to_choice().map_err(usage)?;
            keyset::decrypt(tokens, &choice, message.as_slice(), person)?.into()
        }
        OperationRequest::OpenRecipient { keyset, recipient_info, key_length } => {
            let choice = keyset.to_choice().map_err(usage)?;
            let recipient_info = recipient_info.as_slice();
            let (mut key, keyset) = keyset::open_recipient(tokens, &choice, recipient_info, key_length, person)?;
            OperationOutput::ContentKey { key: std::mem::take(&mut *key).into(), keyset }
        }
        OperationRequest::Administer { keyset, admin_operation, channel, log_policy } => {
            let keyset = chosen(tokens, &keyset)?;
            match channel {
                WireStatementChannel::Online => {
                    keyset::administer(tokens, &keyset, transport, admin_operation.into(), log_policy, person, now)?
                        .into()
                }
                WireStatementChannel::File => {
                    let signed =
                        keyset::sign_for_a_file(tokens, &keyset, admin_operation.into(), log_policy, person, now)?;
                    OperationOutput::Signed(signed.as_der().into())
                }
            }
        }
        OperationRequest::OpenResponse { keyset, statement, response, log_policy } => {
            let keyset = chosen(tokens, &keyset)?;
            let statement = SignedStatement::parse(statement.as_slice()).map_err(|error| KeysetError::NotVerified {
                operation: "open the response",
                reason: error.to_string(),
            })?;
            keyset::open_response(tokens, &keyset, &statement, response.into_vec(), log_policy, person, now)?.into()
        }
        OperationRequest::ChangePin { keyset } => {
            keyset::pin_change(tokens, &chosen(tokens, &keyset)?, person)?;
            OperationOutput::PinChanged {}
        }
        OperationRequest::PinStatus { token } => {
            let token = token.as_deref().map(selector).transpose().map_err(usage)?;
            OperationOutput::Pins(FoundPins::new(tokens.pins(token.as_ref())?))
        }
        OperationRequest::UnblockPin { token } => {
            let token = token.as_deref().map(selector).transpose().map_err(usage)?;
            let token = tokens.token_or_only(token.as_ref())?;
            keyset::pin_unblock(tokens, &token, person)?;
            OperationOutput::PinSet(token)
        }
        OperationRequest::DeleteKeyset { keyset } => keyset::delete(tokens, &chosen(tokens, &keyset)?, person)?.into(),
        OperationRequest::Enroll(enroll) => {
            let options = enroll.options().map_err(usage)?;
            let text =
                enroll.letter.into_text().ok_or_else(|| usage("cannot read the letter: it is not text".into()))?;
            let letter = Letter::parse(&text).map_err(|error| usage(error.to_string()))?;
            match keyset::enroll(tokens, transport, &letter, &options, person, now)? {
                Enrollment::Enrolled(enrolled) => OperationOutput::Enrolled(Box::new((*enrolled).into())),
                Enrollment::NotEnrolled(not) => {
                    return Err(KeysetError::Remote { kind: not.kind(), message: not.to_string() });
                }
            }
        }
    })
}

fn chosen(tokens: &Tokens, choice: &WireKeysetChoice) -> Result<FoundKeyset, KeysetError> {
    tokens.choose(&choice.to_choice().map_err(usage)?)
}

fn usage(message: String) -> KeysetError {
    KeysetError::Remote { kind: ErrorKind::Usage, message }
}

/// The transport of operations that send nothing. It rejects every request.
#[derive(Clone, Copy, Debug)]
pub struct NoTransport;

impl NoTransport {
    fn refused<T>() -> Result<T, TransportError> {
        Err(TransportError::Address { url: "anywhere".to_owned(), reason: "this operation sends nothing".to_owned() })
    }
}

impl Transport for NoTransport {
    fn cmp(&self, _message: &[u8]) -> Result<Vec<u8>, TransportError> {
        Self::refused()
    }

    fn ca_certificate(&self) -> Result<Vec<u8>, TransportError> {
        Self::refused()
    }

    fn search_certificates(&self, _email: &str) -> Result<Vec<Vec<u8>>, TransportError> {
        Self::refused()
    }

    fn instance(&self) -> Result<Vec<u8>, TransportError> {
        Self::refused()
    }

    fn statement(&self, _statement: &[u8]) -> Result<Vec<u8>, TransportError> {
        Self::refused()
    }
}
