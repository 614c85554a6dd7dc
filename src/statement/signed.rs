//! A signed statement: made by the administrator's side, verified by the authority.

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest, Sha256};
use signature::Signer;
use spki::DynSignatureAlgorithmIdentifier;

use super::{MAX_STATEMENT_BYTES, Statement, StatementChannel, StatementError};
use crate::base64_bytes;
use crate::pki::cms::{ContentToSign, SignatureCheck, SignedMessage, SigningCertificate, check_sole_signer, sign};
use crate::pki::oid::ContentType;
use crate::pki::{Certificate, Fingerprint};
use crate::token::Signature;

const WHAT: &str = "statement";

/// A statement's CMS message. Its content is untrusted until [`verify`](Self::verify) succeeds.
/// In JSON it is its DER in base64.
#[derive(Debug, Clone)]
pub struct SignedStatement {
    der: Vec<u8>,
    message: SignedMessage,
    certificate: Certificate,
    digest: [u8; 32],
}

impl Statement {
    /// Signs the statement: CMS SignedData with the statement's content type, the content inside,
    /// and the signer's certificate. The key is used once.
    ///
    /// # Errors
    /// [`StatementError::Cms`], if the key fails to sign or does not match the certificate.
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

impl Serialize for SignedStatement {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        base64_bytes::serialize(&self.der, serializer)
    }
}

impl<'de> Deserialize<'de> for SignedStatement {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&base64_bytes::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

impl SignedStatement {
    /// Parses the CMS message and makes the checks that need no knowledge of the signer: the
    /// content type, and the strict form ([`check_sole_signer`]), which allows no second message
    /// with the same signature.
    ///
    /// # Errors
    /// [`StatementError::TooLong`], [`StatementError::Cms`], [`StatementError::WrongContentType`],
    /// [`StatementError::Signature`], if it does not carry exactly the signer's certificate.
    pub fn parse(der: &[u8]) -> Result<Self, StatementError> {
        if der.len() > MAX_STATEMENT_BYTES {
            return Err(StatementError::TooLong { what: WHAT });
        }
        let message = SignedMessage::parse(der).map_err(|source| StatementError::Cms { what: WHAT, source })?;
        if *message.content_type() != ContentType::STATEMENT {
            return Err(StatementError::WrongContentType { what: WHAT, found: message.content_type().to_string() });
        }
        check_sole_signer(der).map_err(|source| StatementError::Cms { what: WHAT, source })?;
        let [certificate] = message.certificates() else {
            return Err(wrong_signature("it must carry exactly one certificate, its signer's"));
        };
        let content = message.content().ok_or_else(|| wrong_signature("its content is missing"))?;
        let key = certificate.public_key_der().map_err(|source| StatementError::Cms { what: WHAT, source })?;
        let digest = if Statement::is_older(content) { Sha256::digest(der).into() } else { digest(&key, content) };
        Ok(Self { der: der.to_vec(), certificate: certificate.clone(), message, digest })
    }

    /// The message's bytes.
    pub fn as_der(&self) -> &[u8] {
        &self.der
    }

    /// The digest that identifies the statement in the response, the log and letters. It is SHA-256
    /// over the text `tokenkeep statement 1`, the DER of the signer's `SubjectPublicKeyInfo` as in
    /// the certificate, and the signed content. A length of 8 bytes, big-endian, precedes each of
    /// the last two.
    ///
    /// It covers the signer's key and the signed content, and nothing that another person could
    /// vary: not the signature (ECDSA's s may be negated), not the envelope, and not the CA's
    /// signature on the certificate. The digest of a statement by an older version of tokenkeep is
    /// SHA-256 of its bytes, as at that time; such a statement is no longer accepted.
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// The content, unverified: its author uses it to recognize the statement.
    ///
    /// # Errors
    /// [`StatementError::Signature`], [`StatementError::Form`].
    pub fn claimed_statement(&self) -> Result<Statement, StatementError> {
        Statement::from_json_of_any_version(self.content()?)
    }

    fn content(&self) -> Result<&[u8], StatementError> {
        self.message.content().ok_or_else(|| wrong_signature("its content is missing"))
    }

    /// The certificate in the message, used to look up the signer. It proves nothing before
    /// [`verify`](Self::verify).
    pub fn claimed_certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// Verifies the signature over the received bytes with `certificate`, which must be the
    /// signer's according to the *caller's own record*. Then it parses the content, and checks the
    /// authority and the validity with the limits of the transport.
    ///
    /// The caller must check that the certificate is current, that its owner is an administrator,
    /// that the nonce is new, and that the named run of the authority is the present one.
    ///
    /// # Errors
    /// [`StatementError::Signature`], [`StatementError::Form`], [`StatementError::OldVersion`],
    /// [`StatementError::OtherAuthority`], [`StatementError::WrongChannel`],
    /// [`StatementError::ValidityTooLong`], [`StatementError::NotYetValid`],
    /// [`StatementError::Expired`].
    pub fn verify(
        &self,
        certificate: &Certificate,
        authority: Fingerprint,
        channel: StatementChannel,
        now: Timestamp,
    ) -> Result<VerifiedStatement, StatementError> {
        self.verify_signature(certificate)?;
        let statement = Statement::from_json(self.content()?)?;
        let verified = self.check_validity(statement, authority, now)?;
        let statement = &verified.statement;
        if statement.instance.is_some() != (channel == StatementChannel::Online) {
            return Err(StatementError::WrongChannel(channel));
        }
        if statement.not_after.duration_since(statement.not_before) > channel.max_validity() {
            return Err(StatementError::ValidityTooLong(channel));
        }
        Ok(verified)
    }

    /// Verifies a statement that was accepted at the time `then`, by this or an earlier version of
    /// tokenkeep. Its transport was checked when it was accepted.
    ///
    /// # Errors
    /// Those of [`verify`](Self::verify), except those about the transport and the version.
    pub fn verify_recorded(
        &self,
        certificate: &Certificate,
        authority: Fingerprint,
        then: Timestamp,
    ) -> Result<VerifiedStatement, StatementError> {
        self.verify_signature(certificate)?;
        self.check_validity(Statement::from_json_of_any_version(self.content()?)?, authority, then)
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
            [_] => Err(wrong_signature("its signer's certificate is not the one that it carries")),
            _ => Err(wrong_signature("it must have exactly one signature")),
        }
    }

    fn check_validity(
        &self,
        statement: Statement,
        authority: Fingerprint,
        now: Timestamp,
    ) -> Result<VerifiedStatement, StatementError> {
        if statement.authority != authority {
            return Err(StatementError::OtherAuthority { what: WHAT, found: statement.authority });
        }
        if now < statement.not_before {
            return Err(StatementError::NotYetValid { not_before: statement.not_before });
        }
        if now > statement.not_after {
            return Err(StatementError::Expired { not_after: statement.not_after });
        }
        Ok(VerifiedStatement { statement, digest: self.digest })
    }
}

/// A statement whose signature, authority and validity were checked. Only [`SignedStatement`] makes
/// one.
#[derive(Debug, Clone)]
pub struct VerifiedStatement {
    statement: Statement,
    digest: [u8; 32],
}

impl VerifiedStatement {
    /// The verified content.
    pub fn statement(&self) -> &Statement {
        &self.statement
    }

    /// The digest that identifies the statement ([`SignedStatement::digest`]).
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }
}

/// Computes the value of [`SignedStatement::digest`].
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
