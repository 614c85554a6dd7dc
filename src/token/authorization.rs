//! The permission for an operation on a token: a PIN, or a login that a PIN has made before.

use super::Pin;

/// The authorization of an operation's key uses.
#[derive(Clone, Copy)]
pub(super) enum KeyAuthorization<'a> {
    /// The token is logged in, as the authority's is.
    LoggedIn,
    /// The PIN that was typed for this operation.
    WithPin(&'a Pin),
    /// The active session with this number.
    ActiveSession(u64),
}

impl<'a> KeyAuthorization<'a> {
    /// The PIN, for a key that requires it for each use.
    pub(super) fn pin(self) -> Option<&'a Pin> {
        match self {
            Self::WithPin(pin) => Some(pin),
            Self::LoggedIn | Self::ActiveSession(_) => None,
        }
    }
}

/// The purpose of a login.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum LoginMode {
    /// Stay logged in, as the authority does.
    Persistent,
    /// One operation; an active session continues.
    SingleOperation,
    /// A session, active until logout.
    ActiveSession,
}
