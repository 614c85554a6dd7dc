//! A statement with its signature: made on the administrator's side, verified on the authority's.

use jiff::Timestamp;
use sha2::{Digest, Sha256};
use signature::Signer;
use spki::DynSignatureAlgorithmIdentifier;

use super::{LONGEST_STATEMENT, Statement, StatementError, Way};
use crate::pki::cms::{ContentToSign, SignatureCheck, SignedMessage, SigningCertificate, check_sole_signer, sign};
use crate::pki::oid::ContentType;
use crate::pki::{Certificate, Fingerprint};
use crate::token::Signature;

const WHAT: &str = "statement";

/// A statement's CMS message. Until [`verify`](Self::verify) nothing it says is known to be true.
#[derive(Debug, Clone)]
pub struct SignedStatement {
    der: Vec<u8>,
    message: SignedMessage,
    certificate: Certificate,
    digest: [u8; 32],
}

impl Statement {
    /// Signs the statement: CMS SignedData with the statement's own content type, the content inside, and the signer's
    /// certificate. One use of the key.
    ///
    /// # Errors
    /// [`StatementError::Cms`], if the key refuses or does not fit the certificate.
    pub fn sign<S>(
        &self,
        signer: &S,
        certificate: &Certificate,
        now: Timestamp,
    ) -> Result<SignedStatement, StatementError>
    where
        S: Signer<Signature> + DynSignatureAlgorithmIdentifier,
    {
        let content = self.to_json()?;
        let cms = |source| StatementError::Cms { what: WHAT, source };
        let to_sign = ContentToSign {
            content_type: ContentType::STATEMENT,
            content: &content,
            detached: false,
            signer: &SigningCertificate::new(certificate, &[]).map_err(cms)?,
            signing_time: now,
            capabilities: false,
        };
        let der = sign(&to_sign, signer).map_err(cms)?;
        SignedStatement::parse(&der)
    }
}

impl SignedStatement {
    /// Reads the CMS message as far as it can be judged without knowing anyone: the content type, and the strict form
    /// ([`check_sole_signer`]), which leaves no room for a second message with the same signature.
    ///
    /// # Errors
    /// [`StatementError::TooLong`], [`StatementError::Cms`], [`StatementError::OtherType`],
    /// [`StatementError::Signature`] if it does not bring exactly the signer's certificate.
    pub fn parse(der: &[u8]) -> Result<Self, StatementError> {
        if der.len() > LONGEST_STATEMENT {
            return Err(StatementError::TooLong { what: WHAT });
        }
        let message = SignedMessage::parse(der).map_err(|source| StatementError::Cms { what: WHAT, source })?;
        if *message.content_type() != ContentType::STATEMENT {
            return Err(StatementError::OtherType { what: WHAT, found: message.content_type().to_string() });
        }
        check_sole_signer(der).map_err(|source| StatementError::Cms { what: WHAT, source })?;
        let [certificate] = message.certificates() else {
            return Err(wrong_signature("it must bring one certificate, its signer's"));
        };
        let content = message.content().ok_or_else(|| wrong_signature("its content is missing"))?;
        let key = certificate.public_key_der().map_err(|source| StatementError::Cms { what: WHAT, source })?;
        let digest = if Statement::is_older(content) { Sha256::digest(der).into() } else { digest(&key, content) };
        Ok(Self { der: der.to_vec(), certificate: certificate.clone(), message, digest })
    }

    /// The message's bytes, as they are sent.
    pub fn as_der(&self) -> &[u8] {
        &self.der
    }

    /// What the statement is known by: in the response, in the log, in letters. SHA-256 over the text
    /// `tokenkeep statement 1`, the DER of the signer's `SubjectPublicKeyInfo` as in the certificate, and the signed content,
    /// the two last each with their length before them (8 bytes, big-endian).
    ///
    /// It covers who signed what, and nothing that somebody else can vary: not the signature (ECDSA's s may be negated),
    /// not the envelope, and of the certificate not the CA's signature. A statement by an older version of tokenkeep is
    /// known by SHA-256 of its bytes, as it was then; it is not taken any more.
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// What it says, unverified: for whoever made it, to know it again.
    ///
    /// # Errors
    /// [`StatementError::Signature`], [`StatementError::Form`].
    pub fn claimed_statement(&self) -> Result<Statement, StatementError> {
        Statement::from_json_of_any_version(self.content()?)
    }

    fn content(&self) -> Result<&[u8], StatementError> {
        self.message.content().ok_or_else(|| wrong_signature("its content is missing"))
    }

    /// The certificate it claims to be signed with: to look up whose that is. It proves nothing yet.
    pub fn claimed_certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// Verifies the signature over the received bytes with `certificate`, which must be the signer's as the *caller's
    /// own record* has it, then reads the content and checks whom and when it is for, by the bounds of the way it came.
    ///
    /// That the certificate is current, that its owner is an administrator, that the nonce is new, and that the run of
    /// the authority is the one that is named, is for the caller to see to.
    ///
    /// # Errors
    /// [`StatementError::Signature`], [`StatementError::Form`], [`StatementError::Older`],
    /// [`StatementError::OtherAuthority`], [`StatementError::OtherWay`], [`StatementError::ValidTooLong`],
    /// [`StatementError::NotYet`], [`StatementError::Over`].
    pub fn verify(
        &self,
        certificate: &Certificate,
        authority: Fingerprint,
        way: Way,
        now: Timestamp,
    ) -> Result<VerifiedStatement, StatementError> {
        self.verify_signature(certificate)?;
        let statement = Statement::from_json(self.content()?)?;
        let verified = self.in_time(statement, authority, now)?;
        let statement = &verified.statement;
        if statement.instance.is_some() != (way == Way::Online) {
            return Err(StatementError::OtherWay(way));
        }
        if statement.not_after.duration_since(statement.not_before) > way.longest_validity() {
            return Err(StatementError::ValidTooLong(way));
        }
        Ok(verified)
    }

    /// Verifies a statement that was taken at the time `then`, by this or an earlier version of tokenkeep. The way it came
    /// was judged when it was taken.
    ///
    /// # Errors
    /// Those of [`verify`](Self::verify), except those about the way and the version.
    pub fn verify_record(
        &self,
        certificate: &Certificate,
        authority: Fingerprint,
        then: Timestamp,
    ) -> Result<VerifiedStatement, StatementError> {
        self.verify_signature(certificate)?;
        self.in_time(Statement::from_json_of_any_version(self.content()?)?, authority, then)
    }

    fn verify_signature(&self, certificate: &Certificate) -> Result<(), StatementError> {
        if self.certificate != *certificate {
            return Err(wrong_signature("it is signed with another certificate"));
        }
        let checks = self
            .message
            .verify(None, std::slice::from_ref(certificate))
            .map_err(|source| StatementError::Cms { what: WHAT, source })?;
        match checks.as_slice() {
            [SignatureCheck::Good { certificate: signer, .. }] if signer == certificate => Ok(()),
            [SignatureCheck::Wrong { reason, .. } | SignatureCheck::Unchecked { reason, .. }] => {
                Err(wrong_signature(reason))
            }
            [_] => Err(wrong_signature("its signer's certificate is not the one it brings")),
            _ => Err(wrong_signature("it must have one signature")),
        }
    }

    fn in_time(
        &self,
        statement: Statement,
        authority: Fingerprint,
        now: Timestamp,
    ) -> Result<VerifiedStatement, StatementError> {
        if statement.authority != authority {
            return Err(StatementError::OtherAuthority { what: WHAT, found: statement.authority });
        }
        if now < statement.not_before {
            return Err(StatementError::NotYet { not_before: statement.not_before });
        }
        if now > statement.not_after {
            return Err(StatementError::Over { not_after: statement.not_after });
        }
        Ok(VerifiedStatement { statement, digest: self.digest })
    }
}

/// A statement whose signature, authority and time are right. Only [`SignedStatement::verify`] makes one.
#[derive(Debug, Clone)]
pub struct VerifiedStatement {
    statement: Statement,
    digest: [u8; 32],
}

impl VerifiedStatement {
    /// What was stated.
    pub fn statement(&self) -> &Statement {
        &self.statement
    }

    /// What it is known by ([`SignedStatement::digest`]).
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }
}

/// See [`SignedStatement::digest`].
fn digest(public_key: &[u8], content: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(b"tokenkeep statement 1");
    for part in [public_key, content] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

fn wrong_signature(reason: impl Into<String>) -> StatementError {
    StatementError::Signature { what: WHAT, reason: reason.into() }
}
