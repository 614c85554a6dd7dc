//! The number of one run of the authority, which an online statement names: after a restart no earlier one counts.

use std::fmt;

use super::StatementError;

const WHAT: &str = "number of the authority's run";

/// 16 random bytes that an authority draws when it starts and answers to whoever asks over TLS. No secret.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Instance([u8; 16]);

impl Instance {
    /// A new one, for a run that begins.
    ///
    /// # Errors
    /// The system has no random bytes.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// From its 16 bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its 16 bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// Reads what an authority answers: 32 hexadecimal digits, and white space after them.
    ///
    /// # Errors
    /// [`StatementError::Form`], if it is anything else.
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
    fn what_an_authority_answers_is_read_and_nothing_else() {
        let instance = Instance::random().unwrap();
        assert_eq!(Instance::parse(format!("{instance}\n").as_bytes()).unwrap(), instance);
        assert_ne!(Instance::random().unwrap(), instance);
        for wrong in ["", "00", " 00112233445566778899aabbccddeeff", "00112233445566778899aabbccddeeff00", "<html>"] {
            assert!(Instance::parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
