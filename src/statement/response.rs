//! The authority's response to a statement: what came of it, and how far the audit log has got.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use signature::Signer;
use spki::DynSignatureAlgorithmIdentifier;
use zeroize::Zeroizing;

use super::members::{hexadecimal, instant, optional_instant};
use super::{Checkpoint, LogVerdict, StatementError};
use crate::pki::cms::{ContentToSign, SignatureCheck, SignedMessage, SigningCertificate, sign};
use crate::pki::oid::ContentType;
use crate::pki::{Certificate, Fingerprint, Purpose, path};
use crate::token::{SecurityLevel, Signature};

const WHAT: &str = "response";

/// The version written, and the only one read: nobody keeps a response. (In version 1 a checkpoint did not name its key.)
const VERSION: u8 = 2;

/// The most bytes a response has: a list of some ten thousand users.
const LONGEST_RESPONSE: usize = 8 * 1024 * 1024;

/// What the authority answers to one statement.
#[derive(Debug, Clone, PartialEq)]
pub struct Response {
    /// The statement it answers ([`super::SignedStatement::digest`]).
    pub statement: [u8; 32],
    /// What came of it.
    pub answer: Answer,
    /// How far the audit log has got, this act included.
    pub checkpoint: Checkpoint,
    /// What the log says to the place in it that the statement knows of. None if the statement knows of none, or was
    /// refused before that was looked at.
    pub known_log: Option<LogVerdict>,
    /// Administrators who were added where the authority is, and whom the signer has not acknowledged.
    pub added: Vec<AddedAdministrator>,
    /// What is to be known of certificates in use that end soon, other than the signer's: a sentence each.
    pub ending: Vec<String>,
}

/// An administrator who was added with the authority's PIN, not by an administrator's statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddedAdministrator {
    /// The number of the log's entry that says so.
    pub entry: u64,
    /// The e-mail address.
    pub email: String,
    /// When that was.
    #[serde(with = "instant")]
    pub at: Timestamp,
    /// From when letter and role count.
    #[serde(with = "instant")]
    pub counts_from: Timestamp,
}

/// What came of a statement.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// A letter: its text as DER of a CMS `ContentInfo`, encrypted to the encryption certificate that the statement names.
    /// No letter travels in clear.
    EncryptedLetter(#[serde(with = "hexadecimal")] Vec<u8>),
    /// All users, in short, or the last page of them.
    Users(Vec<UserSummary>),
    /// A page of the users, after which there are more.
    UserPage {
        /// The users, by their e-mail addresses.
        users: Vec<UserSummary>,
        /// What the statement for the next page gives as `after`.
        next: String,
    },
    /// One user, in full.
    User(Box<UserDetails>),
    /// It is in the log that the signer knows of the administrator that this entry tells of.
    Acknowledged(u64),
    /// Nothing was done; why, as a sentence for the administrator. This is the authority's word, not a fault.
    Refused(String),
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EncryptedLetter(cms) => write!(f, "EncryptedLetter({} bytes)", cms.len()),
            Self::Users(users) => f.debug_tuple("Users").field(users).finish(),
            Self::UserPage { users, next } => {
                f.debug_struct("UserPage").field("users", users).field("next", next).finish()
            }
            Self::User(user) => f.debug_tuple("User").field(user).finish(),
            Self::Acknowledged(entry) => f.debug_tuple("Acknowledged").field(entry).finish(),
            Self::Refused(reason) => f.debug_tuple("Refused").field(reason).finish(),
        }
    }
}

/// One line of the list of users.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserSummary {
    /// The e-mail address.
    pub email: String,
    /// The whole name.
    pub name: String,
    /// Whether they may make statements.
    pub administrator: bool,
    /// From when they may, where they may not yet.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "optional_instant")]
    pub administrator_from: Option<Timestamp>,
    /// Whether they have a current signing certificate.
    pub enrolled: bool,
    /// Until when that certificate is valid.
    #[serde(with = "optional_instant")]
    pub certificate_expires: Option<Timestamp>,
    /// Until when an unused letter of theirs is good.
    #[serde(with = "optional_instant")]
    pub letter_expires: Option<Timestamp>,
}

/// Everything about one user that an administrator may see.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserDetails {
    /// The internal user id.
    pub id: String,
    /// The e-mail address.
    pub email: String,
    /// The whole name.
    pub name: String,
    /// Whether they may make statements.
    pub administrator: bool,
    /// From when they may, where they may not yet.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "optional_instant")]
    pub administrator_from: Option<Timestamp>,
    /// Since when the authority knows them.
    #[serde(with = "instant")]
    pub since: Timestamp,
    /// How many of their encryption keys are in the archive.
    pub archived_keys: u64,
    /// Their certificates, the newest first.
    pub certificates: Vec<CertificateEntry>,
    /// Their letters, the newest first.
    pub letters: Vec<LetterEntry>,
}

/// A certificate of a user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateEntry {
    /// The serial number, hexadecimal.
    pub serial: String,
    /// What it is for: `signing` or `encryption`.
    pub usage: String,
    /// The keyset it was enrolled into, as the user named it. `None` where the authority's log does not say it.
    pub keyset: Option<String>,
    /// The keyset's level, likewise.
    pub level: Option<SecurityLevel>,
    /// `current`, `superseded`, `revoked` and the like, as the authority keeps it.
    pub state: String,
    /// From when it is valid.
    #[serde(with = "instant")]
    pub not_before: Timestamp,
    /// Until when it is valid.
    #[serde(with = "instant")]
    pub not_after: Timestamp,
}

/// A letter of a user, without its temporary key, which the authority does not keep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LetterEntry {
    /// The reference.
    pub reference: String,
    /// `enroll` or `recover`.
    pub purpose: String,
    /// `unused`, `claimed`, `used`, `voided`, `expired`.
    pub state: String,
    /// Until when it is or was good.
    #[serde(with = "instant")]
    pub expires: Timestamp,
}

/// The members of a response's JSON.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    version: u8,
    authority: Fingerprint,
    #[serde(with = "hexadecimal")]
    statement: [u8; 32],
    answer: Answer,
    checkpoint: Checkpoint,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    known_log: Option<LogVerdict>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    added: Vec<AddedAdministrator>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    ending: Vec<String>,
}

/// A response's CMS message. Until [`verify`](Self::verify) nothing it says is known to be true.
#[derive(Clone)]
pub struct SignedResponse(Zeroizing<Vec<u8>>);

impl fmt::Debug for SignedResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SignedResponse({} bytes)", self.0.len())
    }
}

impl Response {
    /// Signs the response with the authority's CMP response key, `authority` being the CA certificate's fingerprint.
    ///
    /// # Errors
    /// [`StatementError::Cms`], if the key refuses or does not fit the certificate.
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
        let form = Form {
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
    /// Takes what came as a response.
    pub fn from_der(der: Vec<u8>) -> Self {
        Self(Zeroizing::new(der))
    }

    /// The message's bytes, as they are sent.
    pub fn as_der(&self) -> &[u8] {
        &self.0
    }

    /// The refusal in it, if it is one, unverified: for whoever has it from the authority itself.
    pub fn claimed_refusal(&self) -> Option<String> {
        let message = SignedMessage::parse(&self.0).ok()?;
        match serde_json::from_slice::<Form>(message.content()?).ok()?.answer {
            Answer::Refused(reason) => Some(reason),
            _ => None,
        }
    }

    /// Verifies that the authority with this CA certificate (which the caller already trusts) answers with this the
    /// statement of this digest, and gives the response.
    ///
    /// # Errors
    /// [`StatementError::NotTheAuthority`] if the signer's certificate is not one the CA made for responses;
    /// [`StatementError::OtherStatement`], [`StatementError::Signature`], [`StatementError::Form`] and the like.
    pub fn verify(&self, ca: &Certificate, statement: [u8; 32], now: Timestamp) -> Result<Response, StatementError> {
        if self.0.len() > LONGEST_RESPONSE {
            return Err(StatementError::TooLong { what: WHAT });
        }
        let failed = |source| StatementError::Cms { what: WHAT, source };
        let message = SignedMessage::parse(&self.0).map_err(failed)?;
        if *message.content_type() != ContentType::STATEMENT_RESPONSE {
            return Err(StatementError::OtherType { what: WHAT, found: message.content_type().to_string() });
        }
        let checks = message.verify(None, &[]).map_err(failed)?;
        let signer = match checks.as_slice() {
            [SignatureCheck::Good { certificate, .. }] => certificate,
            [SignatureCheck::Wrong { reason, .. } | SignatureCheck::Unchecked { reason, .. }] => {
                return Err(wrong_signature(reason));
            }
            [SignatureCheck::NoCertificate { .. }] => return Err(wrong_signature("it does not bring its certificate")),
            _ => return Err(wrong_signature("it must have one signature")),
        };
        path::verify(signer, &[], std::slice::from_ref(ca), Purpose::CmpResponse, now)
            .map_err(StatementError::NotTheAuthority)?;
        let content = message.content().ok_or_else(|| wrong_signature("its content is missing"))?;
        let form: Form = serde_json::from_slice(content).map_err(|error| wrong_form(error.to_string()))?;
        if form.version != VERSION {
            return Err(wrong_form(format!("it is of version {}, and only version {VERSION} is known", form.version)));
        }
        if form.authority != ca.fingerprint() {
            return Err(StatementError::OtherAuthority { what: WHAT, found: form.authority });
        }
        if form.statement != statement {
            return Err(StatementError::OtherStatement);
        }
        let Form { statement, answer, checkpoint, known_log, added, ending, .. } = form;
        Ok(Response { statement, answer, checkpoint, known_log, added, ending })
    }
}

fn wrong_form(reason: impl Into<String>) -> StatementError {
    StatementError::Form { what: WHAT, reason: reason.into() }
}

fn wrong_signature(reason: impl Into<String>) -> StatementError {
    StatementError::Signature { what: WHAT, reason: reason.into() }
}
