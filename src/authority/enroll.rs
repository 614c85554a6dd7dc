//! Enrollment: from a CMP message to the reply. Each step is stored before the next one starts.
//!
//! claim → intent → signature → record → archive → reply → send. After a crash between any two
//! steps, the same message resumes from the stored state and gets a consistent reply.

mod confirm;
mod request;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use const_oid::db::rfc5912;
use der::Any;
use jiff::Timestamp;
use spki::AlgorithmIdentifierOwned;

use self::confirm::ConfirmationHandler;
use self::request::RequestHandler;
use super::authenticate::{AuthenticatedRequest, EnrollmentRequest, unauthenticated};
use super::delays::GuessDelays;
use super::key_archive::KeyArchive;
use super::letter_orders::check_approval;
use super::policy::Policy;
use super::records::VerifiedRecords;
use super::reference_locks::ReferenceLocks;
use super::rejection::{Rejection, RequestError, refuse};
use super::reply::{self, der_of};
use super::temporary_key::TemporaryKeys;
use super::token_keys::TokenKeys;
use super::{AuthorityError, Configuration};
use crate::cmp::{
    GeneralInfo, GeneralInfoExt as _, InfoTypeAndValue, PkiBody, PkiFailureInfo, PkiMessage, ProtectionError, oid,
};
use crate::letter::Reference;
use crate::store::{TemporaryKeyPurpose, TemporaryKeyRecord, TemporaryKeyState};
use crate::token::KeyAlgorithm;

/// A reply to a CMP message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CmpReply {
    /// The message (DER).
    pub bytes: Vec<u8>,
    /// The delay before the endpoint sends it: guesses at temporary keys are slowed by source
    /// address.
    pub delay: Duration,
}

/// Answers CMP messages: authenticates each with its letter, and passes it to the handler of its
/// kind.
#[derive(Debug)]
pub(super) struct CmpResponder {
    records: Arc<VerifiedRecords>,
    temporary_keys: TemporaryKeys,
    policy: Arc<Policy>,
    requests: RequestHandler,
    confirmations: ConfirmationHandler,
    reference_locks: ReferenceLocks,
    delays: GuessDelays,
}

impl CmpResponder {
    pub(super) fn new(
        (records, keys): (&Arc<VerifiedRecords>, &TokenKeys),
        temporary_keys: TemporaryKeys,
        policy: Policy,
        configuration: &Configuration,
    ) -> Self {
        let policy = Arc::new(policy);
        Self {
            records: Arc::clone(records),
            temporary_keys,
            requests: RequestHandler {
                records: Arc::clone(records),
                keys: keys.clone(),
                archive: KeyArchive::new(records, keys),
                policy: Arc::clone(&policy),
                confirm_wait: configuration.enrollment.confirm_wait,
            },
            confirmations: ConfirmationHandler { records: Arc::clone(records) },
            policy,
            reference_locks: ReferenceLocks::default(),
            delays: GuessDelays::default(),
        }
    }

    /// Discards transactions that were not confirmed in time. Returns their number.
    pub(super) fn sweep(&self, now: Timestamp) -> Result<usize, AuthorityError> {
        self.confirmations.sweep(&self.reference_locks, now)
    }

    /// Answers one message (DER `PKIMessage`) with another. Every input gets a reply.
    pub(super) fn answer(&self, message: &[u8], source: IpAddr, now: Timestamp) -> CmpReply {
        let message = match PkiMessage::from_der(message) {
            Ok(message) => message,
            Err(error) => {
                tracing::debug!(%source, %error, "not a CMP message");
                let rejection = Rejection::new(PkiFailureInfo::BAD_DATA_FORMAT, "this is not a CMP message");
                return self.unprotected(None, &rejection, Duration::ZERO, now);
            }
        };
        let transaction = hex::encode(message.header().transaction().unwrap_or_default());
        let span = tracing::info_span!("enroll", transaction_id = %transaction);
        let _inside = span.enter();
        tracing::info!(%source, message = message.body().name(), "received");
        match self.authenticate(message.clone()) {
            Ok(request) => self.answer_authenticated(request, now),
            Err(AuthenticationFailure::Refused(rejection)) => {
                tracing::info!(reason = %rejection, "refused before authentication");
                self.unprotected(Some(&message), &rejection, Duration::ZERO, now)
            }
            Err(AuthenticationFailure::NotAuthenticated(error)) => {
                let delay = self.delays.after_failure(source, now);
                tracing::warn!(%source, %error, "not authenticated");
                self.unprotected(Some(&message), &unauthenticated(&error), delay, now)
            }
            Err(AuthenticationFailure::Failed(error)) => {
                tracing::error!(%error, "failed");
                self.unprotected(Some(&message), &failure(&error), Duration::ZERO, now)
            }
        }
    }

    /// Finds the letter that the message names and verifies the MAC. An unknown reference takes the
    /// same work, and gets the same reply, as a wrong temporary key.
    fn authenticate(&self, message: PkiMessage) -> Result<AuthenticatedRequest, AuthenticationFailure> {
        let references = message.references();
        let request = EnrollmentRequest::new(message).map_err(AuthenticationFailure::Refused)?;
        let letter = self.letter_of(&references)?;
        let known = letter.is_some();
        let letter = match letter {
            Some(letter) => letter,
            None => self.temporary_keys.decoy_record()?,
        };
        let secret = self.temporary_keys.derive(&letter)?;
        let request = request.authenticate(letter, &secret).map_err(AuthenticationFailure::NotAuthenticated)?;
        // Nobody knows the decoy's temporary key; even a MAC under it would not authenticate.
        if known { Ok(request) } else { Err(AuthenticationFailure::NotAuthenticated(ProtectionError::Mismatch)) }
    }

    /// Returns the letter of the first of these references that has one. A letter with a broken
    /// seal does not count.
    fn letter_of(&self, references: &[String]) -> Result<Option<TemporaryKeyRecord>, AuthorityError> {
        for reference in references {
            let Ok(reference) = Reference::parse(reference) else { continue };
            let Some(record) = self.records.store.temporary_key(reference.as_str())? else { continue };
            match self.records.letter_as_logged(record) {
                Ok(record) => return Ok(Some(record)),
                Err(error) => tracing::error!(%error, "a letter was altered in the database"),
            }
        }
        Ok(None)
    }

    fn answer_authenticated(&self, request: AuthenticatedRequest, now: Timestamp) -> CmpReply {
        let reply_protection = request.reply_protection();
        let reference = request.letter().reference.clone();
        let _turn = self.reference_locks.take(&reference);
        let bytes = self.dispatch(request, now).or_else(|stop| {
            let rejection = match stop {
                RequestError::Refused(rejection) => {
                    tracing::info!(%reference, reason = %rejection, "refused");
                    rejection
                }
                RequestError::Failed(error) => {
                    tracing::error!(%reference, %error, "failed");
                    failure(&error)
                }
            };
            reply_protection.refuse(self.records.name(), &rejection, now)
        });
        match bytes {
            Ok(bytes) => CmpReply { bytes, delay: Duration::ZERO },
            Err(error) => {
                tracing::error!(%error, "cannot build the refusal");
                self.unprotected(None, &failure(&error), Duration::ZERO, now)
            }
        }
    }

    fn dispatch(&self, request: AuthenticatedRequest, now: Timestamp) -> Result<Vec<u8>, RequestError> {
        match request.message().body() {
            PkiBody::Ir(_) | PkiBody::Krr(_) => self.requests.answer(request, now),
            PkiBody::CertConf(_) => self.confirmations.confirm(&request, now),
            PkiBody::Error(_) => self.confirmations.handle_client_error(&request, now),
            PkiBody::Genm(query) => {
                let query = query.clone();
                self.handle_genm(&request, &query, now)
            }
            other => Err(refuse(PkiFailureInfo::BAD_REQUEST, format!("{} is not supported", other.name()))),
        }
    }

    /// Answers `genm` with data about the authority, or with the reason why the letter cannot be
    /// used. It changes nothing.
    fn handle_genm(
        &self,
        request: &AuthenticatedRequest,
        query: &GeneralInfo,
        now: Timestamp,
    ) -> Result<Vec<u8>, RequestError> {
        // The state of a letter that another transaction has claimed is reported too: this client
        // has made nothing yet.
        let letter = self.records.letter_now(&request.letter().reference)?;
        check_usable(&letter, now)?;
        if letter.purpose == TemporaryKeyPurpose::Recover {
            check_approval(&self.records, &letter, &self.records.user(&letter.user_id)?)?;
        }
        let mut information = GeneralInfo::new();
        if query.asks_for(oid::IT_CA_CERTS) {
            information.push(InfoTypeAndValue::ca_certs(&[der_of(&self.records.ca)?])?);
        }
        if query.asks_for(oid::IT_SIGN_KEY_PAIR_TYPES) {
            let kinds = self.policy.signing.keys().iter().copied().map(key_pair_type);
            information.push(InfoTypeAndValue::sign_key_pair_types(&kinds.collect::<Vec<_>>())?);
        }
        if let KeyAlgorithm::Rsa(size) = self.policy.signing.default_key()
            && query.asks_for(oid::IT_CERT_REQ_TEMPLATE)
        {
            information.push(InfoTypeAndValue::rsa_key_length(size.bits())?);
        }
        Ok(request.reply_protection().protect(self.records.name(), PkiBody::Genp(information), Vec::new(), now)?)
    }

    fn unprotected(
        &self,
        message: Option<&PkiMessage>,
        rejection: &Rejection,
        delay: Duration,
        now: Timestamp,
    ) -> CmpReply {
        let bytes = reply::unprotected(message, self.records.name(), rejection, now)
            .or_else(|_| reply::unprotected(None, self.records.name(), rejection, now))
            .unwrap_or_else(|error| {
                tracing::error!(%error, "cannot build the refusal");
                Vec::new()
            });
        CmpReply { bytes, delay }
    }
}

/// The reason why the sender of a message is not authenticated.
enum AuthenticationFailure {
    Refused(Rejection),
    NotAuthenticated(ProtectionError),
    Failed(AuthorityError),
}

impl<E: Into<AuthorityError>> From<E> for AuthenticationFailure {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// Checks that the letter can start an enrollment. The reason for a refusal is told only after the
/// MAC was verified.
fn check_usable(letter: &TemporaryKeyRecord, now: Timestamp) -> Result<(), RequestError> {
    let text = match letter.state {
        TemporaryKeyState::Used => "this letter was already used; ask your administrator for a new one".to_owned(),
        TemporaryKeyState::Voided => "this letter was replaced by a newer one; use that one".to_owned(),
        TemporaryKeyState::Claimed => {
            "another enrollment with this letter is in progress; if it is yours, finish it or try again in a few \
             minutes"
                .to_owned()
        }
        TemporaryKeyState::Unused if now < letter.issued_at => {
            format!("this letter is good from {} on; try again then", letter.issued_at)
        }
        TemporaryKeyState::Unused if now >= letter.expires_at => {
            format!("this letter was good until {}; ask your administrator for a new one", letter.expires_at)
        }
        TemporaryKeyState::Unused => return Ok(()),
    };
    Err(refuse(PkiFailureInfo::NOT_AUTHORIZED, text))
}

/// Returns the algorithm of a key's `SubjectPublicKeyInfo`, as `signKeyPairTypes` lists it.
fn key_pair_type(algorithm: KeyAlgorithm) -> AlgorithmIdentifierOwned {
    match algorithm.curve() {
        Some(curve) => AlgorithmIdentifierOwned { oid: rfc5912::ID_EC_PUBLIC_KEY, parameters: Some(Any::from(curve)) },
        None => AlgorithmIdentifierOwned { oid: rfc5912::RSA_ENCRYPTION, parameters: Some(Any::null()) },
    }
}

fn failure(error: &AuthorityError) -> Rejection {
    let text = error.text_for_client().map_or_else(
        || "the authority cannot do this now; nothing is lost, so send the same message again later".to_owned(),
        |text| format!("{text}; nothing is lost, so the same message may be sent again"),
    );
    Rejection::new(PkiFailureInfo::SYSTEM_FAILURE, text)
}

/// Protects the replies to an authenticated message.
type ReplyProtection = Arc<super::authenticate::ReplyProtection>;
