//! SignedData (RFC 5652 §5): content, and signatures over it with signed attributes.

use std::sync::LazyLock;

use const_oid::ObjectIdentifier;
use const_oid::db::rfc5911;
use der::Encode;
use jiff::Timestamp;
use signature::Signer;
use spki::{DynSignatureAlgorithmIdentifier, SignatureBitStringEncoding};

use super::signer_info::{SignatureCheck, SignerInfo};
use super::tlv::{
    Elements, INTEGER, OBJECT_IDENTIFIER, OCTET_STRING, SEQUENCE, SET, context_constructed, element, set_of,
};
use super::{CertificateId, SigningCertificate, content_info, oid, open_content_info};
use crate::pki::certificate::UnreadableCertificate;
use crate::pki::oid::ContentType;
use crate::pki::signature::Hash;
use crate::pki::{Certificate, PkiError, WorkLeft, time};

pub(super) const WHAT: &str = "a signed message";

/// The maximum number of signers in a message. More would be an attack on the verifier's time.
const MAX_SIGNERS: usize = 16;

/// The maximum number of certificates that are parsed in a message.
const MAX_CERTIFICATES: usize = 64;

/// The maximum size of a certificate in a message, in octets. Each search for an issuer computes
/// its digest again.
const LONGEST_CERTIFICATE: usize = 1 << 18;

/// The content to be signed, and the options. The caller is responsible for `content_type`:
/// endpoints that sign for people refuse [`ContentType::is_reserved`].
#[derive(Clone, Debug)]
pub struct ContentToSign<'a> {
    /// The type of the content.
    pub content_type: ContentType,
    /// The content's bytes, exactly as they are signed.
    pub content: &'a [u8],
    /// Whether the content stays outside the message (a detached signature).
    pub detached: bool,
    /// The signer's certificate, and the certificates to include.
    pub signer: &'a SigningCertificate,
    /// The value of the signingTime attribute.
    pub signing_time: Timestamp,
    /// Whether to list the ciphers that the signer's program supports (sMIMECapabilities, RFC 8551
    /// §2.5.2).
    pub capabilities: bool,
}

/// Signs once, and returns a DER `ContentInfo`. It is an error if the signer's algorithm does not
/// match the certificate's key. The signature is verified with the certificate before it is
/// returned.
pub fn sign<S, G>(to_sign: &ContentToSign<'_>, signer: &S) -> Result<Vec<u8>, PkiError>
where
    S: Signer<G> + DynSignatureAlgorithmIdentifier,
    G: SignatureBitStringEncoding,
{
    let signature_algorithm = signer
        .signature_algorithm_identifier()
        .map_err(|error| PkiError::unsupported("the signing key", error.to_string()))?;
    let prepared = PreparedSignature::new(to_sign.clone())?;
    if *to_sign.signer.algorithm() != signature_algorithm {
        return Err(PkiError::unsupported("the signing key", "it does not belong to the signer's certificate"));
    }
    let signature =
        signer.try_sign(&prepared.signed_attributes).map_err(|source| PkiError::Sign { what: WHAT, source })?;
    let signature = signature.to_bitstring().map_err(PkiError::encode("a signature"))?;
    prepared.check(signature.raw_bytes())?;
    Ok(prepared.finish(signature.raw_bytes()))
}

/// A message without its signature, for a signature that is made elsewhere.
#[derive(Debug)]
pub struct PreparedSignature<'a> {
    to_sign: ContentToSign<'a>,
    signed_attributes: Vec<u8>,
}

impl<'a> PreparedSignature<'a> {
    /// Fails if the signing time is before 1970.
    pub fn new(to_sign: ContentToSign<'a>) -> Result<Self, PkiError> {
        let signed_attributes = set_of(SET, to_sign.attributes(to_sign.signer.scheme().hash())?);
        Ok(Self { to_sign, signed_attributes })
    }

    /// The bytes to be signed: the DER of the signed attributes (RFC 5652 §5.4). The hash is the
    /// usual one for the certificate's key.
    pub fn signed_attributes(&self) -> &[u8] {
        &self.signed_attributes
    }

    /// Verifies a signature with the certificate's key.
    pub fn check(&self, signature: &[u8]) -> Result<(), PkiError> {
        self.to_sign.signer.check(WHAT, &self.signed_attributes, signature)
    }

    /// Completes the message, a DER `ContentInfo`.
    pub fn finish(self, signature: &[u8]) -> Vec<u8> {
        let signer = self.to_sign.signer;
        // The message has the tag [0] on the attributes; the signature covers them with the SET
        // tag.
        let mut attributes = self.signed_attributes;
        if let Some(tag) = attributes.first_mut() {
            *tag = context_constructed(0);
        }
        let signer_info = element(
            SEQUENCE,
            &[
                &element(INTEGER, &[&[1]]),
                &signer.identifier,
                &signer.digest_algorithm,
                &attributes,
                &signer.signature_algorithm,
                &element(OCTET_STRING, &[signature]),
            ],
        );
        content_info(rfc5911::ID_SIGNED_DATA, &self.to_sign.signed_data(&signer_info))
    }
}

/// The attribute sMIMECapabilities.
static CAPABILITIES: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let ciphers = [rfc5911::ID_AES_256_GCM, rfc5911::ID_AES_256_CBC, rfc5911::ID_AES_128_GCM, rfc5911::ID_AES_128_CBC];
    let ciphers = ciphers.map(|cipher| element(SEQUENCE, &[&oid(cipher)]));
    attribute(rfc5911::SMIME_CAPABILITIES, &element(SEQUENCE, &[&ciphers.concat()]))
});

fn attribute(kind: ObjectIdentifier, value: &[u8]) -> Vec<u8> {
    element(SEQUENCE, &[&oid(kind), &element(SET, &[value])])
}

impl ContentToSign<'_> {
    /// The signed attributes (RFC 5652 §11, RFC 8551 §2.5): content type, digest, time and the
    /// supported ciphers.
    fn attributes(&self, hash: Hash) -> Result<Vec<Vec<u8>>, PkiError> {
        let time = time::to_x509(self.signing_time)?.to_der().map_err(PkiError::encode("a time"))?;
        let content_type = element(OBJECT_IDENTIFIER, &[self.content_type.as_contents()]);
        let digest = element(OCTET_STRING, &[&hash.digest(self.content)]);
        let mut attributes = vec![
            attribute(rfc5911::ID_CONTENT_TYPE, &content_type),
            attribute(rfc5911::ID_MESSAGE_DIGEST, &digest),
            attribute(rfc5911::ID_SIGNING_TIME, &time),
        ];
        if self.capabilities {
            attributes.push(CAPABILITIES.clone());
        }
        Ok(attributes)
    }

    fn signed_data(&self, signer_info: &[u8]) -> Vec<u8> {
        // The version is 3 unless the content is plain data (RFC 5652 §5.1).
        let version = if self.content_type == ContentType::DATA { 1 } else { 3 };
        let content = if self.detached {
            Vec::new()
        } else {
            element(context_constructed(0), &[&element(OCTET_STRING, &[self.content])])
        };
        let content_type = element(OBJECT_IDENTIFIER, &[self.content_type.as_contents()]);
        element(
            SEQUENCE,
            &[
                &element(INTEGER, &[&[version]]),
                &element(SET, &[&self.signer.digest_algorithm]),
                &element(SEQUENCE, &[&content_type, &content]),
                &self.signer.certificates,
                &element(SET, &[signer_info]),
            ],
        )
    }
}

/// A received SignedData, in its parts. Nothing is verified yet.
#[derive(Clone, Debug)]
pub struct SignedMessage {
    content_type: ContentType,
    content: Option<Vec<u8>>,
    certificates: Vec<Certificate>,
    unreadable: Vec<UnreadableCertificate>,
    /// Whether it has more than [`MAX_CERTIFICATES`] certificates.
    has_more: bool,
    signers: Vec<SignerInfo>,
}

impl SignedMessage {
    /// Parses a `ContentInfo` with SignedData in DER or BER. It must have 1 to 16 signers.
    pub fn parse(bytes: &[u8]) -> Result<Self, PkiError> {
        let (outer_type, signed_data) = open_content_info(bytes, WHAT)?;
        if outer_type != ContentType::from(rfc5911::ID_SIGNED_DATA) {
            return Err(PkiError::malformed(WHAT, "it is not signed"));
        }
        let mut outer = Elements::of(&signed_data, WHAT);
        let mut parts = outer.required(SEQUENCE)?.inside(WHAT);
        outer.end()?;
        parts.required(INTEGER)?;
        parts.required(SET)?; // the digest algorithms, which each signer repeats
        let mut encapsulated = parts.required(SEQUENCE)?.inside(WHAT);
        let content_type = ContentType::from_contents(encapsulated.required(OBJECT_IDENTIFIER)?.value);
        let content = match encapsulated.optional(context_constructed(0))? {
            Some(explicit) => Some(explicit.inside(WHAT).required(OCTET_STRING)?.value.to_vec()),
            None => None,
        };
        encapsulated.end()?;
        let (mut certificates, mut unreadable, mut has_more) = (Vec::new(), Vec::new(), false);
        if let Some(set) = parts.optional(context_constructed(0))? {
            let elements = set.inside(WHAT).all()?;
            // Attribute certificates and other formats have other tags. They are not signers'
            // certificates here.
            for (place, element) in elements.iter().filter(|element| element.tag() == SEQUENCE).enumerate() {
                if place >= MAX_CERTIFICATES {
                    has_more = true;
                    break;
                }
                let read = if element.whole.len() > LONGEST_CERTIFICATE {
                    Err(PkiError::unsupported("a certificate", "it is longer than 256 KiB"))
                } else {
                    Certificate::from_foreign_der(element.whole)
                };
                match read {
                    Ok(certificate) => certificates.push(certificate),
                    Err(error) => unreadable.push(UnreadableCertificate::new(element.whole, &error)),
                }
            }
        }
        parts.optional(context_constructed(1))?; // revocation lists, which are not trusted in a message
        let signers = parts.required(SET)?.inside(WHAT).all()?;
        parts.end()?;
        if signers.is_empty() || signers.len() > MAX_SIGNERS {
            return Err(PkiError::malformed(
                WHAT,
                format!("it has {} signers; 1 to {MAX_SIGNERS} are supported", signers.len()),
            ));
        }
        let signers = signers.into_iter().map(SignerInfo::from_element).collect::<Result<_, _>>()?;
        Ok(Self { content_type, content, certificates, unreadable, has_more, signers })
    }

    /// The content type, from the part that every signer signs.
    pub fn content_type(&self) -> &ContentType {
        &self.content_type
    }

    /// The content; `None` if it is detached.
    pub fn content(&self) -> Option<&[u8]> {
        self.content.as_deref()
    }

    /// The readable certificates in the message; untrusted.
    pub fn certificates(&self) -> &[Certificate] {
        &self.certificates
    }

    /// Checks each signer's signature over the content, or over `detached` if the message has no
    /// content, in the message's order. Certificates are searched among `known`, then in the
    /// message. If several match a signer, the first with a valid signature counts. It is an error
    /// if there is no content, or if both contents exist and differ.
    pub fn verify(&self, detached: Option<&[u8]>, known: &[Certificate]) -> Result<Vec<SignatureCheck>, PkiError> {
        let rank = |check: &SignatureCheck| match check {
            SignatureCheck::Good { .. } => 0,
            SignatureCheck::Wrong { .. } => 1,
            SignatureCheck::Unchecked { .. } => 2,
            SignatureCheck::NoCertificate { .. } => 3,
        };
        let work = WorkLeft::for_message();
        let checks = self.verify_with_each(detached, known, &work)?.into_iter();
        Ok(checks.filter_map(|checks| best_of(checks.map(|check| (rank(&check), check)))).collect())
    }

    /// Checks each signer with each matching certificate, and returns at least one result for each
    /// signer. Each result is computed on demand. The caller decides which certificate to trust.
    pub fn verify_with_each<'a>(
        &'a self,
        detached: Option<&'a [u8]>,
        known: &'a [Certificate],
        work: &'a WorkLeft,
    ) -> Result<Vec<impl Iterator<Item = SignatureCheck> + use<'a>>, PkiError> {
        let content = match (self.content(), detached) {
            (Some(content), None) | (None, Some(content)) => content,
            (Some(content), Some(detached)) if content == detached => content,
            (Some(_), Some(_)) => {
                return Err(PkiError::malformed(WHAT, "its content differs from the given file"));
            }
            (None, None) => return Err(PkiError::malformed(WHAT, "its content is missing")),
        };
        let certificates: Vec<&Certificate> = known.iter().chain(&self.certificates).collect();
        let checks = |signer: &'a SignerInfo| {
            let checks = signer.checks(&self.content_type, content, &certificates, work);
            checks.map(|check| self.name_unreadable(check))
        };
        Ok(self.signers.iter().map(checks).collect())
    }

    /// Distinguishes an unreadable certificate from a missing one.
    fn name_unreadable(&self, check: SignatureCheck) -> SignatureCheck {
        let SignatureCheck::NoCertificate { signer } = check else { return check };
        let is_meant = |certificate: &&UnreadableCertificate| match &signer {
            CertificateId::IssuerAndSerial { issuer, serial } => certificate.is(issuer, serial),
            CertificateId::KeyIdentifier(identifier) => certificate.has(identifier),
        };
        let reason = match (self.unreadable.iter().find(is_meant), self.unreadable.first()) {
            (Some(certificate), _) => format!("its certificate cannot be read: {}", certificate.reason),
            (None, Some(other)) => {
                format!("its certificate is missing, or is the one that cannot be read: {}", other.reason)
            }
            (None, None) if self.has_more => {
                format!(
                    "its certificate is not among the first {MAX_CERTIFICATES} in the message; more are not supported"
                )
            }
            (None, None) => return SignatureCheck::NoCertificate { signer },
        };
        SignatureCheck::Unchecked { signer, certificate: None, reason }
    }
}

/// The first item with the lowest rank. Items after one of rank 0 are not computed.
pub(crate) fn best_of<T>(ranked: impl Iterator<Item = (u8, T)>) -> Option<T> {
    let mut best: Option<(u8, T)> = None;
    for (rank, item) in ranked {
        if best.as_ref().is_none_or(|(least, _)| rank < *least) {
            best = Some((rank, item));
        }
        if rank == 0 {
            break;
        }
    }
    best.map(|(_, item)| item)
}

#[cfg(test)]
mod tests;
