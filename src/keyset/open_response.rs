//! Opens the authority's response to a statement that travelled as a file.

use jiff::Timestamp;
use zeroize::Zeroizing;

use crate::pki::Certificate;
use crate::smime::{EncryptedMessage, KeyOperation, Message, SmimeError};
use crate::statement::{Answer, SignedResponse, SignedStatement, StatementError};
use crate::token::Ceremony;

use super::checkpoint::{self, Answered, KnownLog};
use super::decrypt::{Way, key_of, open_with, way_of};
use super::index::PrivateIndex;
use super::unlock::{believed_for_use, must_be_usable, unlock};
use super::{FoundKeyset, KeysetError, Person, Tokens};

const OPERATION: &str = "open the response";

/// Checks that the response is the keyset's authority's and answers this statement, and that the authority's audit log is
/// the one that the keyset knows: one PIN, whatever is in it. A letter is opened with the keyset's encryption key and
/// given as [`Answer::Letter`]. A refusal by the authority is in [`Answered::answer`], a log that is another one in
/// [`Answered::alarm`].
///
/// What is not this authority's by the public index is refused before the PIN. It is given only if the private index
/// names the same: whoever changed the public one must not choose what an administrator reads, or hands over.
pub fn open_response(
    tokens: &Tokens,
    keyset: &FoundKeyset,
    statement: &SignedStatement,
    response: Vec<u8>,
    known_log: KnownLog,
    person: &mut dyn Person,
    now: Timestamp,
) -> Result<Answered, KeysetError> {
    must_be_usable(keyset)?;
    let authority = keyset.authority_certificate().and_then(|der| Certificate::from_der(der).ok());
    let authority = authority.ok_or_else(|| KeysetError::Damaged {
        keyset: keyset.name.to_string(),
        token: keyset.token.name().to_string(),
        reason: "its authority's certificate is gone from the token".to_owned(),
    })?;
    let unverified = |error: StatementError| not_verified(error.to_string());
    let response =
        SignedResponse::from_der(response).verify(&authority, statement.digest(), now).map_err(unverified)?;
    let stated = statement.claimed_statement().map_err(unverified)?.known_log;
    let letter = match &response.answer {
        Answer::EncryptedLetter(encrypted) => Some(EncryptedLetter::read(encrypted, keyset)?),
        Answer::Letter(_) => return Err(not_verified("its letter is not encrypted, as one in a file must be")),
        _ => None,
    };

    // The PIN at every level: with it, what was kept of the authority's log is compared, or given up.
    let unlock = unlock(tokens, keyset, OPERATION, person)?;
    let index = believed_for_use(tokens, &unlock, keyset, person)?;
    let ceremony = unlock.ceremony();
    if authority.fingerprint().as_bytes().as_slice() != index.ca_sha256.0 {
        return Err(KeysetError::Refused(format!(
            "cannot use the response: the public index of the keyset {} named another authority than its private one; it \
             was written anew; type the command again",
            keyset.described()
        )));
    }
    let letter = letter.map(|letter| letter.open(&ceremony, &index)).transpose()?;
    let judged = checkpoint::judge(index.audit.as_ref(), stated, &response, authority.fingerprint(), known_log);
    let answer = letter.unwrap_or(response.answer);
    Ok(checkpoint::answered(&ceremony, &index, answer, judged, person))
}

/// A letter that this keyset can open.
struct EncryptedLetter {
    message: EncryptedMessage,
    way: Way,
}

impl EncryptedLetter {
    fn read(encrypted: &[u8], keyset: &FoundKeyset) -> Result<Self, KeysetError> {
        let unreadable = |error: SmimeError| not_verified(error.to_string());
        let message =
            Message::read(encrypted).and_then(|message| EncryptedMessage::parse(&message)).map_err(unreadable)?;
        let way = way_of(keyset.clone(), message.recipients()).ok_or_else(|| {
            KeysetError::NotARecipient(format!(
                "the letter is encrypted to another keyset than {}; name the one that signed the statement (--keyset)",
                keyset.described()
            ))
        })?;
        Ok(Self { message, way })
    }

    fn open(&self, ceremony: &Ceremony, index: &PrivateIndex) -> Result<Answer, KeysetError> {
        let key = key_of(ceremony, index, &self.way)?;
        let opened = open_with(&self.way, &self.message, |operation| match operation {
            KeyOperation::Decrypt { transport, ciphertext } => ceremony.decrypt(&key, transport, ciphertext),
            KeyOperation::Agree { peer_public_key } => ceremony.agree(&key, peer_public_key),
        })?;
        let text = std::str::from_utf8(&opened.content).map_err(|_| not_verified("its letter is not text"))?;
        Ok(Answer::Letter(Zeroizing::new(text.to_owned())))
    }
}

fn not_verified(reason: impl Into<String>) -> KeysetError {
    KeysetError::NotVerified { operation: OPERATION, reason: reason.into() }
}
