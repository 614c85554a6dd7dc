//! Making a certificate, in two steps with room for a store between them: first all that it will say
//! ([`NewCertificate::to_tbs_der`]), then the signature over exactly these bytes ([`sign_tbs`]).

use jiff::Timestamp;
use signature::Signer;
use spki::{DynSignatureAlgorithmIdentifier, SignatureBitStringEncoding};

use super::{Certificate, DistinguishedName, EmailAddress, Host, PkiError, Profile, SerialNumber};

/// Who signs a certificate.
#[derive(Clone, Copy, Debug)]
pub enum Issuer<'a> {
    /// The very key that the certificate is for: a root's own certificate.
    Itself,
    /// The authority with this certificate.
    Authority(&'a Certificate),
}

/// All that goes into a certificate. The profile decides the rest: usages, validity, which alternative names it needs.
#[derive(Clone, Debug)]
pub struct NewCertificate<'a> {
    /// What kind of certificate it is.
    pub profile: &'a Profile,
    /// Who signs it.
    pub issuer: Issuer<'a>,
    /// Whom it is for.
    pub subject: &'a DistinguishedName,
    /// The subjectAltName's e-mail address; needed when the profile says so, else not allowed.
    pub email: Option<&'a EmailAddress>,
    /// The subjectAltName's hosts; needed when the profile says so, else not allowed.
    pub hosts: &'a [Host],
    /// DER SubjectPublicKeyInfo; its kind must be one that the profile allows.
    pub public_key: &'a [u8],
    /// Its number, see [`SerialNumber::random`].
    pub serial: &'a SerialNumber,
    /// The present; validity is counted from here, less the profile's backdating, and never outlives the issuer's.
    pub now: Timestamp,
}

impl NewCertificate<'_> {
    /// The DER TBSCertificate: store it before it is signed.
    pub fn to_tbs_der(&self) -> Result<Vec<u8>, PkiError> {
        let _ = self;
        todo!()
    }
}

/// Signs a TBSCertificate's DER as it is. Refused when the signer's algorithm is not the one that stands in it.
pub fn sign_tbs<S, G>(tbs_der: &[u8], signer: &S) -> Result<Certificate, PkiError>
where
    S: Signer<G> + DynSignatureAlgorithmIdentifier,
    G: SignatureBitStringEncoding,
{
    let _ = (tbs_der, signer);
    todo!()
}
