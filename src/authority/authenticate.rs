//! Step 1, authentication: verifies the message's MAC under the temporary key of a letter. Nothing
//! else identifies the sender.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use x509_cert::name::Name;
use zeroize::Zeroizing;

use super::AuthorityError;
use super::rejection::Rejection;
use crate::cmp::{
    ErrorMsgContent, GeneralInfo, MacProtection, PkiBody, PkiFailureInfo, PkiMessage, ProtectionError, Pvno,
    draft_reply, verify_mac_by_any,
};
use crate::letter::TemporaryKey;
use crate::store::TemporaryKeyRecord;

/// Octets of a transactionID, and the minimum for a senderNonce (RFC 9483 §3.5).
const NONCE_BYTES: usize = 16;

/// A received message with a well-formed header. Its content is not yet trusted.
#[derive(Debug)]
pub struct EnrollmentRequest {
    message: PkiMessage,
}

/// A message whose MAC was made with a letter's temporary key.
#[derive(Debug)]
pub struct AuthenticatedRequest {
    letter: TemporaryKeyRecord,
    reply_protection: Arc<ReplyProtection>,
}

/// Protects replies to an authenticated message with the same algorithm and secret.
pub(super) struct ReplyProtection {
    message: PkiMessage,
    /// The temporary key in the client's spelling.
    secret: Zeroizing<String>,
    protection: MacProtection,
}

impl fmt::Debug for ReplyProtection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplyProtection").field("message", &self.message).finish_non_exhaustive()
    }
}

impl EnrollmentRequest {
    /// Checks the header fields that every message must have.
    pub fn new(message: PkiMessage) -> Result<Self, Rejection> {
        let header = message.header();
        if !header.pvno.is_supported() {
            let text = format!("pvno {} is not supported; use 2 or 3", header.pvno.number());
            return Err(Rejection::new(PkiFailureInfo::UNSUPPORTED_VERSION, text));
        }
        if header.transaction().is_none_or(|id| id.len() != NONCE_BYTES) {
            return Err(Rejection::new(PkiFailureInfo::BAD_DATA_FORMAT, "transactionID must have 16 octets"));
        }
        if header.nonce().is_none_or(|nonce| nonce.len() < NONCE_BYTES) {
            return Err(Rejection::new(PkiFailureInfo::BAD_SENDER_NONCE, "senderNonce must have 16 octets or more"));
        }
        Ok(Self { message })
    }

    /// Verifies the MAC over the received bytes with the letter's temporary key. If the message
    /// asks for few hash iterations, it tries all the spellings in which people type the key into
    /// other programs.
    pub(super) fn authenticate(
        self,
        letter: TemporaryKeyRecord,
        temporary_key: &TemporaryKey,
    ) -> Result<AuthenticatedRequest, ProtectionError> {
        let spellings = temporary_key.spellings();
        let secrets = spellings.each_ref().map(|spelling| spelling.as_bytes());
        let (protection, at) = verify_mac_by_any(&self.message, &secrets)?;
        let secret = spellings.into_iter().nth(at).ok_or(ProtectionError::Mismatch)?;
        let reply_protection = Arc::new(ReplyProtection { message: self.message, secret, protection });
        Ok(AuthenticatedRequest { letter, reply_protection })
    }
}

impl AuthenticatedRequest {
    /// The authenticated message.
    pub fn message(&self) -> &PkiMessage {
        &self.reply_protection.message
    }

    /// The letter whose temporary key made the MAC. The letter's state may have changed since.
    pub fn letter(&self) -> &TemporaryKeyRecord {
        &self.letter
    }

    /// The message's transactionID.
    pub fn transaction_id(&self) -> &[u8] {
        self.message().header().transaction().unwrap_or_default()
    }

    pub(super) fn reply_protection(&self) -> Arc<ReplyProtection> {
        Arc::clone(&self.reply_protection)
    }
}

impl ReplyProtection {
    /// Builds a protected reply (DER).
    pub(super) fn protect(
        &self,
        sender: &Name,
        body: PkiBody,
        general_info: GeneralInfo,
        now: Timestamp,
    ) -> Result<Vec<u8>, AuthorityError> {
        let mut draft = draft_reply(&self.message, sender, body, now)?;
        draft.header.general_info = (!general_info.is_empty()).then_some(general_info);
        Ok(draft.protect_with_mac(self.secret.as_bytes(), &self.protection)?)
    }

    /// Builds a protected refusal, an `error` message (DER).
    pub(super) fn refuse(
        &self,
        sender: &Name,
        rejection: &Rejection,
        now: Timestamp,
    ) -> Result<Vec<u8>, AuthorityError> {
        let content = ErrorMsgContent::from(rejection.to_status());
        self.protect(sender, PkiBody::Error(content), Vec::new(), now)
    }

    /// The message's pvno, which decides the form of the reply.
    pub(super) fn pvno(&self) -> Pvno {
        self.message.header().pvno
    }
}

/// The refusal of a message whose protection cannot be verified. It depends on the message alone,
/// never on whether the reference is known.
pub(super) fn unauthenticated(error: &ProtectionError) -> Rejection {
    match error {
        ProtectionError::Missing | ProtectionError::WrongKind(_) => Rejection::new(
            PkiFailureInfo::WRONG_INTEGRITY,
            "the message must be protected by a MAC (PBM or PBMAC1) with the temporary key of a letter",
        ),
        ProtectionError::Unsupported(_) | ProtectionError::TooManyIterations { .. } | ProtectionError::Malformed => {
            Rejection::new(PkiFailureInfo::BAD_ALG, error.to_string())
        }
        ProtectionError::Mismatch => Rejection::new(
            PkiFailureInfo::BAD_MESSAGE_CHECK,
            "reference and temporary key do not match; compare both with the letter",
        ),
    }
}
