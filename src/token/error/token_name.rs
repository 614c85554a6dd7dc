//! The name of a token in errors.

use std::fmt;

/// Identifies a token to a person: the label that they know and the unique serial number.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TokenName {
    /// the token's label
    pub label: String,
    /// the token's serial number
    pub serial: String,
}

impl fmt::Display for TokenName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "token {:?} (serial {})", self.label, self.serial)
    }
}
