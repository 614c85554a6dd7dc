//! A decoded value together with the exact bytes from which it was decoded.

use std::ops::Deref;

use der::{Decode, Encode, Length, Reader, SliceReader, Writer};

/// A value and its DER, including tag and length. A MAC or a proof of possession is verified over
/// [`WithDer::der`]; neither part can change without the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WithDer<T> {
    value: T,
    der: Vec<u8>,
}

impl<T: Encode> WithDer<T> {
    /// Encodes a value once.
    pub fn new(value: T) -> der::Result<Self> {
        let der = value.to_der()?;
        Ok(Self { value, der })
    }
}

impl<T> WithDer<T> {
    /// The bytes as received, or as encoded by [`WithDer::new`].
    pub fn der(&self) -> &[u8] {
        &self.der
    }
}

impl<T> Deref for WithDer<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<'a, T> Decode<'a> for WithDer<T>
where
    T: for<'b> Decode<'b, Error = der::Error>,
{
    type Error = der::Error;

    fn decode<R: Reader<'a>>(reader: &mut R) -> der::Result<Self> {
        let header = der::Header::peek(reader)?;
        let length = (header.encoded_len()? + header.length())?;
        let der = reader.read_vec(length)?;
        let mut own = SliceReader::new(&der)?;
        let value = T::decode(&mut own)?;
        own.finish()?;
        Ok(Self { value, der })
    }
}

impl<T> Encode for WithDer<T> {
    fn encoded_len(&self) -> der::Result<Length> {
        self.der.len().try_into()
    }

    fn encode(&self, writer: &mut impl Writer) -> der::Result<()> {
        writer.write(&self.der)
    }
}
