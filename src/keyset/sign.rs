//! Signs a message with a keyset's signing key: one use, one PIN.

use jiff::Timestamp;

use crate::pki::Certificate;
use crate::pki::oid::ContentType;
use crate::smime::{self, Placement, SigningOptions};
use crate::token::{KeyId, PinSession, StoredCertificate, TokenKey};

use super::index::KeysetKeyIds;
use super::unlock::{damaged, key_and_certificate, read_private_index_for_use, require_usable, unlock_for_use};
use super::{FoundKeyset, KeysetError, Tokens, UserPrompter};

/// Options for a signature.
#[derive(Clone, Copy, Debug, Default)]
pub struct SignOptions {
    /// omit the content from the message (detached CMS signature)
    pub detached: bool,
}

/// Signs `content` with the keyset's signing key. Returns a CMS `ContentInfo` with `SignedData` in
/// DER, including the certificates of the signer and the authority.
///
/// The content always has the content type *data*, whatever it contains; administrators' statements
/// have their own type, which only [`super::administer()`] signs. At level Medium, a PIN typed for
/// this use also counts as its confirmation.
pub fn sign(
    tokens: &Tokens,
    keyset: &FoundKeyset,
    content: &[u8],
    options: SignOptions,
    person: &mut dyn UserPrompter,
    now: Timestamp,
) -> Result<Vec<u8>, KeysetError> {
    require_usable(keyset)?;
    refuse_expired(keyset, now)?;

    let operation = "sign";
    let pin_session = unlock_for_use(tokens, keyset, operation, person)?;
    let (key, certificate, keys) = signing_key(tokens, &pin_session, keyset, person)?;
    let token = pin_session.token();
    let chain = authority_certificate(token.certificates()?, &keys.authority.key_id());

    let certificate = Certificate::from_der(&certificate.der).map_err(message)?;
    let signing = SigningOptions {
        certificate: &certificate,
        chain: &chain,
        placement: if options.detached { Placement::Detached } else { Placement::Attached },
        signing_time: now,
        content_type: ContentType::DATA,
    };
    let signer = pin_session.sign_with(&key);
    smime::sign(content, &signing, &signer).map_err(|error| match signer.take_error() {
        Some(error) => error.into(),
        None => message(error),
    })
}

/// One use of a keyset's signing key, or the uses that an active session permits, for callers that
/// sign other formats than CMS and have validated the content. The private index names the key.
#[derive(Debug)]
pub struct SigningUse {
    /// the login
    pub pin_session: PinSession,
    /// the signing key
    pub key: TokenKey,
}

/// Unlocks the keyset's signing key for one use, according to its level; `operation` completes
/// "cannot …".
pub fn use_signing_key(
    tokens: &Tokens,
    keyset: &FoundKeyset,
    operation: &'static str,
    person: &mut dyn UserPrompter,
) -> Result<SigningUse, KeysetError> {
    require_usable(keyset)?;
    let pin_session = unlock_for_use(tokens, keyset, operation, person)?;
    let (key, _, _) = signing_key(tokens, &pin_session, keyset, person)?;
    Ok(SigningUse { pin_session, key })
}

/// Reads the signing key and certificate that the private index names.
fn signing_key(
    tokens: &Tokens,
    pin_session: &PinSession,
    keyset: &FoundKeyset,
    person: &mut dyn UserPrompter,
) -> Result<(TokenKey, StoredCertificate, KeysetKeyIds), KeysetError> {
    let token = pin_session.token();
    let index = read_private_index_for_use(tokens, pin_session, keyset, person)?;
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

/// Introduces advice that applies only if the clock is right; text that already names the clock
/// omits it.
pub const UNLESS_THE_CLOCK_IS_WRONG: &str = "; if that clock is right, ";

/// Refuses to sign with an expired certificate before any PIN: every recipient would reject the
/// signature.
pub fn refuse_expired(keyset: &FoundKeyset, now: Timestamp) -> Result<(), KeysetError> {
    refuse_expired_but(keyset, now, "ask an administrator for a letter")
}

/// Like [`refuse_expired`], for an administrator's command: there may be no other administrator to
/// ask.
pub(super) fn refuse_expired_administrator(keyset: &FoundKeyset, now: Timestamp) -> Result<(), KeysetError> {
    let advice = "ask another administrator for a letter, or, if there is none, have `tokenkeep authority \
                  administrator add` run on the authority's machine, which writes one";
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
    // No authority confirmed the time: only the contradiction between clock and certificate is
    // known.
    let where_it_is = if now < begin {
        "before that period: set the clock first".to_owned()
    } else {
        format!("after that period{UNLESS_THE_CLOCK_IS_WRONG}{advice}")
    };
    Err(KeysetError::Refused(format!(
        "cannot sign with the keyset {}: its certificate is valid from {begin} to {end}, and this machine's clock, \
         which may be wrong, says {}: {where_it_is}",
        keyset.described(),
        now.round(jiff::Unit::Second).unwrap_or(now),
    )))
}

fn message(error: impl std::fmt::Display) -> KeysetError {
    KeysetError::Message { operation: "sign", reason: error.to_string() }
}
