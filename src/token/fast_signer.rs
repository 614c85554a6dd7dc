//! Signs repeatedly during an active session, without the cost of a single signature.

use super::pkcs11::PooledSigner;
use super::{Signature, SignatureHash, Token, TokenError, TokenKey};

/// Signs with one key during the active session of its token. Threads may share it; clones share
/// what it keeps ready.
#[derive(Clone, Debug)]
pub struct FastSigner {
    // First, so that its sessions close before the token is released.
    signer: PooledSigner,
    key: TokenKey,
}

impl Token {
    /// A signer for a key of this token, for use during the active session.
    pub fn fast_signer(&self, key: &TokenKey) -> FastSigner {
        FastSigner { signer: PooledSigner::new(self.pkcs11(), key), key: key.clone() }
    }
}

impl FastSigner {
    /// The signing key.
    pub fn key(&self) -> &TokenKey {
        &self.key
    }

    /// Signs. [`TokenError::NotLoggedIn`] without an active session, [`TokenError::PinEachUse`] for
    /// a key of level High.
    pub fn sign(&self, hash: SignatureHash, message: &[u8]) -> Result<Signature, TokenError> {
        self.signer.sign(hash, message)
    }
}
