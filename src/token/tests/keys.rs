//! Keys sign, are found again, and have only their own usages.

use rsa::pkcs8::DecodePublicKey;
use signature::{Signer, Verifier};

use crate::token::authorization::KeyAuthorization;
use crate::token::test_support::{PIN, authority_token, modules, open_token, pin};
use crate::token::{
    KeyAlgorithm, KeyDescription, KeyId, RsaSize, SecurityLevel, Signature, SignatureHash, TokenError, TokenKey,
};

const KINDS: [KeyAlgorithm; 3] = [KeyAlgorithm::P256, KeyAlgorithm::P384, KeyAlgorithm::Rsa(RsaSize::Bits2048)];

pub(in crate::token) fn verifies(key: &KeyDescription, message: &[u8], signature: &Signature) -> bool {
    let (spki, bytes) = (key.public_key_der(), signature.as_bytes());
    match key.algorithm() {
        KeyAlgorithm::P256 => p256::ecdsa::VerifyingKey::from_public_key_der(spki)
            .unwrap()
            .verify(message, &p256::ecdsa::DerSignature::try_from(bytes).unwrap())
            .is_ok(),
        KeyAlgorithm::P384 => p384::ecdsa::VerifyingKey::from_public_key_der(spki)
            .unwrap()
            .verify(message, &p384::ecdsa::DerSignature::try_from(bytes).unwrap())
            .is_ok(),
        KeyAlgorithm::Rsa(_) => {
            let key = rsa::RsaPublicKey::from_public_key_der(spki).unwrap();
            rsa::pkcs1v15::VerifyingKey::<sha2::Sha256>::new(key)
                .verify(message, &rsa::pkcs1v15::Signature::try_from(bytes).unwrap())
                .is_ok()
        }
    }
}

/// Around [`crate::token::PinSession`], which no caller outside this layer can avoid.
fn sign_without_pin(key: &TokenKey) -> Result<Signature, TokenError> {
    let hash = SignatureHash::usual_for(key.algorithm());
    key.token().sign(key, hash, b"message", KeyAuthorization::LoggedIn)
}

#[test]
fn the_authoritys_keys_sign_while_it_stays_logged_in() {
    for module in modules() {
        let token = authority_token(&module);
        for algorithm in KINDS {
            let key = token.generate_signing_key("ca", &KeyId::random().unwrap(), algorithm).unwrap();
            assert!(!key.requires_pin_each_use() && key.can_sign() && !key.can_decrypt());
            let signature = key.try_sign(b"message").unwrap();
            assert!(verifies(&key, b"message", &signature));
            assert!(!verifies(&key, b"another", &signature));
        }
    }
}

#[test]
fn many_threads_sign_at_once() {
    for module in modules() {
        let token = authority_token(&module);
        let key = token.generate_signing_key("ca", &KeyId::random().unwrap(), KeyAlgorithm::P256).unwrap();
        std::thread::scope(|scope| {
            for number in 0..8_u8 {
                let key = key.clone();
                scope.spawn(move || {
                    for round in 0..10_u8 {
                        let message = [number, round];
                        assert!(verifies(&key, &message, &key.sign(&message).unwrap()));
                    }
                });
            }
            // Objects are made and destroyed meanwhile.
            for _ in 0..5 {
                let made = token.generate_signing_key("x", &KeyId::random().unwrap(), KeyAlgorithm::P256).unwrap();
                token.destroy(&made).unwrap();
            }
        });
        assert_eq!(token.keys().unwrap().len(), 1);
    }
}

#[test]
fn a_key_at_high_signs_once_a_pin() {
    for module in modules() {
        let token = open_token(&module);
        let enrollment = token.unlock(pin(PIN)).unwrap().begin_enrollment();
        let keys = KINDS.map(|algorithm| {
            enrollment
                .generate_signing_key("signing", &KeyId::random().unwrap(), algorithm, SecurityLevel::High)
                .unwrap()
        });
        for key in &keys {
            assert!(key.requires_pin_each_use());
            assert!(verifies(key, b"in the ceremony", &enrollment.sign(key, b"in the ceremony").unwrap()));
            assert!(matches!(sign_without_pin(key).unwrap_err(), TokenError::NotLoggedIn { .. }));
        }
        drop(enrollment);
        for key in &keys {
            let signature = token.unlock(pin(PIN)).unwrap().sign(key, b"one operation").unwrap();
            assert!(verifies(key, b"one operation", &signature));
            assert!(!token.is_logged_in());
            let once = token.unlock(pin(PIN)).unwrap().sign_with(key);
            assert!(verifies(key, b"first", &once.try_sign(b"first").unwrap()));
            once.try_sign(b"second").unwrap_err();
            assert!(matches!(once.take_error(), Some(TokenError::Spent { .. })));
        }
    }
}

#[test]
fn keys_of_the_lower_levels_sign_until_logout() {
    for module in modules() {
        let token = open_token(&module);
        for level in [SecurityLevel::Medium, SecurityLevel::Low] {
            let enrollment = token.unlock(pin(PIN)).unwrap().begin_enrollment();
            let key = enrollment
                .generate_signing_key("signing", &KeyId::random().unwrap(), KeyAlgorithm::P256, level)
                .unwrap();
            assert!(!key.requires_pin_each_use());
            enrollment.sign(&key, b"one").unwrap();
            drop(enrollment);
            assert!(matches!(sign_without_pin(&key).unwrap_err(), TokenError::NotLoggedIn { .. }));
        }
    }
}

#[test]
fn keys_are_listed_found_and_destroyed() {
    for module in modules() {
        let token = authority_token(&module);
        let made = KINDS.map(|algorithm| {
            token.generate_signing_key(&algorithm.to_string(), &KeyId::random().unwrap(), algorithm).unwrap()
        });
        // The same token, as its user sees it.
        let user = module.open(token.info()).unwrap();
        assert_eq!(token.keys().unwrap().len(), 3);
        for key in &made {
            let found = user.find_key(key.id()).unwrap().unwrap();
            assert_eq!((found.label(), found.public_key_der()), (key.label(), key.public_key_der()));
        }
        user.log_out().unwrap();
        assert!(matches!(token.keys().unwrap_err(), TokenError::NotLoggedIn { .. }));
        assert_eq!(user.public_keys().unwrap().len(), 3);
        token.log_in(&pin(PIN)).unwrap();
        // The logout invalidated the handles; the key looks up its object again.
        assert!(verifies(&made[0], b"again", &made[0].sign(b"again").unwrap()));
        for key in &made {
            token.destroy(key).unwrap();
            assert!(matches!(key.sign(b"gone").unwrap_err(), TokenError::KeyAbsent { .. }));
        }
        assert!(token.keys().unwrap().is_empty() && user.public_keys().unwrap().is_empty());
        assert!(user.find_key(made[0].id()).unwrap().is_none());
    }
}

#[test]
fn macs_are_made_on_the_token_by_mac_keys_only() {
    for module in modules() {
        let token = authority_token(&module);
        let key = token.generate_mac_key("letters", &KeyId::random().unwrap()).unwrap();
        let other = token.generate_mac_key("records", &KeyId::random().unwrap()).unwrap();
        let archive = token.generate_archive_key("archive", &KeyId::random().unwrap()).unwrap();
        assert_eq!(token.mac(&key, b"one").unwrap(), token.mac(&key, b"one").unwrap());
        assert_ne!(token.mac(&key, b"one").unwrap(), token.mac(&key, b"two").unwrap());
        assert_ne!(token.mac(&key, b"one").unwrap(), token.mac(&other, b"one").unwrap());
        token.mac(&archive, b"one").unwrap_err();
        assert_eq!(token.find_secret_key("records").unwrap().unwrap().id(), other.id());
        assert!(token.find_secret_key("nothing").unwrap().is_none());
        assert_eq!(token.secret_keys().unwrap().len(), 3);
        let deliverable = token.generate_deliverable_key(KeyAlgorithm::P256).unwrap();
        token.wrap_for_archive(&key, &deliverable).unwrap_err();
    }
}

#[test]
fn a_mac_is_the_hmac_that_everybody_knows() {
    // The key cannot be read, so the MAC cannot be compared with a known one. Check its length, and
    // that the whole message counts.
    for module in modules() {
        let token = authority_token(&module);
        let key = token.generate_mac_key("letters", &KeyId::random().unwrap()).unwrap();
        let long = vec![7; 100_000];
        assert_ne!(token.mac(&key, &long).unwrap(), token.mac(&key, &long[1..]).unwrap());
        assert_eq!(token.mac(&key, b"").unwrap().len(), 32);
    }
}

#[test]
fn rsa_signs_with_each_hash_and_ec_with_the_curves_own() {
    for module in modules() {
        let token = authority_token(&module);
        for algorithm in KINDS {
            let key = token.generate_signing_key("k", &KeyId::random().unwrap(), algorithm).unwrap();
            for hash in [SignatureHash::Sha256, SignatureHash::Sha384, SignatureHash::Sha512] {
                let signed = key.sign_hashed(hash, b"message");
                match (algorithm, hash) {
                    (KeyAlgorithm::Rsa(_), _) => {
                        let signature = signed.unwrap();
                        assert!(rsa_verifies(&key, hash, b"message", &signature), "{hash}");
                        assert!(!rsa_verifies(&key, hash, b"another", &signature), "{hash}");
                    }
                    (KeyAlgorithm::P256, SignatureHash::Sha256) | (KeyAlgorithm::P384, SignatureHash::Sha384) => {
                        assert!(verifies(&key, b"message", &signed.unwrap()));
                    }
                    _ => assert!(matches!(signed.unwrap_err(), TokenError::Unsupported { .. }), "{algorithm} {hash}"),
                }
            }
        }
    }
}

fn rsa_verifies(key: &KeyDescription, hash: SignatureHash, message: &[u8], signature: &Signature) -> bool {
    let spki = rsa::RsaPublicKey::from_public_key_der(key.public_key_der()).unwrap();
    let signature = rsa::pkcs1v15::Signature::try_from(signature.as_bytes()).unwrap();
    match hash {
        SignatureHash::Sha256 => rsa::pkcs1v15::VerifyingKey::<sha2::Sha256>::new(spki).verify(message, &signature),
        SignatureHash::Sha384 => rsa::pkcs1v15::VerifyingKey::<sha2::Sha384>::new(spki).verify(message, &signature),
        SignatureHash::Sha512 => rsa::pkcs1v15::VerifyingKey::<sha2::Sha512>::new(spki).verify(message, &signature),
    }
    .is_ok()
}
