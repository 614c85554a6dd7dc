//! Another program that knows a PIN: PKCS#11 calls around tokenkeep, as a user's other programs can
//! make them.
//!
//! A module finds its tokens through the process environment, so the calls run in a process of
//! their own: this test binary again, restricted to the calling test.

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::Result as CkResult;
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::AuthPin;
use serde_json::{Value, json};

use super::machine::{Machine, run};

/// The variable that tells the process that it is the other program, and has its parameters.
const CHILD_TASK: &str = "TOKENKEEP_TEST_CHILD_TASK";

/// The parameters of the process.
pub struct ChildTask {
    pub module: String,
    /// The token's label.
    pub token: String,
    pub pin: String,
    pub input: Value,
}

impl Machine {
    /// Runs `test` (as `module::function`) in a process of its own, for this token. Returns its
    /// result.
    #[track_caller]
    pub fn run_child_task(&self, test: &str, token: &str, pin: &str, input: &Value) -> Value {
        let path = self.file("tmp/child-task.result");
        let parameters = json!({ "module": self.module(), "token": token, "pin": pin, "input": input, "result": path });
        let mut command = self.command(std::env::current_exe().unwrap());
        command.args(["--exact", test, "--nocapture"]).env(CHILD_TASK, parameters.to_string());
        let output = run(command, b"").ok();
        let result = std::fs::read(&path).unwrap_or_else(|_| panic!("no test has this name: {test}\n{output}"));
        std::fs::remove_file(&path).unwrap();
        serde_json::from_slice(&result).unwrap()
    }
}

impl ChildTask {
    /// In the process started by [`Machine::run_child_task`]: runs the closure and returns true.
    /// Otherwise does nothing.
    pub fn run_in_child(task: impl FnOnce(&Self) -> Value) -> bool {
        let Ok(parameters) = std::env::var(CHILD_TASK) else { return false };
        let parameters: Value = serde_json::from_str(&parameters).unwrap();
        let text = |name: &str| parameters[name].as_str().unwrap().to_owned();
        let (module, token, pin, input) = (text("module"), text("token"), text("pin"), parameters["input"].clone());
        let result = task(&Self { module, token, pin, input });
        std::fs::write(text("result"), result.to_string()).unwrap();
        true
    }
}

/// A program with PKCS#11 sessions that is logged in to one token.
pub struct OtherProgram {
    pub session: Session,
    pub pin: AuthPin,
    pub input: Value,
    module: Pkcs11,
    slot: Slot,
}

impl OtherProgram {
    /// In the process started by [`Machine::run_child_task`]: logs in, runs the closure and returns
    /// true. Otherwise does nothing.
    pub fn run_logged_in(task: impl FnOnce(&Self) -> Value) -> bool {
        ChildTask::run_in_child(|parameters| {
            let module = Pkcs11::new(&parameters.module).unwrap();
            module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)).unwrap();
            let has_label =
                |slot: &Slot| module.get_token_info(*slot).is_ok_and(|info| info.label() == parameters.token);
            let slot = module.get_slots_with_token().unwrap().into_iter().find(has_label).expect("no such token");
            let session = module.open_rw_session(slot).unwrap();
            let pin: AuthPin = parameters.pin.clone().into();
            session.login(UserType::User, Some(&pin)).unwrap();
            task(&Self { session, pin, input: parameters.input.clone(), module, slot })
        })
    }

    /// A new session without an active operation.
    pub fn open_session(&self) -> Session {
        self.module.open_rw_session(self.slot).unwrap()
    }

    /// All token objects of a class.
    pub fn objects(&self, class: ObjectClass) -> Vec<ObjectHandle> {
        self.session.find_objects(&[Attribute::Class(class), Attribute::Token(true)]).unwrap()
    }

    /// An attribute of an object; `None` if the token does not reveal it.
    pub fn attribute(&self, object: ObjectHandle, kind: AttributeType) -> Option<Attribute> {
        self.session.get_attributes(object, &[kind]).ok()?.pop()
    }

    pub fn has_attribute(&self, object: ObjectHandle, attribute: &Attribute) -> bool {
        self.attribute(object, attribute.attribute_type()).as_ref() == Some(attribute)
    }

    pub fn is_rsa(&self, object: ObjectHandle) -> bool {
        self.has_attribute(object, &Attribute::KeyType(KeyType::RSA))
    }

    /// The type of an RSA or elliptic-curve key.
    pub fn key_type(&self, key: ObjectHandle) -> KeyType {
        if self.is_rsa(key) { KeyType::RSA } else { KeyType::EC }
    }

    /// Sets an attribute of an object in a session of its own.
    pub fn set_attribute(&self, object: ObjectHandle, attribute: Attribute) -> CkResult<()> {
        self.open_session().update_attributes(object, &[attribute])
    }

    pub fn label(&self, object: ObjectHandle) -> String {
        match self.attribute(object, AttributeType::Label) {
            Some(Attribute::Label(label)) => String::from_utf8_lossy(&label).into_owned(),
            _ => String::new(),
        }
    }

    /// A key pair of this program with all permissions: what fails with a user's key must succeed
    /// with this one.
    pub fn generate_key_pair(&self, kind: KeyType) -> PermissiveKeyPair {
        let mut private = vec![Attribute::Token(false), Attribute::Sensitive(false), Attribute::Extractable(true)];
        private.push(Attribute::Sign(true));
        let mut public = vec![Attribute::Token(false), Attribute::Private(false), Attribute::Verify(true)];
        let mechanism = if kind == KeyType::RSA {
            private.extend([Attribute::Decrypt(true), Attribute::Unwrap(true)]);
            public.extend([Attribute::Encrypt(true), Attribute::ModulusBits(2048.into())]);
            public.push(Attribute::PublicExponent(vec![1, 0, 1]));
            Mechanism::RsaPkcsKeyPairGen
        } else {
            private.push(Attribute::Derive(true));
            // secp256r1
            public.push(Attribute::EcParams(vec![0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07]));
            Mechanism::EccKeyPairGen
        };
        let (public, private) = self.session.generate_key_pair(&mechanism, &public, &private).unwrap();
        PermissiveKeyPair { public, private }
    }
}

/// Thirty-two bytes of value 7, encrypted to an RSA key. Every RSA private key reveals its public
/// key.
pub fn encrypted(session: &Session, key: ObjectHandle) -> Vec<u8> {
    let mut template = session.get_attributes(key, &[AttributeType::Modulus]).unwrap();
    template.extend([
        Attribute::Class(ObjectClass::PUBLIC_KEY),
        Attribute::KeyType(KeyType::RSA),
        Attribute::Token(false),
        Attribute::Private(false),
        Attribute::Encrypt(true),
        Attribute::PublicExponent(vec![1, 0, 1]),
    ]);
    let public = session.create_object(&template).unwrap();
    session.encrypt(&Mechanism::RsaPkcs, public, &[7; 32]).unwrap()
}

/// The attributes of an RSA key that nobody else may learn.
pub const RSA_SECRETS: [AttributeType; 6] = [
    AttributeType::PrivateExponent,
    AttributeType::Prime1,
    AttributeType::Prime2,
    AttributeType::Exponent1,
    AttributeType::Exponent2,
    AttributeType::Coefficient,
];

/// The template of a session key that any program may read.
pub fn readable_key(class: ObjectClass, key_type: KeyType) -> Vec<Attribute> {
    vec![
        Attribute::Class(class),
        Attribute::KeyType(key_type),
        Attribute::Token(false),
        Attribute::Sensitive(false),
        Attribute::Extractable(true),
    ]
}

/// The value of a readable secret key.
pub fn value(session: &Session, secret: ObjectHandle) -> CkResult<Vec<u8>> {
    match session.get_attributes(secret, &[AttributeType::Value])?.pop() {
        Some(Attribute::Value(value)) => Ok(value),
        other => panic!("it has no value: {other:?}"),
    }
}

pub struct PermissiveKeyPair {
    pub public: ObjectHandle,
    pub private: ObjectHandle,
}
