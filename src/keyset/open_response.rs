//! Opens the authority's response to a statement that travelled as a file.

use jiff::Timestamp;
use zeroize::Zeroizing;

use crate::pki::Certificate;
use crate::smime::{EncryptedMessage, Message, SmimeError};
use crate::statement::{Answer, Response, SignedResponse, SignedStatement};

use super::decrypt::{open_by, way_of};
use super::unlock::must_be_usable;
use super::{FoundKeyset, KeysetError, Person, Tokens};

const OPERATION: &str = "open the response";

/// Checks that the response is the keyset's authority's and answers this statement. A letter in it is opened with the
/// keyset's encryption key, one PIN, and given as [`Answer::Letter`]; other answers ask for no PIN. A refusal by the
/// authority is in [`Response::answer`].
///
/// Without a PIN the authority is the one in the public index. A letter is given only if the private index names the
/// same: whoever changed the public one must not choose the letter that an administrator hands over.
pub fn open_response(
    tokens: &Tokens,
    keyset: &FoundKeyset,
    statement: &SignedStatement,
    response: Vec<u8>,
    person: &mut dyn Person,
    now: Timestamp,
) -> Result<Response, KeysetError> {
    must_be_usable(keyset)?;
    let authority = keyset.authority_certificate().and_then(|der| Certificate::from_der(der).ok());
    let authority = authority.ok_or_else(|| KeysetError::Damaged {
        keyset: keyset.name.to_string(),
        token: keyset.token.name().to_string(),
        reason: "its authority's certificate is gone from the token".to_owned(),
    })?;
    let response = SignedResponse::from_der(response)
        .verify(&authority, statement.digest(), now)
        .map_err(|error| not_verified(error.to_string()))?;
    let encrypted = match &response.answer {
        Answer::EncryptedLetter(encrypted) => encrypted,
        Answer::Letter(_) => return Err(not_verified("its letter is not encrypted, as one in a file must be")),
        _ => return Ok(response),
    };
    let unreadable = |error: SmimeError| not_verified(error.to_string());
    let message = Message::read(encrypted).and_then(|message| EncryptedMessage::parse(&message)).map_err(unreadable)?;
    let way = way_of(keyset.clone(), &message).ok_or_else(|| {
        KeysetError::NotARecipient(format!(
            "the letter is encrypted to another keyset than {}; name the one that signed the statement (--keyset)",
            keyset.described()
        ))
    })?;
    let (opened, index) = open_by(tokens, &way, &message, OPERATION, person)?;
    if authority.fingerprint().as_bytes().as_slice() != index.ca_sha256.0 {
        return Err(KeysetError::Refused(format!(
            "cannot use the letter: the public index of the keyset {} named another authority than its private one; it \
             was written anew; type the command again",
            keyset.described()
        )));
    }
    let text = std::str::from_utf8(&opened.content).map_err(|_| not_verified("its letter is not text"))?;
    Ok(Response { answer: Answer::Letter(Zeroizing::new(text.to_owned())), ..response })
}

fn not_verified(reason: impl Into<String>) -> KeysetError {
    KeysetError::NotVerified { operation: OPERATION, reason: reason.into() }
}
