//! Enrollments with SoftHSM in one process: their outcomes, and the resulting content of the token.

mod administering;
pub mod authority_double;
mod enrolling;
mod refusals;
mod replies;
mod responses;
mod resuming;

use std::collections::BTreeSet;
use std::process::Command;

use jiff::Timestamp;

use super::decryption::decrypt_in_memory as decrypt;
use super::ops::{administer, change_pin, delete, open_response, sign_for_a_file};
use super::*;
use crate::letter::{Letter, LetterPurpose};
use crate::pki::test_support::{SoftwareKey, TestFiles};
use crate::smime::Placement;
use crate::token::test_support::{PIN, fresh_label, pin, softhsm};
use crate::token::{KeyId, KeysetName, SecurityLevel, TokenInfo, TokenSource};
use authority_double::AuthorityDouble;

/// A prompter with scripted answers that records the prompts.
pub struct Script {
    answers: Vec<Result<&'static str, NoPin>>,
    pub asked: Vec<String>,
    pub notices: Vec<Notice>,
}

impl Script {
    /// Answers every PIN prompt with this PIN.
    pub fn with(pin: &'static str) -> Self {
        Self { answers: vec![Ok(pin); 4], asked: Vec::new(), notices: Vec::new() }
    }

    pub fn without(reason: NoPin) -> Self {
        Self { answers: vec![Err(reason)], asked: Vec::new(), notices: Vec::new() }
    }
}

impl UserPrompter for Script {
    fn ask(&mut self, prompt: &Prompt) -> Result<PromptReply, NoPin> {
        let kind = match prompt {
            Prompt::Pin { purpose, .. } => format!("existing to {}", purpose.operation()),
            Prompt::ResumedPin { .. } => "resumed".to_owned(),
            Prompt::NewPin { .. } => "new".to_owned(),
            Prompt::NewSoPin { .. } => "so".to_owned(),
            Prompt::SoPin { .. } | Prompt::LastTry { .. } | Prompt::Use { .. } => return Err(NoPin::LastTry),
        };
        self.asked.push(kind);
        let answer = self.answers.pop().expect("asked once too often");
        answer.map(|answer| PromptReply::Pin { pin: pin(answer), may_retry: false })
    }
}

impl OperationObserver for Script {
    fn notice(&mut self, notice: Notice) {
        self.notices.push(notice);
    }
}

/// The tokens of one test. Their labels share a prefix, so that concurrent tests do not see each
/// other's tokens.
pub struct Wallet {
    prefix: String,
    pub tokens: Tokens,
}

impl Wallet {
    pub fn new() -> Self {
        Self::of(softhsm())
    }

    /// The tokens of this module.
    pub fn of(module: TokenSource) -> Self {
        let prefix = fresh_label("k");
        Self { tokens: Tokens::new(vec![module]).seeing_only(&prefix), prefix }
    }

    /// A keyset name in this wallet.
    pub fn name(&self, what: &str) -> KeysetName {
        format!("{}{what}", self.prefix).parse().unwrap()
    }

    /// A new token with [`PIN`] and without a keyset.
    pub fn token(&self, what: &str) -> TokenInfo {
        softhsm().create_token(&format!("{}{what}", self.prefix), &pin("so-pin-of-it"), &pin(PIN)).unwrap()
    }

    /// A new token with this PIN, named after the first keyset, and a keyset for each of these
    /// signing keys, which another program made. The keysets have no encryption keys.
    pub fn import(
        &self,
        double: &AuthorityDouble,
        user_pin: &str,
        level: SecurityLevel,
        keys: &[(&str, &SoftwareKey)],
    ) -> TokenInfo {
        let label = self.name(keys[0].0).to_string();
        let info = softhsm().create_token(&label, &pin("so-pin-of-it"), &pin(user_pin)).unwrap();
        let files = TestFiles::new();
        let [ids, authorities] = [(); 2].map(|()| keys.iter().map(|_| KeyId::random().unwrap()).collect::<Vec<_>>());
        for ((what, key), id) in keys.iter().zip(&ids) {
            let file = files.path(what);
            key.write_pem(&file);
            let (file, name, id) = (file.to_str().unwrap(), self.name(what), id.to_string());
            let key = ["--import", file, "--label", name.as_str(), "--id", &id];
            softhsm2_util(&[&key[..], &["--token", &label, "--pin", user_pin]].concat());
        }
        let pin_session = self.tokens.open(&info).unwrap().unlock(pin(user_pin)).unwrap();
        let token = pin_session.token();
        let letter = double.letter(LetterPurpose::Enroll);
        let authority =
            AuthorityAddress { name: letter.authority_name, http: letter.http_url, https: letter.https_url };
        for (((what, key), id), authority_id) in keys.iter().zip(&ids).zip(&authorities) {
            let name = self.name(what);
            let certificate = double.ca.issue("signing", "Example, User", key);
            token.put_certificate(id, name.as_str(), certificate.as_der()).unwrap();
            token.put_certificate(authority_id, name.as_str(), double.ca.certificate.as_der()).unwrap();
            let keys =
                index::KeysetKeyIds { signing: id.into(), encryption: Vec::new(), authority: authority_id.into() };
            let record = index::KeysetRecord { name, level, authority: authority.clone(), keys: Some(keys) };
            let mut private = index::PrivateIndex::new(record, letter.ca_fingerprint);
            private.write(token).unwrap();
            index::PublicIndex::of(&private).write(token).unwrap();
        }
        info
    }

    pub fn on_new_token(&self, what: &str) -> EnrollOptions {
        EnrollOptions { new_token: Some(NewToken::Anywhere), ..self.again(what) }
    }

    pub fn again(&self, what: &str) -> EnrollOptions {
        EnrollOptions {
            keyset: self.name(what),
            level: None,
            new_token: None,
            token: None,
            so_pin: false,
            replace_person: false,
        }
    }

    pub fn onto(&self, token: &TokenInfo, what: &str) -> EnrollOptions {
        EnrollOptions { token: Some(TokenSelector::SerialOrLabel(token.serial.clone())), ..self.again(what) }
    }

    pub fn keyset(&self, what: &str) -> FoundKeyset {
        let choice = KeysetChoice { name: Some(self.name(what)), ..KeysetChoice::default() };
        self.tokens.choose(&choice).unwrap()
    }

    /// The content of the token, readable with this PIN: labels and identifiers of keys,
    /// certificates, data objects' contents.
    pub fn inventory(&self, token: &TokenInfo, with: &str) -> BTreeSet<String> {
        let pin_session = self.tokens.open(token).unwrap().unlock(pin(with)).unwrap();
        let token = pin_session.token();
        let mut found = BTreeSet::new();
        found.extend(token.keys().unwrap().iter().map(|key| format!("key {} {}", key.label(), key.id())));
        found.extend(token.public_keys().unwrap().iter().map(|key| format!("public key {} {}", key.label, key.id)));
        found.extend(
            token.certificates().unwrap().iter().map(|stored| format!("certificate {} {}", stored.label, stored.id)),
        );
        for private in [false, true] {
            for data in token.data_objects(index::APPLICATION, private).unwrap() {
                let text = String::from_utf8(data.value).unwrap();
                // The revision counts every write, even without a change.
                let text = text.split(',').filter(|part| !part.contains("\"revision\"")).collect::<Vec<_>>().join(",");
                found.insert(format!("data {} {private} {text}", data.label));
            }
        }
        found
    }

    /// The labels of all tokens.
    pub fn labels(&self) -> Vec<String> {
        self.tokens.list().unwrap().into_iter().map(|token| token.label).collect()
    }
}

pub fn run(
    double: &AuthorityDouble,
    wallet: &Wallet,
    letter: &Letter,
    options: &EnrollOptions,
    script: &mut Script,
) -> Enrollment {
    enroll(&wallet.tokens, double, letter, options, script, Timestamp::now()).unwrap()
}

#[track_caller]
pub fn enrolled(enrollment: Enrollment) -> Enrolled {
    match enrollment {
        Enrollment::Enrolled(enrolled) => *enrolled,
        Enrollment::NotEnrolled(not) => panic!("{not}"),
    }
}

#[track_caller]
pub fn not_enrolled(enrollment: Enrollment) -> NotEnrolled {
    match enrollment {
        Enrollment::Enrolled(enrolled) => panic!("enrolled: {enrolled:?}"),
        Enrollment::NotEnrolled(not) => not,
    }
}

/// Signs a content in memory.
pub fn sign(
    tokens: &Tokens,
    keyset: &FoundKeyset,
    content: &[u8],
    placement: Placement,
    person: &mut dyn UserPrompter,
    now: Timestamp,
) -> Result<Vec<u8>, KeysetError> {
    let mut signed = Vec::new();
    ops::sign(tokens, keyset, std::io::Cursor::new(content), &mut signed, placement, person, now)?;
    Ok(signed)
}

/// A wallet with the keyset "a" on a new token, at level High.
pub fn somebody(double: &AuthorityDouble) -> Wallet {
    let wallet = Wallet::new();
    let letter = double.letter(LetterPurpose::Enroll);
    enrolled(run(double, &wallet, &letter, &wallet.on_new_token("a"), &mut Script::with(PIN)));
    double.seen();
    wallet
}

/// Runs `softhsm2-util`. Other tests make tokens in the same directory meanwhile. If it meets one
/// that is not complete, it ends before it uses the PIN, and is run again.
fn softhsm2_util(arguments: &[&str]) {
    for _ in 0..50 {
        let output = Command::new("softhsm2-util").args(arguments).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        if output.status.success() {
            return;
        }
        assert!(text.contains("Could not get info about the token"), "softhsm2-util {arguments:?}: {text}");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    panic!("softhsm2-util {arguments:?}: other tests did not finish their tokens");
}
