//! The unlocked token during an enrollment, and what its indexes say. Every step is written down here before it is taken,
//! so that the same letter can go on after any kill.

use std::collections::BTreeSet;

use crate::crash_point;
use crate::token::{Ceremony, KeyId, Token};

use super::super::KeysetError;
use super::super::delete;
use super::super::index::{self, Hex, Pending, PrivateIndex, PublicIndex, Stage};

/// Where an enrollment is worked on.
pub(super) struct Desk {
    pub ceremony: Ceremony,
    pub index: PrivateIndex,
}

impl Desk {
    /// Begins an enrollment: the public index first, so that the next run finds the way here before it has a PIN.
    pub fn begin(&mut self, pending: Pending) -> Result<(), KeysetError> {
        self.index.pending = Some(pending);
        PublicIndex::of(&self.index).write(&self.ceremony)?;
        crash_point::reached("keyset.announced");
        self.index.write(&self.ceremony)
    }

    /// Writes down how far it is.
    pub fn reach(&mut self, stage: Stage) -> Result<(), KeysetError> {
        if let Some(pending) = &mut self.index.pending {
            pending.stage = stage;
        }
        self.index.write(&self.ceremony)
    }

    /// The enrollment that is under way.
    pub fn pending(&self) -> Result<&Pending, KeysetError> {
        self.index.pending.as_ref().ok_or_else(|| KeysetError::Damaged {
            keyset: self.index.keyset.name.to_string(),
            token: self.ceremony.info().name().to_string(),
            reason: "no enrollment is under way".to_owned(),
        })
    }

    /// No enrollment is under way any more: the private index says so first, since it is the one that is believed.
    pub fn end(&mut self) -> Result<(), KeysetError> {
        self.index.pending = None;
        self.index.write(&self.ceremony)?;
        crash_point::reached("keyset.index_written");
        PublicIndex::of(&self.index).write(&self.ceremony)
    }

    /// Destroys keys and certificates under these identifiers, except what a keyset on this token is made of.
    pub fn destroy(&self, ids: &[Hex]) -> Result<(), KeysetError> {
        let mut doomed: BTreeSet<Hex> = ids.iter().cloned().collect();
        for kept in self.kept()? {
            doomed.remove(&kept);
        }
        delete::remove(&self.ceremony, &doomed)?;
        Ok(())
    }

    /// What stands on this token: the objects of this keyset before the enrollment, and all of the others'.
    fn kept(&self) -> Result<Vec<Hex>, KeysetError> {
        let (indexes, _) = index::private_indexes(&self.ceremony)?;
        let others = indexes.iter().filter(|other| other.keyset.name != self.index.keyset.name);
        let mut kept: Vec<Hex> = others.flat_map(delete::objects_of).collect();
        kept.extend(self.index.keyset.keys.iter().flat_map(index::Keys::objects));
        Ok(kept)
    }

    /// Is a certificate under this identifier on the token?
    pub fn has_certificate(&self, id: &KeyId) -> Result<bool, KeysetError> {
        Ok(self.ceremony.certificates()?.iter().any(|certificate| certificate.id == *id))
    }

    pub fn token(&self) -> &Token {
        &self.ceremony
    }
}
