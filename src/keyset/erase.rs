//! Erases a soft token whose PIN is lost, with everything on it.
//!
//! PKCS#11 cannot delete a token, and `C_InitToken` needs the SO PIN, which is random and not
//! stored. Only a token that is a file can be removed ([`TokenSource::can_erase`]), while this
//! process owns it.

use crate::token::{Token, TokenInfo, TokenSource};

use super::{FoundKeyset, KeysetError, Tokens};

/// A token that may be erased. This process owns it until the end.
#[derive(Debug)]
pub struct Erasure {
    info: TokenInfo,
    source: TokenSource,
    /// dropped last, so that no other process opens the token before
    token: Token,
    keysets: Vec<FoundKeyset>,
}

impl Erasure {
    /// Takes ownership of the token. Refuses an authority's token, a token in use by another
    /// process, and one that cannot be erased.
    pub fn begin(tokens: &Tokens, info: &TokenInfo) -> Result<Self, KeysetError> {
        let source = tokens.source_of(info)?;
        if !source.can_erase(info) {
            return Err(KeysetError::Refused(format!(
                "cannot erase {}: only SoftHSM tokens are files that can be removed; with its SO PIN (PUK), initialize \
                 this one again, using its vendor's tool or `pkcs11-tool --module {} --init-token`",
                info.name(),
                info.source.display()
            )));
        }
        let token = tokens.open(info)?;
        let (keysets, _) = tokens.keysets_on(info)?;
        Ok(Self { info: info.clone(), source: source.clone(), token, keysets })
    }

    /// The token to erase.
    pub fn token(&self) -> &TokenInfo {
        &self.info
    }

    /// The keysets that would be lost.
    pub fn keysets(&self) -> &[FoundKeyset] {
        &self.keysets
    }

    /// Removes the token and everything on it. This cannot be undone.
    pub fn erase(self) -> Result<(), KeysetError> {
        let failed = |reason: String| KeysetError::Refused(format!("cannot erase {}: {reason}", self.info.name()));
        self.source.erase(&self.info).map_err(failed)?;
        drop(self.token);
        Ok(())
    }
}
