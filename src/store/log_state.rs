//! The entries of the audit log, and what the database's thread knows of the log while it is open:
//! the sealer, the newest entry, and the entries of the open transaction.

use std::error::Error;

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

/// A new entry of the audit log.
#[derive(Debug, Clone)]
pub struct AuditEntry {
    /// The time of the event, stored in whole seconds.
    pub at: Timestamp,
    /// The event, as one dotted word: `letter.issued`.
    pub event: &'static str,
    /// The event's data, as JSON. Never a secret.
    pub detail: String,
}

/// Number and hash of the newest entry. Comparing them later reveals a truncated or altered log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditHead {
    /// The entry's number, from 1; 0 for an empty log.
    pub number: u64,
    /// SHA-256 over the entry and the previous hash; zeros for an empty log.
    pub hash: [u8; 32],
}

impl AuditHead {
    /// The head of an empty log.
    pub const EMPTY: Self = Self { number: 0, hash: [0; 32] };
}

/// One row of the audit log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRow {
    /// The entry's number, from 1, without gaps.
    pub number: u64,
    /// The time of the event.
    pub at: Timestamp,
    pub event: String,
    /// The event's data, as JSON.
    pub detail: String,
    /// The hash of the previous entry.
    pub previous_hash: [u8; 32],
    /// SHA-256 over all of the above.
    pub hash: [u8; 32],
    /// MAC over all fields above; `None` in an entry of an older version, before entries were
    /// sealed.
    pub mac: Option<[u8; 32]>,
}

/// Seals log entries and follows new ones. Called on the store's own thread, so it must not call
/// the store.
pub trait LogSealer: Send {
    /// Returns the MAC of a row that is about to be written (with `mac` `None`).
    ///
    /// # Errors
    /// The reason why the MAC cannot be made; nothing is written then.
    fn seal(&self, row: &AuditRow) -> Result<[u8; 32], Box<dyn Error + Send + Sync>>;

    /// Receives a committed row. Called in log order, before the call that wrote the row returns.
    fn committed(&self, row: &AuditRow);
}

/// The sealer, and the entries appended in the open transaction.
#[derive(Default)]
pub(super) struct LogState {
    pub(super) sealer: Option<Box<dyn LogSealer>>,
    /// The newest entry that this process wrote or verified; `None` before the first one.
    pub(super) head: Option<AuditHead>,
    pub(super) appended: Vec<AuditRow>,
}

impl LogState {
    /// The transaction was committed: passes the appended entries to the sealer.
    pub(super) fn committed(&mut self) {
        for row in self.appended.drain(..) {
            self.head = Some(AuditHead { number: row.number, hash: row.hash });
            if let Some(sealer) = &self.sealer {
                sealer.committed(&row);
            }
        }
    }

    /// The transaction was rolled back: forgets the appended entries.
    pub(super) fn rolled_back(&mut self) {
        self.appended.clear();
    }
}

impl AuditRow {
    /// Returns the head after this row; `None` if the row does not follow `head`.
    pub fn follows(&self, head: AuditHead) -> Option<AuditHead> {
        let fits = Some(self.number) == head.number.checked_add(1)
            && self.previous_hash == head.hash
            && self.hash == self.chain_hash();
        fits.then_some(AuditHead { number: self.number, hash: self.hash })
    }

    /// SHA-256 over the entry, with the length before each variable part, and the previous hash.
    pub(super) fn chain_hash(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(b"tokenkeep audit 1");
        hash.update(self.number.to_be_bytes());
        hash.update(self.at.as_second().to_be_bytes());
        for part in [self.event.as_bytes(), self.detail.as_bytes()] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        hash.update(self.previous_hash);
        hash.finalize().into()
    }
}
