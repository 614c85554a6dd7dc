//! Erases a soft token whose PIN is lost, with everything on it.
//!
//! PKCS#11 cannot delete a token, and `C_InitToken` needs the SO PIN, which is random and not
//! stored. SoftHSM stores each token in a directory: the directory is removed while this process
//! owns the token.

use crate::token::{Token, TokenInfo, remove_soft_token};

use super::{FoundKeyset, KeysetError, Tokens};

/// A token that may be erased. This process owns it until the end.
#[derive(Debug)]
pub struct Erasure {
    info: TokenInfo,
    /// dropped last, so that no other process opens the token before
    token: Token,
    keysets: Vec<FoundKeyset>,
}

impl Erasure {
    /// Takes ownership of the token. Refuses an authority's token, a token in use by another
    /// process, and one that cannot be erased.
    pub fn begin(tokens: &Tokens, info: &TokenInfo) -> Result<Self, KeysetError> {
        if !info.manufacturer.starts_with("SoftHSM") {
            return Err(KeysetError::Refused(format!(
                "cannot erase {}: only SoftHSM tokens are files that can be removed; with its SO PIN (PUK), initialize \
                 this one again, using its vendor's tool or `pkcs11-tool --module {} --init-token`",
                info.name(),
                info.source.display()
            )));
        }
        let token = tokens.open(info)?;
        let (keysets, _) = tokens.keysets_on(info)?;
        Ok(Self { info: info.clone(), token, keysets })
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
        remove_soft_token(&self.info.serial).map_err(failed)?;
        drop(self.token);
        Ok(())
    }
}
