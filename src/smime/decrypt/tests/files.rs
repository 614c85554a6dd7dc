//! Tests of decryption from an input that is read in pieces, with messages of OpenSSL and with our
//! own in every form.

use std::io::{Cursor, Error, Result as IoResult, SeekFrom};

use aes::cipher::{Array, BlockCipherEncrypt, KeyInit};

use super::*;
use crate::pki::test_support::PieceReader;
use crate::pki::tlv::{OCTET_STRING, context, header_of};

const FORMS: [MessageFormat; 3] = [MessageFormat::Der, MessageFormat::Pem, MessageFormat::Smime];

/// Opens a message in a file. On failure, nothing may have been written.
fn open_file(input: impl Read + Seek, key: &SoftwareKey) -> Result<(Vec<u8>, DecryptedFile), DecryptError<Infallible>> {
    let mut message = EncryptedFile::parse(MessageFile::open(input)?)?;
    let mut written = Vec::new();
    match message.open(0, |operation| Ok(operate(key, &operation)), &mut written) {
        Ok(opened) => {
            assert_eq!(opened.length, written.len() as u64);
            Ok((written, opened))
        }
        Err(error) => {
            assert!(written.is_empty(), "{} octets were written: {error}", written.len());
            Err(error)
        }
    }
}

/// The message in BER: indefinite lengths around the content, which is in nested segments.
fn segmented(cms: &[u8], segment: usize) -> Vec<u8> {
    let elements = |bytes: &[u8]| -> Vec<Vec<u8>> {
        let inside = Elements::of(bytes, WHAT).any().unwrap().inside(WHAT).all().unwrap();
        inside.iter().map(|element| element.whole.to_vec()).collect()
    };
    let indefinite = |tag: u8, parts: &[Vec<u8>]| [&[tag, 0x80][..], &parts.concat(), &[0, 0]].concat();
    let outer = elements(cms);
    let mut parts = elements(&elements(&outer[1])[0]);
    let info = parts.iter().rposition(|part| part[0] == SEQUENCE).unwrap();
    let mut content = elements(&parts[info]);
    let ciphertext = Elements::of(&content[2], WHAT).required(context(0)).unwrap().value;
    let segments: Vec<_> = ciphertext.chunks(segment).map(|octets| element(OCTET_STRING, &[octets])).collect();
    let segments = [indefinite(OCTET_STRING | 0x20, &segments), element(OCTET_STRING, &[])];
    content[2] = indefinite(context_constructed(0), &segments);
    parts[info] = indefinite(SEQUENCE, &content);
    let enveloped = indefinite(context_constructed(0), &[indefinite(SEQUENCE, &parts)]);
    indefinite(SEQUENCE, &[outer[0].clone(), enveloped])
}

#[test]
fn openssl_streams_in_every_form() {
    let files = TestFiles::new();
    let (rsa, p256) = (SoftwareKey::rsa(), SoftwareKey::p256());
    let content: Vec<u8> = (0..300_001_u32).map(|number| (number % 251).to_le_bytes()[0]).collect();
    for (key, cipher) in [
        (&rsa, "-aes-256-cbc"),
        (&rsa, "-aes-128-gcm"),
        (&p256, "-aes-192-cbc"),
        (&p256, "-des3"),
        (&p256, "-aes-256-gcm"),
    ] {
        let pem = files.put_certificate("c.pem", &recipient(key));
        for form in ["DER", "PEM", "SMIME"] {
            // OpenSSL 3.0 fails to stream an empty content with GCM.
            let shortest = if cipher.ends_with("gcm") { b"x" } else { &b""[..] };
            for (content, options) in [(&content[..], &["-stream"][..]), (&content, &[]), (shortest, &["-stream"])] {
                let arguments = ["cms", "-encrypt", "-binary", "-outform", form, cipher, "-recip", &pem];
                let message = openssl(&[&arguments[..], options].concat(), content);
                let (written, opened) = open_file(PieceReader::new(&message, 10_000), key)
                    .unwrap_or_else(|error| panic!("{cipher} {form}: {error}"));
                assert!(written == content, "{cipher} {form}");
                assert_eq!(opened.authenticated, cipher.ends_with("gcm"));
            }
        }
    }
}

#[test]
fn every_cut_or_followed_message_is_refused() {
    let key = SoftwareKey::p256();
    let certificate = recipient(&key);
    for cipher in [Cipher::Aes256Cbc, Cipher::Aes256Gcm] {
        let cms = encrypt(CONTENT, std::slice::from_ref(&certificate), cipher).unwrap();
        for message in [segmented(&cms, 10), cms] {
            assert_eq!(open_file(Cursor::new(&message), &key).unwrap().0, CONTENT);
            for form in FORMS {
                for end in 0..message.len() {
                    let Ok(cut) = Message::write(&message[..end], form, None) else { continue };
                    assert!(MessageFile::open(Cursor::new(cut)).and_then(EncryptedFile::parse).is_err(), "{end}");
                }
                let followed = Message::write(&[&message[..], &[0]].concat(), form, None).unwrap();
                assert!(MessageFile::open(Cursor::new(followed)).and_then(EncryptedFile::parse).is_err());
            }
        }
    }
}

#[test]
fn an_altered_octet_reveals_nothing() {
    let key = SoftwareKey::p256();
    let certificate = recipient(&key);
    for cipher in [Cipher::Aes256Cbc, Cipher::Aes256Gcm] {
        let cms = encrypt(CONTENT, std::slice::from_ref(&certificate), cipher).unwrap();
        for message in [segmented(&cms, 10), cms] {
            let begin = message.len() - 200;
            for at in 0..message.len() {
                let mut altered = message.clone();
                altered[at] ^= 0x20;
                let Ok(file) = MessageFile::open(Cursor::new(&altered)).and_then(EncryptedFile::parse) else {
                    continue;
                };
                assert!(!file.recipients().is_empty());
                match open_file(Cursor::new(&altered), &key) {
                    // Parts that are neither key nor content may change.
                    Ok((written, _)) if written == CONTENT => {}
                    Ok((_, opened)) => assert!(!opened.authenticated && at >= begin, "octet {at}"),
                    Err(error) => {
                        assert!(matches!(error, DecryptError::Message(SmimeError::Undecryptable)), "{at}: {error}");
                    }
                }
            }
        }
    }
}

/// An input that is another one after a number of seeks.
struct ChangingFile {
    before: Cursor<Vec<u8>>,
    after: Cursor<Vec<u8>>,
    seeks: usize,
}

impl Read for ChangingFile {
    fn read(&mut self, buffer: &mut [u8]) -> IoResult<usize> {
        if self.seeks > 0 { self.before.read(buffer) } else { self.after.read(buffer) }
    }
}

impl Seek for ChangingFile {
    fn seek(&mut self, position: SeekFrom) -> IoResult<u64> {
        self.seeks = self.seeks.saturating_sub(1);
        let (before, after) = (self.before.seek(position)?, self.after.seek(position)?);
        Ok(if self.seeks > 0 { before } else { after })
    }
}

#[test]
fn a_file_that_changes_between_the_passes_is_refused() {
    let key = SoftwareKey::p256();
    let certificate = recipient(&key);
    let content = vec![7; 200_000];
    let key_result = |operation: KeyOperation<'_>| Ok::<_, Infallible>(operate(&key, &operation));
    for cipher in [Cipher::Aes256Cbc, Cipher::Aes256Gcm] {
        let cms = encrypt(&content, std::slice::from_ref(&certificate), cipher).unwrap();
        let mut altered = cms.clone();
        // The last octets are ciphertext or, for GCM, the tag after it.
        let at = cms.len() - if cipher == Cipher::Aes256Gcm { 30 } else { 5 };
        altered[at] ^= 1;
        let cut = cms[..cms.len() - 100_000].to_vec();
        for after in [altered, cut, Vec::new()] {
            // Recognition and parsing seek some times, and each pass once.
            for seeks in 1.. {
                let (before, after) = (Cursor::new(cms.clone()), Cursor::new(after.clone()));
                let input = ChangingFile { before, after, seeks };
                let Ok(mut file) = MessageFile::open(input).and_then(EncryptedFile::parse) else { continue };
                let mut written = Vec::new();
                match file.open(0, key_result, &mut written) {
                    Ok(_) => {
                        assert!(written == content);
                        break;
                    }
                    Err(DecryptError::Message(SmimeError::Undecryptable)) => assert!(written.is_empty()),
                    Err(DecryptError::Message(SmimeError::ChangedWhileDecrypting)) => {
                        assert!(written.len() < content.len());
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }
}

#[test]
fn a_failing_output_is_named() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> IoResult<usize> {
            Err(Error::other("the disk is full"))
        }
        fn flush(&mut self) -> IoResult<()> {
            Ok(())
        }
    }
    let key = SoftwareKey::p256();
    let cms = encrypt(CONTENT, &[recipient(&key)], Cipher::Aes256Gcm).unwrap();
    let mut file = EncryptedFile::parse(MessageFile::open(Cursor::new(&cms)).unwrap()).unwrap();
    let error = file.open(0, |operation| Ok::<_, Infallible>(operate(&key, &operation)), Full).unwrap_err();
    assert!(error.to_string().contains("the disk is full"), "{error}");
}

/// A file of zeros between two ends, which takes no memory.
struct SparseFile {
    begin: Vec<u8>,
    zeros: u64,
    end: Vec<u8>,
    position: u64,
}

impl Read for SparseFile {
    fn read(&mut self, buffer: &mut [u8]) -> IoResult<usize> {
        let zeros = self.begin.len() as u64;
        let end = zeros + self.zeros;
        let part = |part: &[u8], from: u64, buffer: &mut [u8]| (&part[usize::try_from(from).unwrap()..]).read(buffer);
        let count = if self.position < zeros {
            part(&self.begin, self.position, buffer)?
        } else if self.position < end {
            let count = buffer.len().min(usize::try_from(end - self.position).unwrap());
            buffer[..count].fill(0);
            count
        } else {
            part(&self.end, self.position - end, buffer)?
        };
        self.position += count as u64;
        Ok(count)
    }
}

impl Seek for SparseFile {
    fn seek(&mut self, position: SeekFrom) -> IoResult<u64> {
        let length = self.begin.len() as u64 + self.zeros + self.end.len() as u64;
        self.position = match position {
            SeekFrom::Start(position) => position,
            SeekFrom::End(offset) => length.checked_add_signed(offset).unwrap(),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset).unwrap(),
        };
        Ok(self.position)
    }
}

/// A message with a ciphertext of zeros and one last block, which holds the padding.
fn sparse_message(certificate: &Certificate, key: &SoftwareKey, zeros: u64) -> SparseFile {
    let cms = encrypt(&[7; 15], std::slice::from_ref(certificate), Cipher::Aes256Cbc).unwrap();
    let mut content_key = Vec::new();
    let message = EncryptedContentKey::parse(&recipient_info(&cms), 32).unwrap();
    content_key.extend_from_slice(&message.open(0, |operation| Ok::<_, Infallible>(operate(key, &operation))).unwrap());
    let mut block = Array::from([16; 16]);
    aes::Aes256::new_from_slice(&content_key).unwrap().encrypt_block(&mut block);

    let (_, enveloped) = open_content_info(&cms, WHAT).unwrap();
    let parts = Elements::of(&enveloped, WHAT).any().unwrap().inside(WHAT).all().unwrap();
    let info = parts[2].inside(WHAT).all().unwrap();
    let length = zeros + 16;
    let content = [info[0].whole, info[1].whole, &header_of(context(0), length)].concat();
    let content = [header_of(SEQUENCE, content.len() as u64 + length), content].concat();
    let enveloped = [parts[0].whole, parts[1].whole, &content].concat();
    let enveloped = [header_of(SEQUENCE, enveloped.len() as u64 + length), enveloped].concat();
    let enveloped = [header_of(context_constructed(0), enveloped.len() as u64 + length), enveloped].concat();
    let outer = [Elements::of(&cms, WHAT).any().unwrap().inside(WHAT).any().unwrap().whole, &enveloped].concat();
    let begin = [header_of(SEQUENCE, outer.len() as u64 + length), outer].concat();
    SparseFile { begin, zeros, end: block.to_vec(), position: 0 }
}

fn recipient_info(cms: &[u8]) -> Vec<u8> {
    let (_, enveloped) = open_content_info(cms, WHAT).unwrap();
    let parts = Elements::of(&enveloped, WHAT).any().unwrap().inside(WHAT).all().unwrap();
    parts[1].value.to_vec()
}

#[test]
fn a_file_larger_than_memory_allows_is_decrypted() {
    let key = SoftwareKey::p256();
    let certificate = recipient(&key);
    let megabytes = std::env::var("TOKENKEEP_TEST_MIB").map_or(64, |text| text.parse().unwrap());
    let zeros = megabytes << 20;
    let message = sparse_message(&certificate, &key, zeros);
    let mut file = EncryptedFile::parse(MessageFile::open(message).unwrap()).unwrap();
    let operation = |operation: KeyOperation<'_>| Ok::<_, Infallible>(operate(&key, &operation));
    assert_eq!(file.open(0, operation, std::io::sink()).unwrap().length, zeros);
}

#[test]
fn gcm_has_a_maximum_length() {
    let key = SoftwareKey::p256();
    let certificate = recipient(&key);
    let most = (1 << 36) - 32;
    let cipher = ContentCipher::new(Cipher::Aes256Gcm).unwrap();
    assert_eq!(cipher.most_octets(), most);
    assert_eq!(ContentCipher::new(Cipher::Aes256Cbc).unwrap().most_octets(), u64::MAX);
    // The lengths of such files are read: this one is shorter than it says.
    let mut message = sparse_message(&certificate, &key, most);
    message.zeros = 1000;
    let error = MessageFile::open(message).and_then(EncryptedFile::parse).unwrap_err().to_string();
    assert!(error.contains("ends too early"), "{error}");
}

static KEY: OnceLock<(SoftwareKey, Certificate)> = OnceLock::new();

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    #[test]
    fn a_file_opens_like_a_message_in_memory(
        length in proptest::sample::select(vec![0_usize, 100, 65_500, 65_536, 131_072, 200_000]),
        more in 0_usize..40,
        gcm: bool,
        form in proptest::sample::select(FORMS.to_vec()),
        segment in proptest::option::of(1_usize..100_000),
        piece in 1_usize..100_000,
    ) {
        let (key, certificate) = KEY.get_or_init(|| {
            let key = SoftwareKey::p256();
            let certificate = recipient(&key);
            (key, certificate)
        });
        let content: Vec<u8> = (0..length + more).map(|number| (number % 251).to_le_bytes()[0]).collect();
        let cipher = if gcm { Cipher::Aes256Gcm } else { Cipher::Aes256Cbc };
        let cms = encrypt(&content, std::slice::from_ref(certificate), cipher).unwrap();
        let cms = segment.map_or_else(|| cms.clone(), |segment| segmented(&cms, segment.max(length / 1000 + 1)));
        let message = Message::write(&cms, form, None).unwrap();
        let (written, opened) = open_file(PieceReader::new(&message, piece), key).unwrap();
        proptest::prop_assert!(written == content);
        let in_memory = open(&message, key, certificate).unwrap();
        proptest::prop_assert!(*in_memory.content == content);
        proptest::prop_assert_eq!(opened.authenticated, in_memory.authenticated);
        let file = MessageFile::open(PieceReader::new(&message, piece)).unwrap();
        let about = file.about().clone();
        proptest::prop_assert_eq!(Message { cms, ..about }, Message::read(&message).unwrap());
    }
}
