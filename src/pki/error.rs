//! The errors of this module. Each message begins with "cannot".

use std::path::PathBuf;

/// A fault or a refusal of [`crate::pki`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PkiError {
    /// The bytes cannot be decoded.
    #[error("cannot read {what}: {source}")]
    Decode {
        /// The expected structure, with its article: "a certificate".
        what: &'static str,
        source: der::Error,
    },

    /// The bytes decode, but break a rule of their standard.
    #[error("cannot read {what}: {reason}")]
    Malformed {
        /// The expected structure, with its article.
        what: &'static str,
        /// The rule that is broken.
        reason: String,
    },

    /// A structure cannot be encoded: a fault of this program, or a value that is far too long.
    #[error("cannot encode {what}: {source}")]
    Encode {
        /// The structure, with its article.
        what: &'static str,
        source: der::Error,
    },

    /// A key, algorithm or parameter is not supported.
    #[error("cannot use {what}: {reason}")]
    Unsupported {
        /// The key or algorithm.
        what: String,
        /// The reason, and the alternatives.
        reason: String,
    },

    /// An obsolete, insecure algorithm.
    #[error("cannot use {0}: it is no longer safe")]
    Outdated(&'static str),

    /// The signature algorithm does not match the kind of the key.
    #[error("cannot use this key: the signature algorithm is for another kind of key")]
    OtherKindOfKey,

    /// The signature does not verify. The error gives no reason.
    #[error("cannot verify the signature of {0}: it is invalid")]
    WrongSignature(&'static str),

    /// The signer failed; its error includes the token's message.
    #[error("cannot sign {what}: {source}")]
    Sign {
        /// The structure, with its article.
        what: &'static str,
        source: ::signature::Error,
    },

    /// The input cannot be read.
    #[error("cannot read {what}: {source}")]
    Input {
        /// The content of the input, with its article.
        what: &'static str,
        source: std::io::Error,
    },

    /// The output cannot be written.
    #[error("cannot write {what}: {source}")]
    Output {
        /// The content of the output, with its article.
        what: &'static str,
        source: std::io::Error,
    },

    /// A content had another length or digest when it was read again.
    #[error("cannot sign the content: the content changed while it was being signed")]
    ContentChanged,

    /// The name cannot be a certificate's subject.
    #[error("cannot use this name: {0}")]
    Name(String),

    /// The e-mail address cannot be in a certificate.
    #[error("cannot use the e-mail address {address:?}: {reason}")]
    Email {
        /// The address as it was given.
        address: String,
        reason: &'static str,
    },

    /// The host name or address cannot be in a certificate.
    #[error(
        "cannot use the host name {0:?}: give a DNS name of ASCII letters, digits, hyphens and dots, or an IP address"
    )]
    Host(String),

    /// The requested certificate contradicts its profile.
    #[error("cannot issue a certificate with the profile {profile:?}: {reason}")]
    Profile { profile: String, reason: String },

    /// A profile file is invalid.
    #[error("cannot use the profile {}, line {line}: {reason}", file.display())]
    ProfileFile {
        file: PathBuf,
        /// The line, counted from 1.
        line: usize,
        reason: String,
    },

    /// A profile file cannot be read.
    #[error("cannot read the profile {}: {source}", file.display())]
    ProfileUnreadable { file: PathBuf, source: std::io::Error },

    /// The system's random number generator failed.
    #[error("cannot get random numbers from the system: {0}")]
    Random(getrandom::Error),
}

impl PkiError {
    /// Converts a decoder's error, for `map_err`.
    pub(crate) fn decode(what: &'static str) -> impl FnOnce(der::Error) -> Self {
        move |source| Self::Decode { what, source }
    }

    /// Converts an error on reading, for `map_err`.
    pub(crate) fn input(what: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Input { what, source }
    }

    /// Converts an error on writing, for `map_err`.
    pub(crate) fn output(what: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Output { what, source }
    }

    /// Converts an encoder's error, for `map_err`.
    pub(crate) fn encode(what: &'static str) -> impl FnOnce(der::Error) -> Self {
        move |source| Self::Encode { what, source }
    }

    /// The reason without the structure's name, for sentences that already name it.
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
