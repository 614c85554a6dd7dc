//! Refusals, which are answers and not errors. Each endpoint encodes them in its own protocol.

use std::fmt;

use super::AuthorityError;
use crate::cmp::{PkiFailureInfo, PkiStatusInfo};

/// The reason for a refused request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// For programs: CMP's failure bits.
    pub reasons: PkiFailureInfo,
    /// For the person: a sentence with the next step.
    pub text: String,
}

/// The outcome of an operation that was not completed: refused or failed.
#[derive(Debug)]
pub(super) enum RequestError {
    /// A refusal, which the client gets as it is.
    Refused(Rejection),
    /// A fault; the client learns only that one occurred.
    Failed(AuthorityError),
}

impl Rejection {
    /// A refusal with its reason and text.
    pub fn new(reasons: PkiFailureInfo, text: impl Into<String>) -> Self {
        Self { reasons, text: text.into() }
    }

    /// The refusal as CMP's `PKIStatusInfo`.
    pub fn to_status(&self) -> PkiStatusInfo {
        PkiStatusInfo::rejection(self.reasons, &self.text)
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<Rejection> for RequestError {
    fn from(rejection: Rejection) -> Self {
        Self::Refused(rejection)
    }
}

impl<E: Into<AuthorityError>> From<E> for RequestError {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// Makes a refusal with the reason `notAuthorized`.
pub(super) fn not_authorized(text: impl Into<String>) -> RequestError {
    refuse(PkiFailureInfo::NOT_AUTHORIZED, text)
}

/// Makes a refusal with a CMP failure reason.
pub(super) fn refuse(reasons: PkiFailureInfo, text: impl Into<String>) -> RequestError {
    RequestError::Refused(Rejection::new(reasons, text))
}
