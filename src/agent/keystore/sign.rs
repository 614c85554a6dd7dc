//! Signs with a keyset's signing key, and prompts first as the keyset's level requires.

use super::identity::SigningIdentity;
use super::rescan::OperationGuard;
use super::{AgentPrompter, Inner};
use crate::agent::{AgentError, Usage};
use crate::keyset::{KeysetError, use_signing_key};
use crate::token::{SecurityLevel, Signature, SignatureHash, TokenError, TokenErrorKind};

impl Inner {
    pub fn sign(
        &self,
        identity: &SigningIdentity,
        hash: SignatureHash,
        data: &[u8],
        usage: &Usage,
    ) -> Result<Signature, AgentError> {
        if self.locked.is_locked() {
            return Err(AgentError::Locked { operation: usage.purpose.operation() });
        }
        let _using = OperationGuard::begin(&self.uses);
        if let Some(signer) = identity.cached_signer.signer() {
            match signer.sign(hash, data) {
                Ok(signature) => {
                    identity.cached_signer.note_use();
                    return Ok(signature);
                }
                // The session has ended: continue with the PIN below.
                Err(TokenError::NotLoggedIn { .. }) => identity.cached_signer.set(None),
                Err(error) => return Err(self.handle_failure(identity, error.into())),
            }
        }
        if !hash.fits(identity.algorithm) {
            return Err(AgentError::NoSuchHash { operation: usage.purpose.operation(), hash });
        }
        let result = self.sign_with_prompt(identity, hash, data, usage);
        self.sync_sessions();
        result.map_err(|error| self.handle_failure(identity, error))
    }

    /// Prompts for the PIN or the confirmation, as the level requires, and signs.
    fn sign_with_prompt(
        &self,
        identity: &SigningIdentity,
        hash: SignatureHash,
        data: &[u8],
        usage: &Usage,
    ) -> Result<Signature, AgentError> {
        let operation = usage.purpose.operation();
        let mut person = AgentPrompter::new(&*self.prompt_backend, usage);
        let used = use_signing_key(&self.tokens, &identity.keyset, operation, &mut person)?;
        if self.locked.is_locked() {
            return Err(AgentError::Locked { operation });
        }
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
        self.note_use(&identity.keyset.token);
        if is_active && identity.keyset.level == SecurityLevel::Low {
            identity.cached_signer.set(Some(key.token().fast_signer(&key)));
        }
        Ok(signature)
    }

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
            self.mark_lost(&identity.keyset.token);
        } else if let Err(error) = self.refresh() {
            tracing::debug!(%error, "cannot list the tokens");
        }
        error
    }
}
