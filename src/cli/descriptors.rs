//! The file descriptors that were open when the program started: `fd:N` may name only these.

use std::fs;
use std::sync::OnceLock;

static AT_START: OnceLock<Vec<u32>> = OnceLock::new();

/// Records the open descriptors. Call this before the program opens a file.
pub fn remember_open() {
    let _ = open_at_start();
}

/// The descriptors that were open at the start.
pub fn open_at_start() -> Vec<u32> {
    AT_START.get_or_init(open_now).clone()
}

fn open_now() -> Vec<u32> {
    let listed: Vec<u32> = fs::read_dir("/dev/fd")
        .map(|entries| entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
        .unwrap_or_default();
    // One of them was the directory's own, and is closed again.
    listed.into_iter().filter(|number| fs::metadata(format!("/dev/fd/{number}")).is_ok()).collect()
}
