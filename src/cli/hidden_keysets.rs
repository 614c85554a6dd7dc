//! The keysets hidden on this machine (`keyset forget`), listed in a file in the user's state
//! directory.
//!
//! Losing the file is harmless: every keyset is shown again, and no key is lost.

use std::fs;
use std::path::PathBuf;

use super::directories::state_home;
use super::exit::Failure;
use super::file_io::{self, Content};
use crate::keyset::{FoundKeyset, KeysetRef};

/// The file's name in the state directory.
const FILE: &str = "tokenkeep/hidden-keysets.json";

/// The list on disk.
#[derive(Debug)]
pub struct HiddenKeysets {
    /// `None` without a home directory
    path: Option<PathBuf>,
}

impl HiddenKeysets {
    /// `$XDG_STATE_HOME/tokenkeep/hidden-keysets.json`, else under `~/.local/state`.
    pub fn of_this_user() -> Self {
        Self { path: state_home().map(|home| home.join(FILE)) }
    }

    /// The path of the list.
    pub fn file(self) -> Option<PathBuf> {
        self.path
    }

    /// The hidden keysets; empty if the file does not exist.
    pub fn list(&self) -> Result<Vec<KeysetRef>, Failure> {
        let Some(path) = &self.path else { return Ok(Vec::new()) };
        let unreadable = |reason: String| {
            Failure::usage(format!("cannot read the list of hidden keysets {}: {reason}", path.display()))
                .with_remedy("remove the file; every keyset is shown then")
        };
        KeysetRef::read_hidden(path).map_err(unreadable)
    }

    /// Returns true if the list contains this keyset.
    pub fn is_hidden(list: &[KeysetRef], keyset: &FoundKeyset) -> bool {
        list.iter().any(|hidden| hidden.is(keyset))
    }

    /// Says that all present keysets are hidden: their names, and how to show one again.
    pub fn all_are_hidden(keysets: &[FoundKeyset]) -> String {
        let names = keysets.iter().map(FoundKeyset::described).collect::<Vec<_>>().join(", ");
        format!(
            "all present keysets are hidden on this machine: {names}; \
             `tokenkeep keyset forget --undo NAME` shows one again"
        )
    }

    /// Hides a keyset, or shows it again. Returns whether the list changed.
    pub fn set(&self, keyset: &KeysetRef, hidden: bool) -> Result<bool, Failure> {
        let mut list = self.list()?;
        if list.contains(keyset) == hidden {
            return Ok(false);
        }
        if hidden {
            list.push(keyset.clone());
        } else {
            list.retain(|other| other != keyset);
        }
        let Some(path) = &self.path else {
            return Err(Failure::usage("cannot hide a keyset: no home directory to record it in")
                .with_remedy("set HOME or XDG_STATE_HOME"));
        };
        let failed = |error: &dyn std::fmt::Display| {
            Failure::fault(format!("cannot write the list of hidden keysets {}: {error}", path.display()))
        };
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory).map_err(|error| failed(&error))?;
        }
        let mut text = serde_json::to_vec_pretty(&list).map_err(|error| failed(&error))?;
        text.push(b'\n');
        file_io::write(Some(path), &text, Content::Text)?;
        Ok(true)
    }
}
