//! Refusals: answers, not errors. The doors say them in their own language.

use std::fmt;

use super::AuthorityError;
use crate::cmp::{PkiFailureInfo, PkiStatusInfo};

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// For programs: CMP's word for it.
    pub reasons: PkiFailureInfo,
    /// For the person at the other end, with what to do next.
    pub text: String,
}

/// How an act ends that is neither done: refused, or failed.
#[derive(Debug)]
pub(super) enum Stop {
    /// An answer.
    Refused(Rejection),
    /// A fault; the other side learns only that there was one.
    Failed(AuthorityError),
}

impl Rejection {
    /// A refusal.
    pub fn new(reasons: PkiFailureInfo, text: impl Into<String>) -> Self {
        Self { reasons, text: text.into() }
    }

    /// As CMP says it.
    pub fn to_status(&self) -> PkiStatusInfo {
        PkiStatusInfo::rejection(self.reasons, &self.text)
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<Rejection> for Stop {
    fn from(rejection: Rejection) -> Self {
        Self::Refused(rejection)
    }
}

impl<E: Into<AuthorityError>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// Shorthand: refuses for one of CMP's reasons.
pub(super) fn refuse(reasons: PkiFailureInfo, text: impl Into<String>) -> Stop {
    Stop::Refused(Rejection::new(reasons, text))
}
