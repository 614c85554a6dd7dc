//! The three forms of a message, DER, PEM and S/MIME: recognized on reading, chosen on writing.

mod file;
mod read;

pub use file::MessageFile;

use std::io::{self, Read, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use const_oid::db::rfc5911;
use sha2::{Digest, Sha256};

use super::SmimeError;
use super::entity::{fold_base64, to_canonical_lines, to_entity};
use super::header::Header;
use crate::pki::PkiError;
use crate::pki::cms::stream::fill;
use crate::pki::oid::ContentType;
use crate::pki::tlv::{Elements, OBJECT_IDENTIFIER, SEQUENCE, header};

/// Number of bytes in a line of PEM, 64 characters (RFC 7468 §2).
const PEM_LINE_BYTES: usize = 48;

/// The form of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageFormat {
    /// The binary structure alone.
    Der,
    /// A PEM block, `-----BEGIN CMS-----`.
    Pem,
    /// A MIME message: `application/pkcs7-mime` or `multipart/signed`.
    Smime,
}

/// The kind of a message, according to its outermost content type (RFC 5652, RFC 5083).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageKind {
    /// SignedData.
    Signed,
    /// EnvelopedData: encrypted, not authenticated.
    Enveloped,
    /// `AuthEnvelopedData`: encrypted and authenticated.
    AuthEnveloped,
}

impl MessageKind {
    /// The kind according to the object identifier at the beginning; the rest is not checked.
    fn of(cms: &[u8]) -> Result<Self, SmimeError> {
        let unreadable = || SmimeError::NoMessage("it is neither DER, nor PEM, nor S/MIME".into());
        if cms.first() != Some(&SEQUENCE) {
            return Err(unreadable());
        }
        let (header_length, _) = header(cms).ok_or_else(unreadable)?;
        let mut inside = Elements::of(cms.get(header_length..).unwrap_or_default(), "a message");
        let content_type = inside.required(OBJECT_IDENTIFIER).map_err(|_| unreadable())?;
        let content_type = ContentType::from_contents(content_type.value);
        if content_type == rfc5911::ID_SIGNED_DATA.into() {
            Ok(Self::Signed)
        } else if content_type == rfc5911::ID_ENVELOPED_DATA.into() {
            Ok(Self::Enveloped)
        } else if content_type == rfc5911::ID_CT_AUTH_ENVELOPED_DATA.into() {
            Ok(Self::AuthEnveloped)
        } else {
            Err(SmimeError::NoMessage(format!("it holds {content_type}, neither signed nor encrypted content")))
        }
    }

    /// The smime-type parameter (RFC 8551 §3.2.2).
    fn smime_type(self) -> &'static str {
        match self {
            Self::Signed => "signed-data",
            Self::Enveloped => "enveloped-data",
            Self::AuthEnveloped => "authEnveloped-data",
        }
    }
}

/// A parsed message: its form, its kind and its structure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The form of the input, which is a good default for a reply.
    pub format: MessageFormat,
    /// The kind of the message.
    pub kind: MessageKind,
    /// The `ContentInfo`, in DER or BER.
    pub cms: Vec<u8>,
    /// The first part of a `multipart/signed` as it was signed: with its MIME headers and with
    /// lines that end in CR LF.
    pub detached_content: Option<Vec<u8>>,
    /// The header of the mail around the structure, which is not signed. Empty for DER and PEM.
    pub header: Header,
    /// In a mailing list's mail, the header of the message that the list embedded as a whole, if
    /// the structure is in that message. It is not signed either.
    pub header_within: Option<Header>,
    /// Descriptions of the input's other content ("a text/plain part"). None of it is signed, and
    /// none is used except [`Self::header_within`].
    pub outside: Vec<String>,
}

impl Message {
    /// The headers around the structure, outermost first.
    pub fn headers(&self) -> impl Iterator<Item = &Header> {
        std::iter::once(&self.header).chain(&self.header_within)
    }

    /// Names the fields of the mail's own header that are not about its MIME structure; `None` if
    /// there are none.
    pub fn told_fields(&self) -> Option<String> {
        read::told_fields(&self.header, "the message inside")
    }

    /// Encodes a DER `ContentInfo` of any length as PEM, as [`Self::write`] does.
    pub fn write_pem(mut cms: impl Read, mut output: impl Write) -> io::Result<()> {
        output.write_all(b"-----BEGIN CMS-----\n")?;
        let mut lines = vec![0; PEM_LINE_BYTES * 1024];
        loop {
            let piece = fill(&mut cms, &mut lines)?;
            if piece.is_empty() {
                return output.write_all(b"-----END CMS-----\n");
            }
            let mut text = String::with_capacity(piece.len() * 3 / 2);
            for line in piece.chunks(PEM_LINE_BYTES) {
                STANDARD.encode_string(line, &mut text);
                text.push('\n');
            }
            output.write_all(text.as_bytes())?;
        }
    }

    /// Encodes a DER `ContentInfo` in the given form. For a detached signature in S/MIME, `content`
    /// is the signed content, with the MIME headers that were signed with it and with lines that
    /// end in CR LF; it becomes the first part of a `multipart/signed`. Otherwise `content` is
    /// ignored.
    pub fn write(cms: &[u8], format: MessageFormat, content: Option<&[u8]>) -> Result<Vec<u8>, SmimeError> {
        let kind = MessageKind::of(cms)?;
        match (format, content) {
            (MessageFormat::Der, _) => Ok(cms.to_vec()),
            (MessageFormat::Pem, _) => {
                let mut pem = Vec::new();
                Self::write_pem(cms, &mut pem).map_err(|error| SmimeError::Unreadable(error.to_string()))?;
                Ok(pem)
            }
            (MessageFormat::Smime, Some(content)) if kind == MessageKind::Signed => multipart_signed(cms, content),
            (MessageFormat::Smime, _) => Ok(format!(
                "MIME-Version: 1.0\r\n\
                 Content-Type: application/pkcs7-mime; smime-type={}; name=\"smime.p7m\"\r\n\
                 Content-Transfer-Encoding: base64\r\n\
                 Content-Disposition: attachment; filename=\"smime.p7m\"\r\n\r\n{}",
                kind.smime_type(),
                fold_base64(cms)
            )
            .into_bytes()),
        }
    }
}

/// Makes a MIME entity from a file, to be encrypted. A signed mail is unchanged, and a signed file
/// is named as such, because the recipient's program uses only the outermost structure after
/// decryption. All other content is handled by [`to_entity`].
pub fn to_encryptable(content: &[u8]) -> Vec<u8> {
    let signed = Message::read(content).ok().filter(|message| message.kind == MessageKind::Signed);
    match signed.map(|message| message.format) {
        Some(MessageFormat::Smime) if std::str::from_utf8(content).is_ok() => to_canonical_lines(content),
        Some(MessageFormat::Smime) => content.to_vec(),
        Some(MessageFormat::Der) => format!(
            "Content-Type: application/octet-stream; name=\"smime.p7m\"\r\n\
             Content-Transfer-Encoding: base64\r\n\r\n{}",
            fold_base64(content)
        )
        .into_bytes(),
        Some(MessageFormat::Pem) | None => to_entity(content),
    }
}

/// Makes a `multipart/signed` (RFC 1847 §2.1, RFC 8551 §3.5.3).
fn multipart_signed(cms: &[u8], content: &[u8]) -> Result<Vec<u8>, SmimeError> {
    if content.contains(&b'\n') && to_canonical_lines(content) != content {
        return Err(PkiError::malformed("the content of a multipart message", "its lines do not end with CR LF").into());
    }
    // The boundary is a digest of the content: it needs no random number, and no one can write
    // content that contains its own digest.
    let boundary =
        format!("----tokenkeep-{}", hex::encode(Sha256::digest([content, cms].concat()).get(..16).unwrap_or_default()));
    let digest = micalg(cms);
    let head = format!(
        "MIME-Version: 1.0\r\n\
         Content-Type: multipart/signed; protocol=\"application/pkcs7-signature\"; micalg={digest};\r\n \
         boundary=\"{boundary}\"\r\n\r\n\
         This is a signed message.\r\n\r\n--{boundary}\r\n"
    );
    let tail = format!(
        "\r\n--{boundary}\r\n\
         Content-Type: application/pkcs7-signature; name=\"smime.p7s\"\r\n\
         Content-Transfer-Encoding: base64\r\n\
         Content-Disposition: attachment; filename=\"smime.p7s\"\r\n\r\n\
         {}--{boundary}--\r\n",
        fold_base64(cms)
    );
    Ok([head.as_bytes(), content, tail.as_bytes()].concat())
}

/// The micalg parameter, according to the digest algorithms in the structure (RFC 8551 §3.5.3.2).
/// Readers use it as a hint.
fn micalg(cms: &[u8]) -> &'static str {
    let announces_sha384 = || {
        let mut parts = Elements::of(cms, "a message").required(SEQUENCE)?.inside("a message");
        parts.any()?;
        let mut signed_data = parts.any()?.inside("a message").any()?.inside("a message");
        signed_data.any()?;
        let digests = signed_data.any()?.value;
        let wanted = const_oid::db::rfc5912::ID_SHA_384;
        Ok::<_, PkiError>(digests.windows(wanted.as_bytes().len()).any(|window| window == wanted.as_bytes()))
    };
    if announces_sha384().unwrap_or(false) { "sha-384" } else { "sha-256" }
}

#[cfg(test)]
mod tests;
