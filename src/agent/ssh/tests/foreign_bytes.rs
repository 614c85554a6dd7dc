//! Data that other programs sign: none of it may pass as one of the two supported kinds.

use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::{KeyFile, SshFixture, TestUserAuth, blob_of, corpus, first_answer, sign_request, sshsig, written};
use crate::agent::ssh::{SignedData, UserAuth};
use crate::pki::test_support::SoftwareKey;

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// Certificates, CMS messages with all their signed parts (attributes, contents, TBS structures),
/// and CMP messages, starting at every byte.
#[test]
fn messages_of_other_protocols_are_refused() {
    let mut seen = 0;
    for file in ["cms", "cmp"].into_iter().flat_map(|name| files(&corpus().join(name))) {
        let bytes = std::fs::read(&file).unwrap();
        for start in 0..bytes.len() {
            assert!(SignedData::read(&bytes[start..]).is_err(), "{} from {start}", file.display());
            seen += 1;
        }
    }
    assert!(seen > 10_000, "the corpora are missing");
}

/// Data that an ordinary agent would sign like a login.
#[test]
fn data_that_other_protocols_sign_is_refused() {
    let fixture = SshFixture::shared();
    let key = &fixture.p256;
    let (blob, digest) = (blob_of(&key.public_key_der()), [7_u8; 32]);
    let attributes = b"\x31\x69\x30\x18\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x09\x03\x31\x0b\
                       \x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01";
    let tls13 = [&[0x20; 64][..], b"TLS 1.3, client CertificateVerify", &[0], &digest].concat();
    let tls12 = [&b"\x01\x00\x00\x46\x03\x03"[..], &[0; 200]].concat();
    let hostbased = TestUserAuth { method: Some("hostbased"), ..TestUserAuth::with(key) }.to_bytes();
    // A certificate's type name can be as long as a session identifier.
    let certificate = KeyFile::of(&SoftwareKey::p384()).certificate(&[]);
    let ed25519_certificate = written(|to_be_signed| {
        to_be_signed.string(b"ssh-ed25519-cert-v01@openssh.com");
        to_be_signed.string(&[0x32; 32]);
        to_be_signed.string(&[9; 32]);
    });
    let ike = [&[0, 0, 0, 0x20, 1, 2, 3, 4][..], &[0; 8], &[0x21, 0x20, 0x22, 8], &[0; 200]].concat();
    for (what, data) in [
        ("CMS signed attributes", &attributes[..]),
        ("a DER sequence", b"\x30\x82\x01\x0a\x02\x82\x01\x01"),
        ("TLS 1.3", &tls13),
        ("a TLS 1.2 client's transcript", &tls12),
        ("SHA-256", &digest),
        ("SHA-384", &[0; 48]),
        ("SHA-512", &[0; 64]),
        ("a JSON web signature", b"eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJ1c2VyIn0"),
        ("a mail", b"Content-Type: text/plain\r\n\r\nI owe you.\r\n"),
        ("git's commit, for gpg", b"tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\nauthor"),
        ("a host-based login", &hostbased),
        ("an SSH certificate", &certificate),
        ("an SSH certificate as it is signed", &ed25519_certificate),
        ("a revocation list of SSH", b"SSHKRL\n\0\0\0\0\x01"),
        ("the file of an SSHSIG signature", b"SSHSIG\0\0\0\x01\0\0\0\x33"),
        ("IKE", &ike),
        ("SSHSIG in other letters", b"sshsig\0\0\0\x03git\0\0\0\0\0\0\0\x06sha512"),
    ] {
        assert!(SignedData::read(data).is_err(), "{what}");
        assert_eq!(first_answer(fixture.keystore(), &sign_request(&blob, data, 0)), [5], "{what}");
        assert!(fixture.purposes().is_empty(), "{what}");
    }
}

/// A login ends with a key blob, an SSHSIG blob with a hash. So neither has space for the trailer
/// that identifies signed data of other protocols (`OpenPGP`, IKE). A certificate, which could end
/// in any bytes, must have a valid signature.
#[test]
fn a_login_cannot_contain_the_end_of_another() {
    let fixture = SshFixture::shared();
    let (key, keystore) = (&fixture.p256, fixture.keystore());
    let blob = blob_of(&key.public_key_der());
    let openpgp_trailer = b"\x04\x00\x13\x08\x00\x06\x05\x02\x00\x00\x00\x00\x04\xff\x00\x00\x00\x0c";
    let log_in = TestUserAuth::with(key).to_bytes();
    let git = sshsig("git", b"", "sha512", &[9; 64]);
    for data in [log_in, git] {
        assert_eq!(first_answer(keystore, &sign_request(&blob, &data, 0))[0], 14);
        let longer = [&data[..], openpgp_trailer].concat();
        assert_eq!(first_answer(keystore, &sign_request(&blob, &longer, 0)), [5]);
    }
    let certificate = KeyFile::of(key).certificate(&[]);
    let name = "ecdsa-sha2-nistp256-cert-v01@openssh.com";
    let with = |key_blob| TestUserAuth { algorithm: name, key_blob, ..TestUserAuth::default() }.to_bytes();
    assert_eq!(first_answer(keystore, &sign_request(&blob, &with(certificate.clone()), 0))[0], 14);
    let mut forged = certificate;
    let end = forged.len();
    forged[end - openpgp_trailer.len()..].copy_from_slice(openpgp_trailer);
    assert_eq!(first_answer(keystore, &sign_request(&blob, &with(forged), 0)), [5]);
}

proptest! {
    /// DER begins with its tag, never with three zero bytes.
    #[test]
    fn der_is_refused(tag in 1..=255_u8, length in any::<u8>(), content in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assume!(tag != b'S');
        let data = [&[tag, length], &content[..]].concat();
        prop_assert!(SignedData::read(&data).is_err());
    }

    /// Changing a framing byte makes a login invalid; changing a value keeps the login's structure.
    #[test]
    fn a_wrong_byte_never_changes_the_fields_of_a_login(at in 0..200_usize, byte in any::<u8>()) {
        let log_in = TestUserAuth::default();
        let mut data = log_in.to_bytes();
        prop_assume!(at < data.len());
        data[at] = byte;
        if let Ok(SignedData::UserAuth(UserAuth { session_id, user, algorithm, key_blob, host_key })) =
            SignedData::read(&data)
        {
            let lengths = (session_id.len(), user.len(), algorithm.len(), key_blob.len(), host_key);
            prop_assert_eq!(lengths, (32, 4, 19, 5, None));
        }
    }
}
