//! The authority's response to a statement: the result, and the end of the audit log.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use signature::Signer;
use spki::DynSignatureAlgorithmIdentifier;
use zeroize::Zeroizing;

use super::serde_formats::{hexadecimal, instant};
use super::{Checkpoint, LogVerdict, StatementAnswer, StatementError};
use crate::pki::cms::{ContentToSign, SignatureCheck, SignedMessage, SigningCertificate, sign};
use crate::pki::oid::ContentType;
use crate::pki::{Certificate, CertificatePurpose, Fingerprint, path};
use crate::token::Signature;

const WHAT: &str = "response";

/// The only version that is written and parsed, because no one stores responses. (A checkpoint of
/// version 1 did not name its key.)
const VERSION: u8 = 2;

/// The maximum size of a response in bytes, enough for a list of about ten thousand users.
const MAX_RESPONSE_BYTES: usize = 8 * 1024 * 1024;

/// The authority's response to one statement.
#[derive(Debug, Clone, PartialEq)]
pub struct Response {
    /// The digest of the statement ([`super::SignedStatement::digest`]).
    pub statement: [u8; 32],
    /// The result.
    pub answer: StatementAnswer,
    /// The end of the audit log, after the entries of this operation.
    pub checkpoint: Checkpoint,
    /// The result of comparing the log with the position in the statement. `None` if the statement
    /// names no position, or was refused before the comparison.
    pub known_log: Option<LogVerdict>,
    /// Administrators who were added on the authority's machine and whom the signer has not
    /// acknowledged.
    pub added: Vec<AddedAdministrator>,
    /// Warnings about certificates in use, other than the signer's, that expire soon: a sentence
    /// each.
    pub ending: Vec<String>,
}

/// An administrator who was added with the authority's PIN, not by a statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddedAdministrator {
    /// The number of the log entry that records the addition.
    pub entry: u64,
    /// The e-mail address.
    pub email: String,
    /// The time of the addition.
    #[serde(with = "instant")]
    pub at: Timestamp,
    /// The time at which the letter and the role take effect.
    #[serde(with = "instant")]
    pub counts_from: Timestamp,
}

/// The members of a response's JSON.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ResponseJson {
    version: u8,
    authority: Fingerprint,
    #[serde(with = "hexadecimal")]
    statement: [u8; 32],
    answer: StatementAnswer,
    checkpoint: Checkpoint,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    known_log: Option<LogVerdict>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    added: Vec<AddedAdministrator>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    ending: Vec<String>,
}

/// A response's CMS message. Its content is untrusted until [`verify`](Self::verify) succeeds.
#[derive(Clone)]
pub struct SignedResponse(Zeroizing<Vec<u8>>);

impl fmt::Debug for SignedResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SignedResponse({} bytes)", self.0.len())
    }
}

impl Response {
    /// Signs the response with the authority's CMP response key. `authority` is the CA
    /// certificate's fingerprint.
    ///
    /// # Errors
    /// [`StatementError::Cms`], if the key fails to sign or does not match the certificate.
    pub fn sign<S>(
        &self,
        signer: &S,
        certificate: &Certificate,
        authority: Fingerprint,
        now: Timestamp,
    ) -> Result<SignedResponse, StatementError>
    where
        S: Signer<Signature> + DynSignatureAlgorithmIdentifier,
    {
        let form = ResponseJson {
            version: VERSION,
            authority,
            statement: self.statement,
            answer: self.answer.clone(),
            checkpoint: self.checkpoint.clone(),
            known_log: self.known_log,
            added: self.added.clone(),
            ending: self.ending.clone(),
        };
        let content = Zeroizing::new(serde_json::to_vec(&form).map_err(|error| wrong_form(error.to_string()))?);
        let cms = |source| StatementError::Cms { what: WHAT, source };
        let to_sign = ContentToSign {
            content_type: ContentType::STATEMENT_RESPONSE,
            content: &content,
            detached: false,
            signer: &SigningCertificate::new(certificate, &[]).map_err(cms)?,
            signing_time: now,
            capabilities: false,
        };
        let der = sign(&to_sign, signer).map_err(cms)?;
        Ok(SignedResponse(Zeroizing::new(der)))
    }
}

impl SignedResponse {
    /// Wraps received bytes without checking them.
    pub fn from_der(der: Vec<u8>) -> Self {
        Self(Zeroizing::new(der))
    }

    /// The message's bytes.
    pub fn as_der(&self) -> &[u8] {
        &self.0
    }

    /// The reason, if the response is a refusal. It is unverified: use it only on the authority's
    /// own machine.
    pub fn claimed_refusal(&self) -> Option<String> {
        let message = SignedMessage::parse(&self.0).ok()?;
        match serde_json::from_slice::<ResponseJson>(message.content()?).ok()?.answer {
            StatementAnswer::Refused(reason) => Some(reason),
            _ => None,
        }
    }

    /// Verifies that the authority with this CA certificate, which the caller already trusts,
    /// signed the response to the statement with this digest, and returns the response.
    ///
    /// # Errors
    /// [`StatementError::UntrustedSigner`], if the CA did not issue the signer's certificate for
    /// responses; [`StatementError::WrongStatement`], [`StatementError::Signature`],
    /// [`StatementError::Form`] and the like.
    pub fn verify(&self, ca: &Certificate, statement: [u8; 32], now: Timestamp) -> Result<Response, StatementError> {
        if self.0.len() > MAX_RESPONSE_BYTES {
            return Err(StatementError::TooLong { what: WHAT });
        }
        let failed = |source| StatementError::Cms { what: WHAT, source };
        let message = SignedMessage::parse(&self.0).map_err(failed)?;
        if *message.content_type() != ContentType::STATEMENT_RESPONSE {
            return Err(StatementError::WrongContentType { what: WHAT, found: message.content_type().to_string() });
        }
        let checks = message.verify(None, &[]).map_err(failed)?;
        let signer = match checks.as_slice() {
            [SignatureCheck::Good { certificate, .. }] => certificate,
            [SignatureCheck::Wrong { reason, .. } | SignatureCheck::Unchecked { reason, .. }] => {
                return Err(wrong_signature(reason));
            }
            [SignatureCheck::NoCertificate { .. }] => {
                return Err(wrong_signature("its signer's certificate is missing"));
            }
            _ => return Err(wrong_signature("it must have exactly one signature")),
        };
        path::verify(signer, &[], std::slice::from_ref(ca), CertificatePurpose::CmpResponse, now)
            .map_err(StatementError::UntrustedSigner)?;
        let content = message.content().ok_or_else(|| wrong_signature("its content is missing"))?;
        let form: ResponseJson = serde_json::from_slice(content).map_err(|error| wrong_form(error.to_string()))?;
        if form.version != VERSION {
            return Err(wrong_form(format!("unknown version {}; known is only {VERSION}", form.version)));
        }
        if form.authority != ca.fingerprint() {
            return Err(StatementError::OtherAuthority { what: WHAT, found: form.authority });
        }
        if form.statement != statement {
            return Err(StatementError::WrongStatement);
        }
        let ResponseJson { statement, answer, checkpoint, known_log, added, ending, .. } = form;
        Ok(Response { statement, answer, checkpoint, known_log, added, ending })
    }
}

fn wrong_form(reason: impl Into<String>) -> StatementError {
    StatementError::Form { what: WHAT, reason: reason.into() }
}

fn wrong_signature(reason: impl Into<String>) -> StatementError {
    StatementError::Signature { what: WHAT, reason: reason.into() }
}
