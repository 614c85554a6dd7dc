//! A private key travels from token to token, and cannot be read from either.

use rsa::pkcs8::DecodePublicKey;
use signature::Verifier;

use crate::token::test_support::{PIN, authority_token, kryoptic, modules, open_token, pin, softhsm};
use crate::token::{
    Ceremony, DeliverableKey, KeyAlgorithm, KeyId, KeyTransport, Module, PublicKey, RsaSize, SecretKey, SecurityLevel,
    Token, TokenError, TokenKey,
};

const RSA_2048: KeyAlgorithm = KeyAlgorithm::Rsa(RsaSize::Bits2048);
const RSA_3072: KeyAlgorithm = KeyAlgorithm::Rsa(RsaSize::Bits3072);

/// The authority's token, its archive key, and the user's token in the middle of an enrollment.
struct Stage {
    authority: Token,
    archive: SecretKey,
    user: Token,
}

impl Stage {
    fn new(authority: &Module, user: &Module) -> Self {
        let authority = authority_token(authority);
        let archive = authority.generate_archive_key("archive", &KeyId::random().unwrap()).unwrap();
        Self { authority, archive, user: open_token(user) }
    }

    fn ceremony(&self) -> Ceremony {
        self.user.unlock(pin(PIN)).unwrap().ceremony()
    }

    /// Makes a key, archives it, takes it out again, delivers it and installs it.
    fn transfer(&self, ceremony: &Ceremony, algorithm: KeyAlgorithm, level: SecurityLevel) -> TokenKey {
        let made = self.authority.generate_deliverable_key(algorithm).unwrap();
        let public = made.public_key_der().unwrap().to_vec();
        let archived = self.authority.wrap_for_archive(&self.archive, &made).unwrap();
        drop(made);
        let again = self.authority.unwrap_from_archive(&self.archive, &archived, algorithm).unwrap();
        self.deliver(ceremony, &again, &public, level).unwrap()
    }

    fn deliver(
        &self,
        ceremony: &Ceremony,
        key: &DeliverableKey,
        public: &[u8],
        level: SecurityLevel,
    ) -> Result<TokenKey, TokenError> {
        let id = KeyId::random().unwrap();
        let transport = ceremony.generate_transport_key("transport", &id).unwrap();
        let delivery = self.authority.wrap_for_token(key, transport.public_key_der(), transport.oaep()).unwrap();
        let key_id = KeyId::random().unwrap();
        let installed =
            ceremony.install_private_key(&transport, &delivery, "encryption", &key_id, key.algorithm(), public, level);
        ceremony.destroy_transport_key(&id).unwrap();
        installed
    }
}

fn pairs() -> Vec<(Module, Module)> {
    let mut pairs = vec![(softhsm(), softhsm())];
    if let Some(kryoptic) = kryoptic() {
        pairs.push((softhsm(), kryoptic.clone()));
        pairs.push((kryoptic.clone(), softhsm()));
        pairs.push((kryoptic.clone(), kryoptic));
    }
    pairs
}

fn encrypt_to(public: &PublicKey, secret: &[u8]) -> Vec<u8> {
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
        let ceremony = stage.ceremony();
        for algorithm in [RSA_2048, RSA_3072, KeyAlgorithm::P256, KeyAlgorithm::P384] {
            let key = stage.transfer(&ceremony, algorithm, SecurityLevel::High);
            assert_eq!(key.algorithm(), algorithm);
        }
    }
}
