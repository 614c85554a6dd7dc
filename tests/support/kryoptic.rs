//! Kryoptic, the second PKCS#11 module: built once, by the first test that needs it.
//!
//! It uses only `std`, so that unit tests can include it by its path.

use std::fmt::Write;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The path of the module. Builds it if it is missing (about a minute; other processes wait for the
/// build).
pub fn module() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = root.join("target/kryoptic");
    fs::create_dir_all(&target).unwrap();
    let lock = File::create(target.join("build.lock")).unwrap();
    lock.lock().unwrap();
    let built = || newest_module(&target.join("release/deps"));
    if let Some(module) = built() {
        return module;
    }
    let status = Command::new(env!("CARGO"))
        .args(["build", "--release", "--locked", "--manifest-path", "tests/kryoptic/Cargo.toml"])
        .arg("--target-dir")
        .arg(&target)
        .current_dir(root)
        .status()
        .unwrap();
    assert!(status.success(), "building Kryoptic failed; ./softhsm-setup.sh installs what it needs");
    built().expect("the build left the module in release/deps")
}

/// Writes a configuration with this many slots, each with an SQLite file beside it. Slots with a
/// token are unchanged.
pub fn configure(configuration: &Path, slots: u32) {
    let directory = configuration.parent().unwrap();
    fs::create_dir_all(directory).unwrap();
    let mut text = String::new();
    for slot in 0..slots {
        let database = directory.join(format!("slot{slot}.sql"));
        writeln!(text, "[[slots]]\nslot = {slot}\ndbtype = \"sqlite\"\ndbargs = \"{}\"\n", database.display()).unwrap();
    }
    fs::write(configuration, text).unwrap();
}

fn newest_module(directory: &Path) -> Option<PathBuf> {
    fs::read_dir(directory)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("libkryoptic_pkcs11-") && name.ends_with(".so")
        })
        .max_by_key(|path| fs::metadata(path).and_then(|metadata| metadata.modified()).ok())
}
