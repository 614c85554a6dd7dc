//! `CertRepMessage` (RFC 9810 §5.3.4): the body of ip, cp and kup.

use der::asn1::OctetString;
use der::{Any, Choice, Sequence};

use super::certificate::CertificateDer;
use super::delivery::EncryptedKey;
use super::status::PkiStatusInfo;

/// `CertRepMessage` (RFC 9810 §5.3.4).
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub struct CertRepMessage {
    /// CA certificates. A client may trust them only in a message that a shared secret protects by
    /// a MAC (RFC 9810 §5.3.2). tokenkeep's client also requires the CA fingerprint of the letter.
    #[asn1(context_specific = "1", optional = "true")]
    pub ca_pubs: Option<Vec<CertificateDer>>,
    /// One response for each request.
    pub response: Vec<CertResponse>,
}

impl CertRepMessage {
    /// Makes a message; caPubs is absent if `ca_pubs` is empty.
    pub fn new(ca_pubs: Vec<CertificateDer>, response: Vec<CertResponse>) -> Self {
        Self { ca_pubs: (!ca_pubs.is_empty()).then_some(ca_pubs), response }
    }

    /// The response to the request with this identifier.
    pub fn response_to(&self, cert_req_id: i64) -> Option<&CertResponse> {
        self.response.iter().find(|response| response.cert_req_id == cert_req_id)
    }
}

/// `CertResponse` (RFC 9810 §5.3.4).
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub struct CertResponse {
    /// The identifier of the request; −1 for p10cr.
    pub cert_req_id: i64,
    /// The outcome.
    pub status: PkiStatusInfo,
    /// The certificate, with the private key if the authority generated it.
    #[asn1(optional = "true")]
    pub certified_key_pair: Option<CertifiedKeyPair>,
    /// Response information, the counterpart of regInfo.
    #[asn1(optional = "true")]
    pub rsp_info: Option<OctetString>,
}

impl CertResponse {
    /// A response that grants the request.
    pub fn granted(cert_req_id: i64, key_pair: CertifiedKeyPair) -> Self {
        Self { cert_req_id, status: PkiStatusInfo::accepted(), certified_key_pair: Some(key_pair), rsp_info: None }
    }

    /// A response that refuses the request or makes the client wait.
    pub fn without_certificate(cert_req_id: i64, status: PkiStatusInfo) -> Self {
        Self { cert_req_id, status, certified_key_pair: None, rsp_info: None }
    }
}

/// `CertifiedKeyPair` (RFC 9810 §5.3.4).
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub struct CertifiedKeyPair {
    /// The certificate.
    pub cert_or_enc_cert: CertOrEncCert,
    /// The private key, if the authority generated or archived it.
    #[asn1(context_specific = "0", optional = "true")]
    pub private_key: Option<EncryptedKey>,
    /// `PKIPublicationInfo`, which is ignored.
    #[asn1(context_specific = "1", optional = "true")]
    pub publication_info: Option<Any>,
}

impl CertifiedKeyPair {
    /// A certificate for a key that the client has.
    pub fn certificate(certificate: CertificateDer) -> Self {
        let cert_or_enc_cert = CertOrEncCert::Certificate(certificate);
        Self { cert_or_enc_cert, private_key: None, publication_info: None }
    }

    /// A certificate and its private key.
    pub fn with_private_key(certificate: CertificateDer, private_key: EncryptedKey) -> Self {
        Self { private_key: Some(private_key), ..Self::certificate(certificate) }
    }

    /// The certificate; `None` if it is encrypted.
    pub fn plain_certificate(&self) -> Option<&CertificateDer> {
        match &self.cert_or_enc_cert {
            CertOrEncCert::Certificate(certificate) => Some(certificate),
            CertOrEncCert::EncryptedCert(_) => None,
        }
    }
}

/// `CertOrEncCert` (RFC 9810 §5.3.4).
#[derive(Clone, Debug, PartialEq, Eq, Choice)]
pub enum CertOrEncCert {
    /// A certificate in the clear.
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", constructed = "true")]
    Certificate(CertificateDer),
    /// A certificate encrypted to the requested key, as an indirect proof of possession.
    #[asn1(context_specific = "1", tag_mode = "EXPLICIT", constructed = "true")]
    EncryptedCert(EncryptedKey),
}
