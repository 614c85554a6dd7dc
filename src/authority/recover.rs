//! Recovery: the whole history of a user's encryption keys, out of the archive.

use jiff::Timestamp;

use super::archive::ArchivedKey;
use super::{Authority, AuthorityError};
use crate::store::{CertificateKind, CertificateRecord, CertificateState, UserRecord};

impl Authority {
    /// Every encryption key that the user ever had, the oldest first. One record that does not fit spoils all of it:
    /// a history with a hole is not delivered in silence.
    pub(super) fn history(&self, user: &UserRecord) -> Result<Vec<ArchivedKey>, AuthorityError> {
        self.history_certificates(user)?.iter().map(|certificate| self.take_from_archive(certificate, user)).collect()
    }

    /// The certificates of these keys. Those that their user never confirmed are not among them: nobody encrypted to
    /// them, and a key that did not fit its certificate would spoil every later recovery.
    pub(super) fn history_certificates(&self, user: &UserRecord) -> Result<Vec<CertificateRecord>, AuthorityError> {
        let mut certificates = self.store.certificates_of_user(&user.id)?;
        certificates.retain(|certificate| {
            certificate.intent.kind == CertificateKind::Encryption && certificate.confirmed_at.is_some()
        });
        certificates.sort_by_key(|certificate| certificate.confirmed_at);
        Ok(certificates)
    }

    /// Whether others can still encrypt to the user: if not, a recovery makes a new encryption key as well.
    pub(super) fn has_current_encryption(&self, user: &UserRecord, now: Timestamp) -> Result<bool, AuthorityError> {
        let certificates = self.history_certificates(user)?;
        Ok(certificates
            .iter()
            .any(|certificate| certificate.state == CertificateState::Current && now < certificate.intent.not_after))
    }
}
