//! `ir` and `krr`: from the claim on the letter to the stored reply.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::confirm::reply_discarded;
use super::{ReplyProtection, check_usable};
use crate::authority::archive::{ArchivedKey, WrappedForToken};
use crate::authority::authenticate::AuthenticatedRequest;
use crate::authority::certify::{self, IssuedCertificate};
use crate::authority::decide::{EncryptionPermit, IssuanceDecision, IssuancePermit, decide, wrong_message};
use crate::authority::key_archive::KeyArchive;
use crate::authority::letter_orders::check_approval;
use crate::authority::policy::Policy;
use crate::authority::records::VerifiedRecords;
use crate::authority::rejection::{RequestError, refuse};
use crate::authority::reply::EnrollmentReply;
use crate::authority::token_keys::TokenKeys;
use crate::authority::verify::{EncryptionKey, verify};
use crate::authority::{AuthorityError, audit};
use crate::cmp::{InfoTypeAndValue, PkiBody, PkiFailureInfo};
use crate::crash_point::reached as crash_point;
use crate::store::{
    AuditEntry, CertificateIntent, CertificateKind, CertificateRecord, CertificateState, ClaimOutcome, ClaimRequest,
    TemporaryKeyPurpose, TransactionEnd, TransactionRecord, TransactionState, UserRecord,
};

/// Issues the certificates and keys that an `ir` or `krr` asks for, once.
#[derive(Debug)]
pub(super) struct RequestHandler {
    pub(super) records: Arc<VerifiedRecords>,
    pub(super) keys: TokenKeys,
    pub(super) archive: KeyArchive,
    pub(super) policy: Arc<Policy>,
    /// The time that a client has to confirm.
    pub(super) confirm_wait: SignedDuration,
}

/// The data that all steps of one transaction need.
struct Enrollment<'a> {
    transaction_id: &'a [u8],
    reference: &'a str,
    user: &'a UserRecord,
    now: Timestamp,
}

impl RequestHandler {
    /// Answers an `ir` or `krr`: a repeated message gets the stored reply, any other a new one.
    pub(super) fn answer(&self, request: AuthenticatedRequest, now: Timestamp) -> Result<Vec<u8>, RequestError> {
        let reply_protection = request.reply_protection();
        let transaction_id = request.transaction_id().to_vec();
        let message_hash = request.message().digest();
        let letter = self.records.letter_now(&request.letter().reference)?;
        let is_recovery = matches!(request.message().body(), PkiBody::Krr(_));
        if is_recovery != (letter.purpose == TemporaryKeyPurpose::Recover) {
            return Err(wrong_message(letter.purpose).into());
        }

        let earlier = self.records.store.transaction(&transaction_id)?;
        let continues = match &earlier {
            None => false,
            Some(earlier) if earlier.message_hash != message_hash || earlier.reference != letter.reference => {
                return Err(transaction_id_in_use());
            }
            Some(TransactionRecord {
                reply: Some(reply),
                state: TransactionState::Answered | TransactionState::Confirmed,
                ..
            }) => {
                tracing::info!("sent the stored reply again");
                return Ok(reply.clone());
            }
            Some(earlier) => match earlier.state {
                TransactionState::Begun => true,
                TransactionState::Unconfirmed => false,
                TransactionState::Confirmed => return Err(reply_discarded()),
                _ => return Err(transaction_id_in_use()),
            },
        };
        if !continues {
            check_usable(&letter, now)?;
        } else if !self.records.is_open_as_logged(&letter.reference, &transaction_id) {
            return Err(transaction_id_in_use());
        }

        let user = self.records.user(&letter.user_id)?;
        if is_recovery {
            check_approval(&self.records, &letter, &user)?;
        }
        let granted = decide(verify(request)?, &user, &self.policy)?;
        if !continues {
            self.claim(&letter.reference, &transaction_id, message_hash, now)?;
        }
        crash_point("authority.enroll.after_claim");
        let enrollment = Enrollment { transaction_id: &transaction_id, reference: &letter.reference, user: &user, now };
        self.issue_all(granted, &enrollment, letter.lost, &reply_protection)
    }

    fn claim(
        &self,
        reference: &str,
        transaction_id: &[u8],
        message_hash: [u8; 32],
        now: Timestamp,
    ) -> Result<(), RequestError> {
        let claim_request = ClaimRequest {
            reference: reference.to_owned(),
            transaction_id: transaction_id.to_vec(),
            message_hash,
            now,
            confirm_until: self.confirm_until(now),
        };
        let detail = json!({ "reference": reference, "transaction": hex::encode(transaction_id) });
        match self.records.store.claim(claim_request, audit::entry(now, "letter.claimed", &detail))? {
            ClaimOutcome::Claimed => Ok(()),
            ClaimOutcome::TransactionIdInUse => Err(transaction_id_in_use()),
            ClaimOutcome::NotUnused => Err(refuse(
                PkiFailureInfo::NOT_AUTHORIZED,
                "this letter is no longer good: it was replaced or used in the meantime",
            )),
        }
    }

    /// Makes the granted certificates and keys, except those that an interrupted run has made, and
    /// the reply.
    fn issue_all(
        &self,
        granted: IssuanceDecision,
        enrollment: &Enrollment<'_>,
        lost: bool,
        reply_protection: &ReplyProtection,
    ) -> Result<Vec<u8>, RequestError> {
        let now = enrollment.now;
        let begun = self.records.certificates_being_made(enrollment.transaction_id)?;
        let of_kind = |kind| begun.iter().find(|record| record.intent.kind == kind);

        let signing = match of_kind(CertificateKind::Signing) {
            Some(record) => {
                let intent = certify::intended_before(granted.signing, &record.intent, &self.records.ca)?;
                self.issue_intended(&intent, record.state, now)?
            }
            None => self.issue(granted.signing, now)?,
        };
        let mut keys = Vec::new();
        if granted.purpose == TemporaryKeyPurpose::Recover {
            keys = self.archive.history(enrollment.user)?;
        }
        if let Some(permit) = granted.encryption
            && (granted.purpose == TemporaryKeyPurpose::Enroll
                || lost
                || !self.records.has_current_encryption(enrollment.user, now)?)
        {
            keys.push(match self.archived_already(of_kind(CertificateKind::Encryption), enrollment)? {
                Some(key) => key,
                None => self.make_encryption_key(permit, enrollment)?,
            });
        }

        let mut wrapped = Vec::with_capacity(keys.len());
        if let Some(delivery) = &granted.delivery {
            for key in keys {
                wrapped.push(key.wrap_for(&self.keys, &delivery.transport)?);
            }
        }
        let delivered: Vec<String> = wrapped.iter().map(|key| key.certificate().serial().to_string()).collect();
        let reply = self.reply(granted.purpose, (granted.signing_id, &signing), granted.delivery, wrapped)?;
        let confirm_until = self.confirm_until(now);
        let general_info = vec![if granted.implicit_confirm {
            InfoTypeAndValue::implicit_confirm()
        } else {
            InfoTypeAndValue::confirm_wait_time(confirm_until)?
        }];
        let bytes = reply_protection.protect(self.records.name(), reply.into_body(), general_info, now)?;
        crash_point("authority.enroll.before_reply");
        let detail = json!({
            "transaction": hex::encode(enrollment.transaction_id),
            "user": enrollment.user.id,
            "signing": signing.certificate().serial().to_string(),
            "delivered": delivered,
        });
        let entry = audit::entry(now, "enrollment.answered", &detail);
        let ending = granted.implicit_confirm.then(|| self.implicit_confirmation(enrollment)).transpose()?;
        self.records.store.store_reply(enrollment.transaction_id, bytes.clone(), confirm_until, entry, ending)?;
        crash_point("authority.enroll.after_reply");
        tracing::info!(email = %enrollment.user.email, keys = delivered.len(), "answered");
        Ok(bytes)
    }

    fn reply(
        &self,
        purpose: TemporaryKeyPurpose,
        signing: (i64, &IssuedCertificate),
        delivery: Option<EncryptionKey>,
        mut wrapped: Vec<WrappedForToken>,
    ) -> Result<EnrollmentReply, AuthorityError> {
        match purpose {
            TemporaryKeyPurpose::Enroll => {
                let encryption = delivery.and_then(|delivery| Some((delivery.cert_req_id, wrapped.pop()?)));
                EnrollmentReply::ip(signing, encryption, &self.records.ca)
            }
            TemporaryKeyPurpose::Recover => EnrollmentReply::krp(signing.1, &wrapped, &self.records.ca),
        }
    }

    /// Issues a certificate: stores the intent, signs it, records the certificate.
    fn issue(&self, permit: IssuancePermit, now: Timestamp) -> Result<IssuedCertificate, AuthorityError> {
        let intent = certify::certificate_intent(permit, &self.records.ca, now)?;
        let detail = json!({
            "serial": intent.serial, "kind": intent.kind.as_str(), "user": intent.user_id,
            "transaction": intent.transaction_id.as_ref().map(hex::encode),
            "keyset": intent.keyset_name, "level": intent.level,
        });
        self.records.store.insert_intent(intent.clone(), audit::entry(now, "certificate.intended", &detail))?;
        crash_point("authority.enroll.after_intent");
        self.issue_intended(&intent, CertificateState::Intended, now)
    }

    /// Issues the certificate of a stored intent whose record is in the state `state`.
    fn issue_intended(
        &self,
        intent: &CertificateIntent,
        state: CertificateState,
        now: Timestamp,
    ) -> Result<IssuedCertificate, AuthorityError> {
        let serial = &intent.serial;
        if state == CertificateState::Intended {
            let certificate = certify::sign(intent, &self.keys.ca)?;
            crash_point("authority.enroll.after_signature");
            let detail = json!({ "serial": serial, "sha256": certificate.fingerprint().to_hex() });
            let entry = audit::entry(now, "certificate.issued", &detail);
            self.records.store.record_signed_certificate(serial, certificate.as_der().to_vec(), entry)?;
            crash_point("authority.enroll.after_issued");
            tracing::info!(serial, kind = %intent.kind, "issued");
        }
        IssuedCertificate::recorded(&self.records.stored_certificate(serial)?, intent)
    }

    /// Makes, certifies and archives a new encryption key pair. Returns the key as read back from
    /// the archive, because only a key that can be read back is delivered.
    fn make_encryption_key(
        &self,
        permit: EncryptionPermit,
        enrollment: &Enrollment<'_>,
    ) -> Result<ArchivedKey, AuthorityError> {
        let now = enrollment.now;
        let key = self.keys.token.generate_deliverable_key(permit.algorithm())?;
        crash_point("authority.enroll.after_session_key");
        let public_key = key.public_key_der().ok_or_else(|| AuthorityError::Encode {
            what: "an encryption key",
            reason: "the token did not return the public key".into(),
        })?;
        let issued = self.issue(permit.for_key(public_key.to_vec()), now)?;
        self.archive.put(enrollment.user, &issued, key, now)
    }

    /// Resumes an interrupted run of this transaction: returns the archived key, or discards a
    /// certificate whose key was lost before it was archived.
    fn archived_already(
        &self,
        record: Option<&CertificateRecord>,
        enrollment: &Enrollment<'_>,
    ) -> Result<Option<ArchivedKey>, AuthorityError> {
        let Some(record) = record else { return Ok(None) };
        if self.archive.has(record)? {
            return self.archive.restore(record, enrollment.user).map(Some);
        }
        let detail = json!({ "serial": record.intent.serial, "reason": "key lost before it was archived" });
        self.records
            .store
            .abandon(&record.intent.serial, audit::entry(enrollment.now, "certificate.abandoned", &detail))?;
        crash_point("authority.enroll.after_abandon");
        Ok(None)
    }

    fn implicit_confirmation(
        &self,
        enrollment: &Enrollment<'_>,
    ) -> Result<(TransactionEnd, AuditEntry), AuthorityError> {
        let ending = TransactionEnd {
            transaction_id: enrollment.transaction_id.to_vec(),
            state: TransactionState::Confirmed,
            confirmation: None,
            now: enrollment.now,
        };
        let detail = json!({
            "transaction": hex::encode(enrollment.transaction_id), "reference": enrollment.reference, "implicit": true,
            "superseded": self.records.superseded_by(enrollment.transaction_id, &enrollment.user.id)?,
        });
        Ok((ending, audit::entry(enrollment.now, "enrollment.confirmed", &detail)))
    }

    fn confirm_until(&self, now: Timestamp) -> Timestamp {
        now.checked_add(self.confirm_wait).unwrap_or(Timestamp::MAX)
    }
}

fn transaction_id_in_use() -> RequestError {
    refuse(
        PkiFailureInfo::TRANSACTION_ID_IN_USE,
        "this transactionID was used by another message, or its enrollment was discarded; start a new enrollment",
    )
}
