//! Signs a message with a keyset's signing key: one use, one PIN.

use jiff::Timestamp;

use crate::pki::Certificate;
use crate::pki::oid::ContentType;
use crate::smime::{self, Placement, Signing};
use crate::token::{KeyId, StoredCertificate, TokenKey, Unlock};

use super::index::Keys;
use super::unlock::{believed_for_use, damaged, key_and_certificate, must_be_usable, unlock_for_use};
use super::{FoundKeyset, KeysetError, Person, Tokens};

/// How to sign.
#[derive(Clone, Copy, Debug, Default)]
pub struct SignOptions {
    /// leave the content out of the signature (CMS detached)
    pub detached: bool,
}

/// Signs `content` with the keyset's signing key. Returns DER of a CMS `ContentInfo` with `SignedData`, the signer's and
/// the authority's certificates included.
///
/// The content is signed as data, whatever it is: what speaks for an administrator has a content type of its own, which
/// only [`super::administer()`] signs. At level Medium the PIN, typed for this one use, is the confirmation of it too.
pub fn sign(
    tokens: &Tokens,
    keyset: &FoundKeyset,
    content: &[u8],
    options: SignOptions,
    person: &mut dyn Person,
    now: Timestamp,
) -> Result<Vec<u8>, KeysetError> {
    must_be_usable(keyset)?;
    refuse_expired(keyset, now)?;

    let operation = "sign";
    let unlock = unlock_for_use(tokens, keyset, operation, person)?;
    let (key, certificate, keys) = signing_key(tokens, &unlock, keyset, person)?;
    let token = unlock.token();
    let chain = authority_certificate(token.certificates()?, &keys.authority.key_id());

    let certificate = Certificate::from_der(&certificate.der).map_err(message)?;
    let signing = Signing {
        certificate: &certificate,
        chain: &chain,
        placement: if options.detached { Placement::Detached } else { Placement::Attached },
        signing_time: now,
        content_type: ContentType::DATA,
    };
    let signer = unlock.sign_with(&key);
    smime::sign(content, &signing, &signer).map_err(|error| match signer.take_error() {
        Some(error) => error.into(),
        None => message(error),
    })
}

/// One use of a keyset's signing key, or, where a log-in stands, of what it entitles to: for who signs something else
/// than CMS, and has read and understood what. The key is the one that the private index names.
#[derive(Debug)]
pub struct SigningUse {
    /// the log-in
    pub unlock: Unlock,
    /// the key
    pub key: TokenKey,
}

/// Unlocks the keyset's signing key for one use, by its level; `operation` completes "cannot …".
pub fn use_signing_key(
    tokens: &Tokens,
    keyset: &FoundKeyset,
    operation: &'static str,
    person: &mut dyn Person,
) -> Result<SigningUse, KeysetError> {
    must_be_usable(keyset)?;
    let unlock = unlock_for_use(tokens, keyset, operation, person)?;
    let (key, _, _) = signing_key(tokens, &unlock, keyset, person)?;
    Ok(SigningUse { unlock, key })
}

/// Key and certificate by the index that is believed.
fn signing_key(
    tokens: &Tokens,
    unlock: &Unlock,
    keyset: &FoundKeyset,
    person: &mut dyn Person,
) -> Result<(TokenKey, StoredCertificate, Keys), KeysetError> {
    let token = unlock.token();
    let index = believed_for_use(tokens, unlock, keyset, person)?;
    let keys = index.keyset.keys.ok_or_else(|| damaged(token, &keyset.name, "its enrollment is not finished"))?;
    let (key, certificate) = key_and_certificate(token, &keyset.name, &keys.signing)?;
    Ok((key, certificate, keys))
}

fn authority_certificate(certificates: Vec<StoredCertificate>, id: &KeyId) -> Vec<Certificate> {
    certificates
        .into_iter()
        .filter(|certificate| certificate.id == *id)
        .filter_map(|certificate| Certificate::from_der(&certificate.der).ok())
        .collect()
}

/// How advice begins that is none where the clock is wrong: a sentence that names the clock first leaves it out.
pub const UNLESS_THE_CLOCK_IS_WRONG: &str = "; if that clock is right, ";

/// A signature under a certificate that is over would be refused by everybody; said before any PIN.
pub fn refuse_expired(keyset: &FoundKeyset, now: Timestamp) -> Result<(), KeysetError> {
    refuse_expired_but(keyset, now, "ask an administrator for a letter")
}

/// The same of an administrator's command, where there may be no other administrator to ask.
pub(super) fn refuse_expired_administrator(keyset: &FoundKeyset, now: Timestamp) -> Result<(), KeysetError> {
    let advice = "ask another administrator for a letter, or, where there is none, have `tokenkeep authority \
                  administrator add` typed on the authority's machine, which writes one";
    refuse_expired_but(keyset, now, advice)
}

fn refuse_expired_but(keyset: &FoundKeyset, now: Timestamp, advice: &str) -> Result<(), KeysetError> {
    let certificate = keyset.signing.as_ref().and_then(|id| keyset.certificate_of(id));
    let Some(Ok(certificate)) = certificate.map(|certificate| Certificate::from_der(&certificate.der)) else {
        return Ok(());
    };
    if certificate.is_valid_at(now) {
        return Ok(());
    }
    let (begin, end) = (certificate.not_before(), certificate.not_after());
    // No authority has said what time it is: all that is known is that clock and certificate do not fit.
    let where_it_is = if now < begin {
        "before its begin: set the clock first".to_owned()
    } else {
        format!("after its end{UNLESS_THE_CLOCK_IS_WRONG}{advice}")
    };
    Err(KeysetError::Refused(format!(
        "cannot sign with the keyset {}: its certificate is valid from {begin} to {end}, and this machine's clock, which \
         may be wrong, says {}: {where_it_is}",
        keyset.described(),
        now.round(jiff::Unit::Second).unwrap_or(now),
    )))
}

fn message(error: impl std::fmt::Display) -> KeysetError {
    KeysetError::Message { operation: "sign", reason: error.to_string() }
}
