//! `KeyRecRepContent` (RFC 9810 §5.3.8): the body of krp. (A krr's body is `CertReqMessages`.)

use der::Sequence;

use super::certificate::CertificateDer;
use super::certificate_response::CertifiedKeyPair;
use super::status::PkiStatusInfo;

/// `KeyRecRepContent` (RFC 9810 §5.3.8).
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub struct KeyRecRepContent {
    /// The outcome.
    pub status: PkiStatusInfo,
    /// The certificate for the new signing key.
    #[asn1(context_specific = "0", optional = "true")]
    pub new_sig_cert: Option<CertificateDer>,
    #[asn1(context_specific = "1", optional = "true")]
    pub ca_certs: Option<Vec<CertificateDer>>,
    /// The encryption keys with their certificates; absent if there are none.
    #[asn1(context_specific = "2", optional = "true")]
    pub key_pair_hist: Option<Vec<CertifiedKeyPair>>,
}

impl KeyRecRepContent {
    /// A response that grants the request. Empty lists are omitted.
    pub fn granted(new_sig_cert: CertificateDer, ca: Vec<CertificateDer>, history: Vec<CertifiedKeyPair>) -> Self {
        Self {
            status: PkiStatusInfo::accepted(),
            new_sig_cert: Some(new_sig_cert),
            ca_certs: (!ca.is_empty()).then_some(ca),
            key_pair_hist: (!history.is_empty()).then_some(history),
        }
    }

    /// A response that refuses the request or makes the client wait.
    pub fn without_keys(status: PkiStatusInfo) -> Self {
        Self { status, new_sig_cert: None, ca_certs: None, key_pair_hist: None }
    }
}
