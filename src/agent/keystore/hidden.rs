//! The keysets hidden on this machine (`keyset forget`). Clients are not offered them; a hidden
//! keyset can only be used by name.
//!
//! The list is a file in the user's home, which the worker may not read. The worker may see that
//! the file has changed, and then asks the supervisor for its content. So a change takes effect
//! with the next request.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use crate::agent::Link;
use crate::keyset::{FoundKeyset, KeysetChoice, KeysetRef};

/// The hidden keysets, as last read.
pub(super) struct HiddenKeysetCache {
    link: Arc<Link>,
    // The file that lists them; none are hidden without it.
    file: Option<PathBuf>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    file: Option<FileState>,
    list: Arc<[KeysetRef]>,
}

/// Identifies one version of a file: device, inode, size, and the time of the last status change
/// (seconds, nanoseconds).
type FileState = (u64, u64, u64, i64, i64);

impl HiddenKeysetCache {
    pub fn new(link: Arc<Link>, file: Option<PathBuf>) -> Self {
        Self { link, file, known: Mutex::default() }
    }

    /// The keysets that are hidden now.
    pub fn list(&self) -> Arc<[KeysetRef]> {
        let now = self.file_state();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
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
    pub fn added_to(&self, choice: &KeysetChoice) -> KeysetChoice {
        let mut choice = choice.clone();
        choice.hidden.extend(self.list().iter().cloned());
        choice
    }

    fn file_state(&self) -> Option<FileState> {
        let found = fs::metadata(self.file.as_ref()?).ok()?;
        Some((found.dev(), found.ino(), found.size(), found.ctime(), found.ctime_nsec()))
    }
}

/// Returns true if the keyset is in the list.
pub(super) fn is_among(hidden: &[KeysetRef], keyset: &FoundKeyset) -> bool {
    hidden.iter().any(|hidden| hidden.is(keyset))
}
