//! A certificate as received: its bytes and its fields.

use std::fmt;
use std::ops::Range;

use const_oid::AssociatedOid;
use const_oid::db::rfc5280;
use der::Decode;
use der::asn1::ObjectIdentifier;
use der::pem::LineEnding;
use jiff::Timestamp;
use spki::AlgorithmIdentifierOwned;
use x509_cert::ext::pkix::{BasicConstraints, KeyUsage, SubjectKeyIdentifier};

use self::fields::Fields;
use super::email::{is_mailbox, same_address};
use super::general_name::{GeneralName, parse_general_names};
use super::public_key::PublicKey;
use super::signature::VerifyingKey;
use super::tlv::{Element, Elements, OBJECT_IDENTIFIER, SEQUENCE, context};
use super::{DistinguishedName, Fingerprint, PkiError, SerialNumber};

mod fields;

pub(super) use fields::Extension;

const WHAT: &str = "a certificate";

/// A parsed X.509 certificate. It keeps the bytes that were received, and two certificates are
/// equal if their bytes are. Trust its contents only after [`super::path::verify`].
#[derive(Clone)]
pub struct Certificate {
    der: Vec<u8>,
    fields: Fields,
}

impl Certificate {
    /// Parses strict DER: exactly one certificate, without trailing bytes. For certificates of
    /// tokenkeep's own authorities, and wherever a certificate must have a unique encoding.
    pub fn from_der(der: &[u8]) -> Result<Self, PkiError> {
        x509_cert::Certificate::from_der(der).map_err(PkiError::decode(WHAT))?;
        Self::from_foreign_der(der)
    }

    /// Parses a certificate of any issuer. It accepts harmless deviations from DER and RFC 5280:
    /// unusual BOOLEANs and lengths, long serial numbers, every string type, all years.
    pub fn from_foreign_der(der: &[u8]) -> Result<Self, PkiError> {
        Ok(Self { der: der.to_vec(), fields: Fields::read(der)? })
    }

    /// The bytes that were received.
    pub fn as_der(&self) -> &[u8] {
        &self.der
    }

    /// The certificate in PEM, with LF line ends.
    pub fn to_pem(&self) -> Result<String, PkiError> {
        der::pem::encode_string("CERTIFICATE", LineEnding::LF, &self.der)
            .map_err(|error| PkiError::malformed(WHAT, error.to_string()))
    }

    /// The received bytes of the `TBSCertificate`, which the signature covers.
    pub fn tbs_der(&self) -> &[u8] {
        self.part(&self.fields.tbs)
    }

    fn part(&self, place: &Range<usize>) -> &[u8] {
        self.der.get(place.clone()).unwrap_or_default()
    }

    /// SHA-256 of the DER.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.der)
    }

    pub fn subject(&self) -> DistinguishedName {
        self.fields.subject.clone()
    }

    /// The subject, by reference.
    pub fn subject_name(&self) -> &DistinguishedName {
        &self.fields.subject
    }

    /// The issuer that the certificate names.
    pub fn issuer(&self) -> DistinguishedName {
        self.fields.issuer.clone()
    }

    pub fn serial(&self) -> SerialNumber {
        self.fields.serial.clone()
    }

    /// The first second of the validity.
    pub fn not_before(&self) -> Timestamp {
        self.fields.not_before
    }

    /// The last second of the validity.
    pub fn not_after(&self) -> Timestamp {
        self.fields.not_after
    }

    /// Whether `at` is within the validity, both ends included.
    pub fn is_valid_at(&self, at: Timestamp) -> bool {
        self.not_before() <= at && at.as_second() <= self.not_after().as_second()
    }

    /// The `SubjectPublicKeyInfo`, in DER.
    pub fn public_key_der(&self) -> Result<Vec<u8>, PkiError> {
        Ok(self.part(&self.fields.public_key).to_vec())
    }

    /// The algorithm that the `SubjectPublicKeyInfo` names.
    pub fn public_key_algorithm(&self) -> Result<AlgorithmIdentifierOwned, PkiError> {
        let wrong = PkiError::decode("a public key");
        spki::SubjectPublicKeyInfoOwned::from_der(self.part(&self.fields.public_key))
            .map(|key| key.algorithm)
            .map_err(wrong)
    }

    /// The public key. An error if its kind is not used here.
    pub fn public_key(&self) -> Result<PublicKey, PkiError> {
        PublicKey::from_spki_der(&self.public_key_der()?)
    }

    /// The public key for verifying signatures, which may be of more kinds than [`PublicKey`].
    pub fn verifying_key(&self) -> Result<VerifyingKey, PkiError> {
        VerifyingKey::from_spki_der(&self.public_key_der()?)
    }

    /// The octets of the subjectKeyIdentifier extension.
    pub fn subject_key_identifier(&self) -> Option<Vec<u8>> {
        self.extension::<SubjectKeyIdentifier>().map(|identifier| identifier.0.as_bytes().to_vec())
    }

    /// The keyIdentifier of the authorityKeyIdentifier extension.
    pub fn authority_key_identifier(&self) -> Option<Vec<u8>> {
        let value = self.extension_value(rfc5280::ID_CE_AUTHORITY_KEY_IDENTIFIER)?;
        let mut parts = Elements::of(value, WHAT).required(SEQUENCE).ok()?.inside(WHAT);
        Some(parts.optional(context(0)).ok()??.value.to_vec())
    }

    /// The name to display: the subject's common name or, if it is missing, the whole subject.
    pub fn display_name(&self) -> String {
        let subject = self.subject();
        subject.common_name().unwrap_or_else(|| subject.to_string())
    }

    /// The e-mail addresses without repetition: those of the subjectAltName (including
    /// `SmtpUTF8Mailbox`), then those of the subject (RFC 8550 §3). A value that is not plainly one
    /// mailbox is omitted, so that no result can be read as two.
    pub fn emails(&self) -> Vec<String> {
        let alternative = self.alternative_names().into_iter().filter_map(|name| match name {
            GeneralName::Email(address) | GeneralName::Utf8Mailbox(address) => Some(address),
            _ => None,
        });
        let mut emails: Vec<String> = Vec::new();
        for email in alternative.chain(self.fields.subject.email_addresses()).filter(|email| is_mailbox(email)) {
            if !emails.iter().any(|other| same_address(other, &email)) {
                emails.push(email);
            }
        }
        emails
    }

    /// All names of the subjectAltName extension; empty if it is missing or unreadable.
    pub fn alternative_names(&self) -> Vec<GeneralName> {
        self.extension_value(rfc5280::ID_CE_SUBJECT_ALT_NAME).map(parse_general_names).unwrap_or_default()
    }

    /// The keyUsage extension.
    pub fn key_usage(&self) -> Option<KeyUsage> {
        self.extension()
    }

    /// The purposes in the extKeyUsage extension; `None` if it is missing, which allows all
    /// purposes.
    pub fn extended_key_usage(&self) -> Option<Vec<ObjectIdentifier>> {
        let value = self.extension_value(rfc5280::ID_CE_EXT_KEY_USAGE)?;
        let purposes = Elements::of(value, WHAT).required(SEQUENCE).ok()?.inside(WHAT).all().ok()?;
        // `const-oid` cannot hold some object identifiers. No caller asks for those.
        let purpose = |element: Element<'_>| {
            (element.tag() == OBJECT_IDENTIFIER).then(|| ObjectIdentifier::from_bytes(element.value).ok()).flatten()
        };
        Some(purposes.into_iter().filter_map(purpose).collect())
    }

    /// The basicConstraints extension.
    pub fn basic_constraints(&self) -> Option<BasicConstraints> {
        self.extension()
    }

    /// Whether the certificate claims to be a CA's.
    pub fn is_authority(&self) -> bool {
        self.basic_constraints().is_some_and(|constraints| constraints.ca)
    }

    /// Whether mail programs may encrypt to this certificate: keyEncipherment for RSA, keyAgreement
    /// for elliptic curves. Without a keyUsage extension they may.
    pub fn can_encrypt(&self) -> bool {
        let fits = |usage: KeyUsage| match self.public_key() {
            Ok(key) if key.is_rsa() => usage.key_encipherment(),
            Ok(_) => usage.key_agreement(),
            Err(_) => false,
        };
        self.key_usage().is_none_or(fits)
    }

    /// Whether the key may sign content: digitalSignature or nonRepudiation. Without a keyUsage
    /// extension it may.
    pub fn can_sign(&self) -> bool {
        self.key_usage().is_none_or(|usage| usage.digital_signature() || usage.non_repudiation())
    }

    /// Checks only that `issuer`'s key made the signature ([`super::path::verify`] checks the
    /// rest).
    pub fn verify_signature(&self, issuer: &Self) -> Result<(), PkiError> {
        let Some((0, signature)) = self.part(&self.fields.signature).split_first() else {
            return Err(PkiError::malformed(WHAT, "its signature is not a whole number of octets"));
        };
        let algorithm = AlgorithmIdentifierOwned::from_der(self.part(&self.fields.signature_algorithm))
            .map_err(PkiError::decode("a signature algorithm"))?;
        super::signature::verify(WHAT, &issuer.public_key_der()?, &algorithm, self.tbs_der(), signature)
    }

    /// All extensions, in their order.
    pub(super) fn extensions(&self) -> &[Extension] {
        &self.fields.extensions
    }

    /// The value of an extension. A repeated extension counts as absent; [`super::path::verify`]
    /// refuses such a certificate.
    pub(super) fn extension_value(&self, id: ObjectIdentifier) -> Option<&[u8]> {
        let mut fitting = self.fields.extensions.iter().filter(|extension| extension.id == id.as_bytes());
        let only = fitting.next()?;
        if fitting.next().is_some() { None } else { Some(&only.value) }
    }

    /// The decoded value of an extension. An invalid one counts as absent.
    fn extension<T>(&self) -> Option<T>
    where
        T: for<'a> Decode<'a, Error = der::Error> + AssociatedOid,
    {
        T::from_der(self.extension_value(T::OID)?).ok()
    }
}

/// A certificate that cannot be parsed, with the parts that can.
#[derive(Clone, Debug)]
pub(super) struct UnreadableCertificate {
    der: Vec<u8>,
    name: Option<(DistinguishedName, SerialNumber)>,
    /// The reason, for people.
    pub(super) reason: String,
}

impl UnreadableCertificate {
    pub(super) fn new(der: &[u8], error: &PkiError) -> Self {
        Self { der: der.to_vec(), name: fields::issuer_and_serial(der), reason: error.reason() }
    }

    /// Whether it has this issuer and serial number.
    pub(super) fn is(&self, issuer: &DistinguishedName, serial: &SerialNumber) -> bool {
        self.name.as_ref().is_some_and(|(own_issuer, own_serial)| own_issuer == issuer && own_serial == serial)
    }

    /// Whether these octets occur in it, because the position of its key identifier is unknown.
    pub(super) fn has(&self, octets: &[u8]) -> bool {
        !octets.is_empty() && self.der.windows(octets.len()).any(|window| window == octets)
    }
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
mod tests;
