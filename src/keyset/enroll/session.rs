//! The unlocked token during an enrollment, with its indexes. Every step is recorded here before it
//! is taken, so that the same letter can continue after a crash at any point.

use std::collections::BTreeSet;

use crate::crash_point;
use crate::token::{KeyId, Token, TokenEnrollment};

use super::super::KeysetError;
use super::super::index::{self, EnrollmentStage, Hex, Pending, PrivateIndex, PublicIndex};
use super::super::removal;
use super::super::unlock::damaged;

/// The unlocked token and the private index of an enrollment.
pub(super) struct EnrollmentSession {
    pub token_enrollment: TokenEnrollment,
    pub index: PrivateIndex,
}

impl EnrollmentSession {
    /// Records the start of an enrollment, in the public index first: the next run then finds this
    /// token before it has a PIN.
    pub fn begin(&mut self, pending: Pending) -> Result<(), KeysetError> {
        self.index.pending = Some(pending);
        PublicIndex::of(&self.index).write(&self.token_enrollment)?;
        crash_point::reached("keyset.announced");
        self.index.write(&self.token_enrollment)
    }

    pub fn record_stage(&mut self, stage: EnrollmentStage) -> Result<(), KeysetError> {
        if let Some(pending) = &mut self.index.pending {
            pending.stage = stage;
        }
        self.index.write(&self.token_enrollment)
    }

    /// The unfinished enrollment.
    pub fn pending(&self) -> Result<&Pending, KeysetError> {
        let none = || damaged(self.token(), &self.index.keyset.name, "no enrollment is in progress");
        self.index.pending.as_ref().ok_or_else(none)
    }

    /// Records the end of the enrollment, in the private index first, because that one is trusted.
    pub fn end(&mut self) -> Result<(), KeysetError> {
        self.index.pending = None;
        self.index.write(&self.token_enrollment)?;
        crash_point::reached("keyset.index_written");
        PublicIndex::of(&self.index).write(&self.token_enrollment)
    }

    /// Destroys keys and certificates with these identifiers, except those that a keyset on this
    /// token uses.
    pub fn destroy(&self, ids: &[Hex]) -> Result<(), KeysetError> {
        let mut doomed: BTreeSet<Hex> = ids.iter().cloned().collect();
        for protected in self.protected()? {
            doomed.remove(&protected);
        }
        removal::remove(&self.token_enrollment, &doomed)?;
        Ok(())
    }

    /// The objects to preserve: those of this keyset before the enrollment, and those of all other
    /// keysets.
    fn protected(&self) -> Result<Vec<Hex>, KeysetError> {
        let (indexes, _) = index::private_indexes(&self.token_enrollment)?;
        let others = indexes.iter().filter(|other| other.keyset.name != self.index.keyset.name);
        let mut protected: Vec<Hex> = others.flat_map(removal::objects_of).collect();
        protected.extend(self.index.keyset.keys.iter().flat_map(index::KeysetKeyIds::objects));
        Ok(protected)
    }

    /// Returns whether the token stores a certificate with this identifier.
    pub fn has_certificate(&self, id: &KeyId) -> Result<bool, KeysetError> {
        Ok(self.token_enrollment.certificates()?.iter().any(|certificate| certificate.id == *id))
    }

    pub fn token(&self) -> &Token {
        &self.token_enrollment
    }
}
