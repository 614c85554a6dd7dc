//! Why a signature is not good: it is wrong, or it cannot be checked.

use crate::pki::{PkiError, TooMuchWork};

/// The reason why a signature is not good.
#[derive(Clone)]
pub(super) enum CheckFailure {
    Wrong(String),
    Unchecked(String),
}

impl CheckFailure {
    pub(super) fn wrong(reason: &str) -> Self {
        Self::Wrong(reason.to_owned())
    }
}

impl From<PkiError> for CheckFailure {
    fn from(error: PkiError) -> Self {
        match error {
            PkiError::WrongSignature(_) => Self::wrong("the signature was not made with this certificate's key"),
            PkiError::OtherKindOfKey => {
                Self::Unchecked("its algorithm does not match the kind of its certificate's key".into())
            }
            PkiError::Outdated(what) => Self::Unchecked(format!("{what} is no longer safe")),
            PkiError::Unsupported { what, reason } => Self::Unchecked(format!("{what}: {reason}")),
            other => Self::Unchecked(other.to_string()),
        }
    }
}

impl From<TooMuchWork> for CheckFailure {
    fn from(error: TooMuchWork) -> Self {
        Self::Unchecked(error.to_string())
    }
}
