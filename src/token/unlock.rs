//! One PIN, one act: what the user's side may do with a PIN that was just typed.

use zeroize::Zeroizing;

use super::{Ceremony, KeyTransport, Pin, PublicKey, Signature, Token, TokenError, TokenKey};

/// A log-in for *one* act, which consumes it. Dropping it logs out. At level High, where the token enforces it, the
/// same PIN is given once more in the act (context-specific log-in); the first failure ends everything.
#[derive(Debug)]
pub struct Unlock {
    token: Token,
    pin: Pin,
}

impl Unlock {
    /// The token that is unlocked: its objects can be read as long as this lives.
    pub fn token(&self) -> &Token {
        &self.token
    }

    /// Signs `message` (hashed as [`super::KeyAlgorithm::signature_algorithm`] says) and logs out.
    pub fn sign(self, key: &TokenKey, message: &[u8]) -> Result<Signature, TokenError> {
        todo!()
    }

    /// A signer for code that wants the `signature` crate's traits: it signs once, a second time is an error.
    pub fn sign_with(self, key: &TokenKey) -> OneSignature {
        todo!()
    }

    /// Decrypts a content-encryption key that was encrypted to an RSA key, and logs out.
    pub fn decrypt(
        self,
        key: &TokenKey,
        transport: KeyTransport,
        ciphertext: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, TokenError> {
        todo!()
    }

    /// ECDH with the public key of a peer (DER `SubjectPublicKeyInfo` on the key's curve), and logs out. The answer is
    /// the shared secret Z: the x coordinate, as long as the curve's field (32 or 48 bytes), not yet through any KDF.
    pub fn agree(self, key: &TokenKey, peer_spki_der: &[u8]) -> Result<Zeroizing<Vec<u8>>, TokenError> {
        todo!()
    }

    /// The few acts that one enrollment is made of.
    pub fn ceremony(self) -> Ceremony {
        todo!()
    }
}

/// A signer that works once.
#[derive(Debug)]
pub struct OneSignature {
    key: TokenKey,
    unlock: std::sync::Mutex<Option<Unlock>>,
}

impl OneSignature {
    /// The error of the signature that failed: the `signature` crate's own error keeps only its text.
    pub fn take_error(&self) -> Option<TokenError> {
        todo!()
    }
}

impl signature::Signer<Signature> for OneSignature {
    fn try_sign(&self, message: &[u8]) -> Result<Signature, signature::Error> {
        todo!()
    }
}

impl signature::Keypair for OneSignature {
    type VerifyingKey = PublicKey;

    fn verifying_key(&self) -> PublicKey {
        todo!()
    }
}

impl spki::DynSignatureAlgorithmIdentifier for OneSignature {
    fn signature_algorithm_identifier(&self) -> spki::Result<spki::AlgorithmIdentifierOwned> {
        Ok(self.key.algorithm().signature_algorithm())
    }
}
