//! Removes a soft token whose PIN nobody has, with everything on it.
//!
//! PKCS#11 cannot delete a token, and a token whose SO PIN is random and forgotten cannot be initialized again. SoftHSM's
//! tokens are directories: the one of this token is removed while this process is the token's owner.

use std::fs;

use crate::token::{SoftHsmConfiguration, Token, TokenInfo};

use super::{FoundKeyset, KeysetError, Tokens};

/// A token that may be erased, held by this process until it is.
#[derive(Debug)]
pub struct Erasure {
    info: TokenInfo,
    /// dropped last: nobody else opens the token meanwhile
    token: Token,
    keysets: Vec<FoundKeyset>,
}

impl Erasure {
    /// Becomes the token's owner, and refuses one that is an authority's, that another process holds, or that cannot be
    /// erased.
    pub fn begin(tokens: &Tokens, info: &TokenInfo) -> Result<Self, KeysetError> {
        if !info.manufacturer.starts_with("SoftHSM") {
            return Err(KeysetError::Refused(format!(
                "cannot erase {}: only SoftHSM's tokens are files that can be removed; whoever has its SO PIN (PUK) can \
                 initialize this one again, with its maker's tool or `pkcs11-tool --module {} --init-token`",
                info.name(),
                info.module.display()
            )));
        }
        let token = tokens.open(info)?;
        let (keysets, _) = tokens.keysets_on(info)?;
        Ok(Self { info: info.clone(), token, keysets })
    }

    /// The token.
    pub fn token(&self) -> &TokenInfo {
        &self.info
    }

    /// The keysets that would be lost.
    pub fn keysets(&self) -> &[FoundKeyset] {
        &self.keysets
    }

    /// Removes the token and everything on it, for good.
    pub fn erase(self) -> Result<(), KeysetError> {
        let failed = |reason: String| KeysetError::Refused(format!("cannot erase {}: {reason}", self.info.name()));
        let configuration = SoftHsmConfiguration::of_this_process()
            .map_err(|problem| failed(format!("{}; {}", problem.what, problem.remedy)))?;
        let directory = configuration.directory_of(&self.info.serial).map_err(&failed)?;
        fs::remove_dir_all(&directory).map_err(|error| {
            failed(format!("{} cannot be removed: {error}; what is left of it is no whole token", directory.display()))
        })?;
        drop(self.token);
        Ok(())
    }
}
