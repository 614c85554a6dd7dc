//! The signing key of a keyset: its use, and its expiry.

use jiff::Timestamp;

use crate::pki::Certificate;
use crate::token::{KeyId, PinSession, StoredCertificate, TokenKey};

use super::index::KeysetKeyIds;
use super::unlock::{damaged, key_and_certificate, read_private_index_for_use, require_usable, unlock_for_use};
use super::{FoundKeyset, KeysetError, Purpose, Tokens, UserPrompter};

/// One use of a keyset's signing key, or the uses that an active session permits, for callers that
/// sign other formats than CMS and have validated the content. The private index names the key.
#[derive(Debug)]
pub struct SigningUse {
    /// the login
    pub pin_session: PinSession,
    /// the signing key
    pub key: TokenKey,
}

/// Unlocks the keyset's signing key for one use, according to its level.
pub fn use_signing_key(
    tokens: &Tokens,
    keyset: &FoundKeyset,
    purpose: &Purpose,
    person: &mut dyn UserPrompter,
) -> Result<SigningUse, KeysetError> {
    require_usable(keyset)?;
    let pin_session = unlock_for_use(tokens, keyset, purpose, person)?;
    let (key, _, _) = signing_key(tokens, &pin_session, keyset, person)?;
    Ok(SigningUse { pin_session, key })
}

/// Reads the signing key and certificate that the private index names.
pub(super) fn signing_key(
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

pub(super) fn authority_certificate(certificates: Vec<StoredCertificate>, id: &KeyId) -> Vec<Certificate> {
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
    let Some(certificate) = keyset.signing_certificate() else { return Ok(()) };
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
