//! The public search: the current encryption certificates of an e-mail address.

use jiff::Timestamp;

use super::AuthorityError;
use super::records::VerifiedRecords;
use crate::store::{CertificateKind, CertificateState};

/// Returns the current encryption certificates (DER) of exactly this e-mail address.
pub(super) fn search_certificates(
    records: &VerifiedRecords,
    email: &str,
    now: Timestamp,
) -> Result<Vec<Vec<u8>>, AuthorityError> {
    let user = match records.user_by_email(email) {
        Ok(Some(user)) => user,
        Ok(None) => return Ok(Vec::new()),
        Err(error) if error.is_of_one_record() => {
            tracing::error!(%error, "a user was altered in the database");
            return Ok(Vec::new());
        }
        Err(error) => return Err(error),
    };
    let mut found = records.readable_certificates_of(&user.id)?;
    found.retain(|record| {
        record.intent.kind == CertificateKind::Encryption && record.state == CertificateState::Current
    });
    // The rows name a certificate's owner, but the signed certificate decides.
    let genuine = found.iter().filter_map(|record| records.genuine(record, &user));
    Ok(genuine.filter(|certificate| certificate.is_valid_at(now)).map(|found| found.as_der().to_vec()).collect())
}
