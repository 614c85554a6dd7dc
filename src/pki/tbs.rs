//! Makes a certificate in two steps, so that the caller can store it in between: first its contents
//! ([`NewCertificate::to_tbs_der`]), then the signature over exactly these bytes ([`sign_tbs`]).

use const_oid::AssociatedOid;
use der::asn1::{BitString, Ia5String, OctetString, Uint};
use der::{AnyRef, Decode, Encode, Sequence};
use jiff::Timestamp;
use signature::Signer;
use spki::{
    AlgorithmIdentifierOwned, DynSignatureAlgorithmIdentifier, SignatureBitStringEncoding, SubjectPublicKeyInfoOwned,
};
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{
    AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, SubjectAltName, SubjectKeyIdentifier,
};
use x509_cert::name::Name;
use x509_cert::time::Time;

use super::profile::AlternativeName;
use super::public_key::{PublicKey, key_identifier};
use super::{Certificate, DistinguishedName, EmailAddress, Host, PkiError, Profile, SerialNumber, time};
use crate::token::KeyAlgorithm;

const WHAT: &str = "a certificate";

/// The issuer of a certificate.
#[derive(Clone, Copy, Debug)]
pub enum Issuer<'a> {
    /// The certificate's own key: a root's self-signed certificate.
    Itself,
    /// The authority with this certificate.
    Authority(&'a Certificate),
}

/// The contents of a certificate. The profile determines the usages, the validity and the required
/// alternative names.
#[derive(Clone, Debug)]
pub struct NewCertificate<'a> {
    /// The kind of certificate.
    pub profile: &'a Profile,
    pub issuer: Issuer<'a>,
    pub subject: &'a DistinguishedName,
    /// The e-mail address in the subjectAltName: required if the profile says so, otherwise
    /// forbidden.
    pub email: Option<&'a EmailAddress>,
    /// The hosts in the subjectAltName: required if the profile says so, otherwise forbidden.
    pub hosts: &'a [Host],
    /// The DER `SubjectPublicKeyInfo`. The profile must allow its kind.
    pub public_key: &'a [u8],
    /// The serial number, from [`SerialNumber::random`].
    pub serial: &'a SerialNumber,
    /// The present time. The validity begins here, minus the profile's backdating, and never
    /// exceeds the issuer's.
    pub now: Timestamp,
}

/// `TBSCertificate` (RFC 5280 §4.1.2) as it is made here: always version 3, always with extensions.
#[derive(Sequence)]
struct TbsCertificate {
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT")]
    version: u8,
    serial_number: Uint,
    signature: AlgorithmIdentifierOwned,
    issuer: Name,
    validity: Validity,
    subject: Name,
    subject_public_key_info: SubjectPublicKeyInfoOwned,
    #[asn1(context_specific = "3", tag_mode = "EXPLICIT")]
    extensions: Vec<Extension>,
}

#[derive(Sequence)]
struct Validity {
    not_before: Time,
    not_after: Time,
}

/// `Certificate` (RFC 5280 §4.1.1) around the bytes that were signed.
#[derive(Sequence)]
struct SignedCertificate<'a> {
    tbs_certificate: AnyRef<'a>,
    signature_algorithm: AlgorithmIdentifierOwned,
    signature: BitString,
}

impl NewCertificate<'_> {
    /// Encodes the `TBSCertificate` in DER. Store it before signing it.
    pub fn to_tbs_der(&self) -> Result<Vec<u8>, PkiError> {
        let algorithm = self.allowed_algorithm()?;
        let (issuer, signature) = match self.issuer {
            Issuer::Itself => (self.subject.as_x509().clone(), algorithm.signature_algorithm()),
            Issuer::Authority(authority) => {
                (authority.subject_name().as_x509().clone(), authority.public_key()?.signature_algorithm())
            }
        };
        let tbs = TbsCertificate {
            version: 2, // v3
            serial_number: Uint::new(self.serial.as_bytes()).map_err(PkiError::encode("a serial number"))?,
            signature,
            issuer,
            validity: self.validity()?,
            subject: self.subject.as_x509().clone(),
            subject_public_key_info: SubjectPublicKeyInfoOwned::from_der(self.public_key)
                .map_err(PkiError::decode("a public key"))?,
            extensions: self.extensions(algorithm)?,
        };
        tbs.to_der().map_err(PkiError::encode(WHAT))
    }

    fn refuse(&self, reason: impl Into<String>) -> PkiError {
        PkiError::Profile { profile: self.profile.name().to_owned(), reason: reason.into() }
    }

    /// Checks that the key parses (an RSA modulus, a point on the curve) and that the profile
    /// allows its kind.
    fn allowed_algorithm(&self) -> Result<KeyAlgorithm, PkiError> {
        let key = PublicKey::from_spki_der(self.public_key)?;
        key.algorithm()
            .filter(|algorithm| self.profile.keys().contains(algorithm))
            .ok_or_else(|| self.refuse(format!("it does not allow keys of the kind {}", key.describe())))
    }

    fn validity(&self) -> Result<Validity, PkiError> {
        let beyond = |_| self.refuse("its validity is out of range");
        let mut not_before = self.now.checked_sub(self.profile.backdate()).map_err(beyond)?;
        let mut not_after = self.now.checked_add(self.profile.validity()).map_err(beyond)?;
        if let Issuer::Authority(authority) = self.issuer {
            if !authority.is_valid_at(self.now) {
                return Err(self.refuse(format!(
                    "the authority's own certificate is valid from {} to {}",
                    authority.not_before(),
                    authority.not_after()
                )));
            }
            not_before = not_before.max(authority.not_before());
            not_after = not_after.min(authority.not_after());
        }
        Ok(Validity { not_before: time::to_x509(not_before)?, not_after: time::to_x509(not_after)? })
    }

    fn extensions(&self, algorithm: KeyAlgorithm) -> Result<Vec<Extension>, PkiError> {
        let mut extensions = Vec::new();
        if let Some(authority) = self.profile.authority() {
            let constraints = BasicConstraints { ca: true, path_len_constraint: Some(authority.path_length) };
            extensions.push(extension(&constraints, true)?);
        }
        extensions.push(extension(&self.profile.key_usage(algorithm), true)?);
        if !self.profile.extended_key_usage().is_empty() {
            extensions.push(extension(&ExtendedKeyUsage(self.profile.extended_key_usage().to_vec()), false)?);
        }
        let own = octets(&key_identifier(self.public_key)?)?;
        extensions.push(extension(&SubjectKeyIdentifier(own), false)?);
        if let Issuer::Authority(authority) = self.issuer {
            let identifier = match authority.subject_key_identifier() {
                Some(identifier) => identifier,
                None => key_identifier(&authority.public_key_der()?)?.to_vec(),
            };
            let identifier =
                AuthorityKeyIdentifier { key_identifier: Some(octets(&identifier)?), ..Default::default() };
            extensions.push(extension(&identifier, false)?);
        }
        let names = self.alternative_names()?;
        if !names.is_empty() {
            extensions.push(extension(&SubjectAltName(names), false)?);
        }
        Ok(extensions)
    }

    fn alternative_names(&self) -> Result<Vec<GeneralName>, PkiError> {
        let text = |text: &str| Ia5String::new(text).map_err(PkiError::encode("an alternative name"));
        match (self.profile.alternative_name(), self.email, self.hosts) {
            (AlternativeName::Email, Some(email), []) => Ok(vec![GeneralName::Rfc822Name(text(email.as_str())?)]),
            (AlternativeName::Host, None, hosts @ [_, ..]) => hosts
                .iter()
                .map(|host| match host {
                    Host::Dns(name) => text(name).map(GeneralName::DnsName),
                    Host::Ip(std::net::IpAddr::V4(address)) => octets(&address.octets()).map(GeneralName::IpAddress),
                    Host::Ip(std::net::IpAddr::V6(address)) => octets(&address.octets()).map(GeneralName::IpAddress),
                })
                .collect(),
            (AlternativeName::None, None, []) => Ok(Vec::new()),
            (AlternativeName::Email, ..) => Err(self.refuse("it requires an e-mail address and no host name")),
            (AlternativeName::Host, ..) => Err(self.refuse("it requires a host name and no e-mail address")),
            (AlternativeName::None, ..) => Err(self.refuse("it allows no alternative names")),
        }
    }
}

fn octets(bytes: &[u8]) -> Result<OctetString, PkiError> {
    OctetString::new(bytes).map_err(PkiError::encode("an extension"))
}

fn extension<T: Encode + AssociatedOid>(value: &T, critical: bool) -> Result<Extension, PkiError> {
    let value = value.to_der().map_err(PkiError::encode("an extension"))?;
    Ok(Extension { extn_id: T::OID, critical, extn_value: octets(&value)? })
}

/// Signs the DER of a `TBSCertificate` unchanged. It is an error if the signer's algorithm differs
/// from the one in it.
pub fn sign_tbs<S, G>(tbs_der: &[u8], signer: &S) -> Result<Certificate, PkiError>
where
    S: Signer<G> + DynSignatureAlgorithmIdentifier,
    G: SignatureBitStringEncoding,
{
    let tbs = x509_cert::TbsCertificate::from_der(tbs_der).map_err(PkiError::decode("a certificate to be signed"))?;
    let algorithm = signer
        .signature_algorithm_identifier()
        .map_err(|error| PkiError::unsupported("the signing key", error.to_string()))?;
    if *tbs.signature() != algorithm {
        return Err(PkiError::unsupported("the signing key", "the certificate to be signed names another algorithm"));
    }
    let signature = signer.try_sign(tbs_der).map_err(|source| PkiError::Sign { what: WHAT, source })?;
    let certificate = SignedCertificate {
        tbs_certificate: AnyRef::try_from(tbs_der).map_err(PkiError::decode("a certificate to be signed"))?,
        signature_algorithm: algorithm,
        signature: signature.to_bitstring().map_err(PkiError::encode("a signature"))?,
    };
    Certificate::from_der(&certificate.to_der().map_err(PkiError::encode(WHAT))?)
}

#[cfg(test)]
mod tests;
