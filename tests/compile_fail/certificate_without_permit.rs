//! Only a permit can become the content to sign, and only a decision makes a permit: neither a
//! verified request nor a signature of the CA is one.

use tokenkeep::authority::AuthorityError;
use tokenkeep::authority::certify::{IssuedCertificate, certificate_intent};
use tokenkeep::authority::decide::{EncryptionPermit, IssuancePermit};
use tokenkeep::authority::verify::VerifiedRequest;
use tokenkeep::pki::Certificate;
use tokenkeep::store::CertificateIntent;

type Intent = Result<CertificateIntent, AuthorityError>;

pub fn with_a_permit(permit: IssuancePermit, ca: &Certificate) -> Intent {
    certificate_intent(permit, ca, ca.not_before())
}

pub fn with_a_verified_request(request: VerifiedRequest, ca: &Certificate) -> Option<Intent> {
    certificate_intent(request, ca, ca.not_before()); //~ E0308
    None
}

pub fn with_a_permit_to_make_a_key(permit: EncryptionPermit, ca: &Certificate) -> Option<Intent> {
    certificate_intent(permit, ca, ca.not_before()); //~ E0308
    None
}

pub fn made_by_hand(certificate: Certificate) -> Option<IssuedCertificate> {
    IssuedCertificate { certificate }; //~ E0451
    None
}

pub fn a_permit_made_by_hand(public_key: Vec<u8>, other: IssuancePermit) -> IssuancePermit {
    let other = IssuancePermit { public_key, ..other }; //~ E0451
    other
}
