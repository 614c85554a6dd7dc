//! One signer of a message (RFC 5652 §5.3), and the check of its signature.

use const_oid::db::{rfc5911, rfc5912};
use der::asn1::ObjectIdentifier;
use jiff::Timestamp;
use spki::AlgorithmIdentifierOwned;

use super::ber;
use super::check_failure::CheckFailure;
use super::named_certificate::NamedCertificate;
use super::{CertificateId, read_algorithm};
use crate::pki::oid::ContentType;
use crate::pki::signature::{Hash, MessageToVerify, Scheme};
use crate::pki::tlv::{
    Element, Elements, INTEGER, OBJECT_IDENTIFIER, OCTET_STRING, SEQUENCE, SET, context_constructed, element,
};
use crate::pki::{Certificate, PkiError, WorkLeft, time};

const WHAT: &str = "a signed message";

/// The maximum number of attributes that name the certificate; RFC 5035 has one of each version.
const MOST_NAMED: usize = 8;

/// The result of checking one signer's signature. Whether its certificate is trusted is a separate
/// question ([`crate::pki::path::verify`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignatureCheck {
    /// The key of `certificate` made the signature over the content.
    Good {
        /// The signer's certificate.
        certificate: Certificate,
        /// The signing time that the signer claims, if any.
        signing_time: Option<Timestamp>,
    },
    /// The signature or the digest does not match: something was changed.
    Wrong {
        /// The certificate that the message names.
        certificate: Certificate,
        /// The reason, for people.
        reason: String,
    },
    /// The signature cannot be checked: an algorithm, a key or a certificate is unsupported or no
    /// longer accepted.
    Unchecked {
        /// The signer's identifier in the message.
        signer: CertificateId,
        /// The certificate that the message names, if it can be parsed.
        certificate: Option<Certificate>,
        /// The reason, for people.
        reason: String,
    },
    /// The signer's certificate is neither in the message nor among the known ones.
    NoCertificate {
        /// The signer's identifier in the message.
        signer: CertificateId,
    },
}

#[derive(Clone, Debug)]
pub(super) struct SignerInfo {
    pub(super) id: CertificateId,
    digest_algorithm: ObjectIdentifier,
    /// The signed attributes, or the reason why they are invalid.
    attributes: Option<Result<Attributes, String>>,
    signature_algorithm: AlgorithmIdentifierOwned,
    signature: Vec<u8>,
}

/// The signed attributes: in the forms that the signature may cover, and the ones that are
/// evaluated.
#[derive(Clone, Debug)]
struct Attributes {
    /// The attributes as a SET in DER, which the signature covers (RFC 5652 §5.4). If the message's
    /// encoding differs, that one is included too, because some programs sign the bytes that they
    /// write.
    signed: Vec<Vec<u8>>,
    content_type: ContentType,
    digest: Vec<u8>,
    /// `None` also if the attribute is repeated or not a time: it is a mere claim, and no reason to
    /// doubt the signature.
    signing_time: Option<Timestamp>,
    /// The certificate that the signer names, or the reason why it cannot be parsed; one for each
    /// attribute.
    named: Vec<Result<NamedCertificate, String>>,
}

impl SignerInfo {
    pub(super) fn from_element(element: Element<'_>) -> Result<Self, PkiError> {
        let mut parts = Elements::of(element.whole, WHAT).required(SEQUENCE)?.inside(WHAT);
        parts.required(INTEGER)?;
        let id = CertificateId::from_element(parts.any()?, WHAT)?;
        let digest_algorithm = read_algorithm(parts.required(SEQUENCE)?)?.oid;
        let attributes = parts.optional(context_constructed(0))?;
        let attributes = attributes.map(|element| Attributes::from_element(element).map_err(|error| error.reason()));
        let signature_algorithm = read_algorithm(parts.required(SEQUENCE)?)?;
        let signature = parts.required(OCTET_STRING)?.value.to_vec();
        parts.optional(context_constructed(1))?;
        parts.end()?;
        Ok(Self { id, digest_algorithm, attributes, signature_algorithm, signature })
    }

    /// Checks the signature with each certificate that matches the signer's identifier, on demand.
    /// A message may contain another certificate with the same identifier, and a key may have
    /// several certificates. Returns at least one result.
    pub(super) fn checks<'a>(
        &'a self,
        content_type: &ContentType,
        content: &'a [u8],
        certificates: &[&'a Certificate],
        work: &'a WorkLeft,
    ) -> impl Iterator<Item = SignatureCheck> + use<'a> {
        let mut fitting: Vec<&Certificate> = Vec::new();
        for certificate in certificates.iter().copied().filter(|certificate| self.id.names(certificate)) {
            if !fitting.contains(&certificate) {
                fitting.push(certificate);
            }
        }
        let no_certificate = fitting.is_empty().then(|| SignatureCheck::NoCertificate { signer: self.id.clone() });
        let forms = if fitting.is_empty() { Ok(Vec::new()) } else { self.signed(content_type, content) };
        if forms.is_err() {
            // The failure is the same for every certificate.
            fitting.truncate(1);
        }
        let check = move |certificate: &Certificate| {
            let checked = forms.as_ref().map_err(Clone::clone);
            match checked.and_then(|forms| self.check_with(forms, certificate, work)) {
                Ok(()) => SignatureCheck::Good { certificate: certificate.clone(), signing_time: self.signing_time() },
                Err(CheckFailure::Wrong(reason)) => SignatureCheck::Wrong { certificate: certificate.clone(), reason },
                Err(CheckFailure::Unchecked(reason)) => {
                    let (signer, certificate) = (self.id.clone(), Some(certificate.clone()));
                    SignatureCheck::Unchecked { signer, certificate, reason }
                }
            }
        };
        no_certificate.into_iter().chain(fitting.into_iter().map(check))
    }

    /// The messages that the signature may cover, the most common first, or the failure. Neither
    /// depends on the certificate.
    fn signed<'a>(
        &'a self,
        content_type: &ContentType,
        content: &'a [u8],
    ) -> Result<Vec<MessageToVerify<'a>>, CheckFailure> {
        let hash = Hash::from_oid(self.digest_algorithm)?;
        match &self.attributes {
            Some(Err(reason)) => Err(CheckFailure::Unchecked(reason.clone())),
            Some(Ok(attributes)) if attributes.content_type != *content_type => {
                Err(CheckFailure::wrong("it was signed as another type of content"))
            }
            Some(Ok(attributes)) if attributes.digest != hash.digest(content) => {
                Err(CheckFailure::wrong("the content is not what was signed"))
            }
            // The failures above do not depend on the signature algorithm, which may even be
            // unknown.
            Some(Ok(attributes)) => {
                let scheme = self.scheme(hash)?;
                Ok(attributes.signed.iter().map(|form| MessageToVerify::new(scheme, form)).collect())
            }
            // Only data may be signed without attributes (RFC 5652 §5.3). A content that is a set
            // of attributes could be those of another message.
            None if *content_type != ContentType::DATA || is_set_of_attributes(content) => {
                Err(CheckFailure::wrong("it has no signed attributes"))
            }
            None => Ok(vec![MessageToVerify::new(self.scheme(hash)?, content)]),
        }
    }

    fn check_with(
        &self,
        forms: &[MessageToVerify<'_>],
        certificate: &Certificate,
        work: &WorkLeft,
    ) -> Result<(), CheckFailure> {
        let key = certificate.verifying_key()?;
        for form in forms {
            work.take_signatures(form.cost())?;
            match form.verify(WHAT, &key, &self.signature) {
                Err(PkiError::WrongSignature(_)) => {}
                other => return other.map_err(CheckFailure::from).and_then(|()| self.check_named(certificate)),
            }
        }
        Err(PkiError::WrongSignature(WHAT).into())
    }

    /// Checks that every attribute that names a certificate names this one.
    fn check_named(&self, certificate: &Certificate) -> Result<(), CheckFailure> {
        let Some(Ok(attributes)) = &self.attributes else { return Ok(()) };
        let mut doubt = Ok(());
        for named in &attributes.named {
            match named
                .as_ref()
                .map_err(|reason| CheckFailure::Unchecked(reason.clone()))
                .and_then(|named| named.check(certificate))
            {
                Ok(()) => {}
                Err(CheckFailure::Unchecked(reason)) => doubt = Err(CheckFailure::Unchecked(reason)),
                wrong => return wrong,
            }
        }
        doubt
    }

    fn signing_time(&self) -> Option<Timestamp> {
        self.attributes.as_ref()?.as_ref().ok()?.signing_time
    }

    /// The signature scheme (RFC 5754). The algorithm includes the hash or, for RSA and in some
    /// programs for ECDSA, names only the key's algorithm.
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
        let (mut content_type, mut digest) = (None, None);
        let (mut signing_times, mut named) = (Vec::new(), Vec::new());
        for attribute in element.inside(WHAT).all()? {
            let mut parts = Elements::of(attribute.whole, WHAT).required(SEQUENCE)?.inside(WHAT);
            let kind = parts.required(OBJECT_IDENTIFIER)?.value;
            let values = parts.required(SET)?.inside(WHAT);
            parts.end()?;
            if kind == rfc5911::ID_CONTENT_TYPE.as_bytes() {
                once(&mut content_type, ContentType::from_contents(values.only()?.value))?;
            } else if kind == rfc5911::ID_MESSAGE_DIGEST.as_bytes() {
                once(&mut digest, values.only()?.value.to_vec())?;
            } else if kind == rfc5911::ID_SIGNING_TIME.as_bytes() {
                signing_times.push(values.only().ok().and_then(|value| time::read(value).ok()));
            } else if kind == rfc5911::ID_AA_SIGNING_CERTIFICATE.as_bytes() {
                named.push(NamedCertificate::from_values(values, false).map_err(|error| error.to_string()));
            } else if kind == rfc5911::ID_AA_SIGNING_CERTIFICATE_V_2.as_bytes() {
                named.push(NamedCertificate::from_values(values, true).map_err(|error| error.to_string()));
            }
        }
        if named.len() > MOST_NAMED {
            return Err(PkiError::malformed(WHAT, "it names its signing certificate too often"));
        }
        let missing = || PkiError::malformed(WHAT, "its signed attributes lack the content type or the digest");
        Ok(Self {
            signed: forms(element),
            content_type: content_type.ok_or_else(missing)?,
            digest: digest.ok_or_else(missing)?,
            signing_time: if let [only] = signing_times[..] { only } else { None },
            named,
        })
    }
}

/// The encodings of the attributes that a signature may cover: DER first; then, where they differ,
/// the attributes in the message's order, which OpenSSL verifies, and the message's octets with the
/// SET tag.
fn forms(attributes: Element<'_>) -> Vec<Vec<u8>> {
    let as_set = |whole: &[u8]| {
        let mut set = whole.to_vec();
        if let Some(tag) = set.first_mut() {
            *tag = SET;
        }
        set
    };
    let mut forms = Vec::new();
    if let Some(short) = ber::with_shortest_lengths(attributes.whole) {
        let mut parts: Vec<&[u8]> = Vec::new();
        let inside = Elements::of(&short, WHAT).any().and_then(|set| set.inside(WHAT).all()).unwrap_or_default();
        parts.extend(inside.iter().map(|element| element.whole));
        parts.sort_unstable();
        forms.push(element(SET, &parts));
        forms.push(as_set(&short));
    }
    forms.push(as_set(attributes.whole));
    forms.dedup();
    forms
}

/// Whether the content is a SET OF Attribute, which is what a signature over signed attributes
/// covers.
fn is_set_of_attributes(content: &[u8]) -> bool {
    let read_attribute = |set: &mut Elements<'_>| {
        let mut parts = set.required(SEQUENCE)?.inside(WHAT);
        parts.required(OBJECT_IDENTIFIER)?;
        parts.required(SET)?;
        parts.end()
    };
    let mut outer = Elements::of(content, WHAT);
    let Ok(mut attributes) = outer.required(SET).map(|set| set.inside(WHAT)) else { return false };
    // Reads one attribute at a time: a list of all would be larger than the content.
    let mut has_any = false;
    while !attributes.is_empty() {
        if read_attribute(&mut attributes).is_err() {
            return false;
        }
        has_any = true;
    }
    has_any && outer.end().is_ok()
}

/// Stores the value of an attribute that must not be repeated (RFC 5652 §11).
fn once<T>(place: &mut Option<T>, value: T) -> Result<(), PkiError> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(PkiError::malformed(WHAT, "it has a repeated signed attribute")),
    }
}
