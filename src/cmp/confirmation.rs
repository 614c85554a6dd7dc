//! `CertConfirmContent` (RFC 9810 §5.3.18): whether the client accepts its certificates.

use der::asn1::OctetString;
use der::{Decode, Sequence};
use sha2::{Digest, Sha256, Sha384, Sha512};
use spki::AlgorithmIdentifierOwned;

use super::status::{PkiStatus, PkiStatusInfo};
use super::{CmpError, Pvno, oid};

/// `CertConfirmContent`. An empty one refuses all certificates.
pub type CertConfirmContent = Vec<CertStatus>;

/// `CertStatus`: the acceptance or refusal of one certificate.
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub struct CertStatus {
    /// The hash of the certificate.
    pub cert_hash: OctetString,
    /// The identifier of the request.
    pub cert_req_id: i64,
    /// The status. Absent means accepted.
    #[asn1(optional = "true")]
    pub status_info: Option<PkiStatusInfo>,
    /// The hash algorithm, allowed only in pvno 3.
    #[asn1(context_specific = "0", optional = "true")]
    pub hash_alg: Option<AlgorithmIdentifierOwned>,
}

/// The meaning of a `CertStatus` for a given certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfirmationVerdict {
    /// The client accepts this certificate.
    Accepted,
    /// The client refuses this certificate.
    Refused(PkiStatusInfo),
    /// The hash is that of another certificate, or its algorithm is unsupported. Nothing is
    /// confirmed.
    WrongCertificate,
}

impl CertStatus {
    /// Accepts `certificate` (DER), the response to request `cert_req_id`.
    pub fn accept(cert_req_id: i64, certificate: &[u8]) -> Result<Self, CmpError> {
        let cert_hash = OctetString::new(certificate_hash(certificate)?)?;
        Ok(Self { cert_hash, cert_req_id, status_info: None, hash_alg: None })
    }

    /// Refuses `certificate` (DER), the response to request `cert_req_id`.
    pub fn refuse(cert_req_id: i64, certificate: &[u8], why: PkiStatusInfo) -> Result<Self, CmpError> {
        Ok(Self { status_info: Some(why), ..Self::accept(cert_req_id, certificate)? })
    }

    /// Compares this status with `certificate` (DER), in a message of version `pvno`.
    pub fn verdict_on(&self, certificate: &[u8], pvno: Pvno) -> Result<ConfirmationVerdict, CmpError> {
        let hash = match &self.hash_alg {
            None => certificate_hash(certificate)?,
            Some(algorithm) if pvno == Pvno::CMP2021 => match hash_with(algorithm.oid, certificate) {
                Some(hash) => hash,
                None => return Ok(ConfirmationVerdict::WrongCertificate),
            },
            Some(_) => return Err(CmpError::Malformed("hashAlg in certConf needs pvno 3")),
        };
        if hash != self.cert_hash.as_bytes() {
            return Ok(ConfirmationVerdict::WrongCertificate);
        }
        match &self.status_info {
            Some(info) if info.status != PkiStatus::Accepted => Ok(ConfirmationVerdict::Refused(info.clone())),
            _ => Ok(ConfirmationVerdict::Accepted),
        }
    }
}

/// The hash of a certificate (DER), with the hash algorithm of its signature (RFC 9810 §5.3.18).
/// Algorithms with which tokenkeep's authority never signs are refused.
pub fn certificate_hash(certificate: &[u8]) -> Result<Vec<u8>, CmpError> {
    let algorithm = x509_cert::Certificate::from_der(certificate)?.signature_algorithm().oid;
    let hash = match algorithm.to_string().as_str() {
        // sha256WithRSAEncryption, ecdsa-with-SHA256
        "1.2.840.113549.1.1.11" | "1.2.840.10045.4.3.2" => oid::SHA256,
        // sha384WithRSAEncryption, ecdsa-with-SHA384
        "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" => oid::SHA384,
        // sha512WithRSAEncryption, ecdsa-with-SHA512
        "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" => oid::SHA512,
        _ => return Err(CmpError::Malformed("the certificate's signature algorithm names no supported hash")),
    };
    hash_with(hash, certificate).ok_or(CmpError::Malformed("the hash algorithm is not supported"))
}

fn hash_with(hash: der::asn1::ObjectIdentifier, bytes: &[u8]) -> Option<Vec<u8>> {
    match hash {
        oid::SHA256 => Some(Sha256::digest(bytes).to_vec()),
        oid::SHA384 => Some(Sha384::digest(bytes).to_vec()),
        oid::SHA512 => Some(Sha512::digest(bytes).to_vec()),
        _ => None,
    }
}
