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

use super::answers;
use super::keys::TokenKey;
use super::lanes::{Lane, Lanes, Place, Way};
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
    lanes: Arc<Lanes>,
    key: TokenKey,
    // The module has refused to copy this key; do not try again.
    refuses_copies: Arc<AtomicBool>,
}

impl Token {
    /// A signer for a key of this token, for use during the active session.
    pub fn fast_signer(&self, key: &TokenKey) -> FastSigner {
        FastSigner { key: key.clone(), lanes: self.lanes().of_another_signer(), refuses_copies: Arc::default() }
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
        if self.key.is_for_one_use_a_pin() {
            return Err(TokenError::PinEachUse { operation: OPERATION, token: token.info().name() });
        }
        let (mechanism, input) = token.signing_input(OPERATION, self.key.algorithm(), hash, message)?;
        let mut output = [0; LONGEST_SIGNATURE];
        let mut signed = self.sign_in_lane(&mechanism, input.as_bytes(), &mut output)?;
        if let Err(error) = &signed
            && (answers::is_stale_handle(error) || answers::is_session_gone(error))
        {
            token.note(error);
            signed = self.sign_in_lane(&mechanism, input.as_bytes(), &mut output)?;
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
    fn sign_in_lane(
        &self,
        mechanism: &Mechanism<'_>,
        input: &[u8],
        output: &mut [u8],
    ) -> Result<CkResult<usize>, TokenError> {
        let token = self.key.token();
        loop {
            let shared = token.shared();
            self.must_stand()?;
            match self.lanes.way(shared) {
                Way::Take(_shared, mut place) => {
                    let Some(lane) = &place.lane else { continue };
                    let signed = lane
                        .session
                        .sign_init(mechanism, lane.key)
                        .and_then(|()| token.raw().sign_into(&lane.session, input, output));
                    if signed.is_err() {
                        place.lane = None;
                    }
                    return Ok(signed);
                }
                Way::Furnish(place) => {
                    if let Err(error) = self.furnish(place)? {
                        return Ok(Err(error));
                    }
                }
                Way::Again => {}
            }
        }
    }

    /// Opens a session for the pool and copies the key into it.
    fn furnish(&self, mut place: Place<'_>) -> Result<CkResult<()>, TokenError> {
        let token = self.key.token();
        let _alone = token.exclusive();
        self.must_stand()?;
        let original = match token.look_up(OPERATION, ObjectClassKey::Private, self.key.id())? {
            Ok(handle) => handle,
            Err(error) => return Ok(Err(error)),
        };
        let session = match token.sessions().open_another() {
            Ok(session) => session,
            Err(error) if answers::is(&error, RvError::SessionCount) && self.lanes.do_without() => {
                return Ok(Ok(()));
            }
            Err(error) => return Ok(Err(error)),
        };
        let key = match self.copied(&session, original) {
            Ok(key) => key,
            Err(error) => return Ok(Err(error)),
        };
        place.lane = Some(Lane { session, key });
        // Return it to the pool while the exclusive lock is still held.
        drop(place);
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

    fn must_stand(&self) -> Result<(), TokenError> {
        let token = self.key.token();
        if token.stands() { Ok(()) } else { Err(token.nobody_is_logged_in(OPERATION)) }
    }
}

/// Whether the key itself would be unusable too.
fn is_about_the_token(error: &Error) -> bool {
    answers::is_removed(error)
        || answers::is_session_gone(error)
        || answers::is_stale_handle(error)
        || answers::is_not_logged_in(error)
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
        let ceremony = token.unlock(pin(PIN)).unwrap().ceremony();
        ceremony.generate_signing_key("s", &KeyId::random().unwrap(), algorithm, level).unwrap()
    }

    fn log_in(token: &Token) {
        drop(token.wait_for_turn().log_in_standing(pin(PIN)).unwrap());
    }

    fn hash(signer: &FastSigner) -> SignatureHash {
        SignatureHash::usual_for(signer.key().algorithm())
    }

    /// The session objects that are copies of private keys, as another session sees them.
    fn copies(token: &Token) -> Vec<ObjectHandle> {
        let template = [Attribute::Class(ObjectClass::PRIVATE_KEY), Attribute::Token(false)];
        token.alone("count the copies", |session| session.find_objects(&template)).unwrap()
    }

    #[test]
    fn it_signs_under_a_standing_log_in_and_leaves_no_copy_behind() {
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
    fn a_key_that_may_not_be_copied_is_not_used_either_though_the_token_does_not_ask() {
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
        token.alone("make a key", made).unwrap();
        let signer = token.fast_signer(&token.find_key(&id).unwrap().unwrap());
        assert!(crate::token::tests::verifies(signer.key(), b"m", &signer.sign(hash(&signer), b"m").unwrap()));
        assert_eq!(copies(&token).len(), 0);
    }

    #[test]
    fn a_copy_that_is_gone_is_made_anew_and_a_destroyed_key_signs_no_more() {
        for module in modules() {
            let token = open_token(&module);
            let key = key(&token, KeyAlgorithm::P256, SecurityLevel::Medium);
            let signer = token.fast_signer(&key);
            log_in(&token);
            signer.sign(hash(&signer), b"m").unwrap();
            for copy in copies(&token) {
                token.alone("destroy a copy", |session| session.destroy_object(copy)).unwrap();
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
                    let ceremony = token.wait_for_turn().unlock(pin(PIN)).unwrap().ceremony();
                    let id = KeyId::random().unwrap();
                    ceremony.generate_signing_key("x", &id, KeyAlgorithm::P256, SecurityLevel::Low).unwrap();
                    let made = ceremony.find_key(&id).unwrap().unwrap();
                    ceremony.destroy(&made).unwrap();
                }
            });
            token.log_out().unwrap();
            token.log_in(&pin(PIN)).unwrap();
            assert_eq!((token.keys().unwrap().len(), copies(&token).len()), (1, 0));
        }
    }
}
