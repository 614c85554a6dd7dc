//! The keysets that are hidden on this machine (`keyset forget`), as their file names them.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use super::{FoundKeyset, KeysetOnToken};

impl KeysetOnToken {
    /// The keysets that this file names; none where there is no file.
    ///
    /// # Errors
    /// The reason why it cannot be read.
    pub fn read_hidden(file: &Path) -> Result<Vec<Self>, String> {
        match fs::read(file) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| error.to_string()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Is it this keyset?
    pub fn is(&self, keyset: &FoundKeyset) -> bool {
        self.keyset == keyset.name && self.serial == keyset.token.serial
    }
}
