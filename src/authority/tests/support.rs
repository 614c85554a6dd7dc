//! An authority and the clients that enroll with it.

mod configuration;
mod messages;

use std::net::IpAddr;
use std::path::Path;

use der::asn1::ObjectIdentifier;
use jiff::{SignedDuration, Timestamp};

use crate::authority::{Authority, AuthorityError, CmpReply, Configuration, PreparedInit, UnsignedError};
use crate::cmp::{
    self, CertStatus, CheckedReply, Draft, EnrollmentRequestBuilder, MacProtection, PkiBody, PkiFailureInfo, PkiHeader,
    PkiMessage, PkiStatusInfo, Pvno, TransportPublicKey, Utf8Pairs, check_reply,
};
use crate::letter::{Letter, TemporaryKey};
use crate::pki::{Certificate, Fingerprint};
use crate::statement::{self, AdminOperation, Response, SignedResponse, Statement, StatementChannel};
use crate::store::AuditRow;
use crate::token::test_support::{PIN, open_token, pin, softhsm};
use crate::token::{KeyAlgorithm, KeyId, Pin, SecurityLevel, TokenEnrollment, TokenKey};

pub use self::configuration::{configuration, load};
use self::messages::{confirmable, fits};
pub use self::messages::{parts, protect, proven, question, read, refusal};

pub const ADMINISTRATOR: &str = "admin@example.org";

pub fn now() -> Timestamp {
    "2026-11-22T12:00:00Z".parse().unwrap()
}

pub fn later(minutes: i64) -> Timestamp {
    now() + SignedDuration::from_mins(minutes)
}

fn source() -> IpAddr {
    "192.0.2.1".parse().unwrap()
}

/// Makes an authority without an SO PIN of its own.
pub fn init(
    configuration: &Configuration,
    pin: &Pin,
    first_administrator: &str,
    now: Timestamp,
) -> Result<Letter, AuthorityError> {
    let prepared = PreparedInit::check(configuration, first_administrator, now)?;
    Authority::init(&prepared, pin, None, |_| Ok(()))
}

/// An authority with its own token and state directory. Its encryption keys are P-256, which are
/// fast to generate.
pub struct AuthorityFixture {
    directory: tempfile::TempDir,
    pub configuration: Configuration,
    authority: Option<Authority>,
    pub letter: Letter,
}

impl AuthorityFixture {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let configuration = configuration(directory.path());
        let letter = init(&configuration, &pin(PIN), ADMINISTRATOR, now()).unwrap();
        let mut fixture = Self { directory, configuration, authority: None, letter };
        fixture.open(now());
        fixture
    }

    pub fn open(&mut self, now: Timestamp) {
        self.authority = Some(Authority::open(self.configuration.clone(), &pin(PIN), now).unwrap());
    }

    /// The directory of its configuration, for another process.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Releases token and database, as at the end of the process.
    pub fn close(&mut self) {
        self.authority = None;
    }

    pub fn authority(&self) -> &Authority {
        self.authority.as_ref().unwrap()
    }

    pub fn ca(&self) -> Certificate {
        Certificate::from_der(self.authority().ca_certificate()).unwrap()
    }

    pub fn post(&self, message: &[u8], at: Timestamp) -> CmpReply {
        self.authority().answer_cmp(message, source(), at)
    }

    /// Runs SQL on the closed database, as an attacker with access to the file could.
    pub fn tamper(&mut self, sql: &str) {
        self.close();
        run_sql(&self.configuration, sql);
        self.open(now());
    }

    /// Deletes the rows of used statements while the authority runs.
    pub fn forget_statements(&self) {
        self.tamper_running("DELETE FROM statements");
    }

    /// Runs SQL on the closed database and returns the error of the next start, which must fail.
    pub fn tamper_and_fail(&mut self, sql: &str) -> AuthorityError {
        self.close();
        run_sql(&self.configuration, sql);
        Authority::open(self.configuration.clone(), &pin(PIN), now()).unwrap_err()
    }

    /// Runs SQL on the open database while the authority uses it.
    pub fn tamper_running(&self, sql: &str) {
        run_sql(&self.configuration, sql);
    }

    /// Verifies the whole log, with MACs and evidence.
    pub fn check_log(&self) {
        let log = self.authority().log_verifier();
        let check = |row: &AuditRow| log.check_mac(row).and_then(|()| log.check_evidence(row));
        assert_eq!(log.walk(check).unwrap(), self.authority().records.store.audit_head().unwrap());
    }

    /// The enrolled administrator.
    pub fn administrator(&self) -> TestClient {
        let client = TestClient::new();
        client.enroll(self, &self.letter, now());
        client
    }

    /// Opens the authority again, as a new process.
    pub fn open_again(&mut self, now: Timestamp) {
        self.close();
        self.open(now);
    }

    /// Issues an administrator's letter for a user who already has a name.
    pub fn letter_for_known(&self, administrator: &TestClient, email: &str) -> Letter {
        let issue = AdminOperation::Issue { email: email.into(), name: None, levels: None, valid_for_seconds: None };
        self.state(administrator, issue, now()).unwrap();
        self.newest_letter(email)
    }

    /// Issues an administrator's letter for a user.
    pub fn letter_for(&self, administrator: &TestClient, email: &str) -> Letter {
        let issue = AdminOperation::Issue {
            email: email.into(),
            name: Some(format!("Example, \"{}\" Ünïcode 🦀", email.replace('@', " at "))),
            levels: None,
            valid_for_seconds: None,
        };
        self.state(administrator, issue, now()).unwrap();
        self.newest_letter(email)
    }

    pub fn recovery_letter_for(&self, administrator: &TestClient, email: &str, lost: bool) -> Letter {
        let recover = AdminOperation::Recover { email: email.into(), lost, valid_for_seconds: None };
        self.state(administrator, recover, now()).unwrap();
        self.newest_letter(email)
    }

    /// Sends a statement and verifies the response. The error is the authority's refusal.
    pub fn state(
        &self,
        by: &TestClient,
        operation: AdminOperation,
        at: Timestamp,
    ) -> Result<statement::StatementAnswer, String> {
        self.state_by(StatementChannel::Online, by, operation, at)
    }

    pub fn state_by(
        &self,
        channel: StatementChannel,
        by: &TestClient,
        operation: AdminOperation,
        at: Timestamp,
    ) -> Result<statement::StatementAnswer, String> {
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce).unwrap();
        let signed = by.sign(&self.statement(channel, by, operation, nonce, at), at);
        self.answer_of(channel, signed.as_der(), at)
    }

    /// A statement of this client to the present run of the authority.
    pub fn statement(
        &self,
        channel: StatementChannel,
        by: &TestClient,
        operation: AdminOperation,
        nonce: [u8; 16],
        at: Timestamp,
    ) -> Statement {
        let authority = self.authority();
        let ca = Fingerprint::of(authority.ca_certificate());
        let reader = operation.returns_letter().then(|| by.encryption_certificate().fingerprint());
        let statement = match channel {
            StatementChannel::Online => Statement::online(ca, authority.instance(), operation, nonce, at),
            StatementChannel::File => Statement::for_file(ca, operation, nonce, at),
        };
        statement.with_encryption_certificate(reader)
    }

    /// The newest letter of this user, before its encryption.
    pub fn newest_letter(&self, email: &str) -> Letter {
        let user = self.authority().records.store.user_by_email(&email.to_ascii_lowercase()).unwrap().unwrap();
        let record = self.authority().records.store.temporary_keys_of(&user.id).unwrap().pop().unwrap();
        self.authority().letters.letter(&record, &user).unwrap()
    }

    pub fn post_statement(&self, der: &[u8], at: Timestamp) -> Response {
        self.post_statement_by(StatementChannel::Online, der, at)
    }

    pub fn post_statement_by(&self, channel: StatementChannel, der: &[u8], at: Timestamp) -> Response {
        self.try_statement(channel, der, at).unwrap_or_else(|reason| panic!("no response: {reason:?}"))
    }

    fn try_statement(&self, channel: StatementChannel, der: &[u8], at: Timestamp) -> Result<Response, UnsignedError> {
        use sha2::Digest as _;
        let unread = |_| sha2::Sha256::digest(der).into();
        let digest = statement::SignedStatement::parse(der).map_or_else(unread, |signed| signed.digest());
        let response = SignedResponse::from_der(self.authority().answer_statement(der, channel, at)?);
        Ok(response.verify(&self.ca(), digest, at).unwrap())
    }

    /// The answer or the refusal, signed or not.
    pub fn answer_of(
        &self,
        channel: StatementChannel,
        der: &[u8],
        at: Timestamp,
    ) -> Result<statement::StatementAnswer, String> {
        match self.try_statement(channel, der, at).map(|response| response.answer) {
            Ok(statement::StatementAnswer::Refused(reason))
            | Err(UnsignedError::Unverified(reason) | UnsignedError::Fault(reason)) => Err(reason),
            Ok(answer) => Ok(answer),
        }
    }
}

fn run_sql(configuration: &Configuration, sql: &str) {
    let script = "import sqlite3,sys;c=sqlite3.connect(sys.argv[1],10);c.execute('PRAGMA foreign_keys=OFF');\
                  c.executescript(sys.argv[2]);c.commit()";
    let database = configuration.database();
    let status = std::process::Command::new("python3").args(["-c", script]).arg(database).arg(sql).status();
    assert!(status.unwrap().success(), "python3's sqlite3 is needed as a foreign witness");
}

#[derive(Clone, Copy)]
pub struct RequestOptions {
    pub encryption: bool,
    pub implicit_confirm: bool,
    pub level: Option<SecurityLevel>,
}

pub const DEFAULT_OPTIONS: RequestOptions =
    RequestOptions { encryption: true, implicit_confirm: false, level: Some(SecurityLevel::High) };

/// A client with a token unlocked for an enrollment, and one signing and one transport key on it.
pub struct TestClient {
    pub enrollment: TokenEnrollment,
    signing: TokenKey,
    transport: crate::token::TransportKeyPair,
    certificate: std::cell::RefCell<Option<Certificate>>,
    encryption: std::cell::RefCell<Option<(TokenKey, Certificate)>>,
}

impl TestClient {
    pub fn new() -> Self {
        let token = open_token(&softhsm());
        let enrollment = token.unlock(pin(PIN)).unwrap().begin_enrollment();
        let id = || KeyId::random().unwrap();
        let signing =
            enrollment.generate_signing_key("signing", &id(), KeyAlgorithm::P256, SecurityLevel::Low).unwrap();
        let transport = enrollment.generate_transport_key("transport", &id()).unwrap();
        Self {
            enrollment,
            signing,
            transport,
            certificate: std::cell::RefCell::default(),
            encryption: std::cell::RefCell::default(),
        }
    }

    pub fn signing_key(&self) -> &TokenKey {
        &self.signing
    }

    pub fn certificate(&self) -> Certificate {
        self.certificate.borrow().clone().unwrap()
    }

    /// The newest encryption certificate.
    pub fn encryption_certificate(&self) -> Certificate {
        self.encryption.borrow().clone().unwrap().1
    }

    pub fn sign(&self, statement: &Statement, at: Timestamp) -> statement::SignedStatement {
        statement.sign(&self.enrollment.signer(self.signing_key()), &self.certificate(), at).unwrap()
    }

    /// Decrypts a letter with the newest encryption key.
    pub fn letter_in(&self, answer: statement::StatementAnswer) -> Letter {
        let statement::StatementAnswer::EncryptedLetter(cms) = answer else { panic!("no letter: {answer:?}") };
        let message = crate::smime::EncryptedMessage::parse(&crate::smime::Message::read(&cms).unwrap()).unwrap();
        let (key, certificate) = self.encryption.borrow().clone().unwrap();
        assert!(message.recipients().len() == 1 && message.recipients()[0].is(&certificate));
        let opened = message.open(0, |operation| match operation {
            crate::smime::KeyOperation::Decrypt { transport, ciphertext } => {
                self.enrollment.decrypt(&key, &transport, ciphertext).map(crate::smime::KeyResult::Secret)
            }
            crate::smime::KeyOperation::Agree { peer_public_key } => {
                self.enrollment.agree(&key, peer_public_key).map(crate::smime::KeyResult::Secret)
            }
        });
        let Ok(opened) = opened else { panic!("the letter cannot be decrypted") };
        Letter::parse(std::str::from_utf8(&opened.content).unwrap()).unwrap()
    }

    pub fn header(letter: &Letter, at: Timestamp) -> PkiHeader {
        PkiHeader::request(Pvno::CMP2000, letter.reference.as_str(), None, at).unwrap()
    }

    /// Builds an `ir`, or a `krr` for an R reference.
    pub fn request(&self, letter: &Letter, options: RequestOptions, at: Timestamp) -> Vec<u8> {
        let request = self.draft_of(letter, options, at);
        let draft = match letter.purpose() {
            crate::letter::LetterPurpose::Enroll => request.ir(),
            crate::letter::LetterPurpose::Recover => request.krr(),
        };
        protect(draft, &letter.temporary_key)
    }

    pub fn draft_of(&self, letter: &Letter, options: RequestOptions, at: Timestamp) -> EnrollmentRequestBuilder {
        let mut pairs = Utf8Pairs::default().with(Utf8Pairs::KEYSET, "default");
        if let Some(level) = options.level {
            pairs = pairs.with(Utf8Pairs::LEVEL, &level.to_string());
        }
        let mut request =
            EnrollmentRequestBuilder::new(Self::header(letter, at), letter.reference.as_str(), &pairs).unwrap();
        if options.implicit_confirm {
            request = request.implicit_confirm();
        }
        let algorithm = self.signing.algorithm().signature_algorithm();
        let request = request
            .signing_key(self.signing.public_key_der(), algorithm, |bytes| {
                self.enrollment.sign(&self.signing, bytes).map(Vec::from)
            })
            .unwrap();
        if !options.encryption {
            return request;
        }
        let transport =
            TransportPublicKey { public_key: self.transport.public_key_der().to_vec(), oaep: self.transport.oaep() };
        request.encryption_key(&transport).unwrap()
    }

    /// Runs a whole enrollment: request, reply, installation of every key, confirmation. Returns
    /// the encryption certificates in the reply.
    pub fn enroll(&self, fixture: &AuthorityFixture, letter: &Letter, at: Timestamp) -> Vec<Certificate> {
        let request = self.request(letter, DEFAULT_OPTIONS, at);
        let reply = fixture.post(&request, at).bytes;
        let certificates = self.install(letter, &request, &reply);
        assert!(matches!(Self::confirm(fixture, letter, &request, &reply, at).body(), PkiBody::PkiConf(_)));
        certificates
    }

    /// Checks a reply and installs each key in it, which proves that the token can unwrap it and
    /// that it matches its certificate.
    pub fn install(&self, letter: &Letter, request: &[u8], reply: &[u8]) -> Vec<Certificate> {
        let reply = proven(request, reply, &letter.temporary_key);
        let (signing, pairs) = parts(&reply);
        *self.certificate.borrow_mut() = Some(signing);
        let mut certificates = Vec::new();
        for (certificate, delivery) in pairs {
            let public_key = certificate.public_key_der().unwrap();
            let algorithm = KeyAlgorithm::of_public_key(&public_key).unwrap();
            let id = KeyId::random().unwrap();
            let key = self
                .enrollment
                .install_private_key(&self.transport, &delivery, "key", &id, algorithm, &public_key, SecurityLevel::Low)
                .unwrap();
            assert_eq!(key.public_key_der(), public_key);
            assert!(fits(&self.enrollment, &key, &public_key), "the key matches its certificate");
            *self.encryption.borrow_mut() = Some((key, certificate.clone()));
            certificates.push(certificate);
        }
        certificates
    }

    pub fn confirm(
        fixture: &AuthorityFixture,
        letter: &Letter,
        request: &[u8],
        reply: &[u8],
        at: Timestamp,
    ) -> PkiMessage {
        let confirmation = Self::confirmation(letter, request, reply, None, at);
        let answer = fixture.post(&confirmation, at).bytes;
        proven(&confirmation, &answer, &letter.temporary_key)
    }

    pub fn confirmation(
        letter: &Letter,
        request: &[u8],
        reply: &[u8],
        refusal: Option<&PkiStatusInfo>,
        at: Timestamp,
    ) -> Vec<u8> {
        let (request, reply) = (read(request), read(reply));
        let mut statuses = Vec::new();
        for (id, certificate) in confirmable(&reply) {
            statuses.push(match refusal {
                None => CertStatus::accept(id, &certificate).unwrap(),
                Some(why) => CertStatus::refuse(id, &certificate, why.clone()).unwrap(),
            });
        }
        protect(cmp::confirm(&request, &reply, statuses, at).unwrap(), &letter.temporary_key)
    }
}
