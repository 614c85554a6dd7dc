//! A signer's certificate with precomputed structures, which are the same in all messages signed
//! with it.

use spki::AlgorithmIdentifierOwned;

use super::{CertificateId, algorithm, oid};
use crate::pki::signature::VerifyingKey;
use crate::pki::signature::{Hash, Scheme, verify_with};
use crate::pki::tlv::{SEQUENCE, context_constructed, element, set_of};
use crate::pki::{Certificate, PkiError};

/// A certificate for signing, and the structures that describe it in each message.
#[derive(Clone, Debug)]
pub struct SigningCertificate {
    key: VerifyingKey,
    algorithm: AlgorithmIdentifierOwned,
    scheme: Scheme,
    /// `SignerIdentifier`, in DER.
    pub(super) identifier: Vec<u8>,
    /// `DigestAlgorithmIdentifier`, in DER.
    pub(super) digest_algorithm: Vec<u8>,
    /// `SignatureAlgorithmIdentifier`, in DER.
    pub(super) signature_algorithm: Vec<u8>,
    /// `CertificateSet`, in DER, tagged [0].
    pub(super) certificates: Vec<u8>,
}

impl SigningCertificate {
    /// Prepares a certificate, with further certificates to include, the issuer's first. It is an
    /// error if the certificate does not allow signing or its kind of key is not used here.
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

    /// The hash of the content and of the signed attributes: the usual one for the key.
    pub fn hash(&self) -> Hash {
        self.scheme.hash()
    }

    /// The signature algorithm of the key.
    pub(super) fn algorithm(&self) -> &AlgorithmIdentifierOwned {
        &self.algorithm
    }

    /// Verifies a signature over `message` with the certificate's key.
    pub(super) fn check(&self, what: &'static str, message: &[u8], signature: &[u8]) -> Result<(), PkiError> {
        verify_with(what, &self.key, self.scheme, message, signature)
    }
}
