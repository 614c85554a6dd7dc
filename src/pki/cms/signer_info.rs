//! One signer of a message (RFC 5652 §5.3), and the check of one signature.

use const_oid::db::{rfc5911, rfc5912};
use der::Decode;
use der::asn1::ObjectIdentifier;
use jiff::Timestamp;
use spki::AlgorithmIdentifierOwned;
use x509_cert::time::Time;

use super::CertificateId;
use super::tlv::{Element, Elements, INTEGER, OBJECT_IDENTIFIER, OCTET_STRING, SEQUENCE, SET, context_constructed};
use crate::pki::oid::ContentType;
use crate::pki::signature::{Hash, Scheme, verify_with};
use crate::pki::{Certificate, PkiError, time};

const WHAT: &str = "a signed message";

/// What the signature of one signer amounts to. Whether its certificate is believed is another question
/// ([`crate::pki::path::verify`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignatureCheck {
    /// The signature is that of `certificate` over the content.
    Good {
        /// Whose it is.
        certificate: Certificate,
        /// The time the signer claims, if any.
        signing_time: Option<Timestamp>,
    },
    /// The signature or the digest is wrong: somebody changed something.
    Wrong {
        /// Whose it should be.
        certificate: Certificate,
        /// What does not fit, for people.
        reason: String,
    },
    /// Nobody here can tell whether the signature is right: an algorithm, a key or a certificate that this program does
    /// not use, or does not take any more.
    Unchecked {
        /// How the message names the signer.
        signer: CertificateId,
        /// Whose it should be, if that certificate can be read.
        certificate: Option<Certificate>,
        /// Why not, for people.
        reason: String,
    },
    /// The signer's certificate is neither in the message nor among those that were given.
    NoCertificate {
        /// How the message names the signer.
        signer: CertificateId,
    },
}

/// Why a signature is not good.
enum Doubt {
    Wrong(String),
    Unchecked(String),
}

impl Doubt {
    fn wrong(reason: &str) -> Self {
        Self::Wrong(reason.to_owned())
    }
}

impl From<PkiError> for Doubt {
    fn from(error: PkiError) -> Self {
        match error {
            PkiError::WrongSignature(_) => Self::wrong("the signature is not that of this certificate's key"),
            PkiError::Outdated(what) => Self::Unchecked(format!("{what} is no longer safe")),
            PkiError::Unsupported { what, reason } => Self::Unchecked(format!("{what}: {reason}")),
            other => Self::Unchecked(other.to_string()),
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct SignerInfo {
    id: CertificateId,
    digest_algorithm: ObjectIdentifier,
    attributes: Option<Attributes>,
    signature_algorithm: AlgorithmIdentifierOwned,
    signature: Vec<u8>,
}

/// The signed attributes: as the signature covers them, and the three that count.
#[derive(Clone, Debug)]
struct Attributes {
    /// With the tag of a SET OF, otherwise as received (RFC 5652 §5.4).
    signed: Vec<u8>,
    content_type: ContentType,
    digest: Vec<u8>,
    signing_time: Option<Timestamp>,
}

impl SignerInfo {
    pub(super) fn from_element(element: Element<'_>) -> Result<Self, PkiError> {
        let mut parts = Elements::of(element.whole, WHAT).required(SEQUENCE)?.inside(WHAT);
        parts.required(INTEGER)?;
        let id = CertificateId::from_element(parts.any()?, WHAT)?;
        let digest_algorithm = algorithm(parts.required(SEQUENCE)?)?.oid;
        let attributes = parts.optional(context_constructed(0))?.map(Attributes::from_element).transpose()?;
        let signature_algorithm = algorithm(parts.required(SEQUENCE)?)?;
        let signature = parts.required(OCTET_STRING)?.value.to_vec();
        parts.optional(context_constructed(1))?;
        parts.end()?;
        Ok(Self { id, digest_algorithm, attributes, signature_algorithm, signature })
    }

    /// Checks against the first certificate that fits the name and whose key fits the signature; a message may bring a
    /// certificate that only has the same name.
    pub(super) fn check(
        &self,
        content_type: &ContentType,
        content: &[u8],
        certificates: &[&Certificate],
    ) -> SignatureCheck {
        let mut answer = SignatureCheck::NoCertificate { signer: self.id.clone() };
        for certificate in certificates.iter().copied().filter(|certificate| self.id.names(certificate)) {
            match self.check_with(content_type, content, certificate) {
                Ok(()) => {
                    let signing_time = self.attributes.as_ref().and_then(|attributes| attributes.signing_time);
                    return SignatureCheck::Good { certificate: certificate.clone(), signing_time };
                }
                Err(Doubt::Wrong(reason)) => {
                    answer = SignatureCheck::Wrong { certificate: certificate.clone(), reason };
                }
                Err(Doubt::Unchecked(_)) if matches!(answer, SignatureCheck::Wrong { .. }) => {}
                Err(Doubt::Unchecked(reason)) => {
                    let (signer, certificate) = (self.id.clone(), Some(certificate.clone()));
                    answer = SignatureCheck::Unchecked { signer, certificate, reason };
                }
            }
        }
        answer
    }

    fn check_with(&self, content_type: &ContentType, content: &[u8], certificate: &Certificate) -> Result<(), Doubt> {
        let hash = Hash::from_oid(self.digest_algorithm)?;
        let signed = match &self.attributes {
            Some(attributes) => {
                if attributes.content_type != *content_type {
                    return Err(Doubt::wrong("it was signed as another type of content"));
                }
                if attributes.digest != hash.digest(content) {
                    return Err(Doubt::wrong("the content is not what was signed"));
                }
                &attributes.signed
            }
            // RFC 5652 §5.3: only data may be signed without attributes. And what looks like a set of attributes could
            // be those of another message, taken for content.
            None if *content_type != ContentType::DATA || content.first() == Some(&SET) => {
                return Err(Doubt::wrong("it has no signed attributes"));
            }
            None => content,
        };
        let key = certificate.verifying_key()?;
        let scheme = self.scheme(hash)?;
        Ok(verify_with(WHAT, &key, scheme, signed, &self.signature)?)
    }

    /// RFC 5754: the algorithm names the hash too, or (RSA; some programs for ECDSA) only the key's algorithm.
    fn scheme(&self, hash: Hash) -> Result<Scheme, PkiError> {
        match self.signature_algorithm.oid {
            rfc5912::RSA_ENCRYPTION => Ok(Scheme::Pkcs1(hash)),
            rfc5912::ID_EC_PUBLIC_KEY => Ok(Scheme::Ecdsa(hash)),
            _ => Scheme::from_algorithm(&self.signature_algorithm),
        }
    }
}

impl Attributes {
    fn from_element(element: Element<'_>) -> Result<Self, PkiError> {
        let (mut content_type, mut digest, mut signing_time) = (None, None, None);
        for attribute in element.inside(WHAT).all()? {
            let mut parts = Elements::of(attribute.whole, WHAT).required(SEQUENCE)?.inside(WHAT);
            let kind = parts.required(OBJECT_IDENTIFIER)?.value;
            let values = parts.required(SET)?.inside(WHAT);
            parts.end()?;
            if kind == rfc5911::ID_CONTENT_TYPE.as_bytes() {
                once(&mut content_type, ContentType::from_contents(only(values)?.value))?;
            } else if kind == rfc5911::ID_MESSAGE_DIGEST.as_bytes() {
                once(&mut digest, only(values)?.value.to_vec())?;
            } else if kind == rfc5911::ID_SIGNING_TIME.as_bytes() {
                let time = Time::from_der(only(values)?.whole).map_err(PkiError::decode(WHAT))?;
                once(&mut signing_time, time::from_x509(&time))?;
            }
        }
        let missing = || PkiError::malformed(WHAT, "its signed attributes lack the content type or the digest");
        let mut signed = element.whole.to_vec();
        if let Some(tag) = signed.first_mut() {
            *tag = SET;
        }
        Ok(Self {
            signed,
            content_type: content_type.ok_or_else(missing)?,
            digest: digest.ok_or_else(missing)?,
            signing_time,
        })
    }
}

/// RFC 5652 §11: these attributes have exactly one value.
fn only(values: Elements<'_>) -> Result<Element<'_>, PkiError> {
    let mut rest = values;
    let value = rest.any()?;
    rest.end()?;
    Ok(value)
}

/// RFC 5652 §11: and stand there once.
fn once<T>(place: &mut Option<T>, value: T) -> Result<(), PkiError> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(PkiError::malformed(WHAT, "it has a signed attribute twice")),
    }
}

fn algorithm(element: Element<'_>) -> Result<AlgorithmIdentifierOwned, PkiError> {
    AlgorithmIdentifierOwned::from_der(element.whole).map_err(PkiError::decode("an algorithm identifier"))
}
