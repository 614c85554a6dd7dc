//! `PKIMessage` (RFC 9810 §5.1): received messages with their bytes, and drafts to be sent.

use der::asn1::{BitString, Null, OctetString};
use der::{Any, Choice, Decode, Encode, Sequence};
use sha2::{Digest, Sha256};

use super::CmpError;
use super::certificate::CertificateDer;
use super::certificate_request::CertReqMessages;
use super::certificate_response::CertRepMessage;
use super::confirmation::CertConfirmContent;
use super::general::{ErrorMsgContent, GeneralInfo};
use super::header::PkiHeader;
use super::key_recovery::KeyRecRepContent;
use super::with_der::WithDer;

/// The maximum size of a message: 4 MiB, enough for a history of more than a thousand RSA-4096
/// keys. The endpoints limit requests to much less.
pub const MAX_MESSAGE_BYTES: usize = 4 << 20;

/// `PKIBody` (RFC 9810 §5.1.2). Each variant is named as in the standard. The variants that
/// tokenkeep does not use hold their DER.
#[derive(Clone, Debug, PartialEq, Eq, Choice)]
pub enum PkiBody {
    /// Initialization request.
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", constructed = "true")]
    Ir(CertReqMessages),
    /// Initialization response.
    #[asn1(context_specific = "1", tag_mode = "EXPLICIT", constructed = "true")]
    Ip(CertRepMessage),
    /// Certification request.
    #[asn1(context_specific = "2", tag_mode = "EXPLICIT", constructed = "true")]
    Cr(CertReqMessages),
    /// Certification response.
    #[asn1(context_specific = "3", tag_mode = "EXPLICIT", constructed = "true")]
    Cp(CertRepMessage),
    /// PKCS #10 certification request.
    #[asn1(context_specific = "4", tag_mode = "EXPLICIT", constructed = "true")]
    P10cr(Any),
    /// Proof-of-possession challenge.
    #[asn1(context_specific = "5", tag_mode = "EXPLICIT", constructed = "true")]
    Popdecc(Any),
    /// Proof-of-possession response.
    #[asn1(context_specific = "6", tag_mode = "EXPLICIT", constructed = "true")]
    Popdecr(Any),
    /// Key update request.
    #[asn1(context_specific = "7", tag_mode = "EXPLICIT", constructed = "true")]
    Kur(CertReqMessages),
    /// Key update response.
    #[asn1(context_specific = "8", tag_mode = "EXPLICIT", constructed = "true")]
    Kup(CertRepMessage),
    /// Key recovery request.
    #[asn1(context_specific = "9", tag_mode = "EXPLICIT", constructed = "true")]
    Krr(CertReqMessages),
    /// Key recovery response.
    #[asn1(context_specific = "10", tag_mode = "EXPLICIT", constructed = "true")]
    Krp(KeyRecRepContent),
    /// Revocation request.
    #[asn1(context_specific = "11", tag_mode = "EXPLICIT", constructed = "true")]
    Rr(Any),
    /// Revocation response.
    #[asn1(context_specific = "12", tag_mode = "EXPLICIT", constructed = "true")]
    Rp(Any),
    /// Cross-certification request.
    #[asn1(context_specific = "13", tag_mode = "EXPLICIT", constructed = "true")]
    Ccr(Any),
    /// Cross-certification response.
    #[asn1(context_specific = "14", tag_mode = "EXPLICIT", constructed = "true")]
    Ccp(Any),
    /// CA key update announcement.
    #[asn1(context_specific = "15", tag_mode = "EXPLICIT", constructed = "true")]
    Ckuann(Any),
    /// Certificate announcement.
    #[asn1(context_specific = "16", tag_mode = "EXPLICIT", constructed = "true")]
    Cann(Any),
    /// Revocation announcement.
    #[asn1(context_specific = "17", tag_mode = "EXPLICIT", constructed = "true")]
    Rann(Any),
    /// CRL announcement.
    #[asn1(context_specific = "18", tag_mode = "EXPLICIT", constructed = "true")]
    Crlann(Any),
    /// Confirmation.
    #[asn1(context_specific = "19", tag_mode = "EXPLICIT", constructed = "true")]
    PkiConf(Null),
    /// Messages inside a message.
    #[asn1(context_specific = "20", tag_mode = "EXPLICIT", constructed = "true")]
    Nested(Any),
    /// General message.
    #[asn1(context_specific = "21", tag_mode = "EXPLICIT", constructed = "true")]
    Genm(GeneralInfo),
    /// General response.
    #[asn1(context_specific = "22", tag_mode = "EXPLICIT", constructed = "true")]
    Genp(GeneralInfo),
    #[asn1(context_specific = "23", tag_mode = "EXPLICIT", constructed = "true")]
    Error(ErrorMsgContent),
    /// Certificate confirmation.
    #[asn1(context_specific = "24", tag_mode = "EXPLICIT", constructed = "true")]
    CertConf(CertConfirmContent),
    /// Polling request.
    #[asn1(context_specific = "25", tag_mode = "EXPLICIT", constructed = "true")]
    PollReq(Any),
    /// Polling response.
    #[asn1(context_specific = "26", tag_mode = "EXPLICIT", constructed = "true")]
    PollRep(Any),
}

impl PkiBody {
    /// The name of this kind of body as in the standard, for logs and errors.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Ir(_) => "ir",
            Self::Ip(_) => "ip",
            Self::Cr(_) => "cr",
            Self::Cp(_) => "cp",
            Self::P10cr(_) => "p10cr",
            Self::Popdecc(_) => "popdecc",
            Self::Popdecr(_) => "popdecr",
            Self::Kur(_) => "kur",
            Self::Kup(_) => "kup",
            Self::Krr(_) => "krr",
            Self::Krp(_) => "krp",
            Self::Rr(_) => "rr",
            Self::Rp(_) => "rp",
            Self::Ccr(_) => "ccr",
            Self::Ccp(_) => "ccp",
            Self::Ckuann(_) => "ckuann",
            Self::Cann(_) => "cann",
            Self::Rann(_) => "rann",
            Self::Crlann(_) => "crlann",
            Self::PkiConf(_) => "pkiconf",
            Self::Nested(_) => "nested",
            Self::Genm(_) => "genm",
            Self::Genp(_) => "genp",
            Self::Error(_) => "error",
            Self::CertConf(_) => "certConf",
            Self::PollReq(_) => "pollReq",
            Self::PollRep(_) => "pollRep",
        }
    }

    /// The body of pkiConf.
    pub fn pki_conf() -> Self {
        Self::PkiConf(Null)
    }
}

/// A `PKIMessage` as encoded.
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub(super) struct Wire {
    pub(super) header: WithDer<PkiHeader>,
    pub(super) body: WithDer<PkiBody>,
    #[asn1(context_specific = "0", optional = "true")]
    protection: Option<BitString>,
    #[asn1(context_specific = "1", optional = "true")]
    extra_certs: Option<Vec<CertificateDer>>,
}

/// A received message. It is immutable: the verified bytes are the bytes that are used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PkiMessage {
    pub(super) wire: Wire,
    der: Vec<u8>,
}

impl PkiMessage {
    /// Parses exactly one message, without trailing bytes. It does *not* verify the protection.
    pub fn from_der(der: &[u8]) -> Result<Self, CmpError> {
        if der.len() > MAX_MESSAGE_BYTES {
            return Err(CmpError::TooLong { length: der.len(), max: MAX_MESSAGE_BYTES });
        }
        Ok(Self { wire: Wire::from_der(der)?, der: der.to_vec() })
    }

    pub fn header(&self) -> &PkiHeader {
        &self.wire.header
    }

    pub fn body(&self) -> &PkiBody {
        &self.wire.body
    }

    /// The certificates in extraCerts. None of them is trusted.
    pub fn extra_certs(&self) -> &[CertificateDer] {
        self.wire.extra_certs.as_deref().unwrap_or_default()
    }

    /// The exact bytes received.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// SHA-256 of the exact bytes received. It identifies a message that is sent again.
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(&self.der).into()
    }

    /// The protection's bytes; `None` if there is no protection.
    pub(super) fn protection(&self) -> Option<&[u8]> {
        self.wire.protection.as_ref().and_then(BitString::as_bytes)
    }

    /// `ProtectedPart` over the bytes received (RFC 9810 §5.1.3).
    pub(super) fn protected_part(&self) -> Result<Vec<u8>, CmpError> {
        protected_part(&self.wire.header, &self.wire.body)
    }

    /// The candidates for the reference of the shared secret, in the order in which to try them:
    /// senderKID; if senderKID is a whole name `CN=…`, which some clients send, the text after
    /// `CN=`; the sender's CN. Only UTF-8 texts, without repetition.
    pub fn references(&self) -> Vec<String> {
        let kid = self.header().sender_kid.as_ref().map(OctetString::as_bytes);
        let kid = kid.and_then(|bytes| String::from_utf8(bytes.to_vec()).ok());
        let bare = kid.as_deref().and_then(|kid| kid.strip_prefix("CN=").or_else(|| kid.strip_prefix("/CN=")));
        let mut references: Vec<String> = Vec::new();
        for reference in
            [kid.clone(), bare.map(str::to_owned), self.header().sender_common_name()].into_iter().flatten()
        {
            if !reference.is_empty() && !references.contains(&reference) {
                references.push(reference);
            }
        }
        references
    }
}

fn protected_part(header: &WithDer<PkiHeader>, body: &WithDer<PkiBody>) -> Result<Vec<u8>, CmpError> {
    let value = [header.der(), body.der()].concat();
    Ok(Any::new(der::Tag::Sequence, value)?.to_der()?)
}

/// A message before it is protected and sent.
#[derive(Clone, Debug)]
pub struct Draft {
    /// The header. The protecting function sets `protection_alg`.
    pub header: PkiHeader,
    pub body: PkiBody,
    pub extra_certs: Vec<CertificateDer>,
}

impl Draft {
    /// A message without extraCerts.
    pub fn new(header: PkiHeader, body: PkiBody) -> Self {
        Self { header, body, extra_certs: Vec::new() }
    }

    /// Encodes the message without protection. Use it only for an error to a client that could not
    /// be authenticated.
    pub fn unprotected(mut self) -> Result<Vec<u8>, CmpError> {
        self.header.protection_alg = None;
        self.seal(|_| Ok(None))
    }

    /// Encodes header and body once, passes `ProtectedPart` to `protect`, and assembles the
    /// message.
    pub(super) fn seal(
        self,
        protect: impl FnOnce(&[u8]) -> Result<Option<Vec<u8>>, CmpError>,
    ) -> Result<Vec<u8>, CmpError> {
        let header = WithDer::new(self.header)?;
        let body = WithDer::new(self.body)?;
        let protection = protect(&protected_part(&header, &body)?)?;
        let protection = protection.map(|bytes| BitString::from_bytes(&bytes)).transpose()?;
        let extra_certs = (!self.extra_certs.is_empty()).then_some(self.extra_certs);
        Ok(Wire { header, body, protection, extra_certs }.to_der()?)
    }
}
