//! A certificate as it was received: its bytes, and what they say.

use std::fmt;
use std::ops::Range;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use const_oid::AssociatedOid;
use der::asn1::ObjectIdentifier;
use der::pem::LineEnding;
use der::{Decode, Encode, Reader, SliceReader};
use jiff::Timestamp;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{
    AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAltName, SubjectKeyIdentifier,
};

use super::public_key::PublicKey;
use super::verifying_key::VerifyingKey;
use super::{DistinguishedName, Fingerprint, PkiError, SerialNumber, time};

const WHAT: &str = "a certificate";

/// A parsed X.509 certificate that keeps the bytes it came as, and is compared by them. What it says about itself is
/// only believed after [`super::path::verify`].
#[derive(Clone)]
pub struct Certificate {
    der: Vec<u8>,
    tbs: Range<usize>,
    parsed: x509_cert::Certificate,
}

impl Certificate {
    /// Reads DER: exactly one certificate, and nothing after it.
    pub fn from_der(der: &[u8]) -> Result<Self, PkiError> {
        let parsed = x509_cert::Certificate::from_der(der).map_err(PkiError::decode(WHAT))?;
        if parsed.signature_algorithm() != parsed.tbs_certificate().signature() {
            return Err(PkiError::malformed(WHAT, "it names two different signature algorithms (RFC 5280 §4.1.1.2)"));
        }
        let tbs = tbs_range(der).map_err(PkiError::decode(WHAT))?;
        Ok(Self { der: der.to_vec(), tbs, parsed })
    }

    /// Reads all certificates of a PEM text in their order (other PEM blocks are passed over), or one DER certificate.
    pub fn read_all(bytes: &[u8]) -> Result<Vec<Self>, PkiError> {
        if bytes.first() == Some(&0x30) {
            return Ok(vec![Self::from_der(bytes)?]);
        }
        let text = std::str::from_utf8(bytes).map_err(|_| PkiError::malformed(WHAT, "it is neither DER nor PEM"))?;
        let (begin, end) = ("-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----");
        let mut certificates = Vec::new();
        for block in text.split(begin).skip(1) {
            let (body, _) =
                block.split_once(end).ok_or_else(|| PkiError::malformed(WHAT, "its PEM text has no end"))?;
            // Line lengths and line ends of PEM are whatever mailers and editors made of them.
            let body: String = body.chars().filter(|char| !char.is_ascii_whitespace()).collect();
            let der = STANDARD.decode(body).map_err(|error| PkiError::malformed(WHAT, error.to_string()))?;
            certificates.push(Self::from_der(&der)?);
        }
        if certificates.is_empty() {
            return Err(PkiError::malformed(WHAT, "there is no certificate in it"));
        }
        Ok(certificates)
    }

    /// The bytes it came as.
    pub fn as_der(&self) -> &[u8] {
        &self.der
    }

    /// PEM, with line feeds.
    pub fn to_pem(&self) -> Result<String, PkiError> {
        der::pem::encode_string("CERTIFICATE", LineEnding::LF, &self.der)
            .map_err(|error| PkiError::malformed(WHAT, error.to_string()))
    }

    /// The received bytes of the `TBSCertificate`, which the signature is over.
    pub fn tbs_der(&self) -> &[u8] {
        self.der.get(self.tbs.clone()).unwrap_or_default()
    }

    /// The `x509-cert` form, for structures that need it.
    pub fn as_x509(&self) -> &x509_cert::Certificate {
        &self.parsed
    }

    /// SHA-256 of the DER.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.der)
    }

    /// Whom it is for.
    pub fn subject(&self) -> DistinguishedName {
        self.parsed.tbs_certificate().subject().clone().into()
    }

    /// Who says to have signed it.
    pub fn issuer(&self) -> DistinguishedName {
        self.parsed.tbs_certificate().issuer().clone().into()
    }

    /// Its number among those of its issuer.
    pub fn serial(&self) -> SerialNumber {
        SerialNumber::from_bytes(self.parsed.tbs_certificate().serial_number().as_bytes())
    }

    /// The first second of its validity.
    pub fn not_before(&self) -> Timestamp {
        time::from_x509(&self.parsed.tbs_certificate().validity().not_before)
    }

    /// The last second of its validity.
    pub fn not_after(&self) -> Timestamp {
        time::from_x509(&self.parsed.tbs_certificate().validity().not_after)
    }

    /// Whether `at` lies within its validity, both ends included.
    pub fn is_valid_at(&self, at: Timestamp) -> bool {
        self.not_before() <= at && at.as_second() <= self.not_after().as_second()
    }

    /// DER `SubjectPublicKeyInfo`.
    pub fn public_key_der(&self) -> Result<Vec<u8>, PkiError> {
        self.parsed.tbs_certificate().subject_public_key_info().to_der().map_err(PkiError::encode("a public key"))
    }

    /// The public key, if it is one of the kinds used here.
    pub fn public_key(&self) -> Result<PublicKey, PkiError> {
        PublicKey::from_spki_der(&self.public_key_der()?)
    }

    /// The public key for checking signatures: of more kinds than are used here.
    pub fn verifying_key(&self) -> Result<VerifyingKey, PkiError> {
        VerifyingKey::from_spki_der(&self.public_key_der()?)
    }

    /// The subjectKeyIdentifier extension's octets.
    pub fn subject_key_identifier(&self) -> Option<Vec<u8>> {
        self.extension::<SubjectKeyIdentifier>().map(|identifier| identifier.0.as_bytes().to_vec())
    }

    /// The authorityKeyIdentifier extension's key identifier.
    pub fn authority_key_identifier(&self) -> Option<Vec<u8>> {
        self.extension::<AuthorityKeyIdentifier>()?.key_identifier.map(|identifier| identifier.as_bytes().to_vec())
    }

    /// The name to show: the subject's common name, else the whole subject.
    pub fn display_name(&self) -> String {
        let subject = self.subject();
        subject.common_name().unwrap_or_else(|| subject.to_string())
    }

    /// The e-mail addresses of the subjectAltName, as they are written there.
    pub fn emails(&self) -> Vec<String> {
        self.alternative_names()
            .into_iter()
            .filter_map(|name| match name {
                GeneralName::Rfc822Name(address) => Some(address.as_str().to_owned()),
                _ => None,
            })
            .collect()
    }

    /// All names of the subjectAltName extension; empty if there is none that can be read.
    pub fn alternative_names(&self) -> Vec<GeneralName> {
        self.extension::<SubjectAltName>().map(|names| names.0).unwrap_or_default()
    }

    /// The key usage extension.
    pub fn key_usage(&self) -> Option<KeyUsage> {
        self.extension()
    }

    /// The extended key usage extension's purposes; none if there is no such extension, which allows all.
    pub fn extended_key_usage(&self) -> Option<Vec<ObjectIdentifier>> {
        self.extension::<ExtendedKeyUsage>().map(|usage| usage.0)
    }

    /// The basic constraints extension.
    pub fn basic_constraints(&self) -> Option<BasicConstraints> {
        self.extension()
    }

    /// Whether it says to be a CA's.
    pub fn is_authority(&self) -> bool {
        self.basic_constraints().is_some_and(|constraints| constraints.ca)
    }

    /// Whether other people's mail programs may encrypt to it: keyEncipherment for RSA, keyAgreement for elliptic
    /// curves; without a key usage extension, yes.
    pub fn can_encrypt(&self) -> bool {
        let fits = |usage: KeyUsage| match self.public_key() {
            Ok(key) if key.is_rsa() => usage.key_encipherment(),
            Ok(_) => usage.key_agreement(),
            Err(_) => false,
        };
        self.key_usage().is_none_or(fits)
    }

    /// Whether it may sign content: digitalSignature or nonRepudiation; without a key usage extension, yes.
    pub fn can_sign(&self) -> bool {
        self.key_usage().is_none_or(|usage| usage.digital_signature() || usage.non_repudiation())
    }

    /// Checks that `issuer`'s key has signed it, and nothing else ([`super::path::verify`] checks the rest).
    pub fn verify_signature(&self, issuer: &Self) -> Result<(), PkiError> {
        let signature = self
            .parsed
            .signature()
            .as_bytes()
            .ok_or_else(|| PkiError::malformed(WHAT, "its signature does not end at an octet"))?;
        let algorithm = self.parsed.signature_algorithm();
        super::signature::verify(WHAT, &issuer.public_key_der()?, algorithm, self.tbs_der(), signature)
    }

    /// A wrong or doubled extension counts as absent here; [`super::path::verify`] refuses such a certificate.
    fn extension<T>(&self) -> Option<T>
    where
        T: for<'a> Decode<'a, Error = der::Error> + AssociatedOid,
    {
        self.parsed.tbs_certificate().get_extension::<T>().ok().flatten().map(|(_critical, value)| value)
    }
}

/// Where in a certificate's DER its first element lies.
fn tbs_range(der: &[u8]) -> der::Result<Range<usize>> {
    let mut reader = SliceReader::new(der)?;
    let header = der::Header::decode(&mut reader)?;
    header.tag().assert_eq(der::Tag::Sequence)?;
    let start = usize::try_from(reader.position())?;
    let length = reader.tlv_bytes()?.len();
    Ok(start..start + length)
}

impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.der == other.der
    }
}

impl Eq for Certificate {}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificate({}, serial {})", self.subject(), self.serial())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::software_keys::{SoftwareKey, TestAuthority};

    #[test]
    fn der_and_pem_of_any_shape_are_read() {
        let authority = TestAuthority::new("Example Authority", SoftwareKey::p256());
        let user = authority.issue("signing", "Example, User", &SoftwareKey::p256());
        assert_eq!(Certificate::read_all(user.as_der()).unwrap(), std::slice::from_ref(&user));
        let both =
            format!("subject=...\n{}\nissuer\n{}", user.to_pem().unwrap(), authority.certificate.to_pem().unwrap());
        let expected = [user.clone(), authority.certificate];
        for text in [both.clone(), both.replace('\n', "\r\n"), both.replace("\nM", "\n M")] {
            assert_eq!(Certificate::read_all(text.as_bytes()).unwrap(), expected);
        }
        let one_line = user.to_pem().unwrap().replace('\n', "");
        assert_eq!(Certificate::read_all(one_line.as_bytes()).unwrap(), [user]);
    }

    #[test]
    fn what_is_no_certificate_is_refused() {
        let authority = TestAuthority::new("Example Authority", SoftwareKey::p256()).certificate;
        let pem = authority.to_pem().unwrap();
        let cut = pem.replace("-----END CERTIFICATE-----", "");
        let damaged = pem.replace("MII", "M!I");
        let key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        for text in ["", "hello", &cut, &damaged, key, "\u{0}\u{ff}"] {
            assert!(Certificate::read_all(text.as_bytes()).is_err(), "{text}");
        }
        let der = authority.as_der();
        for bytes in [&der[..der.len() - 1], &[der, &[0]].concat(), &authority.public_key_der().unwrap(), &[0xff, 0xfe]]
        {
            assert!(Certificate::read_all(bytes).is_err());
        }
    }

    #[test]
    fn two_signature_algorithms_in_one_certificate_are_refused() {
        let certificate = TestAuthority::new("Example Authority", SoftwareKey::p256()).certificate;
        // The outer one, after the part that is signed: ecdsa-with-SHA256 becomes ecdsa-with-SHA384.
        let mut der = certificate.as_der().to_vec();
        let oid = const_oid::db::rfc5912::ECDSA_WITH_SHA_256;
        let at = der.windows(oid.as_bytes().len()).rposition(|window| window == oid.as_bytes()).unwrap();
        der[at + oid.as_bytes().len() - 1] = 3;
        assert!(Certificate::from_der(&der).unwrap_err().to_string().contains("two different"));
    }

    #[test]
    fn the_public_key_decides_what_a_certificate_can_do() {
        let authority = TestAuthority::new("Example Authority", SoftwareKey::p256());
        assert!(authority.certificate.is_authority() && !authority.certificate.can_sign());
        for key in [SoftwareKey::p256(), SoftwareKey::rsa()] {
            let (signing, encryption) =
                (authority.issue("signing", "U", &key), authority.issue("encryption", "U", &key));
            assert!(signing.can_sign() && !signing.can_encrypt() && !signing.is_authority());
            assert!(encryption.can_encrypt() && !encryption.can_sign());
            assert_eq!(signing.public_key_der().unwrap(), key.public_key_der());
            assert_eq!(signing.authority_key_identifier(), authority.certificate.subject_key_identifier());
        }
    }
}
