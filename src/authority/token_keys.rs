//! The seven keys on the authority's token. Each has one use, and none can be extracted.

use sha2::{Digest as _, Sha256};

use crate::crash_point::reached as crash_point;
use crate::token::check::StoredObject;
use crate::token::{AuthorityKey, AuthorityToken, KeyAlgorithm, KeyId, SecretKey, TokenError};

use super::AuthorityError;

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
                crash_point("authority.init.after_key");
            }
        }
        let secret = token.secret_keys()?;
        let exists = |label: &str| secret.iter().any(|key| key.label() == label);
        if !exists(ARCHIVE) {
            token.generate_archive_key(ARCHIVE, &KeyId::random()?)?;
            crash_point("authority.init.after_key");
        }
        for label in [RECORD_MAC, TEMPORARY] {
            if !exists(label) {
                token.generate_mac_key(label, &KeyId::random()?)?;
                crash_point("authority.init.after_key");
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
