//! The unlocked token during an enrollment, with its indexes. Every step is recorded here before it
//! is taken, so that the same letter can continue after a crash at any point.

use std::collections::BTreeSet;

use crate::crash_point;
use crate::token::{Ceremony, KeyId, Token};

use super::super::KeysetError;
use super::super::delete;
use super::super::index::{self, Hex, Pending, PrivateIndex, PublicIndex, Stage};

/// The unlocked token and the private index of an enrollment.
pub(super) struct Desk {
    pub ceremony: Ceremony,
    pub index: PrivateIndex,
}

impl Desk {
    /// Records the start of an enrollment, in the public index first: the next run then finds this
    /// token before it has a PIN.
    pub fn begin(&mut self, pending: Pending) -> Result<(), KeysetError> {
        self.index.pending = Some(pending);
        PublicIndex::of(&self.index).write(&self.ceremony)?;
        crash_point::reached("keyset.announced");
        self.index.write(&self.ceremony)
    }

    /// Records the stage.
    pub fn reach(&mut self, stage: Stage) -> Result<(), KeysetError> {
        if let Some(pending) = &mut self.index.pending {
            pending.stage = stage;
        }
        self.index.write(&self.ceremony)
    }

    /// The unfinished enrollment.
    pub fn pending(&self) -> Result<&Pending, KeysetError> {
        self.index.pending.as_ref().ok_or_else(|| KeysetError::Damaged {
            keyset: self.index.keyset.name.to_string(),
            token: self.ceremony.info().name().to_string(),
            reason: "no enrollment is in progress".to_owned(),
        })
    }

    /// Records the end of the enrollment, in the private index first, because that one is trusted.
    pub fn end(&mut self) -> Result<(), KeysetError> {
        self.index.pending = None;
        self.index.write(&self.ceremony)?;
        crash_point::reached("keyset.index_written");
        PublicIndex::of(&self.index).write(&self.ceremony)
    }

    /// Destroys keys and certificates with these identifiers, except those that a keyset on this
    /// token uses.
    pub fn destroy(&self, ids: &[Hex]) -> Result<(), KeysetError> {
        let mut doomed: BTreeSet<Hex> = ids.iter().cloned().collect();
        for kept in self.kept()? {
            doomed.remove(&kept);
        }
        delete::remove(&self.ceremony, &doomed)?;
        Ok(())
    }

    /// The objects to preserve: those of this keyset before the enrollment, and those of all other
    /// keysets.
    fn kept(&self) -> Result<Vec<Hex>, KeysetError> {
        let (indexes, _) = index::private_indexes(&self.ceremony)?;
        let others = indexes.iter().filter(|other| other.keyset.name != self.index.keyset.name);
        let mut kept: Vec<Hex> = others.flat_map(delete::objects_of).collect();
        kept.extend(self.index.keyset.keys.iter().flat_map(index::Keys::objects));
        Ok(kept)
    }

    /// Returns whether the token stores a certificate with this identifier.
    pub fn has_certificate(&self, id: &KeyId) -> Result<bool, KeysetError> {
        Ok(self.ceremony.certificates()?.iter().any(|certificate| certificate.id == *id))
    }

    pub fn token(&self) -> &Token {
        &self.ceremony
    }
}
