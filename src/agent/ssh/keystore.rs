//! The SSH endpoint's interface to the keystore, which tests implement with software keys, and the
//! selection of a token by the argument of `ssh-add -s` and `-e`.

use std::path::Path;
use std::sync::Arc;

use super::smartcard::Constraints;
use super::{AgentError, Keystore, SigningIdentity, SshError};
use crate::agent::{Requester, SignData};
use crate::keyset::{KeysetChoice, Purpose, TokenSelector};
use crate::prompter::showable;
use crate::token::{KeyAlgorithm, Pin, SecurityLevel, Signature, SignatureHash, TokenInfo, TokenUri};

/// A keystore as the SSH endpoint uses it.
pub(super) trait KeyProvider {
    /// A signing key found by [`KeyProvider::find`].
    type Key;

    /// Calls `each` for every signing key; for none while the agent is locked.
    fn list(&self, each: &mut dyn FnMut(ListedKey<'_>));

    /// The key with this DER `SubjectPublicKeyInfo`.
    fn find(&self, spki_der: &[u8]) -> Option<Self::Key>;

    fn algorithm(key: &Self::Key) -> KeyAlgorithm;

    /// Signs as the level of the key's keyset requires.
    fn sign(
        &self,
        key: &Self::Key,
        hash: SignatureHash,
        data: &[u8],
        purpose: &Purpose,
        requester: &Requester,
    ) -> Result<Signature, AgentError>;

    /// Logs in to the one token that `provider` selects: one try of this PIN, or of a PIN that a
    /// person is asked for.
    fn log_in(
        &self,
        provider: &str,
        pin: Option<Pin>,
        constraints: Constraints,
        requester: &Requester,
    ) -> Result<(), SshError>;

    /// Logs off from the one token that `provider` selects.
    fn log_off(&self, provider: &str) -> Result<(), SshError>;

    /// Logs off from the token of a key.
    fn log_off_from(&self, key: &Self::Key) -> Result<(), AgentError>;

    /// Logs off from all tokens.
    fn log_off_from_all(&self) -> Result<(), AgentError>;

    fn is_locked(&self) -> bool;

    fn lock(&self, pass_phrase: &[u8]) -> Result<(), AgentError>;

    fn unlock(&self, pass_phrase: &[u8]) -> Result<(), AgentError>;
}

/// A key in a listing.
#[derive(Clone, Copy, Debug)]
pub(super) struct ListedKey<'a> {
    pub(super) spki_der: &'a [u8],
    /// the keyset's name and the user's e-mail address
    pub(super) comment: &'a str,
}

impl KeyProvider for Keystore {
    type Key = Arc<SigningIdentity>;

    fn list(&self, each: &mut dyn FnMut(ListedKey<'_>)) {
        for identity in self.identities() {
            let comment = showable(&format!("{} {}", identity.keyset.name.as_str(), identity.user));
            each(ListedKey { spki_der: &identity.spki, comment: &comment });
        }
    }

    fn find(&self, spki_der: &[u8]) -> Option<Self::Key> {
        Self::find(self, spki_der)
    }

    fn algorithm(key: &Self::Key) -> KeyAlgorithm {
        key.algorithm
    }

    fn sign(
        &self,
        key: &Self::Key,
        hash: SignatureHash,
        data: &[u8],
        purpose: &Purpose,
        requester: &Requester,
    ) -> Result<Signature, AgentError> {
        self.use_key(SignData { identity: key, hash, data, purpose }, requester)
    }

    fn log_in(
        &self,
        provider: &str,
        pin: Option<Pin>,
        constraints: Constraints,
        requester: &Requester,
    ) -> Result<(), SshError> {
        let identities = self.identities();
        let meant = find_keyset(&identities, provider)?;
        // `ssh-add -c`. Whether uses are confirmed depends on the keyset's level: a session cannot
        // add a confirmation.
        if constraints.confirm && meant.keyset.level == SecurityLevel::Low {
            return Err(SshError::Constraint(
                "confirm (`-c`): at the keyset's level, low, no use is confirmed".to_owned(),
            ));
        }
        let token = selector(&meant.keyset.token);
        if let Some(pin) = pin {
            self.log_in_with(&token, pin, requester)?;
        } else {
            let name = Some(meant.keyset.name.clone());
            self.log_in(&KeysetChoice { name, token: Some(token), ..KeysetChoice::default() }, requester)?;
        }
        if let Some(lifetime) = constraints.lifetime {
            self.limit_session(&meant.keyset.token, lifetime);
        }
        Ok(())
    }

    fn log_off(&self, provider: &str) -> Result<(), SshError> {
        let identities = self.identities();
        Self::log_off(self, Some(&selector(&find_keyset(&identities, provider)?.keyset.token)))?;
        Ok(())
    }

    fn log_off_from(&self, key: &Self::Key) -> Result<(), AgentError> {
        Self::log_off(self, Some(&selector(&key.keyset.token))).map(|_| ())
    }

    fn log_off_from_all(&self) -> Result<(), AgentError> {
        Self::log_off(self, None).map(|_| ())
    }

    fn is_locked(&self) -> bool {
        Self::is_locked(self)
    }

    fn lock(&self, pass_phrase: &[u8]) -> Result<(), AgentError> {
        Self::lock(self, pass_phrase)
    }

    fn unlock(&self, pass_phrase: &[u8]) -> Result<(), AgentError> {
        Self::unlock(self, pass_phrase)
    }
}

fn selector(token: &TokenInfo) -> TokenSelector {
    TokenSelector::Uri(Box::new(TokenUri::of(token)))
}

/// Selects a token by the path of its PKCS#11 module (the usual argument of `ssh-add -s`), by its
/// URI, label or serial number, or by the name of a keyset on it. Returns the matching keyset with
/// the lowest level.
///
/// # Errors
/// No token matches, or several do: a PIN must go to one token only.
fn find_keyset<'i>(identities: &'i [Arc<SigningIdentity>], provider: &str) -> Result<&'i SigningIdentity, SshError> {
    let refused = |reason| Err(SshError::Provider { provider: provider.chars().take(200).collect(), reason });
    let uri: Option<TokenUri> = match provider.strip_prefix("pkcs11:").map(|_| provider.parse()) {
        Some(Ok(uri)) => Some(uri),
        Some(Err(_)) => return refused("it is not a valid PKCS#11 URI"),
        None => None,
    };
    let is_meant = |identity: &SigningIdentity| {
        let token = &identity.keyset.token;
        match &uri {
            Some(uri) => uri.matches(token),
            None if provider.contains('/') => is_same_file(Path::new(provider), &token.source),
            None => identity.keyset.name.as_str() == provider || token.label == provider || token.serial == provider,
        }
    };
    let fitting: Vec<&SigningIdentity> =
        identities.iter().map(Arc::as_ref).filter(|identity| is_meant(identity)).collect();
    let Some(first) = fitting.first() else {
        return refused("no token with a usable keyset matches");
    };
    let is_elsewhere = |identity: &&SigningIdentity| identity.keyset.token.id() != first.keyset.token.id();
    if fitting.iter().any(is_elsewhere) {
        return refused("several tokens match; name one keyset, or one token by its URI (`tokenkeep token list`)");
    }
    fitting.into_iter().min_by_key(|identity| identity.keyset.level).ok_or(SshError::NoSuchKey)
}

/// Compares canonical paths, because modules are often named through links
/// (`/usr/lib/x86_64-linux-gnu/…`).
fn is_same_file(one: &Path, other: &Path) -> bool {
    one == other || one.canonicalize().is_ok_and(|one| other.canonicalize().is_ok_and(|other| one == other))
}
