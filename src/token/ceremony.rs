//! An enrollment on the user's token: the few acts that one PIN entry is good for.

use std::ops::Deref;
use std::sync::{Mutex, PoisonError};

use zeroize::Zeroizing;

use super::check::StoredObject;
use super::pkcs11::Installation;
use super::{
    Delivery, KeyAlgorithm, KeyId, KeyTransport, OaepHash, PublicKey, SecurityLevel, Signature, SignatureHash, Token,
    TokenError, TokenKey, Unlock,
};

/// An unlocked token during an enrollment. Reads and writes objects as the [`Token`] it is; dropping it logs out.
#[derive(Debug)]
pub struct Ceremony {
    unlock: Unlock,
}

/// The key pair made on the user's token for one enrollment, to which the authority's token wraps: RSA-2048, a token
/// object so that a killed enrollment can be resumed, good for unwrapping an AES key and for nothing else.
#[derive(Clone, Debug)]
pub struct TransportKey {
    id: KeyId,
    public_key: PublicKey,
    oaep: OaepHash,
}

impl TransportKey {
    /// Its `CKA_ID`.
    pub fn id(&self) -> &KeyId {
        &self.id
    }

    /// DER of its `SubjectPublicKeyInfo`.
    pub fn public_key_der(&self) -> &[u8] {
        self.public_key.as_der()
    }

    /// The hash of RSA-OAEP that this token can do: SHA-256 where possible, else SHA-1.
    pub fn oaep(&self) -> OaepHash {
        self.oaep
    }
}

impl Deref for Ceremony {
    type Target = Token;

    fn deref(&self) -> &Token {
        self.unlock.token()
    }
}

impl Ceremony {
    pub(super) fn new(unlock: Unlock) -> Self {
        Self { unlock }
    }

    /// Makes a signing key pair that can only sign, its level fixed for ever.
    pub fn generate_signing_key(
        &self,
        label: &str,
        id: &KeyId,
        algorithm: KeyAlgorithm,
        level: SecurityLevel,
    ) -> Result<TokenKey, TokenError> {
        self.generate_signing_key_of(label, id, algorithm, Some(level))
    }

    /// Makes the transport key pair of this enrollment.
    pub fn generate_transport_key(&self, label: &str, id: &KeyId) -> Result<TransportKey, TokenError> {
        let (public_key, oaep) = self.generate_transport_key_pair(label, id)?;
        Ok(TransportKey { id: id.clone(), public_key, oaep })
    }

    /// The transport key that an enrollment begun earlier has made; `None` when there is none.
    pub fn find_transport_key(&self, id: &KeyId) -> Result<Option<TransportKey>, TokenError> {
        let found = self.find_transport_key_pair(id)?;
        Ok(found.map(|(public_key, oaep)| TransportKey { id: id.clone(), public_key, oaep }))
    }

    /// Destroys both halves of the transport key; it is no error when they are gone.
    pub fn destroy_transport_key(&self, id: &KeyId) -> Result<(), TokenError> {
        self.destroy_key_pair("destroy the transport key", id)
    }

    /// Unwraps a delivered private key into the token, where it can only decrypt (or, on a curve, derive), together
    /// with its public key. Nothing is left on the token when it fails.
    // One delivered key is described by just these; a struct for one call would only hide them.
    #[allow(clippy::too_many_arguments)]
    pub fn install_private_key(
        &self,
        transport: &TransportKey,
        delivery: &Delivery,
        label: &str,
        id: &KeyId,
        algorithm: KeyAlgorithm,
        public_spki_der: &[u8],
        level: SecurityLevel,
    ) -> Result<TokenKey, TokenError> {
        let key = Installation { label, id, algorithm, public_spki_der, level };
        self.install(&transport.id, delivery, &key)
    }

    /// Signs, as [`Unlock::sign`] does, without ending the ceremony.
    pub fn sign(&self, key: &TokenKey, message: &[u8]) -> Result<Signature, TokenError> {
        self.sign_with_key(key, SignatureHash::usual_for(key.algorithm()), message, self.unlock.entitled())
    }

    /// Decrypts, as [`Unlock::decrypt`] does, without ending the ceremony.
    pub fn decrypt(
        &self,
        key: &TokenKey,
        transport: &KeyTransport,
        ciphertext: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, TokenError> {
        self.decrypt_with_key(key, transport, ciphertext, self.unlock.entitled())
    }

    /// Agrees on a secret, as [`Unlock::agree`] does, without ending the ceremony.
    pub fn agree(&self, key: &TokenKey, peer_spki_der: &[u8]) -> Result<Zeroizing<Vec<u8>>, TokenError> {
        self.agree_with_key(key, peer_spki_der, self.unlock.entitled())
    }

    /// Has a process that loads the module afresh look whether all of this is on the token, with the PIN that was typed for
    /// this ceremony. It spends no try. Gives why it is not known where that process could not look.
    ///
    /// # Errors
    /// [`TokenError::NotStored`], with what is missing.
    pub fn must_be_stored(
        &self,
        operation: &'static str,
        objects: Vec<StoredObject>,
    ) -> Result<Option<String>, TokenError> {
        self.unlock.token().must_be_stored(operation, objects, self.unlock.entitled().pin())
    }

    /// A signer for code that wants the `signature` crate's traits, for as long as the ceremony lasts.
    pub fn signer<'a>(&'a self, key: &'a TokenKey) -> CeremonySigner<'a> {
        CeremonySigner { ceremony: self, key, error: Mutex::new(None) }
    }
}

/// Signs within a ceremony.
#[derive(Debug)]
pub struct CeremonySigner<'a> {
    ceremony: &'a Ceremony,
    key: &'a TokenKey,
    error: Mutex<Option<TokenError>>,
}

impl CeremonySigner<'_> {
    /// Why the last signature that failed did: code that signs through the `signature` crate's traits loses that.
    pub fn take_error(&self) -> Option<TokenError> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl signature::Signer<Signature> for CeremonySigner<'_> {
    fn try_sign(&self, message: &[u8]) -> Result<Signature, signature::Error> {
        self.ceremony.sign(self.key, message).map_err(|error| {
            *self.error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.clone());
            signature::Error::from_source(error)
        })
    }
}

impl signature::Keypair for CeremonySigner<'_> {
    type VerifyingKey = PublicKey;

    fn verifying_key(&self) -> PublicKey {
        self.key.public_key().clone()
    }
}

impl spki::DynSignatureAlgorithmIdentifier for CeremonySigner<'_> {
    fn signature_algorithm_identifier(&self) -> spki::Result<spki::AlgorithmIdentifierOwned> {
        Ok(self.key.algorithm().signature_algorithm())
    }
}
