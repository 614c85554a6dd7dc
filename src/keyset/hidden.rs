//! Reads the list of keysets that are hidden on this machine (`keyset forget`).

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use super::{FoundKeyset, KeysetRef};

impl KeysetRef {
    /// Reads the hidden keysets from a JSON file. A missing file is an empty list.
    ///
    /// # Errors
    /// The reason why the file cannot be read or parsed.
    pub fn read_hidden(file: &Path) -> Result<Vec<Self>, String> {
        match fs::read(file) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| error.to_string()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Returns whether this identifies the given keyset.
    pub fn is(&self, keyset: &FoundKeyset) -> bool {
        self.keyset == keyset.name && self.serial == keyset.token.serial
    }
}
