//! SignedData (RFC 5652 §5): content, and signatures over it with signed attributes.

use jiff::Timestamp;
use signature::Signer;
use spki::{DynSignatureAlgorithmIdentifier, SignatureBitStringEncoding};

use crate::pki::oid::ContentType;
use crate::pki::{Certificate, PkiError};

/// What is to be signed, and what goes with it. The caller answers for `content_type`: doors that sign for people
/// refuse [`ContentType::is_reserved`].
#[derive(Clone, Debug)]
pub struct ContentToSign<'a> {
    /// The type of the content.
    pub content_type: ContentType,
    /// The content's bytes, exactly as they are signed.
    pub content: &'a [u8],
    /// Whether the content stays outside (a detached signature).
    pub detached: bool,
    /// The signer's certificate.
    pub certificate: &'a Certificate,
    /// Further certificates to send along, the issuer's first.
    pub chain: &'a [Certificate],
    /// The signing time attribute.
    pub signing_time: Timestamp,
    /// Whether to say which ciphers the signer's program reads (sMIMECapabilities, RFC 8551 §2.5.2).
    pub capabilities: bool,
}

/// Signs once; answers a DER ContentInfo. Refused when the signer's algorithm does not fit the certificate's key. The
/// signature is checked with the certificate before it is given out.
pub fn sign<S, G>(to_sign: &ContentToSign<'_>, signer: &S) -> Result<Vec<u8>, PkiError>
where
    S: Signer<G> + DynSignatureAlgorithmIdentifier,
    G: SignatureBitStringEncoding,
{
    let _ = (to_sign, signer);
    todo!()
}

/// A received SignedData, in its parts. Nothing is verified yet.
#[derive(Clone, Debug)]
pub struct SignedMessage {
    content_type: ContentType,
    content: Option<Vec<u8>>,
    certificates: Vec<Certificate>,
}

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
    /// The signature or the digest is wrong, or uses what is not taken any more.
    Wrong {
        /// Whose it should be.
        certificate: Certificate,
        /// What does not fit, for people.
        reason: String,
    },
    /// The signer's certificate is neither in the message nor among those that were given.
    NoCertificate {
        /// How the message names the signer.
        signer: String,
    },
}

impl SignedMessage {
    /// Reads a ContentInfo with SignedData in DER or BER. At least one signer, at most 16.
    pub fn parse(bytes: &[u8]) -> Result<Self, PkiError> {
        let _ = bytes;
        todo!()
    }

    /// The type of the content, from the part that every signer signs.
    pub fn content_type(&self) -> &ContentType {
        &self.content_type
    }

    /// The content; none if it is detached.
    pub fn content(&self) -> Option<&[u8]> {
        self.content.as_deref()
    }

    /// The certificates in the message that can be read; untrusted.
    pub fn certificates(&self) -> &[Certificate] {
        &self.certificates
    }

    /// Checks each signer's signature over the content (or over `detached`, when it is not in the message). Certificates
    /// are looked for in the message and among `known`.
    pub fn verify(&self, detached: Option<&[u8]>, known: &[Certificate]) -> Result<Vec<SignatureCheck>, PkiError> {
        let _ = (detached, known);
        todo!()
    }
}
