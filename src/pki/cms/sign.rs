//! Makes SignedData (RFC 5652 §5) in three steps: the digest of the content, the signature over the
//! signed attributes, and the message with or without the content. Only the digest and the last
//! step read the content, in pieces.

use std::io::{Read, Write};
use std::sync::LazyLock;

use const_oid::ObjectIdentifier;
use const_oid::db::rfc5911;
use der::Encode;
use jiff::Timestamp;
use signature::Signer;
use spki::{DynSignatureAlgorithmIdentifier, SignatureBitStringEncoding};

use super::signed_data::WHAT;
use super::{ContentDigest, SigningCertificate, oid};
use crate::pki::oid::ContentType;
use crate::pki::tlv::{
    INTEGER, OBJECT_IDENTIFIER, OCTET_STRING, SEQUENCE, SET, context_constructed, element, header_of, set_of,
};
use crate::pki::{PkiError, time};

/// A content in memory to be signed, and the options, as in [`DigestToSign`].
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

/// The digest of the content to be signed, and the options. The caller is responsible for
/// `content_type`: endpoints that sign for people refuse [`ContentType::is_reserved`].
#[derive(Clone, Debug)]
pub struct DigestToSign<'a> {
    /// The type of the content.
    pub content_type: ContentType,
    /// The digest of the content, with the signer's hash ([`SigningCertificate::hash`]).
    pub digest: &'a ContentDigest,
    /// The signer's certificate, and the certificates to include.
    pub signer: &'a SigningCertificate,
    /// The value of the signingTime attribute.
    pub signing_time: Timestamp,
    /// Whether to list the ciphers that the signer's program supports (sMIMECapabilities, RFC 8551
    /// §2.5.2).
    pub capabilities: bool,
}

/// Signs a content in memory once, and returns a DER `ContentInfo`; see [`sign_digest`].
pub fn sign<S, G>(to_sign: &ContentToSign<'_>, signer: &S) -> Result<Vec<u8>, PkiError>
where
    S: Signer<G> + DynSignatureAlgorithmIdentifier,
    G: SignatureBitStringEncoding,
{
    let ContentToSign { content_type, content, detached, signer: certificate, signing_time, capabilities } = to_sign;
    let digest = ContentDigest::of(content, certificate.hash());
    let to_sign = DigestToSign {
        content_type: content_type.clone(),
        digest: &digest,
        signer: certificate,
        signing_time: *signing_time,
        capabilities: *capabilities,
    };
    let signature = sign_digest(&to_sign, signer)?;
    if *detached { Ok(signature.detached()) } else { signature.attached(content) }
}

/// Signs once. It is an error if the signer's algorithm does not match the certificate's key. The
/// signature is verified with the certificate before it is returned.
pub fn sign_digest<S, G>(to_sign: &DigestToSign<'_>, signer: &S) -> Result<ContentSignature, PkiError>
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
    to_sign: DigestToSign<'a>,
    signed_attributes: Vec<u8>,
}

impl<'a> PreparedSignature<'a> {
    /// Fails if the signing time is before 1970, or if the digest has another hash than the signer.
    pub fn new(to_sign: DigestToSign<'a>) -> Result<Self, PkiError> {
        if to_sign.digest.hash() != to_sign.signer.hash() {
            return Err(PkiError::unsupported("the digest", "it has another hash than the signer's certificate"));
        }
        let signed_attributes = set_of(SET, to_sign.attributes()?);
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

    /// Adds the signature.
    pub fn finish(self, signature: &[u8]) -> ContentSignature {
        let DigestToSign { content_type, digest, signer, .. } = self.to_sign;
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
        // The version is 3 unless the content is plain data (RFC 5652 §5.1).
        let version = if content_type == ContentType::DATA { 1 } else { 3 };
        ContentSignature {
            digest: digest.clone(),
            before: [element(INTEGER, &[&[version]]), element(SET, &[&signer.digest_algorithm])].concat(),
            content_type: element(OBJECT_IDENTIFIER, &[content_type.as_contents()]),
            after: [&signer.certificates[..], &element(SET, &[&signer_info])].concat(),
        }
    }
}

/// The attribute sMIMECapabilities.
static CAPABILITIES: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let ciphers = [rfc5911::ID_AES_256_GCM, rfc5911::ID_AES_256_CBC, rfc5911::ID_AES_128_GCM, rfc5911::ID_AES_128_CBC];
    let ciphers = ciphers.map(|cipher| element(SEQUENCE, &[&oid(cipher)]));
    attribute(rfc5911::SMIME_CAPABILITIES, &element(SEQUENCE, &[&ciphers.concat()]))
});

pub(super) fn attribute(kind: ObjectIdentifier, value: &[u8]) -> Vec<u8> {
    element(SEQUENCE, &[&oid(kind), &element(SET, &[value])])
}

impl DigestToSign<'_> {
    /// The signed attributes (RFC 5652 §11, RFC 8551 §2.5): content type, digest, time and the
    /// supported ciphers.
    fn attributes(&self) -> Result<Vec<Vec<u8>>, PkiError> {
        let time = time::to_x509(self.signing_time)?.to_der().map_err(PkiError::encode("a time"))?;
        let content_type = element(OBJECT_IDENTIFIER, &[self.content_type.as_contents()]);
        let digest = element(OCTET_STRING, &[self.digest.as_bytes()]);
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
}

/// A signature over a content, to be written as a DER `ContentInfo`.
#[derive(Clone, Debug)]
pub struct ContentSignature {
    digest: ContentDigest,
    /// The elements of the SignedData before the encapsulated content: version and digest
    /// algorithms.
    before: Vec<u8>,
    /// The `eContentType`.
    content_type: Vec<u8>,
    /// The elements of the SignedData after the encapsulated content: certificates and signers.
    after: Vec<u8>,
}

impl ContentSignature {
    /// The message without the content (a detached signature).
    pub fn detached(&self) -> Vec<u8> {
        [self.around(Enclosed::new(0)), self.after.clone()].concat()
    }

    /// The message with the content, which is in memory. It is an error if it is not the content
    /// that was signed.
    pub fn attached(&self, content: &[u8]) -> Result<Vec<u8>, PkiError> {
        let mut message = Vec::with_capacity(content.len() + self.after.len() + 256);
        self.write_attached(content, &mut message)?;
        Ok(message)
    }

    /// Writes the message with the content, which is read again. It is an error if it is not the
    /// content that was signed ([`PkiError::ContentChanged`]); then the output is incomplete and no
    /// message.
    pub fn write_attached(&self, content: impl Read, mut output: impl Write) -> Result<(), PkiError> {
        let octets = Enclosed::new(self.digest.length()).in_element(OCTET_STRING, &[], 0);
        let before = self.around(octets.in_element(context_constructed(0), &[], 0));
        output.write_all(&before).map_err(PkiError::output(WHAT))?;
        self.digest.copy(content, &mut output)?;
        output.write_all(&self.after).and_then(|()| output.flush()).map_err(PkiError::output(WHAT))
    }

    /// The octets of the message before the content.
    fn around(&self, content: Enclosed) -> Vec<u8> {
        content
            .in_element(SEQUENCE, &self.content_type, 0)
            .in_element(SEQUENCE, &self.before, self.after.len() as u64)
            .in_element(context_constructed(0), &[], 0)
            .in_element(SEQUENCE, &oid(rfc5911::ID_SIGNED_DATA), 0)
            .before
    }
}

/// A content with the elements around it: the octets before it, and the length of the whole.
struct Enclosed {
    before: Vec<u8>,
    length: u64,
}

impl Enclosed {
    fn new(length: u64) -> Self {
        Self { before: Vec::new(), length }
    }

    /// Encloses it in an element, with `before` in front of it and `after` octets behind it.
    fn in_element(self, tag: u8, before: &[u8], after: u64) -> Self {
        let value_length = before.len() as u64 + self.length + after;
        let header = header_of(tag, value_length);
        Self { length: header.len() as u64 + value_length, before: [&header, before, &self.before].concat() }
    }
}

#[cfg(test)]
mod tests;
