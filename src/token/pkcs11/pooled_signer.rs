//! Signs repeatedly during an active session, at nearly the token's own speed.
//!
//! An ordinary signature looks up the key each time. This signer keeps a small pool of *signing
//! sessions*. Each has, if the module can copy keys (`C_CopyObject`) and this key may be copied
//! (levels Medium and Low), a copy of the key that belongs to that PKCS#11 session. SoftHSM signs a
//! fifth faster with a copy, because each use of a token object opens, locks and reads two files.
//!
//! The end of the active session empties the pool, so no copy outlives it; so does the destruction
//! of a key. Keys of level High, which require the PIN for each use, are neither kept nor copied:
//! their signer only refuses.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cryptoki::error::{Error, Result as CkResult, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, ObjectHandle};
use cryptoki::session::Session;

use super::key_handles::ObjectClassKey;
use super::key_lookup::KeyLookup;
use super::key_use::KeyOperations;
use super::return_values;
use super::signing_pool::{Checkout, SessionLease, SigningPool, SigningSession};
use super::token::Pkcs11Token;
use crate::token::public_key::ecdsa_signature;
use crate::token::{KeyDescription, Signature, SignatureHash, TokenError};

const OPERATION: &str = "sign";

/// The longest signature of a supported key, in bytes (RSA-4096).
const LONGEST_SIGNATURE: usize = 512;

/// Signs with one key during the active session of its token. Threads may share it; clones share
/// the pool.
#[derive(Clone, Debug)]
pub(in crate::token) struct PooledSigner {
    // First, so that its PKCS#11 sessions close before the token is released.
    signing_pool: Arc<SigningPool>,
    token: Arc<Pkcs11Token>,
    key: KeyDescription,
    // The module has refused to copy this key; do not try again.
    refuses_copies: Arc<AtomicBool>,
}

impl PooledSigner {
    pub(in crate::token) fn new(token: &Arc<Pkcs11Token>, key: &KeyDescription) -> Self {
        Self {
            signing_pool: token.signing_pool().new_pool(),
            token: Arc::clone(token),
            key: key.clone(),
            refuses_copies: Arc::default(),
        }
    }

    /// Signs. [`TokenError::NotLoggedIn`] without an active session, [`TokenError::PinEachUse`] for
    /// a key of level High.
    pub(in crate::token) fn sign(&self, hash: SignatureHash, message: &[u8]) -> Result<Signature, TokenError> {
        let token = &*self.token;
        if self.key.requires_pin_per_use() {
            return Err(TokenError::PinEachUse { operation: OPERATION, token: token.info().name() });
        }
        let (mechanism, input) =
            KeyOperations::of(token).signing_input(OPERATION, self.key.algorithm(), hash, message)?;
        let mut output = [0; LONGEST_SIGNATURE];
        let mut signed = self.sign_in_session(&mechanism, input.as_bytes(), &mut output)?;
        if let Err(error) = &signed
            && (return_values::is_stale_handle(error) || return_values::is_session_gone(error))
        {
            token.note(error);
            signed = self.sign_in_session(&mechanism, input.as_bytes(), &mut output)?;
        }
        let length = signed.map_err(|error| token.explain(OPERATION, &error))?;
        let bytes = output.get(..length).unwrap_or_default();
        if self.key.algorithm().is_elliptic_curve() {
            ecdsa_signature(bytes)
        } else {
            Ok(Signature::from_bytes(bytes.to_vec()))
        }
    }

    /// Signs in a pooled session, opening one if needed. A session in which a call failed is
    /// closed.
    fn sign_in_session(
        &self,
        mechanism: &Mechanism<'_>,
        input: &[u8],
        output: &mut [u8],
    ) -> Result<CkResult<usize>, TokenError> {
        let token = &*self.token;
        loop {
            let shared = token.shared();
            self.require_active_session()?;
            match self.signing_pool.check_out(shared) {
                Checkout::Ready(_shared, mut lease) => {
                    let Some(signing_session) = &lease.session else { continue };
                    let signed = signing_session
                        .session
                        .sign_init(mechanism, signing_session.key)
                        .and_then(|()| token.raw().sign_into(&signing_session.session, input, output));
                    if signed.is_err() {
                        lease.session = None;
                    }
                    return Ok(signed);
                }
                Checkout::Open(lease) => {
                    if let Err(error) = self.open_session(lease)? {
                        return Ok(Err(error));
                    }
                }
                Checkout::Retry => {}
            }
        }
    }

    /// Opens a session for the pool and copies the key into it.
    fn open_session(&self, mut lease: SessionLease<'_>) -> Result<CkResult<()>, TokenError> {
        let token = &*self.token;
        let _alone = token.exclusive();
        self.require_active_session()?;
        let original = match KeyLookup::on(token).look_up(OPERATION, ObjectClassKey::Private, self.key.id())? {
            Ok(handle) => handle,
            Err(error) => return Ok(Err(error)),
        };
        let session = match token.sessions().open_another() {
            Ok(session) => session,
            Err(error) if return_values::is(&error, RvError::SessionCount) && self.signing_pool.lower_limit() => {
                return Ok(Ok(()));
            }
            Err(error) => return Ok(Err(error)),
        };
        let key = match self.copied(&session, original) {
            Ok(key) => key,
            Err(error) => return Ok(Err(error)),
        };
        lease.session = Some(SigningSession { session, key });
        // Return it to the pool while the exclusive lock is still held.
        drop(lease);
        Ok(Ok(()))
    }

    /// A copy of the key in this session, or the key itself if the module refuses to copy it.
    fn copied(&self, session: &Session, original: ObjectHandle) -> CkResult<ObjectHandle> {
        if self.refuses_copies.load(Ordering::Relaxed) {
            return Ok(original);
        }
        match session.copy_object(original, &[Attribute::Token(false)]) {
            Err(error) if is_about_the_token(&error) => Err(error),
            Err(error) => {
                tracing::debug!(%error, "the module does not copy this key");
                self.refuses_copies.store(true, Ordering::Relaxed);
                Ok(original)
            }
            copy => copy,
        }
    }

    fn require_active_session(&self) -> Result<(), TokenError> {
        let token = &*self.token;
        if token.login().active_session().is_some() { Ok(()) } else { Err(token.not_logged_in_error(OPERATION)) }
    }
}

/// Whether the key itself would be unusable too.
fn is_about_the_token(error: &Error) -> bool {
    return_values::is_removed(error)
        || return_values::is_session_gone(error)
        || return_values::is_stale_handle(error)
        || return_values::is_not_logged_in(error)
}

#[cfg(test)]
mod tests;
