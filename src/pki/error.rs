//! What can go wrong in this room; each message completes a sentence that begins "cannot".

use std::path::PathBuf;

/// A fault or a refusal of the standards room.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PkiError {
    /// Bytes that are not what they should be.
    #[error("cannot read {what}: {source}")]
    Decode {
        /// The structure that was expected, with its article: "a certificate".
        what: &'static str,
        /// What the decoder says.
        source: der::Error,
    },

    /// Bytes that decode, but break a rule of their standard.
    #[error("cannot read {what}: {reason}")]
    Malformed {
        /// The structure that was expected, with its article.
        what: &'static str,
        /// The rule that is broken.
        reason: String,
    },

    /// A structure could not be written: a fault of ours, or a value that is far too long.
    #[error("cannot encode {what}: {source}")]
    Encode {
        /// The structure, with its article.
        what: &'static str,
        /// What the encoder says.
        source: der::Error,
    },

    /// A key, algorithm or parameter this program does not use.
    #[error("cannot use {what}: {reason}")]
    Unsupported {
        /// The key or algorithm.
        what: String,
        /// Why not, and what is possible instead.
        reason: String,
    },

    /// An algorithm of former days, which does not protect any more.
    #[error("cannot use {0}: it is no longer safe")]
    Outdated(&'static str),

    /// A signature's algorithm and a key that have nothing to do with each other.
    #[error("cannot use this key: the signature's algorithm is for another kind of key")]
    OtherKindOfKey,

    /// A signature that does not verify. Says nothing about why.
    #[error("cannot verify the signature of {0}: it is wrong")]
    WrongSignature(&'static str),

    /// The signer refused or failed; the token's own message is in it.
    #[error("cannot sign {what}: {source}")]
    Sign {
        /// The structure, with its article.
        what: &'static str,
        /// What the signer says.
        source: ::signature::Error,
    },

    /// A name that cannot become a certificate's subject.
    #[error("cannot use this name: {0}")]
    Name(String),

    /// An e-mail address that cannot go into a certificate.
    #[error("cannot use the e-mail address {address:?}: {reason}")]
    Email {
        /// The address as it was given.
        address: String,
        /// Why not.
        reason: &'static str,
    },

    /// A host name or address that cannot go into a certificate.
    #[error(
        "cannot use the host name {0:?}: give a DNS name of ASCII letters, digits, hyphens and dots, or an IP address"
    )]
    Host(String),

    /// A certificate that was asked for in contradiction to its profile.
    #[error("cannot issue a certificate by the profile {profile:?}: {reason}")]
    Profile {
        /// The profile's name.
        profile: String,
        /// The contradiction.
        reason: String,
    },

    /// A profile file that is not right.
    #[error("cannot use the profile {}, line {line}: {reason}", file.display())]
    ProfileFile {
        /// The file.
        file: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong there.
        reason: String,
    },

    /// A profile file that cannot be read at all.
    #[error("cannot read the profile {}: {source}", file.display())]
    ProfileUnreadable {
        /// The file.
        file: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },

    /// The system has no random numbers to give.
    #[error("cannot get random numbers from the system: {0}")]
    Random(getrandom::Error),
}

impl PkiError {
    /// For `map_err` on decoders.
    pub(crate) fn decode(what: &'static str) -> impl FnOnce(der::Error) -> Self {
        move |source| Self::Decode { what, source }
    }

    /// For `map_err` on encoders.
    pub(crate) fn encode(what: &'static str) -> impl FnOnce(der::Error) -> Self {
        move |source| Self::Encode { what, source }
    }

    /// What is wrong, without saying of what: for sentences that have named it already.
    pub(crate) fn reason(&self) -> String {
        match self {
            Self::Decode { source, .. } => source.to_string(),
            Self::Malformed { reason, .. } => reason.clone(),
            other => other.to_string(),
        }
    }

    pub(crate) fn malformed(what: &'static str, reason: impl Into<String>) -> Self {
        Self::Malformed { what, reason: reason.into() }
    }

    pub(crate) fn unsupported(what: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Unsupported { what: what.into(), reason: reason.into() }
    }
}
