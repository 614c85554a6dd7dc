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

use super::keys::TokenKey;
use super::return_values;
use super::signing_pool::{Checkout, SessionLease, SigningPool, SigningSession};
use super::token::ObjectClassKey;
use crate::token::public_key::ecdsa_signature;
use crate::token::{Signature, SignatureHash, Token, TokenError};

const OPERATION: &str = "sign";

/// The longest signature of a supported key, in bytes (RSA-4096).
const LONGEST_SIGNATURE: usize = 512;

/// Signs with one key during the active session of its token. Threads may share it; clones share
/// the pool.
#[derive(Clone, Debug)]
pub struct FastSigner {
    // First, so that its PKCS#11 sessions close before the token is released.
    signing_pool: Arc<SigningPool>,
    key: TokenKey,
    // The module has refused to copy this key; do not try again.
    refuses_copies: Arc<AtomicBool>,
}

impl Token {
    /// A signer for a key of this token, for use during the active session.
    pub fn fast_signer(&self, key: &TokenKey) -> FastSigner {
        FastSigner { key: key.clone(), signing_pool: self.signing_pool().new_pool(), refuses_copies: Arc::default() }
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
        let token = self.key.token();
        if self.key.requires_pin_per_use() {
            return Err(TokenError::PinEachUse { operation: OPERATION, token: token.info().name() });
        }
        let (mechanism, input) = token.signing_input(OPERATION, self.key.algorithm(), hash, message)?;
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
        let token = self.key.token();
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
        let token = self.key.token();
        let _alone = token.exclusive();
        self.require_active_session()?;
        let original = match token.look_up(OPERATION, ObjectClassKey::Private, self.key.id())? {
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
        let token = self.key.token();
        if token.has_active_session() { Ok(()) } else { Err(token.not_logged_in_error(OPERATION)) }
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
mod tests {
    use cryptoki::object::ObjectClass;

    use super::super::templates;
    use super::*;
    use crate::token::test_support::{PIN, modules, open_token, pin};
    use crate::token::{KeyAlgorithm, KeyId, RsaSize, SecurityLevel};

    const KINDS: [KeyAlgorithm; 3] = [KeyAlgorithm::P256, KeyAlgorithm::P384, KeyAlgorithm::Rsa(RsaSize::Bits2048)];

    fn key(token: &Token, algorithm: KeyAlgorithm, level: SecurityLevel) -> TokenKey {
        let enrollment = token.unlock(pin(PIN)).unwrap().begin_enrollment();
        enrollment.generate_signing_key("s", &KeyId::random().unwrap(), algorithm, level).unwrap()
    }

    fn log_in(token: &Token) {
        drop(token.acquire_pin_lease().open_session(pin(PIN)).unwrap());
    }

    fn hash(signer: &FastSigner) -> SignatureHash {
        SignatureHash::usual_for(signer.key().algorithm())
    }

    /// The session objects that are copies of private keys, as another session sees them.
    fn copies(token: &Token) -> Vec<ObjectHandle> {
        let template = [Attribute::Class(ObjectClass::PRIVATE_KEY), Attribute::Token(false)];
        token.exclusively("count the copies", |session| session.find_objects(&template)).unwrap()
    }

    #[test]
    fn it_signs_in_an_active_session_and_leaves_no_copy() {
        for module in modules() {
            let token = open_token(&module);
            for algorithm in KINDS {
                let signer = token.fast_signer(&key(&token, algorithm, SecurityLevel::Low));
                let sign = || signer.sign(hash(&signer), b"message");
                assert!(matches!(sign().unwrap_err(), TokenError::NotLoggedIn { .. }));
                for _ in 0..2 {
                    log_in(&token);
                    assert!(crate::token::tests::verifies(signer.key(), b"message", &sign().unwrap()));
                    assert_eq!(copies(&token).len(), 1);
                    // An operation with a PIN logs out and in: the copies are made again.
                    drop(token.unlock(pin(PIN)).unwrap());
                    assert_eq!(copies(&token).len(), 0);
                    assert!(crate::token::tests::verifies(signer.key(), b"message", &sign().unwrap()));
                    token.log_out().unwrap();
                    assert!(matches!(sign().unwrap_err(), TokenError::NotLoggedIn { .. }));
                    token.log_in(&pin(PIN)).unwrap();
                    assert_eq!(copies(&token).len(), 0);
                    assert!(
                        matches!(sign().unwrap_err(), TokenError::NotLoggedIn { .. }),
                        "logged in, but no session is active"
                    );
                    token.log_out().unwrap();
                }
            }
        }
    }

    #[test]
    fn keys_of_level_high_are_neither_used_nor_copied() {
        for module in modules() {
            let token = open_token(&module);
            let signer = token.fast_signer(&key(&token, KeyAlgorithm::P256, SecurityLevel::High));
            log_in(&token);
            assert!(matches!(signer.sign(hash(&signer), b"m").unwrap_err(), TokenError::PinEachUse { .. }));
            assert_eq!(copies(&token).len(), 0);
        }
    }

    #[test]
    fn an_uncopyable_key_is_not_used_even_if_no_pin_is_asked() {
        for module in modules() {
            let token = open_token(&module);
            log_in(&token);
            let key = token.generate_signing_key("ca", &KeyId::random().unwrap(), KeyAlgorithm::P256).unwrap();
            let signer = token.fast_signer(&key);
            assert!(matches!(signer.sign(hash(&signer), b"m").unwrap_err(), TokenError::PinEachUse { .. }));
            assert_eq!(copies(&token).len(), 0);
        }
    }

    #[test]
    fn a_key_that_the_module_does_not_copy_signs_itself() {
        // SoftHSM does not copy a key that is not modifiable.
        let token = open_token(&crate::token::test_support::softhsm());
        log_in(&token);
        let id = KeyId::random().unwrap();
        let mut private = templates::signing_key("s", &id, Some(SecurityLevel::Low));
        private.push(Attribute::Modifiable(false));
        let public = templates::signing_public_key("s", &id, KeyAlgorithm::P256).unwrap();
        let made = |session: &Session| session.generate_key_pair(&Mechanism::EccKeyPairGen, &public, &private);
        token.exclusively("make a key", made).unwrap();
        let signer = token.fast_signer(&token.find_key(&id).unwrap().unwrap());
        assert!(crate::token::tests::verifies(signer.key(), b"m", &signer.sign(hash(&signer), b"m").unwrap()));
        assert_eq!(copies(&token).len(), 0);
    }

    #[test]
    fn a_lost_copy_is_recreated_and_a_destroyed_key_cannot_sign() {
        for module in modules() {
            let token = open_token(&module);
            let key = key(&token, KeyAlgorithm::P256, SecurityLevel::Medium);
            let signer = token.fast_signer(&key);
            log_in(&token);
            signer.sign(hash(&signer), b"m").unwrap();
            for copy in copies(&token) {
                token.exclusively("destroy a copy", |session| session.destroy_object(copy)).unwrap();
            }
            signer.sign(hash(&signer), b"m").unwrap();
            assert_eq!(copies(&token).len(), 1);
            token.destroy(&key).unwrap();
            assert_eq!(copies(&token).len(), 0);
            assert!(matches!(signer.sign(hash(&signer), b"m").unwrap_err(), TokenError::KeyAbsent { .. }));
        }
    }

    #[test]
    fn another_hash_than_the_curves_is_refused() {
        let token = open_token(&crate::token::test_support::softhsm());
        let signer = token.fast_signer(&key(&token, KeyAlgorithm::P256, SecurityLevel::Low));
        log_in(&token);
        assert!(matches!(signer.sign(SignatureHash::Sha512, b"m").unwrap_err(), TokenError::Unsupported { .. }));
    }

    #[test]
    fn many_threads_sign_while_objects_and_log_ins_come_and_go() {
        for module in modules() {
            let token = open_token(&module);
            let signer = token.fast_signer(&key(&token, KeyAlgorithm::P256, SecurityLevel::Low));
            log_in(&token);
            std::thread::scope(|scope| {
                for number in 0..8_u8 {
                    let signer = signer.clone();
                    scope.spawn(move || {
                        for round in 0..20_u8 {
                            let message = [number, round];
                            let signature = signer.sign(hash(&signer), &message).unwrap();
                            assert!(crate::token::tests::verifies(signer.key(), &message, &signature));
                        }
                    });
                }
                for _ in 0..5 {
                    let enrollment = token.acquire_pin_lease().unlock(pin(PIN)).unwrap().begin_enrollment();
                    let id = KeyId::random().unwrap();
                    enrollment.generate_signing_key("x", &id, KeyAlgorithm::P256, SecurityLevel::Low).unwrap();
                    let made = enrollment.find_key(&id).unwrap().unwrap();
                    enrollment.destroy(&made).unwrap();
                }
            });
            token.log_out().unwrap();
            token.log_in(&pin(PIN)).unwrap();
            assert_eq!((token.keys().unwrap().len(), copies(&token).len()), (1, 0));
        }
    }
}
