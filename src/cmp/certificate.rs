//! A certificate in a message, kept as the bytes that were received.

use der::{Any, Decode, DecodeValue, Encode, EncodeValue, FixedTag, Header, Length, Reader, Tag, Writer};

/// `CMPCertificate` (RFC 9810 §5.1): the DER of an X.509 certificate. It is *not* parsed on
/// receipt, so that its bytes remain those that the issuer signed. [`CertificateDer::parse`] parses
/// it on demand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateDer(Any);

impl CertificateDer {
    /// Wraps the DER of one certificate: exactly one SEQUENCE, without trailing bytes.
    pub fn new(der: &[u8]) -> der::Result<Self> {
        Self::from_der(der)
    }

    /// The DER, including tag and length.
    pub fn to_vec(&self) -> der::Result<Vec<u8>> {
        self.0.to_der()
    }

    pub fn parse(&self) -> der::Result<x509_cert::Certificate> {
        self.0.decode_as()
    }
}

impl FixedTag for CertificateDer {
    const TAG: Tag = Tag::Sequence;
}

impl<'a> DecodeValue<'a> for CertificateDer {
    type Error = der::Error;

    fn decode_value<R: Reader<'a>>(reader: &mut R, header: Header) -> der::Result<Self> {
        Any::decode_value(reader, header).map(Self)
    }
}

impl EncodeValue for CertificateDer {
    fn value_len(&self) -> der::Result<Length> {
        self.0.value_len()
    }

    fn encode_value(&self, writer: &mut impl Writer) -> der::Result<()> {
        self.0.encode_value(writer)
    }
}
