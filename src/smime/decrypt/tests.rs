//! Tests of encryption and decryption with OpenSSL on the other side, and of failures that reveal
//! nothing.

use std::convert::Infallible;
use std::sync::OnceLock;

use super::*;
use crate::pki::Certificate;
use crate::pki::cms::open_content_info;
use crate::pki::test_support::{SoftwareKey, TestAuthority, TestFiles, openssl, try_openssl};
use crate::pki::tlv::{INTEGER, OBJECT_IDENTIFIER, SEQUENCE, context_constructed};
use crate::smime::content_cipher::ContentCipher;
use crate::smime::encrypt::encrypt_with;
use crate::smime::envelope::{WHAT, substitute};
use crate::smime::{Cipher, MessageFormat, MessageKind, RecipientKind, encrypt};
use crate::token::{KeyTransport, OaepHash};

mod files;

const CONTENT: &[u8] = b"Dear all,\r\nthis is \xff not text.\r\n";

fn recipient(key: &SoftwareKey) -> Certificate {
    TestAuthority::new("Example Authority", SoftwareKey::p256()).issue("encryption", "Example, User", key)
}

/// The result that a token would return.
fn operate(key: &SoftwareKey, operation: &KeyOperation<'_>) -> KeyResult {
    let secret = match operation {
        KeyOperation::Decrypt { transport, ciphertext } => key.decrypt(transport, ciphertext),
        KeyOperation::Agree { peer_public_key } => key.agree(peer_public_key),
    };
    secret.map_or(KeyResult::Failed, |secret| KeyResult::Secret(Zeroizing::new(secret)))
}

fn open(
    cms: &[u8],
    key: &SoftwareKey,
    certificate: &Certificate,
) -> Result<DecryptedMessage, DecryptError<Infallible>> {
    let message = EncryptedMessage::parse(&Message::read(cms)?)?;
    let place = message.recipients().iter().position(|recipient| recipient.is(certificate)).unwrap();
    message.open(place, |operation| Ok(operate(key, &operation)))
}

#[test]
fn openssl_reads_what_we_encrypt() {
    let files = TestFiles::new();
    let keys = [SoftwareKey::rsa(), SoftwareKey::p256(), SoftwareKey::p384(), SoftwareKey::new_rsa(2048)];
    let certificates = keys.clone().map(|key| recipient(&key));
    for cipher in [Cipher::Aes256Cbc, Cipher::Aes256Gcm] {
        for content in [CONTENT, b"", &vec![7; 100_000]] {
            let cms = encrypt(content, &certificates, cipher).unwrap();
            for (key, certificate) in keys.iter().zip(&certificates) {
                let (pem, key_pem) = (files.put_certificate("c.pem", certificate), files.put_key("k.pem", key));
                let arguments = ["cms", "-decrypt", "-binary", "-inform", "DER", "-recip", &pem, "-inkey", &key_pem];
                assert_eq!(openssl(&arguments, &cms), content);
                let opened = open(&cms, key, certificate).unwrap();
                assert_eq!(**opened.content, *content);
                assert_eq!(opened.authenticated, cipher == Cipher::Aes256Gcm);
            }
        }
    }
    // With RSA keys only, the version is the oldest one, which every program supports.
    let cms = encrypt(CONTENT, &certificates[..1], Cipher::Aes256Cbc).unwrap();
    let shown = String::from_utf8(openssl(&["cms", "-cmsout", "-print", "-inform", "DER"], &cms)).unwrap();
    assert!(shown.contains("version: 0") && shown.contains("aes-256-cbc"), "{shown}");
}

#[test]
fn we_read_what_openssl_encrypts() {
    let (rsa, p256, p384) = (SoftwareKey::rsa(), SoftwareKey::p256(), SoftwareKey::p384());
    let files = TestFiles::new();
    for (key, cipher, options) in [
        (&rsa, "-aes-128-cbc", &[][..]),
        (&rsa, "-aes-192-cbc", &[]),
        (&rsa, "-aes-256-cbc", &["-keyid"]),
        (&rsa, "-aes-256-cbc", &["-keyopt", "rsa_padding_mode:oaep"]),
        (&rsa, "-aes-256-cbc", &["-keyopt", "rsa_padding_mode:oaep", "-keyopt", "rsa_oaep_md:sha256"]),
        (&rsa, "-aes-256-gcm", &["-keyopt", "rsa_padding_mode:oaep", "-keyopt", "rsa_oaep_md:sha512"]),
        (&rsa, "-aes-128-gcm", &["-stream", "-indef"]),
        (&rsa, "-aes-192-gcm", &["-stream", "-indef"]),
        (&rsa, "-aes-256-cbc", &["-stream", "-indef"]),
        (&p256, "-aes-256-cbc", &[]),
        (&p256, "-aes-128-cbc", &["-keyid", "-stream", "-indef"]),
        (&p256, "-aes-256-gcm", &["-keyopt", "ecdh_kdf_md:sha256"]),
        (&p384, "-aes-192-cbc", &["-keyopt", "ecdh_kdf_md:sha384"]),
        (&p384, "-aes-256-cbc", &["-keyopt", "ecdh_kdf_md:sha512", "-keyopt", "ecdh_cofactor_mode:1"]),
    ] {
        let certificate = recipient(key);
        let pem = files.put_certificate("c.pem", &certificate);
        let mut arguments = vec!["cms", "-encrypt", "-binary", "-outform", "DER", cipher, "-recip", &pem];
        arguments.extend(options);
        let cms = openssl(&arguments, CONTENT);
        let opened = open(&cms, key, &certificate).unwrap_or_else(|error| panic!("{cipher} {options:?} {error}"));
        assert_eq!(**opened.content, *CONTENT, "{cipher} {options:?}");
        assert_eq!(opened.authenticated, cipher.ends_with("gcm"));
    }
}

#[test]
fn openssl_reads_every_key_transport_scheme_we_write() {
    let (key, files) = (SoftwareKey::rsa(), TestFiles::new());
    let certificate = recipient(&key);
    let (pem, key_pem) = (files.put_certificate("c.pem", &certificate), files.put_key("k.pem", &key));
    let oaep = [OaepHash::Sha1, OaepHash::Sha256, OaepHash::Sha384, OaepHash::Sha512].map(KeyTransport::Oaep);
    for transport in [KeyTransport::Pkcs1v15].into_iter().chain(oaep) {
        let cipher = ContentCipher::new(Cipher::Aes256Cbc).unwrap();
        let cms = encrypt_with(CONTENT, std::slice::from_ref(&certificate), &cipher, &transport).unwrap();
        let arguments = ["cms", "-decrypt", "-binary", "-inform", "DER", "-recip", &pem, "-inkey", &key_pem];
        assert_eq!(openssl(&arguments, &cms), CONTENT, "{transport:?}");
        let message = EncryptedMessage::parse(&Message::read(&cms).unwrap()).unwrap();
        assert_eq!(message.recipients()[0].kind, RecipientKind::KeyTransport(transport));
        assert_eq!(**open(&cms, &key, &certificate).unwrap().content, *CONTENT);
    }
}

#[test]
fn recipients_are_listed_before_any_key_use() {
    let (mine, other, curve) = (SoftwareKey::rsa(), SoftwareKey::new_rsa(2048), SoftwareKey::p256());
    let certificates = [&other, &curve, &mine].map(recipient);
    let cms = encrypt(CONTENT, &certificates, Cipher::Aes256Cbc).unwrap();
    let message = EncryptedMessage::parse(&Message::read(&cms).unwrap()).unwrap();
    assert_eq!(message.recipients().len(), 3);
    for (certificate, is_curve) in certificates.iter().zip([false, true, false]) {
        let places: Vec<_> = message.recipients().iter().filter(|recipient| recipient.is(certificate)).collect();
        assert_eq!(places.len(), 1);
        assert_eq!(places[0].kind == RecipientKind::KeyAgreement, is_curve);
    }
    let stranger = recipient(&mine);
    assert!(!message.recipients().iter().any(|recipient| recipient.is(&stranger)));
    assert!(
        message
            .open(3, |_| -> Result<KeyResult, Infallible> { panic!("the key was used for an unknown recipient") })
            .is_err()
    );
}

/// Every cause has the same result: the one error or, for CBC once in 256 times, meaningless
/// octets.
fn says_nothing(result: Result<DecryptedMessage, DecryptError<Infallible>>, what: &str) {
    match result {
        Ok(opened) => assert!(!opened.authenticated && **opened.content != *CONTENT, "{what}"),
        Err(DecryptError::Message(error)) => {
            assert!(matches!(error, SmimeError::Undecryptable), "{what}: {error}");
        }
        Err(DecryptError::Key(never)) => match never {},
    }
}

#[test]
fn no_failure_reveals_its_reason() {
    for key in [SoftwareKey::rsa(), SoftwareKey::p256()] {
        let certificate = recipient(&key);
        for cipher in [Cipher::Aes256Cbc, Cipher::Aes256Gcm] {
            let cms = encrypt(CONTENT, std::slice::from_ref(&certificate), cipher).unwrap();
            let message = EncryptedMessage::parse(&Message::read(&cms).unwrap()).unwrap();
            let with = |answer: KeyResult| message.open(0, |_| Ok(answer));
            says_nothing(with(KeyResult::Failed), "bad padding");
            for length in [0, 1, 15, 16, 24, 31, 32, 33, 48, 256] {
                says_nothing(with(KeyResult::Secret(Zeroizing::new(vec![0x55; length]))), "a wrong secret");
            }
            // Another person's key, as with the wrong certificate.
            let other = if matches!(message.recipients()[0].kind, RecipientKind::KeyAgreement) {
                SoftwareKey::p256()
            } else {
                SoftwareKey::new_rsa(2048)
            };
            says_nothing(message.open(0, |operation| Ok(operate(&other, &operation))), "another's key");
            // Changes each of the last 150 octets: encrypted content and tag.
            for at in cms.len() - 150..cms.len() {
                let mut changed = cms.clone();
                changed[at] ^= 0x20;
                let Ok(message) = Message::read(&changed).and_then(|message| EncryptedMessage::parse(&message)) else {
                    continue;
                };
                match message.open(0, |operation| Ok(operate(&key, &operation))) {
                    // Parts that are neither key nor content may change: the recipient's name, the
                    // content type.
                    Ok(opened) if **opened.content == *CONTENT => {}
                    result => says_nothing(result, "a changed octet"),
                }
            }
        }
    }
}

#[test]
fn the_substitute_content_key_is_fixed_for_each_message() {
    let key = SoftwareKey::rsa();
    let certificate = recipient(&key);
    let message = || {
        let cms = encrypt(CONTENT, std::slice::from_ref(&certificate), Cipher::Aes256Cbc).unwrap();
        EncryptedMessage::parse(&Message::read(&cms).unwrap()).unwrap()
    };
    let stands_for =
        |message: &EncryptedMessage, length| substitute(&message.envelope.recipient_infos()[0], length).unwrap();
    let (one, other) = (message(), message());
    assert_eq!(stands_for(&one, 32), stands_for(&one, 32), "different keys would reveal the failure");
    assert_ne!(stands_for(&one, 32), stands_for(&other, 32));
    assert_ne!(stands_for(&one, 32)[..16], stands_for(&one, 16)[..]);
}

#[test]
fn a_token_error_is_passed_on_and_the_key_is_used_once() {
    let certificate = recipient(&SoftwareKey::rsa());
    let cms = encrypt(CONTENT, &[certificate], Cipher::Aes256Cbc).unwrap();
    let message = EncryptedMessage::parse(&Message::read(&cms).unwrap()).unwrap();
    let mut asked = 0;
    let result = message.open(0, |_| {
        asked += 1;
        Err("the PIN is wrong")
    });
    assert!(matches!(result, Err(DecryptError::Key("the PIN is wrong"))));
    assert_eq!(asked, 1);
}

#[test]
fn an_unusable_recipient_is_named() {
    let authority = TestAuthority::new("Example Authority", SoftwareKey::p256());
    let signing = authority.issue("signing", "Example, User", &SoftwareKey::p256());
    let error = encrypt(CONTENT, &[signing], Cipher::Aes256Cbc).unwrap_err().to_string();
    assert!(error.contains("Example, User") && error.contains("not for encryption"), "{error}");
    assert!(matches!(encrypt(CONTENT, &[], Cipher::Aes256Cbc), Err(SmimeError::NoRecipient)));
    let certificate = recipient(&SoftwareKey::p256());
    let error = encrypt(CONTENT, &vec![certificate; 1001], Cipher::Aes256Cbc).unwrap_err().to_string();
    assert!(error.contains("1000"), "{error}");
}

#[test]
fn unsupported_input_is_refused_before_any_key_use() {
    let files = TestFiles::new();
    let certificate = recipient(&SoftwareKey::rsa());
    let pem = files.put_certificate("c.pem", &certificate);
    let camellia = openssl(&["cms", "-encrypt", "-camellia256", "-outform", "DER", "-recip", &pem], CONTENT);
    let error = EncryptedMessage::parse(&Message::read(&camellia).unwrap()).unwrap_err().to_string();
    assert!(error.contains("content cipher"), "{error}");

    let password = ["cms", "-encrypt", "-aes-256-cbc", "-outform", "DER", "-pwri_password", "secret"];
    let message = EncryptedMessage::parse(&Message::read(&openssl(&password, CONTENT)).unwrap()).unwrap();
    assert!(matches!(&message.recipients()[0].kind, RecipientKind::Unsupported(what) if what.contains("password")));
    says_nothing(message.open(0, |_| panic!("the key was used")), "a password");

    let key = hex::encode([7; 32]);
    let shared = ["cms", "-encrypt", "-aes-256-cbc", "-outform", "DER", "-secretkey", &key, "-secretkeyid", "01"];
    let message = EncryptedMessage::parse(&Message::read(&openssl(&shared, CONTENT)).unwrap()).unwrap();
    assert!(message.recipients()[0].id.is_none());
}

/// Replaces the `RecipientInfo`s of a message: `change` makes the new bytes of the original ones.
fn with_recipients(cms: &[u8], change: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let (_, enveloped) = open_content_info(cms, WHAT).unwrap();
    let parts = Elements::of(&enveloped, WHAT).any().unwrap().inside(WHAT).all().unwrap();
    let infos = element(SET, &[&change(parts[1].value)]);
    let rest: Vec<&[u8]> = parts[2..].iter().map(|part| part.whole).collect();
    let enveloped = element(SEQUENCE, &[&[parts[0].whole, &infos][..], &rest].concat());
    crate::pki::cms::content_info(const_oid::db::rfc5911::ID_ENVELOPED_DATA, &enveloped)
}

#[test]
fn an_unreadable_recipient_hides_no_other() {
    let unreadable = [
        element(SEQUENCE, &[]),
        element(SEQUENCE, &[&element(INTEGER, &[&[0]]), &element(SEQUENCE, &[&[0x31, 0]])]),
        element(context_constructed(1), &[&element(INTEGER, &[&[3]])]),
        element(context_constructed(2), &[]),
        element(context_constructed(7), &[&[4, 0]]),
    ];
    for key in [SoftwareKey::rsa(), SoftwareKey::p256()] {
        let certificate = recipient(&key);
        let cms = encrypt(CONTENT, std::slice::from_ref(&certificate), Cipher::Aes256Cbc).unwrap();
        for (first, last) in [(&unreadable[..], &[][..]), (&[], &unreadable)] {
            let changed = with_recipients(&cms, |own| [&first.concat()[..], own, &last.concat()].concat());
            assert_eq!(**open(&changed, &key, &certificate).unwrap().content, *CONTENT);
            let message = EncryptedMessage::parse(&Message::read(&changed).unwrap()).unwrap();
            let unsupported = |recipient: &&Recipient| {
                recipient.id.is_none() && matches!(recipient.kind, RecipientKind::Unsupported(_))
            };
            assert_eq!(message.recipients().iter().filter(unsupported).count(), unreadable.len());
        }
    }
    // The same holds within one key agreement, whose last element has the keys for its recipients.
    let key = SoftwareKey::p256();
    let certificate = recipient(&key);
    let cms = encrypt(CONTENT, std::slice::from_ref(&certificate), Cipher::Aes256Cbc).unwrap();
    let changed = with_recipients(&cms, |own| {
        let parts = Elements::of(own, WHAT).any().unwrap().inside(WHAT).all().unwrap();
        let (keys, before) = parts.split_last().unwrap();
        let keys = element(SEQUENCE, &[&element(SEQUENCE, &[&[0x31, 0]]), keys.value]);
        let before: Vec<&[u8]> = before.iter().map(|part| part.whole).collect();
        element(context_constructed(1), &[&before[..], &[&keys]].concat())
    });
    assert_eq!(**open(&changed, &key, &certificate).unwrap().content, *CONTENT);
}

#[test]
fn broken_messages_are_refused() {
    let key = SoftwareKey::rsa();
    let certificate = recipient(&key);
    let cms = encrypt(CONTENT, std::slice::from_ref(&certificate), Cipher::Aes256Gcm).unwrap();
    for end in [cms.len() - 1, cms.len() / 2, 30] {
        assert!(Message::read(&cms[..end]).and_then(|message| EncryptedMessage::parse(&message)).is_err());
    }
    let message = Message { format: MessageFormat::Der, kind: MessageKind::Enveloped, ..Message::read(&cms).unwrap() };
    assert!(EncryptedMessage::parse(&message).is_err(), "GCM is not for EnvelopedData");
    let message = Message { kind: MessageKind::Signed, ..message };
    assert!(matches!(EncryptedMessage::parse(&message), Err(SmimeError::WrongKind { .. })));
}

#[test]
fn the_wrapping_key_is_not_zero() {
    // The fault of the `cms` crate's key agreement: anyone could decrypt such a message.
    use aes_kw::KeyInit;
    let certificate = recipient(&SoftwareKey::p256());
    let cms = encrypt(CONTENT, &[certificate], Cipher::Aes256Cbc).unwrap();
    let wrapped = cms.windows(42).filter(|window| window[..2] == [4, 40]).map(|window| &window[2..]);
    for wrapped in wrapped {
        let mut buffer = [0; 40];
        assert!(aes_kw::KwAes256::new_from_slice(&[0; 32]).unwrap().unwrap_key(wrapped, &mut buffer).is_err());
    }
    let files = TestFiles::new();
    let (pem, key) = (
        files.put_certificate("c.pem", &recipient(&SoftwareKey::p256())),
        files.put_key("k.pem", &SoftwareKey::p256()),
    );
    let arguments = ["cms", "-decrypt", "-inform", "DER", "-recip", &pem, "-inkey", &key];
    assert!(try_openssl(&arguments, &cms).is_err());
}

static CERTIFICATE: OnceLock<Certificate> = OnceLock::new();

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    #[test]
    fn every_content_round_trips(
        content in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200),
        gcm: bool,
    ) {
        let cipher = if gcm { Cipher::Aes256Gcm } else { Cipher::Aes256Cbc };
        let key = SoftwareKey::rsa();
        let certificate = CERTIFICATE.get_or_init(|| recipient(&SoftwareKey::rsa()));
        let cms = encrypt(&content, std::slice::from_ref(certificate), cipher).unwrap();
        assert_eq!(**open(&cms, &key, certificate).unwrap().content, content);
    }
}

/// The content, encrypted by OpenSSL to this certificate.
fn by_openssl(files: &TestFiles, certificate: &Certificate, options: &[&str]) -> Vec<u8> {
    let pem = files.put_certificate("c.pem", certificate);
    let arguments = ["cms", "-encrypt", "-binary", "-outform", "DER", "-recip", &pem];
    openssl(&[&arguments[..], options].concat(), CONTENT)
}

#[test]
fn legacy_ciphers_are_read() {
    let files = TestFiles::new();
    let (rsa, p256, p384) = (SoftwareKey::rsa(), SoftwareKey::p256(), SoftwareKey::p384());
    let oaep = |options: &[&'static str]| {
        let mut all = vec!["-aes256", "-keyopt", "rsa_padding_mode:oaep"];
        all.extend(options.iter().flat_map(|option| ["-keyopt", option]));
        all
    };
    for (key, options) in [
        (&rsa, vec!["-des3"]),
        (&p256, vec!["-des3"]),
        (&p384, vec!["-des3", "-keyopt", "ecdh_kdf_md:sha256"]),
        (&p256, vec!["-aes128", "-keyopt", "ecdh_kdf_md:sha224"]),
        (&p384, vec!["-aes256", "-keyopt", "ecdh_kdf_md:sha384"]),
        (&p256, vec!["-aes256", "-keyopt", "ecdh_kdf_md:sha512"]),
        (&p256, vec!["-aes256", "-keyopt", "ecdh_cofactor_mode:1", "-keyopt", "ecdh_kdf_md:sha224"]),
        (&rsa, oaep(&["rsa_oaep_md:sha1", "rsa_oaep_label:6c6162656c"])),
        (&rsa, oaep(&["rsa_oaep_md:sha256", "rsa_mgf1_md:sha1"])),
        (&rsa, oaep(&["rsa_oaep_md:sha256", "rsa_mgf1_md:sha1", "rsa_oaep_label:6c6162656c"])),
    ] {
        let certificate = recipient(key);
        let cms = by_openssl(&files, &certificate, &options);
        let opened = open(&cms, key, &certificate).unwrap_or_else(|error| panic!("{options:?}: {error}"));
        assert_eq!(**opened.content, *CONTENT, "{options:?}");
        assert!(!opened.authenticated);
        // With another key, the result is the same as for every failure.
        let other = SoftwareKey::p256();
        let message = EncryptedMessage::parse(&Message::read(&cms).unwrap()).unwrap();
        says_nothing(message.open(0, |operation| Ok(operate(&other, &operation))), &format!("{options:?}"));
    }
}

#[test]
fn triple_des_is_never_written() {
    let cipher = ContentCipher::TripleDes { initialization: [0; 8] };
    let certificate = recipient(&SoftwareKey::p256());
    assert!(encrypt_with(CONTENT, &[certificate], &cipher, &KeyTransport::Pkcs1v15).is_err());
}

#[test]
fn an_unsupported_recipient_is_listed_and_hides_no_other() {
    let key = SoftwareKey::rsa();
    let certificate = recipient(&key);
    let cms = by_openssl(&TestFiles::new(), &certificate, &["-aes256"]);
    let (_, enveloped) = open_content_info(&cms, "a test").unwrap();
    let parts = Elements::of(&enveloped, "a test").required(SEQUENCE).unwrap().inside("a test").all().unwrap();
    let info = parts[1].inside("a test").any().unwrap();
    let fields = info.inside("a test").all().unwrap();
    let with = |algorithm: &[u8], id: &[u8]| {
        let algorithm = element(SEQUENCE, &[&element(OBJECT_IDENTIFIER, &[algorithm])]);
        element(SEQUENCE, &[fields[0].whole, id, &algorithm, fields[3].whole])
    };
    // id-rsa-kem, and a KEMRecipientInfo with id-alg-ml-kem-768.
    let rsa_kem = with(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x10, 0x03, 0x0e], fields[1].whole);
    let ml_kem = element(OBJECT_IDENTIFIER, &[&[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x04, 0x02]]);
    let kem = element(SEQUENCE, &[&element(INTEGER, &[&[0]]), fields[1].whole, &element(SEQUENCE, &[&ml_kem])]);
    let ori_kem: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x10, 0x0d, 0x03];
    let other_kind = element(context_constructed(4), &[&element(OBJECT_IDENTIFIER, &[ori_kem]), &kem]);
    let unreadable = element(SEQUENCE, &[&element(INTEGER, &[&[0]]), &element(SEQUENCE, &[])]);

    let set = element(SET, &[&rsa_kem, &other_kind, &unreadable, info.whole]);
    let enveloped = element(SEQUENCE, &[parts[0].whole, &set, parts[2].whole]);
    let cms = crate::pki::cms::content_info(const_oid::db::rfc5911::ID_ENVELOPED_DATA, &enveloped);
    let message = EncryptedMessage::parse(&Message::read(&cms).unwrap()).unwrap();
    let kinds: Vec<_> =
        message.recipients().iter().map(|recipient| (recipient.is(&certificate), &recipient.kind)).collect();
    assert!(matches!(kinds[0], (true, RecipientKind::Unsupported(what)) if what.contains("RSA-KEM")), "{kinds:?}");
    assert!(matches!(kinds[1], (true, RecipientKind::Unsupported(what)) if what.contains("ml-kem-768")), "{kinds:?}");
    assert!(
        matches!(kinds[2], (false, RecipientKind::Unsupported(what)) if what.contains("cannot be read")),
        "{kinds:?}"
    );
    assert_eq!(kinds[3], (true, &RecipientKind::KeyTransport(KeyTransport::Pkcs1v15)));
    let opened = message.open(3, |operation| Ok::<_, Infallible>(operate(&key, &operation))).unwrap();
    assert_eq!(**opened.content, *CONTENT);
}
