//! The seven keys on the authority's token. Each has one use, and none can be extracted.

use sha2::{Digest as _, Sha256};

use crate::token::check::StoredObject;
use crate::token::{
    AuthorityKey, AuthorityToken, KeyAlgorithm, KeyId, PinState, SecretKey, TokenError, TokenInfo, TokenName,
};

use super::{AuthorityError, Configuration};

const CA: &str = "CA signing key";
const RESPONSE: &str = "CMP response key";
const AUDIT: &str = "audit key";
const TLS: &str = "TLS server key";
const ARCHIVE: &str = "archive key";
const RECORD_MAC: &str = "record MAC key";
const TEMPORARY: &str = "temporary-key HMAC key";

/// The algorithm of the keys that sign CMP responses, checkpoints and TLS handshakes.
pub(super) const SERVICE_KEY_ALGORITHM: KeyAlgorithm = KeyAlgorithm::P256;

#[cfg(test)]
thread_local! {
    /// The number of MACs that the token made for this thread: tests count the cost of a message
    /// instead of timing it.
    pub(super) static MAC_COUNT: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// The authority's keys on its token.
#[derive(Debug, Clone)]
pub(super) struct TokenKeys {
    /// The token that holds the keys.
    pub(super) token: AuthorityToken,
    /// Signs certificates.
    pub(super) ca: AuthorityKey,
    /// Signs CMP messages and responses to statements.
    pub(super) response: AuthorityKey,
    /// Signs checkpoints of the log.
    pub(super) audit: AuthorityKey,
    /// Signs TLS handshakes.
    pub(super) tls: AuthorityKey,
    /// Wraps users' encryption keys.
    pub(super) archive: SecretKey,
    /// Seals records.
    pub(super) record_mac: SecretKey,
    /// Derives temporary keys.
    pub(super) temporary: SecretKey,
}

impl TokenKeys {
    /// Computes a MAC with a key on the token.
    pub(super) fn mac(&self, key: &SecretKey, bytes: &[u8]) -> Result<[u8; 32], TokenError> {
        #[cfg(test)]
        MAC_COUNT.set(MAC_COUNT.get() + 1);
        self.token.mac(key, bytes)
    }

    /// Finds the keys on a token with an active login. The error names a missing or duplicate key.
    pub(super) fn find(token: &AuthorityToken) -> Result<Self, AuthorityError> {
        let signing = token.keys()?;
        let secret = token.secret_keys()?;
        Ok(Self {
            token: token.clone(),
            ca: only(CA, signing.iter().filter(|key| key.label() == CA))?,
            response: only(RESPONSE, signing.iter().filter(|key| key.label() == RESPONSE))?,
            audit: only(AUDIT, signing.iter().filter(|key| key.label() == AUDIT))?,
            tls: only(TLS, signing.iter().filter(|key| key.label() == TLS))?,
            archive: only(ARCHIVE, secret.iter().filter(|key| key.label() == ARCHIVE))?,
            record_mac: only(RECORD_MAC, secret.iter().filter(|key| key.label() == RECORD_MAC))?,
            temporary: only(TEMPORARY, secret.iter().filter(|key| key.label() == TEMPORARY))?,
        })
    }

    /// Describes all keys, so that another process can look for them on the token.
    pub(super) fn stored(&self) -> Vec<StoredObject> {
        let signing = [&self.ca, &self.response, &self.audit, &self.tls].into_iter().map(|key| StoredObject::Key {
            id: hex::encode(key.id().as_bytes()),
            sha256: Some(hex::encode(Sha256::digest(key.public_key_der()))),
        });
        let secret = [&self.archive, &self.record_mac, &self.temporary]
            .map(|key| StoredObject::SecretKey { id: hex::encode(key.id().as_bytes()) });
        signing.chain(secret).collect()
    }

    /// Generates the missing keys (an interrupted `init` may have made some), and returns them all.
    pub(super) fn make(token: &AuthorityToken, ca: KeyAlgorithm) -> Result<Self, AuthorityError> {
        let signing = token.keys()?;
        for (label, algorithm) in
            [(CA, ca), (RESPONSE, SERVICE_KEY_ALGORITHM), (AUDIT, SERVICE_KEY_ALGORITHM), (TLS, SERVICE_KEY_ALGORITHM)]
        {
            if !signing.iter().any(|key| key.label() == label) {
                token.generate_signing_key(label, &KeyId::random()?, algorithm)?;
                super::crash_point("authority.init.after_key");
            }
        }
        let secret = token.secret_keys()?;
        let exists = |label: &str| secret.iter().any(|key| key.label() == label);
        if !exists(ARCHIVE) {
            token.generate_archive_key(ARCHIVE, &KeyId::random()?)?;
            super::crash_point("authority.init.after_key");
        }
        for label in [RECORD_MAC, TEMPORARY] {
            if !exists(label) {
                token.generate_mac_key(label, &KeyId::random()?)?;
                super::crash_point("authority.init.after_key");
            }
        }
        let keys = Self::find(token)?;
        if keys.ca.algorithm() != ca {
            return Err(AuthorityError::Mismatch(format!(
                "the interrupted `init` made a {} CA key, but the configuration now names {ca}",
                keys.ca.algorithm()
            )));
        }
        Ok(keys)
    }
}

fn only<'a, K: Clone + 'a>(label: &str, mut found: impl Iterator<Item = &'a K>) -> Result<K, AuthorityError> {
    match (found.next(), found.next()) {
        (Some(key), None) => Ok(key.clone()),
        (None, _) => Err(AuthorityError::Mismatch(format!("the token has no {label}"))),
        (Some(_), Some(_)) => Err(AuthorityError::Mismatch(format!("the token has more than one {label}"))),
    }
}

/// Returns the authority's token if its PIN has one try left, so that a person can be warned before
/// the PIN prompt. Errors are left to the opening of the
/// authority.
pub fn token_at_last_pin_try(configuration: &Configuration) -> Option<TokenName> {
    let tokens = configuration.token_source().and_then(|source| Ok(source.tokens()?)).unwrap_or_default();
    let is_ours_at_last_try = |label: &str, state| label == configuration.token.label && state == PinState::FinalTry;
    tokens.iter().find(|token| is_ours_at_last_try(&token.label, token.pin_state)).map(TokenInfo::name)
}
