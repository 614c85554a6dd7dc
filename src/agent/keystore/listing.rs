//! Listings for clients: without a PIN, without keysets hidden on this machine, and nothing while
//! the keystore is locked.

use std::sync::Arc;

use super::hidden::is_among;
use super::rescan::OperationGuard;
use super::{Keystore, SigningIdentity, TokenState};
use crate::agent::AgentError;
use crate::keyset::{FoundKeyset, KeysetChoice, KeysetRef, TokenSearch, UnreadableToken};
use crate::token::TokenInfo;

impl Keystore {
    /// The signing keys of all active keysets that are not hidden, on all tokens, without a PIN.
    /// Reads the tokens again if the last listing is older than two seconds. Empty while the
    /// keystore is locked.
    pub fn identities(&self) -> Vec<Arc<SigningIdentity>> {
        if self.lock.is_locked() {
            return Vec::new();
        }
        self.scan_tokens_if_stale();
        shown(self.key_cache.list(), &self.hidden.list())
    }

    /// The identity of a keyset that was found; also of a hidden one, which was then named. `None`
    /// while locked.
    pub fn identity_of(&self, keyset: &FoundKeyset) -> Option<Arc<SigningIdentity>> {
        if self.lock.is_locked() {
            return None;
        }
        self.scan_tokens_if_stale();
        let is_meant = |identity: &Arc<SigningIdentity>| {
            let other = &identity.keyset;
            other.is_same_keyset(keyset) && other.signing == keyset.signing
        };
        self.key_cache.list().into_iter().find(is_meant)
    }

    /// The identity with this public key (DER `SubjectPublicKeyInfo`); `None` while locked.
    pub fn find(&self, spki: &[u8]) -> Option<Arc<SigningIdentity>> {
        if self.lock.is_locked() {
            return None;
        }
        let hidden = self.hidden.list();
        // A hidden keyset may share its key with one that is not hidden.
        let find = || match self.key_cache.find(spki)? {
            identity if !is_among(&hidden, &identity.keyset) => Some(identity),
            _ => shown(self.key_cache.list(), &hidden).into_iter().find(|identity| identity.spki == spki),
        };
        if let Some(identity) = find() {
            return Some(identity);
        }
        self.scan_tokens_if_stale();
        find()
    }

    /// The tokens that are present, including an authority's, which is never used.
    ///
    /// # Errors
    /// The keystore is locked, or no module works.
    pub fn tokens(&self) -> Result<Vec<TokenState>, AgentError> {
        self.lock.check_unlocked("list the tokens")?;
        let _using = OperationGuard::begin(&self.uses);
        self.scan_tokens_if_stale();
        let listed = self.tokens.list_with_pin_states()?;
        // Read the sessions afterwards: listing takes a while, and a session may end meanwhile.
        let active_sessions = self.tokens.active_sessions();
        let has_active_session = |info: &TokenInfo| active_sessions.iter().any(|token| token.info().id() == info.id());
        Ok(listed.into_iter().map(|info| TokenState { logged_in: has_active_session(&info), info }).collect())
    }

    /// The keysets that are present and not hidden, and the tokens that could not be read.
    ///
    /// # Errors
    /// The keystore is locked, or no module works.
    pub fn keysets(&self) -> Result<(Vec<FoundKeyset>, Vec<UnreadableToken>), AgentError> {
        self.lock.check_unlocked("list the keysets")?;
        let _using = OperationGuard::begin(&self.uses);
        self.scan_tokens_if_stale();
        let (mut keysets, unreadable_tokens) = self.tokens.keysets()?;
        let hidden = self.hidden.list();
        keysets.retain(|keyset| !is_among(&hidden, keyset));
        Ok((keysets, unreadable_tokens))
    }

    /// The one keyset that the choice selects.
    ///
    /// # Errors
    /// The keystore is locked, or no keyset or several match.
    pub fn choose(&self, choice: &KeysetChoice) -> Result<FoundKeyset, AgentError> {
        self.lock.check_unlocked("find the keyset")?;
        let choice = self.hidden.added_to(choice);
        self.ensure_present(&choice);
        Ok(self.tokens.choose(&choice)?)
    }
}

/// Removes hidden keysets.
fn shown(mut identities: Vec<Arc<SigningIdentity>>, hidden: &[KeysetRef]) -> Vec<Arc<SigningIdentity>> {
    identities.retain(|identity| !is_among(hidden, &identity.keyset));
    identities
}
