//! Serial numbers of certificates: random, positive, always 20 octets.

use std::fmt;

use super::PkiError;

/// A certificate's serial number (RFC 5280 §4.1.2.2): the octets of its magnitude, most significant
/// first, without leading zeros.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SerialNumber(Vec<u8>);

impl SerialNumber {
    /// Draws a new number of 20 octets. 158 bits are random; the first two bits are 0 and 1, so
    /// that it is positive and never shorter.
    pub fn random() -> Result<Self, PkiError> {
        let mut octets = [0; 20];
        getrandom::fill(&mut octets).map_err(PkiError::Random)?;
        octets[0] = (octets[0] & 0x3f) | 0x40;
        Ok(Self(octets.to_vec()))
    }

    /// Converts the contents octets of a DER INTEGER, or a magnitude. Leading zeros are dropped.
    pub fn from_bytes(octets: &[u8]) -> Self {
        let significant = octets.iter().skip_while(|octet| **octet == 0).copied().collect();
        Self(significant)
    }

    /// Parses hexadecimal digits, as [`SerialNumber`] displays them.
    pub fn from_hex(digits: &str) -> Result<Self, PkiError> {
        let octets = hex::decode(digits).map_err(|error| PkiError::malformed("a serial number", error.to_string()))?;
        if octets.is_empty() || octets.len() > 21 {
            return Err(PkiError::malformed("a serial number", "it must have 2 to 42 hexadecimal digits"));
        }
        Ok(Self::from_bytes(&octets))
    }

    /// The octets of the magnitude, most significant first.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Writes lower-case hexadecimal, two digits per octet.
impl fmt::Display for SerialNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0))
    }
}

impl fmt::Debug for SerialNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SerialNumber({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_serial_numbers_are_positive_distinct_and_20_octets() {
        let one = SerialNumber::random().unwrap();
        assert_eq!(one.as_bytes().len(), 20);
        assert_eq!(one.as_bytes()[0] & 0xc0, 0x40);
        assert_ne!(one, SerialNumber::random().unwrap());
        assert_eq!(SerialNumber::from_hex(&one.to_string()).unwrap(), one);
    }

    #[test]
    fn leading_zeros_do_not_make_another_number() {
        assert_eq!(SerialNumber::from_bytes(&[0, 0x80, 1]), SerialNumber::from_hex("8001").unwrap());
        assert!(SerialNumber::from_hex("").is_err());
        assert!(SerialNumber::from_hex("xy").is_err());
        assert!(SerialNumber::from_hex(&"00".repeat(22)).is_err());
    }
}
