//! What can go wrong here: faults of encoding and of signing ([`CmpError`]), and why a protection does not hold
//! ([`ProtectionError`]).

/// A message cannot be read, made or protected. Each text completes "cannot …".
#[derive(Debug, thiserror::Error)]
pub enum CmpError {
    /// The bytes are not what RFC 9810 or RFC 4211 describes, or a value cannot be encoded.
    #[error("cannot read or write the CMP message: {0}")]
    Encoding(#[from] der::Error),
    /// The message is longer than [`super::MAX_MESSAGE_BYTES`].
    #[error("cannot read a CMP message of {0} bytes: the limit is {max} bytes", max = super::MAX_MESSAGE_BYTES)]
    TooLong(usize),
    /// A part that this kind of message must have is missing or has an unexpected form; the text names it.
    #[error("cannot use the CMP message: {0}")]
    Unfit(&'static str),
    /// The system has no random numbers.
    #[error("cannot make a nonce: {0}")]
    Random(String),
    /// The key that should sign did not.
    #[error("cannot sign the CMP message: {0}")]
    Signing(String),
    /// The protection asked for cannot be made.
    #[error("cannot protect the CMP message: {0}")]
    Protection(#[from] ProtectionError),
    /// A time outside what GeneralizedTime can say.
    #[error("cannot write the time {0} into a CMP message")]
    Time(jiff::Timestamp),
}

impl From<getrandom::Error> for CmpError {
    fn from(error: getrandom::Error) -> Self {
        Self::Random(error.to_string())
    }
}

/// Why the protection of a received message does not hold. A refusal, not a fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtectionError {
    /// No protection at all.
    #[error("the message is not protected")]
    Missing,
    /// The protection is of another kind than the one asked for: a signature where a MAC is due, or the reverse.
    #[error("the message is protected by {0}, which is not what is due here")]
    WrongKind(der::asn1::ObjectIdentifier),
    /// An algorithm or parameter that is not supported.
    #[error("the protection uses an unsupported algorithm, {0}")]
    Unsupported(der::asn1::ObjectIdentifier),
    /// The parameters of the algorithm are malformed.
    #[error("the parameters of the protection are malformed")]
    Malformed,
    /// More work asked for than is allowed: a denial of service, or a mistake.
    #[error("the protection asks for {asked} iterations, more than the {allowed} allowed")]
    TooManyIterations {
        /// The iteration count in the message.
        asked: u64,
        /// The largest count accepted for this algorithm.
        allowed: u32,
    },
    /// The MAC or signature does not fit the message: another secret or key, or altered bytes.
    #[error("the protection does not fit the message")]
    Mismatch,
}
