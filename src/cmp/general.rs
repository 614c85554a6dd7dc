//! `InfoTypeAndValue` (RFC 9810 §5.1.1, §5.3.19) in headers and in genm/genp, and
//! `ErrorMsgContent` (§5.3.21).

use std::time::Duration;

use der::asn1::{GeneralizedTime, Null, ObjectIdentifier};
use der::{Any, Decode, Encode, Sequence};
use spki::AlgorithmIdentifierOwned;

use super::certificate::CertificateDer;
use super::certificate_request::AttributeTypeAndValue;
use super::certificate_request::CertTemplate;
use super::status::{PkiFreeText, PkiStatusInfo};
use super::{CmpError, oid};

/// A type of information, and its value.
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub struct InfoTypeAndValue {
    pub info_type: ObjectIdentifier,
    /// The value; absent in a request for it.
    #[asn1(optional = "true")]
    pub info_value: Option<Any>,
}

/// A list of information: generalInfo, and the bodies of genm and genp.
pub type GeneralInfo = Vec<InfoTypeAndValue>;

impl InfoTypeAndValue {
    /// Requests information of this type.
    pub fn ask(info_type: ObjectIdentifier) -> Self {
        Self { info_type, info_value: None }
    }

    /// implicitConfirm: the client requests it, and the authority grants it.
    pub fn implicit_confirm() -> Self {
        Self { info_type: oid::IT_IMPLICIT_CONFIRM, info_value: Some(Any::from(Null)) }
    }

    /// confirmWaitTime: the time until which the authority waits for certConf.
    pub fn confirm_wait_time(until: jiff::Timestamp) -> Result<Self, CmpError> {
        let time = generalized_time(until)?;
        Ok(Self { info_type: oid::IT_CONFIRM_WAIT_TIME, info_value: Some(Any::encode_from(&time)?) })
    }

    /// caCerts, with these CA certificates.
    pub fn ca_certs(certificates: &[CertificateDer]) -> Result<Self, CmpError> {
        let value = certificates.to_vec();
        Ok(Self { info_type: oid::IT_CA_CERTS, info_value: Some(Any::encode_from(&value)?) })
    }

    /// signKeyPairTypes: the allowed algorithms of a signing key, the preferred one first.
    pub fn sign_key_pair_types(algorithms: &[AlgorithmIdentifierOwned]) -> Result<Self, CmpError> {
        let value = algorithms.to_vec();
        Ok(Self { info_type: oid::IT_SIGN_KEY_PAIR_TYPES, info_value: Some(Any::encode_from(&value)?) })
    }

    /// certReqTemplate with only the length of an RSA key in bits, which signKeyPairTypes cannot
    /// express.
    pub fn rsa_key_length(bits: u16) -> Result<Self, CmpError> {
        let key_spec = Some(vec![AttributeTypeAndValue::rsa_key_length(bits)?]);
        let value = CertReqTemplateContent { cert_template: CertTemplate::default(), key_spec };
        Ok(Self { info_type: oid::IT_CERT_REQ_TEMPLATE, info_value: Some(Any::encode_from(&value)?) })
    }
}

/// Reads the types that tokenkeep uses from a list of information. If a type occurs more than once,
/// the first one counts.
pub trait GeneralInfoExt {
    /// Whether the list has implicitConfirm (RFC 9810 §5.1.1.1), with or without a value.
    fn has_implicit_confirm(&self) -> bool;
    /// The value of confirmWaitTime (RFC 9810 §5.1.1.2): the time until which the authority waits
    /// for certConf. `None` if it is missing or malformed.
    fn confirm_wait_time(&self) -> Option<jiff::Timestamp>;
    /// Whether the list has this type, with or without a value.
    fn asks_for(&self, info_type: ObjectIdentifier) -> bool;
    /// The value of caCerts; `None` if the type or its value is missing, an error if it is
    /// malformed.
    fn ca_certs(&self) -> Result<Option<Vec<CertificateDer>>, CmpError>;
    /// The value of signKeyPairTypes; `None` if the type or its value is missing, an error if it is
    /// malformed.
    fn sign_key_pair_types(&self) -> Result<Option<Vec<AlgorithmIdentifierOwned>>, CmpError>;
    /// The length of an RSA key in certReqTemplate, in bits; `None` if there is no template or no
    /// length in it, an error if it is malformed.
    fn rsa_key_length(&self) -> Result<Option<u16>, CmpError>;
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

    fn rsa_key_length(&self) -> Result<Option<u16>, CmpError> {
        let Some(template) = value_of::<CertReqTemplateContent>(self, oid::IT_CERT_REQ_TEMPLATE)? else {
            return Ok(None);
        };
        let length = template.key_spec.iter().flatten().find(|control| control.oid == oid::REG_CTRL_RSA_KEY_LEN);
        Ok(length.map(|control| control.value.decode_as()).transpose()?)
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

/// `CertReqTemplateContent` (RFC 9810 §5.3.19.16).
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
struct CertReqTemplateContent {
    cert_template: CertTemplate,
    #[asn1(optional = "true")]
    key_spec: Option<Vec<AttributeTypeAndValue>>,
}

/// `ErrorMsgContent` (RFC 9810 §5.3.21).
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub struct ErrorMsgContent {
    /// The status and the reason.
    pub status: PkiStatusInfo,
    /// An implementation-specific error code.
    #[asn1(optional = "true")]
    pub error_code: Option<i64>,
    /// Implementation-specific details: texts for people.
    #[asn1(optional = "true")]
    pub error_details: Option<PkiFreeText>,
}

impl From<PkiStatusInfo> for ErrorMsgContent {
    fn from(status: PkiStatusInfo) -> Self {
        Self { status, error_code: None, error_details: None }
    }
}

/// A time in whole seconds, as DER requires.
pub(super) fn generalized_time(at: jiff::Timestamp) -> Result<GeneralizedTime, CmpError> {
    let seconds = u64::try_from(at.as_second()).map_err(|_| CmpError::Time(at))?;
    GeneralizedTime::from_unix_duration(Duration::from_secs(seconds)).map_err(|_| CmpError::Time(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_rsa_key_length_round_trips_and_may_be_absent() {
        let information = vec![InfoTypeAndValue::rsa_key_length(4096).unwrap()];
        let information = GeneralInfo::from_der(&information.to_der().unwrap()).unwrap();
        assert_eq!(information.rsa_key_length().unwrap(), Some(4096));
        // Encoded by hand: SEQUENCE { SEQUENCE {}, SEQUENCE { SEQUENCE { id-regCtrl-rsaKeyLen,
        // 4096 } } }.
        let value = information[0].info_value.as_ref().unwrap().to_der().unwrap();
        assert_eq!(hex::encode(value), "301530003011300f06092b060105050705010c02021000");

        assert_eq!(GeneralInfo::new().rsa_key_length().unwrap(), None);
        assert_eq!([InfoTypeAndValue::ask(oid::IT_CERT_REQ_TEMPLATE)].rsa_key_length().unwrap(), None);
        let text = Any::encode_from(&String::from("4096")).unwrap();
        let wrong = InfoTypeAndValue { info_type: oid::IT_CERT_REQ_TEMPLATE, info_value: Some(text) };
        assert!([wrong].rsa_key_length().is_err());
    }
}
