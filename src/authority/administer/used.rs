//! Statements that this process has taken, for as long as each could be taken again: no row of the database, deleted or
//! put back, makes one of them new.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;

use crate::statement::VerifiedStatement;

/// The digests and nonces of taken statements.
#[derive(Debug, Default)]
pub(in crate::authority) struct UsedStatements(Mutex<Used>);

#[derive(Debug, Default)]
struct Used {
    digests: HashMap<[u8; 32], Timestamp>,
    nonces: HashMap<[u8; 16], Timestamp>,
}

impl UsedStatements {
    /// Was this statement, or another one with its nonce, taken before?
    pub(super) fn contains(&self, statement: &VerifiedStatement) -> bool {
        let used = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        used.digests.contains_key(&statement.digest()) || used.nonces.contains_key(&statement.statement().nonce)
    }

    /// Keeps a statement that is taken; forgets those whose time is over.
    pub(super) fn insert(&self, statement: &VerifiedStatement, now: Timestamp) {
        let content = statement.statement();
        let mut used = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        used.digests.retain(|_, until| now <= *until);
        used.nonces.retain(|_, until| now <= *until);
        used.digests.insert(statement.digest(), content.not_after);
        used.nonces.insert(content.nonce, content.not_after);
    }
}
