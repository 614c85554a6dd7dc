//! The archive: an encryption key is wrapped and its record sealed before it is delivered, and
//! every delivered key is read back from the archive.

use super::AuthorityError;
use super::certify::IssuedCertificate;
use super::seal::Sealer;
use super::token_keys::TokenKeys;
use crate::cmp::TransportPublicKey;
use crate::pki::Certificate;
use crate::store::{ArchiveRecord, CertificateRecord};
use crate::token::{DeliverableKey, Delivery, KeyAlgorithm, KeyWrap, WrappedKey};
use jiff::Timestamp;

/// An archived key whose seal was verified, unwrapped on the authority's token.
#[derive(Debug)]
pub struct ArchivedKey {
    certificate: Certificate,
    key: DeliverableKey,
}

/// A key wrapped for one user's token, with its certificate. It can be made only from an
/// [`ArchivedKey`]:
///
/// ```
/// # use tokenkeep::authority::archive::WrappedForToken;
/// fn pass_on(key: WrappedForToken) -> WrappedForToken {
///     key
/// }
/// ```
///
/// ```compile_fail
/// # use tokenkeep::{authority::archive::WrappedForToken, pki::Certificate, token::Delivery};
/// fn unarchived(certificate: Certificate, delivery: Delivery) -> WrappedForToken {
///     WrappedForToken { certificate, delivery }
/// }
/// ```
#[derive(Debug)]
pub struct WrappedForToken {
    certificate: Certificate,
    delivery: Delivery,
}

/// Makes the archive record of a key.
pub(super) fn new_archive_record(
    keys: &TokenKeys,
    sealer: &Sealer,
    user_id: &str,
    issued: &IssuedCertificate,
    key: &DeliverableKey,
    now: Timestamp,
) -> Result<ArchiveRecord, AuthorityError> {
    let wrapped = keys.token.wrap_for_archive(&keys.archive, key)?;
    let mut record = ArchiveRecord {
        certificate_sha256: *issued.certificate().fingerprint().as_bytes(),
        user_id: user_id.to_owned(),
        algorithm: key.algorithm().to_string(),
        key_wrap: match wrapped.key_wrap {
            KeyWrap::Kwp => "kwp".into(),
            KeyWrap::Pad => "pad".into(),
        },
        wrapped: wrapped.blob,
        archived_at: Timestamp::from_second(now.as_second()).unwrap_or(now),
        mac: [0; 32],
    };
    record.mac = sealer.seal_archived_key(&record)?;
    Ok(record)
}

/// Takes a key out of the archive for its owner. A record that is unsealed, or sealed for another
/// user or certificate, is a fault ([`AuthorityError::Tampered`]), and nothing is unwrapped.
pub(super) fn unwrap_archived_key(
    keys: &TokenKeys,
    sealer: &Sealer,
    user_id: &str,
    certificate: &CertificateRecord,
    record: ArchiveRecord,
) -> Result<ArchivedKey, AuthorityError> {
    let record = sealer.check_archived_key(record)?;
    let tampered = |what: &str| AuthorityError::Tampered(format!("{what} (certificate {})", certificate.intent.serial));
    if record.user_id != user_id {
        return Err(tampered("an archived key that belongs to another user"));
    }
    let der = certificate.certificate.as_deref().ok_or_else(|| tampered("an archived key without a certificate"))?;
    let parsed = Certificate::from_der(der)?;
    if *parsed.fingerprint().as_bytes() != record.certificate_sha256 {
        return Err(tampered("an archived key that belongs to another certificate"));
    }
    let algorithm: KeyAlgorithm =
        record.algorithm.parse().map_err(|_| tampered("an archived key with an unknown algorithm"))?;
    let key_wrap = match record.key_wrap.as_str() {
        "kwp" => KeyWrap::Kwp,
        "pad" => KeyWrap::Pad,
        _ => return Err(tampered("an archived key with an unknown wrapping mechanism")),
    };
    let wrapped = WrappedKey { key_wrap, blob: record.wrapped };
    let key = keys.token.unwrap_from_archive(&keys.archive, &wrapped, algorithm)?;
    Ok(ArchivedKey { certificate: parsed, key })
}

impl ArchivedKey {
    /// Wraps the key for the token that holds this transport key.
    pub(super) fn wrap_for(
        self,
        keys: &TokenKeys,
        transport: &TransportPublicKey,
    ) -> Result<WrappedForToken, AuthorityError> {
        let delivery = keys.token.wrap_for_token(&self.key, &transport.public_key, transport.oaep)?;
        Ok(WrappedForToken { certificate: self.certificate, delivery })
    }
}

impl WrappedForToken {
    pub(super) fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    pub(super) fn delivery(&self) -> &Delivery {
        &self.delivery
    }
}
