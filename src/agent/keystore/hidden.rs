//! The keysets hidden on this machine (`keyset forget`). Clients are not offered them; a hidden
//! keyset can only be used by name.
//!
//! The list is a file in the user's home, which the worker may not read. The worker may see that
//! the file has changed, and then asks the supervisor for its content. So a change takes effect
//! with the next request.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::{Inner, Keystore, SigningIdentity};
use crate::keyset::{FoundKeyset, KeysetChoice, KeysetRef};

/// The hidden keysets, as last read.
#[derive(Debug, Default)]
pub(super) struct HiddenKeysetCache {
    file: OnceLock<PathBuf>,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    file: Option<FileState>,
    list: Arc<[KeysetRef]>,
}

/// Identifies one version of a file: device, inode, size, and the time of the last status change
/// (seconds, nanoseconds).
type FileState = (u64, u64, u64, i64, i64);

impl HiddenKeysetCache {
    fn file_state(&self) -> Option<FileState> {
        let found = fs::metadata(self.file.get()?).ok()?;
        Some((found.dev(), found.ino(), found.size(), found.ctime(), found.ctime_nsec()))
    }
}

impl Inner {
    /// The keysets that are hidden now.
    pub fn hidden_keysets(&self) -> Arc<[KeysetRef]> {
        let now = self.hidden.file_state();
        let mut known = self.hidden.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.file != now {
            let list = if now.is_some() { self.link.hidden_keysets() } else { Some(Vec::new()) };
            // If the file cannot be read, the list stays until the file changes again.
            if let Some(list) = list {
                known.list = list.into();
            }
            known.file = now;
        }
        Arc::clone(&known.list)
    }

    /// Adds the keysets hidden on this machine to those the client has hidden.
    pub fn with_hidden(&self, choice: &KeysetChoice) -> KeysetChoice {
        let mut choice = choice.clone();
        choice.hidden.extend(self.hidden_keysets().iter().cloned());
        choice
    }
}

impl Keystore {
    /// Hides the keysets that this file names, now and after each change.
    pub fn set_hidden_list(&self, file: PathBuf) {
        // Set once, at startup.
        let _ = self.inner.hidden.file.set(file);
    }
}

/// Returns true if the keyset is in the list.
pub(super) fn is_among(hidden: &[KeysetRef], keyset: &FoundKeyset) -> bool {
    hidden.iter().any(|hidden| hidden.is(keyset))
}

/// Removes hidden keysets.
pub(super) fn shown(mut identities: Vec<Arc<SigningIdentity>>, hidden: &[KeysetRef]) -> Vec<Arc<SigningIdentity>> {
    identities.retain(|identity| !is_among(hidden, &identity.keyset));
    identities
}
