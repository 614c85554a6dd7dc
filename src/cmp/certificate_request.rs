//! `CertReqMessages` (RFC 4211 §3–5), the body of ir, cr, kur and krr, with its controls and
//! regInfo (`AttributeTypeAndValue`).

use der::asn1::{BitString, Int, ObjectIdentifier};
use der::{Any, Encode, Sequence};
use spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};
use x509_cert::ext::Extensions;
use x509_cert::name::Name;
use x509_cert::time::Time;

use super::possession::{Possession, ProofOfPossession};
use super::utf8_pairs::Utf8Pairs;
use super::with_der::WithDer;
use super::{CmpError, oid};

/// `CertReqMessages` (RFC 4211 §3).
pub type CertReqMessages = Vec<CertReqMsg>;

/// `CertReqMsg` (RFC 4211 §3): one certificate request.
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub struct CertReqMsg {
    /// The request. The proof of possession signs its bytes.
    pub cert_req: WithDer<CertRequest>,
    #[asn1(optional = "true")]
    pub popo: Option<ProofOfPossession>,
    /// Registration information.
    #[asn1(optional = "true")]
    pub reg_info: Option<Vec<AttributeTypeAndValue>>,
}

impl CertReqMsg {
    /// The utf8Pairs in regInfo; empty if there are none.
    pub fn utf8_pairs(&self) -> Result<Utf8Pairs, CmpError> {
        let info = self.reg_info.iter().flatten().find(|info| info.oid == oid::REG_INFO_UTF8_PAIRS);
        info.map_or_else(|| Ok(Utf8Pairs::default()), |info| info.value.decode_as::<String>()?.parse())
    }

    /// The proof of possession by signature, ready to be verified. It is refused (`badPOP`) if it
    /// is missing, is raVerified or another kind of proof, or covers another public key than the
    /// template's.
    pub fn possession(&self) -> Result<Possession, CmpError> {
        let Some(ProofOfPossession::Signature(proof)) = &self.popo else {
            return Err(CmpError::Malformed("missing proof of possession by signature"));
        };
        let key = self.cert_req.cert_template.public_key.as_ref();
        let key = key.ok_or(CmpError::Malformed("the certificate template has no public key"))?;
        let signed = match &proof.poposk_input {
            None => self.cert_req.der().to_vec(),
            Some(input) if input.public_key == *key => input.to_der()?,
            Some(_) => return Err(CmpError::Malformed("the proof of possession covers another public key")),
        };
        let signature =
            proof.signature.as_bytes().ok_or(CmpError::Malformed("the signature is not a whole number of bytes"))?;
        Ok(Possession {
            public_key: key.to_der()?,
            algorithm: proof.algorithm.clone(),
            signed,
            signature: signature.to_vec(),
        })
    }
}

/// `CertRequest` (RFC 4211 §5).
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub struct CertRequest {
    /// The identifier of the request within the message.
    pub cert_req_id: i64,
    /// The requested contents of the certificate.
    pub cert_template: CertTemplate,
    /// Controls, which say how the authority should handle the request.
    #[asn1(optional = "true")]
    pub controls: Option<Vec<AttributeTypeAndValue>>,
}

impl CertRequest {
    /// The value of protocolEncrKey; `None` if the control is missing.
    pub fn protocol_encr_key(&self) -> Result<Option<SubjectPublicKeyInfoOwned>, CmpError> {
        let control = self.controls.iter().flatten().find(|control| control.oid == oid::REG_CTRL_PROTOCOL_ENCR_KEY);
        Ok(control.map(|control| control.value.decode_as()).transpose()?)
    }
}

/// `CertTemplate` (RFC 4211 §5): the client's wishes. Every field is optional.
#[derive(Clone, Debug, Default, PartialEq, Eq, Sequence)]
#[asn1(tag_mode = "IMPLICIT")]
pub struct CertTemplate {
    /// The certificate's version.
    #[asn1(context_specific = "0", optional = "true")]
    pub version: Option<u8>,
    /// Clients omit it (RFC 4211 §5); only uses like oldCertID set it.
    #[asn1(context_specific = "1", optional = "true")]
    pub serial_number: Option<Int>,
    /// Clients omit it (RFC 4211 §5).
    #[asn1(context_specific = "2", optional = "true")]
    pub signing_alg: Option<AlgorithmIdentifierOwned>,
    /// The issuer. EXPLICIT, because Name is a CHOICE.
    #[asn1(context_specific = "3", tag_mode = "EXPLICIT", optional = "true")]
    pub issuer: Option<Name>,
    /// The requested validity.
    #[asn1(context_specific = "4", optional = "true")]
    pub validity: Option<OptionalValidity>,
    /// The subject. EXPLICIT, because Name is a CHOICE.
    #[asn1(context_specific = "5", tag_mode = "EXPLICIT", optional = "true")]
    pub subject: Option<Name>,
    /// The public key. It is absent, or has an empty BIT STRING, if the authority must generate the
    /// key.
    #[asn1(context_specific = "6", optional = "true")]
    pub public_key: Option<SubjectPublicKeyInfoOwned>,
    /// Deprecated (RFC 4211 §5).
    #[asn1(context_specific = "7", optional = "true")]
    pub issuer_uid: Option<BitString>,
    /// Deprecated (RFC 4211 §5).
    #[asn1(context_specific = "8", optional = "true")]
    pub subject_uid: Option<BitString>,
    /// The requested extensions.
    #[asn1(context_specific = "9", optional = "true")]
    pub extensions: Option<Extensions>,
}

/// `OptionalValidity` (RFC 4211 §5). EXPLICIT tags, because Time is a CHOICE.
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub struct OptionalValidity {
    /// The start of the validity.
    #[asn1(context_specific = "0", optional = "true")]
    pub not_before: Option<Time>,
    /// The end of the validity.
    #[asn1(context_specific = "1", optional = "true")]
    pub not_after: Option<Time>,
}

/// A control or an item of registration information.
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub struct AttributeTypeAndValue {
    /// The type.
    pub oid: ObjectIdentifier,
    pub value: Any,
}

impl AttributeTypeAndValue {
    /// id-regInfo-utf8Pairs (RFC 4211 §7.1).
    pub fn utf8_pairs(pairs: &Utf8Pairs) -> Result<Self, CmpError> {
        Self::of(oid::REG_INFO_UTF8_PAIRS, &pairs.to_string())
    }

    /// protocolEncrKey (RFC 4211 §6.6): the public key, as a `SubjectPublicKeyInfo`, to which the
    /// private key must be encrypted.
    pub fn protocol_encr_key(key: &SubjectPublicKeyInfoOwned) -> Result<Self, CmpError> {
        Self::of(oid::REG_CTRL_PROTOCOL_ENCR_KEY, key)
    }

    /// id-regCtrl-rsaKeyLen (RFC 9810 §5.3.19.16): the requested length of an RSA key, in bits.
    pub fn rsa_key_length(bits: u16) -> Result<Self, CmpError> {
        Self::of(oid::REG_CTRL_RSA_KEY_LEN, &bits)
    }

    fn of<T: Encode>(oid: ObjectIdentifier, value: &T) -> Result<Self, CmpError> {
        use der::Decode;
        Ok(Self { oid, value: Any::from_der(&value.to_der()?)? })
    }
}
