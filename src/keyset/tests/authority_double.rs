//! A substitute for the authority: it issues, wraps and responds like the real one, with its own
//! token, and can modify its replies. Modules of one layer do not import each other, not even in
//! tests; `tests/` uses the real authority over the network.

use std::collections::HashMap;
use std::sync::Mutex;

use jiff::Timestamp;
use spki::SubjectPublicKeyInfoRef;

use der::Decode;

use crate::cmp::{
    CertRepMessage, CertReqMsg, CertResponse, CertificateDer, CertifiedKeyPair, ConfirmationVerdict, EncryptedKey,
    EncryptedValue, InfoTypeAndValue, KeyRecRepContent, PkiBody, PkiFailureInfo, PkiMessage, PkiStatusInfo,
    draft_reply, verify_mac,
};
use crate::letter::{Letter, LetterPurpose, Reference, TemporaryKey};
use crate::pki::test_support::{SoftwareKey, TestAuthority};
use crate::pki::{Certificate, DistinguishedName, Issuer, NewCertificate, Profile, SerialNumber, sign_tbs};
use crate::token::test_support::{authority_token, softhsm};
use crate::token::{AuthorityToken, KeyAlgorithm, KeyId, SecretKey, SecurityLevel, WrappedKey};
use crate::transport::{Transport, TransportError};

/// Modifies a reply in transit; `Err` is a transport error.
pub type Bend = dyn FnMut(&AuthorityDouble, &'static str, Vec<u8>) -> Result<Vec<u8>, TransportError> + Send;

pub struct AuthorityDouble {
    pub ca: TestAuthority,
    token: AuthorityToken,
    archive: SecretKey,
    state: Mutex<State>,
    bend: Mutex<Option<Box<Bend>>>,
    pub encryption_algorithm: KeyAlgorithm,
}

#[derive(Default)]
struct State {
    letters: HashMap<String, LetterRecord>,
    replies: HashMap<[u8; 32], Vec<u8>>,
    archived: Vec<(Vec<u8>, WrappedKey, KeyAlgorithm)>,
    seen: Vec<&'static str>,
}

struct LetterRecord {
    key: TemporaryKey,
    claimed: Option<Vec<u8>>,
    used: bool,
}

impl AuthorityDouble {
    pub fn new() -> Self {
        let token = authority_token(&softhsm());
        let archive = token.generate_archive_key("archive", &KeyId::random().unwrap()).unwrap();
        Self {
            ca: TestAuthority::new("Example Authority", SoftwareKey::p256()),
            token,
            archive,
            state: Mutex::default(),
            bend: Mutex::new(None),
            encryption_algorithm: KeyAlgorithm::P256,
        }
    }

    /// A letter for the only user.
    pub fn letter(&self, purpose: LetterPurpose) -> Letter {
        let mut random = [0; 37];
        getrandom::fill(&mut random).unwrap();
        let reference = Reference::new(purpose, random[..5].try_into().unwrap());
        let temporary_key = TemporaryKey::from_mac(random[5..].try_into().unwrap());
        let record = LetterRecord { key: temporary_key.clone(), claimed: None, used: false };
        self.state.lock().unwrap().letters.insert(reference.as_str().to_owned(), record);
        Letter {
            user_name: "Example, User".into(),
            email: "user@example.org".into(),
            authority_name: "Example Authority".into(),
            http_url: "http://127.0.0.1:8829".into(),
            https_url: "https://127.0.0.1:8830".into(),
            reference,
            temporary_key,
            ca_fingerprint: *self.ca.certificate.fingerprint().as_bytes(),
            levels: vec![SecurityLevel::High, SecurityLevel::Medium],
            expires: Timestamp::now() + jiff::SignedDuration::from_hours(24),
        }
    }

    /// Modifies all further replies with this function.
    pub fn bend(
        &self,
        bend: impl FnMut(&Self, &'static str, Vec<u8>) -> Result<Vec<u8>, TransportError> + Send + 'static,
    ) {
        *self.bend.lock().unwrap() = Some(Box::new(bend));
    }

    pub fn straight(&self) {
        *self.bend.lock().unwrap() = None;
    }

    /// The types of the messages received, in order; the list is then cleared.
    pub fn seen(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.state.lock().unwrap().seen)
    }

    pub fn is_used(&self, letter: &Letter) -> bool {
        self.state.lock().unwrap().letters[letter.reference.as_str()].used
    }

    fn draft_reply(&self, request: &[u8]) -> (&'static str, Vec<u8>) {
        let message = PkiMessage::from_der(request).unwrap();
        let mut state = self.state.lock().unwrap();
        let kind = message.body().name();
        state.seen.push(kind);
        if let Some(reply) = state.replies.get(&message.digest()) {
            return (kind, reply.clone());
        }
        let reference = message.references().remove(0);
        let name = self.ca.certificate.subject();
        let unprotected = |reason: PkiFailureInfo| {
            let body = PkiBody::Error(PkiStatusInfo::rejection(reason, "").into());
            draft_reply(&message, name.as_x509(), body, Timestamp::now()).unwrap().unprotected().unwrap()
        };
        let Some(letter) = state.letters.get(&reference) else {
            return (kind, unprotected(PkiFailureInfo::BAD_MESSAGE_CHECK));
        };
        let secret = letter.key.clone();
        let Ok(protection) = verify_mac(&message, secret.cmp_secret()) else {
            return (kind, unprotected(PkiFailureInfo::BAD_MESSAGE_CHECK));
        };
        let body = self.body(&mut state, &reference, &message);
        let draft = draft_reply(&message, name.as_x509(), body, Timestamp::now()).unwrap();
        let reply = draft.protect_with_mac(secret.cmp_secret(), &protection).unwrap();
        if !matches!(message.body(), PkiBody::Genm(_)) {
            state.replies.insert(message.digest(), reply.clone());
        }
        (kind, reply)
    }

    fn body(&self, state: &mut State, reference: &str, message: &PkiMessage) -> PkiBody {
        let refusal =
            |text: &str| PkiBody::Error(PkiStatusInfo::rejection(PkiFailureInfo::NOT_AUTHORIZED, text).into());
        let transaction = message.header().transaction().unwrap().to_vec();
        let letter = state.letters.get_mut(reference).unwrap();
        if letter.used || letter.claimed.as_ref().is_some_and(|claimed| *claimed != transaction) {
            return refusal("the letter was used");
        }
        let ca = CertificateDer::new(self.ca.certificate.as_der()).unwrap();
        match message.body() {
            PkiBody::Genm(_) => {
                let algorithm = self.ca.certificate.public_key_algorithm().unwrap();
                PkiBody::Genp(vec![
                    InfoTypeAndValue::ca_certs(&[ca]).unwrap(),
                    InfoTypeAndValue::sign_key_pair_types(&[algorithm]).unwrap(),
                ])
            }
            PkiBody::Ir(requests) => {
                letter.claimed = Some(transaction);
                let (signing, encryption) =
                    (self.certify_signing(&requests[0]), self.certify_encryption(state, &requests[1]));
                let responses = vec![CertResponse::granted(0, signing), CertResponse::granted(1, encryption)];
                PkiBody::Ip(CertRepMessage::new(vec![ca], responses))
            }
            PkiBody::Krr(requests) => {
                letter.claimed = Some(transaction);
                let signing = self.certify_signing(&requests[0]).plain_certificate().unwrap().clone();
                let history = state.archived.iter().map(|record| self.deliver(record, &requests[1])).collect();
                PkiBody::Krp(KeyRecRepContent::granted(signing, vec![ca], history))
            }
            PkiBody::CertConf(statuses) => {
                assert!(statuses.iter().all(|status| {
                    let accepted = |der: &Vec<u8>| {
                        status.verdict_on(der, message.header().pvno).unwrap() == ConfirmationVerdict::Accepted
                    };
                    ISSUED.lock().unwrap().iter().any(accepted)
                }));
                letter.used = true;
                PkiBody::pki_conf()
            }
            PkiBody::Error(_) => {
                letter.claimed = None;
                PkiBody::pki_conf()
            }
            other => refusal(&format!("what is a {}?", other.name())),
        }
    }

    fn certify_signing(&self, request: &CertReqMsg) -> CertifiedKeyPair {
        let possession = request.possession().unwrap();
        crate::pki::signature::verify_possession(
            &possession.public_key,
            &possession.algorithm,
            &possession.signed,
            &possession.signature,
        )
        .unwrap();
        let certificate = self.certify("signing", &possession.public_key);
        CertifiedKeyPair::certificate(CertificateDer::new(certificate.as_der()).unwrap())
    }

    fn certify_encryption(&self, state: &mut State, request: &CertReqMsg) -> CertifiedKeyPair {
        let key = self.token.generate_deliverable_key(self.encryption_algorithm).unwrap();
        let certificate = self.certify("encryption", key.public_key_der().unwrap());
        let wrapped = self.token.wrap_for_archive(&self.archive, &key).unwrap();
        let record = (certificate.as_der().to_vec(), wrapped, self.encryption_algorithm);
        let delivered = self.deliver(&record, request);
        state.archived.push(record);
        delivered
    }

    /// Returns an archived key, wrapped with the transport key of this request.
    fn deliver(&self, record: &(Vec<u8>, WrappedKey, KeyAlgorithm), request: &CertReqMsg) -> CertifiedKeyPair {
        let transport = request.cert_req.transport_key().unwrap().unwrap();
        let key = self.token.unwrap_from_archive(&self.archive, &record.1, record.2).unwrap();
        let delivery = self.token.wrap_for_token(&key, &transport.public_key, transport.oaep).unwrap();
        let certificate = Certificate::from_der(&record.0).unwrap();
        let spki = certificate.public_key_der().unwrap();
        let algorithm = SubjectPublicKeyInfoRef::from_der(&spki).unwrap().algorithm;
        let algorithm =
            spki::AlgorithmIdentifierOwned { oid: algorithm.oid, parameters: algorithm.parameters.map(Into::into) };
        let value = EncryptedValue::from_delivery(&delivery, algorithm).unwrap();
        let key = EncryptedKey::EncryptedValue(value);
        CertifiedKeyPair::with_private_key(CertificateDer::new(&record.0).unwrap(), key)
    }

    fn certify(&self, profile: &str, public_key: &[u8]) -> Certificate {
        let certificate = NewCertificate {
            profile: &Profile::shipped(profile).unwrap(),
            issuer: Issuer::Authority(&self.ca.certificate),
            subject: &DistinguishedName::of("Example, User").unwrap(),
            email: Some(&"user@example.org".parse().unwrap()),
            hosts: &[],
            public_key,
            serial: &SerialNumber::random().unwrap(),
            now: Timestamp::now(),
        };
        let certificate = sign_tbs(&certificate.to_tbs_der().unwrap(), &self.ca.key).unwrap();
        ISSUED.lock().unwrap().push(certificate.as_der().to_vec());
        certificate
    }
}

/// All certificates issued in these tests, which a certConf may name.
static ISSUED: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

impl Transport for AuthorityDouble {
    fn cmp(&self, message: &[u8]) -> Result<Vec<u8>, TransportError> {
        let (kind, reply) = self.draft_reply(message);
        match self.bend.lock().unwrap().as_mut() {
            Some(bend) => bend(self, kind, reply),
            None => Ok(reply),
        }
    }

    fn ca_certificate(&self) -> Result<Vec<u8>, TransportError> {
        Ok(self.ca.certificate.as_der().to_vec())
    }

    fn search_certificates(&self, _email: &str) -> Result<Vec<Vec<u8>>, TransportError> {
        Ok(Vec::new())
    }

    fn instance(&self) -> Result<Vec<u8>, TransportError> {
        Err(unreachable())
    }

    fn statement(&self, _statement: &[u8]) -> Result<Vec<u8>, TransportError> {
        Err(unreachable())
    }
}

pub fn unreachable() -> TransportError {
    TransportError::Unreachable { url: "http://127.0.0.1:8829".into(), reason: "connection refused".into() }
}
