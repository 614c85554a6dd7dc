//! The errors of this module: failures of encoding and signing ([`CmpError`]), and invalid
//! protection ([`ProtectionError`]).

/// An error in reading, making or protecting a message. Each text begins with "cannot".
#[derive(Debug, thiserror::Error)]
pub enum CmpError {
    /// The bytes do not match RFC 9810 or RFC 4211, or a value cannot be encoded.
    #[error("cannot read or write the CMP message: {0}")]
    Encoding(#[from] der::Error),
    /// The message is longer than the limit.
    #[error("cannot read a CMP message of {length} bytes: the limit is {max} bytes")]
    TooLong { length: usize, max: usize },
    /// A mandatory part of this kind of message is missing or has an unexpected form; the text
    /// names the part.
    #[error("cannot use the CMP message: {0}")]
    Malformed(&'static str),
    /// The system's random number generator failed.
    #[error("cannot make a nonce: {0}")]
    Random(String),
    /// The signing key failed.
    #[error("cannot sign the CMP message: {0}")]
    Signing(String),
    /// The requested protection cannot be made.
    #[error("cannot protect the CMP message: {0}")]
    Protection(#[from] ProtectionError),
    /// The time is outside the range of GeneralizedTime.
    #[error("cannot write the time {0} into a CMP message")]
    Time(jiff::Timestamp),
}

impl From<getrandom::Error> for CmpError {
    fn from(error: getrandom::Error) -> Self {
        Self::Random(error.to_string())
    }
}

/// The reason why a received message's protection is invalid. A refusal, not a fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtectionError {
    /// The message has no protection.
    #[error("the message is not protected")]
    Missing,
    /// The kind of protection differs from the expected one: a signature instead of a MAC, or the
    /// reverse.
    #[error("unexpected protection algorithm {0}")]
    WrongKind(der::asn1::ObjectIdentifier),
    /// An algorithm or a parameter is not supported.
    #[error("unsupported protection algorithm {0}")]
    Unsupported(der::asn1::ObjectIdentifier),
    /// The parameters of the algorithm are malformed.
    #[error("the parameters of the protection are malformed")]
    Malformed,
    /// The iteration count exceeds the limit: a denial of service, or a mistake.
    #[error("the protection requires {requested} iterations; the limit is {allowed}")]
    TooManyIterations {
        /// The iteration count in the message.
        requested: u64,
        /// The largest count that is accepted for this algorithm.
        allowed: u32,
    },
    /// The MAC or signature does not match the message: another secret or key, or altered bytes.
    #[error("the protection does not match the message")]
    Mismatch,
}
