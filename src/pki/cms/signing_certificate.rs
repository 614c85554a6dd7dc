//! A signer's certificate, made ready: what all messages signed with it have in common is worked out once.

use spki::AlgorithmIdentifierOwned;

use super::tlv::{SEQUENCE, context_constructed, element, set_of};
use super::{CertificateId, algorithm, oid};
use crate::pki::signature::{Scheme, verify_with};
use crate::pki::verifying_key::VerifyingKey;
use crate::pki::{Certificate, PkiError};

/// A certificate that is for signing, and what each message by its key says of it.
#[derive(Clone, Debug)]
pub struct SigningCertificate {
    key: VerifyingKey,
    algorithm: AlgorithmIdentifierOwned,
    scheme: Scheme,
    /// `SignerIdentifier`
    pub(super) identifier: Vec<u8>,
    /// `DigestAlgorithmIdentifier`
    pub(super) digest_algorithm: Vec<u8>,
    /// `SignatureAlgorithmIdentifier`
    pub(super) signature_algorithm: Vec<u8>,
    /// `CertificateSet`, tagged [0]
    pub(super) certificates: Vec<u8>,
}

impl SigningCertificate {
    /// With further certificates to send along, the issuer's first. Refused when the certificate is not for signing, or
    /// its key of a kind that is not used here.
    pub fn new(certificate: &Certificate, chain: &[Certificate]) -> Result<Self, PkiError> {
        let key = certificate.public_key()?;
        if !certificate.can_sign() {
            return Err(PkiError::unsupported("the signer's certificate", "its key usage does not allow signing"));
        }
        let algorithm_identifier = key.signature_algorithm();
        let scheme = Scheme::from_algorithm(&algorithm_identifier)?;
        let certificates = std::iter::once(certificate).chain(chain).map(|one| one.as_der().to_vec());
        Ok(Self {
            identifier: CertificateId::of(certificate).to_der()?,
            digest_algorithm: element(SEQUENCE, &[&oid(scheme.hash().oid())]),
            signature_algorithm: algorithm(&algorithm_identifier)?,
            certificates: set_of(context_constructed(0), certificates.collect()),
            key: key.into(),
            algorithm: algorithm_identifier,
            scheme,
        })
    }

    /// With what its key signs here.
    pub(super) fn algorithm(&self) -> &AlgorithmIdentifierOwned {
        &self.algorithm
    }

    /// The same, taken apart.
    pub(super) fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Is it a signature over `message` by the certificate's key?
    pub(super) fn check(&self, what: &'static str, message: &[u8], signature: &[u8]) -> Result<(), PkiError> {
        verify_with(what, &self.key, self.scheme, message, signature)
    }
}
