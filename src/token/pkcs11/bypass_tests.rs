//! Attacks by a holder of the PIN. Each attempt uses a PKCS#11 session of its own, like any other
//! program.

use cryptoki::error::Result as CkResult;
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::elliptic_curve::{EcKdf, Ecdh1DeriveParams};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;

use super::key_handles::ObjectClassKey;
use super::key_lookup::KeyLookup;
use super::mechanisms::oaep;
use super::raw::WrapMechanism;
use super::templates;
use super::token::Pkcs11Token;
use crate::token::test_support::{PIN, authority_token, modules, open_token, pin};
use crate::token::tests::verifies;
use crate::token::{
    AuthorityToken, KeyAlgorithm, KeyId, KeyWrap, RsaSize, SecurityLevel, SignatureHash, Token, TokenEnrollment,
    TokenError, TokenKey, TransportKeyPair,
};

const RSA_2048: KeyAlgorithm = KeyAlgorithm::Rsa(RsaSize::Bits2048);

/// Uses a key in a session of its own, around the checks of [`Token`].
fn attempt<T>(token: &Token, key: &KeyId, action: impl Fn(&Session, ObjectHandle) -> CkResult<T>) -> CkResult<T> {
    let handle =
        KeyLookup::on(token.pkcs11()).use_key("try", ObjectClassKey::Private, key, |_, handle| Ok(handle)).unwrap();
    let session = token.pkcs11().sessions().open_another().unwrap();
    action(&session, handle)
}

/// Runs the attack on each module: on an authority's token and on a user's token with an enrollment
/// in progress.
fn on_each_module(attack: impl Fn(&AuthorityToken, &Token, TokenEnrollment)) {
    for module in modules() {
        let (authority, token) = (authority_token(&module), open_token(&module));
        let enrollment = token.unlock(pin(PIN)).unwrap().begin_enrollment();
        attack(&authority, &token, enrollment);
    }
}

/// A module may refuse to read sensitive attributes, or omit them.
#[track_caller]
fn assert_not_read(read: CkResult<Vec<Attribute>>) {
    assert!(read.is_err() || read.unwrap().is_empty());
}

fn signing_key(enrollment: &TokenEnrollment, algorithm: KeyAlgorithm) -> TokenKey {
    let id = KeyId::random().unwrap();
    enrollment.generate_signing_key("signing", &id, algorithm, SecurityLevel::High).unwrap()
}

/// An encryption key as an enrollment installs it.
fn encryption_key(
    authority: &AuthorityToken,
    enrollment: &TokenEnrollment,
    algorithm: KeyAlgorithm,
    level: SecurityLevel,
) -> TokenKey {
    let key = authority.generate_deliverable_key(algorithm).unwrap();
    let transport = enrollment.generate_transport_key("transport", &KeyId::random().unwrap()).unwrap();
    let delivery = authority.wrap_for_token(&key, transport.public_key_der(), transport.oaep()).unwrap();
    let (id, public) = (KeyId::random().unwrap(), key.public_key_der().unwrap());
    enrollment.install_private_key(&transport, &delivery, "encryption", &id, algorithm, public, level).unwrap()
}

fn all_high_keys(authority: &AuthorityToken, enrollment: &TokenEnrollment) -> Vec<TokenKey> {
    let mut keys = vec![signing_key(enrollment, KeyAlgorithm::P256), signing_key(enrollment, RSA_2048)];
    for algorithm in [RSA_2048, KeyAlgorithm::P256, KeyAlgorithm::P384] {
        keys.push(encryption_key(authority, enrollment, algorithm, SecurityLevel::High));
    }
    keys
}

#[test]
fn a_key_at_high_is_not_used_without_its_pin() {
    on_each_module(|authority, token, enrollment| {
        for key in all_high_keys(authority, &enrollment) {
            let used = if key.can_sign() {
                let mechanism = if key.algorithm().is_elliptic_curve() { Mechanism::Ecdsa } else { Mechanism::RsaPkcs };
                attempt(token, key.id(), |session, handle| session.sign(&mechanism, handle, &[7; 32]))
            } else if key.algorithm() == RSA_2048 {
                attempt(token, key.id(), |session, handle| session.decrypt(&Mechanism::RsaPkcs, handle, &[7; 256]))
            } else {
                continue; // see `derive_needs_only_the_login`
            };
            used.expect_err("it was used without its PIN");
        }
    });
}

#[test]
fn a_high_key_needs_its_own_pin_even_if_the_token_does_not_ask() {
    for module in modules() {
        let token = open_token(&module);
        let id = KeyId::random().unwrap();
        let full = templates::signing_key("signing", &id, Some(SecurityLevel::High));
        let private = templates::without_pin_each_use(&full).unwrap();
        let public = templates::signing_public_key("signing", &id, KeyAlgorithm::P256).unwrap();
        let pin_session = token.unlock(pin(PIN)).unwrap();
        token
            .pkcs11()
            .exclusively("make a key", |s| s.generate_key_pair(&Mechanism::EccKeyPairGen, &public, &private))
            .unwrap();
        let key = token.find_key(&id).unwrap().unwrap();
        assert!(!key.requires_pin_each_use() && key.requires_pin_per_use());
        assert!(verifies(&key, b"one", &pin_session.sign(&key, b"one").unwrap()));

        let active_session = token.acquire_pin_lease().open_session(pin(PIN)).unwrap();
        assert!(matches!(active_session.sign(&key, b"m").unwrap_err(), TokenError::PinEachUse { .. }));
        let fast = token.fast_signer(&key).sign(SignatureHash::Sha256, b"m").unwrap_err();
        assert!(matches!(fast, TokenError::PinEachUse { .. }), "{fast}");
        assert!(verifies(&key, b"two", &token.unlock(pin(PIN)).unwrap().sign(&key, b"two").unwrap()));
        assert!(token.has_active_session(), "the session of another level ended");
    }
}

#[test]
fn a_wrong_pin_during_an_operation_ends_it() {
    use cryptoki::session::UserType;
    for module in modules() {
        let token = open_token(&module);
        let enrollment = token.unlock(pin(PIN)).unwrap().begin_enrollment();
        let key = signing_key(&enrollment, KeyAlgorithm::P256);
        let wrong = super::log_in::auth_pin(&pin("wrong-pin"));
        attempt(&token, key.id(), |session, handle| {
            session.sign_init(&Mechanism::Ecdsa, handle)?;
            session.login(UserType::ContextSpecific, Some(&wrong)).expect_err("a wrong PIN was accepted");
            token.pkcs11().raw().sign(session, &[7; 32])
        })
        .expect_err("the operation continued after a wrong PIN");
    }
}

#[test]
fn a_key_at_high_cannot_be_made_laxer() {
    on_each_module(|authority, token, enrollment| {
        for key in all_high_keys(authority, &enrollment) {
            for laxer in [
                Attribute::AlwaysAuthenticate(false),
                Attribute::Modifiable(true),
                Attribute::Copyable(true),
                Attribute::Extractable(true),
                Attribute::Sensitive(false),
                Attribute::Unwrap(true),
                Attribute::Derive(true),
                Attribute::Sign(true),
                Attribute::Decrypt(true),
            ] {
                let change = [laxer.clone()];
                let changed = attempt(token, key.id(), |session, handle| session.update_attributes(handle, &change));
                assert!(changed.is_err(), "{laxer:?} was set on {:?}", key.label());
            }
            for token_object in [true, false] {
                let template = [Attribute::Token(token_object), Attribute::AlwaysAuthenticate(false)];
                for template in [&template[..], &template[..1]] {
                    let copied = attempt(token, key.id(), |session, handle| session.copy_object(handle, template));
                    assert!(copied.is_err(), "{:?} was copied", key.label());
                }
            }
        }
    });
}

/// Wraps a known AES key to an RSA key in software, and tries to unwrap it on the token as a
/// readable key: that would reveal every content-encryption key without the PIN.
#[test]
fn no_key_of_a_user_unwraps() {
    use rsa::pkcs8::DecodePublicKey;
    on_each_module(|authority, token, enrollment| {
        let readable = [
            Attribute::Class(ObjectClass::SECRET_KEY),
            Attribute::KeyType(KeyType::GENERIC_SECRET),
            Attribute::Token(false),
            Attribute::Sensitive(false),
            Attribute::Extractable(true),
        ];
        let lax = lax_rsa_key(token);
        let mut keys = all_high_keys(authority, &enrollment);
        keys.retain(|key| key.algorithm() == RSA_2048);
        for key in keys.iter().chain([&lax]) {
            let public = rsa::RsaPublicKey::from_public_key_der(key.public_key_der()).unwrap();
            let mut random = rsa::rand_core::UnwrapErr(getrandom::SysRng);
            let wrapped = public.encrypt(&mut random, rsa::Pkcs1v15Encrypt, &[7; 32]).unwrap();
            let opened = attempt(token, key.id(), |session, handle| {
                session.unwrap_key(&Mechanism::RsaPkcs, handle, &wrapped, &readable)
            });
            assert_eq!(opened.is_ok(), key.id() == lax.id(), "{:?}: {opened:?}", key.label());
        }
    });
}

/// A key with all permissions, as another program makes it. It shows that the attempt itself works.
fn lax_rsa_key(token: &Token) -> TokenKey {
    let id = KeyId::random().unwrap();
    let common = [Attribute::Token(true), Attribute::Id(id.as_bytes().to_vec()), Attribute::Label(b"lax".to_vec())];
    let mut public = common.to_vec();
    public.extend([Attribute::ModulusBits(2048.into()), Attribute::PublicExponent(vec![1, 0, 1])]);
    let mut private = common.to_vec();
    private.extend([Attribute::Unwrap(true), Attribute::Decrypt(true), Attribute::Sensitive(true)]);
    token
        .pkcs11()
        .exclusively("test", |session| session.generate_key_pair(&Mechanism::RsaPkcsKeyPairGen, &public, &private))
        .unwrap();
    token.find_key(&id).unwrap().unwrap()
}

/// `C_DeriveKey` has no init call at which a PIN could be required. A signing key refuses
/// derivation; an encryption key on a curve allows it after login, as SECURITY.md says.
#[test]
fn derive_needs_only_the_login() {
    on_each_module(|authority, token, enrollment| {
        let signing = signing_key(&enrollment, KeyAlgorithm::P256);
        let encryption = encryption_key(authority, &enrollment, KeyAlgorithm::P256, SecurityLevel::High);
        let peer = signing.public_key().point().unwrap();
        let derive = |session: &Session, handle| {
            let mechanism = Mechanism::Ecdh1Derive(Ecdh1DeriveParams::new(EcKdf::null(), &peer));
            session.derive_key(&mechanism, handle, &templates::agreed_secret(32))
        };
        attempt(token, signing.id(), derive).expect_err("a signing key derived");
        attempt(token, encryption.id(), derive).expect("an encryption key derives after login");
        let handle = KeyLookup::on(token.pkcs11())
            .use_key("t", ObjectClassKey::Private, encryption.id(), |_, handle| Ok(handle))
            .unwrap();
        drop(enrollment);
        let session = token.pkcs11().sessions().open_another().unwrap();
        derive(&session, handle).expect_err("it derived without a login");
    });
}

#[test]
fn the_private_key_cannot_be_read_from_either_token() {
    let secret_parts = [
        AttributeType::Value,
        AttributeType::PrivateExponent,
        AttributeType::Prime1,
        AttributeType::Prime2,
        AttributeType::Exponent1,
        AttributeType::Exponent2,
        AttributeType::Coefficient,
    ];
    for module in modules() {
        let (authority, token) = (authority_token(&module), open_token(&module));
        let archive = authority.generate_archive_key("archive", &KeyId::random().unwrap()).unwrap();
        let enrollment = token.unlock(pin(PIN)).unwrap().begin_enrollment();
        for algorithm in [RSA_2048, KeyAlgorithm::P256] {
            // On the user's token: it can be neither read nor wrapped with a key of the attacker.
            for level in [SecurityLevel::High, SecurityLevel::Low] {
                let key = encryption_key(&authority, &enrollment, algorithm, level);
                let read = attempt(&token, key.id(), |session, handle| session.get_attributes(handle, &secret_parts));
                assert_not_read(read);
                attempt(&token, key.id(), |session, handle| wrap_with_own_key(token.pkcs11(), session, handle))
                    .expect_err("it was wrapped with a foreign key");
            }
            // On the authority's token: it cannot be read even while it is a session object that
            // may be wrapped.
            let key = authority.generate_deliverable_key(algorithm).unwrap();
            let wrapped = authority.wrap_for_archive(&archive, &key).unwrap();
            let again = authority.unwrap_from_archive(&archive, &wrapped, algorithm).unwrap();
            let session = authority.pkcs11().sessions().open_another().unwrap();
            for key in [&key, &again] {
                let read = session.get_attributes(key.handle(), &secret_parts);
                assert_not_read(read);
            }
            wrap_with_own_key(authority.pkcs11(), &session, key.handle()).expect("the attempt itself works");
        }
        // The archive key can be neither read nor wrapped, and does not decrypt a blob in clear.
        let handle = KeyLookup::on(authority.pkcs11())
            .use_key("t", ObjectClassKey::Secret, archive.id(), |_, handle| Ok(handle))
            .unwrap();
        let session = authority.pkcs11().sessions().open_another().unwrap();
        let read = session.get_attributes(handle, &[AttributeType::Value]);
        assert_not_read(read);
        wrap_with_own_key(authority.pkcs11(), &session, handle).expect_err("the archive key was wrapped");
        session.decrypt(&Mechanism::AesEcb, handle, &[7; 32]).expect_err("the archive key decrypted");
    }
}

fn wrap_with_own_key(token: &Pkcs11Token, session: &Session, key: ObjectHandle) -> CkResult<Vec<u8>> {
    let template =
        [Attribute::Token(false), Attribute::Wrap(true), Attribute::Decrypt(true), Attribute::ValueLen(32.into())];
    let own = session.generate_key(&Mechanism::AesKeyGen, &template)?;
    let mechanism = token.capabilities().unwrap().key_wrap.unwrap_or(KeyWrap::Pad);
    token.raw().wrap_key(session, &WrapMechanism::KeyWrap(mechanism), own, key)
}

/// The AES key that wraps a delivered key: unwrapped as readable, it would reveal the private key.
#[test]
fn the_transport_key_unwraps_only_into_a_key_that_stays() {
    on_each_module(|authority, token, enrollment| {
        let transport: TransportKeyPair =
            enrollment.generate_transport_key("transport", &KeyId::random().unwrap()).unwrap();
        let key = authority.generate_deliverable_key(KeyAlgorithm::P256).unwrap();
        let delivery = authority.wrap_for_token(&key, transport.public_key_der(), transport.oaep()).unwrap();
        for laxer in [Attribute::Extractable(true), Attribute::Sensitive(false), Attribute::Decrypt(true)] {
            let mut template = vec![
                Attribute::Class(ObjectClass::SECRET_KEY),
                Attribute::KeyType(KeyType::AES),
                Attribute::Token(false),
            ];
            template.push(laxer.clone());
            let opened = attempt(token, transport.id(), |session, handle| {
                let mechanism = WrapMechanism::Other(oaep(delivery.oaep));
                token.pkcs11().raw().unwrap_key(session, &mechanism, handle, &delivery.encrypted_key, &template)
            });
            assert!(opened.is_err(), "it unwrapped with {laxer:?}");
        }
        let decrypted = attempt(token, transport.id(), |session, handle| {
            session.decrypt(&oaep(delivery.oaep), handle, &delivery.encrypted_key)
        });
        decrypted.expect_err("the transport key decrypted");
    });
}

/// A signing key of a lower level may be copied and changed, but it stays sensitive.
#[test]
fn a_signing_key_of_a_lower_level_can_be_copied_but_not_read() {
    for module in modules() {
        let token = open_token(&module);
        let enrollment = token.unlock(pin(PIN)).unwrap().begin_enrollment();
        for level in [SecurityLevel::Medium, SecurityLevel::Low] {
            let id = KeyId::random().unwrap();
            enrollment.generate_signing_key("signing", &id, KeyAlgorithm::P256, level).unwrap();
            for laxer in [Attribute::Extractable(true), Attribute::Sensitive(false)] {
                let change = [laxer.clone()];
                attempt(&token, &id, |session, handle| session.update_attributes(handle, &change))
                    .expect_err("it was made readable");
                let template = [Attribute::Token(false), laxer];
                attempt(&token, &id, |session, handle| session.copy_object(handle, &template))
                    .expect_err("it was made readable by copying");
            }
            let read = attempt(&token, &id, |session, handle| {
                let copy = session.copy_object(handle, &[Attribute::Token(false)])?;
                session.get_attributes(copy, &[AttributeType::Value])
            });
            assert!(read.expect("it may be copied").is_empty(), "a copy was read");
            attempt(&token, &id, |session, handle| wrap_with_own_key(token.pkcs11(), session, handle))
                .expect_err("it was wrapped with a foreign key");
        }
    }
}
