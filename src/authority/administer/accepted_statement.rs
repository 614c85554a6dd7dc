//! Accepts a verified statement, once: its nonce is consumed, and the certificate is chosen that
//! its letter is encrypted to, the one that it names.

use jiff::Timestamp;
use serde_json::json;
use zeroize::Zeroizing;

use crate::authority::records::{VerifiedRecords, names_user};
use crate::authority::rejection::{RequestError, not_authorized};
use crate::authority::{AuthorityError, audit};
use crate::crash_point::reached as crash_point;
use crate::letter::Letter;
use crate::pki::{Certificate, CertificatePurpose, Fingerprint};
use crate::smime::{self, Cipher};
use crate::statement::{Statement, StatementAnswer, VerifiedStatement};
use crate::store::{CertificateKind, CertificateState, StatementRecord, UserRecord};

const TAKEN_BEFORE: &str = "this statement was already used; make a new one";

/// A statement signed by an administrator, whose nonce is consumed.
pub(super) struct AcceptedStatement {
    pub(super) statement: VerifiedStatement,
    pub(super) administrator: UserRecord,
    /// The certificate that the letter is encrypted to; `None` if the command returns no letter.
    letter_recipient: Option<Certificate>,
}

impl AcceptedStatement {
    /// Consumes the nonce of a statement that [`refuse_used`] found unused. `message` is its CMS
    /// message.
    pub(super) fn accept(
        records: &VerifiedRecords,
        message: &[u8],
        statement: VerifiedStatement,
        administrator: UserRecord,
        now: Timestamp,
    ) -> Result<Self, RequestError> {
        let content = statement.statement();
        // Checked before the nonce is consumed: a letter that its administrator could not open must
        // not void the user's earlier letter.
        let letter_recipient = letter_recipient(records, content, &administrator, now)?;
        let detail = json!({
            "statement": hex::encode(statement.digest()),
            "administrator": administrator.id,
            "operation": content.operation.name(),
            "target": content.operation.target(),
            "known_log": content.known_log.map(|known| known.sequence),
            "not_after": content.not_after.as_second(),
        });
        let record = StatementRecord {
            digest: statement.digest(),
            nonce: content.nonce.to_vec(),
            administrator: administrator.id.clone(),
            operation: content.operation.name().to_owned(),
            received_at: now,
            not_after: content.not_after,
            message: message.to_vec(),
        };
        if !records.store.record_statement(record, audit::entry(now, "statement.taken", &detail))? {
            return Err(not_authorized(TAKEN_BEFORE));
        }
        crash_point("authority.statement.after_taken");
        tracing::info!(operation = content.operation.name(), by = %administrator.email, "taken");
        Ok(Self { statement, administrator, letter_recipient })
    }

    /// Encrypts the letter to the administrator's certificate. A letter never leaves unencrypted.
    pub(super) fn encrypted(&self, letter: &Letter) -> Result<StatementAnswer, RequestError> {
        let reader = self.letter_recipient.as_ref().ok_or_else(|| not_authorized("this command returns no letter"))?;
        let text: Zeroizing<Vec<u8>> = Zeroizing::new(letter.to_text().as_bytes().to_vec());
        Ok(StatementAnswer::EncryptedLetter(smime::encrypt(&text, std::slice::from_ref(reader), Cipher::default())?))
    }
}

/// Refuses a statement that was accepted before according to the log, even if its row was deleted.
pub(super) fn refuse_used(records: &VerifiedRecords, statement: &VerifiedStatement) -> Result<(), RequestError> {
    if records.audit_state.is_statement_used(&statement.digest()) {
        return Err(not_authorized(TAKEN_BEFORE));
    }
    Ok(())
}

/// Returns the certificate that this statement's letter is encrypted to; `None` if the command
/// returns no letter. Refuses a certificate that is not the signer's own, or not current.
fn letter_recipient(
    records: &VerifiedRecords,
    statement: &Statement,
    administrator: &UserRecord,
    now: Timestamp,
) -> Result<Option<Certificate>, RequestError> {
    let Some(named) = statement.encryption_certificate else { return Ok(None) };
    match encryption_certificate(records, named, administrator, now)? {
        Some(certificate) => Ok(Some(certificate)),
        None => Err(not_authorized(
            "the statement names a certificate for the letter that is not a current encryption certificate of its \
             administrator; nothing was done; use the keyset that was enrolled last",
        )),
    }
}

/// Returns the user's current encryption certificate with this fingerprint. It must be issued by
/// this CA for this very address, whatever the rows say.
fn encryption_certificate(
    records: &VerifiedRecords,
    named: Fingerprint,
    user: &UserRecord,
    now: Timestamp,
) -> Result<Option<Certificate>, AuthorityError> {
    let current = records.certificates_of(&user.id)?.into_iter().filter(|record| {
        record.intent.kind == CertificateKind::Encryption && record.state == CertificateState::Current
    });
    Ok(current.filter_map(|record| Certificate::from_der(&record.certificate?).ok()).find(|certificate| {
        certificate.fingerprint() == named
            && names_user(certificate, user)
            && records.verify_path(certificate, CertificatePurpose::Encryption, now).is_ok()
    }))
}
