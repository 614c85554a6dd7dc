//! The identifier of one run of the authority. An online statement names it, so that a restart
//! invalidates earlier ones.

use std::fmt;

use super::StatementError;

const WHAT: &str = "identifier of the authority's run";

/// 16 random bytes that an authority draws when it starts and tells every client over TLS. Not a
/// secret.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Instance([u8; 16]);

impl Instance {
    /// Draws the identifier of a new run.
    ///
    /// # Errors
    /// The system's random number generator failed.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// Makes an identifier from its 16 bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The 16 bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// Parses an authority's reply: 32 hexadecimal digits, optionally followed by white space.
    ///
    /// # Errors
    /// [`StatementError::Form`] for any other input.
    pub fn parse(answer: &[u8]) -> Result<Self, StatementError> {
        let mut bytes = [0; 16];
        match hex::decode_to_slice(answer.trim_ascii_end(), &mut bytes) {
            Ok(()) => Ok(Self(bytes)),
            Err(error) => Err(StatementError::Form { what: WHAT, reason: error.to_string() }),
        }
    }
}

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Instance({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_instance_id_is_parsed() {
        let instance = Instance::random().unwrap();
        assert_eq!(Instance::parse(format!("{instance}\n").as_bytes()).unwrap(), instance);
        assert_ne!(Instance::random().unwrap(), instance);
        for wrong in ["", "00", " 00112233445566778899aabbccddeeff", "00112233445566778899aabbccddeeff00", "<html>"] {
            assert!(Instance::parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
