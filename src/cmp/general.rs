//! `InfoTypeAndValue` (RFC 9810 §5.1.1, §5.3.19) in headers and in genm/genp, and `ErrorMsgContent` (§5.3.21).

use der::asn1::{GeneralizedTime, Null, ObjectIdentifier};
use der::{Any, Decode, Encode, Sequence};
use spki::AlgorithmIdentifierOwned;

use super::certificate::CertificateDer;
use super::status::{PkiFreeText, PkiStatusInfo};
use super::{CmpError, oid};

/// A kind of information, and the information or the wish for it.
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub struct InfoTypeAndValue {
    /// What it is.
    pub info_type: ObjectIdentifier,
    /// The information; absent in a request for it.
    #[asn1(optional = "true")]
    pub info_value: Option<Any>,
}

/// A list of them: generalInfo, the body of genm, the body of genp.
pub type GeneralInfo = Vec<InfoTypeAndValue>;

impl InfoTypeAndValue {
    /// Asks for information of this kind.
    pub fn ask(info_type: ObjectIdentifier) -> Self {
        Self { info_type, info_value: None }
    }

    /// implicitConfirm: asked for by the client, granted by the authority.
    pub fn implicit_confirm() -> Self {
        Self { info_type: oid::IT_IMPLICIT_CONFIRM, info_value: Some(Any::from(Null)) }
    }

    /// confirmWaitTime: until when the authority waits for certConf.
    pub fn confirm_wait_time(until: jiff::Timestamp) -> Result<Self, CmpError> {
        let time = super::header::generalized_time(until)?;
        Ok(Self { info_type: oid::IT_CONFIRM_WAIT_TIME, info_value: Some(Any::encode_from(&time)?) })
    }

    /// caCerts: CA certificates.
    pub fn ca_certs(certificates: &[CertificateDer]) -> Result<Self, CmpError> {
        let value = certificates.to_vec();
        Ok(Self { info_type: oid::IT_CA_CERTS, info_value: Some(Any::encode_from(&value)?) })
    }

    /// signKeyPairTypes: the algorithms a signing key may have, the preferred one first.
    pub fn sign_key_pair_types(algorithms: &[AlgorithmIdentifierOwned]) -> Result<Self, CmpError> {
        let value = algorithms.to_vec();
        Ok(Self { info_type: oid::IT_SIGN_KEY_PAIR_TYPES, info_value: Some(Any::encode_from(&value)?) })
    }
}

/// What a list of information says about the kinds that this room knows.
pub trait GeneralInfoExt {
    /// Whether implicitConfirm is in it.
    fn has_implicit_confirm(&self) -> bool;
    /// confirmWaitTime, if it is there and well-formed.
    fn confirm_wait_time(&self) -> Option<jiff::Timestamp>;
    /// Whether this kind of information is in it, with or without a value.
    fn asks_for(&self, info_type: ObjectIdentifier) -> bool;
    /// caCerts; none if the kind is missing.
    fn ca_certs(&self) -> Result<Option<Vec<CertificateDer>>, CmpError>;
    /// signKeyPairTypes; none if the kind is missing.
    fn sign_key_pair_types(&self) -> Result<Option<Vec<AlgorithmIdentifierOwned>>, CmpError>;
}

impl GeneralInfoExt for [InfoTypeAndValue] {
    fn has_implicit_confirm(&self) -> bool {
        self.asks_for(oid::IT_IMPLICIT_CONFIRM)
    }

    fn confirm_wait_time(&self) -> Option<jiff::Timestamp> {
        let time: GeneralizedTime = value_of(self, oid::IT_CONFIRM_WAIT_TIME).ok()??;
        jiff::Timestamp::from_second(time.to_unix_duration().as_secs().try_into().ok()?).ok()
    }

    fn asks_for(&self, info_type: ObjectIdentifier) -> bool {
        self.iter().any(|info| info.info_type == info_type)
    }

    fn ca_certs(&self) -> Result<Option<Vec<CertificateDer>>, CmpError> {
        value_of(self, oid::IT_CA_CERTS)
    }

    fn sign_key_pair_types(&self) -> Result<Option<Vec<AlgorithmIdentifierOwned>>, CmpError> {
        value_of(self, oid::IT_SIGN_KEY_PAIR_TYPES)
    }
}

fn value_of<T>(list: &[InfoTypeAndValue], info_type: ObjectIdentifier) -> Result<Option<T>, CmpError>
where
    T: for<'a> Decode<'a, Error = der::Error>,
{
    let Some(info) = list.iter().find(|info| info.info_type == info_type) else { return Ok(None) };
    let Some(value) = &info.info_value else { return Ok(None) };
    Ok(Some(T::from_der(&value.to_der()?)?))
}

/// `ErrorMsgContent`.
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub struct ErrorMsgContent {
    /// What and why.
    pub status: PkiStatusInfo,
    /// A number that only the implementation knows the meaning of.
    #[asn1(optional = "true")]
    pub error_code: Option<i64>,
    /// For people.
    #[asn1(optional = "true")]
    pub error_details: Option<PkiFreeText>,
}

impl From<PkiStatusInfo> for ErrorMsgContent {
    fn from(status: PkiStatusInfo) -> Self {
        Self { status, error_code: None, error_details: None }
    }
}
