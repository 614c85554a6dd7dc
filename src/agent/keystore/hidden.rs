//! The keysets that are hidden on this machine (`keyset forget`): no client is offered one, and one is used only where it is
//! named.
//!
//! Their file is in the user's home, which the worker may not read. It may see whether the file is another one than before,
//! and then asks the broker for what is in it: a keyset is hidden, or shown again, from the next request on.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::{Identity, Inner, Keystore};
use crate::agent::act::ActRequest;
use crate::keyset::{FoundKeyset, KeysetChoice, KeysetOnToken};

/// What is known of them.
#[derive(Debug, Default)]
pub(super) struct HiddenKeysets {
    file: OnceLock<PathBuf>,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    file: Option<FileState>,
    list: Arc<[KeysetOnToken]>,
}

/// By which a file is known to be the same: device, inode, size, and the time of its last change (seconds, nanoseconds).
type FileState = (u64, u64, u64, i64, i64);

impl HiddenKeysets {
    fn file_state(&self) -> Option<FileState> {
        let found = fs::metadata(self.file.get()?).ok()?;
        Some((found.dev(), found.ino(), found.size(), found.ctime(), found.ctime_nsec()))
    }
}

impl Inner {
    /// Those that are hidden now.
    pub fn hidden_keysets(&self) -> Arc<[KeysetOnToken]> {
        let now = self.hidden.file_state();
        let mut known = self.hidden.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.file != now {
            let list = if now.is_some() { self.asks.hidden_keysets() } else { Some(Vec::new()) };
            // What cannot be read stays as it was, until the file is another one.
            if let Some(list) = list {
                known.list = list.into();
            }
            known.file = now;
        }
        Arc::clone(&known.list)
    }

    /// The choice with what is hidden here, besides what the client has hidden.
    pub fn with_hidden(&self, choice: &KeysetChoice) -> KeysetChoice {
        let mut choice = choice.clone();
        choice.hidden.extend(self.hidden_keysets().iter().cloned());
        choice
    }

    /// The same of an act's choice.
    pub fn hide_from(&self, request: &mut ActRequest) {
        if let Some(choice) = request.choice_mut() {
            choice.hidden.extend(self.hidden_keysets().iter().cloned());
        }
    }
}

impl Keystore {
    /// Hides from clients the keysets that this file names, now and whenever it changes.
    pub fn hide_what_is_in(&self, file: PathBuf) {
        // It is said once, at the start.
        let _ = self.inner.hidden.file.set(file);
    }
}

/// Is the keyset among these?
pub(super) fn is_among(hidden: &[KeysetOnToken], keyset: &FoundKeyset) -> bool {
    hidden.iter().any(|hidden| hidden.is(keyset))
}

/// Those that are not hidden.
pub(super) fn shown(mut identities: Vec<Arc<Identity>>, hidden: &[KeysetOnToken]) -> Vec<Arc<Identity>> {
    identities.retain(|identity| !is_among(hidden, &identity.keyset));
    identities
}
