//! Private keys on a token, and the public keys beside them.

use signature::Error as SignatureError;

use crate::token::{KeyAlgorithm, KeyId, PublicKey, Signature, Token, TokenError};

/// A private key on a token: found by its `CKA_ID`, looked up once more when its handle is no longer valid.
#[derive(Clone, Debug)]
pub struct TokenKey {
    token: Token,
    id: KeyId,
    label: String,
    algorithm: KeyAlgorithm,
    public_key: PublicKey,
    pin_each_use: bool,
}

/// A public key object on a token, readable without log-in.
#[derive(Clone, Debug)]
pub struct PublicKeyObject {
    /// its `CKA_ID`
    pub id: KeyId,
    /// its label
    pub label: String,
    /// the key
    pub public_key: PublicKey,
    /// its kind
    pub algorithm: KeyAlgorithm,
}

impl TokenKey {
    /// Its `CKA_ID`.
    pub fn id(&self) -> &KeyId {
        &self.id
    }

    /// Its label.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Its kind.
    pub fn algorithm(&self) -> KeyAlgorithm {
        self.algorithm
    }

    /// The public half.
    pub fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    /// DER of the public half's `SubjectPublicKeyInfo`.
    pub fn public_key_der(&self) -> &[u8] {
        self.public_key.as_der()
    }

    /// Does the token itself ask for the PIN at every use (`CKA_ALWAYS_AUTHENTICATE`)?
    pub fn requires_pin_each_use(&self) -> bool {
        self.pin_each_use
    }

    /// The token it is on.
    pub fn token(&self) -> &Token {
        &self.token
    }

    /// Signs with a key whose token is logged in and that asks for no PIN at each use (the authority's keys).
    pub fn sign(&self, message: &[u8]) -> Result<Signature, TokenError> {
        todo!()
    }
}

impl signature::Signer<Signature> for TokenKey {
    fn try_sign(&self, message: &[u8]) -> Result<Signature, SignatureError> {
        self.sign(message).map_err(SignatureError::from_source)
    }
}

impl signature::Keypair for TokenKey {
    type VerifyingKey = PublicKey;

    fn verifying_key(&self) -> PublicKey {
        self.public_key.clone()
    }
}

impl spki::DynSignatureAlgorithmIdentifier for TokenKey {
    fn signature_algorithm_identifier(&self) -> spki::Result<spki::AlgorithmIdentifierOwned> {
        Ok(self.algorithm.signature_algorithm())
    }
}

impl Token {
    /// All private keys of kinds we know; the token must be logged in. Transport keys are among them.
    pub fn keys(&self) -> Result<Vec<TokenKey>, TokenError> {
        todo!()
    }

    /// The private key of this `CKA_ID`; the token must be logged in.
    pub fn find_key(&self, id: &KeyId) -> Result<Option<TokenKey>, TokenError> {
        todo!()
    }

    /// All public keys of kinds we know; needs no log-in.
    pub fn public_keys(&self) -> Result<Vec<PublicKeyObject>, TokenError> {
        todo!()
    }

    /// Destroys a private key and the public key of the same `CKA_ID`; certificates stay.
    pub fn destroy(&self, key: &TokenKey) -> Result<(), TokenError> {
        todo!()
    }

    /// The authority's side: a signing key pair that can only sign and can neither leave nor be copied or changed.
    pub fn generate_signing_key(
        &self,
        label: &str,
        id: &KeyId,
        algorithm: KeyAlgorithm,
    ) -> Result<TokenKey, TokenError> {
        todo!()
    }
}
