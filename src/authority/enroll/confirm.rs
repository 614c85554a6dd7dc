//! Ends a transaction: by `certConf`, by `error`, or by the sweep of transactions that nobody
//! confirmed in time.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::ReplyProtection;
use crate::authority::authenticate::AuthenticatedRequest;
use crate::authority::records::{VerifiedRecords, serials};
use crate::authority::reference_locks::ReferenceLocks;
use crate::authority::rejection::{RequestError, refuse};
use crate::authority::{AuthorityError, audit};
use crate::cmp::{CertConfirmContent, CertRepMessage, ConfirmationVerdict, PkiBody, PkiFailureInfo, PkiMessage};
use crate::crash_point::reached as crash_point;
use crate::store::{TransactionEnd, TransactionRecord, TransactionState};

/// The time for which the replies of an ended transaction are kept after its confirmation deadline,
/// for clients that ask again.
const REPLY_RETENTION: SignedDuration = SignedDuration::from_hours(30 * 24);

/// The verdict of a `certConf` on all the certificates of a reply.
enum Confirmation {
    Accepted,
    Refused(String),
    /// The certConf does not match the certificates that were sent.
    Mismatch,
}

/// Ends transactions, and lets go of their letters.
#[derive(Debug)]
pub(super) struct ConfirmationHandler {
    pub(super) records: Arc<VerifiedRecords>,
}

impl ConfirmationHandler {
    /// Handles `certConf`: accepted certificates become current and use the letter up; refused ones
    /// are revoked, and the letter is valid again.
    pub(super) fn confirm(&self, request: &AuthenticatedRequest, now: Timestamp) -> Result<Vec<u8>, RequestError> {
        let PkiBody::CertConf(content) = request.message().body() else {
            return Err(refuse(PkiFailureInfo::BAD_REQUEST, "this is not a certConf"));
        };
        let hash = request.message().digest();
        let transaction = self
            .transaction_of(request)?
            .ok_or_else(|| refuse(PkiFailureInfo::BAD_REQUEST, "unknown transactionID: no enrollment to confirm"))?;
        if transaction.confirmation_hash == Some(hash) {
            return match transaction.confirmation_reply {
                Some(reply) => Ok(reply),
                // The stored reply was deleted; a new one has the same content.
                None => self.pki_conf(&request.reply_protection(), now),
            };
        }
        let Some(reply) = transaction.reply.as_deref() else {
            return Err(match transaction.state {
                TransactionState::Begun | TransactionState::Answered => {
                    refuse(PkiFailureInfo::BAD_REQUEST, "this enrollment has no reply yet; send its request again")
                }
                TransactionState::Confirmed => reply_discarded(),
                TransactionState::Rejected | TransactionState::Unconfirmed => transaction_discarded(),
            });
        };
        let reply = PkiMessage::from_der(reply)?;
        if transaction.state == TransactionState::Answered
            && request.message().header().recip_nonce != reply.header().sender_nonce
        {
            return Err(refuse(PkiFailureInfo::BAD_RECIPIENT_NONCE, "recipNonce is not the reply's senderNonce"));
        }
        let confirmation = evaluate_confirmation(content, &reply, &request.reply_protection())?;
        match (transaction.state, confirmation) {
            (TransactionState::Answered, Confirmation::Accepted) => {
                self.end(request, TransactionState::Confirmed, "enrollment.confirmed", json!({}), now)
            }
            (TransactionState::Answered, Confirmation::Refused(reason)) => {
                self.end(request, TransactionState::Rejected, "enrollment.rejected", json!({ "reason": reason }), now)
            }
            // A client that was killed before it received pkiConf sends its certConf again, with
            // different bytes.
            (TransactionState::Confirmed, Confirmation::Accepted) => self.pki_conf(&request.reply_protection(), now),
            (TransactionState::Confirmed, _) => Err(already_confirmed()),
            (TransactionState::Answered, Confirmation::Mismatch) => Err(refuse(
                PkiFailureInfo::BAD_CERT_ID,
                "certConf must name every certificate that was sent, by its certReqId and hash",
            )),
            (TransactionState::Begun | TransactionState::Rejected | TransactionState::Unconfirmed, _) => {
                Err(transaction_discarded())
            }
        }
    }

    /// Handles an `error` message within a transaction: the client could not use the reply, so the
    /// letter becomes valid again.
    pub(super) fn handle_client_error(
        &self,
        request: &AuthenticatedRequest,
        now: Timestamp,
    ) -> Result<Vec<u8>, RequestError> {
        let PkiBody::Error(error) = request.message().body() else {
            return Err(refuse(PkiFailureInfo::BAD_REQUEST, "this is not an error message"));
        };
        let reason: String = error.status.to_string().chars().filter(|char| !char.is_control()).take(200).collect();
        match self.transaction_of(request)?.map(|transaction| transaction.state) {
            Some(TransactionState::Begun | TransactionState::Answered) => {
                self.end(request, TransactionState::Rejected, "enrollment.rejected", json!({ "reason": reason }), now)
            }
            Some(TransactionState::Confirmed) => Err(already_confirmed()),
            // The transaction was discarded or never started: the letter is not claimed.
            Some(TransactionState::Rejected | TransactionState::Unconfirmed) | None => {
                self.pki_conf(&request.reply_protection(), now)
            }
        }
    }

    /// Discards transactions that were not confirmed in time: revokes their certificates and makes
    /// their letters valid again. Deletes the replies of transactions that ended 30 days ago. Call
    /// it every minute. Returns the number of discarded transactions.
    pub(super) fn sweep(&self, reference_locks: &ReferenceLocks, now: Timestamp) -> Result<usize, AuthorityError> {
        let mut discarded = 0;
        for overdue in self.records.store.overdue_transactions(now)? {
            let _turn = reference_locks.take(&overdue.reference);
            // The transaction may have been answered or confirmed while this thread waited for the
            // lock.
            let Some(transaction) = self.records.store.transaction(&overdue.transaction_id)? else { continue };
            let is_open = matches!(transaction.state, TransactionState::Begun | TransactionState::Answered);
            if !is_open || transaction.confirm_until >= now {
                continue;
            }
            if !self.records.is_open_as_logged(&transaction.reference, &transaction.transaction_id) {
                continue;
            }
            let ending = TransactionEnd {
                transaction_id: transaction.transaction_id.clone(),
                state: TransactionState::Unconfirmed,
                confirmation: None,
                now,
            };
            let detail = json!({
                "transaction": hex::encode(&transaction.transaction_id), "reference": transaction.reference,
                "given_up": serials(&self.records.certificates_being_made(&transaction.transaction_id)?),
            });
            self.records.store.end_transaction(ending, audit::entry(now, "enrollment.unconfirmed", &detail))?;
            crash_point("authority.sweep.after_end");
            tracing::info!(reference = %transaction.reference, "discarded, not confirmed in time");
            discarded += 1;
        }
        let forgotten =
            self.records.store.forget_replies(now.checked_sub(REPLY_RETENTION).unwrap_or(Timestamp::MIN))?;
        if forgotten > 0 {
            tracing::info!(forgotten, "deleted the replies of old enrollments");
        }
        Ok(discarded)
    }

    /// Returns the message's transaction, if it belongs to the same letter.
    fn transaction_of(&self, request: &AuthenticatedRequest) -> Result<Option<TransactionRecord>, AuthorityError> {
        let transaction = self.records.store.transaction(request.transaction_id())?;
        Ok(transaction.filter(|transaction| transaction.reference == request.letter().reference))
    }

    /// Ends the transaction, and stores the reply in the same database transaction.
    fn end(
        &self,
        request: &AuthenticatedRequest,
        state: TransactionState,
        event: &'static str,
        mut detail: serde_json::Value,
        now: Timestamp,
    ) -> Result<Vec<u8>, RequestError> {
        let (transaction_id, letter) = (request.transaction_id(), request.letter());
        let made = self.records.certificates_being_made(transaction_id)?;
        let stored = self.records.store.certificates_of_transaction(transaction_id)?.len();
        if !self.records.is_open_as_logged(&letter.reference, transaction_id) {
            return Err(transaction_discarded());
        }
        if made.len() != stored {
            tracing::error!(
                reference = %letter.reference,
                "the certificate rows of a transaction contradict the audit log (restored or forged)"
            );
            return Err(transaction_discarded());
        }
        let bytes = self.pki_conf(&request.reply_protection(), now)?;
        let ending = TransactionEnd {
            transaction_id: transaction_id.to_vec(),
            state,
            confirmation: Some((request.message().digest(), bytes.clone())),
            now,
        };
        if let Some(detail) = detail.as_object_mut() {
            detail.insert("transaction".into(), hex::encode(transaction_id).into());
            detail.insert("reference".into(), letter.reference.clone().into());
            if state == TransactionState::Confirmed {
                detail.insert("superseded".into(), self.records.superseded_by(transaction_id, &letter.user_id)?.into());
            } else {
                detail.insert("given_up".into(), serials(&made).into());
            }
        }
        crash_point("authority.confirm.before_end");
        self.records.store.end_transaction(ending, audit::entry(now, event, &detail))?;
        crash_point("authority.confirm.after_end");
        tracing::info!(reference = %request.letter().reference, state = %state, "ended");
        Ok(bytes)
    }

    fn pki_conf(&self, reply_protection: &ReplyProtection, now: Timestamp) -> Result<Vec<u8>, RequestError> {
        Ok(reply_protection.protect(self.records.name(), PkiBody::pki_conf(), Vec::new(), now)?)
    }
}

/// Evaluates a certConf against the reply. Every certificate of an `ip` must be accepted by its
/// certReqId. In a `krp` only the signing key's certificate has a request (certReqId 0); the
/// history came as a whole and is refused only explicitly.
fn evaluate_confirmation(
    content: &CertConfirmContent,
    reply: &PkiMessage,
    reply_protection: &ReplyProtection,
) -> Result<Confirmation, RequestError> {
    let sent = match reply.body() {
        PkiBody::Ip(ip) => certificates_of(ip)?,
        PkiBody::Krp(krp) => {
            let signing = krp.new_sig_cert.as_ref().map(crate::cmp::CertificateDer::to_vec).transpose()?;
            signing.into_iter().map(|certificate| (0, certificate)).collect()
        }
        _ => return Ok(Confirmation::Mismatch),
    };
    let unfit = |error: crate::cmp::CmpError| refuse(PkiFailureInfo::BAD_DATA_FORMAT, error.to_string());
    let mut missing: Vec<i64> = sent.iter().map(|(id, _)| *id).collect();
    for status in content {
        if let Some(info) = status.status_info.as_ref().filter(|info| !info.status.is_granted()) {
            return Ok(Confirmation::Refused(info.to_string()));
        }
        let Some((id, certificate)) = sent.iter().find(|(id, _)| *id == status.cert_req_id) else { continue };
        match status.verdict_on(certificate, reply_protection.pvno()).map_err(unfit)? {
            ConfirmationVerdict::Accepted => missing.retain(|other| other != id),
            ConfirmationVerdict::Refused(info) => return Ok(Confirmation::Refused(info.to_string())),
            ConfirmationVerdict::WrongCertificate => return Ok(Confirmation::Mismatch),
        }
    }
    Ok(match (missing.is_empty(), content.is_empty()) {
        (true, _) => Confirmation::Accepted,
        // RFC 9810 §5.3.18: an empty certConf refuses everything.
        (false, true) => Confirmation::Refused("an empty certConf".into()),
        (false, false) => Confirmation::Mismatch,
    })
}

fn certificates_of(ip: &CertRepMessage) -> Result<Vec<(i64, Vec<u8>)>, RequestError> {
    let mut certificates = Vec::new();
    for response in &ip.response {
        if let Some(certificate) = response.certified_key_pair.as_ref().and_then(|pair| pair.plain_certificate()) {
            certificates.push((response.cert_req_id, certificate.to_vec()?));
        }
    }
    Ok(certificates)
}

fn transaction_discarded() -> RequestError {
    refuse(
        PkiFailureInfo::CERT_REVOKED,
        "this enrollment was discarded and its certificates are revoked; enroll again with the same letter",
    )
}

/// The refusal for an enrollment that was confirmed so long ago that its reply was deleted.
pub(super) fn reply_discarded() -> RequestError {
    refuse(
        PkiFailureInfo::CERT_CONFIRMED,
        "this enrollment was completed more than 30 days ago, and its reply was deleted; ask your administrator \
         for a new letter",
    )
}

fn already_confirmed() -> RequestError {
    refuse(PkiFailureInfo::CERT_CONFIRMED, "these certificates are already confirmed")
}
