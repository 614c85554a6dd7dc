//! Uses of a key by other programs, over SSH and over HTTP. They are no operations: they run in the
//! worker, on the session that it has, and prompt first as the keyset's level requires.

use zeroize::Zeroizing;

use super::identity::SigningIdentity;
use super::rescan::OperationGuard;
use super::{AgentPrompter, Keystore};
use crate::agent::{AgentError, Requester};
use crate::keyset::{
    Decrypted, KeysetChoice, KeysetError, Purpose, TokenSearch, decrypt_in_memory, open_recipient, use_signing_key,
};
use crate::token::{KeysetName, SecurityLevel, Signature, SignatureHash, TokenError, TokenErrorKind};

/// One use of a key. The caller has parsed the data to be signed or decrypted.
///
/// Only the keystore can name this trait. So an endpoint, which makes the values below, can run
/// them only through [`Keystore::use_key`].
pub trait KeyUse {
    type Output;

    /// The operation's name, completing "cannot …".
    fn operation(&self) -> &'static str;

    /// Uses the key. [`Keystore::use_key`] has checked that the keystore is not locked.
    ///
    /// # Errors
    /// Those of [`Keystore::use_key`].
    fn run(self, keystore: &Keystore, requester: &Requester) -> Result<Self::Output, AgentError>;
}

/// Hashes `data` with `hash` and signs it with the identity's key.
#[derive(Debug)]
pub struct SignData<'a> {
    pub identity: &'a SigningIdentity,
    pub hash: SignatureHash,
    pub data: &'a [u8],
    pub purpose: &'a Purpose,
}

/// Decrypts a CMS message (DER, PEM or S/MIME).
#[derive(Debug)]
pub struct DecryptMessage<'a> {
    /// the keysets to try
    pub keysets: KeysetChoice,
    pub message: &'a [u8],
}

/// Decrypts the content key for one recipient, with which the client itself decrypts the content.
#[derive(Debug)]
pub struct OpenContentKey<'a> {
    /// the keysets to try
    pub keysets: KeysetChoice,
    /// DER of one CMS `RecipientInfo`
    pub recipient_info: &'a [u8],
    /// length of the content key in bytes
    pub key_length: usize,
}

impl Keystore {
    /// Uses a key once, as its keyset's level requires.
    ///
    /// # Errors
    /// The keystore is locked, the prompt was cancelled, the PIN is wrong, the token is absent, or
    /// the key does not support this use.
    pub fn use_key<U: KeyUse>(&self, key_use: U, requester: &Requester) -> Result<U::Output, AgentError> {
        self.lock.check_unlocked(key_use.operation())?;
        let _using = OperationGuard::begin(&self.uses);
        key_use.run(self, requester)
    }
}

impl KeyUse for SignData<'_> {
    type Output = Signature;

    fn operation(&self) -> &'static str {
        self.purpose.operation()
    }

    fn run(self, keystore: &Keystore, requester: &Requester) -> Result<Signature, AgentError> {
        let SignData { identity, hash, data, purpose } = self;
        if let Some(signer) = identity.cached_signer.signer() {
            match signer.sign(hash, data) {
                Ok(signature) => {
                    identity.cached_signer.note_use();
                    return Ok(signature);
                }
                // The session has ended: continue with the PIN below.
                Err(TokenError::NotLoggedIn { .. }) => identity.cached_signer.set(None),
                Err(error) => return Err(keystore.handle_failure(identity, error.into())),
            }
        }
        if !hash.fits(identity.algorithm) {
            return Err(AgentError::NoSuchHash { operation: purpose.operation(), hash });
        }
        let result = self.sign_with_prompt(keystore, requester);
        keystore.sessions.sync(&keystore.lock);
        result.map_err(|error| keystore.handle_failure(identity, error))
    }
}

impl KeyUse for DecryptMessage<'_> {
    type Output = Decrypted;

    fn operation(&self) -> &'static str {
        "decrypt"
    }

    fn run(self, keystore: &Keystore, requester: &Requester) -> Result<Decrypted, AgentError> {
        let keysets = keystore.hidden.added_to(&self.keysets);
        keystore.ensure_present(&keysets);
        keystore.with_prompter(requester, |person| decrypt_in_memory(&keystore.tokens, &keysets, self.message, person))
    }
}

impl KeyUse for OpenContentKey<'_> {
    type Output = (Zeroizing<Vec<u8>>, KeysetName);

    fn operation(&self) -> &'static str {
        "decrypt"
    }

    fn run(self, keystore: &Keystore, requester: &Requester) -> Result<Self::Output, AgentError> {
        let keysets = keystore.hidden.added_to(&self.keysets);
        keystore.ensure_present(&keysets);
        keystore.with_prompter(requester, |person| {
            open_recipient(&keystore.tokens, &keysets, self.recipient_info, self.key_length, person)
        })
    }
}

impl SignData<'_> {
    /// Prompts for the PIN or the confirmation, as the level requires, and signs.
    fn sign_with_prompt(&self, keystore: &Keystore, requester: &Requester) -> Result<Signature, AgentError> {
        let SignData { identity, hash, data, purpose } = *self;
        let operation = purpose.operation();
        let mut person = AgentPrompter::new(&keystore.link, requester);
        let used = use_signing_key(&keystore.tokens, &identity.keyset, purpose, &mut person)?;
        keystore.lock.check_unlocked(operation)?;
        if used.key.public_key_der() != identity.spki {
            return Err(KeysetError::Refused(format!(
                "cannot {operation}: the key offered for the keyset {:?} on {} is not the key that its private \
                 index names; nothing was signed",
                identity.keyset.name.as_str(),
                identity.keyset.token.name()
            ))
            .into());
        }
        let is_active = used.pin_session.token().has_active_session();
        let key = used.key;
        let signature = used.pin_session.sign_hashed(&key, hash, data)?;
        keystore.sessions.note_use(&identity.keyset.token);
        if is_active && identity.keyset.level == SecurityLevel::Low {
            identity.cached_signer.set(Some(key.token().fast_signer(&key)));
        }
        Ok(signature)
    }
}

impl Keystore {
    /// Updates the keystore after a failure: ends the session of a token that was removed, forgets
    /// keysets that may be out of date, and lists the tokens again. Returns the error.
    fn handle_failure(&self, identity: &SigningIdentity, error: AgentError) -> AgentError {
        let is_token_removed = match &error {
            AgentError::Keyset(error) if error.is_token_absent() => true,
            // Not the token, but its module or the key is missing.
            AgentError::Keyset(KeysetError::Token(error)) if error.kind() == TokenErrorKind::Absent => {
                self.tokens.forget_keysets(&identity.keyset.token);
                false
            }
            AgentError::Keyset(KeysetError::Refused(_) | KeysetError::Damaged { .. }) => {
                self.tokens.forget_keysets(&identity.keyset.token);
                false
            }
            _ => return error,
        };
        if is_token_removed {
            self.key_cache.mark_lost(&identity.keyset.token);
        } else {
            self.key_cache.refresh();
        }
        error
    }
}
