//! Received SignedData (RFC 5652 §5): content, and the check of the signatures over it.

use const_oid::db::rfc5911;

use super::signer_info::{SignatureCheck, SignerInfo};
use super::{CertificateId, open_content_info};
use crate::pki::certificate::UnreadableCertificate;
use crate::pki::oid::ContentType;
use crate::pki::tlv::{Elements, INTEGER, OBJECT_IDENTIFIER, OCTET_STRING, SEQUENCE, SET, context_constructed};
use crate::pki::{Certificate, PkiError, WorkLeft};

pub(super) const WHAT: &str = "a signed message";

/// The maximum number of signers in a message. More would be an attack on the verifier's time.
const MAX_SIGNERS: usize = 16;

/// The maximum number of certificates that are parsed in a message.
const MAX_CERTIFICATES: usize = 64;

/// The maximum size of a certificate in a message, in octets. Each search for an issuer computes
/// its digest again.
const LONGEST_CERTIFICATE: usize = 1 << 18;

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
