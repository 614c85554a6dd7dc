//! The configuration of a test's authority.

use std::path::Path;

use crate::authority::{Configuration, EnvironmentPaths};
use crate::token::test_support::fresh_label;

/// Writes the shipped profiles, which also allow P-256, and an authority.toml to the directory.
pub fn configuration(directory: &Path) -> Configuration {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("hsm-config/profiles");
    let profiles = directory.join("profiles");
    std::fs::create_dir(&profiles).unwrap();
    for entry in std::fs::read_dir(shipped).unwrap() {
        let entry = entry.unwrap();
        let text = std::fs::read_to_string(entry.path()).unwrap();
        let text = text
            .replace("keys = [\"rsa-3072\"", "keys = [\"p256\", \"rsa-3072\"")
            .replace(", \"p256\", \"p384\"]", ", \"p384\"]");
        std::fs::write(profiles.join(entry.file_name()), text).unwrap();
    }
    let file = directory.join("authority.toml");
    let text = format!(
        "name = \"Example Authority\"\nstate = \"state\"\n[token]\nlabel = \"{}\"\n\
         [enrollment]\nprofiles = \"profiles\"\n",
        fresh_label("authority")
    );
    std::fs::write(&file, text).unwrap();
    load(directory)
}

/// Loads the configuration in the directory.
pub fn load(directory: &Path) -> Configuration {
    Configuration::load(&directory.join("authority.toml"), &EnvironmentPaths::default()).unwrap()
}
