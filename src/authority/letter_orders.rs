//! Verifies again who ordered a letter, from the administrator's own signed statement. A database
//! column is not enough to deliver a whole history, nor to hand out a letter a second time.

use super::AuthorityError;
use super::records::{VerifiedRecords, names_user, normalize_email};
use super::rejection::{RequestError, refuse};
use crate::cmp::PkiFailureInfo;
use crate::pki::CertificatePurpose;
use crate::statement::{AdminOperation, SignedStatement, VerifiedStatement};
use crate::store::{Role, TemporaryKeyRecord, UserRecord};

/// Checks the approval of a recovery: the statement must order a recovery for exactly this user,
/// and its signer must still be an administrator.
///
/// A recovery that was ordered with a key revoked since is refused: the holder of the lost token
/// may have ordered it.
pub(super) fn check_approval(
    records: &VerifiedRecords,
    letter: &TemporaryKeyRecord,
    user: &UserRecord,
) -> Result<(), RequestError> {
    let (statement, administrator) = order_of(records, letter)?;
    match &statement.statement().operation {
        AdminOperation::Recover { email, lost, .. }
            if normalize_email(email) == user.email_key && *lost == letter.lost => {}
        _ => return Err(not_approved(letter, "its statement orders something else").into()),
    }
    let role = records.role_of(&administrator, Role::Administrator)?;
    role.ok_or_else(|| not_approved(letter, "its signer is no longer an administrator"))?;
    Ok(())
}

/// Returns the statement that ordered a letter, verified again, and its administrator. The letter's
/// record must be sealed.
pub(super) fn order_of(
    records: &VerifiedRecords,
    letter: &TemporaryKeyRecord,
) -> Result<(VerifiedStatement, UserRecord), RequestError> {
    let no = |why: &str| not_approved(letter, why);
    let digest = letter.statement.ok_or_else(|| no("it names no statement"))?;
    let record = records.store.statement(&digest)?.ok_or_else(|| no("its statement is missing"))?;
    let signed = SignedStatement::parse(&record.message)?;
    if signed.digest() != digest {
        return Err(no("its statement has a different digest").into());
    }
    let certificate = signed.claimed_certificate().clone();
    let at = record.received_at;
    records.verify_path(&certificate, CertificatePurpose::Signing, at).map_err(|problem| no(&problem.to_string()))?;
    let verified = signed.verify_recorded(&certificate, records.authority(), at)?;
    let administrator = records.user(&record.administrator)?;
    if !names_user(&certificate, &administrator) {
        return Err(no("its statement was signed by another user").into());
    }
    // Revocation is read from the log, not from the certificate's row.
    if records.audit_state.is_revoked(&certificate.serial().to_string()) {
        return Err(refuse(
            PkiFailureInfo::NOT_AUTHORIZED,
            "the key that ordered this letter was revoked in the meantime; ask your administrator for a new letter",
        ));
    }
    Ok((verified, administrator))
}

fn not_approved(letter: &TemporaryKeyRecord, why: &str) -> AuthorityError {
    AuthorityError::Tampered(format!("the order of the letter {}: {why}", letter.reference))
}
