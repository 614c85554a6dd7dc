//! The exit code category of each error.

use super::TokenError;

/// The exit code category of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenErrorKind {
    /// The token, module or key is not present.
    Absent,
    /// The PIN is wrong, locked, not set, or has a wrong length.
    Pin,
    /// The request is not allowed or not possible; a repetition fails too.
    Refused,
    Fault,
}

impl TokenError {
    /// The exit code category of this error.
    pub fn kind(&self) -> TokenErrorKind {
        match self {
            Self::Source { .. } | Self::Absent { .. } | Self::KeyAbsent { .. } => TokenErrorKind::Absent,
            Self::PinIncorrect { .. }
            | Self::PinLocked { .. }
            | Self::LastTry { .. }
            | Self::TooManyUnattended { .. }
            | Self::SoPinIncorrect { .. }
            | Self::SoPinLocked { .. }
            | Self::PinNotSet { .. }
            | Self::PinLength { .. }
            | Self::NotLoggedIn { .. }
            | Self::PinEachUse { .. }
            | Self::Spent { .. } => TokenErrorKind::Pin,
            Self::LabelTaken { .. }
            | Self::LabelUnfit { .. }
            | Self::NewPinRefused { .. }
            | Self::NoFreeSlot { .. }
            | Self::Unsupported { .. }
            | Self::BadDelivery { .. }
            | Self::BadData { .. } => TokenErrorKind::Refused,
            Self::Owned { .. }
            | Self::PinStateUnknown { .. }
            | Self::Full { .. }
            | Self::NoRoom { .. }
            | Self::NotStored { .. }
            | Self::WriteProtected { .. }
            | Self::Busy { .. }
            | Self::LockDirectory { .. }
            | Self::LockFile { .. }
            | Self::Encoding(_)
            | Self::NoRandom(_)
            | Self::Fault { .. } => TokenErrorKind::Fault,
        }
    }
}
