//! Runs an operation on the local tokens, with the same functions that a command calls without an
//! agent.

use jiff::Timestamp;

use super::request::selector;
use super::{ActAnswer, ActRequest, Choice, FoundKeysets, FoundPins, OnlineOrFile};
use crate::carrier::Carrier;
use crate::keyset::{self, Enrollment, ErrorKind, FoundKeyset, KeysetError, Person, SignOptions, Tokens};
use crate::letter::Letter;
use crate::statement::SignedStatement;

/// Runs the operation. The operation decides when it asks `person` and sends with `carrier`.
///
/// # Errors
/// The operation's own errors, unchanged; an enrollment that ended without a keyset is
/// [`KeysetError::Told`].
pub fn perform(
    request: ActRequest,
    tokens: &Tokens,
    person: &mut dyn Person,
    carrier: &dyn Carrier,
    now: Timestamp,
) -> Result<ActAnswer, KeysetError> {
    Ok(match request {
        ActRequest::ListTokens {} => ActAnswer::Tokens(tokens.list_as_of_now()?),
        ActRequest::ListKeysets {} => ActAnswer::Keysets(FoundKeysets::new(tokens.keysets()?)),
        ActRequest::ChooseKeyset(choice) => ActAnswer::Keyset(Box::new(chosen(tokens, &choice)?.into())),
        ActRequest::Sign { keyset, content, detached } => {
            let keyset = chosen(tokens, &keyset)?;
            let options = SignOptions { detached };
            ActAnswer::Signed(keyset::sign(tokens, &keyset, content.as_slice(), options, person, now)?.into())
        }
        ActRequest::Decrypt { keyset, message } => {
            let choice = keyset.to_choice().map_err(usage)?;
            keyset::decrypt(tokens, &choice, message.as_slice(), person)?.into()
        }
        ActRequest::OpenRecipient { keyset, recipient_info, key_length } => {
            let choice = keyset.to_choice().map_err(usage)?;
            let recipient_info = recipient_info.as_slice();
            let (mut key, keyset) = keyset::open_recipient(tokens, &choice, recipient_info, key_length, person)?;
            ActAnswer::ContentKey { key: std::mem::take(&mut *key).into(), keyset }
        }
        ActRequest::Administer { keyset, order, way, known_log } => {
            let keyset = chosen(tokens, &keyset)?;
            match way {
                OnlineOrFile::Online => {
                    keyset::administer(tokens, &keyset, carrier, order.into(), known_log, person, now)?.into()
                }
                OnlineOrFile::File => {
                    let signed = keyset::sign_for_a_file(tokens, &keyset, order.into(), known_log, person, now)?;
                    ActAnswer::Signed(signed.as_der().into())
                }
            }
        }
        ActRequest::OpenResponse { keyset, statement, response, known_log } => {
            let keyset = chosen(tokens, &keyset)?;
            let statement = SignedStatement::parse(statement.as_slice()).map_err(|error| KeysetError::NotVerified {
                operation: "open the response",
                reason: error.to_string(),
            })?;
            keyset::open_response(tokens, &keyset, &statement, response.into_vec(), known_log, person, now)?.into()
        }
        ActRequest::ChangePin { keyset } => {
            keyset::pin_change(tokens, &chosen(tokens, &keyset)?, person)?;
            ActAnswer::PinChanged {}
        }
        ActRequest::LookAtPins { token } => {
            let token = token.as_deref().map(selector).transpose().map_err(usage)?;
            ActAnswer::Pins(FoundPins::new(tokens.pins(token.as_ref())?))
        }
        ActRequest::UnblockPin { token } => {
            let token = token.as_deref().map(selector).transpose().map_err(usage)?;
            let token = tokens.token_or_only(token.as_ref())?;
            let nobody = || usage("cannot set a new PIN: no SO PIN is available here".to_owned());
            keyset::pin_unblock(tokens, &token, person.security_officer().ok_or_else(nobody)?)?;
            ActAnswer::PinSet(token)
        }
        ActRequest::DeleteKeyset { keyset } => keyset::delete(tokens, &chosen(tokens, &keyset)?, person)?.into(),
        ActRequest::Enroll(enroll) => {
            let options = enroll.options().map_err(usage)?;
            let text =
                enroll.letter.into_text().ok_or_else(|| usage("cannot read the letter: it is not text".into()))?;
            let letter = Letter::parse(&text).map_err(|error| usage(error.to_string()))?;
            match keyset::enroll(tokens, carrier, &letter, &options, person, now)? {
                Enrollment::Enrolled(enrolled) => ActAnswer::Enrolled(Box::new((*enrolled).into())),
                Enrollment::NotEnrolled(not) => {
                    return Err(KeysetError::Told { kind: not.kind(), message: not.to_string() });
                }
            }
        }
    })
}

fn chosen(tokens: &Tokens, choice: &Choice) -> Result<FoundKeyset, KeysetError> {
    tokens.choose(&choice.to_choice().map_err(usage)?)
}

fn usage(message: String) -> KeysetError {
    KeysetError::Told { kind: ErrorKind::Usage, message }
}
