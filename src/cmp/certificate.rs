//! A certificate as it travels in a message: its bytes, untouched.

use der::{Any, Decode, DecodeValue, Encode, EncodeValue, FixedTag, Header, Length, Reader, Tag, Writer};

/// `CMPCertificate` (RFC 9810 §5.1): the DER of an X.509 certificate. It is *not* parsed on receipt, so that its bytes
/// stay what the issuer signed; [`CertificateDer::parse`] does that when someone needs to look inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateDer(Any);

impl CertificateDer {
    /// Takes the DER of one certificate, which must be one SEQUENCE with nothing behind it.
    pub fn new(der: &[u8]) -> der::Result<Self> {
        Self::from_der(der)
    }

    /// The DER, tag and length included.
    pub fn to_vec(&self) -> der::Result<Vec<u8>> {
        self.0.to_der()
    }

    /// Looks inside.
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
