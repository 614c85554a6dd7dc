//! A token on a test machine of its own, with the measured keys and an active session.

use crate::support::machine::{Machine, softhsm_module};
use cryptoki::context::Pkcs11;
use cryptoki::object::{Attribute, KeyType, ObjectClass};
use cryptoki::session::Session;
use cryptoki::slot::Slot;
use spki::SubjectPublicKeyInfoRef;
use spki::der::{Decode, Encode};
use tokenkeep::token::{KeyAlgorithm, KeyId, Pin, RsaSize, SecurityLevel, Token, TokenKey, TokenSource};

/// The input of a decryption or key agreement.
pub enum KeyInput {
    /// RSA: a ciphertext for the key
    Ciphertext(Vec<u8>),
    /// ECDH: the peer's point
    Point(Vec<u8>),
}

/// The variable that tells the measuring process what to measure. A process of its own is needed
/// because SoftHSM reads its configuration from the process environment.
pub const BENCH_PART: &str = "TOKENKEEP_BENCH_STAGE";

pub const PIN: &str = "12345678";
const LABEL: &str = "bench";
const RSA: KeyAlgorithm = KeyAlgorithm::Rsa(RsaSize::Bits2048);

/// Runs this program on a machine of its own, for the in-process measurements.
pub fn set_up_and_run() {
    let machine = Machine::new();
    run_on(&machine, "direct");
}

/// Runs this program on a machine, to measure one part.
pub fn run_on(machine: &Machine, part: &str) {
    let mut command = machine.command(std::env::current_exe().unwrap());
    command.env(BENCH_PART, part);
    command.envs(std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("TOKENKEEP_BENCH_")));
    command.env(BENCH_PART, part);
    let status = command.status().unwrap();
    assert!(status.success(), "the benchmark ended with {status}");
}

/// The open, logged-in token and its module.
pub struct BenchToken {
    pub pkcs11: Pkcs11,
    pub slot: Slot,
    token: Token,
}

impl BenchToken {
    pub fn open() -> Self {
        let file = softhsm_module();
        let module = TokenSource::load(&file).unwrap();
        let info = module.create_token(LABEL, &pin("87654321"), &pin(PIN)).unwrap();
        let token = module.open(&info).unwrap();
        // This is the same library, which is initialized already.
        let pkcs11 = Pkcs11::new(&file).unwrap();
        let slots = pkcs11.get_slots_with_initialized_token().unwrap();
        let is_ours = |slot: &Slot| pkcs11.get_token_info(*slot).unwrap().label().trim_end() == LABEL;
        let slot = slots.into_iter().find(is_ours).unwrap();
        let bench_token = Self { pkcs11, slot, token };
        drop(bench_token.token.acquire_pin_lease().open_session(pin(PIN)).unwrap());
        bench_token
    }

    /// A PKCS#11 session besides the keystore's; the login is per process.
    pub fn session(&self) -> Session {
        self.pkcs11.open_rw_session(self.slot).unwrap()
    }

    /// Signing keys of level Low.
    pub fn signing_keys(&self) -> Vec<(String, TokenKey)> {
        let made = |(name, algorithm): (&str, KeyAlgorithm)| {
            let enrollment = self.token.acquire_pin_lease().unlock(pin(PIN)).unwrap().begin_enrollment();
            let id = KeyId::random().unwrap();
            (name.to_owned(), enrollment.generate_signing_key(name, &id, algorithm, SecurityLevel::Low).unwrap())
        };
        [("RSA-2048", RSA), ("P-256", KeyAlgorithm::P256)].map(made).to_vec()
    }

    /// Keys that decrypt or agree, with the attributes of delivered keys.
    pub fn reading_keys(&self) -> Vec<(String, TokenKey)> {
        [("RSA-2048-decrypt", RSA), ("P-256-ecdh", KeyAlgorithm::P256)]
            .map(|(name, kind)| (name.to_owned(), self.reading_key(kind)))
            .to_vec()
    }

    fn reading_key(&self, algorithm: KeyAlgorithm) -> TokenKey {
        let id = KeyId::random().unwrap();
        let elliptic = algorithm.is_elliptic_curve();
        let common = [Attribute::Token(true), Attribute::Id(id.as_bytes().to_vec())];
        let mut public = common.to_vec();
        match algorithm.curve() {
            Some(curve) => public.push(Attribute::EcParams(curve.to_der().unwrap())),
            None => public.extend([Attribute::ModulusBits(2048.into()), Attribute::PublicExponent(vec![1, 0, 1])]),
        }
        let mut private = common.to_vec();
        private.extend([
            Attribute::Private(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
            Attribute::Sign(false),
            Attribute::Unwrap(false),
            Attribute::Decrypt(!elliptic),
            Attribute::Derive(elliptic),
        ]);
        let mechanism = if elliptic {
            cryptoki::mechanism::Mechanism::EccKeyPairGen
        } else {
            cryptoki::mechanism::Mechanism::RsaPkcsKeyPairGen
        };
        self.session().generate_key_pair(&mechanism, &public, &private).unwrap();
        self.token.find_key(&id).unwrap().unwrap()
    }

    /// An encrypted content-encryption key for an RSA key, or the key's own point for an
    /// elliptic-curve key.
    pub fn input_for(key: &TokenKey) -> KeyInput {
        let spki = SubjectPublicKeyInfoRef::from_der(key.public_key_der()).unwrap();
        if key.algorithm().is_elliptic_curve() {
            return KeyInput::Point(spki.subject_public_key.as_bytes().unwrap().to_vec());
        }
        KeyInput::Ciphertext(encrypted_to(&rsa::RsaPublicKey::try_from(spki).unwrap()))
    }
}

/// A content-encryption key encrypted to this key.
pub fn encrypted_to(key: &rsa::RsaPublicKey) -> Vec<u8> {
    let mut random = rsa::rand_core::UnwrapErr(getrandom::SysRng);
    key.encrypt(&mut random, rsa::Pkcs1v15Encrypt, &[7; 32]).unwrap()
}

/// The template of a readable secret.
pub fn agreed_secret() -> [Attribute; 6] {
    [
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::GENERIC_SECRET),
        Attribute::Token(false),
        Attribute::Sensitive(false),
        Attribute::Extractable(true),
        Attribute::ValueLen(32.into()),
    ]
}

pub fn pin(text: &str) -> Pin {
    Pin::new(text.to_owned()).unwrap()
}
