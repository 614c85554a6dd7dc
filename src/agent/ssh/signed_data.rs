//! The data to sign: one of two supported kinds, told apart by their first bytes.
//!
//! An SSHSIG blob begins with `SSHSIG`, a login with the length of a session identifier (three zero
//! bytes and one of four others). Other data begins differently: DER (CMS attributes, certificates,
//! statements) with its tag, TLS 1.3 with 64 spaces, text with text.

use super::key_blob::KeyBlob;
use super::signature_kind::SignatureKind;
use super::{SshError, SshSig, UserAuth};

/// Parsed data to sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignedData<'a> {
    /// a login (RFC 4252 §7)
    UserAuth(UserAuth<'a>),
    /// a signature of a file, a commit, … (PROTOCOL.sshsig)
    SshSig(SshSig<'a>),
}

impl<'a> SignedData<'a> {
    /// Parses one of the two kinds completely; rejects all other data.
    pub fn read(data: &'a [u8]) -> Result<Self, SshError> {
        if SshSig::begins(data) {
            SshSig::read(data).map(Self::SshSig)
        } else if UserAuth::begins(data) {
            UserAuth::read(data).map(Self::UserAuth)
        } else {
            Err(SshError::NotForSsh)
        }
    }

    /// Checks that a login names the signing key and the requested algorithm. An SSHSIG blob names
    /// neither.
    pub(super) fn check_key(&self, requested_key: &[u8], kind: SignatureKind) -> Result<(), SshError> {
        let Self::UserAuth(log_in) = self else {
            return Ok(());
        };
        let wrong = |reason| SshError::MalformedData { kind: "SSH login", reason };
        // Usually both are the same bytes. A client with a certificate requests the key and embeds
        // the certificate: the host checks the certificate, and the agent checks that the key is
        // the same.
        let embedded = KeyBlob::read(log_in.key_blob)?;
        if log_in.key_blob != requested_key && KeyBlob::read(requested_key)?.key != embedded.key {
            return Err(wrong("it names a key other than the signing key"));
        }
        if embedded.certificate.is_some_and(|certificate| !certificate.is_users || !certificate.is_signed()) {
            return Err(wrong("its certificate is a host certificate or is not signed by the authority it names"));
        }
        if !kind.is_named(log_in.algorithm, embedded.certificate.is_some()) {
            return Err(wrong("it names an algorithm other than the requested one"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::ssh::tests::{KeyFile, TestUserAuth, blob_of, sshsig};
    use crate::pki::test_support::SoftwareKey;
    use crate::token::{KeyAlgorithm, RsaSize};
    use proptest::prelude::*;

    const P256: SignatureKind = SignatureKind::P256;

    fn fits(log_in: &TestUserAuth, key: &[u8], kind: SignatureKind) -> bool {
        SignedData::read(&log_in.to_bytes()).unwrap().check_key(key, kind).is_ok()
    }

    #[test]
    fn a_log_in_is_for_the_key_that_signs_it() {
        let [key, other] = [(); 2].map(|()| blob_of(&SoftwareKey::p256().public_key_der()));
        let log_in = TestUserAuth { key_blob: key.clone(), ..TestUserAuth::default() };
        assert!(fits(&log_in, &key, P256));
        assert!(!fits(&log_in, &other, P256));
        assert!(!fits(&TestUserAuth { key_blob: b"a key".to_vec(), ..TestUserAuth::default() }, b"a key", P256));
    }

    #[test]
    fn a_log_in_with_a_certificate_is_for_its_key() {
        let file = KeyFile::of(&SoftwareKey::p256());
        let (key, certificate) = (file.blob(), file.certificate(&[]));
        let name = "ecdsa-sha2-nistp256-cert-v01@openssh.com";
        let log_in = |algorithm, key_blob: &[u8]| TestUserAuth {
            algorithm,
            key_blob: key_blob.into(),
            ..TestUserAuth::default()
        };
        assert!(fits(&log_in(name, &certificate), &key, P256));
        assert!(fits(&log_in(name, &certificate), &certificate, P256));
        assert!(
            !fits(&log_in("ecdsa-sha2-nistp256", &certificate), &key, P256),
            "the certificate has another algorithm name"
        );
        assert!(!fits(&log_in(name, &key), &key, P256), "there is no certificate");
        let other = blob_of(&SoftwareKey::p256().public_key_der());
        assert!(!fits(&log_in(name, &certificate), &other, P256), "the certificate is for another key");
        assert!(!fits(&log_in(name, &file.certificate(&["-h"])), &key, P256), "it is a host certificate");
        let mut unsigned = certificate.clone();
        *unsigned.last_mut().unwrap() ^= 1;
        assert!(!fits(&log_in(name, &unsigned), &key, P256), "the signature is invalid");
    }

    #[test]
    fn the_algorithm_is_the_one_that_the_flags_ask_for() {
        let key = blob_of(&SoftwareKey::rsa().public_key_der());
        let rsa = KeyAlgorithm::Rsa(RsaSize::Bits2048);
        for (flags, right) in [(2, "rsa-sha2-256"), (4, "rsa-sha2-512")] {
            let kind = SignatureKind::asked_for(rsa, flags).unwrap();
            for name in ["rsa-sha2-256", "rsa-sha2-512", "ssh-rsa", "ecdsa-sha2-nistp256", ""] {
                let log_in = TestUserAuth { algorithm: name, key_blob: key.clone(), ..TestUserAuth::default() };
                assert_eq!(fits(&log_in, &key, kind), name == right, "{flags} {name}");
            }
        }
    }

    proptest! {
        #[test]
        fn no_data_is_both_a_login_and_an_sshsig_blob(data in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(!(SshSig::read(&data).is_ok() && UserAuth::read(&data).is_ok()));
            let _ = SignedData::read(&data);
        }

        #[test]
        fn sshsig_blobs_round_trip(
            session_id in prop::sample::select(vec![20, 32, 48, 64])
                .prop_flat_map(|n| prop::collection::vec(any::<u8>(), n)),
            user in "[^\\p{Cc}]{0,40}",
            key_blob in prop::collection::vec(any::<u8>(), 0..200),
            host_key in prop::option::of(prop::collection::vec(any::<u8>(), 0..200)),
        ) {
            let log_in = TestUserAuth { session_id, user, key_blob, host_key, ..TestUserAuth::default() };
            let data = log_in.to_bytes();
            let SignedData::UserAuth(read) = SignedData::read(&data).unwrap() else { panic!() };
            prop_assert_eq!((read.session_id, read.user), (&log_in.session_id[..], &log_in.user[..]));
            prop_assert_eq!((read.key_blob, read.host_key), (&log_in.key_blob[..], log_in.host_key.as_deref()));
        }

        #[test]
        fn a_wrong_byte_never_changes_the_kind_of_an_sshsig_blob(at in 0..110_usize, byte in any::<u8>()) {
            let mut data = sshsig("git", b"", "sha512", &[9; 64]);
            prop_assume!(at < data.len());
            data[at] = byte;
            if let Ok(SignedData::SshSig(read)) = SignedData::read(&data) {
                prop_assert_eq!((read.namespace.len(), read.hash_name, read.hash.len()), (3, "sha512", 64));
            }
        }
    }
}
