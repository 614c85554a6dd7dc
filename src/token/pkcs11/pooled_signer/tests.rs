//! The fast signer signs during an active session only, and its copies of keys end with it.

use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, ObjectClass, ObjectHandle};
use cryptoki::session::Session;

use super::super::templates;
use crate::token::test_support::{PIN, modules, open_token, pin};
use crate::token::{
    FastSigner, KeyAlgorithm, KeyId, RsaSize, SecurityLevel, SignatureHash, Token, TokenError, TokenKey,
};

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
    token.pkcs11().exclusively("count the copies", |session| session.find_objects(&template)).unwrap()
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
        let id = KeyId::random().unwrap();
        module.open_for_authority(token.info()).unwrap().generate_signing_key("ca", &id, KeyAlgorithm::P256).unwrap();
        let key = token.find_key(&id).unwrap().unwrap();
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
    token.pkcs11().exclusively("make a key", made).unwrap();
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
            token.pkcs11().exclusively("destroy a copy", |session| session.destroy_object(copy)).unwrap();
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
