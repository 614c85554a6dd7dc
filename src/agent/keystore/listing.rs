//! What is there, as clients may know it: without any PIN, without what is hidden on this machine, and nothing while the
//! keystore is locked.

use std::sync::Arc;

use super::catalogue::is_at;
use super::hidden::{is_among, shown};
use super::rescan::Acting;
use super::{Identity, Keystore, TokenState};
use crate::agent::AgentError;
use crate::keyset::{FoundKeyset, KeysetChoice, TokenTrouble};
use crate::token::TokenInfo;

impl Keystore {
    /// The signing keys of all active keysets, on all tokens, but of those that are hidden: known
    /// without a PIN. Read again when the last reading is older than two seconds; empty while the
    /// keystore is locked.
    pub fn identities(&self) -> Vec<Arc<Identity>> {
        if self.inner.locked.is_locked() {
            return Vec::new();
        }
        self.inner.see_new_tokens_now_and_then();
        shown(self.inner.catalogue.list(), &self.inner.hidden_keysets())
    }

    /// The identity of a keyset that was found; also of one that is hidden, which was named then.
    pub fn identity_of(&self, keyset: &FoundKeyset) -> Option<Arc<Identity>> {
        if self.inner.locked.is_locked() {
            return None;
        }
        self.inner.see_new_tokens_now_and_then();
        let is_meant = |identity: &Arc<Identity>| {
            let other = &identity.keyset;
            other.name == keyset.name && other.token.serial == keyset.token.serial && other.signing == keyset.signing
        };
        self.inner.catalogue.list().into_iter().find(is_meant)
    }

    /// The identity with this public key (DER `SubjectPublicKeyInfo`); none while the keystore is locked.
    pub fn find(&self, spki: &[u8]) -> Option<Arc<Identity>> {
        if self.inner.locked.is_locked() {
            return None;
        }
        let hidden = self.inner.hidden_keysets();
        // Where the key is known of one that is hidden, another with the same key may not be.
        let find = || match self.inner.catalogue.find(spki)? {
            identity if !is_among(&hidden, &identity.keyset) => Some(identity),
            _ => shown(self.inner.catalogue.list(), &hidden).into_iter().find(|identity| identity.spki == spki),
        };
        if let Some(identity) = find() {
            return Some(identity);
        }
        self.inner.see_new_tokens_now_and_then();
        find()
    }

    /// The tokens that are there; an authority's among them, though it is never used.
    ///
    /// # Errors
    /// Locked, or no module works.
    pub fn tokens(&self) -> Result<Vec<TokenState>, AgentError> {
        self.inner.refuse_if_locked("list the tokens")?;
        let _using = Acting::begin(&self.inner.uses);
        self.inner.see_new_tokens_now_and_then();
        self.inner.look_at_pins_elsewhere();
        let listed = self.inner.tokens.list_as_of_now()?;
        // Afterwards: to list takes a while, in which log-ins end.
        let standing = self.inner.tokens.standing();
        let stands = |info: &TokenInfo| {
            standing.iter().any(|token| is_at(token.info(), info)) || self.inner.stands_elsewhere(info)
        };
        Ok(listed.into_iter().map(|info| TokenState { logged_in: stands(&info), info }).collect())
    }

    /// The keysets that are there but those that are hidden, and what could not be looked at.
    ///
    /// # Errors
    /// Locked, or no module works.
    pub fn keysets(&self) -> Result<(Vec<FoundKeyset>, Vec<TokenTrouble>), AgentError> {
        self.inner.refuse_if_locked("list the keysets")?;
        let _using = Acting::begin(&self.inner.uses);
        self.inner.see_new_tokens_now_and_then();
        let (mut keysets, trouble) = self.inner.tokens.keysets()?;
        let hidden = self.inner.hidden_keysets();
        keysets.retain(|keyset| !is_among(&hidden, keyset));
        Ok((keysets, trouble))
    }

    /// The one keyset that is meant.
    ///
    /// # Errors
    /// Locked, none, or several.
    pub fn choose(&self, choice: &KeysetChoice) -> Result<FoundKeyset, AgentError> {
        self.inner.refuse_if_locked("find the keyset")?;
        let choice = self.inner.with_hidden(choice);
        self.inner.make_sure_of(&choice);
        Ok(self.inner.tokens.choose(&choice)?)
    }
}
