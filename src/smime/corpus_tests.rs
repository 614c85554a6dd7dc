//! Tests with real messages of other programs, in `tests/corpus/cms`: each has the content and kind
//! that its file name states.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::{
    Cipher, EncryptedMessage, KeyOperation, KeyResult, Message, MessageFormat, MessageKind, Placement,
    SignatureVerdict, SigningOptions, encrypt, from_entity, sign, verify,
};
use crate::pki::Certificate;
use crate::pki::oid::ContentType;
use crate::pki::test_support::SoftwareKey;

struct Corpus {
    people: BTreeMap<&'static str, (SoftwareKey, Certificate)>,
    authority: Certificate,
    content: Vec<u8>,
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/cms")
}

fn certificate(name: &str) -> Certificate {
    let pem = std::fs::read(directory().join(format!("keys/{name}.pem"))).unwrap();
    Certificate::read_all(&pem).unwrap().remove(0)
}

impl Corpus {
    fn load() -> Self {
        let person = |name| {
            let pem = std::fs::read(directory().join(format!("keys/{name}.key"))).unwrap();
            (name, (SoftwareKey::from_pem(&pem), certificate(name)))
        };
        Self {
            people: ["rsa", "p256", "p384"].map(person).into(),
            authority: certificate("authority"),
            content: std::fs::read(directory().join("content.txt")).unwrap(),
        }
    }

    /// All messages whose file names contain this text, with their names.
    fn messages(part: &str) -> Vec<(String, Message)> {
        let mut messages = Vec::new();
        for program in ["openssl", "gnutls", "gpgsm"] {
            for entry in std::fs::read_dir(directory().join(program)).unwrap() {
                let path = entry.unwrap().path();
                let name = path.file_name().unwrap().to_str().unwrap().to_owned();
                if name.contains(part) {
                    let message = Message::read(&std::fs::read(&path).unwrap());
                    messages
                        .push((format!("{program}/{name}"), message.unwrap_or_else(|error| panic!("{name}: {error}"))));
                }
            }
        }
        messages
    }

    fn is_content(&self, content: &[u8]) -> bool {
        content == self.content || from_entity(content).is_some_and(|file| file == self.content) || {
            // A MIME entity whose line ends were changed to LF.
            let plain: Vec<u8> = self.content.iter().copied().filter(|byte| *byte != b'\r').collect();
            from_entity(content).is_some_and(|file| file == plain)
        }
    }
}

#[test]
fn every_signed_message_verifies_and_no_changed_one_does() {
    let corpus = Corpus::load();
    let anchors = [corpus.authority.clone()];
    let at = corpus.authority.not_before() + jiff::SignedDuration::from_hours(24);
    let messages = Corpus::messages("signed-");
    assert!(messages.len() > 20, "the corpus has too few messages");
    for (name, message) in messages {
        assert_eq!(message.kind, MessageKind::Signed, "{name}");
        let verified = verify(&message, None, &[], &anchors, at).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(verified.is_good(), "{name}: {:?}", verified.signers);
        assert!(corpus.is_content(&verified.content), "{name}: {:?}", String::from_utf8_lossy(&verified.content));
        assert_eq!(verified.signers.len(), if name.contains("two") { 2 } else { 1 }, "{name}");
        assert!(verified.signers.iter().all(|signer| signer.emails == ["user@example.org"]), "{name}");

        let mut changed = message.clone();
        let holder = changed.detached_content.as_mut().unwrap_or(&mut changed.cms);
        let position = holder.windows(4).position(|window| window == b"Dear").unwrap();
        holder[position] = b'B';
        let verified = verify(&changed, None, &[], &anchors, at).unwrap();
        let wrong = |verdict: &SignatureVerdict| matches!(verdict, SignatureVerdict::SignatureWrong { .. });
        assert!(verified.signers.iter().all(|signer| wrong(&signer.verdict)), "{name}");
    }
}

#[test]
fn every_encrypted_message_opens_for_each_of_its_recipients() {
    let corpus = Corpus::load();
    let messages = Corpus::messages("encrypted-");
    assert!(messages.len() > 25, "the corpus has too few messages");
    for (name, message) in messages {
        let encrypted = EncryptedMessage::parse(&message).unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut opened_by = 0;
        for (key, certificate) in corpus.people.values() {
            let Some(place) = encrypted.recipients().iter().position(|recipient| recipient.is(certificate)) else {
                continue;
            };
            let opened = encrypted.open(place, |operation| {
                let secret = match operation {
                    KeyOperation::Decrypt { transport, ciphertext } => key.decrypt(&transport, ciphertext),
                    KeyOperation::Agree { peer_public_key } => key.agree(peer_public_key),
                };
                Ok::<_, Infallible>(KeyResult::Secret(Zeroizing::new(secret.unwrap())))
            });
            let opened = opened.unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(corpus.is_content(&opened.content), "{name}");
            assert_eq!(opened.authenticated, name.contains("gcm"), "{name}");
            opened_by += 1;
        }
        assert_eq!(opened_by, if name.contains("three") { 3 } else { 1 }, "{name}");
        assert_eq!(encrypted.recipients().len(), opened_by, "{name}");
    }
}

/// With `WRITE_CORPUS=1` the test also writes these messages, for programs that no test runs
/// (`gpgsm`, mail programs).
#[test]
fn our_messages_verify_and_decrypt() {
    let corpus = Corpus::load();
    let (key, certificate) = &corpus.people["rsa"];
    let signing = SigningOptions {
        certificate,
        chain: std::slice::from_ref(&corpus.authority),
        placement: Placement::Attached,
        signing_time: crate::pki::test_support::now(),
        content_type: ContentType::DATA,
    };
    let signed = sign(&corpus.content, &signing, key).unwrap();
    let encrypted = encrypt(&corpus.content, std::slice::from_ref(certificate), Cipher::Aes256Cbc).unwrap();
    let read = Message::read(&signed).unwrap();
    assert!(verify(&read, None, &[], &[corpus.authority], crate::pki::test_support::now()).unwrap().is_good());
    assert!(EncryptedMessage::parse(&Message::read(&encrypted).unwrap()).unwrap().recipients()[0].is(certificate));
    if std::env::var_os("WRITE_CORPUS").is_none() {
        return;
    }
    for (name, cms) in [("own-signed-rsa.der", signed), ("own-encrypted-rsa-cbc.der", encrypted)] {
        let written = Message::write(&cms, MessageFormat::Der, None).unwrap();
        std::fs::write(directory().join("gpgsm").join(name), written).unwrap();
    }
}
