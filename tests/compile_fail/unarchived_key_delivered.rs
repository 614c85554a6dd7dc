//! A reply accepts only keys from the archive: neither a new key, nor a key that was wrapped for a
//! token without being archived.

use tokenkeep::authority::AuthorityError;
use tokenkeep::authority::archive::{ArchivedKey, WrappedForToken};
use tokenkeep::authority::certify::IssuedCertificate;
use tokenkeep::authority::reply::EnrollmentReply;
use tokenkeep::pki::Certificate;
use tokenkeep::token::{DeliverableKey, Delivery};

type Reply = Result<EnrollmentReply, AuthorityError>;

pub fn archived(signing: &IssuedCertificate, key: WrappedForToken, ca: &Certificate) -> Reply {
    EnrollmentReply::ip((0, signing), Some((1, key)), ca)
}

pub fn history(signing: &IssuedCertificate, keys: &[WrappedForToken], ca: &Certificate) -> Reply {
    EnrollmentReply::krp(signing, keys, ca)
}

pub fn just_made(signing: &IssuedCertificate, key: DeliverableKey, ca: &Certificate) -> Option<Reply> {
    drop(EnrollmentReply::ip((0, signing), Some((1, key)), ca)); //~ E0308
    None
}

pub fn just_wrapped(signing: &IssuedCertificate, key: Delivery, ca: &Certificate) -> Option<Reply> {
    drop(EnrollmentReply::ip((0, signing), Some((1, key)), ca)); //~ E0308
    None
}

pub fn a_history_just_wrapped(signing: &IssuedCertificate, keys: &[Delivery], ca: &Certificate) -> Option<Reply> {
    drop(EnrollmentReply::krp(signing, keys, ca)); //~ E0308
    None
}

pub fn passed_off_as_wrapped(certificate: Certificate, delivery: Delivery) -> Option<WrappedForToken> {
    drop(WrappedForToken { certificate, delivery }); //~ E0451
    None
}

pub fn passed_off_as_archived(certificate: Certificate, key: DeliverableKey) -> Option<ArchivedKey> {
    drop(ArchivedKey { certificate, key }); //~ E0451
    None
}
