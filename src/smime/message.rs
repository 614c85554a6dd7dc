//! The three forms of a message: DER, PEM and S/MIME; told apart on reading, chosen on writing.

use super::SmimeError;

/// How a message is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The bare structure, binary.
    Der,
    /// `-----BEGIN CMS-----`
    Pem,
    /// A MIME message: `application/pkcs7-mime` or `multipart/signed`.
    Smime,
}

/// What a message is, by its outermost content type (RFC 5652, RFC 5083).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// SignedData
    Signed,
    /// EnvelopedData: encrypted, not authenticated
    Enveloped,
    /// AuthEnvelopedData: encrypted, authenticated
    AuthEnveloped,
}

/// A message that was read: its form, its kind, its structure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The form it came in; a good default for an answer.
    pub format: Format,
    /// What it is.
    pub kind: Kind,
    /// The ContentInfo, in DER or BER.
    pub cms: Vec<u8>,
    /// The first part of a `multipart/signed`, as it was signed: with its MIME headers, lines ended by CR LF.
    pub detached_content: Option<Vec<u8>>,
}

impl Message {
    /// Finds out what `bytes` are. PEM labels CMS and PKCS7 are taken, as are base64 and binary MIME bodies.
    pub fn read(bytes: &[u8]) -> Result<Self, SmimeError> {
        let _ = bytes;
        todo!()
    }

    /// Writes a DER ContentInfo in the given form. For a detached signature in the form S/MIME, `content` is the signed
    /// content (with the MIME headers that were signed with it) and becomes the first part of a `multipart/signed`;
    /// otherwise it is not looked at.
    pub fn write(cms: &[u8], format: Format, content: Option<&[u8]>) -> Result<Vec<u8>, SmimeError> {
        let _ = (cms, format, content);
        todo!()
    }
}

/// A file as a MIME entity, to be signed or encrypted in the form S/MIME: text stays readable (`text/plain`, UTF-8,
/// lines ended by CR LF), anything else becomes base64.
pub fn to_entity(content: &[u8]) -> Vec<u8> {
    let _ = content;
    todo!()
}

/// The file in a MIME entity that has just one part, decoded; none if it is no such entity.
pub fn from_entity(entity: &[u8]) -> Option<Vec<u8>> {
    let _ = entity;
    todo!()
}
