//! Session bindings: what a host key must have signed, and what a binding allows.

use ring::signature::{Ed25519KeyPair, KeyPair};

use super::{
    PIN, SshFixture, TestUserAuth, answer, blob_of, connection, remove, sign_request, smartcard, with_phrase,
    without_tokens, written,
};
use crate::agent::ssh::connection::SshConnection;
use crate::keyset::Purpose;
use crate::pki::test_support::SoftwareKey;
use crate::token::{KeyAlgorithm, SignatureHash};

const FAILURE: &[u8] = &[5];
const SUCCESS: &[u8] = &[6];
const EXTENSION_FAILURE: &[u8] = &[28];

/// A host with a key of some type.
enum Host {
    Software(SoftwareKey),
    Ed25519(Ed25519KeyPair),
    /// A key type that cannot be verified.
    Unknown,
}

impl Host {
    fn ed25519() -> Self {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).unwrap();
        Self::Ed25519(Ed25519KeyPair::from_seed_unchecked(&seed).unwrap())
    }

    fn blob(&self) -> Vec<u8> {
        match self {
            Self::Software(key) => blob_of(&key.public_key_der()),
            Self::Ed25519(key) => written(|blob| {
                blob.string(b"ssh-ed25519");
                blob.string(key.public_key().as_ref());
            }),
            Self::Unknown => written(|blob| {
                blob.string(b"ecdsa-sha2-nistp521");
                blob.string(b"nistp521");
                blob.string(&[4; 133]);
            }),
        }
    }

    fn sign(&self, data: &[u8]) -> Vec<u8> {
        match self {
            Self::Software(key) => {
                use crate::agent::ssh::signature_kind::SignatureKind;
                let algorithm = KeyAlgorithm::of_public_key(&key.public_key_der()).unwrap();
                let kind = SignatureKind::asked_for(algorithm, if algorithm.is_elliptic_curve() { 0 } else { 4 });
                let kind = kind.unwrap();
                let blob = written(|blob| kind.write(&key.sign_hashed(kind.hash, data), blob).unwrap());
                blob[4..].to_vec()
            }
            Self::Ed25519(key) => written(|blob| {
                blob.string(b"ssh-ed25519");
                blob.string(key.sign(data).as_ref());
            }),
            Self::Unknown => written(|blob| {
                blob.string(b"ecdsa-sha2-nistp521");
                blob.string(b"a signature");
            }),
        }
    }

    fn bind(&self, session_id: &[u8], is_forwarding: bool) -> Vec<u8> {
        bind(&self.blob(), session_id, &self.sign(session_id), u8::from(is_forwarding))
    }
}

fn bind(host_key: &[u8], session_id: &[u8], signature: &[u8], is_forwarding: u8) -> Vec<u8> {
    written(|message| {
        message.byte(27);
        message.string(b"session-bind@openssh.com");
        message.string(host_key);
        message.string(session_id);
        message.string(signature);
        message.byte(is_forwarding);
    })
}

/// A client that requests signatures of logins with the P-256 key.
struct Client<'f> {
    fixture: &'f SshFixture,
    connection: SshConnection<'f>,
    /// what a person was shown at the last login
    shown: Option<Purpose>,
}

impl<'f> Client<'f> {
    fn new(fixture: &'f SshFixture) -> Self {
        Self { fixture, connection: connection(fixture.keystore()), shown: None }
    }

    fn says(&mut self, message: &[u8]) -> Vec<u8> {
        answer(&mut self.connection, message)
    }

    fn logs_in(&mut self, session_id: &[u8], host_key: Option<Vec<u8>>) -> bool {
        let key = TestUserAuth::with(&self.fixture.p256);
        let log_in = TestUserAuth { session_id: session_id.to_vec(), host_key, ..key };
        let request = sign_request(&log_in.key_blob, &log_in.to_bytes(), 0);
        let answer = self.says(&request);
        assert!(answer == FAILURE || answer[0] == 14);
        let mut purposes = self.fixture.purposes();
        assert_eq!(purposes.len(), usize::from(answer != FAILURE), "one prompt for each signature: {purposes:?}");
        self.shown = purposes.pop();
        answer != FAILURE
    }

    /// The host shown to the person at the last login.
    fn named_host(&self) -> Option<String> {
        match &self.shown {
            Some(Purpose::SshLogIn { host_key, .. }) => host_key.clone(),
            other => panic!("{other:?}"),
        }
    }

    /// The forwarding hosts shown at the last login.
    fn named_forwarders(&self) -> Option<String> {
        match &self.shown {
            Some(Purpose::SshLogIn { forwarded_by, .. }) => forwarded_by.clone(),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_host_that_signed_its_session_is_bound_and_shown() {
    let fixture = SshFixture::shared();
    let software = [SoftwareKey::rsa(), SoftwareKey::p256(), SoftwareKey::p384()].map(Host::Software);
    for host in software.into_iter().chain([Host::ed25519()]) {
        let mut client = Client::new(&fixture);
        assert_eq!(client.says(&host.bind(&[1; 32], false)), SUCCESS);
        assert!(client.logs_in(&[1; 32], None));
        let named_host = client.named_host().unwrap();
        assert!(named_host.starts_with("SHA256:") && named_host.len() == 50, "{named_host}");
        assert!(client.logs_in(&[1; 32], Some(host.blob())));
        assert!(!client.logs_in(&[2; 32], None), "another session");
        assert!(!client.logs_in(&[1; 32], Some(Host::ed25519().blob())), "another host");
    }
}

#[test]
fn a_wrong_signature_binds_no_session() {
    let fixture = SshFixture::shared();
    let software = [SoftwareKey::rsa(), SoftwareKey::p256(), SoftwareKey::p384()].map(Host::Software);
    for host in software.into_iter().chain([Host::ed25519()]) {
        let mut client = Client::new(&fixture);
        let other = Host::Software(SoftwareKey::p256());
        for wrong in [
            bind(&host.blob(), &[1; 32], &host.sign(&[2; 32]), 0),
            bind(&host.blob(), &[1; 32], &other.sign(&[1; 32]), 0),
            bind(&host.blob(), &[1; 32], b"", 0),
            bind(&host.blob(), &[1; 32], &[host.sign(&[1; 32]), vec![0]].concat(), 0),
            bind(&host.blob(), b"", &host.sign(b""), 0),
            bind(&host.blob(), &[1; 65], &host.sign(&[1; 65]), 0),
            bind(&host.blob(), &[1; 32], &host.sign(&[1; 32]), 2),
            [host.bind(&[1; 32], false), vec![0]].concat(),
        ] {
            assert_eq!(client.says(&wrong), EXTENSION_FAILURE);
        }
        // As without a binding: clients that cannot bind may log in.
        assert!(client.logs_in(&[9; 32], None));
        assert_eq!(client.named_host(), None);
    }
}

#[test]
fn sha1_does_not_prove_a_host() {
    let key = SoftwareKey::rsa();
    let host = Host::Software(key.clone());
    let signature = written(|blob| {
        blob.string(b"ssh-rsa");
        blob.string(key.sign_hashed(SignatureHash::Sha256, &[1; 32]).as_bytes());
    });
    let answered = answer(&mut connection(&without_tokens()), &bind(&host.blob(), &[1; 32], &signature, 0));
    assert_eq!(answered, EXTENSION_FAILURE);
}

#[test]
fn an_unverifiable_host_is_marked_and_still_binds() {
    let fixture = SshFixture::shared();
    let mut client = Client::new(&fixture);
    assert_eq!(client.says(&Host::Unknown.bind(&[1; 32], false)), EXTENSION_FAILURE);
    assert!(client.logs_in(&[1; 32], None));
    assert!(client.named_host().unwrap().ends_with("(not verified)"));
    assert!(!client.logs_in(&[2; 32], None));
}

#[test]
fn a_forwarded_connection_must_name_the_host_of_its_login() {
    let fixture = SshFixture::shared();
    let (forwarder, target) = (Host::ed25519(), Host::Software(SoftwareKey::p256()));
    let mut client = Client::new(&fixture);
    assert_eq!(client.says(&forwarder.bind(&[1; 32], true)), SUCCESS);
    assert!(!client.logs_in(&[1; 32], None), "the forwarding session itself");
    assert!(!client.logs_in(&[2; 32], None), "a session that was not announced");
    assert_eq!(client.says(&target.bind(&[2; 32], false)), SUCCESS);
    assert!(client.logs_in(&[2; 32], Some(target.blob())));
    assert!(client.named_forwarders().unwrap().starts_with("SHA256:"));
    assert_ne!(client.named_host(), client.named_forwarders());
    assert!(!client.logs_in(&[1; 32], None));
    // No session can be bound after a login session.
    assert_eq!(client.says(&forwarder.bind(&[3; 32], false)), EXTENSION_FAILURE);
    assert!(client.logs_in(&[2; 32], None) && !client.logs_in(&[3; 32], None));
}

#[test]
fn a_session_is_bound_once_and_no_more_than_sixteen_are() {
    let host = Host::ed25519();
    let keystore = without_tokens();
    let mut connection = connection(&keystore);
    assert_eq!(answer(&mut connection, &host.bind(&[0; 32], true)), SUCCESS);
    assert_eq!(answer(&mut connection, &host.bind(&[0; 32], true)), SUCCESS, "the same again");
    assert_eq!(answer(&mut connection, &host.bind(&[0; 32], false)), EXTENSION_FAILURE, "another forwarding flag");
    assert_eq!(answer(&mut connection, &Host::ed25519().bind(&[0; 32], true)), EXTENSION_FAILURE, "another host");
    for number in 1..20 {
        let expected = if number < 16 { SUCCESS } else { EXTENSION_FAILURE };
        assert_eq!(answer(&mut connection, &host.bind(&[number; 32], true)), expected, "{number}");
    }
}

#[test]
fn a_forwarded_connection_only_lists_and_uses_keys() {
    let fixture = SshFixture::shared();
    let provider = fixture.agent.wallet.name("p256");
    let host = Host::ed25519();
    let failed = bind(&host.blob(), &[1; 32], b"", 0);
    for (bind, bound) in [(host.bind(&[1; 32], true), SUCCESS), (failed, EXTENSION_FAILURE)] {
        fixture.keystore().log_off(None).unwrap();
        let mut connection = connection(fixture.keystore());
        assert_eq!(answer(&mut connection, &bind), bound);
        assert_eq!(answer(&mut connection, &smartcard(20, provider.as_str(), PIN, b"")), FAILURE);
        fixture.assert_untouched(0);
        fixture.log_in();
        for message in [
            smartcard(20, provider.as_str(), "a-wrong-pin", b""),
            smartcard(21, provider.as_str(), PIN, b""),
            with_phrase(22, b"phrase"),
            with_phrase(23, b"phrase"),
            vec![19],
            remove(&fixture.p256),
        ] {
            assert_eq!(answer(&mut connection, &message), FAILURE, "{}", message[0]);
            assert!(!fixture.keystore().is_locked());
            fixture.assert_untouched(1);
        }
        assert_eq!(answer(&mut connection, &[11])[..5], [12, 0, 0, 0, 3]);
        let blob = super::sshsig("git", b"", "sha512", &[9; 64]);
        let request = sign_request(&blob_of(&fixture.p256.public_key_der()), &blob, 0);
        fixture.purposes();
        assert_eq!(answer(&mut connection, &request)[0], 14);
        let purposes = fixture.purposes();
        let [Purpose::SshSignature { forwarded_by, .. }] = &purposes[..] else { panic!("{purposes:?}") };
        assert_eq!(forwarded_by.is_some(), bound == SUCCESS);
    }
}
