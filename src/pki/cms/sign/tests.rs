//! Tests of signatures over contents that are read in pieces.

use std::io::Cursor;

use super::*;
use crate::pki::signature::Hash;
use crate::pki::test_support::{PieceReader, SoftwareKey, TestAuthority, TestFiles, now, openssl};

struct Pieces {
    signer: SigningCertificate,
    key: SoftwareKey,
    root: String,
    files: TestFiles,
}

impl Pieces {
    fn new(key: SoftwareKey) -> Self {
        let files = TestFiles::new();
        let authority = TestAuthority::new("Example Authority", SoftwareKey::p256());
        let certificate = authority.issue("signing", "Example, User", &key);
        let root = files.put_certificate("root.pem", &authority.certificate);
        Self { signer: SigningCertificate::new(&certificate, &[]).unwrap(), key, root, files }
    }

    fn sign(&self, digest: &ContentDigest) -> Result<ContentSignature, PkiError> {
        let to_sign = DigestToSign {
            content_type: ContentType::DATA,
            digest,
            signer: &self.signer,
            signing_time: now(),
            capabilities: true,
        };
        sign_digest(&to_sign, &self.key)
    }

    fn written(&self, content: &[u8]) -> ContentSignature {
        self.sign(&ContentDigest::of(content, self.signer.hash())).unwrap()
    }
}

/// The message as nested elements around a content in memory.
fn as_elements(signature: &ContentSignature, content: &[u8]) -> Vec<u8> {
    let content = element(context_constructed(0), &[&element(OCTET_STRING, &[content])]);
    let encapsulated = element(SEQUENCE, &[&signature.content_type, &content]);
    let signed_data = element(SEQUENCE, &[&signature.before, &encapsulated, &signature.after]);
    element(SEQUENCE, &[&oid(rfc5911::ID_SIGNED_DATA), &element(context_constructed(0), &[&signed_data])])
}

#[test]
fn openssl_verifies_a_content_that_is_read_in_pieces() {
    for key in [SoftwareKey::rsa(), SoftwareKey::p256(), SoftwareKey::p384()] {
        let pieces = Pieces::new(key);
        let content: Vec<u8> = (0..200_000_u32).map(|number| number.to_le_bytes()[0]).collect();
        let digest = ContentDigest::read(PieceReader::new(&content, 7777), pieces.signer.hash()).unwrap();
        assert_eq!(digest.length(), 200_000);
        let signature = pieces.sign(&digest).unwrap();
        let arguments = ["cms", "-verify", "-binary", "-inform", "DER", "-CAfile", &pieces.root];
        let mut message = Vec::new();
        signature.write_attached(PieceReader::new(&content, 5000), &mut message).unwrap();
        assert_eq!(openssl(&arguments, &message), content);
        let file = pieces.files.put("content", &content);
        assert_eq!(openssl(&[&arguments[..], &["-content", &file]].concat(), &signature.detached()), content);
    }
}

#[test]
fn a_content_that_changes_is_not_signed() {
    let pieces = Pieces::new(SoftwareKey::p256());
    let content = vec![7; 100_000];
    let signature = pieces.written(&content);
    let mut altered = content.clone();
    altered[99_999] ^= 1;
    let longer = [&content[..], &[7]].concat();
    for changed in [&altered[..], &longer, &content[..99_999], &[]] {
        let mut message = Vec::new();
        let error = signature.write_attached(changed, &mut message).unwrap_err();
        assert!(matches!(error, PkiError::ContentChanged), "{error}");
        assert!(super::super::SignedMessage::parse(&message).is_err());
    }
    // An endless input ends the copy.
    assert!(matches!(signature.write_attached(std::io::repeat(7), std::io::sink()), Err(PkiError::ContentChanged)));
}

#[test]
fn failures_of_input_and_output_are_named() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("the disk is broken"))
        }
    }
    let pieces = Pieces::new(SoftwareKey::p256());
    let signature = pieces.written(b"content");
    let errors = [
        ContentDigest::read(Broken, Hash::Sha256).unwrap_err(),
        signature.write_attached(Broken, std::io::sink()).unwrap_err(),
        signature.write_attached(&b"content"[..], Cursor::new([0; 20].as_mut_slice())).unwrap_err(),
    ];
    assert!(matches!(errors[0], PkiError::Input { .. }) && errors[0].to_string().contains("the disk is broken"));
    assert!(matches!(errors[1], PkiError::Input { .. }));
    assert!(matches!(errors[2], PkiError::Output { .. }));
}

#[test]
fn a_digest_with_another_hash_is_refused() {
    let pieces = Pieces::new(SoftwareKey::p384());
    let digest = ContentDigest::of(b"content", Hash::Sha256);
    assert!(pieces.sign(&digest).unwrap_err().to_string().contains("another hash"));
    let digest = ContentDigest::of(b"content", pieces.signer.hash());
    assert_eq!(digest.sha256(), *Hash::Sha256.digest(b"content"));
    assert_eq!(digest.as_bytes(), Hash::Sha384.digest(b"content"));
}

static PIECES: LazyLock<Pieces> = LazyLock::new(|| Pieces::new(SoftwareKey::p256()));

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(32))]

    #[test]
    fn the_message_does_not_depend_on_the_pieces(
        length in proptest::sample::select(vec![0_usize, 100, 127, 250, 65_500, 65_536, 131_072, 200_000]),
        more in 0_usize..50,
        piece in 1_usize..70_000,
    ) {
        let content = vec![0x30; length + more];
        let digest = ContentDigest::read(PieceReader::new(&content, piece), Hash::Sha256).unwrap();
        assert_eq!(digest, ContentDigest::of(&content, Hash::Sha256));
        let signature = PIECES.sign(&digest).unwrap();
        let mut message = Vec::new();
        signature.write_attached(PieceReader::new(&content, piece), &mut message).unwrap();
        assert_eq!(message, as_elements(&signature, &content));
        assert_eq!(message, signature.attached(&content).unwrap());
    }
}
