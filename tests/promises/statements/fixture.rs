//! The setting for statements: an authority, its administrator, and a user without the role. Each
//! signature is made on a token in a separate process.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokenkeep::pki::cms::{ContentToSign, SigningCertificate};
use tokenkeep::pki::oid::ContentType;
use tokenkeep::pki::{Certificate, cms};
use tokenkeep::statement::{AdminOperation, Instance, SignedResponse, SignedStatement, Statement, StatementAnswer};
use tokenkeep::token::{Pin, Signature, TokenSource};
use tokenkeep::transport::{HttpTransport, Transport, TransportError};

use crate::support::deployment::Deployment;
use crate::support::other_program::ChildTask;
use crate::support::shared_authority::end_with_test_run;

/// An authority with the administrator in keyset `admin` and a user without the role in keyset
/// `default`.
pub(super) struct Fixture {
    pub(super) deployment: Deployment,
    pub(super) transport: HttpTransport,
    pub(super) ca: Certificate,
}

/// The signer's keyset, which is also the token's name, and the PIN.
pub(super) type Signer = (&'static str, &'static str);
pub(super) const ADMINISTRATOR: Signer = ("admin", Deployment::ADMIN_PIN);
pub(super) const ORDINARY_USER: Signer = ("default", Deployment::USER_PIN);

/// The content to sign: as a statement (true), or as a mail's content (false).
pub(super) type Content = (bool, String);

impl Fixture {
    pub(super) fn get() -> MutexGuard<'static, Self> {
        static FIXTURE: OnceLock<Mutex<Fixture>> = OnceLock::new();
        let fixture = FIXTURE.get_or_init(|| {
            let deployment = Deployment::begin_with_encryption_keys("p256");
            end_with_test_run(&deployment);
            deployment.enroll_user();
            let (http, https) = (deployment.authority.http_url(), deployment.authority.https_url());
            let found = HttpTransport::new(&http, &https, [0; 32]).unwrap().ca_certificate().unwrap();
            let ca = Certificate::from_der(&found).unwrap();
            let transport = HttpTransport::new(&http, &https, *ca.fingerprint().as_bytes()).unwrap();
            Mutex::new(Self { deployment, transport, ca })
        });
        fixture.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A valid statement for this authority, as a JSON value.
    pub(super) fn statement(&self, operation: AdminOperation) -> Value {
        self.statement_at(operation, Timestamp::now())
    }

    pub(super) fn statement_at(&self, operation: AdminOperation, now: Timestamp) -> Value {
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce).unwrap();
        let instance = Instance::parse(&self.transport.instance().unwrap()).unwrap();
        let reader = operation.returns_letter().then(|| self.administrators_encryption_certificate().fingerprint());
        let statement = Statement::online(self.ca.fingerprint(), instance, operation, nonce, now)
            .with_encryption_certificate(reader);
        serde_json::from_slice(&statement.to_json().unwrap()).unwrap()
    }

    pub(super) fn administrators_encryption_certificate(&self) -> Certificate {
        let found = self.transport.search_certificates("admin@example.org").unwrap();
        Certificate::from_der(&found[0]).unwrap()
    }

    /// Signs each content on a token in a separate process; returns CMS messages.
    #[track_caller]
    pub(super) fn sign_contents(&self, test: &str, (keyset, pin): Signer, contents: &[Content]) -> Vec<Vec<u8>> {
        let test = format!("statements::{test}");
        let answer = self.deployment.machine.run_child_task(&test, keyset, pin, &json!(contents));
        let messages = answer.as_array().unwrap();
        messages.iter().map(|message| hex::decode(message.as_str().unwrap()).unwrap()).collect()
    }

    #[track_caller]
    pub(super) fn sign_statement(&self, test: &str, signer: Signer, statement: &Value) -> Vec<u8> {
        self.sign_contents(test, signer, &[(true, statement.to_string())]).remove(0)
    }

    /// Sends a statement, and accepts the answer only if it is this authority's answer to this
    /// statement.
    #[track_caller]
    pub(super) fn send(&self, signed: &[u8]) -> StatementAnswer {
        self.verify_response(signed, self.transport.statement(signed).unwrap())
    }

    #[track_caller]
    pub(super) fn verify_response(&self, signed: &[u8], response: Vec<u8>) -> StatementAnswer {
        let response = SignedResponse::from_der(response);
        let unread = |_| Sha256::digest(signed).into();
        let digest = SignedStatement::parse(signed).map_or_else(unread, |signed| signed.digest());
        response.verify(&self.ca, digest, Timestamp::now()).unwrap().answer
    }

    #[track_caller]
    pub(super) fn expect_accepted(&self, signed: &[u8]) {
        let answer = self.send(signed);
        assert!(!matches!(answer, StatementAnswer::Refused(_)), "{answer:?}");
    }

    #[track_caller]
    pub(super) fn expect_refused(&self, signed: &[u8], reason: &str) {
        let text = match self.transport.statement(signed) {
            Ok(response) => match self.verify_response(signed, response) {
                StatementAnswer::Refused(text) => text,
                other => panic!("taken: {other:?}"),
            },
            // The response has no signature if the statement's signer is not verified.
            Err(TransportError::Refused { reason, .. }) => reason,
            Err(error) => panic!("{error}"),
        };
        assert!(text.contains(reason), "refused for another reason: {text}");
    }

    /// Fails the test unless the statement is refused, in any way.
    #[track_caller]
    pub(super) fn assert_not_accepted(&self, signed: &[u8], how: &str) {
        if self.transport.statement(signed).is_ok() {
            let answer = self.send(signed);
            assert!(matches!(answer, StatementAnswer::Refused(_)), "{how}: {answer:?}");
        }
    }

    /// Runs a query on the authority's database.
    #[track_caller]
    pub(super) fn query(&self, sql: &str) -> String {
        let database = "state/tokenkeep/authority/authority.db";
        self.deployment.machine.run("sqlite3", &["-readonly", "-cmd", ".timeout 5000", database, sql], b"").ok().out()
    }

    /// Changes rows in the authority's database directly.
    #[track_caller]
    pub(super) fn database(&self, sql: &str) {
        let database = "state/tokenkeep/authority/authority.db";
        let sql = format!("{sql}; SELECT changes()");
        let output =
            self.deployment.machine.run("sqlite3", &["-bail", "-cmd", ".timeout 5000", database, &sql], b"").ok();
        assert_ne!(output.out().trim(), "0", "nothing was changed by {sql}");
    }
}

/// In the signing process: signs every content with the token's signing key, with one PIN each.
pub(super) fn run_as_signer() -> bool {
    ChildTask::run_in_child(|order| {
        let module = TokenSource::load(Path::new(&order.module)).unwrap();
        let info = module.tokens().unwrap().into_iter().find(|info| info.label == order.token).unwrap();
        let token = module.open(&info).unwrap();
        let contents: Vec<Content> = serde_json::from_value(order.input.clone()).unwrap();
        let sign = |(as_statement, content): &Content| {
            let unlock = token.unlock(Pin::new(order.pin.clone()).unwrap()).unwrap();
            let key = token.keys().unwrap().into_iter().find(|key| key.can_sign()).unwrap();
            let mut certificates = token.certificates().unwrap().into_iter();
            let certificate = certificates.find(|certificate| certificate.id == *key.id()).unwrap();
            let certificate = Certificate::from_der(&certificate.der).unwrap();
            let to_sign = ContentToSign {
                content_type: if *as_statement { ContentType::STATEMENT } else { ContentType::DATA },
                content: content.as_bytes(),
                detached: false,
                signer: &SigningCertificate::new(&certificate, &[]).unwrap(),
                signing_time: Timestamp::now(),
                capabilities: false,
            };
            hex::encode(cms::sign::<_, Signature>(&to_sign, &unlock.sign_with(&key)).unwrap())
        };
        json!(contents.iter().map(sign).collect::<Vec<_>>())
    })
}

pub(super) fn issue(email: &str) -> AdminOperation {
    AdminOperation::Issue {
        email: email.to_owned(),
        name: Some("Example, Other".to_owned()),
        levels: None,
        valid_for_seconds: None,
    }
}

pub(super) fn recover(email: &str) -> AdminOperation {
    AdminOperation::Recover { email: email.to_owned(), lost: false, valid_for_seconds: None }
}
