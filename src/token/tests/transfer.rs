//! A private key moves from token to token, and cannot be read on either.

use rsa::pkcs8::DecodePublicKey;

use crate::token::test_support::{PIN, authority_token, kryoptic, open_token, pin, softhsm};
use crate::token::{
    AuthorityToken, DeliverableKey, Delivery, KeyAlgorithm, KeyId, KeyTransport, OaepHash, RsaSize, SecretKey,
    SecurityLevel, SubjectPublicKey, Token, TokenEnrollment, TokenError, TokenKey, TokenSource,
};

const RSA_2048: KeyAlgorithm = KeyAlgorithm::Rsa(RsaSize::Bits2048);
const RSA_3072: KeyAlgorithm = KeyAlgorithm::Rsa(RsaSize::Bits3072);

/// The authority's token, its archive key, and the user's token during an enrollment.
struct Stage {
    authority: AuthorityToken,
    archive: SecretKey,
    user: Token,
}

impl Stage {
    fn new(authority: &TokenSource, user: &TokenSource) -> Self {
        let authority = authority_token(authority);
        let archive = authority.generate_archive_key("archive", &KeyId::random().unwrap()).unwrap();
        Self { authority, archive, user: open_token(user) }
    }

    fn begin_enrollment(&self) -> TokenEnrollment {
        self.user.unlock(pin(PIN)).unwrap().begin_enrollment()
    }

    /// Generates, archives, unwraps, delivers and installs a key.
    fn transfer(&self, enrollment: &TokenEnrollment, algorithm: KeyAlgorithm, level: SecurityLevel) -> TokenKey {
        let made = self.authority.generate_deliverable_key(algorithm).unwrap();
        let public = made.public_key_der().unwrap().to_vec();
        let archived = self.authority.wrap_for_archive(&self.archive, &made).unwrap();
        drop(made);
        let again = self.authority.unwrap_from_archive(&self.archive, &archived, algorithm).unwrap();
        self.deliver(enrollment, &again, &public, level).unwrap()
    }

    fn deliver(
        &self,
        enrollment: &TokenEnrollment,
        key: &DeliverableKey,
        public: &[u8],
        level: SecurityLevel,
    ) -> Result<TokenKey, TokenError> {
        let id = KeyId::random().unwrap();
        let transport = enrollment.generate_transport_key("transport", &id).unwrap();
        let delivery = self.authority.wrap_for_token(key, transport.public_key_der(), transport.oaep()).unwrap();
        let key_id = KeyId::random().unwrap();
        let installed = enrollment.install_private_key(
            &transport,
            &delivery,
            "encryption",
            &key_id,
            key.algorithm(),
            public,
            level,
        );
        enrollment.destroy_transport_key(&id).unwrap();
        installed
    }
}

fn pairs() -> Vec<(TokenSource, TokenSource)> {
    let mut pairs = vec![(softhsm(), softhsm())];
    if let Some(kryoptic) = kryoptic() {
        pairs.push((softhsm(), kryoptic.clone()));
        pairs.push((kryoptic.clone(), softhsm()));
        pairs.push((kryoptic.clone(), kryoptic));
    }
    pairs
}

fn encrypt_to(public: &SubjectPublicKey, secret: &[u8]) -> Vec<u8> {
    let key = rsa::RsaPublicKey::from_public_key_der(public.as_der()).unwrap();
    key.encrypt(&mut rand_from_system(), rsa::Pkcs1v15Encrypt, secret).unwrap()
}

fn rand_from_system() -> impl rsa::rand_core::CryptoRng {
    rsa::rand_core::UnwrapErr(getrandom::SysRng)
}

#[test]
fn every_kind_of_key_travels_between_every_pair_of_modules() {
    for (authority, user) in pairs() {
        let stage = Stage::new(&authority, &user);
        let enrollment = stage.begin_enrollment();
        let ours = authority.path() == user.path();
        let rsa = if ours { RSA_3072 } else { RSA_2048 }; // generating an RSA key takes a second
        for algorithm in [rsa, KeyAlgorithm::P256, KeyAlgorithm::P384] {
            let key = stage.transfer(&enrollment, algorithm, SecurityLevel::High);
            assert_eq!(key.algorithm(), algorithm);
            assert!(key.can_decrypt() && !key.can_sign());
            opens_what_is_encrypted_to_it(&enrollment, &key);
        }
    }
}

/// Encrypts to the key (RSA) or agrees with it (curves) in software, and does the counterpart on
/// the token.
fn opens_what_is_encrypted_to_it(enrollment: &TokenEnrollment, key: &TokenKey) {
    if key.algorithm().is_elliptic_curve() {
        let (ephemeral, shared) = agree_in_software(key.public_key());
        assert_eq!(*enrollment.agree(key, &ephemeral).unwrap(), shared);
    } else {
        let secret =
            enrollment.decrypt(key, &KeyTransport::Pkcs1v15, &encrypt_to(key.public_key(), b"secret")).unwrap();
        assert_eq!(*secret, b"secret");
    }
}

fn agree_in_software(public: &SubjectPublicKey) -> (Vec<u8>, Vec<u8>) {
    use p256::elliptic_curve::Generate;
    use p256::pkcs8::EncodePublicKey;
    let mut random = rand_from_system();
    if public.algorithm() == KeyAlgorithm::P256 {
        let ephemeral = p256::ecdh::EphemeralSecret::generate_from_rng(&mut random);
        let peer = p256::PublicKey::from_public_key_der(public.as_der()).unwrap();
        let shared = ephemeral.diffie_hellman(&peer).raw_secret_bytes().to_vec();
        (ephemeral.public_key().to_public_key_der().unwrap().into_vec(), shared)
    } else {
        let ephemeral = p384::ecdh::EphemeralSecret::generate_from_rng(&mut random);
        let peer = p384::PublicKey::from_public_key_der(public.as_der()).unwrap();
        let shared = ephemeral.diffie_hellman(&peer).raw_secret_bytes().to_vec();
        (ephemeral.public_key().to_public_key_der().unwrap().into_vec(), shared)
    }
}

fn everything_on(enrollment: &TokenEnrollment) -> (usize, usize) {
    (enrollment.keys().unwrap().len(), enrollment.public_keys().unwrap().len())
}

#[test]
fn a_delivery_that_was_changed_is_refused_and_leaves_nothing() {
    for (authority, user) in pairs() {
        let stage = Stage::new(&authority, &user);
        let enrollment = stage.begin_enrollment();
        let key = stage.authority.generate_deliverable_key(KeyAlgorithm::P256).unwrap();
        let public = key.public_key_der().unwrap().to_vec();
        let id = KeyId::random().unwrap();
        let transport = enrollment.generate_transport_key("transport", &id).unwrap();
        let good = stage.authority.wrap_for_token(&key, transport.public_key_der(), transport.oaep()).unwrap();
        let before = everything_on(&enrollment);
        let install = |delivery: &Delivery, algorithm| {
            let id = KeyId::random().unwrap();
            enrollment.install_private_key(&transport, delivery, "e", &id, algorithm, &public, SecurityLevel::High)
        };
        let mut bad = vec![good.clone(); 4];
        bad[0].wrapped[20] ^= 1;
        bad[1].encrypted_key[20] ^= 1;
        bad[2].wrapped.truncate(24);
        bad[3].encrypted_key.clear();
        for delivery in &bad {
            let error = install(delivery, KeyAlgorithm::P256).unwrap_err();
            assert!(matches!(error, TokenError::BadDelivery { .. }), "{error}");
        }
        install(&good, KeyAlgorithm::P384).unwrap_err();
        install(&good, RSA_2048).unwrap_err();
        assert_eq!(everything_on(&enrollment), before);
        install(&good, KeyAlgorithm::P256).unwrap();
    }
}

#[test]
fn an_rsa_key_that_is_not_its_certificates_is_refused() {
    let stage = Stage::new(&softhsm(), &softhsm());
    let enrollment = stage.begin_enrollment();
    let [key, other] = [RSA_2048, RSA_2048].map(|kind| stage.authority.generate_deliverable_key(kind).unwrap());
    let error = stage.deliver(&enrollment, &key, other.public_key_der().unwrap(), SecurityLevel::High).unwrap_err();
    assert!(matches!(error, TokenError::BadDelivery { .. }), "{error}");
    assert_eq!(everything_on(&enrollment), (0, 0));
}

#[test]
fn an_archived_key_that_was_changed_is_refused() {
    for (authority, user) in pairs() {
        let stage = Stage::new(&authority, &user);
        let key = stage.authority.generate_deliverable_key(RSA_2048).unwrap();
        let mut wrapped = stage.authority.wrap_for_archive(&stage.archive, &key).unwrap();
        wrapped.blob[100] ^= 0x10;
        let error = stage.authority.unwrap_from_archive(&stage.archive, &wrapped, RSA_2048).unwrap_err();
        assert!(matches!(error, TokenError::BadDelivery { .. }), "{error}");
    }
}

#[test]
fn a_delivery_for_another_token_cannot_be_unwrapped() {
    let stage = Stage::new(&softhsm(), &softhsm());
    let enrollment = stage.begin_enrollment();
    let (mine, other) = (KeyId::random().unwrap(), KeyId::random().unwrap());
    let mine = enrollment.generate_transport_key("mine", &mine).unwrap();
    let other = enrollment.generate_transport_key("other", &other).unwrap();
    let key = stage.authority.generate_deliverable_key(KeyAlgorithm::P256).unwrap();
    let delivery = stage.authority.wrap_for_token(&key, other.public_key_der(), other.oaep()).unwrap();
    let (id, public) = (KeyId::random().unwrap(), key.public_key_der().unwrap());
    enrollment
        .install_private_key(&mine, &delivery, "e", &id, KeyAlgorithm::P256, public, SecurityLevel::High)
        .unwrap_err();
    assert_eq!(enrollment.keys().unwrap().len(), 0);
}

#[test]
fn a_transport_key_is_found_not_listed_and_destroyed() {
    for (_, user) in pairs() {
        let token = open_token(&user);
        let id = KeyId::random().unwrap();
        let made = token.unlock(pin(PIN)).unwrap().begin_enrollment().generate_transport_key("transport", &id).unwrap();
        let enrollment = token.unlock(pin(PIN)).unwrap().begin_enrollment();
        let found = enrollment.find_transport_key(&id).unwrap().unwrap();
        assert_eq!((found.public_key_der(), found.oaep()), (made.public_key_der(), made.oaep()));
        assert!(enrollment.keys().unwrap().is_empty());
        enrollment.destroy_transport_key(&id).unwrap();
        enrollment.destroy_transport_key(&id).unwrap();
        assert!(enrollment.find_transport_key(&id).unwrap().is_none());
        assert!(enrollment.public_keys().unwrap().is_empty());
    }
}

#[test]
fn session_keys_are_gone_when_they_are_dropped() {
    for (authority, user) in pairs() {
        let stage = Stage::new(&authority, &user);
        drop(stage.authority.generate_deliverable_key(KeyAlgorithm::P256).unwrap());
        assert!(stage.authority.keys().unwrap().is_empty());
        assert!(authority.open(stage.authority.info()).unwrap().public_keys().unwrap().is_empty());
    }
}

#[test]
fn every_padding_that_people_use_is_read() {
    for (authority, user) in pairs() {
        let stage = Stage::new(&authority, &user);
        let enrollment = stage.begin_enrollment();
        let key = stage.transfer(&enrollment, RSA_2048, SecurityLevel::High);
        let public = rsa::RsaPublicKey::from_public_key_der(key.public_key_der()).unwrap();
        let mut random = rand_from_system();
        let oaep = [
            (OaepHash::Sha1, public.encrypt(&mut random, rsa::Oaep::<sha1::Sha1>::new(), b"secret").unwrap()),
            (OaepHash::Sha256, public.encrypt(&mut random, rsa::Oaep::<sha2::Sha256>::new(), b"secret").unwrap()),
            (OaepHash::Sha384, public.encrypt(&mut random, rsa::Oaep::<sha2::Sha384>::new(), b"secret").unwrap()),
            (OaepHash::Sha512, public.encrypt(&mut random, rsa::Oaep::<sha2::Sha512>::new(), b"secret").unwrap()),
        ];
        for (hash, mut ciphertext) in oaep {
            let open = |ciphertext: &[u8]| enrollment.decrypt(&key, &KeyTransport::Oaep(hash), ciphertext);
            assert_eq!(*open(&ciphertext).unwrap(), b"secret", "{hash:?}");
            ciphertext[100] ^= 1;
            open(&ciphertext).unwrap_err();
        }
        enrollment.decrypt(&key, &KeyTransport::Pkcs1v15, &[1; 255]).unwrap_err();

        // Every bad padding gives the same error, whatever the module returns, so that higher
        // layers can continue with a random key.
        for at in [0, 100, 255] {
            let mut ciphertext = public.encrypt(&mut random, rsa::Pkcs1v15Encrypt, b"secret").unwrap();
            assert_eq!(*enrollment.decrypt(&key, &KeyTransport::Pkcs1v15, &ciphertext).unwrap(), b"secret");
            ciphertext[at] ^= 1;
            match enrollment.decrypt(&key, &KeyTransport::Pkcs1v15, &ciphertext) {
                Ok(other) => assert_ne!(*other, b"secret", "the module returned the secret for a bad padding"),
                Err(error) => assert!(matches!(error, TokenError::BadData { .. }), "{error}"),
            }
        }
    }
}
