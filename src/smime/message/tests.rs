//! Tests of the three forms, written for OpenSSL and read from it.

mod mails;

use super::*;
use crate::pki::Certificate;
use crate::pki::oid::ContentType;
use crate::pki::test_support::{SoftwareKey, TestAuthority, TestFiles, now, openssl, try_openssl};
use crate::smime::{Cipher, Placement, SigningOptions, encrypt, sign, to_entity, verify};

struct MailUser {
    files: TestFiles,
    key: SoftwareKey,
    certificate: Certificate,
    authority: TestAuthority,
    root: String,
    pem: String,
    key_pem: String,
}

fn person(profile: &str, key: SoftwareKey) -> MailUser {
    let files = TestFiles::new();
    let authority = TestAuthority::new("Example Authority", SoftwareKey::p256());
    let certificate = authority.issue(profile, "Example, User", &key);
    let root = files.put_certificate("root.pem", &authority.certificate);
    let pem = files.put_certificate("certificate.pem", &certificate);
    let key_pem = files.put_key("key.pem", &key);
    MailUser { files, key, certificate, authority, root, pem, key_pem }
}

impl MailUser {
    fn sign(&self, content: &[u8], placement: Placement) -> Vec<u8> {
        let signing = SigningOptions {
            certificate: &self.certificate,
            chain: std::slice::from_ref(&self.authority.certificate),
            placement,
            signing_time: now(),
            content_type: ContentType::DATA,
        };
        sign(content, &signing, &self.key).unwrap()
    }

    fn verifies(&self, message: &[u8], detached: Option<&[u8]>) -> Result<Vec<u8>, String> {
        let message = Message::read(message).map_err(|error| error.to_string())?;
        let anchors = std::slice::from_ref(&self.authority.certificate);
        let verified = verify(&message, detached, &[], anchors, now()).map_err(|error| error.to_string())?;
        if verified.is_good() { Ok(verified.content) } else { Err(format!("{:?}", verified.signers)) }
    }
}

const TEXT: &[u8] = b"Dear all,\nthis is text.\n\n-- \nUser\n";

#[test]
fn pem_is_written_in_pieces_as_if_in_one() {
    for length in [1, 47, 48, 49, 48 * 1024, 48 * 1024 + 1, 200_000] {
        let cms: Vec<u8> = (0..=u8::MAX).cycle().take(length).collect();
        let mut pem = Vec::new();
        Message::write_pem(cms.as_slice(), &mut pem).unwrap();
        let whole = der::pem::encode_string("CMS", der::pem::LineEnding::LF, &cms).unwrap();
        assert_eq!(String::from_utf8(pem).unwrap(), whole, "{length} bytes");
    }
    let full: &mut [u8] = &mut [0; 100];
    assert!(Message::write_pem([7; 100].as_slice(), full).is_err(), "a full disk");
}

#[test]
fn openssl_verifies_each_form() {
    for key in [SoftwareKey::p256(), SoftwareKey::rsa(), SoftwareKey::p384()] {
        let person = person("signing", key);
        let entity = to_entity(TEXT);
        let attached = person.sign(&entity, Placement::Attached);
        let detached = person.sign(&entity, Placement::Detached);
        let content = person.files.put("content", &entity);
        for (format, name) in
            [(MessageFormat::Der, "DER"), (MessageFormat::Pem, "PEM"), (MessageFormat::Smime, "SMIME")]
        {
            let written = Message::write(&attached, format, None).unwrap();
            // With -binary, OpenSSL 3.0 does not restore the line ends that it removes from a
            // multipart's lines.
            let arguments = ["cms", "-verify", "-CAfile", &person.root, "-inform", name];
            assert_eq!(openssl(&arguments, &written), entity, "{name}");
            assert_eq!(person.verifies(&written, None).unwrap(), entity, "{name}");

            let content_inside = (format == MessageFormat::Smime).then_some(entity.as_slice());
            let written = Message::write(&detached, format, content_inside).unwrap();
            let with_content = ["-content", &content];
            let with_content = if content_inside.is_some() { &[][..] } else { &with_content };
            let arguments = [&arguments[..], with_content].concat();
            assert_eq!(openssl(&arguments, &written), entity, "{name}");
            let given = content_inside.is_none().then_some(entity.as_slice());
            assert_eq!(person.verifies(&written, given).unwrap(), entity, "{name}");
        }
    }
}

#[test]
fn we_verify_each_form_of_openssl() {
    let person = person("signing", SoftwareKey::p256());
    let sign = ["cms", "-sign", "-signer", &person.pem, "-inkey", &person.key_pem];
    for (options, form) in [
        (&["-nodetach", "-outform", "DER"][..], MessageFormat::Der),
        (&["-nodetach", "-outform", "PEM"], MessageFormat::Pem),
        (&["-nodetach", "-outform", "SMIME"], MessageFormat::Smime),
        (&["-nodetach", "-outform", "SMIME", "-crlfeol", "-text"], MessageFormat::Smime),
        (&["-outform", "SMIME"], MessageFormat::Smime),
        (&["-outform", "SMIME", "-crlfeol", "-text"], MessageFormat::Smime),
        (&["-outform", "SMIME", "-subject", "Hello", "-from", "user@example.org"], MessageFormat::Smime),
    ] {
        let message = openssl(&[&sign[..], options].concat(), TEXT);
        assert_eq!(Message::read(&message).unwrap().format, form, "{options:?}");
        let content = person.verifies(&message, None).unwrap_or_else(|error| panic!("{options:?} {error}"));
        let content = String::from_utf8(content).unwrap();
        assert!(content.contains("this is text.\r\n"), "{options:?} {content:?}");
        // A changed word is detected in all of them.
        let text = String::from_utf8_lossy(&message).into_owned();
        if form == MessageFormat::Smime && text.contains("this is text") {
            let changed = text.replace("this is text", "that is text");
            let error = person.verifies(changed.as_bytes(), None).unwrap_err();
            assert!(error.contains("SignatureWrong"), "{error}");
        }
    }
    // `openssl smime`, and PKCS #7 labels.
    let smime = ["smime", "-sign", "-nodetach", "-outform", "PEM", "-signer", &person.pem, "-inkey", &person.key_pem];
    let message = openssl(&smime, TEXT);
    assert!(message.starts_with(b"-----BEGIN PKCS7-----"));
    assert!(person.verifies(&message, None).is_ok());
}

#[test]
fn encrypted_messages_have_the_three_forms_too() {
    let person = person("encryption", SoftwareKey::rsa());
    let recipients = std::slice::from_ref(&person.certificate);
    for (cipher, kind, smime_type) in [
        (Cipher::Aes256Cbc, MessageKind::Enveloped, "smime-type=enveloped-data"),
        (Cipher::Aes256Gcm, MessageKind::AuthEnveloped, "smime-type=authEnveloped-data"),
    ] {
        let cms = encrypt(TEXT, recipients, cipher).unwrap();
        for (format, name) in
            [(MessageFormat::Der, "DER"), (MessageFormat::Pem, "PEM"), (MessageFormat::Smime, "SMIME")]
        {
            let written = Message::write(&cms, format, None).unwrap();
            let read = Message::read(&written).unwrap();
            assert_eq!((read.format, read.kind, read.detached_content), (format, kind, None));
            assert_eq!(read.cms, cms);
            let arguments =
                ["cms", "-decrypt", "-binary", "-inform", name, "-recip", &person.pem, "-inkey", &person.key_pem];
            assert_eq!(openssl(&arguments, &written), TEXT, "{name}");
            assert_eq!(String::from_utf8_lossy(&written).contains(smime_type), format == MessageFormat::Smime);
        }
    }
    for form in ["DER", "PEM", "SMIME"] {
        let message = openssl(&["cms", "-encrypt", "-aes256", "-outform", form, "-recip", &person.pem], TEXT);
        assert_eq!(Message::read(&message).unwrap().kind, MessageKind::Enveloped, "{form}");
    }
}

#[test]
fn the_line_ends_of_a_file_do_not_break_a_signature() {
    let person = person("signing", SoftwareKey::p256());
    let entity = to_entity(TEXT);
    let cms = person.sign(&entity, Placement::Detached);
    let written = Message::write(&cms, MessageFormat::Smime, Some(&entity)).unwrap();
    let unix = String::from_utf8(written).unwrap().replace("\r\n", "\n");
    assert_eq!(person.verifies(unix.as_bytes(), None).unwrap(), entity);
    // Content without canonical line ends could not be read again, and is refused.
    assert!(Message::write(&cms, MessageFormat::Smime, Some(TEXT)).is_err());
    // Attached content is unchanged to the octet.
    let binary = b"\x00\r\r\n\n\xff";
    let cms = person.sign(binary, Placement::Attached);
    assert_eq!(person.verifies(&Message::write(&cms, MessageFormat::Smime, None).unwrap(), None).unwrap(), binary);
}

#[test]
fn a_content_that_holds_delimiters_stays_whole() {
    let person = person("signing", SoftwareKey::p256());
    let entity = to_entity(b"--boundary\n----tokenkeep-00\n--\nend");
    let cms = person.sign(&entity, Placement::Detached);
    let written = Message::write(&cms, MessageFormat::Smime, Some(&entity)).unwrap();
    assert_eq!(person.verifies(&written, None).unwrap(), entity);
    openssl(&["cms", "-verify", "-CAfile", &person.root, "-inform", "SMIME"], &written);
}

#[test]
fn a_reserved_type_is_not_signed_and_a_foreign_one_is_named() {
    let person = person("signing", SoftwareKey::p256());
    for content_type in [ContentType::STATEMENT, ContentType::STATEMENT_RESPONSE, ContentType::AUDIT_CHECKPOINT] {
        let signing = SigningOptions {
            certificate: &person.certificate,
            chain: &[],
            placement: Placement::Attached,
            signing_time: now(),
            content_type,
        };
        let error = sign(TEXT, &signing, &person.key).unwrap_err();
        assert!(matches!(error, SmimeError::ReservedContentType(_)), "{error}");
    }
}

#[test]
fn other_input_is_refused_and_named() {
    let person = person("encryption", SoftwareKey::p256());
    let certificate = person.certificate.as_der().to_vec();
    for (bytes, reason) in [
        (&b""[..], "neither DER"),
        (b"hello world\n", "neither DER"),
        (b"Subject: hello\n\ntext", "neither DER"),
        (b"Content-Type: text/plain\n\ntext", "text/plain"),
        (b"Content-Type: multipart/signed\n\ntext", "boundary"),
        (b"Content-Type: multipart/signed; boundary=b\n\n--b\none\n--b--", "two parts"),
        (b"Content-Type: multipart/signed; boundary=b\n\n--b\none\n--b\n\ntwo\n--b--", "no headers"),
        (
            b"Content-Type: multipart/signed; boundary=b\n\n--b\none\n--b\nContent-Type: text/plain\n\ntwo\n--b--",
            "not an S/MIME signature",
        ),
        (b"Content-Type: application/pkcs7-mime\nContent-Transfer-Encoding: base64\n\n!!!", "transfer encoding"),
        (b"Content-Type: application/pkcs7-mime\n\nnot cms", "neither DER"),
        (b"-----BEGIN CMS-----\nAAAA\n", "no end"),
        (b"-----BEGIN CMS-----\n????\n-----END CMS-----\n", "damaged"),
        (&certificate, "neither DER"),
        (&[0x30, 0x0b, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 1], "data"),
        (&[0x30], "neither DER"),
    ] {
        let error = Message::read(bytes).unwrap_err().to_string();
        assert!(error.contains(reason), "{:?}: {error}", String::from_utf8_lossy(bytes));
    }
    let encrypted = encrypt(TEXT, &[person.certificate], Cipher::Aes256Cbc).unwrap();
    let message = Message::read(&encrypted).unwrap();
    assert!(matches!(verify(&message, None, &[], &[], now()), Err(SmimeError::WrongKind { .. })));
    assert!(try_openssl(&["cms", "-verify", "-inform", "DER"], &encrypted).is_err());
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    #[test]
    fn no_bytes_do_harm(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300)) {
        if let Ok(message) = Message::read(&bytes) {
            let _ = verify(&message, None, &[], &[], now());
            let _ = crate::smime::EncryptedMessage::parse(&message);
        }
    }
}
