//! Level high on keysets as the program enrolls them, on both modules: what the user's other
//! programs can do that have the PIN and use the token directly. Each refused attempt with a user's
//! key is granted with a key of the intruder's own, so that no attempt fails for another reason.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use cryptoki::error::Result as CkResult;
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::elliptic_curve::{EcKdf, Ecdh1DeriveParams};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use serde_json::{Value, json};

use crate::support::authority::Authority;
use crate::support::deployment::Deployment;
use crate::support::machine::{Machine, TokenKind};
use crate::support::other_program::{OtherProgram, RSA_SECRETS, encrypted, readable_key, value};
use crate::support::shared_authority::remove_with_test_run;
use crate::support::terminal::Terminal;

/// A token on a machine, and its PIN.
struct TokenOnMachine {
    machine: usize,
    token: &'static str,
    pin: &'static str,
}

/// Keysets at level high, named like their tokens, with every kind of key on every module. Their
/// authorities have stopped, so that the authorities' tokens are open to intruders, too.
struct Fixture {
    machines: Vec<Machine>,
    users: Vec<TokenOnMachine>,
    authorities: Vec<TokenOnMachine>,
}

impl Fixture {
    /// One attempt at a time: two processes cannot use a token at once.
    fn get() -> MutexGuard<'static, Self> {
        static FIXTURE: OnceLock<Mutex<Fixture>> = OnceLock::new();
        let fixture = FIXTURE.get_or_init(|| {
            let other =
                std::thread::spawn(|| Self::enroll(TokenKind::Kryoptic, TokenKind::SoftHsm, "rsa-3072", "p256"));
            let mut machines = Self::enroll(TokenKind::SoftHsm, TokenKind::Kryoptic, "p256", "rsa-2048");
            machines.extend(other.join().unwrap());
            machines.iter().for_each(remove_with_test_run);
            let at = |machine, token, pin| TokenOnMachine { machine, token, pin };
            let users = [0, 2].map(|machine| at(machine, "admin", Deployment::ADMIN_PIN)).into_iter();
            let guests = [1, 3].map(|machine| at(machine, "default", Deployment::USER_PIN));
            let authorities = [0, 2].map(|machine| at(machine, "authority", Authority::PIN)).into();
            Mutex::new(Self { machines, users: users.chain(guests).collect(), authorities })
        });
        fixture.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An authority and its administrator on one machine, a user on another.
    fn enroll(kind: TokenKind, guest: TokenKind, signing: &str, encryption: &str) -> Vec<Machine> {
        let deployment = Deployment::begin_with_keys(kind, signing, encryption);
        let guest = Machine::with(guest);
        guest.write_secret("pin", Deployment::USER_PIN);
        deployment.machine.write_secret("pin", Deployment::ADMIN_PIN);
        let letter = guest.file("user.letter").display().to_string();
        deployment.issue("user@example.org", &letter).ok();
        let enroll = ["enroll", "--letter", "user.letter", "--level", "high", "--new-token"];
        guest.tokenkeep(&[&enroll[..], &["--new-pin-source", "file:pin"]].concat()).ok();
        for (machine, email) in [(&deployment.machine, "admin@example.org"), (&guest, "user@example.org")] {
            machine.write("message.txt", "a message\n");
            machine.tokenkeep(&["encrypt", "--to", email, "message.txt", "--out", "secret.p7m"]).ok();
        }
        let Deployment { mut authority, machine } = deployment;
        assert!(authority.stop().success());
        vec![machine, guest]
    }

    /// Runs the task on each user's token, in a process of its own that runs only `test`; returns
    /// the results. `None` in such a process, which has run the task.
    #[track_caller]
    fn attack_users(test: &str, task: fn(&OtherProgram) -> Value) -> Option<(MutexGuard<'static, Self>, Vec<Value>)> {
        if OtherProgram::run_logged_in(task) {
            return None;
        }
        let fixture = Self::get();
        let results = fixture.run_intruder(&fixture.users, test);
        Some((fixture, results))
    }

    /// Runs `test` on each of these tokens in a separate process.
    #[track_caller]
    fn run_intruder(&self, tokens: &[TokenOnMachine], test: &str) -> Vec<Value> {
        let run_intruder = |token: &TokenOnMachine| {
            self.machines[token.machine].run_child_task(test, token.token, token.pin, &Value::Null)
        };
        tokens.iter().map(run_intruder).collect()
    }
}

/// The private keys on a token, all at level high.
fn high_keys(intruder: &OtherProgram) -> Vec<ObjectHandle> {
    let keys = intruder.objects(ObjectClass::PRIVATE_KEY);
    assert_eq!(keys.len(), 2, "a signing key and an encryption key");
    for key in &keys {
        assert!(intruder.has_attribute(*key, &Attribute::AlwaysAuthenticate(true)), "{}", intruder.label(*key));
    }
    keys
}

/// The signing key and the encryption key.
fn signing_and_encryption_key(intruder: &OtherProgram) -> (ObjectHandle, ObjectHandle) {
    let keys = high_keys(intruder);
    let (signing, other): (Vec<_>, Vec<_>) =
        keys.into_iter().partition(|key| intruder.has_attribute(*key, &Attribute::Sign(true)));
    assert_eq!((signing.len(), other.len()), (1, 1));
    (signing[0], other[0])
}

#[test]
fn every_use_asks_for_the_pin() {
    const TEST: &str = "level_high::every_use_asks_for_the_pin";
    let Some((fixture, _)) = Fixture::attack_users(TEST, try_uses_without_context_pin) else { return };
    for TokenOnMachine { machine, token, pin } in &fixture.users {
        let machine = &fixture.machines[*machine];
        // A foreign program that gives the PIN for the use may use the key: only the PIN was
        // missing.
        machine.write("block", [7; 32]);
        let shown = machine.tokenkeep(&["keyset", "show", token, "--json"]).ok().json();
        let mut certificates = shown["certificates"].as_array().unwrap().iter();
        let signing = certificates.find(|one| one["use"] == "signing").unwrap();
        let mechanism = if signing["algorithm"] == "p256" { "ECDSA" } else { "RSA-PKCS" };
        let line = ["--sign", "--mechanism", mechanism, "--id", signing["id"].as_str().unwrap(), "-i", "block"];
        machine.pkcs11_tool(token, Some(pin), &[&line[..], &["-o", "signature"]].concat()).ok();

        // The program asks each time, and does nothing without an answer.
        let sign = ["sign", "--keyset", token, "--in", "message.txt", "--out", "signed.p7m"];
        let read = ["decrypt", "--keyset", token, "--in", "secret.p7m", "--out", "read.txt"];
        for line in [sign, sign, read, read] {
            let mut terminal = Terminal::tokenkeep(machine, &line);
            terminal.expect("PIN").type_line(pin);
            let (code, screen) = terminal.finish();
            assert_eq!(code, 0, "{screen}");
            let made = machine.file(line[6]);
            assert!(made.exists(), "{screen}");
            std::fs::remove_file(&made).unwrap();
            machine.tokenkeep_without_terminal(&line).fails_with(4);
            assert!(!made.exists(), "{line:?} was done without a PIN");
        }
    }
}

/// One use of a key in a session.
type Use = dyn Fn(&Session, ObjectHandle) -> CkResult<Vec<u8>>;

/// With a login, but without the PIN for the use, there is neither signature nor decryption. With
/// it, there is one.
fn try_uses_without_context_pin(intruder: &OtherProgram) -> Value {
    let (signing, encryption) = signing_and_encryption_key(intruder);
    let mut used: Vec<(ObjectHandle, Box<Use>)> = Vec::new();
    let mechanism = if intruder.is_rsa(signing) { Mechanism::RsaPkcs } else { Mechanism::Ecdsa };
    used.push((signing, Box::new(move |session, key| session.sign(&mechanism, key, &[7; 32]))));
    if intruder.is_rsa(encryption) {
        let decrypt = move |session: &Session, key| session.decrypt(&Mechanism::RsaPkcs, key, &encrypted(session, key));
        used.push((encryption, Box::new(decrypt)));
    }
    for (key, use_key) in used {
        let kind = intruder.key_type(key);
        let own = intruder.generate_key_pair(kind);
        use_key(&intruder.open_session(), own.private).expect("the intruder's own key");
        let done = use_key(&intruder.open_session(), key);
        assert!(done.is_err(), "{} was used without its PIN", intruder.label(key));
    }
    if intruder.is_rsa(signing) {
        let session = intruder.open_session();
        let once = |with_pin: bool| {
            session.sign_init(&Mechanism::Sha256RsaPkcs, signing)?;
            if with_pin {
                session.login(UserType::ContextSpecific, Some(&intruder.pin))?;
            }
            session.sign_update(b"a message")?;
            session.sign_final()
        };
        once(true).expect("with the PIN it signs");
        let again = once(false);
        assert!(again.is_err(), "one PIN was good for two signatures");
    }
    json!("tried")
}

#[test]
fn unwrap_copy_and_set_attribute_are_refused() {
    const TEST: &str = "level_high::unwrap_copy_and_set_attribute_are_refused";
    let Some((fixture, _)) = Fixture::attack_users(TEST, try_to_weaken_keys) else { return };
    // The keys are unchanged.
    for TokenOnMachine { machine, token, .. } in &fixture.users {
        let line = ["sign", "--keyset", token, "--pin-source", "file:pin", "--in", "message.txt", "--out", "round.p7m"];
        fixture.machines[*machine].tokenkeep(&line).ok();
    }
}

fn try_to_weaken_keys(intruder: &OtherProgram) -> Value {
    for key in high_keys(intruder) {
        let kind = intruder.key_type(key);
        let own = intruder.generate_key_pair(kind).private;
        let label = intruder.label(key);

        if kind == KeyType::RSA {
            let secret = unwrap_content_key(intruder, own).expect("the intruder's own key");
            assert_eq!(secret, [7; 32]);
            assert!(unwrap_content_key(intruder, key).is_err(), "{label} unwrapped a content key without its PIN");
        }

        let copied = |key, template: &[Attribute]| intruder.open_session().copy_object(key, template);
        copied(own, &[Attribute::Token(false)]).expect("the intruder's own key");
        for token_object in [true, false] {
            let template = [Attribute::Token(token_object), Attribute::AlwaysAuthenticate(false)];
            for template in [&template[..], &template[..1]] {
                assert!(copied(key, template).is_err(), "{label} was copied with {template:?}");
            }
        }

        let name = Attribute::Label(b"another".to_vec());
        intruder.set_attribute(own, name.clone()).expect("the intruder's own key");
        for weaker in [
            name,
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
            assert_not_settable(intruder, key, &weaker);
        }
        assert_eq!(intruder.label(key), label);
        assert!(intruder.has_attribute(key, &Attribute::AlwaysAuthenticate(true)), "{label} is weaker now");
    }
    json!("tried")
}

/// Fails the test if the token sets the attribute of a user's key.
#[track_caller]
fn assert_not_settable(intruder: &OtherProgram, key: ObjectHandle, attribute: &Attribute) {
    let set = intruder.set_attribute(key, attribute.clone());
    assert!(set.is_err(), "{attribute:?} was set on {}", intruder.label(key));
}

/// Unwraps a content key that was encrypted to an RSA key, into a readable key.
fn unwrap_content_key(intruder: &OtherProgram, key: ObjectHandle) -> CkResult<Vec<u8>> {
    let session = intruder.open_session();
    let template = readable_key(ObjectClass::SECRET_KEY, KeyType::GENERIC_SECRET);
    let secret = session.unwrap_key(&Mechanism::RsaPkcs, key, &encrypted(&session, key), &template)?;
    value(&session, secret)
}

#[test]
fn derive_is_refused_on_signing_keys_only() {
    const TEST: &str = "level_high::derive_is_refused_on_signing_keys_only";
    let Some((_fixture, kinds)) = Fixture::attack_users(TEST, try_derivations) else { return };
    // Both were tried, on both modules.
    for kind in ["refused", "derived"] {
        assert_eq!(kinds.iter().filter(|found| *found == kind).count(), 2, "{kinds:?}");
    }
}

fn try_derivations(intruder: &OtherProgram) -> Value {
    let (signing, encryption) = signing_and_encryption_key(intruder);
    let own = intruder.generate_key_pair(KeyType::EC);
    let peer = intruder.generate_key_pair(KeyType::EC);
    let own_point = public_point(intruder, own.public);
    derive_secret(intruder, own.private, &public_point(intruder, peer.public)).expect("the intruder's own key");
    if !intruder.is_rsa(signing) {
        assert!(derive_secret(intruder, signing, &own_point).is_err(), "a signing key derived a secret");
        return json!("refused");
    }

    // SECURITY.md documents it: the login alone suffices, and the result is the true secret.
    let id = intruder.attribute(encryption, AttributeType::Id).unwrap();
    let public = intruder.session.find_objects(&[Attribute::Class(ObjectClass::PUBLIC_KEY), id]).unwrap()[0];
    let secret = derive_secret(intruder, encryption, &own_point).expect("an encryption key derives after the login");
    assert_eq!(secret, derive_secret(intruder, own.private, &public_point(intruder, public)).unwrap());
    intruder.session.logout().unwrap();
    assert!(derive_secret(intruder, encryption, &own_point).is_err(), "it derived without a login");
    json!("derived")
}

/// The public point: 65 bytes that begin with 4.
fn public_point(intruder: &OtherProgram, public: ObjectHandle) -> Vec<u8> {
    let Some(Attribute::EcPoint(point)) = intruder.attribute(public, AttributeType::EcPoint) else {
        panic!("no point")
    };
    point[point.len() - 65..].to_vec()
}

fn derive_secret(intruder: &OtherProgram, key: ObjectHandle, peer: &[u8]) -> CkResult<Vec<u8>> {
    let session = intruder.open_session();
    let mut template = readable_key(ObjectClass::SECRET_KEY, KeyType::GENERIC_SECRET);
    template.push(Attribute::ValueLen(32.into()));
    let mechanism = Mechanism::Ecdh1Derive(Ecdh1DeriveParams::new(EcKdf::null(), peer));
    let secret = session.derive_key(&mechanism, key, &template)?;
    value(&session, secret)
}

#[test]
fn the_private_encryption_key_cannot_be_read_from_either_token() {
    const TEST: &str = "level_high::the_private_encryption_key_cannot_be_read_from_either_token";
    let Some((fixture, users_labels)) = Fixture::attack_users(TEST, try_to_read_keys) else { return };
    for labels in users_labels {
        let labels: Vec<_> = labels.as_array().unwrap().iter().map(|label| label.as_str().unwrap()).collect();
        assert!(labels.iter().any(|label| label.ends_with(" encryption")), "{labels:?}");
        assert_eq!(labels.len(), 2);
    }
    // The authority's own keys do not leave the token either, and no user's key has stayed there.
    for labels in fixture.run_intruder(&fixture.authorities, TEST) {
        let own = [
            "CA signing key",
            "CMP response key",
            "TLS server key",
            "archive key",
            "audit key",
            "record MAC key",
            "temporary-key HMAC key",
        ];
        assert_eq!(labels, json!(own));
    }
}

/// Tries to read every private and secret key of a token; returns their labels.
fn try_to_read_keys(intruder: &OtherProgram) -> Value {
    let own = [KeyType::RSA, KeyType::EC].map(|kind| intruder.generate_key_pair(kind).private);
    for key in own {
        assert!(!readable_attributes(intruder, key).is_empty(), "the intruder's own key");
        assert!(!wrapping_mechanisms(intruder, key).is_empty(), "the intruder's own key");
    }
    let mut labels = Vec::new();
    for class in [ObjectClass::PRIVATE_KEY, ObjectClass::SECRET_KEY] {
        for key in intruder.objects(class) {
            let label = intruder.label(key);
            assert!(readable_attributes(intruder, key).is_empty(), "{label:?} can be read");
            let out = wrapping_mechanisms(intruder, key);
            assert!(out.is_empty(), "{label:?} leaves the token by {out:?}");
            for weaker in [Attribute::Extractable(true), Attribute::Sensitive(false)] {
                assert_not_settable(intruder, key, &weaker);
            }
            labels.push(label);
        }
    }
    labels.sort();
    json!(labels)
}

/// The secret attributes that the token returns for a key.
fn readable_attributes(intruder: &OtherProgram, key: ObjectHandle) -> Vec<Attribute> {
    let secrets = [&[AttributeType::Value][..], &RSA_SECRETS].concat();
    secrets.into_iter().filter_map(|secret| intruder.attribute(key, secret)).collect()
}

/// The mechanisms with which the token wraps a key with a key of the intruder's.
fn wrapping_mechanisms(intruder: &OtherProgram, key: ObjectHandle) -> Vec<&'static str> {
    let uses = [Attribute::Wrap(true), Attribute::Decrypt(true), Attribute::Encrypt(true)];
    let template = [&[Attribute::Token(false), Attribute::ValueLen(32.into())], &uses[..]].concat();
    let own = intruder.session.generate_key(&Mechanism::AesKeyGen, &template).unwrap();
    let mechanisms = [
        ("AES_KEY_WRAP", Mechanism::AesKeyWrap),
        ("AES_KEY_WRAP_PAD", Mechanism::AesKeyWrapPad),
        ("AES_CBC_PAD", Mechanism::AesCbcPad([0; 16])),
    ];
    let can_wrap = |mechanism: &Mechanism<'_>| intruder.open_session().wrap_key(mechanism, own, key).is_ok();
    mechanisms.iter().filter(|(_, mechanism)| can_wrap(mechanism)).map(|(name, _)| *name).collect()
}
