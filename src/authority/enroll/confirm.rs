//! `certConf`, `error`, and what nobody confirms in time: how a transaction ends.

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::Respondent;
use crate::authority::authenticate::AuthenticatedRequest;
use crate::authority::rejection::{Stop, refuse};
use crate::authority::{Authority, AuthorityError, at, audit};
use crate::cmp::{CertConfirmContent, CertRepMessage, PkiBody, PkiFailureInfo, PkiMessage, Verdict};
use crate::store::{CertificateRecord, CertificateState, Ending, TransactionRecord, TransactionState};

/// How long after its time to be confirmed an ended transaction's replies are kept, for clients that ask again.
const REPLIES_KEPT: SignedDuration = SignedDuration::from_hours(30 * 24);

/// What a `certConf` says about the whole of what was sent.
enum Confirmation {
    Accepted,
    Refused(String),
    /// It speaks of something else than was sent.
    Unfit,
}

impl Authority {
    /// `certConf`: accepted certificates become current and use the letter up; refused ones are revoked and the letter
    /// is good again.
    pub(super) fn confirm(&self, request: &AuthenticatedRequest, now: Timestamp) -> Result<Vec<u8>, Stop> {
        let PkiBody::CertConf(content) = request.message().body() else {
            return Err(refuse(PkiFailureInfo::BAD_REQUEST, "this is not a certConf"));
        };
        let hash = request.message().digest();
        let transaction = self.transaction_of(request)?.ok_or_else(|| {
            refuse(PkiFailureInfo::BAD_REQUEST, "there is no enrollment of this transactionID to confirm")
        })?;
        if transaction.confirmation_hash == Some(hash) {
            return match transaction.confirmation_reply {
                Some(reply) => Ok(reply),
                // Its bytes are forgotten; what it said was the same.
                None => self.pki_conf(&request.respondent(), now),
            };
        }
        let Some(reply) = transaction.reply.as_deref() else {
            return Err(match transaction.state {
                TransactionState::Begun | TransactionState::Answered => {
                    refuse(PkiFailureInfo::BAD_REQUEST, "this enrollment has no reply yet; send its request again")
                }
                TransactionState::Confirmed => forgotten(),
                TransactionState::Rejected | TransactionState::Unconfirmed => given_up(),
            });
        };
        let reply = PkiMessage::from_der(reply)?;
        if transaction.state == TransactionState::Answered
            && request.message().header().recip_nonce != reply.header().sender_nonce
        {
            return Err(refuse(PkiFailureInfo::BAD_RECIPIENT_NONCE, "recipNonce is not the reply's senderNonce"));
        }
        let confirmation = judge(content, &reply, &request.respondent())?;
        match (transaction.state, confirmation) {
            (TransactionState::Answered, Confirmation::Accepted) => {
                self.end(request, TransactionState::Confirmed, "enrollment.confirmed", json!({}), now)
            }
            (TransactionState::Answered, Confirmation::Refused(reason)) => {
                self.end(request, TransactionState::Rejected, "enrollment.rejected", json!({ "reason": reason }), now)
            }
            // A client that was killed before it saw pkiConf says it once more, in other bytes.
            (TransactionState::Confirmed, Confirmation::Accepted) => self.pki_conf(&request.respondent(), now),
            (TransactionState::Confirmed, _) => Err(already_confirmed()),
            (TransactionState::Answered, Confirmation::Unfit) => Err(refuse(
                PkiFailureInfo::BAD_CERT_ID,
                "certConf does not name what was sent: every certificate by its certReqId and hash",
            )),
            (TransactionState::Begun | TransactionState::Rejected | TransactionState::Unconfirmed, _) => {
                Err(given_up())
            }
        }
    }

    /// `error` within a transaction: the client could not use what it got, and gives the letter back.
    pub(super) fn give_back(&self, request: &AuthenticatedRequest, now: Timestamp) -> Result<Vec<u8>, Stop> {
        let PkiBody::Error(error) = request.message().body() else {
            return Err(refuse(PkiFailureInfo::BAD_REQUEST, "this is not an error message"));
        };
        let reason: String = error.status.to_string().chars().filter(|char| !char.is_control()).take(200).collect();
        match self.transaction_of(request)?.map(|transaction| transaction.state) {
            Some(TransactionState::Begun | TransactionState::Answered) => {
                self.end(request, TransactionState::Rejected, "enrollment.rejected", json!({ "reason": reason }), now)
            }
            Some(TransactionState::Confirmed) => Err(already_confirmed()),
            // Given up already, or never begun: either way there is nothing left to give back.
            Some(TransactionState::Rejected | TransactionState::Unconfirmed) | None => {
                self.pki_conf(&request.respondent(), now)
            }
        }
    }

    /// Gives up what was not confirmed in time: its certificates are revoked, its letters are good again. Forgets the
    /// replies of what ended 30 days ago. To be called every minute. Says how many transactions were given up.
    pub fn sweep(&self, now: Timestamp) -> Result<usize, AuthorityError> {
        self.warn_of_ending_certificates(now);
        let mut ended = 0;
        for overdue in self.store.overdue(now)? {
            let _turn = self.turns.take(&overdue.reference);
            // While we waited for our turn it may have been answered or confirmed.
            let Some(transaction) = self.store.transaction(&overdue.transaction_id)? else { continue };
            let is_open = matches!(transaction.state, TransactionState::Begun | TransactionState::Answered);
            if !is_open || transaction.confirm_until >= now {
                continue;
            }
            if !self.ended.is_claimed_by(&transaction.reference, &transaction.transaction_id) {
                tracing::error!(reference = %transaction.reference, "a transaction was put back in the database");
                continue;
            }
            let ending = Ending {
                transaction_id: transaction.transaction_id.clone(),
                state: TransactionState::Unconfirmed,
                confirmation: None,
                now,
            };
            let detail = json!({
                "transaction": hex::encode(&transaction.transaction_id), "reference": transaction.reference,
                "given_up": serials(&self.certificates_being_made(&transaction.transaction_id)?),
            });
            self.store.end_transaction(ending, audit::entry(now, "enrollment.unconfirmed", &detail))?;
            at("authority.sweep.after_end");
            tracing::info!(reference = %transaction.reference, "not confirmed in time; given up");
            ended += 1;
        }
        let forgotten = self.store.forget_replies(now.checked_sub(REPLIES_KEPT).unwrap_or(Timestamp::MIN))?;
        if forgotten > 0 {
            tracing::info!(forgotten, "forgot the replies of enrollments that ended long ago");
        }
        Ok(ended)
    }

    /// The transaction that the message is part of, if it is the same letter's.
    fn transaction_of(&self, request: &AuthenticatedRequest) -> Result<Option<TransactionRecord>, AuthorityError> {
        let transaction = self.store.transaction(request.transaction_id())?;
        Ok(transaction.filter(|transaction| transaction.reference == request.letter().reference))
    }

    /// Ends the transaction, with the answer stored in the same stroke.
    fn end(
        &self,
        request: &AuthenticatedRequest,
        state: TransactionState,
        event: &'static str,
        mut detail: serde_json::Value,
        now: Timestamp,
    ) -> Result<Vec<u8>, Stop> {
        let (transaction_id, letter) = (request.transaction_id(), request.letter());
        let made = self.certificates_being_made(transaction_id)?;
        let stored = self.store.certificates_of_transaction(transaction_id)?.len();
        if !self.ended.is_claimed_by(&letter.reference, transaction_id) || made.len() != stored {
            // Its rows say that it goes on, and the log that it has come to its end.
            tracing::error!(reference = %letter.reference, "a transaction was put back in the database");
            return Err(given_up());
        }
        let bytes = self.pki_conf(&request.respondent(), now)?;
        let ending = Ending {
            transaction_id: transaction_id.to_vec(),
            state,
            confirmation: Some((request.message().digest(), bytes.clone())),
            now,
        };
        if let Some(detail) = detail.as_object_mut() {
            detail.insert("transaction".into(), hex::encode(transaction_id).into());
            detail.insert("reference".into(), letter.reference.clone().into());
            if state == TransactionState::Confirmed {
                detail.insert("superseded".into(), self.superseded_by(transaction_id, &letter.user_id)?.into());
            } else {
                detail.insert("given_up".into(), serials(&made).into());
            }
        }
        at("authority.confirm.before_end");
        self.store.end_transaction(ending, audit::entry(now, event, &detail))?;
        at("authority.confirm.after_end");
        tracing::info!(reference = %request.letter().reference, state = %state, "ended");
        Ok(bytes)
    }

    /// The serial numbers of the user's current certificates that end when this transaction is confirmed.
    pub(super) fn superseded_by(&self, transaction_id: &[u8], user_id: &str) -> Result<Vec<String>, AuthorityError> {
        let made = self.certificates_being_made(transaction_id)?;
        let mut current = self.certificates_of(user_id)?;
        current.retain(|record| {
            record.state == CertificateState::Current
                && made.iter().any(|new| new.intent.kind == record.intent.kind && new.state == CertificateState::Issued)
        });
        Ok(serials(&current))
    }

    fn pki_conf(&self, respondent: &Respondent, now: Timestamp) -> Result<Vec<u8>, Stop> {
        Ok(respondent.answer(self.name(), PkiBody::pki_conf(), Vec::new(), now)?)
    }
}

fn serials(records: &[CertificateRecord]) -> Vec<String> {
    records.iter().map(|record| record.intent.serial.clone()).collect()
}

/// Every certificate of an `ip` must be accepted by its certReqId. A `krp` has one certificate with a request of its
/// own, the signing key's (certReqId 0); the history came as a whole and is refused only explicitly.
fn judge(content: &CertConfirmContent, reply: &PkiMessage, respondent: &Respondent) -> Result<Confirmation, Stop> {
    let sent = match reply.body() {
        PkiBody::Ip(ip) => certificates_of(ip)?,
        PkiBody::Krp(krp) => {
            let signing = krp.new_sig_cert.as_ref().map(crate::cmp::CertificateDer::to_vec).transpose()?;
            signing.into_iter().map(|certificate| (0, certificate)).collect()
        }
        _ => return Ok(Confirmation::Unfit),
    };
    let unfit = |error: crate::cmp::CmpError| refuse(PkiFailureInfo::BAD_DATA_FORMAT, error.to_string());
    let mut missing: Vec<i64> = sent.iter().map(|(id, _)| *id).collect();
    for status in content {
        if let Some(info) = status.status_info.as_ref().filter(|info| !info.status.is_granted()) {
            return Ok(Confirmation::Refused(info.to_string()));
        }
        let Some((id, certificate)) = sent.iter().find(|(id, _)| *id == status.cert_req_id) else { continue };
        match status.verdict_on(certificate, respondent.pvno()).map_err(unfit)? {
            Verdict::Accepted => missing.retain(|other| other != id),
            Verdict::Refused(info) => return Ok(Confirmation::Refused(info.to_string())),
            Verdict::AnotherCertificate => return Ok(Confirmation::Unfit),
        }
    }
    Ok(match (missing.is_empty(), content.is_empty()) {
        (true, _) => Confirmation::Accepted,
        // RFC 9810 §5.3.18: an empty certConf refuses everything.
        (false, true) => Confirmation::Refused("an empty certConf".into()),
        (false, false) => Confirmation::Unfit,
    })
}

fn certificates_of(ip: &CertRepMessage) -> Result<Vec<(i64, Vec<u8>)>, Stop> {
    let mut certificates = Vec::new();
    for response in &ip.response {
        if let Some(certificate) = response.certified_key_pair.as_ref().and_then(|pair| pair.plain_certificate()) {
            certificates.push((response.cert_req_id, certificate.to_vec()?));
        }
    }
    Ok(certificates)
}

fn given_up() -> Stop {
    refuse(
        PkiFailureInfo::CERT_REVOKED,
        "this enrollment was given up and its certificates are revoked; begin again with the same letter",
    )
}

/// Of an enrollment that was confirmed so long ago that its replies are kept no longer.
pub(super) fn forgotten() -> Stop {
    refuse(
        PkiFailureInfo::CERT_CONFIRMED,
        "this enrollment was finished more than 30 days ago, and its reply is not kept so long; ask your administrator for \
         a new letter",
    )
}

fn already_confirmed() -> Stop {
    refuse(PkiFailureInfo::CERT_CONFIRMED, "these certificates were confirmed before; that stands")
}
