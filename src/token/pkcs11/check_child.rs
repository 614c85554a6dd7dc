//! The child process: it reads the question, loads the module and answers in one line. It must
//! never log in without the PIN that it was given, and never write to a token.

use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::archive::ArchiveOperations;
use super::keys::KeyPairs;
use super::log_in::LogIn;
use super::objects::Objects;
use super::source::Pkcs11Source;
use super::token::Pkcs11Token;
use crate::token::authorization::LoginMode;
use crate::token::check::{BEGUN, CheckQuestion, CheckRequest, LOADED, StoredObject, TokenCheckReport, one_line};
use crate::token::{AUTHORITY_MARK, KeyId, Pin, TokenError, TokenInfo};

/// Maximum size of a question in bytes.
const MAX_REQUEST_BYTES: u64 = 1024 * 1024;

/// Another process that logs in to the same token can make a login fail for a moment (SoftHSM:
/// `CKR_GENERAL_ERROR`).
const ROUNDS: usize = 3;
const RETRY_DELAY: Duration = Duration::from_millis(30);

/// Reads the question and the PIN that follows it.
///
/// # Errors
/// The input cannot be read, or is not a question.
pub fn take_request(stdin: &mut impl Read) -> std::io::Result<(CheckRequest, Option<Pin>)> {
    let mut text = Zeroizing::new(Vec::with_capacity(8 * 1024));
    stdin.take(MAX_REQUEST_BYTES).read_to_end(&mut text)?;
    let end = text.iter().position(|byte| *byte == b'\n').unwrap_or(text.len());
    let request = serde_json::from_slice(text.get(..end).unwrap_or_default())?;
    let pin = std::str::from_utf8(text.get(end + 1..).unwrap_or_default()).unwrap_or_default();
    Ok((request, Pin::new(pin.to_owned()).ok()))
}

/// Writes the answer to `request` to `stdout`.
///
/// # Errors
/// `stdout` cannot be written.
pub fn answer(request: &CheckRequest, pin: Option<&Pin>, stdout: &mut impl Write) -> std::io::Result<()> {
    writeln!(stdout, "{BEGUN}")?;
    stdout.flush()?;
    let report = match Pkcs11Source::load(&request.module) {
        Ok(source) => {
            writeln!(stdout, "\n{LOADED}")?;
            stdout.flush()?;
            report(&source, request, pin)
        }
        Err(error) => failed(&error),
    };
    // Start a new line: the module may have printed something.
    writeln!(stdout, "\n{}", serde_json::to_string(&report)?)?;
    stdout.flush()
}

fn failed(error: &TokenError) -> TokenCheckReport {
    TokenCheckReport::ModuleFailed(one_line(&error.to_string(), 1000))
}

fn report(source: &Pkcs11Source, request: &CheckRequest, pin: Option<&Pin>) -> TokenCheckReport {
    let failed = |error: TokenError| failed(&error);
    let module = source.module();
    let tokens = match module.tokens() {
        Ok(tokens) => tokens,
        Err(error) => return failed(error),
    };
    let absent = || TokenCheckReport::TokenFailed("a new process does not find the token".to_owned());
    match &request.question {
        CheckQuestion::Load {} => module.stop().map_or_else(failed, |()| TokenCheckReport::Well {}),
        CheckQuestion::PinStates {} => module.pin_states().map_or_else(failed, TokenCheckReport::PinStates),
        CheckQuestion::Stored { token, objects } => {
            tokens.iter().find(|info| info.id() == *token).map_or_else(absent, |info| {
                missing(source, info, objects, pin)
                    .unwrap_or_else(|error| TokenCheckReport::TokenFailed(one_line(&error.to_string(), 1000)))
            })
        }
    }
}

fn missing(
    source: &Pkcs11Source,
    info: &TokenInfo,
    objects: &[StoredObject],
    pin: Option<&Pin>,
) -> Result<TokenCheckReport, TokenError> {
    let token = source.open_in_child(info)?;
    if let Some(pin) = pin {
        log_in(&token, pin)?;
    }
    let mut missing = Vec::new();
    for object in objects {
        if !exists(&token, object)? {
            missing.push(describe_object(object));
        }
    }
    Ok(if missing.is_empty() { TokenCheckReport::Well {} } else { TokenCheckReport::Missing(missing) })
}

/// Logs in with the PIN that the parent has logged in with.
fn log_in(token: &Arc<Pkcs11Token>, pin: &Pin) -> Result<(), TokenError> {
    let mut round = 1;
    loop {
        match LogIn::to(token).log_in_for(LoginMode::Persistent, pin).map(|_| ()) {
            Err(TokenError::Fault { .. }) if round < ROUNDS => std::thread::sleep(RETRY_DELAY),
            result => return result,
        }
        round += 1;
    }
}

fn exists(token: &Arc<Pkcs11Token>, object: &StoredObject) -> Result<bool, TokenError> {
    Ok(match object {
        StoredObject::Key { id, sha256 } => {
            let key = KeyPairs::on(token).find_key(&key_id(id))?;
            key.is_some_and(|key| sha256.as_ref().is_none_or(|known| *known == digest(key.public_key_der())))
        }
        StoredObject::SecretKey { id } => {
            let id = key_id(id);
            ArchiveOperations::on(token).secret_keys()?.iter().any(|key| *key.id() == id)
        }
        StoredObject::Certificate { id, sha256 } => {
            let id = key_id(id);
            let is_same_certificate = |der: &[u8]| sha256.as_ref().is_none_or(|known| *known == digest(der));
            Objects::on(token).certificates()?.iter().any(|found| found.id == id && is_same_certificate(&found.der))
        }
        StoredObject::Data { application, label, private, sha256 } => {
            let found = Objects::on(token).data_objects(application, *private)?;
            found.iter().any(|found| found.label == *label && digest(&found.value) == *sha256)
        }
    })
}

fn describe_object(object: &StoredObject) -> String {
    match object {
        StoredObject::Key { .. } => "a private key".to_owned(),
        StoredObject::SecretKey { .. } => "a secret key".to_owned(),
        StoredObject::Certificate { .. } => "a certificate".to_owned(),
        StoredObject::Data { application, label, .. } if application == AUTHORITY_MARK => {
            format!("the mark {label:?}")
        }
        StoredObject::Data { label, private, .. } => {
            let kind = if *private { "private" } else { "public" };
            format!("the {kind} index of {label:?}")
        }
    }
}

fn key_id(id: &str) -> KeyId {
    KeyId::from(hex::decode(id).unwrap_or_default())
}

fn digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::test_support::{PIN, authority_token, modules, pin};
    use crate::token::{KeyAlgorithm, PinState, PinStates};

    #[test]
    fn a_fresh_process_finds_stored_objects_and_names_missing_ones() {
        for module in modules() {
            let token = authority_token(&module);
            let id = KeyId::random().unwrap();
            token.put_data("t", "label", b"value", true).unwrap();
            let key = token.generate_signing_key("a key", &id, KeyAlgorithm::P256).unwrap();
            let secret = KeyId::random().unwrap();
            token.generate_mac_key("a secret key", &secret).unwrap();
            let there = vec![
                StoredObject::Key { id: hex::encode(id.as_bytes()), sha256: Some(digest(key.public_key_der())) },
                StoredObject::Data {
                    application: "t".into(),
                    label: "label".into(),
                    private: true,
                    sha256: digest(b"value"),
                },
                StoredObject::SecretKey { id: hex::encode(secret.as_bytes()) },
            ];
            let not_there = vec![
                StoredObject::Key { id: "00".into(), sha256: None },
                // The key with this ID is of another kind.
                StoredObject::SecretKey { id: hex::encode(id.as_bytes()) },
                StoredObject::Certificate { id: hex::encode(id.as_bytes()), sha256: Some(digest(b"")) },
                StoredObject::Data {
                    application: "t".into(),
                    label: "label".into(),
                    private: true,
                    sha256: digest(b"old"),
                },
            ];
            let ask = |objects: &[StoredObject]| {
                let found: Vec<_> = objects.iter().filter(|object| !exists(token.pkcs11(), object).unwrap()).collect();
                found.len()
            };
            assert_eq!((ask(&there), ask(&not_there)), (0, 4));
            let request = CheckRequest { module: module.path().to_owned(), question: CheckQuestion::PinStates {} };
            let TokenCheckReport::PinStates(all) = report(module.pkcs11(), &request, None) else {
                panic!("no PIN states")
            };
            let ok = PinStates { pin: PinState::Ok, so_pin: PinState::Ok };
            assert!(all.contains(&(token.info().id(), ok)), "{all:?}");
        }
    }

    #[test]
    fn a_question_and_its_pin_are_read() {
        let request = CheckRequest { module: "/m.so".into(), question: CheckQuestion::Load {} };
        let mut text = serde_json::to_vec(&request).unwrap();
        let (read, none) = take_request(&mut &text[..]).unwrap();
        assert!(read == request && none.is_none());
        text.push(b'\n');
        text.extend_from_slice(PIN.as_bytes());
        let (_, given) = take_request(&mut &text[..]).unwrap();
        assert_eq!(given.unwrap().as_str(), pin(PIN).as_str());
        assert!(take_request(&mut &b"no question"[..]).is_err());
    }
}
